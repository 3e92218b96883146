//! Closed forms for what is luck and what is not, and a network that is loaded wrongly on purpose.

use super::toy;
use super::*;
use crate::eval::attacked::attack_batch;
use crate::eval::clean::judge_clean;
use crate::eval::plan::{PlannedData, PlannedHead, tests as plans};
use robust_benchmarks::{data, subset};
use robust_core::{Aim, AimKind, Similarity, Target};

fn entry(name: &str, board: &str, threat: &str, eps: &str, clean: f64, robust: f64) -> Known {
    let [name, board, threat, eps] = [name, board, threat, eps].map(str::to_string);
    Known { name, board, threat, eps, clean, robust, best: None, source: "made up".into() }
}

#[test]
fn every_line_of_the_table_is_read_and_makes_sense() {
    let lines = include_str!("../published_results.csv").lines().count() - 1;
    assert_eq!((table().len(), lines), (236, 236));
    for k in table() {
        assert!(["cifar10", "cifar100", "imagenet"].contains(&k.board.as_str()), "{k:?}");
        assert!(k.clean > 40. && k.clean < 100. && (0. ..k.clean).contains(&k.robust), "{k:?}");
        assert!(k.best.is_none_or(|b| b < k.clean), "{k:?}");
        assert_eq!(k.region().is_none(), k.threat == "corruptions", "{k:?}");
        assert!(!k.name.contains(['.', '/', '@', ' ']) && !k.source.is_empty(), "{k:?}");
    }
    let at = |board: &str, threat: &str, name: &str| {
        let found = table().iter().find(|k| k.board == board && k.threat == threat && k.name == name).unwrap();
        (found.clean, found.robust, found.best)
    };
    assert_eq!(at("cifar10", "Linf", "Carmon2019Unlabeled"), (89.69, 59.53, None));
    assert_eq!(at("cifar10", "L2", "Engstrom2019Robustness"), (90.83, 69.24, None));
    assert_eq!(at("cifar100", "Linf", "Wang2023Better_WRN-28-10"), (72.58, 38.83, Some(38.77)));
    assert_eq!(at("imagenet", "corruptions", "Standard_R50"), (76.72, 39.48, None));
}

#[test]
fn models_are_recognised_by_label_file_and_folder_and_common_words_are_not() {
    let boards = |label: &str, source: &str| -> Vec<String> {
        recognise(table(), label, source).iter().map(|k| format!("{}/{}", k.board, k.threat)).collect()
    };
    for (label, source) in [
        ("Carmon2019Unlabeled", "Carmon2019Unlabeled=a.onnx"),
        ("Carmon2019Unlabeled", "dir/Carmon2019Unlabeled.pt?arch=wide-resnet&mean=0.5"),
        ("wrn", "wrn=dir/carmon2019unlabeled.safetensors"),
        ("x", "hf:someone/Carmon2019Unlabeled@main"),
        ("x", "torch:Carmon2019Unlabeled.pth.tar"),
        ("x", "folders/Carmon2019Unlabeled/"),
    ] {
        assert_eq!(boards(label, source), ["cifar10/Linf"], "{source}");
    }
    assert_eq!(boards("x", "Rice2020Overfitting.pt").len(), 3);
    assert_eq!(boards("x", "models/cifar10/L2/Rice2020Overfitting.pt"), ["cifar10/L2"]);
    assert!(boards("Standard", "Standard=net.onnx").is_empty() && boards("x", "standard.pt").is_empty());
    assert_eq!(boards("x", "models/cifar10/Linf/Standard.pt"), ["cifar10/Linf"]);
    assert!(boards("net", "net.onnx").is_empty() && boards("", "").is_empty());
    // Files with numbers are a model together.
    for source in [
        "ensemble:models/cifar10/Linf/Chen2020Adversarial.pt_m*.pt",
        "a=ensemble:Chen2020Adversarial.pt_m0.pt+Chen2020Adversarial.pt_m1.pt?mean=0.5&scores=probabilities",
        "a=ensemble:[d/Chen2020Adversarial.pt_m0.pt?mean=0.5]+d/Chen2020Adversarial.pt_m1.pt",
        "ensemble:cifar10/Linf/Bai2024MixedNUTS.pt_m*.pt?scores=mixednuts",
        "ensemble:cifar10/Linf/Bai2023Improving_edm.pt_m*.pt",
    ] {
        assert_eq!(boards("x", source), ["cifar10/Linf"], "{source}");
    }
    for source in [
        "Chen2020Adversarial.pt_m0.pt",
        "ensemble:Chen2020Adversarial.pt_m0.pt+Carmon2019Unlabeled.pt",
        "ensemble:Carmon2019Unlabeled.pt+Carmon2019Unlabeled.pt",
        "ensemble:Chen2020Adversarial.pt_m*.pt?scores=logits",
        "ensemble:Bai2024MixedNUTS.pt_m*.pt?scores=mixednuts-bypassed",
        "ensemble:Bai2024MixedNUTS.pt_m*.pt?scores=log-probabilities",
        "ensemble:Bai2023Improving_trades.pt_m0.pt+Bai2023Improving_trades.pt_m1.pt?scores=probabilities",
        "ensemble:Chen2020Adversarial.pt_m*.pt?scores=mixednuts",
        "ensemble:Bai2024MixedNUTS.pt_m*.pt?mix=5,-1,4,0.9,0.9",
        "ensemble:[Chen2020Adversarial.pt_m0.pt?mean=0.5]+[Chen2020Adversarial.pt_m1.pt?output=features]",
    ] {
        assert!(boards("x", source).is_empty(), "{source}");
    }
    // An embedding, and a head of the user's, are other networks.
    for query in ["output=features", "arch=wide-resnet&head=h.safetensors", "mean=0.5&output=features"] {
        assert!(boards("Carmon2019Unlabeled", &format!("Carmon2019Unlabeled.pt?{query}")).is_empty(), "{query}");
    }
}

#[test]
fn three_standard_errors_are_luck_and_more_are_not() {
    let of = |hits, n, percent| Count { hits, n }.surprise(percent, 10_000);
    // sqrt(0.9 * 0.1 / 1000) = 0.009487: 28.46 samples to either side of 900.
    assert!(of(900, 1000, 90.).is_none() && of(928, 1000, 90.).is_none() && of(872, 1000, 90.).is_none());
    assert!((of(870, 1000, 90.).unwrap() + 0.03 / 0.009_486_83).abs() < 1e-4);
    assert!(of(930, 1000, 90.).unwrap() > 3.);
    // One of four is 4.3 errors below, but happens once in 270.
    assert!(of(1, 4, 90.).is_none() && of(0, 0, 90.).is_none());
    // Zero of 10,000 means fewer than about five.
    assert!(of(0, 10_000, 0.).is_none() && of(5, 10_000, 0.).is_none() && of(6, 10_000, 0.).is_some());
}

/// A run on the toy: the model as a user names it, `limit` samples, one attack.
fn run(source: &str, limit: u64, attack: &str, folder: &std::path::Path) -> (Plan, Vec<Outcome>) {
    let model = robust_models::load(source).unwrap();
    let data = data::open(&format!("cifar10:{}", folder.display())).unwrap();
    let ids = subset::choose(data.card().samples, &subset::Pick::Limit(limit)).unwrap();
    let batch = data.load(&ids, &model.card.view(), &candle_core::Device::Cpu).unwrap().batch.unwrap();
    let target = Target::white_box(model.model.clone());
    let ready = crate::eval::trial::Trial::attack(attack, &model.card).unwrap();
    let clean = judge_clean(&target, &batch, 0).unwrap();
    let judged = attack_batch(&target, &ready, &batch, &clean, 0, 64).unwrap();
    let outcomes = judged.into_iter().map(|j| Outcome { model: model.name.clone(), ..j.outcome }).collect();
    let mut plan = plans::plan();
    plan.models.truncate(1);
    (plan.models[0].name, plan.models[0].source) = (model.name, source.to_string());
    plan.models[0].attacks = vec![PlannedAttack::new(&ready, &target).unwrap()];
    (plan.dataset.card, plan.ids, plan.pick) = (data.card().clone(), ids, format!("limit {limit}"));
    (plan, outcomes)
}

#[test]
fn a_wrong_normalisation_is_a_probable_loading_error_and_the_right_one_is_none() {
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("cifar"), place.path().join("Toy2026Brightness.safetensors"));
    toy::data(&folder);
    toy::model(&file);
    let table = [
        entry("Toy2026Brightness", "cifar10", "Linf", "8/255", toy::accuracy(), 1.),
        entry("Toy2026Brightness", "cifar100", "Linf", "8/255", 10., 1.),
    ];
    let find = |(plan, outcomes): &(Plan, Vec<Outcome>)| of_model(&table, plan, &plan.models[0], outcomes);
    let right = run(&format!("{}?{}", file.display(), toy::RIGHT), 1500, "fgsm-linf:eps=4/255", &folder);
    // Another epsilon than the published one says nothing of the attack.
    assert_eq!(find(&right), []);
    let wrong = run(&format!("any={}?{}", file.display(), toy::WRONG), 1500, "fgsm-linf:eps=4/255", &folder);
    let found = find(&wrong);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].code, found[0].severity), (Code::CleanNotAsPublished, crate::doctor::Severity::Critical));
    assert!(found[0].evidence.starts_with("probable loading error") && found[0].advice.contains("normalisation"));
    assert!(found[0].measured["standard_errors"] < -10. && found[0].measured["samples"] == 1500., "{found:?}");
    // The same numbers under another name, another choice of samples, or from another kind of file are not judged.
    let (mut plan, outcomes) = wrong;
    plan.pick = "first 1500".into();
    assert_eq!(find(&(plan.clone(), outcomes.clone())), []);
    plan.pick = "all".into();
    assert_eq!(find(&(plan.clone(), outcomes.clone())).len(), 1);
    let mut other = plan.clone();
    other.models[0].attacks[0].aim = Some(Aim::new(AimKind::Away, Similarity::Cosine, 0.5));
    assert_eq!(find(&(other, outcomes.clone())), []);
    let mut other = plan.clone();
    let train = PlannedData { source: "here".into(), card: plan.dataset.card.clone(), by_content: false };
    let [encoder, head, file] = ["any", "knn", "heads/any-knn.safetensors"].map(String::from);
    other.models[0].head = Some(PlannedHead { encoder, head, file, train, limit: None });
    assert_eq!(find(&(other, outcomes.clone())), []);
    for name in ["npz:cifar10.npz", "cifar10:cifar?split=train", "parquet:test"] {
        plan.dataset.card.name = name.into();
        assert_eq!(find(&(plan.clone(), outcomes.clone())), [], "{name}");
    }
}

#[test]
fn more_than_autoattack_leaves_is_a_weak_attack_unless_it_is_noise() {
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("cifar"), place.path().join("toy.safetensors"));
    toy::data(&folder);
    toy::model(&file);
    let source = format!("Toy2026Brightness={}?{}", file.display(), toy::RIGHT);
    let (mut plan, outcomes) = run(&source, 1000, "uniform-noise-linf:eps=8/255", &folder);
    let held = outcomes.iter().filter(|o| o.verdict == Verdict::Held).count() as f64 / 10.;
    let under = |plan: &Plan, threat: &str, eps: &str, robust: f64| {
        let table = [entry("Toy2026Brightness", "cifar10", threat, eps, toy::accuracy(), robust)];
        of_model(&table, plan, &plan.models[0], &outcomes)
    };
    // Of a little noise, or one step, it is not news.
    for passes in [(1, 0), (2, 1), (999, 0), (40, 39)] {
        plan.models[0].attacks[0].passes = passes;
        let found = under(&plan, "Linf", "8/255", 0.);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Note), "{passes:?}");
        assert!(found[0].evidence.starts_with("as is normal after few steps"), "{found:?}");
    }
    plan.models[0].attacks[0].passes = (41, 40);
    let found = under(&plan, "Linf", "8/255", 0.);
    assert_eq!((found.len(), found[0].code, found[0].severity), (1, Code::RobustAbovePublished, Severity::Warning));
    assert!(found[0].evidence.starts_with("attack too weak or other protocol"), "{found:?}");
    assert_eq!(found[0].measured["robust_accuracy"], held / 100.);
    // Below the published value is a better attack; other threat models are other numbers.
    for (threat, eps, robust) in
        [("Linf", "8/255", held), ("Linf", "8/255", held + 9.), ("Linf", "0.031", 0.), ("L2", "8/255", 0.)]
    {
        assert_eq!(under(&plan, threat, eps, robust), [], "{threat} {eps} {robust}");
    }
}

#[test]
fn of_imagenet_only_the_originals_of_the_fixed_images_are_a_board() {
    let board = |name: &str, samples: u64| {
        let [name, digest] = [name, ""].map(String::from);
        board(&DataCard { name, digest, samples, classes: None })
    };
    for name in [
        "folder:val?subset=robustbench",
        "folder:val?subset=robustbench&resize=256&crop=224",
        "folder:val.tar?classes=classes.txt&subset=robustbench",
    ] {
        assert_eq!(board(name, 5_000), Some("imagenet"), "{name}");
        assert_eq!(board(name, 4_999), None);
    }
    for name in [
        "folder:val",
        "folder:val?resize=256",
        "folder:3?subset=robustbench&copies=224x224",
        "folder:3?subset=robustbench&copies=256",
        "folder:3?subset=robustbench&labels=others&resize=256",
        "wds:val?subset=robustbench",
    ] {
        assert_eq!(board(name, 5_000), None, "{name}");
    }
    // Of 5,000 images 76.90 % are 3,845, with a standard error of 0.6 %.
    let data =
        DataCard { name: "folder:val?subset=robustbench".into(), digest: String::new(), samples: 5_000, classes: None };
    let clean = |source: &str, right: usize| {
        super::clean("x", source, &data, &[vec![true; right], vec![false; 5_000 - right]].concat())
    };
    let file = "models/imagenet/Linf/Singh2023Revisiting_ConvNeXt-L-ConvStem.pt";
    assert!(clean(file, 3_850).is_empty());
    let found = clean(file, 3_750);
    assert_eq!((found.len(), found[0].code), (1, Code::CleanNotAsPublished));
    assert!(found[0].evidence.contains("77.00 %"), "{found:?}");
    assert!(clean("models/cifar10/Linf/Carmon2019Unlabeled.pt", 3_750).is_empty());
}
