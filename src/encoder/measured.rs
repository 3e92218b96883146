//! What is measured of an encoder, as numbers and as text.

use serde::Serialize;

pub const SCHEMA: &str = "robust.measure/1";

/// Samples or entries, whichever are fewer, up to which the effective rank takes seconds: its work grows with their cube.
pub const RANK_SIDE: usize = 512;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub model: String,
    pub dataset: String,
    pub n: usize,
    /// Clean embeddings that are zero: they have no direction and no length to measure by, and are left out of every number.
    #[serde(skip_serializing_if = "is_none")]
    pub zero_embeddings: usize,
    /// Wang and Isola 2020: lower is more uniform, -8 to 0. `None` like those below where fewer than two embeddings are not zero.
    pub uniformity: Option<f64>,
    /// Of `min(n, d)` directions (RankMe); `None` above [`RANK_SIDE`] of them, and where all embeddings are zero.
    pub effective_rank: Option<f64>,
    /// Mean cosine within a class; needs labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    pub norm: String,
    pub disturbances: Vec<Disturbance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<OfHead>,
}

/// Noise or PGD of growing strength.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Disturbance {
    /// `noise` or `pgd`.
    pub kind: &'static str,
    pub levels: Vec<Level>,
    /// RMQM-style: mean step over (1 + its coefficient of variation), in mean lengths of clean embeddings.
    pub rmqm_style: Option<f64>,
    pub mean_step: Option<f64>,
    pub step_variation: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Level {
    pub eps: f64,
    /// Mean of `|z' - z| / |z|`.
    pub displacement: Option<f64>,
    pub cosine: Option<f64>,
    /// Mean squared distance of directions, 0 to 4.
    pub alignment: Option<f64>,
    /// Share of samples whose nearest other sample is another one.
    pub nearest_flips: Option<f64>,
    /// Share of samples whose k-NN class is another one; needs labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_flips: Option<f64>,
}

/// What a head says of the encoder under it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfHead {
    pub method: String,
    pub train_samples: usize,
    pub risk: Risk,
    /// The same under attack, on so many samples of each kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attacked: Option<Attacked>,
    /// For linear heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tilting: Option<Tilted>,
}

/// The error on new samples in three parts that add up to it (Dubois, Hashimoto and Liang 2023, arXiv 2302.03068), shares of
/// samples. The paper's fourth part, what the architecture cannot express, is in `usability`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Risk {
    /// Error on the very samples the head was fitted on.
    pub usability: f64,
    /// What is added on training samples that were held out from the head.
    pub probe_generalisation: f64,
    /// What is added on samples that were held out from both.
    pub encoder_generalisation: f64,
    /// Their sum: the error on new samples.
    pub aggregate: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attacked {
    pub attack: String,
    pub n: usize,
    pub risk: Risk,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tilted {
    pub angle_degrees: f64,
    pub strength: f64,
    pub distance: f64,
}

impl Risk {
    /// From errors of a head on its own samples, of one on samples held out from it, and of the first on new ones.
    pub fn of([own, held_out, new]: [f64; 3]) -> Self {
        Self {
            usability: own,
            probe_generalisation: held_out - own,
            encoder_generalisation: new - held_out,
            aggregate: new,
        }
    }
}

fn is_none(n: &usize) -> bool {
    *n == 0
}

/// What is not defined is a dash.
fn number(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| "-".to_string(), |v| format!("{v:.places$}"))
}

/// For people.
pub fn to_text(report: &Report) -> String {
    let mut text = format!(
        "{} on {} samples of {}\n\nuniformity      {:>8}   (-8 to 0; lower is more uniform)\n",
        report.model,
        report.n,
        report.dataset,
        number(report.uniformity, 3)
    );
    if report.zero_embeddings > 0 {
        text += &format!(
            "warning: {} of {} clean embeddings are zero: they have no direction and no length to measure by, and are left out\n",
            report.zero_embeddings, report.n
        );
    }
    text += &match report.effective_rank {
        Some(rank) => format!("effective rank  {rank:8.1}\n"),
        None => {
            format!("effective rank         -   (left out: {RANK_SIDE} samples or entries at most, not all zero)\n")
        }
    };
    if let Some(tolerance) = report.tolerance {
        text += &format!("tolerance       {tolerance:8.3}   (mean cosine within a class)\n");
    }
    for d in &report.disturbances {
        text += &format!(
            "\n{} in {}\n      eps  displacement  cosine  alignment  nearest flips  k-NN flips\n",
            d.kind, report.norm
        );
        for l in &d.levels {
            let flips = l.knn_flips.map_or("-".to_string(), |f| format!("{:.1} %", 100. * f));
            let nearest = l.nearest_flips.map_or("-".to_string(), |f| format!("{:.1} %", 100. * f));
            text += &format!(
                "{:9.5}  {:>12}  {:>6}  {:>9}  {nearest:>13}  {flips:>10}\n",
                l.eps,
                number(l.displacement, 4),
                number(l.cosine, 3),
                number(l.alignment, 4)
            );
        }
        text += &format!(
            "RMQM-style {}: mean step {}, variation {}\n",
            number(d.rmqm_style, 4),
            number(d.mean_step, 4),
            number(d.step_variation, 3)
        );
    }
    report.head.iter().for_each(|head| text += &of_head_to_text(head));
    text
}

fn of_head_to_text(head: &OfHead) -> String {
    let mut text = format!("\nhead {} on {} training samples: error in its parts\n", head.method, head.train_samples);
    let mut line = |name: &str, r: &Risk| {
        text += &format!(
            "{name:10} usability {:5.1} %  + probe generalisation {:+5.1}  + encoder generalisation {:+5.1}  = {:5.1} %\n",
            100. * r.usability,
            100. * r.probe_generalisation,
            100. * r.encoder_generalisation,
            100. * r.aggregate
        );
    };
    line("clean", &head.risk);
    if let Some(a) = &head.attacked {
        line("attacked", &a.risk);
        text += &format!("({} on {} samples of each kind)\n", a.attack, a.n);
    }
    if let Some(t) = &head.tilting {
        text += &format!(
            "boundary tilting: {:.1} degrees, strength {:.2}; mean distance to the boundary {:.3}\n",
            t.angle_degrees, t.strength, t.distance
        );
    }
    text
}
