//! numpy's legacy stream (`np.random.seed`): the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) and the
//! distributions numpy draws from it, word for word.

const N: usize = 624;

pub struct MersenneTwister {
    state: [u32; N],
    next: usize,
    /// The second of a pair of normal values, kept across calls as numpy keeps it.
    spare: Option<f64>,
}

impl MersenneTwister {
    /// `init_genrand`, which `np.random.seed` uses for one number.
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: N, spare: None }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7FFF_FFFF);
            let twist = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[i] = self.state[(i + 397) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    pub fn word(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let y = self.state[self.next];
        self.next += 1;
        let y = y ^ (y >> 11);
        let y = y ^ ((y << 7) & 0x9D2C_5680);
        let y = y ^ ((y << 15) & 0xEFC6_0000);
        y ^ (y >> 18)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        let (a, b) = (self.word() >> 5, self.word() >> 6);
        (f64::from(a) * 67_108_864. + f64::from(b)) / 9_007_199_254_740_992.
    }

    /// The polar method.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2. * self.unit() - 1., 2. * self.unit() - 1.);
            let r = x * x + y * y;
            if r < 1. && r != 0. {
                let f = (-2. * libm::log(r) / r).sqrt();
                self.spare = Some(f * x);
                return f * y;
            }
        }
    }

    /// Uniform in `0..=most` by masking and rejection.
    pub fn at_most(&mut self, most: u32) -> i64 {
        if most == 0 {
            return 0;
        }
        let mask = u32::MAX >> most.leading_zeros();
        loop {
            let v = self.word() & mask;
            if v <= most {
                return i64::from(v);
            }
        }
    }

    /// By multiplication below a mean of 10, by transformed rejection (Hörmann 1993) from there.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        if mean == 0. {
            return 0;
        }
        if mean < 10. {
            let (least, mut product, mut k) = (libm::exp(-mean), 1., 0);
            loop {
                product *= self.unit();
                if product <= least {
                    return k;
                }
                k += 1;
            }
        }
        let (root, log) = (mean.sqrt(), libm::log(mean));
        let b = 0.931 + 2.53 * root;
        let a = -0.059 + 0.02483 * b;
        let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        let edge = 0.9277 - 3.6224 / (b - 2.);
        loop {
            let (u, v) = (self.unit() - 0.5, self.unit());
            let us = 0.5 - u.abs();
            let k = ((2. * a / us + b) * u + mean + 0.43).floor();
            if us >= 0.07 && v <= edge {
                return k as u32;
            }
            if k < 0. || (us < 0.013 && v > us) {
                continue;
            }
            let left = libm::log(v) + libm::log(inverse_alpha) - libm::log(a / (us * us) + b);
            if left <= -mean + k * log - libm::lgamma(k + 1.) {
                return k as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_published_generator() {
        // The 10000th output from seed 5489, as the C++ standard fixes it for std::mt19937.
        let mut m = MersenneTwister::new(5489);
        let last = (0..10_000).map(|_| m.word()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn distributions_are_numpys() {
        // np.random.seed(7): normal(), normal(), randint(0, 571), poisson(3), poisson(120), uniform(), normal().
        let mut m = MersenneTwister::new(7);
        let (a, b) = (m.normal(), m.normal());
        let got = (a, b, m.at_most(570), m.poisson(3.), m.poisson(120.), m.unit(), m.normal());
        assert_eq!(got, NUMPY_SEVEN);
    }

    const NUMPY_SEVEN: (f64, f64, i64, u32, u32, f64, f64) =
        (1.690525703800356, -0.4659373705408328, 348, 2, 117, 0.5277647948207705, -0.381087145090334);
}
