//! Randomness as an argument: noise = f(seed, stream, turn, sample id, lane, draw, run), and of nothing else.
//!
//! Each row has its own ChaCha8 keystream: the key is (seed, stream of call and run, id, lane, draw), the nonce is the turn. A row's
//! noise therefore does not depend on the batch it sits in, on threads or on shards. Normals use the Box-Muller
//! transform on [`libm`], so that bits do not depend on the platform's mathematics library either.

use crate::Result;
use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// Whose noise: the sample, which of its parallel candidates (`lane`), which of its repeated draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub id: u64,
    pub lane: u32,
    pub draw: u32,
    /// What the stream of the row's own noise differs by from that of the call: rows of one call may belong to several runs
    /// of an attack.
    pub run: u64,
}

impl RowKey {
    /// A sample's first candidate and draw.
    pub fn of(id: u64) -> Self {
        Self { id, lane: 0, draw: 0, run: 0 }
    }
}

/// A place in the noise: rows of one call share seed, stream and turn.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    pub seed: u64,
    /// [`stream`] of a path such as `pgd-linf/r0`.
    pub stream: u64,
    /// Which call in that stream, usually the attack's iteration.
    pub turn: u64,
    pub rows: &'a [RowKey],
}

/// The number of a named stream: the first eight bytes of its path's blake3.
pub fn stream(path: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(path.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

impl Draw<'_> {
    /// Fills one host row per key; `fill` gets the row's own generator.
    pub fn rows_with(
        &self,
        row: &[usize],
        device: &Device,
        fill: impl Fn(&mut Noise, &mut [f32]) + Sync,
    ) -> Result<Tensor> {
        let width: usize = row.iter().product();
        let mut flat = vec![0f32; width * self.rows.len()];
        if width > 0 {
            flat.par_chunks_mut(width).zip(self.rows).for_each(|(out, key)| fill(&mut self.noise(key), out));
        }
        let dims: Vec<usize> = std::iter::once(self.rows.len()).chain(row.iter().copied()).collect();
        Ok(Tensor::from_vec(flat, dims, device)?)
    }

    /// `[rows, row...]` uniform in `[low, high)`.
    pub fn uniform(&self, low: f32, high: f32, row: &[usize], device: &Device) -> Result<Tensor> {
        self.rows_with(row, device, |noise, out| out.iter_mut().for_each(|v| *v = low + (high - low) * noise.unit()))
    }

    /// `[rows, row...]` standard normal.
    pub fn normal(&self, row: &[usize], device: &Device) -> Result<Tensor> {
        self.rows_with(row, device, |noise, out| out.iter_mut().for_each(|v| *v = noise.normal()))
    }

    /// `[rows, row...]` of -1 and 1, equally likely.
    pub fn signs(&self, row: &[usize], device: &Device) -> Result<Tensor> {
        self.rows_with(row, device, |noise, out| {
            out.iter_mut().for_each(|v| *v = if noise.bits() & 1 == 0 { -1. } else { 1. })
        })
    }

    /// The generator of one row.
    pub fn noise(&self, key: &RowKey) -> Noise {
        let mut seed = [0u8; 32];
        seed[0..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&(self.stream ^ key.run).to_le_bytes());
        seed[16..24].copy_from_slice(&key.id.to_le_bytes());
        seed[24..28].copy_from_slice(&key.lane.to_le_bytes());
        seed[28..32].copy_from_slice(&key.draw.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(self.turn);
        Noise { rng, spare: None }
    }
}

/// One row's generator.
#[derive(Clone)]
pub struct Noise {
    rng: ChaCha8Rng,
    spare: Option<f64>,
}

impl Noise {
    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.rng.next_u32()
    }
    /// Many words at once: the same as as many calls of [`Noise::bits`].
    pub fn fill(&mut self, out: &mut [u32]) {
        let mut bytes = [0; 1024];
        for part in out.chunks_mut(bytes.len() / 4) {
            let bytes = &mut bytes[..4 * part.len()];
            self.rng.fill_bytes(bytes);
            part.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(v, b)| *v = u32::from_le_bytes(*b));
        }
    }
    /// Uniform in [0, 1) on a grid of 2^-24.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1. / (1u32 << 24) as f32)
    }
    /// Uniform in `0..below` without modulo bias; `below` must be positive.
    pub fn index(&mut self, below: u32) -> u32 {
        let zone = u32::MAX - (u32::MAX % below.max(1) + 1) % below.max(1);
        loop {
            let v = self.bits();
            if v <= zone {
                return v % below.max(1);
            }
        }
    }
    /// Standard normal (Box-Muller, in f64).
    pub fn normal(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare as f32;
        }
        let open = |bits: u64| ((bits >> 11) as f64 + 0.5) * (1. / (1u64 << 53) as f64); // never 0: its logarithm is taken
        let (u, v) = (open(self.rng.next_u64()), open(self.rng.next_u64()));
        let radius = libm::sqrt(-2. * libm::log(u));
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * v);
        self.spare = Some(radius * sin);
        (radius * cos) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(ids: &[u64]) -> Vec<RowKey> {
        ids.iter().copied().map(RowKey::of).collect()
    }

    #[test]
    fn chacha8_matches_the_published_vector() {
        // draft-strombergson-chacha-test-vectors-01, TC1, 8 rounds, 256-bit zero key, zero nonce.
        let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &[] };
        let mut noise = draw.noise(&RowKey::of(0));
        let first: Vec<u8> = (0..4).flat_map(|_| noise.bits().to_le_bytes()).collect();
        assert_eq!(
            first,
            [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6, 0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1]
        );
    }

    #[test]
    fn many_words_at_once_are_the_same_words() {
        let draw = Draw { seed: 1, stream: 2, turn: 3, rows: &[] };
        let key = RowKey { id: 4, lane: 5, draw: 6, run: 0 };
        let (mut one, mut many) = (draw.noise(&key), draw.noise(&key));
        let mut words = [0; 700];
        assert_eq!(one.bits(), many.bits());
        many.fill(&mut words);
        assert!(words.iter().all(|w| *w == one.bits()));
        assert_eq!(one.bits(), many.bits());
    }

    #[test]
    fn a_rows_noise_does_not_depend_on_its_neighbours() -> Result<()> {
        let both = keys(&[7, 9]);
        let alone = keys(&[9]);
        let at = |rows| Draw { seed: 1, stream: stream("pgd/r0"), turn: 3, rows };
        let a = at(&both).normal(&[2, 3], &Device::Cpu)?.get(1)?.flatten_all()?.to_vec1::<f32>()?;
        let b = at(&alone).normal(&[2, 3], &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(a, b);
        Ok(())
    }

    #[test]
    fn every_argument_changes_the_noise() {
        let base = |seed, stream, turn, id, lane, draw| {
            Draw { seed, stream, turn, rows: &[] }.noise(&RowKey { id, lane, draw, run: 0 }).bits()
        };
        let all = [
            base(0, 0, 0, 0, 0, 0),
            base(1, 0, 0, 0, 0, 0),
            base(0, 1, 0, 0, 0, 0),
            base(0, 0, 1, 0, 0, 0),
            base(0, 0, 0, 1, 0, 0),
            base(0, 0, 0, 0, 1, 0),
            base(0, 0, 0, 0, 0, 1),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() -> Result<()> {
        let rows = keys(&(0..64).collect::<Vec<_>>());
        let draw = Draw { seed: 5, stream: 1, turn: 0, rows: &rows };
        let moments = |t: Tensor| -> Result<(f64, f64)> {
            let v: Vec<f64> = t.flatten_all()?.to_vec1::<f32>()?.iter().map(|&x| x as f64).collect();
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            Ok((mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64))
        };
        let n = 64. * 1000.;
        let (mean, var) = moments(draw.normal(&[1000], &Device::Cpu)?)?;
        assert!(mean.abs() < 4.5 / f64::sqrt(n) && (var - 1.).abs() < 4.5 * f64::sqrt(2. / n), "{mean} {var}");
        let (mean, var) = moments(draw.uniform(-1., 1., &[1000], &Device::Cpu)?)?;
        assert!(mean.abs() < 4.5 * f64::sqrt(1. / 3. / n) && (var - 1. / 3.).abs() < 0.01, "{mean} {var}");
        let (mean, _) = moments(draw.signs(&[1000], &Device::Cpu)?)?;
        assert!(mean.abs() < 4.5 / f64::sqrt(n), "{mean}");
        Ok(())
    }
}
