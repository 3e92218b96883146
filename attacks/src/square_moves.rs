//! Where Square changes an image: windows, stripes and bumps.

use robust_core::{InputKind, Noise, Norm, ThreatModel};

/// The shape proposals are made for.
pub struct Board<'a> {
    threat: &'a ThreatModel,
    norm: Norm,
    eps: f64,
    channels: usize,
    height: usize,
    width: usize,
    compat: bool,
}

/// One sample's proposal: `trial` holds its best point and becomes the next one to ask.
pub struct Move<'a> {
    pub clean: &'a [f32],
    pub low: &'a [f32],
    pub high: &'a [f32],
    pub trial: &'a mut [f32],
    pub noise: &'a mut Noise,
}

/// How far outside the ball a point of L2 starts its way back.
const FAR: f64 = 16.;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    top: usize,
    left: usize,
    tall: usize,
    wide: usize,
}

impl Window {
    fn holds(&self, row: usize, column: usize) -> bool {
        (self.top..self.top + self.tall).contains(&row) && (self.left..self.left + self.wide).contains(&column)
    }
}

impl<'a> Board<'a> {
    /// Inputs that are not images count as one channel of one row.
    pub fn new(threat: &'a ThreatModel, compat: bool) -> Self {
        let (channels, height, width) = match (threat.input.kind, threat.input.shape.as_slice()) {
            (InputKind::Image, &[c, h, w]) => (c, h, w),
            _ => (1, 1, threat.input.len()),
        };
        let (norm, eps) = (threat.norm().unwrap_or(Norm::Linf), crate::host::radius(threat));
        Self { threat, norm, eps, channels, height, width, compat }
    }

    /// The first point, from the clean one.
    pub fn start(&self, m: &mut Move) {
        if self.norm == Norm::Linf {
            for c in 0..self.channels {
                for column in 0..self.width {
                    let change = self.sign(m) * self.eps as f32;
                    for row in 0..self.height {
                        let i = self.at(c, row, column);
                        m.trial[i] = (m.trial[i] + change).clamp(m.low[i], m.high[i]);
                    }
                }
            }
            return;
        }
        let mut delta = vec![0f32; m.trial.len()];
        let side = (self.height.min(self.width) / 5).max(1);
        for window in self.tiles(side) {
            let bump = self.bump(side, side, m);
            for c in 0..self.channels {
                let sign = self.sign(m);
                for (i, b) in self.inside(c, window).zip(&bump) {
                    delta[i] += sign * b;
                }
            }
        }
        let size = crate::host::length(self.norm, &delta);
        // In L1 what is beyond the ball leaves the bumps' tips: sparse points are the strong ones there.
        let factor = if self.norm == Norm::L1 { (self.eps / size).max(1.) } else { self.eps / size };
        self.put(m, &delta, factor);
    }

    /// The next proposal, in windows of this share of the image's area.
    pub fn step(&self, m: &mut Move, area: f64) {
        match self.norm {
            Norm::Linf => {
                let window = self.window(area, m);
                for c in 0..self.channels {
                    let change = 2. * self.sign(m) * self.eps as f32;
                    for i in self.inside(c, window) {
                        m.trial[i] = (m.trial[i] + change).clamp(m.low[i], m.high[i]);
                    }
                }
            }
            _ => self.shift(m, area),
        }
    }

    /// L2 and L1: a bump in one window, paid for with what lies in it and in another.
    fn shift(&self, m: &mut Move, area: f64) {
        let (to, from) = (self.window(area, m), self.window(area, m));
        let bump = self.bump(to.tall, to.wide, m);
        let mut delta: Vec<f32> = m.trial.iter().zip(m.clean).map(|(x, c)| x - c).collect();
        let spent = self.power(delta.iter());
        let spare = (self.power([self.eps as f32].iter()) - spent).max(0.) / self.channels as f64;
        for c in 0..self.channels {
            let old = self.power(self.inside(c, to).map(|i| &delta[i]));
            let only = |i: usize| {
                let place = i - c * self.height * self.width;
                !to.holds(place / self.width, place % self.width)
            };
            let both = old + self.power(self.inside(c, from).filter(|&i| only(i)).map(|i| &delta[i]));
            let (sign, length) = (self.sign(m), self.root(old) + 1e-12);
            let new: Vec<f32> =
                self.inside(c, to).zip(&bump).map(|(i, b)| sign * b + (f64::from(delta[i]) / length) as f32).collect();
            let size = self.root(self.power(new.iter())) + 1e-12;
            let budget = match self.norm {
                Norm::L1 => (spare + both) * self.channels as f64,
                _ => (spare + both).sqrt(),
            };
            self.inside(c, from).for_each(|i| delta[i] = 0.);
            self.inside(c, to).zip(&new).for_each(|(i, v)| delta[i] = (f64::from(*v) * budget / size) as f32);
        }
        let factor = if self.norm == Norm::L1 { 1. } else { self.eps / (self.root(self.power(delta.iter())) + 1e-12) };
        self.put(m, &delta, factor);
    }

    fn put(&self, m: &mut Move, delta: &[f32], factor: f64) {
        // In L2 what the box cuts off is made up for by the rest: from far outside, the joint projection does that.
        let factor = if self.norm == Norm::L2 && !self.compat { FAR * factor } else { factor };
        for ((x, c), d) in m.trial.iter_mut().zip(m.clean).zip(delta) {
            *x = c + (f64::from(*d) * factor) as f32;
        }
        match (self.norm, self.compat) {
            (Norm::L2, true) => self.threat.project_row(m.trial, m.clean),
            _ => self.threat.project_exact_row(m.trial, m.clean),
        }
    }

    /// The sum that the norm is made of: squares in L2, sizes in L1.
    fn power<'v>(&self, values: impl Iterator<Item = &'v f32>) -> f64 {
        let term = |v: &f32| f64::from(*v).abs();
        if self.norm == Norm::L1 { values.map(term).sum() } else { values.map(|v| term(v) * term(v)).sum() }
    }

    fn root(&self, power: f64) -> f64 {
        if self.norm == Norm::L1 { power } else { power.sqrt() }
    }

    fn at(&self, channel: usize, row: usize, column: usize) -> usize {
        (channel * self.height + row) * self.width + column
    }

    /// Positions of a window's entries in one channel, row by row.
    fn inside(&self, channel: usize, w: Window) -> impl Iterator<Item = usize> + use<> {
        let (start, width) = (self.at(channel, w.top, w.left), self.width);
        (0..w.tall).flat_map(move |r| (0..w.wide).map(move |c| start + r * width + c))
    }

    fn sign(&self, m: &mut Move) -> f32 {
        if m.noise.bits() & 1 == 0 { -1. } else { 1. }
    }

    /// A window of this share of the area at a random place.
    fn window(&self, area: f64, m: &mut Move) -> Window {
        let (tall, wide) = self.sides(area);
        // The reference never starts a window at the last place.
        let places = |room: usize| (room + usize::from(!self.compat)).max(1) as u32;
        let top = m.noise.index(places(self.height - tall)) as usize;
        let left = m.noise.index(places(self.width - wide)) as usize;
        Window { top, left, tall, wide }
    }

    fn sides(&self, area: f64) -> (usize, usize) {
        let pixels = area * (self.height * self.width) as f64;
        let mut side = pixels.sqrt().round_ties_even().max(1.) as usize;
        if self.norm != Norm::Linf {
            side = side.max(3) | 1;
        }
        let short = side.min(self.height).min(self.width);
        if self.compat || short == side {
            return (short, short);
        }
        // Cut at the shorter side: the longer one takes the rest of the area.
        let long = ((pixels / short as f64).round() as usize).max(short);
        if self.height < self.width { (short, long.min(self.width)) } else { (long.min(self.height), short) }
    }

    /// A grid of square tiles in the middle of the image.
    fn tiles(&self, side: usize) -> Vec<Window> {
        let starts = |room: usize| {
            let count = room / side;
            let first = (room - count * side) / 2;
            (0..count).map(move |k| first + k * side)
        };
        let columns: Vec<usize> = starts(self.width).collect();
        let window = |top, left| Window { top, left, tall: side, wide: side };
        starts(self.height).flat_map(|top| columns.iter().map(move |&left| window(top, left))).collect()
    }

    /// Concentric rectangles in each half of a window, the halves of opposite sign; along rows or columns at random.
    fn bump(&self, tall: usize, wide: usize, m: &mut Move) -> Vec<f32> {
        let power = if self.norm == Norm::L1 { 4 } else { 2 };
        let turned = m.noise.bits() & 1 == 0;
        let (rows, columns) = if turned { (wide, tall) } else { (tall, wide) };
        let top = rows / 2;
        let mut flat = self.half(top, columns, power);
        flat.extend(self.half(rows - top, columns, power).iter().map(|v| -v));
        let size = crate::host::length(self.norm, &flat) as f32;
        flat.iter_mut().for_each(|v| *v /= size);
        if !turned {
            return flat;
        }
        (0..tall * wide).map(|i| flat[(i % wide) * columns + i / wide]).collect()
    }

    /// One half: rectangle r around the middle adds 1 / (r + 1)^power to what it covers; of unit size.
    fn half(&self, rows: usize, columns: usize, power: i32) -> Vec<f32> {
        let (middle, centre) = (rows / 2, columns / 2);
        let rings = middle.max(centre) + 1;
        // What a pixel first covered by rectangle r gets from it and all larger ones.
        let mut worth = vec![0f64; rings + 1];
        for r in (0..rings).rev() {
            worth[r] = worth[r + 1] + 1. / f64::from(r as u32 + 1).powi(power);
        }
        let mut flat = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            flat.extend((0..columns).map(|c| worth[row.abs_diff(middle).max(c.abs_diff(centre))] as f32));
        }
        let size = crate::host::length(self.norm, &flat).max(1e-12) as f32;
        flat.iter_mut().for_each(|v| *v /= size);
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use robust_core::{Access, Draw, Input, Region, RowKey};

    fn threat(norm: Norm, eps: f64, input: Input) -> ThreatModel {
        ThreatModel::new(Region::Ball { norm, eps }, input, Access::Scores).unwrap()
    }

    fn noise() -> Noise {
        Draw { seed: 1, stream: 2, turn: 0, rows: &[] }.noise(&RowKey::of(0))
    }

    #[test]
    fn sides_fall_as_the_paper_says() {
        let shares = [1., 2., 4., 8., 16., 32., 64., 128.].map(|d| 0.8 / d);
        let sides = |size: usize| {
            let threat = threat(Norm::Linf, 0.1, Input::image(3, size, size));
            shares.map(|s| Board::new(&threat, false).sides(s).0)
        };
        assert_eq!(sides(32), [29, 20, 14, 10, 7, 5, 4, 3]);
        assert_eq!(sides(224), [200, 142, 100, 71, 50, 35, 25, 18]);
    }

    #[test]
    fn windows_reach_every_border_and_the_references_do_not() {
        for (compat, last) in [(false, 4), (true, 3)] {
            let threat = threat(Norm::Linf, 0.1, Input::image(1, 6, 6));
            let (board, mut noise) = (Board::new(&threat, compat), noise());
            let (clean, mut trial) = (vec![0.5f32; 36], vec![0.5f32; 36]);
            let mut m = Move { clean: &clean, low: &clean, high: &clean, trial: &mut trial, noise: &mut noise };
            let tops: Vec<usize> = (0..200).map(|_| board.window(4. / 36., &mut m).top).collect();
            assert_eq!((tops.iter().min(), tops.iter().max()), (Some(&0), Some(&last)), "compat {compat}");
        }
    }

    #[test]
    fn long_images_get_wide_windows() {
        let wide = threat(Norm::Linf, 0.1, Input::image(1, 4, 100));
        assert_eq!(Board::new(&wide, false).sides(0.8), (4, 80));
        assert_eq!(Board::new(&wide, true).sides(0.8), (4, 4));
        let tall = threat(Norm::L2, 0.1, Input::image(1, 100, 4));
        assert_eq!(Board::new(&tall, false).sides(0.8), (80, 4));
    }

    #[test]
    fn bumps_are_two_opposite_halves_of_unit_size() {
        for norm in [Norm::L2, Norm::L1] {
            let threat = threat(norm, 1., Input::image(1, 9, 9));
            let (board, mut noise) = (Board::new(&threat, false), noise());
            let (clean, mut trial) = (vec![0.5f32; 81], vec![0.5f32; 81]);
            let mut m = Move { clean: &clean, low: &clean, high: &clean, trial: &mut trial, noise: &mut noise };
            let mut shapes = std::collections::BTreeSet::new();
            for _ in 0..20 {
                let bump = board.bump(5, 5, &mut m);
                assert!((crate::host::length(norm, &bump) - 1.).abs() < 1e-6);
                // The peaks: in rows 1 and 3 (or columns), of opposite sign.
                let (rows, columns) = (bump[7] * bump[17] < 0., bump[11] * bump[13] < 0.);
                assert!(rows != columns, "{bump:?}");
                shapes.insert(rows);
            }
            assert_eq!(shapes.len(), 2);
        }
    }

    #[test]
    fn every_proposal_is_legal_and_uses_the_ball() {
        for (norm, eps, input) in [
            (Norm::Linf, 0.2, Input::image(3, 8, 8)),
            (Norm::L2, 1.5, Input::image(3, 8, 8)),
            (Norm::L1, 6., Input::image(3, 8, 8)),
            (Norm::L2, 1., Input::image(1, 3, 17)),
            (Norm::L1, 2., Input::image(1, 2, 2)),
            (Norm::L2, 0., Input::image(1, 5, 5)),
        ] {
            let threat = threat(norm, eps, input.clone());
            let (board, mut noise) = (Board::new(&threat, false), noise());
            let clean: Vec<f32> = (0..input.len()).map(|i| (i % 7) as f32 / 6.).collect();
            let (low, high) = threat.bounds_row(&clean);
            let mut trial = clean.clone();
            let mut m = Move { clean: &clean, low: &low, high: &high, trial: &mut trial, noise: &mut noise };
            board.start(&mut m);
            for k in 0..50 {
                assert!(threat.admits(&clean, m.trial), "{norm} {k}");
                if eps > 0. && norm != Norm::Linf {
                    assert!(threat.distance(norm, &clean, m.trial) > 0.2 * eps, "{norm} {k}");
                }
                board.step(&mut m, 0.8 / f64::from(k + 1));
            }
        }
    }
}
