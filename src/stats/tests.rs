//! Published values, closed forms and identities.

use super::*;

fn near(a: f64, b: f64, within: f64) -> bool {
    (a - b).abs() <= within
}

#[test]
fn wilson_matches_published_values() {
    // Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263 and 0/20 and 1/29.
    let near = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 5e-5 && (b - d).abs() < 5e-5;
    assert!(near(wilson(81, 263), (0.2553, 0.3662)));
    assert!(near(wilson(0, 20), (0., 0.1611)));
    assert!(near(wilson(1, 29), (0.0061, 0.1718)));
    assert_eq!(wilson(5, 5).1, 1.);
    assert_eq!(wilson(0, 0), (0., 1.));
    // Method 5 of the same table is Clopper and Pearson's.
    assert!(near(clopper_pearson(81, 263, 0.95), (0.2527, 0.3676)));
    assert!(near(clopper_pearson(0, 20, 0.95), (0., 0.1684)));
}

#[test]
fn intervals_of_nothing_of_all_and_of_none_have_closed_forms() {
    assert_eq!(clopper_pearson(0, 0, 0.9), (0., 1.));
    // None of n: (1 - high)^n = alpha / 2.
    let (low, high) = clopper_pearson(0, 50, 0.95);
    assert!(low == 0. && near((1. - high).powi(50), 0.025, 1e-14));
    let (low, high) = clopper_pearson(50, 50, 0.95);
    assert!(high == 1. && near(low.powi(50), 0.025, 1e-14));
}

#[test]
fn mcnemar_counts_coin_tosses() {
    let table = Paired { both: 10, broken: 5, fixed: 0, neither: 3 };
    assert!(near(table.mcnemar_exact(Side::Drop), 1. / 32., 1e-15));
    assert!(near(table.mcnemar_exact(Side::Two), 1. / 16., 1e-15));
    assert!(near(table.mcnemar_mid_p(Side::Drop), 1. / 64., 1e-15));
    let nothing = Paired { both: 4, ..Paired::default() };
    assert_eq!((nothing.mcnemar_exact(Side::Two), nothing.mcnemar_mid_p(Side::Two)), (1., 1.));
    assert_eq!((nothing.n(), nothing.drop()), (4, 0.));
    let even = Paired { broken: 3, fixed: 3, ..nothing };
    assert!(near(even.mcnemar_mid_p(Side::Two), 1., 1e-15) && near(even.mcnemar_mid_p(Side::Drop), 0.5, 1e-15));
}

#[test]
fn the_interval_of_a_paired_difference_mirrors_and_holds_the_estimate() {
    for table in [
        Paired { both: 30, broken: 7, fixed: 2, neither: 11 },
        Paired { both: 0, broken: 9, fixed: 0, neither: 1 },
        Paired { both: 50, broken: 0, fixed: 0, neither: 0 },
    ] {
        let back = Paired { broken: table.fixed, fixed: table.broken, ..table };
        let ((low, high), (l, h)) = (table.newcombe(0.95), back.newcombe(0.95));
        assert!(near(low, -h, 1e-15) && near(high, -l, 1e-15), "{table:?}");
        assert!(low <= table.drop() && table.drop() <= high && low >= -1. && high <= 1., "{table:?}");
    }
    assert_eq!(Paired::default().newcombe(0.95), (-1., 1.));
}

#[test]
fn holm_matches_the_definition_and_never_falls_below_the_raw_value() {
    assert_eq!(holm(&[0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5]);
    assert!(holm(&[]).is_empty());
    assert_eq!(holm(&[0.9, 0.8]), [1., 1.]);
}

/// Specification of the gate: discordant rate and true drop to power.
#[test]
fn power_is_that_of_the_specification() {
    for (n, discordant, drop, alpha, expected) in [
        (200, 0.04, 0.02, 0.05, 0.37),
        (500, 0.04, 0.02, 0.05, 0.74),
        (500, 0.06, 0.03, 0.05, 0.88),
        (1000, 0.04, 0.01, 0.05, 0.48),
        (1000, 0.04, 0.02, 0.05, 0.95),
        (1000, 0.06, 0.03, 0.05, 0.99),
        (2000, 0.04, 0.01, 0.05, 0.72),
        (1000, 0.04, 0.02, 0.005, 0.75),
    ] {
        let got = power(n, discordant, drop, alpha);
        assert!(near(got, expected, 0.01), "n {n}, {discordant}, {drop}, {alpha}: {got}");
    }
    assert_eq!(power(0, 0.04, 0.02, 0.05), 0.);
    assert_eq!(power(100, 0., 0., 0.05), 0.);
}

#[test]
fn the_detectable_drop_is_the_first_that_is_seen() {
    let (n, alpha) = (1000, 0.05);
    let fall = detectable_drop(n, 40, alpha, 0.8).unwrap();
    let at = |fall: u64| power(n, 0.04, fall as f64 / n as f64, alpha);
    assert!(at(fall) >= 0.8 && at(fall - 1) < 0.8, "{fall}");
    // Five tosses that all fall the same way have mid-p 1/64; three have 1/16: too few samples can never be judged.
    assert_eq!(detectable_drop(3, 0, alpha, 0.8), None);
    assert_eq!(detectable_drop(0, 0, alpha, 0.8), None);
    assert!(detectable_drop(10, 0, alpha, 0.8).is_some());
}
