//! Goals without labels: how alike two embeddings are, and what an attack on a bare encoder must reach.

use crate::{Error, Goal, Result, nearest};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How alike two embeddings are; larger is more alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// The cosine of their angle, -1 to 1. An embedding of length 0 has no direction: its cosine with any other is 0.
    Cosine,
    /// Minus their Euclidean distance, at most 0.
    L2,
}

/// Shorter embeddings have no direction.
const TINY: f64 = 1e-30;

impl Similarity {
    pub fn name(self) -> &'static str {
        match self {
            Similarity::Cosine => "cosine",
            Similarity::L2 => "l2",
        }
    }

    /// The similarity of `z` to `anchor`, and its slope in `z`: zero where there is none (at the anchor itself, and for
    /// embeddings of length 0). `None` for entries that are not finite or lists of different lengths, and for an anchor
    /// that has no direction.
    pub fn with_slope(self, z: &[f32], anchor: &[f32]) -> Option<(f64, Vec<f64>)> {
        let value = self.of(z, anchor)?;
        let (own, other) = (length(z), length(anchor));
        let pairs = z.iter().zip(anchor).map(|(z, a)| (f64::from(*z), f64::from(*a)));
        let slope = match self {
            Similarity::Cosine if own <= TINY => vec![0.; z.len()],
            Similarity::Cosine => pairs.map(|(z, a)| (a / other - value * z / own) / own).collect(),
            Similarity::L2 if value == 0. => vec![0.; z.len()],
            Similarity::L2 => pairs.map(|(z, a)| (z - a) / value).collect(),
        };
        Some((value, slope))
    }

    /// The similarity alone: see [`Similarity::with_slope`].
    pub fn of(self, z: &[f32], anchor: &[f32]) -> Option<f64> {
        if z.len() != anchor.len() || z.iter().chain(anchor).any(|v| !v.is_finite()) {
            return None;
        }
        let pairs = z.iter().zip(anchor).map(|(z, a)| (f64::from(*z), f64::from(*a)));
        match self {
            Similarity::Cosine => {
                let (own, other) = (length(z), length(anchor));
                if other <= TINY {
                    return None;
                }
                // Each divided by its own length first: the product of two lengths may underflow.
                Some(if own <= TINY { 0. } else { pairs.map(|(z, a)| (z / own) * (a / other)).sum() })
            }
            Similarity::L2 => Some(-pairs.map(|(z, a)| (z - a).powi(2)).sum::<f64>().sqrt()),
        }
    }

    /// What rounding in `z` and `anchor` is measured against: 1 for cosines, the longer of the two for distances.
    pub(crate) fn size(self, z: &[f32], anchor: &[f32]) -> f64 {
        match self {
            Similarity::Cosine => 0.,
            Similarity::L2 => length(z).max(length(anchor)),
        }
    }
}

/// The Euclidean length of a row, in f64.
fn length(z: &[f32]) -> f64 {
    z.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

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
            return refuse(format!("has the threshold `{value}`, which is no number"));
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
    fn slopes_agree_with_finite_differences() {
        let (z, a) = ([0.3f32, -1.2, 2.0, 0.9], [1.1f32, 0.2, 0.4, -0.7]);
        for by in [Similarity::Cosine, Similarity::L2] {
            let (_, slope) = by.with_slope(&z, &a).unwrap();
            for i in 0..z.len() {
                let shifted = |h: f32| {
                    let mut z = z;
                    z[i] += h;
                    (by.of(&z, &a).unwrap(), f64::from(z[i]))
                };
                let ((up, x), (down, y)) = (shifted(1e-3), shifted(-1e-3));
                assert!(((up - down) / (x - y) - slope[i]).abs() < 1e-6, "{by:?} {i}");
            }
        }
    }

    #[test]
    fn known_values_and_the_places_without_a_slope() {
        let (cosine, l2) = (Similarity::Cosine, Similarity::L2);
        assert!((cosine.of(&[1., 1.], &[0., 5.]).unwrap() - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(l2.of(&[4., 0.], &[1., 4.]), Some(-5.));
        // At the anchor: the largest similarity there is, and flat.
        let z = [0.3f32, -0.7, 0.1];
        let (value, slope) = cosine.with_slope(&z, &z).unwrap();
        assert!((value - 1.).abs() < 1e-12 && slope.iter().all(|s| s.abs() < 1e-12), "{value} {slope:?}");
        assert_eq!(l2.with_slope(&z, &z).unwrap(), (0., vec![0.; 3]));
        // Length 0, and lengths whose product underflows.
        assert_eq!(cosine.with_slope(&[0., 0.], &[1., 2.]).unwrap(), (0., vec![0., 0.]));
        assert_eq!(cosine.of(&[1., 2.], &[0., 0.]), None);
        let tiny = cosine.of(&[1e-25, 0.], &[2e-25, 0.]).unwrap();
        assert!((tiny - 1.).abs() < 1e-9, "{tiny}");
        assert_eq!((cosine.of(&[f32::NAN], &[1.]), l2.of(&[1., 2.], &[1.])), (None, None));
    }

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
            ("away:l2=far", "no number"),
        ] {
            let error = AimSpec::parse(text).unwrap_err();
            assert!(error.kind == crate::Kind::Usage && error.to_string().contains(part), "{text}: {error}");
        }
    }
}
