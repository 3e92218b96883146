//! Bisection on a linear model, whose boundary is known.

use crate::toy::Toy;
use crate::walk::{Segment, to_boundary};
use candle_core::{Device, Tensor};
use robust_core::{
    Access, Batch, Budget, Goal, Input, InputKind, Norm, Oracle, Question, Region, Stop, Target, ThreatModel, to_host,
};
use std::sync::Arc;

const D: usize = 12;

/// Two samples and, for each, a point of the domain of the other class.
fn sides(toy: &Toy) -> Vec<(Vec<f32>, u32, Vec<f32>)> {
    let of = |seed: usize| (0..D).map(|i| ((7 * i + 5 * seed) % 11) as f32 / 10.).collect::<Vec<f32>>();
    let points: Vec<Vec<f32>> = (0..40).map(of).collect();
    let x = Tensor::from_vec(points.concat(), (40, D), &Device::Cpu).unwrap();
    let (labels, _) = toy.labels(&x);
    let other = |y: u32| points.iter().zip(&labels).find(|(_, l)| **l != y).map(|(p, _)| p.clone()).unwrap();
    (0..2).map(|i| (points[i].clone(), labels[i], other(labels[i]))).collect()
}

#[test]
fn a_bisection_by_labels_ends_at_the_boundary_of_a_linear_model() {
    let toy = Toy::new(2, Input { shape: vec![D], domain: Some((0., 1.)), kind: InputKind::Features });
    let sides = sides(&toy);
    let (w, b) = (toy.w.clone(), toy.b.clone());
    let lead = |x: &[f32]| -> f64 {
        let z =
            |k: usize| w[k].iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>() + f64::from(b[k]);
        z(0) - z(1)
    };
    let input = toy.card.input.clone();
    let target = Target::white_box(Arc::new(toy));
    let threat = ThreatModel::new(Region::Nearest { norm: Norm::L2 }, input, Access::Label).unwrap();
    let x = Tensor::from_vec(sides.iter().flat_map(|s| s.0.clone()).collect(), (2, D), &Device::Cpu).unwrap();
    let batch = Batch::new(vec![4, 9], x, None).unwrap();
    let goal = Goal::Untargeted(sides.iter().map(|s| s.1).collect());
    let clean = vec![vec![0.; 2]; 2];
    for (queries, budget, taken) in [(12, None, 12), (200, None, 24), (12, Some(5), 5)] {
        let mut oracle = Oracle::new(Question {
            target: &target,
            threat: &threat,
            batch: &batch,
            goal: goal.clone(),
            clean: &clean,
            seed: 1,
            path: "walk",
            stop: Stop::Nearest,
            budget: Budget { queries: budget },
            at_once: 64,
        })
        .unwrap();
        let segment =
            |(of, s): (u32, &(Vec<f32>, u32, Vec<f32>))| Segment { of, held: s.0.clone(), reached: s.2.clone() };
        let mut segments: Vec<Segment> = (0..).zip(&sides).map(segment).collect();
        let asked = to_boundary(&mut oracle, &mut segments, queries).unwrap();
        assert!(asked.iter().all(|n| if queries == 200 { (taken..60).contains(n) } else { *n == taken }), "{asked:?}");
        for (i, (s, (clean, _, far))) in segments.iter().zip(&sides).enumerate() {
            // Along the segment the lead is linear: it is 0 at this share of the way.
            let share = lead(clean) / (lead(clean) - lead(far));
            let way = |x: &[f32]| {
                let along = |(x, (c, f)): (&f32, (&f32, &f32))| f64::from(x - c) * f64::from(f - c);
                let length: f64 = clean.iter().zip(far).map(|(c, f)| f64::from(f - c).powi(2)).sum();
                x.iter().zip(clean.iter().zip(far)).map(along).sum::<f64>() / length
            };
            let width = 0.5f64.powi(asked[i].min(20) as i32) + 1e-6;
            assert!(way(&s.held) <= share + 1e-6 && share <= way(&s.reached) + 1e-6, "{queries} {share}");
            assert!(way(&s.reached) - way(&s.held) <= width, "{} of {width}", way(&s.reached) - way(&s.held));
            // Up to what the sums lose in f32.
            assert!(lead(&s.held) * lead(clean).signum() > -1e-5 && lead(&s.reached) * lead(far).signum() > -1e-5);
        }
        for (f, asked) in oracle.finish().unwrap().iter().zip(asked) {
            assert_eq!((f.cost.search.forward, f.cost.search.backward), (asked, 0));
            assert!(f.found.is_some(), "the nearest reached point is the oracle's");
        }
    }
    let short = Segment { of: 0, held: vec![0.; 3], reached: vec![0.; D] };
    let mut oracle = Oracle::new(Question {
        target: &target,
        threat: &threat,
        batch: &batch,
        goal,
        clean: &clean,
        seed: 1,
        path: "walk",
        stop: Stop::Nearest,
        budget: Budget::default(),
        at_once: 64,
    })
    .unwrap();
    assert!(to_boundary(&mut oracle, &mut [short], 3).is_err());
    assert_eq!(to_host(oracle.x()).unwrap().1, D);
}
