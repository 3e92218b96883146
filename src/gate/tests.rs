//! Verdicts, as pure functions of bits.

use super::*;
use crate::doctor::Grade;

const CONFIG: &str = "
[[suite]]
name = 's'
models = ['m']
attacks = ['pgd']
max_drop = '2pp'
max_drop_hard = '10pp'
min_robust_accuracy = 0.4
";

fn config(more: &str) -> Config {
    Config::parse(&format!("{more}{CONFIG}")).unwrap()
}

/// `n` samples of which the first `held` hold, under a model of this digest.
fn measured(config: &Config, attack: &str, n: usize, held: usize, digest: &str) -> Measured {
    Measured {
        suite: "s".into(),
        model: "m".into(),
        attack: attack.into(),
        threat: "Linf 0.1".into(),
        dataset: "d".into(),
        data_digest: "data".into(),
        by_content: false,
        images: Some("view:as they were".into()),
        ids: (0..n as u64).collect(),
        seed: 0,
        attack_digest: "a".into(),
        model_digest: digest.into(),
        robust: "1".into(),
        interpreter: "i".into(),
        bits: (0..n).map(|i| i < held).collect(),
        failed: 0,
        seconds: 0.,
        missing: None,
        grade: Some(Grade::Reliable),
        resumed: false,
        bounds: config.suites[0].bounds("m", &[attack]),
        allowed: 0,
        line: 1,
        repro: String::new(),
        ladder: None,
    }
}

/// The verdict on 500 samples that fell from 400 held to `held`, with this many broken and fixed besides.
fn fell_to(more: &str, held: usize, churn: usize) -> Report {
    let config = config(more);
    let before = Baseline::of(&[measured(&config, "pgd", 500, 400, "old")]);
    let mut now = measured(&config, "pgd", 500, held, "new");
    (0..churn).for_each(|i| (now.bits[i], now.bits[499 - i]) = (false, true));
    check(&config, &[now], Some(&before)).unwrap()
}

fn rules(report: &Report) -> Vec<Rule> {
    report.checks.iter().flat_map(|c| c.findings.iter().map(|f| f.rule)).collect()
}

#[test]
fn a_drop_fails_when_it_is_too_large_and_no_chance() {
    assert_eq!(fell_to("", 390, 0).verdict, Verdict::Pass); // exactly 2 points: allowed
    let real = fell_to("", 385, 0);
    assert_eq!((real.verdict, real.exit_code, rules(&real)), (Verdict::Fail, 1, vec![Rule::Drop]));
    // The same fall among many that changed both ways may be chance.
    let noise = fell_to("", 385, 80);
    assert_eq!((noise.verdict, noise.exit_code, rules(&noise)), (Verdict::Inconclusive, 0, vec![Rule::PossibleDrop]));
    assert_eq!(fell_to("[gate]\nstrict = true\n", 385, 80).exit_code, 1);
    assert!(rules(&fell_to("", 340, 80)).contains(&Rule::HardDrop));
    assert!(rules(&fell_to("", 190, 0)).contains(&Rule::Floor));
    assert_eq!(fell_to("", 450, 0).verdict, Verdict::Pass);
}

#[test]
fn an_unchanged_model_must_reproduce_its_bits_on_the_same_machine() {
    let config = config("");
    let before = Baseline::of(&[measured(&config, "pgd", 100, 80, "same")]);
    let judge = |now: Measured| check(&config, &[now], Some(&before)).unwrap();
    assert_eq!(rules(&judge(measured(&config, "pgd", 100, 80, "same"))), [Rule::Reproduced]);
    let other = judge(measured(&config, "pgd", 100, 81, "same"));
    assert_eq!((rules(&other), other.exit_code), (vec![Rule::NonDeterministic], 1));
    let kernels = Measured { interpreter: "j".into(), ..measured(&config, "pgd", 100, 81, "same") };
    assert_eq!((rules(&judge(kernels.clone())), judge(kernels).exit_code), (vec![Rule::Changed], 0));
}

#[test]
fn a_number_that_cannot_be_trusted_never_passes() {
    let config = config("");
    let judge = |now: &[Measured]| check(&config, now, None).unwrap();
    let base = measured(&config, "pgd", 100, 80, "x");
    let unreliable = judge(&[Measured { grade: Some(Grade::Unreliable), ..base.clone() }]);
    assert_eq!((unreliable.verdict, unreliable.exit_code), (Verdict::Untrustworthy, 1));
    let doubtful = judge(&[Measured { grade: Some(Grade::Doubtful), ..base.clone() }]);
    assert_eq!(doubtful.exit_code, 0);
    let rung = |eps: f64, held: usize| Measured {
        attack: format!("pgd {eps}"),
        ladder: Some(("pgd".into(), eps)),
        ..measured(&config, "pgd", 100, held, "x")
    };
    assert_eq!(judge(&[rung(0.1, 80), rung(0.2, 70)]).exit_code, 0);
    let backwards = judge(&[rung(0.1, 70), rung(0.2, 80)]);
    assert!(backwards.exit_code == 1 && rules(&backwards).contains(&Rule::NotMonotone), "{backwards:?}");
    let failed = judge(&[Measured { failed: 1, ..base.clone() }]);
    assert_eq!((failed.verdict, failed.exit_code), (Verdict::Incomplete, 3));
    // What is not all there is not below its floor either.
    let part = judge(&[Measured { missing: Some("half".into()), ..measured(&config, "pgd", 50, 0, "x") }]);
    assert_eq!((rules(&part), part.exit_code), (vec![Rule::Incomplete], 3));
}

#[test]
fn the_lower_bound_asks_for_more_than_the_point() {
    let at = |more: &str| {
        let config = config(more);
        check(&config, &[measured(&config, "pgd", 200, 82, "x")], None).unwrap().exit_code
    };
    assert_eq!(at(""), 0);
    assert_eq!(at("[gate]\npolicy = 'lower-bound'\n"), 1);
    assert_eq!(at("[gate]\npolicy = 'lower-bound'\ninterval = 'clopper-pearson'\nconfidence = 0.6\n"), 1);
    assert_eq!(at("[gate]\npolicy = 'lower-bound'\nconfidence = 0.5\n"), 1);
}

#[test]
fn holm_is_over_the_checks_whose_drop_is_bounded() {
    let config = config("");
    let (old, new) = (|a| measured(&config, a, 500, 400, "old"), |a| measured(&config, a, 500, 385, "new"));
    let before = Baseline::of(&[old("a"), old("b"), old("c"), old(CLEAN)]);
    let report = check(&config, &[new("a"), new("b"), new("c"), new(CLEAN)], Some(&before)).unwrap();
    // Fifteen broke and none was fixed: mid-p is half of 2^-15, three times that after Holm.
    let p = report.checks[0].baseline.as_ref().unwrap().p_adjusted.unwrap();
    assert_eq!(report.tested, 3);
    assert!((p - 1.5 * 0.5f64.powi(15)).abs() < 1e-15, "{p}");
    assert_eq!(report.checks[3].baseline.as_ref().unwrap().p_adjusted, None);
}

#[test]
fn a_baseline_survives_its_file_and_other_things_are_refused_by_name() {
    let config = config("");
    let base = measured(&config, "pgd", 13, 9, "x");
    let baseline = Baseline::of(std::slice::from_ref(&base));
    let text = serde_json::to_string(&baseline).unwrap();
    assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), baseline);
    let (samples, recorded) = baseline.find("s", "m", "pgd").unwrap();
    assert_eq!(recorded.held(samples.ids.len()).unwrap(), base.bits);
    for (now, word) in [
        (Measured { data_digest: "e".into(), ..base.clone() }, "data set"),
        (Measured { images: Some("view:rows".into()), ..base.clone() }, "read otherwise"),
        (Measured { ids: (1..14).collect(), ..base.clone() }, "samples"),
        (Measured { seed: 3, ..base.clone() }, "seed is 0 then 3"),
        (Measured { attack_digest: "b".into(), ..base.clone() }, "parameters"),
    ] {
        let error = check(&config, &[now], Some(&baseline)).unwrap_err();
        assert!(error.message.contains(word) && error.hint.unwrap().contains("--update-baseline"), "{}", error.message);
    }
}

#[test]
fn the_starter_is_a_configuration_and_lines_are_found_in_it() {
    let config = Config::parse(STARTER).unwrap();
    let suite = &config.suites[0];
    let attack = suite.attacks[1].as_str();
    assert_eq!(suite.bounds("m", &[attack, "label"]).min_accuracy, Some(0.8));
    assert_eq!(suite.bounds("m", &[CLEAN]).min_accuracy, Some(0.9));
    assert_eq!(suite.bounds("m", &[CLEAN]).max_drop, None);
    let line = config.line_of(0, Some(attack));
    assert!(STARTER.lines().nth(line - 1).unwrap().starts_with("attacks = "), "{line}");
    assert!(STARTER.lines().nth(config.line_of(0, None) - 1).unwrap().starts_with("[[suite]]"));
}

#[test]
fn what_rounds_to_zero_has_no_sign() {
    use super::checked::points;
    assert_eq!(
        [points(-0.0), points(-0.0004), points(-0.0006), points(0.02)],
        ["0.0 pp", "0.0 pp", "-0.1 pp", "2.0 pp"]
    );
}
