//! Gaussian, shot, impulse and speckle noise.

use super::common::{cut, image};
use super::poisson::Shots;
use super::random::Random;
use super::{Call, Corruption};
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::vector::{truncated, wide};

pub static GAUSSIAN: Corruption = Corruption {
    name: "gaussian_noise",
    summary: "normal noise added to every sample",
    apply: |x, call| additive(x, call, call.table.gaussian_noise[call.level], false),
};

pub static SPECKLE: Corruption = Corruption {
    name: "speckle_noise",
    summary: "normal noise in proportion to every sample",
    apply: |x, call| additive(x, call, call.table.speckle_noise[call.level], true),
};

pub static SHOT: Corruption = Corruption {
    name: "shot_noise",
    summary: "photon counts instead of light",
    apply: |x, call| shot(x, call.table.shot_noise[call.level], call.random),
};

pub static IMPULSE: Corruption = Corruption {
    name: "impulse_noise",
    summary: "salt and pepper, each sample by itself",
    apply: |x, call| impulse(x, call.table.impulse_noise[call.level], call.random),
};

/// Samples at a time: what stays in the nearest cache.
const CHUNK: usize = 1024;

fn additive(x: &Bytes, call: &mut Call, sigma: f64, proportional: bool) -> Result<Bytes> {
    let (mut samples, mut noise) = (vec![0; x.samples.len()], [0.; CHUNK]);
    for (to, from) in samples.chunks_mut(CHUNK).zip(x.samples.chunks(CHUNK)) {
        let noise = &mut noise[..from.len()];
        call.random.fill_normals(noise);
        wide(
            #[inline(always)]
            || {
                for ((to, n), &v) in to.iter_mut().zip(noise.iter()).zip(from) {
                    let (u, n) = (f64::from(v) / 255., sigma * n); // quicker than a table of them

                    *to = cut(if proportional { u + u * n } else { u + n });
                }
            },
        );
    }
    Ok(image(x, samples))
}

fn shot(x: &Bytes, scale: f64, random: &mut Random) -> Result<Bytes> {
    let byte = |k: f64| truncated((k / scale).clamp(0., 1.) * 255.);
    let samples = match random {
        Random::Native(words) => {
            let shots = Shots::of(scale);
            let bytes: Vec<u8> = (0..=(scale.ceil() as u32)).map(|k| byte(f64::from(k))).collect();
            let draw = |&v: &u8| {
                let k = shots.value(v).draw(|| words.word());
                bytes.get(k as usize).copied().unwrap_or(255)
            };
            x.samples.iter().map(draw).collect()
        }
        Random::Numpy(_) => {
            counts(x, scale, random).iter().map(|share| truncated(share.clamp(0., 1.) * 255.)).collect()
        }
    };
    Ok(image(x, samples))
}

/// Photons of each sample as a share of `scale`.
pub(super) fn counts(x: &Bytes, scale: f64, random: &mut Random) -> Vec<f64> {
    let one = |&v: &u8| {
        let k = match random {
            Random::Native(words) => Shots::of(scale).value(v).draw(|| words.word()),
            Random::Numpy(m) => m.poisson(f64::from(v) / 255. * scale),
        };
        f64::from(k) / scale
    };
    x.samples.iter().map(one).collect()
}

pub(super) fn impulse(x: &Bytes, share: f64, random: &mut Random) -> Result<Bytes> {
    let samples = match random {
        Random::Native(words) => {
            // One word: its upper 31 bits decide whether, the lowest decides which.
            let limit = (share * f64::from(1u32 << 31)) as u32;
            let hit = |&v: &u8| {
                let w = words.word();
                if w >> 1 < limit { if w & 1 == 1 { 255 } else { 0 } } else { v }
            };
            x.samples.iter().map(hit).collect()
        }
        Random::Numpy(m) => {
            let hit: Vec<bool> = x.samples.iter().map(|_| m.unit() < share).collect();
            let salt: Vec<bool> = x.samples.iter().map(|_| m.unit() < 0.5).collect();
            let pick = |((&v, hit), salt): ((&u8, bool), bool)| if hit { if salt { 255 } else { 0 } } else { v };
            x.samples.iter().zip(hit).zip(salt).map(pick).collect()
        }
    };
    Ok(image(x, samples))
}
