//! Findings, how grave they are, and the grade they add up to.

use robust_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing that looks wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    /// What was measured, in words.
    pub evidence: String,
    /// The numbers in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, f64>,
    /// What to do.
    pub advice: String,
}

impl Finding {
    pub fn new(code: Code, evidence: impl Into<String>, advice: impl Into<String>) -> Self {
        let (evidence, advice) = (evidence.into(), advice.into());
        Self { code, severity: code.severity(), evidence, measured: BTreeMap::new(), advice }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.measured.insert(name.to_string(), value);
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    AtChance,
    InputRange,
    MissingNormalisation,
    DoubledNormalisation,
    ChannelOrder,
    ChannelsLast,
    /// Labels count from another class than the model's outputs.
    LabelOffset,
    Softmax,
    CoupledRows,
    NonDeterministic,
    /// The clean accuracy is not what others have published for a model of this name.
    CleanNotAsPublished,
    /// And the robust one is above what AutoAttack leaves.
    RobustAbovePublished,
    /// An attack on a random model that follows one draw's gradient at a time.
    OneDraw,
    /// No gradient where the model says it has one.
    NoGradient,
    ZeroGradient,
    NotFiniteGradient,
    /// Cross-entropy in single precision has no slope: what other tools would climb.
    SaturatedLoss,
    /// Votes of neighbours, whose gradients lead attacks astray.
    SteepVotes,
    /// Which neighbours vote depends on their order.
    TiedNeighbours,
    /// The gradient is not the derivative.
    GradientMismatch,
    /// It turns round within a step.
    ShatteredGradient,
    /// Scores change much under little noise.
    UnstablePrediction,
    /// An attack that may change everything does not fool every sample.
    UnboundedHolds,
    MoreStepsHelp,
    BlackBoxBeatsWhiteBox,
    NoiseBeatsAttack,
    SingleStepBeatsIterated,
    /// Fooled at a small epsilon, held at a larger one.
    NotMonotone,
    /// Adversarial points that no longer fool once pixels are 8-bit.
    LostIn8Bits,
    /// Too few classes for the DLR losses.
    FewClasses,
    /// Scores of clean samples that are NaN or infinite: they cannot be judged.
    NotFiniteScores,
    /// Samples whose label shares the largest score with another class: they count as wrong.
    Ties,
    /// Points made elsewhere that lie outside the threat model: they were never judged.
    PointsOutside,
}

impl Code {
    fn severity(self) -> Severity {
        match self {
            Code::LostIn8Bits | Code::FewClasses => Severity::Note,
            Code::Softmax
            | Code::OneDraw
            | Code::SteepVotes
            | Code::TiedNeighbours
            | Code::SaturatedLoss
            | Code::ShatteredGradient
            | Code::UnstablePrediction
            | Code::MoreStepsHelp
            | Code::SingleStepBeatsIterated
            | Code::NotMonotone
            | Code::Ties
            | Code::RobustAbovePublished => Severity::Warning,
            _ => Severity::Critical,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// The number may be too high.
    Warning,
    /// The number should not be used as it is.
    Critical,
}

/// How far a number can be trusted, by the worst finding about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    Reliable,
    Doubtful,
    Unreliable,
}

impl Grade {
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|f| f.severity).max() {
            Some(Severity::Critical) => Grade::Unreliable,
            Some(Severity::Warning) => Grade::Doubtful,
            _ => Grade::Reliable,
        }
    }
}

impl std::fmt::Display for Grade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Grade::Reliable => "reliable",
            Grade::Doubtful => "doubtful",
            Grade::Unreliable => "unreliable",
        })
    }
}

/// Everything found about one model's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub model: String,
    /// `None` where nothing was found and the doctor did not look at the model: that says nothing.
    #[serde(default)]
    pub grade: Option<Grade>,
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The gravest first; of two findings with one code the first is kept.
    pub fn new(model: impl Into<String>, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|f| (std::cmp::Reverse(f.severity), f.code));
        findings.dedup_by_key(|f| f.code);
        Self { model: model.into(), grade: Some(Grade::of(&findings)), findings }
    }

    /// Of a model that the doctor did not look at: what was found in its outcomes counts, that nothing was does not.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        self.grade = self.grade.filter(|g| *g > Grade::Reliable);
        self
    }
}

/// A grade for people; a model that the doctor did not look at is `unchecked`.
pub fn grade_text(grade: Option<Grade>) -> String {
    grade.map_or_else(|| "unchecked".to_string(), |g| g.to_string())
}

/// `{"schema", "models": [diagnosis...]}`.
///
/// # Errors
/// Never in practice: names and numbers only.
pub fn to_json(diagnoses: &[Diagnosis]) -> Result<String> {
    let value = serde_json::json!({ "schema": "robust.diagnostics/1", "models": diagnoses });
    let text = serde_json::to_string_pretty(&value).map_err(|e| Error::internal(format!("diagnostics: {e}")))?;
    Ok(text + "\n")
}
