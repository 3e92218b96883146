//! Error per corruption and severity, and the means made of it (Hendrycks and Dietterich 2019, arXiv 1903.12261).

use robust_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Top-1 error of one corruption, mildest severity first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorruptionLine {
    pub corruption: String,
    pub severities: Vec<usize>,
    pub errors: Vec<f64>,
}

/// What one model does on one suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Where the images come from: `published` files, or `generated` with this seed.
    pub source: ImageSource,
    pub suite: String,
    /// Digest of the clean data set.
    pub data: String,
    pub clean: f64,
    pub lines: Vec<CorruptionLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    Published,
    Generated { seed: u64 },
}

/// The 15 whose errors make mCE.
pub const TEST: [&str; 15] = [
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
];

/// AlexNet's errors on the published ImageNet-C, severities 1 to 5, in the order of [`TEST`].
const ALEXNET: [[f64; 5]; 15] = [
    [0.69528, 0.82542, 0.93554, 0.98138, 0.99452],
    [0.71224, 0.85108, 0.93574, 0.98182, 0.99146],
    [0.78374, 0.89808, 0.9487, 0.9872, 0.99548],
    [0.65624, 0.73202, 0.85036, 0.91364, 0.94714],
    [0.64308, 0.75054, 0.88806, 0.91622, 0.93344],
    [0.5843, 0.70048, 0.82108, 0.8975, 0.92638],
    [0.70008, 0.76992, 0.80784, 0.84198, 0.87198],
    [0.71726, 0.88392, 0.86468, 0.9187, 0.94952],
    [0.6139, 0.79734, 0.8879, 0.89942, 0.9343],
    [0.67474, 0.7605, 0.84378, 0.8726, 0.945],
    [0.4514, 0.48502, 0.54048, 0.62166, 0.7244],
    [0.64548, 0.7615, 0.88874, 0.9776, 0.9927],
    [0.52596, 0.70116, 0.55686, 0.64076, 0.80554],
    [0.52218, 0.5462, 0.73728, 0.87092, 0.91262],
    [0.51002, 0.54718, 0.57294, 0.65458, 0.74778],
];
const ALEXNET_CLEAN: f64 = 0.435;

/// AlexNet on the published ImageNet-C, as three public programs agree.
pub fn alexnet() -> Errors {
    let line = |(name, errors): (&&str, &[f64; 5])| CorruptionLine {
        corruption: name.to_string(),
        severities: (1..=5).collect(),
        errors: errors.to_vec(),
    };
    Errors {
        source: ImageSource::Published,
        suite: "imagenet-c".to_string(),
        data: String::new(),
        clean: ALEXNET_CLEAN,
        lines: TEST.iter().zip(&ALEXNET).map(line).collect(),
    }
}

impl CorruptionLine {
    /// Mean over the severities.
    pub fn mean(&self) -> f64 {
        self.errors.iter().sum::<f64>() / self.errors.len().max(1) as f64
    }
}

impl Errors {
    /// Lines that count in means: not those kept for validation, not stand-ins.
    pub fn counted(&self) -> impl Iterator<Item = &CorruptionLine> {
        let hendrycks = matches!(self.suite.as_str(), "imagenet-c" | "cifar-c");
        self.lines.iter().filter(move |l| !hendrycks || TEST.contains(&l.corruption.as_str()))
    }

    /// Unweighted mean error over corruptions and severities: mean corruption accuracy is one minus it. `None` when no
    /// line counts.
    pub fn mean(&self) -> Option<f64> {
        let means: Vec<f64> = self.counted().map(CorruptionLine::mean).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    }

    /// Mean over the 15 test corruptions of the error summed over severities, divided by the reference's (mCE), and the
    /// same of the errors beyond the clean one (relative mCE). As shares: 1 is the reference.
    ///
    /// # Errors
    /// Kind `Usage` where the two are not comparable, saying why.
    pub fn against(&self, reference: &Errors) -> Result<(f64, f64)> {
        let refuse = |why: String| Err(Error::usage(format!("not comparable: {why}")));
        if self.suite != reference.suite {
            return refuse(format!("the suites are {} and {}", self.suite, reference.suite));
        }
        if self.source != reference.source {
            return refuse(format!("the images are {} and {}", source(self.source), source(reference.source)));
        }
        // The table of the paper names no digest: its images are those of the published archive.
        if !reference.data.is_empty() && self.data != reference.data {
            return refuse("the clean data sets differ".to_string());
        }
        let wanted: Vec<&str> = match self.suite.as_str() {
            "imagenet-c" | "cifar-c" => TEST.to_vec(),
            _ => reference.lines.iter().map(|l| l.corruption.as_str()).collect(),
        };
        let (mut ratio, mut relative) = (0., 0.);
        for name in &wanted {
            let find = |e: &'_ Errors| e.lines.iter().find(|l| l.corruption == *name).cloned();
            let (Some(own), Some(theirs)) = (find(self), find(reference)) else {
                return refuse(format!("{name} is missing"));
            };
            if own.severities != theirs.severities {
                return refuse(format!("{name} has severities {:?} and {:?}", own.severities, theirs.severities));
            }
            let sum = |l: &CorruptionLine, clean: f64| l.errors.iter().map(|e| e - clean).sum::<f64>();
            ratio += sum(&own, 0.) / sum(&theirs, 0.);
            relative += sum(&own, self.clean) / sum(&theirs, reference.clean);
        }
        let count = wanted.len() as f64;
        if !(ratio.is_finite() && relative.is_finite()) {
            return refuse("the reference makes no errors somewhere".to_string());
        }
        Ok((ratio / count, relative / count))
    }
}

fn source(source: ImageSource) -> String {
    match source {
        ImageSource::Published => "published files".to_string(),
        ImageSource::Generated { seed } => format!("generated with seed {seed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alexnet_against_itself_is_one_and_its_means_are_the_published_ones() {
        let a = alexnet();
        let (mce, relative) = a.against(&a).unwrap();
        assert!((mce - 1.).abs() < 1e-12 && (relative - 1.).abs() < 1e-12);
        let means: Vec<f64> = a.lines.iter().map(|l| 100. * l.mean()).collect();
        let published = [
            88.6428, 89.4468, 92.2640, 81.9880, 82.6268, 78.5948, 79.8360, 86.6816, 82.6572, 81.9324, 56.4592, 85.3204,
            64.6056, 71.7840, 60.6500,
        ];
        assert!(means.iter().zip(published).all(|(a, b)| (a - b).abs() < 6e-4), "{means:?}");
    }

    #[test]
    fn half_of_alexnets_errors_are_half_its_mce() {
        let a = alexnet();
        let mut b = a.clone();
        b.clean /= 2.;
        b.lines.iter_mut().for_each(|l| l.errors.iter_mut().for_each(|e| *e /= 2.));
        let (mce, relative) = b.against(&a).unwrap();
        assert!((mce - 0.5).abs() < 1e-12 && (relative - 0.5).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_comparable_is_refused_with_the_reason() {
        let a = alexnet();
        let why = |change: &dyn Fn(&mut Errors)| {
            let mut b = a.clone();
            change(&mut b);
            b.against(&a).unwrap_err().message
        };
        assert!(
            why(&|b| b.source = ImageSource::Generated { seed: 0 }).contains("generated with seed 0 and published")
        );
        assert!(why(&|b| b.lines[8].corruption = "frost_procedural".into()).contains("frost is missing"));
        assert!(why(&|b| b.lines[3].severities = vec![1, 2, 3, 4]).contains("defocus_blur"));
        assert!(why(&|b| b.suite = "cifar-c".into()).contains("suites"));
        let mut own = a.clone();
        own.data = "x".into();
        assert!(own.against(&Errors { data: "y".into(), ..a.clone() }).is_err());
    }

    #[test]
    fn stand_ins_and_validation_corruptions_never_enter_the_mean() {
        let mut a = alexnet();
        let mean = a.mean().unwrap();
        for name in ["frost_procedural", "spatter"] {
            a.lines.push(CorruptionLine { corruption: name.into(), severities: vec![1], errors: vec![0.] });
        }
        assert_eq!(a.mean(), Some(mean));
    }
}
