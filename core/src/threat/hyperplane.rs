//! The nearest point of a hyperplane within a box, the step of FAB (Croce and Hein 2020, arXiv 1907.02044, section 3):
//! exact, in f64, without sorting for Linf and L2.

use super::Norm;

/// A hyperplane `<w, x> = b` seen from several points; the order of its weights is kept for L1.
pub struct Hyperplane<'a> {
    w: &'a [f32],
    norm: Norm,
    domain: (f32, f32),
    /// Weights at most this large count as 0.
    floor: f32,
    /// L1: entries by falling weight.
    order: Vec<u32>,
}

/// Newton's method on a concave piecewise linear function stops after as many steps as it meets pieces; this is more
/// than any row was seen to need.
const MOST_STEPS: usize = 100;

impl<'a> Hyperplane<'a> {
    /// `domain` is the box of every entry; infinite bounds are allowed. L0 is treated as L1.
    pub fn new(w: &'a [f32], norm: Norm, domain: (f32, f32), floor: f32) -> Self {
        let mut order = vec![];
        if matches!(norm, Norm::L1 | Norm::L0) {
            order = (0..w.len() as u32).filter(|&i| w[i as usize].abs() > floor).collect();
            order.sort_unstable_by(|&a, &b| w[b as usize].abs().total_cmp(&w[a as usize].abs()).then(a.cmp(&b)));
        }
        Self { w, norm, domain, floor, order }
    }

    /// Writes to `d` the shortest move under the norm from `t` to the hyperplane within the box, where `t` lies `c`
    /// above it (`c = <w, t> - b`). Where the box does not reach it, the corner nearest to it.
    pub fn toward(&self, t: &[f32], c: f64, d: &mut [f32]) {
        // Moves down for positive c, up for negative.
        let side = if c < 0. { -1f32 } else { 1. };
        let (low, high) = self.domain;
        let weight = |w: f32| if w.abs() > self.floor { w.abs() } else { 0. };
        // `d` holds the room of every entry first.
        for ((d, &t), &w) in d.iter_mut().zip(t).zip(self.w) {
            *d = (if w * side > 0. { t - low } else { high - t }).max(0.);
        }
        let c = c.abs();
        match self.norm {
            Norm::Linf => {
                let most = self.solve(d, c, |_, room, at| if room <= at { (room, 0.) } else { (at, 1.) });
                d.iter_mut().zip(self.w).for_each(|(d, &w)| {
                    *d = if weight(w) == 0. { 0. } else { d.min(most as f32) };
                });
            }
            Norm::L2 => {
                let most = self.solve(d, c, |w, room, at| if room <= at * w { (room, 0.) } else { (at * w, w) });
                d.iter_mut().zip(self.w).for_each(|(d, &w)| {
                    *d = if weight(w) == 0. { 0. } else { d.min((most * f64::from(weight(w))) as f32) };
                });
            }
            Norm::L1 | Norm::L0 => self.spend(d, c),
        }
        d.iter_mut().zip(self.w).for_each(|(d, &w)| *d = if w * side > 0. { -*d } else { *d });
    }

    /// The multiplier at which the moves `reach(weight, room, multiplier)` (with their slopes) sum to `c` when weighted;
    /// infinity when no multiplier does.
    fn solve(&self, room: &[f32], c: f64, reach: impl Fn(f64, f64, f64) -> (f64, f64)) -> f64 {
        let mut at = 0f64;
        for _ in 0..MOST_STEPS {
            // Four sums side by side: one would wait for each addition.
            let (mut sum, mut slope) = ([0f64; 4], [0f64; 4]);
            for (w, room) in self.w.chunks(4).zip(room.chunks(4)) {
                for (k, (&w, &room)) in w.iter().zip(room).enumerate() {
                    let w = if w.abs() > self.floor { f64::from(w.abs()) } else { 0. };
                    let (e, de) = reach(w, f64::from(room), at);
                    sum[k] += w * e;
                    slope[k] += w * de;
                }
            }
            let (sum, slope): (f64, f64) = (sum.iter().sum(), slope.iter().sum());
            let missing = c - sum;
            if missing <= 1e-12 * c {
                return at;
            }
            if slope <= 0. || !slope.is_finite() {
                return f64::INFINITY;
            }
            // The sum is concave in the multiplier: Newton's steps from the left never pass the root.
            let next = at + missing / slope;
            if next <= at {
                return at;
            }
            at = next;
        }
        at
    }

    /// L1: whole rooms in the order of the weights until `c` is used up.
    fn spend(&self, d: &mut [f32], c: f64) {
        let mut left = c;
        let mut moves = vec![0f32; d.len()];
        for &i in &self.order {
            let i = i as usize;
            let w = f64::from(self.w[i].abs());
            let used = f64::from(d[i]).min(left / w);
            moves[i] = used as f32;
            left -= used * w;
            if left <= 0. {
                break;
            }
        }
        d.copy_from_slice(&moves);
    }
}
