//! What every attack owes, whatever it does: legal points, rows that ignore their neighbours, books that agree with the
//! model's own count; and the inputs that must not break it.

use crate::autoattack::{Version, compat_passes};
use crate::toy::{Toy, attack, images, run};
use crate::{ALL, resolve};
use robust_core::{Batch, Finding, Input, Norm, Target, Votes, take};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

fn image() -> Input {
    Input::image(2, 5, 6)
}

/// Every attack in every norm it knows, cut short, at an epsilon that fools some samples and not others.
fn specs() -> Vec<String> {
    let short = |name: &str| match name {
        "apgd-t" | "fab-t" => "steps=7,targets=3",
        "apgd-ce" | "apgd-dlr" | "fab" => "steps=7,restarts=3",
        "square" => "steps=60,restarts=3",
        "uniform-noise" | "random-sign" => "draws=5",
        "pgd" => "steps=3,restarts=4",
        "bim" | "mi-fgsm" => "steps=7",
        _ => "",
    };
    let mut specs = vec![];
    for entry in ALL {
        for norm in entry.norms {
            let eps = match norm {
                Norm::Linf => 0.1,
                Norm::L2 => 0.6,
                _ => 2.,
            };
            specs.push(format!("{}-{}:eps={eps},{}", entry.name, norm.suffix(), short(entry.name)));
        }
    }
    specs
}

/// What must not change.
type Essence = (u64, Option<(Vec<f32>, Option<u64>)>, Option<Vec<f32>>, robust_core::Cost);

fn essence(f: &Finding) -> Essence {
    (f.id, f.found.as_ref().map(|c| (c.x.clone(), f.queries)), f.held.as_ref().map(|c| c.x.clone()), f.cost)
}

#[test]
fn rows_ignore_batch_order_and_threads() {
    let ids: Vec<u64> = (10..22).collect();
    let whole = images(&ids, &image());
    for spec in specs().into_iter().filter(|s| !s.starts_with("autoattack")) {
        let all: Vec<Essence> = attack(&spec, Toy::new(5, image()), &whole).iter().map(essence).collect();
        let mixed: Vec<u32> = vec![7, 2, 11, 5];
        let part = Batch::new(mixed.iter().map(|i| ids[*i as usize]).collect(), take(&whole.x, &mixed).unwrap(), None);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let some = pool.install(|| attack(&spec, Toy::new(5, image()), &part.unwrap()));
        for (i, f) in mixed.iter().zip(&some) {
            assert_eq!(essence(f), all[*i as usize], "{spec}, sample {}", f.id);
        }
    }
}

#[test]
fn targets_and_restarts_abreast_find_what_they_find_in_turn() {
    let batch = images(&(0..200).collect::<Vec<_>>(), &image());
    let several = specs().into_iter().filter(|s| s.contains("targets") || s.contains("restarts"));
    let mut late = 0;
    for spec in several {
        let found = |spec: &str| -> Vec<Option<String>> {
            let all = attack(spec, Toy::new(5, image()), &batch);
            all.into_iter().map(|f| f.found.and(f.stage)).collect()
        };
        // Under a budget, here one that nobody spends, runs follow each other.
        let (abreast, in_turn) = (found(&spec), found(&format!("{spec},queries=1000000")));
        late += abreast.iter().flatten().filter(|s| s.starts_with("rest/")).count();
        for (i, (a, b)) in abreast.iter().zip(&in_turn).enumerate() {
            assert_eq!(a.is_some(), b.is_some(), "{spec}, sample {i}: {a:?} abreast, {b:?} in turn");
        }
    }
    assert!(late > 10, "only {late} fell to later runs");
}

#[test]
fn points_are_legal_and_books_agree_with_the_model() {
    let batch = images(&(0..12).collect::<Vec<_>>(), &image());
    let (mut found, mut held) = (0, 0);
    for spec in specs() {
        for extra in ["", ",compat=true"] {
            let spec = format!("{spec}{extra}");
            let model = Arc::new(Toy::new(11, image()));
            let Ok(ready) = resolve(&spec, &model.card) else { continue };
            let findings = run(&spec, &Target::white_box(model.clone()), &model, &batch).unwrap();
            let (x, width) = robust_core::to_host(&batch.x).unwrap();
            let most = ready.attack.passes_on(11, 1);
            for (f, clean) in findings.iter().zip(x.chunks(width)) {
                let point = f.found.as_ref().or(f.held.as_ref()).unwrap();
                assert!(ready.threat.admits(clean, &point.x), "{spec}");
                let cost = (f.cost.search.forward, f.cost.search.backward);
                assert!(cost.0 <= most.0 && cost.1 <= most.1, "{spec}: {cost:?} > {most:?}");
                if f.found.is_none() {
                    assert_eq!(cost, most, "{spec}: what a held sample costs");
                }
            }
            let sum = |of: fn(&Finding) -> u64| findings.iter().map(of).sum::<u64>();
            let asked = sum(|f| f.cost.search.forward + f.cost.confirm);
            assert_eq!(model.rows.load(SeqCst), asked, "{spec}");
            assert_eq!(model.pulls.load(SeqCst), sum(|f| f.cost.search.backward), "{spec}");
            found += findings.iter().filter(|f| f.found.is_some()).count();
            held += findings.iter().filter(|f| f.found.is_none()).count();
        }
    }
    assert!(found > 100 && held > 20, "{found} {held}");
}

#[test]
fn a_compat_run_costs_what_the_reference_asks() {
    let input = Input::image(1, 6, 6);
    let batch = images(&(0..10).collect::<Vec<_>>(), &input);
    for (version, norm, eps) in [
        (Version::Standard, Norm::Linf, 0.03),
        (Version::Standard, Norm::L2, 0.2),
        (Version::Standard, Norm::L1, 0.3),
        (Version::Plus, Norm::L2, 0.2),
        (Version::Rand, Norm::Linf, 0.03),
    ] {
        let name = format!("{version:?}").to_lowercase();
        let spec = format!("aa-{}:eps={eps},version={name},compat=true", norm.suffix());
        let findings = attack(&spec, Toy::new(10, input.clone()), &batch);
        let cost = |f: &Finding| (f.cost.search.forward, f.cost.search.backward);
        let passes = |lost| compat_passes(version, norm, 10, lost).unwrap();
        let members = ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t"];
        let mut possible: Vec<(u64, u64)> = members
            .iter()
            .flat_map(|m| (1..=9).filter_map(move |r| compat_passes(version, norm, 10, Some((m, r))).ok()))
            .collect();
        possible.push(passes(None));
        let (mut survived, mut lost) = (0, 0);
        for f in &findings {
            match f.found.is_some() {
                true => lost += 1,
                false => survived += 1,
            }
            if f.found.is_none() {
                assert_eq!(cost(f), passes(None), "{spec}");
            }
            assert!(possible.contains(&cost(f)), "{spec}: {:?}", cost(f));
        }
        assert!(survived > 0 && lost > 0, "{spec}: {survived} {lost}");
    }
}

#[test]
fn few_classes_long_images_and_constant_ones_are_attacked() {
    for (classes, input) in [
        (2, image()),
        (3, image()),
        (4, Input::image(1, 2, 40)),
        (3, Input::image(3, 1, 1)),
        (2, Input::image(1, 9, 3)),
    ] {
        let mut batch = images(&(0..6).collect::<Vec<_>>(), &input);
        batch.x = batch.x.affine(0., 0.5).unwrap(); // every image the same grey
        for norm in ["linf", "l2", "l1"] {
            for version in ["standard", "rand"] {
                let spec = format!("autoattack-{norm}:eps=0.9,version={version}");
                let findings = attack(&spec, Toy::new(classes, input.clone()), &batch);
                assert!(findings.iter().all(|f| f.found.is_some() || f.held.is_some()), "{spec} {classes} {input:?}");
            }
        }
        let found = attack("aa:eps=1", Toy::new(classes, input.clone()), &batch);
        assert!(
            found.iter().all(|f| f.found.is_some()),
            "{classes} classes, {input:?}: the whole box holds no success"
        );
    }
}

#[test]
fn what_cannot_be_attacked_is_refused_with_a_way_out() {
    let batch = images(&[1, 2], &image());
    let error = |spec: &str, classes| {
        let model = Arc::new(Toy::new(classes, image()));
        let error = run(spec, &Target::white_box(model.clone()), &model, &batch).err();
        let error = error.unwrap_or_else(|| panic!("{spec} went through"));
        assert!(error.kind == robust_core::Kind::Usage, "{spec}: {error}");
        error.to_string()
    };
    for name in ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square", "autoattack"] {
        assert!(error(&format!("{name}-l0:eps=3"), 10).contains("does not work in L0"));
        assert!(error(&format!("{name}:eps=0.1,queries=0"), 10).contains("queries"));
        assert!(error(&format!("{name}:eps=0.1"), 1).contains("1 class"), "{name}");
    }
    for name in ["apgd-t", "fab-t", "autoattack"] {
        assert!(error(&format!("{name}:eps=0.1,targets=10"), 10).contains("9 other classes"));
        assert!(error(&format!("{name}:eps=0.1,targets=0"), 10).contains("at least 1"));
        assert!(error(&format!("{name}:eps=0.1,compat=true"), 9).contains("needs more than 9 classes"));
    }
    assert!(error("apgd-dlr:eps=0.1,compat=true", 2).contains("needs 3 classes"));
    assert!(error("aa-l1:eps=1,version=plus", 10).contains("plus"));
    assert!(error("aa:eps=0.1,eot=5", 10).contains("rand"));
    assert!(error("aa:eps=0.1,version=extra", 10).contains("extra"));
    assert!(error("square:eps=0.1,p=2", 10).contains("between 0 and 1"));
    assert!(error("fab:eps=0.1,nearest=true,compat=true", 10).contains("exclude"));
}

#[test]
fn an_empty_ball_and_a_spent_budget_end_quietly() {
    let batch = images(&(0..4).collect::<Vec<_>>(), &image());
    for name in ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"] {
        for norm in ["linf", "l2", "l1"] {
            let findings = attack(&format!("{name}-{norm}:eps=0"), Toy::new(10, image()), &batch);
            assert!(findings.iter().all(|f| f.found.is_none() && f.held.is_some()), "{name}-{norm}");
            for budget in [1, 13] {
                let spec = format!("{name}-{norm}:eps=0.001,queries={budget}");
                let findings = attack(&spec, Toy::new(10, image()), &batch);
                assert!(findings.iter().all(|f| f.cost.search.forward <= budget), "{spec}");
            }
        }
    }
    let findings = attack("aa:eps=0.001,queries=150", Toy::new(10, image()), &batch);
    assert!(findings.iter().all(|f| f.cost.search.forward == 150));
}

#[test]
fn rows_that_break_the_model_fail_alone() {
    // Sample 0 and 1 start at a first entry of 1: any smaller one is NaN.
    let broken = || Toy { broken: 0.8..0.99999, ..Toy::new(10, image()) };
    let mut batch = images(&(0..6).collect::<Vec<_>>(), &image());
    let (mut x, width) = robust_core::to_host(&batch.x).unwrap();
    x.chunks_mut(width).enumerate().for_each(|(i, x)| x[0] = if i < 2 { 1. } else { 0.3 });
    batch.x = candle_core::Tensor::from_vec(x, batch.x.dims(), batch.x.device()).unwrap();
    for spec in specs().iter().filter(|s| s.contains("linf") && !s.contains("noise") && !s.starts_with("fgsm")) {
        let (broken, sound) = (attack(spec, broken(), &batch), attack(spec, Toy::new(10, image()), &batch));
        for (b, s) in broken.iter().zip(&sound).skip(2) {
            assert_eq!(essence(b), essence(s), "{spec}, sample {}", b.id);
        }
        assert!(broken[..2].iter().all(|f| f.found.is_some() || f.broken), "{spec}");
    }
}

#[test]
fn half_precision_scores_are_read() {
    let batch = images(&(0..8).collect::<Vec<_>>(), &image());
    for spec in specs() {
        let half = attack(&spec, Toy { half: true, ..Toy::new(10, image()) }, &batch);
        assert!(half.iter().all(|f| f.found.is_some() || f.held.is_some()), "{spec}");
    }
}

#[test]
fn random_models_are_averaged_and_put_to_the_vote() {
    let batch = images(&(0..10).collect::<Vec<_>>(), &image());
    let noisy = || {
        let mut toy = Toy { noise: 1., ..Toy::new(10, image()) };
        toy.card.stochastic = true;
        Arc::new(toy)
    };
    let model = noisy();
    let mut target = Target::white_box(model.clone());
    let cost = |f: &Finding| (f.cost.search.forward, f.cost.search.backward);
    for (eot, expected) in [(1, (101, 100)), (4, (401, 400))] {
        target.eot = eot;
        let findings = run("apgd-ce:eps=0.001", &target, &model, &batch).unwrap();
        let held: Vec<&Finding> = findings.iter().filter(|f| f.found.is_none()).collect();
        assert!(!held.is_empty() && held.iter().all(|f| cost(f) == expected), "{eot}");
    }
    let fab = run("fab-t:eps=0.001,steps=10", &target, &model, &batch).unwrap();
    assert!(fab.iter().filter(|f| f.found.is_none()).all(|f| cost(f) == (9 * 41, 9 * 40)));
    // `rand` brings its own 20 draws; the reference's own count confirms it.
    target.eot = 1;
    let rand = run("aa:eps=0.001,version=rand,compat=true", &target, &model, &batch).unwrap();
    let held: Vec<&Finding> = rand.iter().filter(|f| f.found.is_none()).collect();
    assert!(!held.is_empty() && held.iter().all(|f| cost(f) == (4044, 4040)));
    // The more votes a success needs, the fewer there are; every one says how many it got.
    let fooled = |k| {
        let target = Target { votes: Votes { k, m: 10 }, ..target.clone() };
        let findings = run("aa:eps=0.02,version=rand,eot=3", &target, &model, &batch).unwrap();
        let found: Vec<_> = findings.into_iter().filter_map(|f| f.found).collect();
        assert!(found.iter().all(|c| c.votes.0 >= k && c.votes.1 == 10));
        found.len()
    };
    let counts = [fooled(1), fooled(5), fooled(10)];
    assert!(counts[0] >= counts[1] && counts[1] >= counts[2] && counts[0] > counts[2], "{counts:?}");
}

#[test]
fn nearest_goes_on_below_epsilon_and_stays_legal() {
    let batch = images(&(0..10).collect::<Vec<_>>(), &image());
    for norm in ["linf:eps=0.3", "l2:eps=2", "l1:eps=6"] {
        let first = attack(&format!("fab-t-{norm}"), Toy::new(10, image()), &batch);
        let nearest = attack(&format!("fab-t-{norm},nearest=true"), Toy::new(10, image()), &batch);
        for (a, b) in first.iter().zip(&nearest) {
            let (a, b) = (a.found.as_ref().unwrap().distance.unwrap(), b.nearest.unwrap());
            assert!(b <= a, "{norm}: {b} > {a}");
        }
        assert!(first.iter().all(|f| f.nearest.is_none()), "not asked for, not given");
    }
}
