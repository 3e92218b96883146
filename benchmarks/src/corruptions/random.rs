//! Where corruptions draw from: a native counter-based stream, or numpy's legacy one, word for word.

use super::mt::MersenneTwister;
use super::ziggurat;
use robust_core::{Draw, Noise, RowKey, stream};
use robust_imaging::vector::wide;

const BUFFER: usize = 1024;

/// One image's draws.
pub enum Random {
    Native(Box<Native>),
    Numpy(Box<MersenneTwister>),
}

/// Words of a ChaCha8 stream, fetched many at a time.
pub struct Native {
    noise: Noise,
    words: [u32; BUFFER],
    next: usize,
}

impl Native {
    #[inline]
    pub(super) fn word(&mut self) -> u32 {
        if self.next == BUFFER {
            self.noise.fill(&mut self.words);
            self.next = 0;
        }
        let word = self.words[self.next];
        self.next += 1;
        word
    }

    #[inline]
    fn long(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    /// The next words, at least one and at most `most`.
    fn some(&mut self, most: usize) -> &[u32] {
        if self.next == BUFFER {
            self.noise.fill(&mut self.words);
            self.next = 0;
        }
        let first = self.next;
        self.next = BUFFER.min(first + most);
        &self.words[first..self.next]
    }

    /// Standard normal values. The place in the stream stays in a register: through memory it costs more than a value.
    fn normals(&mut self, out: &mut [f64]) {
        let layers = ziggurat::layers();
        let mut next = self.next;
        for v in out {
            if next >= BUFFER {
                self.noise.fill(&mut self.words);
                next = 0;
            }
            let word = self.words[next];
            next += 1;
            *v = layers.quick(word).unwrap_or_else(|| {
                self.next = next;
                let value = layers.normal_from(word, || self.word());
                next = self.next;
                value
            });
        }
        self.next = next;
    }
}

impl Random {
    /// Depends on nothing but its arguments; `path` names suite, corruption and severity.
    pub fn native(seed: u64, path: &str, sample: u64) -> Self {
        let draw = Draw { seed, stream: stream(path), turn: 0, rows: &[] };
        Self::of(draw.noise(&RowKey::of(sample)))
    }

    /// Draws from a row's own noise.
    pub fn of(noise: Noise) -> Self {
        Self::Native(Box::new(Native { noise, words: [0; BUFFER], next: BUFFER }))
    }

    /// `np.random.seed(seed)`.
    pub fn numpy(seed: u32) -> Self {
        Self::Numpy(Box::new(MersenneTwister::new(seed)))
    }

    /// 32 bits.
    pub fn word(&mut self) -> u32 {
        match self {
            Self::Native(n) => n.word(),
            Self::Numpy(m) => m.word(),
        }
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        match self {
            Self::Native(n) => (n.long() >> 11) as f64 * (1. / (1u64 << 53) as f64),
            Self::Numpy(m) => m.unit(),
        }
    }

    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// `count` uniform values; natively of 32 bits, which is more than any pixel keeps.
    pub fn uniforms(&mut self, low: f64, high: f64, count: usize) -> Vec<f64> {
        let mut out = vec![0.; count];
        match self {
            Self::Native(n) => {
                let scale = (high - low) * (1. / (1u64 << 32) as f64);
                let mut rest = out.as_mut_slice();
                while !rest.is_empty() {
                    let words = n.some(rest.len());
                    let (now, later) = std::mem::take(&mut rest).split_at_mut(words.len());
                    wide(
                        #[inline(always)]
                        || now.iter_mut().zip(words).for_each(|(v, &w)| *v = low + scale * f64::from(w)),
                    );
                    rest = later;
                }
            }
            Self::Numpy(m) => out.iter_mut().for_each(|v| *v = low + (high - low) * m.unit()),
        }
        out
    }

    pub fn normal(&mut self) -> f64 {
        match self {
            Self::Native(n) => {
                let word = n.word();
                ziggurat::layers().normal_from(word, || n.word())
            }
            Self::Numpy(m) => m.normal(),
        }
    }

    /// Standard normal values, as many as `out` holds.
    pub fn fill_normals(&mut self, out: &mut [f64]) {
        match self {
            Self::Native(n) => n.normals(out),
            Self::Numpy(m) => out.iter_mut().for_each(|v| *v = m.normal()),
        }
    }

    /// `count` normal values.
    pub fn normals(&mut self, mean: f64, sigma: f64, count: usize) -> Vec<f64> {
        let mut out = vec![0.; count];
        self.fill_normals(&mut out);
        out.iter_mut().for_each(|v| *v = mean + sigma * *v);
        out
    }

    /// Uniform in `low..high`; `high` is beyond `low`.
    pub fn integer(&mut self, low: i64, high: i64) -> i64 {
        let most = (high - low - 1) as u32;
        match self {
            Self::Native(n) => low + below(|| n.word(), most),
            Self::Numpy(m) => low + m.at_most(most),
        }
    }

    /// -1 or 1, as `np.random.choice([-1, 1])`.
    pub fn sign(&mut self) -> f64 {
        2. * self.integer(0, 2) as f64 - 1.
    }

    /// The order of `n` things, as `np.random.permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.integer(0, i as i64 + 1) as usize);
        }
        order
    }
}

/// Uniform in `0..=most` by multiplication and rejection (Lemire 2019).
#[inline]
pub(super) fn below(mut word: impl FnMut() -> u32, most: u32) -> i64 {
    let count = u64::from(most) + 1;
    loop {
        let product = u64::from(word()) * count;
        let low = u64::from(product as u32);
        // Only a small remainder may have to be drawn again: the division is rare.
        if low >= count || low >= (1u64 << 32) % count {
            return (product >> 32) as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_stream_depends_on_seed_path_and_sample_only() {
        let first = |seed, path, sample| {
            let mut r = Random::native(seed, path, sample);
            [r.word(), r.word()]
        };
        assert_eq!(first(1, "a", 2), first(1, "a", 2));
        let all = [first(1, "a", 2), first(2, "a", 2), first(1, "b", 2), first(1, "a", 3)];
        assert!((1..4).all(|i| !all[..i].contains(&all[i])), "{all:?}");
    }

    #[test]
    fn integers_cover_their_range_evenly() {
        let mut r = Random::native(0, "x", 0);
        let mut seen = [0; 7];
        (0..70_000).for_each(|_| seen[(r.integer(-3, 4) + 3) as usize] += 1);
        assert!(seen.iter().all(|n: &i32| (n - 10_000).abs() < 500), "{seen:?}");
    }
}
