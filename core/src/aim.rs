//! What an attack on a bare encoder must reach, as users write it.

use crate::{Error, Goal, Result, Similarity, nearest};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an attack on a bare encoder must reach. With one anchor for each sample it is a [`Goal`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "goal", rename_all = "lowercase")]
pub enum Aim {
    /// An embedding whose similarity to that of the clean sample is strictly below this.
    Away { by: Similarity, below: f64 },
    /// An embedding whose similarity to that of another sample is strictly above this.
    Towards { by: Similarity, above: f64 },
}

impl Aim {
    /// `threshold` is a similarity: for L2, minus a distance.
    pub fn new(kind: AimKind, by: Similarity, threshold: f64) -> Self {
        match kind {
            AimKind::Away => Aim::Away { by, below: threshold },
            AimKind::Towards => Aim::Towards { by, above: threshold },
        }
    }

    /// What it is measured by.
    pub fn by(self) -> Similarity {
        match self {
            Aim::Away { by, .. } | Aim::Towards { by, .. } => by,
        }
    }

    /// Whether the anchor is another sample's embedding.
    pub fn is_towards(self) -> bool {
        matches!(self, Aim::Towards { .. })
    }

    /// The goal for samples with these anchors.
    pub fn goal(self, anchors: Vec<Vec<f32>>) -> Goal {
        match self {
            Aim::Away { by, below } => Goal::Away { anchors, by, below },
            Aim::Towards { by, above } => Goal::Towards { anchors, by, above },
        }
    }
}

/// `away cosine<0.5`, `towards l2<3`: distances are written as such.
impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Aim::Away { by: Similarity::Cosine, below } => write!(f, "away cosine<{below}"),
            Aim::Away { by: Similarity::L2, below } => write!(f, "away l2>{}", -below),
            Aim::Towards { by: Similarity::Cosine, above } => write!(f, "towards cosine>{above}"),
            Aim::Towards { by: Similarity::L2, above } => write!(f, "towards l2<{}", -above),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AimKind {
    Away,
    Towards,
}

/// An aim as users write it, its threshold perhaps left open: `away`, `towards:l2`, `away:cosine=0.5`. The signs that a
/// shell would read as redirections may stand for `=`: `away:cosine<0.5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AimSpec {
    pub kind: AimKind,
    pub by: Similarity,
    /// A similarity; `None` when it is left to the data.
    pub threshold: Option<f64>,
}

const FORMS: &str =
    "goals are away and towards, each with :cosine=C (-1 to 1) or :l2=DISTANCE, such as away:cosine=0.5";

impl AimSpec {
    /// # Errors
    /// Kind `Usage` for other words, thresholds no embedding can reach or miss, and a sign that says the opposite.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: String| Err(Error::usage(format!("goal `{text}` {why}")).hint(FORMS));
        let (word, rest) = text.split_once(':').unwrap_or((text, ""));
        let kind = match word.trim() {
            "away" => AimKind::Away,
            "towards" => AimKind::Towards,
            other => {
                let close =
                    nearest(other, ["away", "towards"]).map_or(String::new(), |n| format!(": did you mean `{n}`?"));
                return refuse(format!("is not known{close}"));
            }
        };
        let (name, sign, value) = match rest.find(['=', '<', '>']) {
            Some(at) => (&rest[..at], rest[at..].chars().next(), Some(rest[at + 1..].trim())),
            None => (rest, None, None),
        };
        let by = match name.trim() {
            "" | "cosine" => Similarity::Cosine,
            "l2" => Similarity::L2,
            other => return refuse(format!("measures by `{other}`, which is not known")),
        };
        // Fooled is less alike for `away`: a smaller cosine, a larger distance.
        let fooled = if (kind == AimKind::Away) == (by == Similarity::Cosine) { '<' } else { '>' };
        if sign.is_some_and(|s| s != '=' && s != fooled) {
            return refuse(format!("has its sign the wrong way round: {word} means {}{fooled}...", by.name()));
        }
        let Some(value) = value else { return Ok(Self { kind, by, threshold: None }) };
        let Some(number) = value.parse::<f64>().ok().filter(|v| v.is_finite()) else {
            return refuse(format!("has the threshold `{value}`, which is not a number"));
        };
        let threshold = match by {
            Similarity::Cosine if (-1. ..=1.).contains(&number) => number,
            Similarity::L2 if number > 0. => -number,
            Similarity::Cosine => return refuse("asks for a cosine beyond -1 to 1".to_string()),
            Similarity::L2 => return refuse("asks for a distance that is not positive".to_string()),
        };
        Ok(Self { kind, by, threshold: Some(threshold) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_are_read_with_and_without_a_threshold() {
        let read = |text: &str| AimSpec::parse(text).unwrap();
        let spec = |kind, by, threshold| AimSpec { kind, by, threshold };
        use AimKind::{Away, Towards};
        assert_eq!(read("away"), spec(Away, Similarity::Cosine, None));
        assert_eq!(read("towards:l2"), spec(Towards, Similarity::L2, None));
        assert_eq!(read("away:cosine=0.5"), read("away:cosine<0.5"));
        assert_eq!(read("away:l2=5"), read("away:l2>5"));
        assert_eq!(read("towards:l2<2").threshold, Some(-2.));
        let aim = |text: &str| {
            let s = read(text);
            Aim::new(s.kind, s.by, s.threshold.unwrap()).to_string()
        };
        assert_eq!(aim("away:cosine=0.5"), "away cosine<0.5");
        assert_eq!(aim("towards:l2=2.5"), "towards l2<2.5");
        for (text, part) in [
            ("awya", "did you mean `away`"),
            ("away:cos=1", "measures by `cos`"),
            ("away:cosine>0.5", "wrong way round"),
            ("towards:l2>2", "wrong way round"),
            ("away:cosine=1.5", "beyond -1 to 1"),
            ("away:l2=0", "not positive"),
            ("away:l2=far", "not a number"),
        ] {
            let error = AimSpec::parse(text).unwrap_err();
            assert!(error.kind == crate::Kind::Usage && error.to_string().contains(part), "{text}: {error}");
        }
    }
}
