//! Projections against brute force in f64, and `admits` against points built to lie just outside.

use super::*;
use crate::{Access, Input, InputKind};
use candle_core::{Device, Tensor};
use proptest::prelude::*;

fn input(channels: usize, sites: usize, domain: Option<(f32, f32)>) -> Input {
    let kind = if channels > 1 { InputKind::Image } else { InputKind::Features };
    let shape = if channels > 1 { vec![channels, 1, sites] } else { vec![sites] };
    Input { shape, domain, kind }
}

fn ball(norm: Norm, eps: f64, channels: usize, sites: usize) -> ThreatModel {
    ThreatModel::new(Region::Ball { norm, eps }, input(channels, sites, Some((0., 1.))), Access::Gradient).unwrap()
}

/// Gaps of the nearest legal point by bisection on the multiplier, an algorithm the product does not use.
fn by_bisection(norm: Norm, gaps: &[f64], room: &[f64], eps: f64) -> Vec<f64> {
    let at = |t: f64| -> Vec<f64> {
        let shrunk = |g: f64| if norm == Norm::L1 { (g - t).max(0.) } else { g / (1. + t) };
        gaps.iter().zip(room).map(|(&g, &r)| shrunk(g).min(r)).collect()
    };
    let size = |v: &[f64]| -> f64 {
        if norm == Norm::L1 { v.iter().sum() } else { v.iter().map(|x| x * x).sum::<f64>().sqrt() }
    };
    if size(&at(0.)) <= eps {
        return at(0.);
    }
    let (mut low, mut high) = (0f64, 1e9f64);
    for _ in 0..300 {
        let middle = 0.5 * (low + high);
        if size(&at(middle)) > eps { low = middle } else { high = middle }
    }
    at(high)
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

fn tensor(v: &[f32]) -> Tensor {
    Tensor::from_slice(v, (1, v.len()), &Device::Cpu).unwrap()
}

fn exact(threat: &ThreatModel, x: &[f32], clean: &[f32]) -> Vec<f32> {
    threat.project_exact(&tensor(x), &tensor(clean)).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn plain(threat: &ThreatModel, x: &[f32], clean: &[f32]) -> Vec<f32> {
    threat.project(&tensor(x), &tensor(clean)).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn pixels(n: usize) -> impl Strategy<Value = Vec<f32>> {
    // Corners of the box are where joint projections go wrong.
    prop::collection::vec(prop_oneof![3 => 0.0..=1.0f32, 1 => Just(0f32), 1 => Just(1f32)], n)
}

fn moves(n: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.5..1.5f32, n)
}

proptest! {
    #[test]
    fn joint_projections_are_the_nearest_legal_points(
        (clean, step) in (1usize..24).prop_flat_map(|n| (pixels(n), moves(n))), share in 0.0..1.2f64,
    ) {
        let x: Vec<f32> = clean.iter().zip(&step).map(|(c, s)| c + s).collect();
        for norm in [Norm::L1, Norm::L2] {
            let eps = share * if norm == Norm::L1 { 0.5 * clean.len() as f64 } else { (clean.len() as f64).sqrt() * 0.6 };
            let threat = ball(norm, eps.min(0.8), 1, clean.len());
            let eps = threat.eps();
            let gaps: Vec<f64> = clean.iter().zip(&x).map(|(c, v)| f64::from((v - c).abs())).collect();
            let room: Vec<f64> =
                clean.iter().zip(&x).map(|(c, v)| f64::from(if v >= c { 1. - c } else { *c })).collect();
            let z = exact(&threat, &x, &clean);
            prop_assert!(threat.admits(&clean, &z));
            for ((z, c), want) in z.iter().zip(&clean).zip(by_bisection(norm, &gaps, &room, eps)) {
                prop_assert!((f64::from((z - c).abs()) - want).abs() < 2e-6, "{norm} {z} {c} {want}");
            }
            prop_assert!(squared(&z, &x) <= squared(&plain(&threat, &x, &clean), &x) + 1e-5);
        }
    }

    #[test]
    fn linf_projects_to_the_nearest_legal_float(
        (clean, step) in (1usize..24).prop_flat_map(|n| (pixels(n), moves(n))), eps in 0.0..1.0f64,
    ) {
        let threat = ball(Norm::Linf, eps, 1, clean.len());
        let x: Vec<f32> = clean.iter().zip(&step).map(|(c, s)| c + s).collect();
        let z = plain(&threat, &x, &clean);
        prop_assert!(threat.admits(&clean, &z));
        for ((z, c), x) in z.iter().zip(&clean).zip(&x) {
            let legal = |v: f32| (0. ..=1.).contains(&v) && (f64::from(v) - f64::from(*c)).abs() <= eps;
            // One float nearer to x is either x's far side or illegal.
            let next = if x > z { z.next_up() } else { z.next_down() };
            prop_assert!(z == x || !legal(next), "{z} could have been {next} (clean {c}, eps {eps})");
        }
    }

    #[test]
    fn l0_keeps_the_best_subset_of_pixels(
        (clean, step) in (1usize..7).prop_flat_map(|n| (pixels(2 * n), moves(2 * n))), keep in 0usize..7,
    ) {
        let sites = clean.len() / 2;
        let threat = ball(Norm::L0, keep.min(sites) as f64, 2, sites);
        let x: Vec<f32> = clean.iter().zip(&step).map(|(c, s)| c + s).collect();
        let image = |v: &[f32]| Tensor::from_slice(v, (1, 2, 1, sites), &Device::Cpu).unwrap();
        let z: Vec<f32> = threat.project(&image(&x), &image(&clean)).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        prop_assert!(threat.admits(&clean, &z));
        let subset = |mask: u32| -> Vec<f32> {
            (0..clean.len()).map(|i| if mask >> (i % sites) & 1 == 1 { x[i].clamp(0., 1.) } else { clean[i] }).collect()
        };
        let best = (0..1u32 << sites)
            .filter(|m| m.count_ones() as usize <= keep.min(sites))
            .map(|m| squared(&subset(m), &x))
            .fold(f64::INFINITY, f64::min);
        prop_assert!((squared(&z, &x) - best).abs() < 1e-9);
    }

    #[test]
    fn projections_always_end_legal_and_keep_legal_points(
        (clean, step) in (1usize..40).prop_flat_map(|n| (pixels(2 * n), moves(2 * n))), share in 0.0..1.0f64, big in 0.0..6f32,
    ) {
        for norm in Norm::ALL {
            let most: f64 = match norm { Norm::Linf => 1., Norm::L2 => 2., Norm::L1 => 2., Norm::L0 => 1. };
            let eps = if norm == Norm::L0 { (share * 2.).floor().min(1.) } else { share * most.min((clean.len() as f64).sqrt()) };
            let sites = clean.len() / 2;
            let threat = ball(norm, eps, 2, sites);
            let x: Vec<f32> = clean.iter().zip(&step).map(|(c, s)| c + s * big).collect();
            for project in [plain, exact] {
                let z = project(&threat, &x, &clean);
                prop_assert!(threat.admits(&clean, &z), "{norm} {eps} {}", threat.distance(norm, &clean, &z));
                prop_assert_eq!(&project(&threat, &z, &clean), &z);
            }
        }
    }

    #[test]
    fn admits_gives_no_tolerance(clean in pixels(8), at in 0usize..8, eps in 0.01..0.4f64) {
        for norm in [Norm::L1, Norm::L2, Norm::Linf] {
            let threat = ball(norm, eps, 1, 8);
            let side = if clean[at] < 0.5 { 1. } else { -1. };
            let mut x = clean.clone();
            x[at] = (f64::from(clean[at]) + side * eps) as f32;
            while (f64::from(x[at]) - f64::from(clean[at])).abs() <= eps {
                x[at] = if side > 0. { x[at].next_up() } else { x[at].next_down() };
            }
            prop_assert!(!threat.admits(&clean, &x), "{norm}: one float outside was admitted");
        }
        let mut out = clean.clone();
        out[at] = 1f32.next_up();
        prop_assert!(!ball(Norm::Linf, 1., 1, 8).admits(&clean, &out));
        out[at] = f32::NAN;
        prop_assert!(!ball(Norm::Linf, 1., 1, 8).admits(&clean, &out));
    }
}

#[test]
fn hostile_numbers_project_to_legal_points() {
    let clean = [0.2f32, 0.9, 0.0];
    for norm in Norm::ALL {
        let threat = ball(norm, if norm == Norm::L0 { 1. } else { 0.3 }, 1, 3);
        for x in [[f32::NAN; 3], [f32::INFINITY, f32::NEG_INFINITY, 1.], [f32::MAX, f32::MIN, 0.]] {
            for project in [plain, exact] {
                let z = project(&threat, &x, &clean);
                assert!(threat.admits(&clean, &z), "{norm} {x:?} {z:?}");
            }
        }
    }
}

#[test]
fn epsilons_in_the_wrong_unit_are_named() {
    let image = Input::image(3, 32, 32);
    let refuse = |norm, eps| check_epsilon(norm, eps, &image).unwrap_err().to_string();
    assert!(refuse(Norm::Linf, 8.).contains("8/255"));
    assert!(refuse(Norm::Linf, -0.1).contains("not a distance"));
    assert!(refuse(Norm::Linf, f64::NAN).contains("not a distance"));
    assert!(refuse(Norm::L2, 60.).contains("L2"));
    assert!(refuse(Norm::L0, 1.5).contains("whole number"));
    assert!(refuse(Norm::L0, 1025.).contains("1024"));
    assert!(check_epsilon(Norm::L1, 12., &image).is_ok() && check_epsilon(Norm::L0, 24., &image).is_ok());
}

fn size(norm: Norm, d: &[f64]) -> f64 {
    match norm {
        Norm::Linf => d.iter().copied().fold(0., f64::max),
        Norm::L2 => d.iter().map(|v| v * v).sum::<f64>().sqrt(),
        _ => d.iter().sum(),
    }
}

/// The least size at which moves of that size reach `c`, by bisection on the largest reach of each size.
fn least_size(norm: Norm, w: &[f64], room: &[f64], c: f64) -> f64 {
    let reach = |size: f64| -> f64 {
        match norm {
            Norm::Linf => w.iter().zip(room).map(|(w, r)| w * r.min(size)).sum(),
            Norm::L1 => {
                let mut order: Vec<usize> = (0..w.len()).collect();
                order.sort_by(|&a, &b| w[b].total_cmp(&w[a]));
                let mut left = size;
                order
                    .iter()
                    .map(|&i| {
                        let e = room[i].min(left);
                        left -= e;
                        w[i] * e
                    })
                    .sum()
            }
            _ => {
                let at = |s: f64| -> Vec<f64> { w.iter().zip(room).map(|(w, r)| (s * w).min(*r)).collect() };
                let (mut low, mut high) = (0f64, 1e7f64);
                for _ in 0..200 {
                    let middle = 0.5 * (low + high);
                    if self::size(norm, &at(middle)) > size { high = middle } else { low = middle }
                }
                at(low).iter().zip(w).map(|(e, w)| e * w).sum()
            }
        }
    };
    let (mut low, mut high) = (0f64, room.len() as f64 + 1.);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if reach(middle) < c { low = middle } else { high = middle }
    }
    high
}

proptest! {
    #[test]
    fn the_move_to_a_hyperplane_reaches_it_by_the_shortest_way(
        t in pixels(24), w in moves(24), share in 0.01..0.9f64, up in any::<bool>()
    ) {
        let side = if up { -1f64 } else { 1. };
        let room: Vec<f64> = t.iter().zip(&w).map(|(&t, &w)| {
            f64::from(if f64::from(w) * side > 0. { t } else { 1. - t })
        }).collect();
        let weights: Vec<f64> = w.iter().map(|w| f64::from(w.abs())).collect();
        let c = share * weights.iter().zip(&room).map(|(w, r)| w * r).sum::<f64>();
        prop_assume!(c > 1e-3);
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let mut d = vec![0f32; 24];
            Hyperplane::new(&w, norm, (0., 1.), 0.).toward(&t, side * c, &mut d);
            let fell: f64 = w.iter().zip(&d).map(|(w, d)| -f64::from(*w) * f64::from(*d)).sum();
            prop_assert!((fell - side * c).abs() < 1e-5 * (1. + c), "{norm}: {fell} of {c}");
            prop_assert!(t.iter().zip(&d).all(|(t, d)| (-1e-6..=1. + 1e-6).contains(&(t + d))));
            let length = size(norm, &d.iter().map(|d| f64::from(d.abs())).collect::<Vec<_>>());
            let least = least_size(norm, &weights, &room, c);
            prop_assert!((length - least).abs() < 1e-4 * (1. + least), "{norm}: {length}, not {least}");
        }
    }

    #[test]
    fn bounds_are_what_projecting_leaves(clean in pixels(12), x in moves(12), eps in 0.01..0.4f64) {
        let threat = ball(Norm::Linf, eps, 1, 12);
        let (low, high) = threat.bounds_row(&clean);
        let clamped: Vec<f32> = x.iter().zip(low.iter().zip(&high)).map(|(x, (l, h))| x.clamp(*l, *h)).collect();
        prop_assert!(threat.admits(&clean, &clamped));
        prop_assert_eq!(clamped, plain(&threat, &x, &clean));
    }
}

#[test]
fn a_hyperplane_out_of_reach_gives_the_corner_nearest_to_it() {
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let mut d = [0f32; 3];
        Hyperplane::new(&[1., -2., 0.], norm, (0., 1.), 0.).toward(&[0.25, 0.5, 0.5], 9., &mut d);
        assert_eq!(d, [-0.25, 0.5, 0.], "{norm}");
        Hyperplane::new(&[0., 0., 0.], norm, (0., 1.), 0.).toward(&[0.25, 0.5, 0.5], 1., &mut d);
        assert_eq!(d, [0.; 3], "{norm}");
    }
}

fn rounded(threat: &ThreatModel, clean: &[f32], x: &[f32]) -> f64 {
    match threat.near(clean, x) {
        Near::Rounded { x: moved, by } => {
            assert!(threat.admits(clean, &moved) && largest_gap(x, &moved) == by);
            by
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pixels_eight_levels_apart_are_within_eight_levels_in_every_norm() {
    // All pairs of 8-bit pixels, as f32 has them: some are further apart than 8/255, none by more than rounding.
    let pairs: Vec<(f32, f32)> = (0..=247u8)
        .flat_map(|k| {
            let (low, high) = (f32::from(k) / 255., f32::from(k + 8) / 255.);
            [(low, high), (high, low)]
        })
        .collect();
    let (clean, x): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    let n = clean.len();
    let eight = ball(Norm::Linf, 8. / 255., 1, n);
    assert!(eight.distance(Norm::Linf, &clean, &x) > 8. / 255.);
    assert!(rounded(&eight, &clean, &x) < 6e-8);
    let l2 = ball(Norm::L2, 8. / 255. * (n as f64).sqrt() * (1. - 1e-13), 1, n);
    assert!(!matches!(l2.near(&clean, &x), Near::Outside(_)));
    let l1 = ball(Norm::L1, 8. * n as f64 / 255., 1, n);
    assert!(!matches!(l1.near(&clean, &x), Near::Outside(_)));
    // One pixel of nine levels is outside, by a level.
    let mut far = x.clone();
    far[0] = 9. / 255.;
    match eight.near(&clean, &far) {
        Near::Outside(by) => assert!((by - 1. / 255.).abs() < 1e-7, "{by}"),
        other => panic!("{other:?}"),
    }
    // 0.0313 is less than 8/255: seven levels, and no rounding makes it eight.
    assert!(matches!(ball(Norm::Linf, 0.0313, 1, n).near(&clean, &x), Near::Outside(by) if by > 7e-5));
}

#[test]
fn a_large_image_of_whole_levels_is_judged_by_its_levels() {
    // Many pixels one level off, all rounded apart the same way, and one far off: to shrink the sum moves that one by more than
    // 1e-6.
    let pixel = |k: u8| f32::from(k) / 255.;
    let apart = |k: &u8| f64::from(pixel(k + 1)) - f64::from(pixel(*k));
    let k = (100..255u8).max_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap();
    let n = 200_000;
    let (clean, mut x) = (vec![pixel(k); n], vec![pixel(k + 1); n]);
    x[0] = 0.;
    let squares = f64::from(k).powi(2) + (n - 1) as f64;
    let threat = ball(Norm::L2, squares.sqrt() / 255., 1, n);
    assert!(rounded(&threat, &clean, &x) > ROUNDING);
    // A little off the levels, nothing but the distance counts.
    let odd: Vec<f32> = x.iter().map(|v| v + if *v > 0. { 3e-6 } else { 0. }).collect();
    assert!(matches!(threat.near(&clean, &odd), Near::Outside(by) if by > 0.));
    let less = ball(Norm::L2, (squares - 1000.).sqrt() / 255., 1, n);
    assert!(matches!(less.near(&clean, &x), Near::Outside(by) if (by - 1000. / squares.sqrt() / 510.).abs() < 1e-4));
}

#[test]
fn rounding_is_a_millionth_of_the_domain_and_no_more() {
    let clean = [0.5f32, 0.1, 1., 0.];
    for (domain, unit) in [(Some((0., 1.)), 1f32), (Some((0., 255.)), 255.), (None, 1.)] {
        let region = Region::Ball { norm: Norm::Linf, eps: f64::from(unit) / 8. };
        let threat = ThreatModel::new(region, input(1, 4, domain), Access::Label).unwrap();
        let clean = clean.map(|c| c * unit);
        let at = |over: f32| [clean[0] + unit / 8. + over * unit, clean[1], clean[2], clean[3]];
        assert_eq!(threat.near(&clean, &at(0.)), Near::Inside);
        assert!(rounded(&threat, &clean, &at(8e-7)) <= threat.rounding());
        match threat.near(&clean, &at(2e-6)) {
            Near::Outside(by) => assert!((by / f64::from(unit) - 2e-6).abs() < 2e-7, "{by}"),
            other => panic!("{other:?}"),
        }
    }
    // The box: overshot by rounding, and by more.
    let threat = ball(Norm::Linf, 0.1, 1, 4);
    let over = rounded(&threat, &clean, &[0.5, 0.1, 1.000_000_1, -2.98e-8]);
    assert!(over > 1e-7 && over < 1.3e-7, "{over}");
    assert!(matches!(threat.near(&clean, &[0.5, 0.1, 1., -3e-6]), Near::Outside(by) if (by - 3e-6).abs() < 1e-12));
    assert!(matches!(threat.near(&clean, &[0.5, 0.1, f32::NAN, 0.]), Near::Outside(f64::MAX)));
    assert!(matches!(threat.near(&clean, &[0.5, 0.1]), Near::Outside(f64::MAX)));
}

#[test]
fn pixels_that_rounding_moved_do_not_count_in_l0() {
    let (clean, threat) = ([0.2f32, 0.4, 0.6, 0.8], ball(Norm::L0, 1., 1, 4));
    let x = [0.2f32.next_up(), 1., 0.6f32.next_down(), 0.8];
    assert!(!threat.admits(&clean, &x));
    assert!(rounded(&threat, &clean, &x) < 1e-7);
    assert_eq!(threat.near(&clean, &[0.3, 1., 0.6, 0.8]), Near::Outside(1.));
}

proptest! {
    #[test]
    fn near_points_are_legal_and_others_are_as_far_as_they_say(
        (clean, step) in (1usize..24).prop_flat_map(|n| (pixels(n), moves(n))), eps in 0.01..0.4f64, share in 0.9..1.1f64,
    ) {
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let threat = ball(norm, eps, 1, clean.len());
            let size = threat.distance(norm, &clean, &clean.iter().zip(&step).map(|(c, s)| c + s).collect::<Vec<_>>());
            prop_assume!(size > 0.);
            let x: Vec<f32> = clean.iter().zip(&step).map(|(c, s)| c + s * (share * eps / size) as f32).collect();
            match threat.near(&clean, &x) {
                Near::Inside => prop_assert!(threat.admits(&clean, &x) && threat.beyond(&clean, &x) == 0.),
                Near::Rounded { x: moved, by } => prop_assert!(threat.admits(&clean, &moved) && by <= 1e-6),
                Near::Outside(by) => prop_assert!(by > 0. && by == threat.beyond(&clean, &x)),
            }
        }
    }
}
