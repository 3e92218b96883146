//! Goals without labels: attacks on linear encoders, whose largest displacement is known.

use crate::toy::{Toy, images};
use crate::{Ready, label_free, resolve};
use robust_core::{
    Aim, AimKind, Batch, Draw, Finding, Input, InputKind, Model, Oracle, Output, Question, RowKey, Similarity, Stop,
    Target, take, to_host,
};
use std::sync::Arc;

/// `z = W x + b` as an encoder.
fn encoder(w: Vec<Vec<f32>>, b: Vec<f32>) -> Arc<Toy> {
    let input = Input { shape: vec![w[0].len()], domain: Some((0., 1.)), kind: InputKind::Features };
    let mut toy = Toy::new(w.len(), input);
    toy.card.output = Output::Embedding { d: w.len() };
    (toy.w, toy.b) = (w, b);
    Arc::new(toy)
}

fn embeddings(model: &Toy, batch: &Batch) -> Vec<Vec<f32>> {
    let keys: Vec<RowKey> = batch.ids.iter().copied().map(RowKey::of).collect();
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    model.exact(&batch.x, &draw).unwrap().to_vec2().unwrap()
}

/// Attacks every row; toward the embedding of the row before, or away from its own.
fn attack(text: &str, aim: Aim, model: &Arc<Toy>, batch: &Batch, anchors: &[Vec<f32>]) -> Vec<Finding> {
    let ready: Ready = resolve(text, &model.card).unwrap().aimed(aim).unwrap();
    let target = Target::white_box(model.clone());
    let clean = embeddings(model, batch);
    let (threat, budget) = (&ready.threat, ready.budget);
    let (goal, path, stop) = (aim.goal(anchors.to_vec()), ready.path.as_str(), Stop::AtFirst);
    let question =
        Question { target: &target, threat, batch, goal, clean: &clean, seed: 1, path, stop, budget, at_once: 64 };
    let mut oracle = Oracle::new(question).unwrap();
    ready.attack.run(&mut oracle).unwrap();
    oracle.finish().unwrap()
}

const D: usize = 40;

fn row(seed: u64) -> Vec<f32> {
    let keys = [RowKey::of(seed)];
    let draw = Draw { seed: 3, stream: 0, turn: 0, rows: &keys };
    draw.normal(&[D], &candle_core::Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Points so far inside the box that it does not matter.
fn points(n: u64) -> Batch {
    let input = Input { shape: vec![D], domain: Some((0., 1.)), kind: InputKind::Features };
    let mut batch = images(&(0..n).collect::<Vec<_>>(), &input);
    batch.x = batch.x.affine(0.4, 0.3).unwrap();
    batch
}

/// Every gradient attack, with what share of the largest displacement it must reach.
const CLIMBERS: [(&str, f64); 5] = [("fgsm", 0.9), ("bim", 0.99), ("mi-fgsm", 0.9), ("pgd", 0.99), ("apgd-ce", 0.99)];

#[test]
fn a_linear_encoder_is_displaced_as_far_as_the_ball_lets_it() {
    let w = row(1);
    let batch = points(6);
    let sum = |p: i32| w.iter().map(|v| f64::from(v.abs()).powi(p)).sum::<f64>();
    let model = encoder(vec![w.clone()], vec![0.2]);
    let clean = embeddings(&model, &batch);
    for (norm, eps, most) in [("linf", 0.05, 0.05 * sum(1)), ("l2", 0.2, 0.2 * sum(2).sqrt())] {
        for (name, share) in CLIMBERS {
            let text = format!("{name}-{norm}:eps={eps}");
            let aim = |part: f64| Aim::new(AimKind::Away, Similarity::L2, -part * most);
            let found = attack(&text, aim(share), &model, &batch, &clean);
            assert!(found.iter().all(|f| f.found.is_some()), "{text} moves less than {share} of {most}");
            // Beyond the ball there is nothing, and what was reached is what the closed form says.
            for f in attack(&text, aim(1.001), &model, &batch, &clean) {
                let held = f.held.unwrap();
                let moved = 1.001 * most - held.pred.margin;
                assert!(f.found.is_none() && moved >= share * most && moved <= most * (1. + 1e-5), "{text}: {moved}");
                assert_eq!(held.pred.label, None);
            }
        }
    }
}

#[test]
fn of_several_directions_the_longest_is_found() {
    // Orthogonal rows of lengths 3, 2 and 1: within an L2 ball the largest displacement is 3 eps.
    let mut w = vec![vec![0f32; D]; 3];
    for (k, length) in [3f32, 2., 1.].into_iter().enumerate() {
        (0..4).for_each(|i| w[k][4 * k + i] = length / 2.);
    }
    let model = encoder(w, vec![0.; 3]);
    let batch = points(5);
    let clean = embeddings(&model, &batch);
    for (text, share) in [("pgd-l2:eps=0.1,steps=60", 0.99), ("apgd-ce-l2:eps=0.1", 0.99)] {
        let found = attack(text, Aim::new(AimKind::Away, Similarity::L2, -share * 0.3), &model, &batch, &clean);
        assert!(found.iter().all(|f| f.found.is_some()), "{text}");
        let beyond = attack(text, Aim::new(AimKind::Away, Similarity::L2, -0.3001), &model, &batch, &clean);
        assert!(beyond.iter().all(|f| f.found.is_none()), "{text}");
    }
}

#[test]
fn another_embedding_is_approached_by_all_that_the_ball_allows() {
    let w = row(2);
    let batch = points(6);
    let model = encoder(vec![w.clone()], vec![0.]);
    let clean = embeddings(&model, &batch);
    let others: Vec<Vec<f32>> = (0..6).map(|i| clean[(i + 1) % 6].clone()).collect();
    let step: f64 = 0.01 * w.iter().map(|v| f64::from(v.abs())).sum::<f64>();
    for (name, share) in CLIMBERS {
        let text = format!("{name}:eps=0.01");
        // So near that no point of the ball is there: what is left is the distance minus the ball's reach.
        let aim = Aim::new(AimKind::Towards, Similarity::L2, -1e-9);
        for (i, f) in attack(&text, aim, &model, &batch, &others).iter().enumerate() {
            let distance = f64::from((clean[i][0] - others[i][0]).abs());
            if distance < 2. * step {
                continue; // it may step across
            }
            let left = f.held.as_ref().unwrap().pred.margin;
            let came = distance - left;
            assert!(came >= share * step && came <= step * (1. + 1e-4), "{text}, sample {i}: {came} of {step}");
        }
    }
}

#[test]
fn the_angle_opens_as_far_as_the_closed_form_says() {
    // z = (1, w x + b): the cosine of (1, t) and (1, t + s) for the ends s of the ball.
    let w = row(4);
    let model = encoder(vec![vec![0.; D], w.clone()], vec![1., 0.]);
    let batch = points(6);
    let clean = embeddings(&model, &batch);
    let reach: f64 = 0.02 * w.iter().map(|v| f64::from(v.abs())).sum::<f64>();
    let aim = Aim::new(AimKind::Away, Similarity::Cosine, -1.);
    for text in ["pgd:eps=0.02,restarts=6", "apgd-ce:eps=0.02,restarts=6"] {
        for (z, f) in clean.iter().zip(attack(text, aim, &model, &batch, &clean)) {
            let t = f64::from(z[1]);
            let cosine = |s: f64| (1. + t * (t + s)) / ((1. + t * t) * (1. + (t + s).powi(2))).sqrt();
            let best = cosine(reach).min(cosine(-reach));
            let reached = f.held.unwrap().pred.margin - 1.;
            assert!((reached - best).abs() < 1e-3, "{text}: {reached}, not {best}");
        }
    }
}

#[test]
fn rows_ignore_their_neighbours_and_points_are_legal() {
    let mut toy = Toy::new(5, Input::image(2, 5, 6));
    toy.card.output = Output::Embedding { d: 5 };
    let model = Arc::new(toy);
    let batch = images(&(10..22).collect::<Vec<_>>(), &Input::image(2, 5, 6));
    let clean = embeddings(&model, &batch);
    let mixed: Vec<u32> = vec![7, 2, 11, 5];
    let ids = mixed.iter().map(|&i| batch.ids[i as usize]).collect();
    let part = Batch::new(ids, take(&batch.x, &mixed).unwrap(), None).unwrap();
    let (flat, width) = to_host(&batch.x).unwrap();
    let (mut found, mut held) = (0, 0);
    for name in label_free() {
        let steps = match name {
            "square" => ",steps=60",
            "uniform-noise" | "random-sign" | "fgsm" => "",
            _ => ",steps=7",
        };
        for (norm, eps) in [("linf", 0.1), ("l2", 0.6), ("l1", 2.)] {
            let text = format!("{name}-{norm}:eps={eps}{steps}");
            let aim = Aim::new(AimKind::Away, Similarity::Cosine, 0.9);
            let essence = |f: &Finding| {
                let point = f.found.as_ref().or(f.held.as_ref()).map(|c| (c.x.clone(), c.pred));
                (f.id, point, f.queries, f.cost)
            };
            let threat = resolve(&text, &model.card).unwrap().threat;
            let all = attack(&text, aim, &model, &batch, &clean);
            for (f, clean) in all.iter().zip(flat.chunks(width)) {
                let point = f.found.as_ref().or(f.held.as_ref()).unwrap();
                assert!(threat.admits(clean, &point.x) && (point.pred.margin < 0.) == f.found.is_some(), "{text}");
            }
            found += all.iter().filter(|f| f.found.is_some()).count();
            held += all.iter().filter(|f| f.found.is_none()).count();
            let some: Vec<Vec<f32>> = mixed.iter().map(|&i| clean[i as usize].clone()).collect();
            for (&i, f) in mixed.iter().zip(&attack(&text, aim, &model, &part, &some)) {
                assert_eq!(essence(f), essence(&all[i as usize]), "{text}, sample {}", f.id);
            }
        }
    }
    assert!(found > 20 && held > 20, "{found} {held}");
}

#[test]
fn what_needs_classes_is_refused_with_a_way_out() {
    let model = encoder(vec![row(1), row(2)], vec![0.; 2]);
    let aim = Aim::new(AimKind::Away, Similarity::Cosine, 0.5);
    for (text, part) in [
        ("apgd-dlr:eps=0.1", "a ratio of class scores"),
        ("apgd-t:eps=0.1", "needs scores of classes"),
        ("fab:eps=0.1", "needs scores of classes"),
        ("fab-t:eps=0.1", "needs scores of classes"),
        ("aa:eps=0.1", "needs scores of classes"),
        ("apgd-ce:eps=0.1,compat=true", "compat=true"),
        ("pgd:eps=0.1,objective=dlr", "`objective` is about classes"),
        ("pgd:eps=0.1,target=next", "`target` is about classes"),
    ] {
        let error = resolve(text, &model.card).unwrap().aimed(aim).err().unwrap();
        let said = error.to_string();
        assert!(error.kind == robust_core::Kind::Usage && said.contains(part), "{text}: {said}");
        assert!(said.contains("pgd, mi-fgsm, apgd-ce") && said.contains("robust probe"), "{text}: {said}");
    }
    let ready = resolve("pgd:eps=8/255", &model.card).unwrap().aimed(aim).unwrap();
    assert_eq!(ready.label, "pgd-linf:eps=8/255 away cosine<0.5");
    assert!(!ready.params.contains_key("objective") && !ready.params.contains_key("target"));
}
