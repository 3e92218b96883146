//! Probes of the gradient itself, before any attack: is there one, does it lead anywhere, is it the derivative, does it keep
//! its direction over a small step.

use super::{Code, Finding};
use crate::eval::clean::row_keys;
use candle_core::{Device, Tensor};
use robust_core::{Batch, Draw, Goal, Model, Objective, Result, Site, stream, take, to_host};

/// Share of the rows from which on a fault is not an accident.
const MANY: f64 = 0.1;
/// Relative error from which on a gradient is not the derivative; a kink between the two points explains less.
const WRONG: f64 = 0.5;
/// Share of rows that must show it.
const OFTEN: f64 = 0.3;
/// The half width of little noise, as a share of the domain: one level of an 8-bit pixel.
const LITTLE: f64 = 1. / 255.;
/// Mean cosine between gradients at points that little noise apart, below which the direction is lost.
const TURNED: f64 = 0.25;
/// Mean relative change of the margin under uniform noise of half width 4/255, from which on predictions are unstable.
const SHAKEN: f64 = 0.5;
/// Draws of noise per sample.
const DRAWS: u64 = 4;

/// Looks at the gradients of the margin and of cross-entropy on the labelled samples of a batch that are classified
/// rightly. About ten forwards and six backwards a sample; models without gradients are told so by their card and pass.
///
/// # Errors
/// Those of the model's forward; a gradient that cannot be had is a finding.
pub fn examine(model: &dyn Model, batch: &Batch) -> Result<Vec<Finding>> {
    let Some(probe) = Probe::new(model, batch)? else { return Ok(vec![]) };
    let mut found = vec![];
    if probe.k < 4 {
        let text = format!("{} classes: the DLR loss needs 3, its targeted form 4", probe.k);
        found.push(
            Finding::new(Code::FewClasses, text, "AutoAttack uses margins in their place")
                .with("classes", probe.k as f64),
        );
    }
    if model.card().access < robust_core::Access::Gradient {
        return Ok(found);
    }
    let here = match probe.slope(&probe.x, &Objective::Margin, 0) {
        Ok(here) => here,
        Err(e) => {
            let advice =
                "give attacks a differentiable stand-in (`--bpda MODEL`), or use attacks that need scores only";
            found.push(Finding::new(Code::NoGradient, e.message, advice));
            return Ok(found);
        }
    };
    found.extend(probe.presence(&here)?);
    found.extend(probe.saturation(&here)?);
    // Noise of the model's own would be blamed on the gradient.
    if !model.card().stochastic && probe.repeats(&here)? {
        found.extend(probe.derivative(&here)?);
        found.extend(probe.direction(&here)?);
        found.extend(probe.stability(&here)?);
    }
    Ok(found)
}

/// The objective and its gradient per row.
pub(crate) struct Slope {
    /// `[n, k]`, flat.
    pub scores: Vec<f32>,
    loss: Vec<f64>,
    pub dx: Vec<Vec<f32>>,
    /// Every entry of the slope in the scores is zero.
    flat: Vec<bool>,
}

/// One forward and one backward a row; higher is worse for the model, as attacks climb it.
pub(crate) fn slope(
    model: &dyn Model,
    (ids, x): (&[u64], &Tensor),
    goal: &Goal,
    objective: &Objective,
    turn: u64,
) -> Result<Slope> {
    let keys = row_keys(ids);
    let draw = Draw { seed: 0, stream: stream("doctor/gradient"), turn, rows: &keys };
    let mut trace = model.trace(x, &draw, &[])?;
    let (scores, width) = to_host(trace.output())?;
    let climbs: Vec<_> = scores.chunks(width).enumerate().map(|(i, z)| objective.climb(goal, i, i, z)).collect();
    let seed: Vec<f32> = climbs.iter().flat_map(|c| c.slope.iter().map(|s| *s as f32)).collect();
    let seed = Tensor::from_vec(seed, (ids.len(), width), &Device::Cpu)?;
    let (dx, row) = to_host(&trace.pull(&[(Site::Output, seed)])?)?;
    Ok(Slope {
        loss: climbs.iter().map(|c| c.loss).collect(),
        flat: climbs.iter().map(|c| c.slope.iter().all(|s| *s == 0.)).collect(),
        dx: dx.chunks(row.max(1)).map(<[f32]>::to_vec).collect(),
        scores,
    })
}

/// What a difference says of the gradient.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Explained,
    /// The margin changed by more than the gradient says.
    Leapt,
    /// By less, or the other way.
    Promised,
}

struct Probe<'a> {
    model: &'a dyn Model,
    x: Tensor,
    ids: Vec<u64>,
    goal: Goal,
    k: usize,
    domain: (f32, f32),
}

impl<'a> Probe<'a> {
    fn new(model: &'a dyn Model, batch: &Batch) -> Result<Option<Self>> {
        let k = model.card().output.width();
        let (Some(labels), Some(domain)) = (&batch.labels, model.card().input.domain) else { return Ok(None) };
        let goal = Goal::Untargeted(labels.clone());
        let keys = row_keys(&batch.ids);
        let draw = Draw { seed: 0, stream: stream("doctor"), turn: 0, rows: &keys };
        let (scores, width) = to_host(&model.forward(&batch.x, &draw)?)?;
        let right = |i: &u32| {
            let z = &scores[*i as usize * width..][..width];
            goal.judge(*i as usize, z).is_some_and(|p| p.margin > 0.)
        };
        let rows: Vec<u32> = (0..batch.len() as u32).filter(right).collect();
        if rows.is_empty() || k < 2 {
            return Ok(None);
        }
        let pick = |i: &u32| *i as usize;
        Ok(Some(Self {
            model,
            x: take(&batch.x, &rows)?,
            ids: rows.iter().map(|i| batch.ids[pick(i)]).collect(),
            goal: Goal::Untargeted(rows.iter().map(|i| labels[pick(i)]).collect()),
            k,
            domain,
        }))
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn slope(&self, x: &Tensor, objective: &Objective, turn: u64) -> Result<Slope> {
        slope(self.model, (&self.ids, x), &self.goal, objective, turn)
    }

    /// Scores of the rows, flat, and how many each has.
    fn scores(&self, x: &Tensor) -> Result<(Vec<f32>, usize)> {
        let keys = row_keys(&self.ids);
        let draw = Draw { seed: 0, stream: stream("doctor/margin"), turn: 0, rows: &keys };
        to_host(&self.model.forward(x, &draw)?)
    }

    fn margins(&self, x: &Tensor) -> Result<Vec<f64>> {
        let (scores, width) = self.scores(x)?;
        let loss = |(i, z): (usize, &[f32])| Objective::Margin.climb(&self.goal, i, i, z).loss;
        Ok(scores.chunks(width).enumerate().map(loss).collect())
    }

    /// The best class besides the label's, the first of equals, as the margin has it.
    fn rivals(&self, here: &Slope) -> Vec<usize> {
        let best = |(z, y): (&[f32], &u32)| {
            let others = (0..z.len()).filter(|i| *i != *y as usize);
            others.reduce(|best, i| if z[i] > z[best] { i } else { best }).unwrap_or_default()
        };
        here.scores.chunks(self.k).zip(self.goal.classes()).map(best).collect()
    }

    /// By how much these classes are ahead of the labels'.
    fn leads(&self, x: &Tensor, rivals: &[usize]) -> Result<Vec<f64>> {
        let (scores, width) = self.scores(x)?;
        let lead = |((z, y), rival): ((&[f32], &u32), &usize)| f64::from(z[*rival]) - f64::from(z[*y as usize]);
        Ok(scores.chunks(width).zip(self.goal.classes()).zip(rivals).map(lead).collect())
    }

    /// The rows moved by uniform noise of this half width, within the domain.
    fn shaken(&self, half: f64, turn: u64) -> Result<Tensor> {
        let keys = row_keys(&self.ids);
        let draw = Draw { seed: 0, stream: stream("doctor/noise"), turn, rows: &keys };
        let half = half as f32 * (self.domain.1 - self.domain.0);
        let noise = draw.uniform(-half, half, &self.x.dims()[1..], &Device::Cpu)?;
        Ok((&self.x + noise)?.clamp(self.domain.0, self.domain.1)?)
    }

    fn repeats(&self, here: &Slope) -> Result<bool> {
        let again = self.margins(&self.x)?;
        Ok(again.iter().zip(&here.loss).all(|(a, b)| (a - b).abs() <= 1e-4 * (1. + b.abs())))
    }

    fn presence(&self, here: &Slope) -> Result<Option<Finding>> {
        let n = self.len() as f64;
        let share = |s: &Slope, bad: fn(&[f32]) -> bool| s.dx.iter().filter(|g| bad(g)).count() as f64 / n;
        let away = self.slope(&self.shaken(8. * LITTLE, 0)?, &Objective::Margin, 1)?;
        let broken: fn(&[f32]) -> bool = |g| g.iter().any(|v| !v.is_finite());
        let zero: fn(&[f32]) -> bool = |g| g.iter().all(|v| *v == 0.);
        let (b, z) = (share(here, broken).max(share(&away, broken)), share(here, zero).max(share(&away, zero)));
        if b > 0. {
            let text = format!("{:.0} % of the samples have NaN or infinite gradients", 100. * b);
            let advice = "attacks stop there: look for square roots, logarithms and divisions at zero in the model";
            return Ok(Some(Finding::new(Code::NotFiniteGradient, text, advice).with("share", b)));
        }
        let text = format!("the gradient of the margin is exactly zero for {:.0} % of the samples", 100. * z);
        let advice = "white-box attacks see nothing there: attack with scores only (square), smooth the gradient or give a \
                      differentiable stand-in (`robust doctor --adaptive`, `--bpda MODEL`)";
        Ok((z > MANY).then(|| Finding::new(Code::ZeroGradient, text, advice).with("share", z)))
    }

    fn saturation(&self, here: &Slope) -> Result<Option<Finding>> {
        let single = self.slope(&self.x, &Objective::CeSingle, 0)?;
        let lost = (0..self.len()).filter(|&i| single.flat[i] && !here.flat[i]).count() as f64 / self.len() as f64;
        let mut gaps: Vec<f64> = here.loss.iter().map(|l| -l).collect();
        gaps.sort_by(f64::total_cmp);
        let gap = gaps[gaps.len() / 2];
        let text = format!(
            "in single precision cross-entropy has no slope for {:.0} % of the samples (median margin {})",
            100. * lost,
            if gap < 1e6 { format!("{gap:.0}") } else { format!("{gap:.1e}") }
        );
        let advice = "tools that climb cross-entropy in f32 overstate this model; here the slope is kept, and the margin \
                      losses do not saturate";
        let finding = Finding::new(Code::SaturatedLoss, text, advice).with("share", lost).with("median_margin", gap);
        Ok((lost > MANY).then_some(finding))
    }

    /// Where differences disagree with the gradient. One that is larger than the gradient says may have leapt over a bend, as in
    /// a saturated softmax: a step a tenth as long has to say the same. One that is smaller, or of the other sign, means that the
    /// gradient promises what does not happen, however right it is at the point itself (a fast wave).
    fn derivative(&self, here: &Slope) -> Result<Option<Finding>> {
        let h = 1e-3 * f64::from(self.domain.1 - self.domain.0);
        let share = |seen: &[Option<Step>]| {
            let wrong = |step: &&Step| **step != Step::Explained;
            let asked = seen.iter().flatten().count();
            if asked > 0 { seen.iter().flatten().filter(wrong).count() as f64 / asked as f64 } else { 0. }
        };
        let mut seen = self.differs(here, h)?;
        if share(&seen) > OFTEN {
            let both = |(a, b): (&Option<Step>, Option<Step>)| match ((*a)?, b?) {
                (Step::Leapt, Step::Explained) => Some(Step::Explained),
                (first, _) => Some(first),
            };
            seen = seen.iter().zip(self.differs(here, h / 10.)?).map(both).collect();
        }
        let share = share(&seen);
        let text = format!("for {:.0} % of the samples the gradient is not the margin's derivative", 100. * share);
        let advice = "a step in the model is not differentiated as it is computed (rounding, thresholds, a detached or \
                      stand-in gradient): attack with scores only as well, and compare";
        Ok((share > OFTEN).then(|| Finding::new(Code::GradientMismatch, text, advice).with("share", share)))
    }

    /// Of every row, what the central difference along the gradient's own direction (the largest entry moves by `h`) says of
    /// it; `None` where the move is lost in rounding.
    fn differs(&self, here: &Slope, h: f64) -> Result<Vec<Option<Step>>> {
        let along: Vec<f32> = here.dx.iter().flat_map(|g| scaled(g, h)).collect();
        let along = Tensor::from_vec(along, self.x.dims(), &Device::Cpu)?;
        // The class that is the runner-up here stays the one that is compared with: where another takes its place between the two
        // points the margin has a kink, and no gradient explains that.
        let rivals = self.rivals(here);
        let (up, down) = (self.leads(&(&self.x + &along)?, &rivals)?, self.leads(&(&self.x - &along)?, &rivals)?);
        let row = |(i, g): (usize, &Vec<f32>)| {
            let predicted: f64 = scaled(g, h).zip(g).map(|(d, g)| f64::from(d) * f64::from(*g)).sum();
            let measured = (up[i] - down[i]) / 2.;
            // Below rounding nothing can be measured: that of the margin, and that of the scores it is a difference of.
            let scores = &here.scores[i * self.k..][..self.k];
            let top = scores.iter().filter(|z| z.is_finite()).fold(0., |a, z| f64::max(a, f64::from(z.abs())));
            let rounding = (1e-5 * (1. + here.loss[i].abs())).max(4. * f64::from(f32::EPSILON) * top);
            let size = predicted.abs().max(measured.abs());
            (size > rounding).then(|| match (predicted - measured).abs() > WRONG * size {
                false => Step::Explained,
                true if measured > predicted => Step::Leapt,
                true => Step::Promised,
            })
        };
        Ok(here.dx.iter().enumerate().map(row).collect())
    }

    fn direction(&self, here: &Slope) -> Result<Option<Finding>> {
        // Toward one and the same class: that noise makes another class the runner-up turns no gradient.
        let toward = Objective::MarginTargeted(self.rivals(here).into_iter().map(|r| r as u32).collect());
        let mut cosines = vec![];
        for turn in 0..DRAWS {
            let there = self.slope(&self.shaken(LITTLE, 10 + turn)?, &toward, 0)?;
            cosines.extend(here.dx.iter().zip(&there.dx).filter_map(|(a, b)| cosine(a, b)));
        }
        if cosines.is_empty() {
            return Ok(None);
        }
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        let text = format!("one pixel level of noise turns the gradient: mean cosine {mean:.2}");
        let advice = "gradients are shattered: average them over noise (`robust doctor --adaptive` does) and compare with \
                      attacks that need scores only";
        Ok((mean < TURNED).then(|| Finding::new(Code::ShatteredGradient, text, advice).with("mean_cosine", mean)))
    }

    fn stability(&self, here: &Slope) -> Result<Option<Finding>> {
        let mut sum = 0.;
        for turn in 0..DRAWS {
            let there = self.margins(&self.shaken(4. * LITTLE, 20 + turn)?)?;
            let change = |(a, b): (&f64, &f64)| ((a - b).abs() / b.abs().max(1e-12)).min(1.);
            sum += there.iter().zip(&here.loss).map(change).sum::<f64>();
        }
        let mean = sum / (DRAWS * self.len() as u64) as f64;
        let text = format!("noise of 4/255 changes the margin by {:.0} % on average", 100. * mean);
        let advice = "the loss landscape is rough: average gradients over noise, and use attacks that need scores only";
        Ok((mean > SHAKEN).then(|| Finding::new(Code::UnstablePrediction, text, advice).with("mean_change", mean)))
    }
}

/// The gradient made to have a largest entry of `h`.
fn scaled(g: &[f32], h: f64) -> impl Iterator<Item = f32> {
    let top = g.iter().fold(0f32, |m, v| m.max(v.abs()));
    let by = if top > 0. { h / f64::from(top) } else { 0. };
    g.iter().map(move |v| (f64::from(*v) * by) as f32)
}

fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    (norm > 0.).then(|| dot(a, b) / norm)
}
