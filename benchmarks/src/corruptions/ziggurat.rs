//! Normal values by the Ziggurat method (Marsaglia and Tsang 2000, with layer and position from different bits, Doornik
//! 2005): 256 layers, one 32-bit word for almost every value, on a grid of 2^-24 of the layer's width.

use std::sync::LazyLock;

const LAYERS: usize = 256;
/// Where the tail begins, and the area of a layer, for 256 layers.
const TAIL: f64 = 3.654_152_885_361_009;
const AREA: f64 = 0.004_928_673_233_974_655;

/// The layers under the curve.
pub struct Layers {
    /// Right ends of the layers, the base's virtual one first.
    x: [f64; LAYERS + 1],
    /// The density at them.
    f: [f64; LAYERS + 1],
    /// Below this share of a layer's width a point lies under the curve.
    safe: [u32; LAYERS],
    /// Width of a layer over 2^23.
    scale: [f64; LAYERS],
}

static SHARED: LazyLock<Layers> = LazyLock::new(|| {
    let density = |x: f64| libm::exp(-0.5 * x * x);
    let mut x = [0.; LAYERS + 1];
    x[0] = AREA / density(TAIL);
    x[1] = TAIL;
    for i in 2..LAYERS {
        x[i] = libm::sqrt(-2. * libm::log(AREA / x[i - 1] + density(x[i - 1])));
    }
    Layers {
        x,
        f: x.map(density),
        safe: std::array::from_fn(|i| (x[i + 1] / x[i] * f64::from(1 << 23)) as u32),
        scale: std::array::from_fn(|i| x[i] / f64::from(1 << 23)),
    }
});

pub fn layers() -> &'static Layers {
    &SHARED
}

impl Layers {
    /// The value that `word` gives by itself, which nearly all words do.
    #[inline(always)]
    pub fn quick(&self, word: u32) -> Option<f64> {
        let (layer, at, x) = self.point(word);
        ((at ^ (at >> 31)) as u32 + 1 < self.safe[layer]).then_some(x)
    }

    #[inline(always)]
    fn point(&self, word: u32) -> (usize, i32, f64) {
        let layer = (word & 0xFF) as usize;
        let at = (word as i32) >> 8; // 24 bits with sign
        (layer, at, (f64::from(at) + 0.5) * self.scale[layer])
    }

    /// The value that begins with `first`, whether it needs more words or not.
    #[cold]
    #[inline(never)]
    pub fn normal_from(&self, first: u32, mut word: impl FnMut() -> u32) -> f64 {
        let mut bits = first;
        loop {
            let (layer, _, x) = self.point(bits);
            if let Some(x) = self.quick(bits).or_else(|| self.edge(layer, x, &mut word)) {
                return x;
            }
            bits = word();
        }
    }

    fn edge(&self, layer: usize, x: f64, word: &mut impl FnMut() -> u32) -> Option<f64> {
        let mut unit = || (f64::from(word()) + 0.5) / (1u64 << 32) as f64;
        if layer == 0 {
            if x.abs() < TAIL {
                return Some(x);
            }
            loop {
                let (a, b) = (-libm::log(unit()) / TAIL, -libm::log(unit()));
                if 2. * b > a * a {
                    return Some(if x < 0. { -TAIL - a } else { TAIL + a });
                }
            }
        }
        let (low, high) = (self.f[layer], self.f[layer + 1]);
        let under = low + unit() * (high - low) < libm::exp(-0.5 * x * x);
        (x.abs() < self.x[layer + 1] || under).then_some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;

    #[test]
    fn moments_and_tails_are_those_of_the_normal_law() {
        let mut random = Random::native(3, "ziggurat", 0);
        let n = 2_000_000;
        let values = random.normals(0., 1., n);
        let moment = |k: i32| values.iter().map(|v| v.powi(k)).sum::<f64>() / n as f64;
        let within = |got: f64, want: f64, variance: f64| {
            assert!((got - want).abs() < 4.5 * (variance / n as f64).sqrt(), "{got} {want}");
        };
        within(moment(1), 0., 1.);
        within(moment(2), 1., 2.);
        within(moment(3), 0., 15.);
        within(moment(4), 3., 96.);
        within(moment(6), 15., 10_170.);
        // P(|x| > 1), (> 2), (> 3.7): beyond the last layer too.
        for (at, share) in [(1., 0.317_310_508), (2., 0.045_500_264), (3.7, 2.156_03e-4)] {
            let beyond = values.iter().filter(|v| v.abs() > at).count() as f64 / n as f64;
            within(beyond, share, share * (1. - share));
        }
    }
}
