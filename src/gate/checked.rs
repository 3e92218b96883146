//! What a gate says: checks, findings, verdicts.

use super::config::{Bounds, Settings};
use crate::runs::stats::Paired;
use serde::Serialize;

/// What is said of one check, or of all: the gravest finding decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Pass,
    /// Of a whole report: a baseline is required, and something has none.
    NoBaseline,
    /// The drop is larger than allowed and may be chance.
    Inconclusive,
    /// It cannot be judged: outcomes are missing, or samples failed.
    Incomplete,
    /// The number should not be used as it is.
    Untrustworthy,
    Fail,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::NoBaseline => "no baseline",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Incomplete => "incomplete",
            Verdict::Untrustworthy => "untrustworthy",
            Verdict::Fail => "fail",
        })
    }
}

/// What a check can find. The names are stable: they are the rules of SARIF and code quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    Floor,
    Drop,
    HardDrop,
    PossibleDrop,
    Unreliable,
    Doubtful,
    NotMonotone,
    NonDeterministic,
    Incomplete,
    FailedSamples,
    NoBaseline,
    Reproduced,
    Changed,
    Resumed,
}

impl Rule {
    pub const ALL: [Rule; 14] = [
        Rule::Floor,
        Rule::Drop,
        Rule::HardDrop,
        Rule::PossibleDrop,
        Rule::Unreliable,
        Rule::Doubtful,
        Rule::NotMonotone,
        Rule::NonDeterministic,
        Rule::Incomplete,
        Rule::FailedSamples,
        Rule::NoBaseline,
        Rule::Reproduced,
        Rule::Changed,
        Rule::Resumed,
    ];

    /// `kebab-case`, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Floor => "floor",
            Rule::Drop => "drop",
            Rule::HardDrop => "hard-drop",
            Rule::PossibleDrop => "possible-drop",
            Rule::Unreliable => "unreliable",
            Rule::Doubtful => "doubtful",
            Rule::NotMonotone => "not-monotone",
            Rule::NonDeterministic => "non-deterministic",
            Rule::Incomplete => "incomplete",
            Rule::FailedSamples => "failed-samples",
            Rule::NoBaseline => "no-baseline",
            Rule::Reproduced => "reproduced",
            Rule::Changed => "changed",
            Rule::Resumed => "resumed",
        }
    }

    /// One sentence of what it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Rule::Floor => "Accuracy is below the floor that robust.toml sets.",
            Rule::Drop => "Accuracy fell by more than max_drop against the baseline, and not by chance.",
            Rule::HardDrop => "Accuracy fell by more than max_drop_hard against the baseline.",
            Rule::PossibleDrop => "Accuracy fell by more than max_drop, but chance could do that.",
            Rule::Unreliable => "The doctor found that the number should not be used as it is.",
            Rule::Doubtful => "The doctor found that the number may be too high.",
            Rule::NotMonotone => "More samples hold at a larger epsilon than at a smaller one.",
            Rule::NonDeterministic => "The same model under the same attack gave other results than before.",
            Rule::Incomplete => "The run did not do all it planned.",
            Rule::FailedSamples => "More samples could not be judged than allowed.",
            Rule::NoBaseline => "There is nothing to compare with.",
            Rule::Reproduced => "The baseline's model is unchanged and its results came out again, bit by bit.",
            Rule::Changed => "Something other than the model differs from the baseline.",
            Rule::Resumed => "The results are those of an earlier run: nothing was measured again.",
        }
    }

    pub(super) fn verdict(self) -> Verdict {
        match self {
            Rule::Floor | Rule::Drop | Rule::HardDrop | Rule::NonDeterministic => Verdict::Fail,
            Rule::Unreliable | Rule::NotMonotone => Verdict::Untrustworthy,
            Rule::Incomplete | Rule::FailedSamples => Verdict::Incomplete,
            Rule::PossibleDrop => Verdict::Inconclusive,
            Rule::Doubtful | Rule::NoBaseline | Rule::Reproduced | Rule::Changed | Rule::Resumed => Verdict::Pass,
        }
    }

    /// Whether it is worth a line although the check passes.
    pub fn warns(self) -> bool {
        self.verdict() != Verdict::Pass || matches!(self, Rule::Doubtful | Rule::NoBaseline | Rule::Changed)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    pub rule: Rule,
    /// With the numbers.
    pub text: String,
}

/// A check against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub held: u64,
    pub accuracy: f64,
    /// `broken` and `fixed` since the baseline.
    pub samples: Paired,
    pub drop: f64,
    /// Newcombe's interval of `drop`.
    pub interval: (f64, f64),
    /// One-sided mid-p McNemar, and adjusted after Holm where the drop is bounded.
    pub p: f64,
    pub p_adjusted: Option<f64>,
    /// The drop that the test sees with a chance of 80 % at the strictest level Holm may ask for.
    pub detectable_drop: Option<f64>,
    /// Ids of the samples that held then and do not now.
    pub broken_ids: Vec<u64>,
    pub same_model: bool,
}

/// One model under one attack, under all, or clean.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    pub suite: String,
    pub model: String,
    /// The attack's label, `worst-case`, or [`super::CLEAN`].
    pub attack: String,
    pub threat: String,
    pub n: u64,
    pub held: u64,
    pub accuracy: f64,
    pub interval: (f64, f64),
    pub failed: u64,
    pub bounds: Bounds,
    pub baseline: Option<Compared>,
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    /// The command that measures it again.
    pub repro: String,
    /// Where in `robust.toml` it is asked for, from 1.
    pub line: usize,
    pub seconds: f64,
    pub model_digest: String,
}

/// The gate's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub verdict: Verdict,
    /// 0 pass, 1 fail, 3 incomplete, 5 no baseline where one is required.
    pub exit_code: u8,
    pub settings: Settings,
    /// Checks whose drop is tested together.
    pub tested: usize,
    pub checks: Vec<Check>,
    /// About all of it: the power of the tests, what was left out.
    pub notes: Vec<String>,
}

/// `40.0 %`.
pub(super) fn percent(rate: f64) -> String {
    format!("{:.1} %", 100. * rate)
}

/// `2.0 pp`.
pub(super) fn points(rate: f64) -> String {
    // No negative zero.
    format!("{:.1} pp", (1000. * rate).round() / 10. + 0.)
}
