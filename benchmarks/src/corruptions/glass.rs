//! Glass blur: neighbours change places between two Gaussian filters.

use super::Corruption;
use super::common::{doubles, finish};
use super::random::{Random, below};
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::gaussian::{Edge, blur, kernel};

pub static GLASS: Corruption = Corruption {
    name: "glass_blur",
    summary: "pixels replaced by near ones, then smoothed",
    apply: |x, call| {
        let (sigma, reach, rounds) = call.table.glass_blur[call.level];
        let w = kernel(sigma, 4.);
        let smooth = |x: &Bytes| {
            let mut y = doubles(x);
            blur(&mut y, x.height, x.width, x.channels, &w, Edge::Nearest);
            finish(x, &y)
        };
        let mut y = smooth(x);
        shuffle(&mut y, reach, rounds, call.random)?;
        Ok(smooth(&y))
    },
};

/// From the lower right, each pixel becomes the one at an offset in `-reach..reach`: the published swap acts on views of
/// one array, so both pixels end with the partner's value. In place: later pixels see earlier writes.
fn shuffle(y: &mut Bytes, reach: usize, rounds: usize, random: &mut Random) -> Result<()> {
    let (size, samples) = ([y.height, y.width], &mut y.samples);
    match y.channels {
        3 => {
            let pixels = samples.as_chunks_mut::<3>().0;
            walk(size, reach, rounds, random, |to, from| pixels[to] = pixels[from]);
        }
        c => walk(size, reach, rounds, random, |to, from| samples.copy_within(from * c..from * c + c, to * c)),
    }
    Ok(())
}

fn walk(
    [height, width]: [usize; 2],
    reach: usize,
    rounds: usize,
    random: &mut Random,
    mut copy: impl FnMut(usize, usize),
) {
    let (low, span) = (reach as i64, 2 * reach as u32);
    for _ in 0..rounds {
        for h in (reach + 1..=height - reach).rev() {
            for w in (reach + 1..=width - reach).rev() {
                let (dx, dy) = match random {
                    Random::Native(n) if span.is_power_of_two() => {
                        let word = n.word();
                        (i64::from(word & (span - 1)) - low, i64::from((word >> 16) & (span - 1)) - low)
                    }
                    Random::Native(n) => (below(|| n.word(), span - 1) - low, below(|| n.word(), span - 1) - low),
                    Random::Numpy(m) => (m.at_most(span - 1) - low, m.at_most(span - 1) - low),
                };
                copy(h * width + w, (h as i64 + dy) as usize * width + (w as i64 + dx) as usize);
            }
        }
    }
}
