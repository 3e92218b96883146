//! Geometry of one row, in f64. Projections end with a check against the same sums that `admits` uses and shrink by
//! single ulps until it holds, so that no rounding ever leaves a point outside.

use super::{Norm, Region, ThreatModel};

/// See [`ThreatModel::distance`].
pub(super) fn distance(norm: Norm, channels: usize, clean: &[f32], x: &[f32]) -> f64 {
    let gaps = || clean.iter().zip(x).map(|(&c, &v)| (f64::from(v) - f64::from(c)).abs());
    match norm {
        Norm::Linf => gaps().fold(0., |a, b| if b.is_nan() { f64::NAN } else { f64::max(a, b) }),
        Norm::L2 => gaps().map(|g| g * g).sum::<f64>().sqrt(),
        Norm::L1 => gaps().sum(),
        Norm::L0 => {
            let sites = clean.len() / channels.max(1);
            (0..sites).filter(|s| (0..channels).any(|c| clean[c * sites + s] != x[c * sites + s])).count() as f64
        }
    }
}

/// Ball first, then domain.
pub(super) fn project(threat: &ThreatModel, x: &mut [f32], clean: &[f32]) {
    prepare(x, clean);
    if let Region::Ball { norm, eps } = threat.region {
        match norm {
            Norm::Linf => x.iter_mut().zip(clean).for_each(|(v, &c)| *v = clamp_to(*v, c, eps)),
            Norm::L2 => {
                let length = distance(norm, 1, clean, x);
                if length > eps {
                    scale(x, clean, eps / length);
                }
            }
            Norm::L1 => {
                let gaps: Vec<f64> =
                    clean.iter().zip(&*x).map(|(&c, &v)| (f64::from(v) - f64::from(c)).abs()).collect();
                if gaps.iter().sum::<f64>() > eps {
                    let lambda = threshold(&gaps, None, eps);
                    soften(x, clean, lambda, None);
                }
            }
            Norm::L0 => keep_sites(threat, x, clean, eps),
        }
        clip(threat, x);
        settle(norm, eps, threat.input.channels(), x, clean);
    } else {
        clip(threat, x);
    }
}

/// Ball and domain jointly: the Euclidean nearest point.
pub(super) fn project_exact(threat: &ThreatModel, x: &mut [f32], clean: &[f32]) {
    let Region::Ball { norm: norm @ (Norm::L1 | Norm::L2), eps } = threat.region else {
        return project(threat, x, clean);
    };
    prepare(x, clean);
    let room: Vec<f64> = match threat.input.domain {
        Some((low, high)) => clean
            .iter()
            .zip(&*x)
            .map(|(&c, &v)| {
                (if v >= c { f64::from(high) - f64::from(c) } else { f64::from(c) - f64::from(low) }).max(0.)
            })
            .collect(),
        None => vec![f64::INFINITY; x.len()],
    };
    let gaps: Vec<f64> = clean.iter().zip(&*x).map(|(&c, &v)| (f64::from(v) - f64::from(c)).abs()).collect();
    if norm == Norm::L1 {
        let inside = gaps.iter().zip(&room).map(|(g, r)| g.min(*r)).sum::<f64>() <= eps;
        let lambda = if inside { 0. } else { threshold(&gaps, Some(&room), eps) };
        soften(x, clean, lambda, Some(&room));
    } else {
        let factor = shrink_factor(&gaps, &room, eps);
        for (((v, &c), g), r) in x.iter_mut().zip(clean).zip(&gaps).zip(&room) {
            let gap = (factor * g).min(*r);
            *v = toward(*v, c, gap);
        }
    }
    clip(threat, x);
    settle(norm, eps, threat.input.channels(), x, clean);
}

fn prepare(x: &mut [f32], clean: &[f32]) {
    x.iter_mut().zip(clean).filter(|(v, _)| v.is_nan()).for_each(|(v, &c)| *v = c);
    // Infinities would make every norm infinite and every scale zero times infinity.
    x.iter_mut().for_each(|v| *v = v.clamp(f32::MIN / 4., f32::MAX / 4.));
}

fn clip(threat: &ThreatModel, x: &mut [f32]) {
    if let Some((low, high)) = threat.input.domain {
        x.iter_mut().for_each(|v| *v = v.clamp(low, high));
    }
}

/// `gap` away from `clean` on the side of `v`.
fn toward(v: f32, clean: f32, gap: f64) -> f32 {
    let side = if v >= clean { gap } else { -gap };
    (f64::from(clean) + side) as f32
}

/// The f32 nearest to `v` whose distance to `clean` is at most `eps` as f64 sees it.
fn clamp_to(v: f32, clean: f32, eps: f64) -> f32 {
    let c = f64::from(clean);
    let within = |v: f32| (f64::from(v) - c).abs() <= eps;
    if within(v) {
        return v;
    }
    let mut edge = toward(v, clean, eps);
    while !within(edge) {
        edge = if edge > clean { edge.next_down() } else { edge.next_up() };
    }
    edge
}

fn scale(x: &mut [f32], clean: &[f32], factor: f64) {
    for (v, &c) in x.iter_mut().zip(clean) {
        *v = (f64::from(c) + (f64::from(*v) - f64::from(c)) * factor) as f32;
    }
}

/// Reduces every gap by `lambda`, to no less than 0 and no more than its room.
fn soften(x: &mut [f32], clean: &[f32], lambda: f64, room: Option<&[f64]>) {
    for (i, (v, &c)) in x.iter_mut().zip(clean).enumerate() {
        let gap = ((f64::from(*v) - f64::from(c)).abs() - lambda).max(0.);
        *v = toward(*v, c, room.map_or(gap, |r| gap.min(r[i])));
    }
}

/// The lambda with sum of min(room, max(gap - lambda, 0)) = eps (Croce and Hein 2021, appendix). The sum falls piecewise
/// linearly: Newton's steps, kept between a lambda known to be too small and one known to be large enough.
fn threshold(gaps: &[f64], room: Option<&[f64]>, eps: f64) -> f64 {
    let (mut low, mut high) = (0f64, gaps.iter().copied().fold(0., f64::max));
    let mut at = 0f64;
    for _ in 0..200 {
        let (sum, moving) = softened(gaps, room, at);
        if (sum - eps).abs() <= 1e-13 * eps {
            return at;
        }
        if sum > eps {
            low = low.max(at);
        } else {
            high = high.min(at);
        }
        if low.next_up() >= high {
            break;
        }
        let newton = at + (sum - eps) / moving;
        at = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
    }
    high
}

/// Sum of min(room, max(gap - lambda, 0)), and how many terms move with lambda.
fn softened(gaps: &[f64], room: Option<&[f64]>, lambda: f64) -> (f64, f64) {
    // Eight sums side by side: one would wait for each addition.
    let (mut sum, mut moving) = ([0f64; 8], [0f64; 8]);
    let mut add = |k: usize, gap: f64, room: f64| {
        let left = (gap - lambda).max(0.);
        sum[k] += left.min(room);
        moving[k] += if left > 0. && left < room { 1. } else { 0. };
    };
    match room {
        Some(room) => {
            for (gaps, room) in gaps.chunks(8).zip(room.chunks(8)) {
                gaps.iter().zip(room).enumerate().for_each(|(k, (g, r))| add(k, *g, *r));
            }
        }
        None => gaps.chunks(8).for_each(|g| g.iter().enumerate().for_each(|(k, g)| add(k, *g, f64::INFINITY))),
    }
    (sum.iter().sum(), moving.iter().sum())
}

/// The s in `[0,1]` with the norm of min(room, s gap) equal to eps, or 1 when the point is inside already. The entries that
/// meet their room only become more as s grows: from none, each pass over the row finds the s that those of the last
/// one leave, until they stay.
fn shrink_factor(gaps: &[f64], room: &[f64], eps: f64) -> f64 {
    let mut s = 0f64;
    for pass in 0..gaps.len() + 2 {
        // Squares of what is fixed at its room and of what is free, in four lanes.
        let (mut fixed, mut free) = ([0f64; 4], [0f64; 4]);
        for (gaps, room) in gaps.chunks(4).zip(room.chunks(4)) {
            for (k, (&g, &r)) in gaps.iter().zip(room).enumerate() {
                let stuck = s * g >= r && g > 0.;
                fixed[k] += if stuck { r * r } else { 0. };
                free[k] += if stuck { 0. } else { g * g };
            }
        }
        let (fixed, free) = (fixed.iter().sum::<f64>(), free.iter().sum::<f64>());
        let next = if free > 0. { ((eps * eps - fixed).max(0.) / free).sqrt().min(1.) } else { 1. };
        if next >= 1. || pass > 0 && next <= s {
            return next.max(s).min(1.);
        }
        s = next;
    }
    s
}

/// Keeps the `eps` sites whose change, once clipped to the domain, removes most squared distance to `x`; the rest go
/// back to clean. Ties keep the earlier site.
fn keep_sites(threat: &ThreatModel, x: &mut [f32], clean: &[f32], eps: f64) {
    let channels = threat.input.channels();
    let sites = clean.len() / channels.max(1);
    let (low, high) = threat.input.domain.unwrap_or((f32::MIN, f32::MAX));
    let gain = |s: usize| -> f64 {
        (0..channels)
            .map(|c| {
                let (v, c) = (x[c * sites + s], clean[c * sites + s]);
                let (whole, left) = (f64::from(v) - f64::from(c), f64::from(v) - f64::from(v.clamp(low, high)));
                whole * whole - left * left
            })
            .sum()
    };
    let mut order: Vec<(f64, usize)> = (0..sites).map(|s| (gain(s), s)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, s) in order.into_iter().skip(eps as usize) {
        (0..channels).for_each(|c| x[c * sites + s] = clean[c * sites + s]);
    }
}

/// Rounding to f32 may have left the sum an ulp outside: shrink toward the clean point until `admits` would agree.
fn settle(norm: Norm, eps: f64, channels: usize, x: &mut [f32], clean: &[f32]) {
    let mut step = f64::from(f32::EPSILON);
    while matches!(norm, Norm::L1 | Norm::L2) && distance(norm, channels, clean, x) > eps {
        scale(x, clean, 1. - step);
        step *= 2.;
        if step > 1. {
            x.copy_from_slice(clean);
        }
    }
}
