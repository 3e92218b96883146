//! What an encoder's embeddings are like, how far a disturbance moves them, and where the error of a head on them comes
//! from: numbers beside an accuracy, most of them without labels.

use super::measured::{Attacked, Disturbance, Level, OfHead, RANK_SIDE, Report, Risk, SCHEMA, Tilted};
use crate::encoder::heads::{Training, embed};
use crate::encoder::label_free;
use crate::eval::attacked::attack_batch;
use crate::eval::clean::{exact, judge_clean, stack};
use crate::eval::plan::spread;
use crate::eval::trial::Trial;
use candle_core::{DType, Device, Tensor};
use robust_attacks::resolve;
use robust_benchmarks::subset;
use robust_core::{Aim, AimKind, Batch, Dataset, Error, Norm, Result, Similarity, Target, Verdict, to_host};
use robust_models::probe::measures::{self, Flips, Steps, Tilting};
use robust_models::probe::{Features, Fit, Method, accuracy, fit};
use robust_models::{Head, LoadedModel};

/// Samples that go through the encoder at once.
const BATCH: usize = 64;
/// So many times the longest clean embedding none moves: the attack goes on to its end. Much more would leave no digits for
/// the distance itself.
const NEVER: f64 = 1e6;

/// How hard images are disturbed.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub norm: Norm,
    /// The largest disturbance, in units of pixels in `[0,1]`.
    pub eps: f64,
    /// Equal steps from nothing to it.
    pub levels: u32,
    /// Steps of PGD at each level.
    pub steps: u64,
    /// Neighbours that vote, each with `exp(cos / temperature)`.
    pub k: usize,
    pub temperature: f64,
    pub seed: u64,
    /// Samples attacked at once; never changes a result.
    pub batch: usize,
}

/// One disturbance at all levels: embeddings chunk by chunk.
struct Moved {
    kind: &'static str,
    specs: Vec<String>,
    rows: Vec<Vec<Tensor>>,
}

/// Embeddings of the samples `ids` and of their disturbed images. `tick` hears of every chunk and may stop the work.
///
/// # Errors
/// Kind `Usage` for settings that make no sense, kind `Load` for samples that cannot be read.
pub fn measure(
    model: &LoadedModel,
    data: &dyn Dataset,
    ids: &[u64],
    settings: &Settings,
    mut tick: impl FnMut(usize) -> Result<()>,
) -> Result<Report> {
    check(settings, ids.len())?;
    let target = Target::white_box(model.model.clone());
    let suffix = settings.norm.suffix();
    let at = |level: u32| settings.eps * f64::from(level) / f64::from(settings.levels);
    let spec = |of: &dyn Fn(f64) -> String| (1..=settings.levels).map(|l| of(at(l))).collect::<Vec<String>>();
    let mut moved = [
        Moved { kind: "noise", specs: spec(&|e| format!("uniform-noise-{suffix}:eps={e},draws=1")), rows: vec![] },
        Moved { kind: "pgd", specs: spec(&|e| format!("pgd-{suffix}:eps={e},steps={}", settings.steps)), rows: vec![] },
    ];
    moved.iter_mut().for_each(|m| m.rows = vec![vec![]; m.specs.len()]);
    let chunks = || ids.chunks(settings.batch.clamp(1, BATCH));
    // What can fail on the clean embeddings does so before the long part.
    let (mut clean, mut labels) = (vec![], vec![]);
    for chunk in chunks() {
        tick(0)?;
        let batch = load(model, data, chunk)?;
        labels.extend(batch.labels.iter().flatten().copied());
        clean.push(exact(model.model.as_ref(), &batch.ids, &batch.x, settings.seed)?);
    }
    let clean = Tensor::cat(&clean, 0)?;
    let labels = Some(labels).filter(|l| l.len() == ids.len());
    let pointed = Pointed::of(&clean, labels.as_deref())?;
    let uniformity = pointed.usable().then(|| measures::uniformity(&pointed.clean)).transpose()?;
    let effective_rank = rank(&clean)?;
    let aim = far(&clean)?;
    for chunk in chunks() {
        tick(chunk.len())?;
        let batch = load(model, data, chunk)?;
        for moved in &mut moved {
            for (spec, rows) in moved.specs.iter().zip(&mut moved.rows) {
                rows.push(disturbed(&target, data, &batch, spec, aim, settings.seed)?);
            }
        }
    }
    let told = |m: &Moved| summary(m, &pointed, settings, at);
    Ok(Report {
        schema: SCHEMA,
        model: model.name.clone(),
        dataset: data.card().name.clone(),
        n: ids.len(),
        zero_embeddings: ids.len() - pointed.at.len(),
        uniformity,
        effective_rank,
        // Without two samples of one class there is none.
        tolerance: labels.as_ref().and_then(|l| measures::tolerance(&Features::new(&clean, l.clone()).ok()?).ok()),
        norm: settings.norm.to_string(),
        disturbances: moved.iter().map(told).collect::<Result<_>>()?,
        head: None,
    })
}

fn check(settings: &Settings, n: usize) -> Result<()> {
    if n < 2 {
        return Err(Error::usage(format!("{n} samples have no neighbours")).hint("take more: --limit 500"));
    }
    if settings.levels == 0 || settings.levels > 100 {
        return Err(Error::usage(format!("{} levels are not between 1 and 100", settings.levels)));
    }
    if settings.k == 0 || !(settings.temperature > 0. && settings.temperature.is_finite()) {
        let (k, t) = (settings.k, settings.temperature);
        return Err(Error::usage(format!("k and temperature must be positive, got {k} and {t}")));
    }
    Ok(())
}

/// Every one of these samples.
fn load(model: &LoadedModel, data: &dyn Dataset, ids: &[u64]) -> Result<Batch> {
    let loaded = data.load(ids, &model.card.view(), &Device::Cpu)?;
    if let Some((id, why)) = loaded.failed.first() {
        return Err(Error::load(format!("sample {id} of {}", data.card().name), why));
    }
    loaded.batch.ok_or_else(|| Error::load(&data.card().name, "it gave no images"))
}

fn rank(clean: &Tensor) -> Result<Option<f64>> {
    let (n, d) = clean.dims2()?;
    if n.min(d) > RANK_SIDE {
        return Ok(None);
    }
    // It fails where all embeddings are zero, and no rank is right then.
    Ok(measures::effective_rank(clean).ok())
}

/// The goal of going as far away as possible: a distance that no embedding reaches.
fn far(clean: &Tensor) -> Result<Aim> {
    let lengths = clean.to_dtype(DType::F64)?.sqr()?.sum(1)?.sqrt()?.to_vec1::<f64>()?;
    let longest = lengths.into_iter().filter(|l| l.is_finite() && *l > 0.).fold(0., f64::max);
    let distance = NEVER * if longest > 0. { longest } else { 1. };
    Ok(Aim::new(AimKind::Away, Similarity::L2, -distance))
}

/// Embeddings of the points to which an attack moves a batch, as far from the clean ones as it can.
fn disturbed(target: &Target, data: &dyn Dataset, batch: &Batch, spec: &str, aim: Aim, seed: u64) -> Result<Tensor> {
    let ready = Trial::Attack(resolve(spec, target.deployed.card())?.aimed(aim)?);
    let clean = label_free::judge_clean(target, data, batch, aim, seed)?;
    if let Some((id, why)) = clean.iter().find_map(|c| Some((c.id, c.fault.as_ref()?))) {
        return Err(Error::load(format!("sample {id}"), why));
    }
    let judged = attack_batch(target, &ready, batch, &clean, seed, BATCH)?;
    let (pixels, width) = to_host(&batch.x)?;
    let points = judged.into_iter().zip(pixels.chunks(width.max(1)));
    let points: Vec<Vec<f32>> = points.map(|(j, x)| j.point.unwrap_or_else(|| x.to_vec())).collect();
    exact(target.deployed.as_ref(), &batch.ids, &stack(&points, &batch.x.dims()[1..])?, seed)
}

/// The clean embeddings that are not zero.
struct Pointed {
    /// Their places.
    at: Vec<usize>,
    clean: Tensor,
    labels: Option<Vec<u32>>,
}

impl Pointed {
    fn of(clean: &Tensor, labels: Option<&[u32]>) -> Result<Self> {
        let all = Features { x: clean.to_dtype(DType::F64)?, labels: vec![] };
        let at = all.pointed()?;
        let labels = labels.map(|l| at.iter().map(|&i| l[i]).collect());
        let mut pointed = Self { at, clean: clean.clone(), labels };
        pointed.clean = pointed.of_all(clean)?;
        Ok(pointed)
    }

    /// Whether there are neighbours.
    fn usable(&self) -> bool {
        self.at.len() > 1
    }

    /// The same rows of other embeddings.
    fn of_all(&self, x: &Tensor) -> Result<Tensor> {
        if self.at.is_empty() {
            return Ok(x.clone());
        }
        let ids: Vec<u32> = self.at.iter().map(|&i| i as u32).collect();
        Ok(x.index_select(&Tensor::from_vec(ids, self.at.len(), x.device())?, 0)?)
    }

    fn level(&self, eps: f64, moved: &Tensor, settings: &Settings) -> Result<Level> {
        if !self.usable() {
            let (displacement, cosine, alignment, nearest_flips, knn_flips) = (None, None, None, None, None);
            return Ok(Level { eps, displacement, cosine, alignment, nearest_flips, knn_flips });
        }
        let (clean, moved) = (&self.clean, self.of_all(moved)?);
        let measures::Displacement { relative, cosine } = measures::displacement(clean, &moved)?;
        let Flips { nearest, votes } =
            measures::flips(clean, &moved, self.labels.as_deref(), settings.k, settings.temperature)?;
        let alignment = Some(measures::alignment(clean, &moved)?);
        Ok(Level { eps, displacement: relative, cosine, alignment, nearest_flips: Some(nearest), knn_flips: votes })
    }
}

fn summary(moved: &Moved, clean: &Pointed, settings: &Settings, at: impl Fn(u32) -> f64) -> Result<Disturbance> {
    let joined = moved.rows.iter().map(|r| Ok(Tensor::cat(r, 0)?)).collect::<Result<Vec<Tensor>>>()?;
    let levels = (1..).zip(&joined).map(|(level, z)| clean.level(at(level), z, settings)).collect::<Result<_>>()?;
    let mut all = vec![clean.clean.clone()];
    for moved in &joined {
        all.push(clean.of_all(moved)?);
    }
    let steps = clean.usable().then(|| measures::steps(&all)).transpose()?;
    let of = |part: fn(&Steps) -> f64| steps.as_ref().map(part);
    let (rmqm_style, mean_step, step_variation) = (of(|s| s.summary), of(|s| s.length), of(|s| s.variation));
    Ok(Disturbance { kind: moved.kind, levels, rmqm_style, mean_step, step_variation })
}

/// Where the error of a head comes from, how its boundaries are tilted, and the same error under an attack.
///
/// # Errors
/// Those of fitting, of the attack's spec, and of data that cannot be read.
pub fn of_head(
    encoder: &LoadedModel,
    (text, method): (&str, &Method),
    on: &Training,
    (test, test_ids): (&dyn Dataset, &[u64]),
    attack: Option<&str>,
    seed: u64,
) -> Result<OfHead> {
    let pick = on.limit.map_or(subset::Pick::All, subset::Pick::Limit);
    let ids = subset::choose(on.data.card().samples, &pick)?;
    let train = embed(encoder.model.as_ref(), on.data, on.source, &ids)?;
    // Of each class, or labels in a cycle would leave one out.
    let (rest, held) = train.split();
    if held.is_empty() {
        return Err(Error::usage(format!(
            "{} training samples are too few to hold a fifth of each class out",
            ids.len()
        ))
        .hint("take more: --train-limit"));
    }
    let new = embed(encoder.model.as_ref(), test, &test.card().name, test_ids)?;
    let Fit { head, .. } = fit(&train, method)?;
    let Fit { head: partial, .. } = fit(&train.rows(&rest)?, method)?;
    let error = |head: &Head, on: &Features| Ok::<f64, Error>(1. - accuracy(head, on)?);
    let risk = Risk::of([error(&head, &train)?, error(&partial, &train.rows(&held)?)?, error(&head, &new)?]);
    let tilting = match &head {
        Head::Linear { .. } => {
            let Tilting { angle, strength, distance } = measures::tilting(&head, &train)?;
            Some(Tilted { angle_degrees: angle, strength, distance })
        }
        _ => None,
    };
    let attacked = match attack {
        None => None,
        Some(spec) => {
            let n = test_ids.len().min(held.len());
            let held: Vec<u64> = held.iter().map(|&i| ids[i]).collect();
            let under = |head: &Head, data: &dyn Dataset, ids: &[u64]| {
                attacked(encoder, head, data, &spread(ids, n), spec, seed)
            };
            let errors =
                [under(&head, on.data, &ids)?, under(&partial, on.data, &held)?, under(&head, test, test_ids)?];
            Some(Attacked { attack: spec.to_string(), n, risk: Risk::of(errors) })
        }
    };
    Ok(OfHead { method: text.to_string(), train_samples: ids.len(), risk, attacked, tilting })
}

/// Share of samples that are wrong already or fooled.
fn attacked(encoder: &LoadedModel, head: &Head, data: &dyn Dataset, ids: &[u64], spec: &str, seed: u64) -> Result<f64> {
    let model = encoder.with_head(head, &encoder.name)?;
    let ready = Trial::attack(spec, &model.card)?;
    let target = Target::white_box(model.model.clone());
    let mut held = 0;
    for chunk in ids.chunks(BATCH) {
        let Some(batch) = data.load(chunk, &model.card.view(), &Device::Cpu)?.batch else { continue };
        let clean = judge_clean(&target, &batch, seed)?;
        let judged = attack_batch(&target, &ready, &batch, &clean, seed, BATCH)?;
        held += judged.iter().filter(|j| j.outcome.verdict == Verdict::Held).count();
    }
    Ok(1. - held as f64 / ids.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_risk_add_up() {
        let risk = Risk::of([0.1, 0.25, 0.2]);
        let sum = risk.usability + risk.probe_generalisation + risk.encoder_generalisation;
        assert!((sum - risk.aggregate).abs() < 1e-15 && risk.encoder_generalisation < 0.);
    }

    #[test]
    fn the_rank_of_many_directions_or_of_none_is_left_out_and_no_embedding_goes_far_enough() {
        let zeros = |n: usize, d: usize| Tensor::zeros((n, d), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(rank(&zeros(RANK_SIDE + 1, RANK_SIDE + 1)).unwrap(), None);
        assert_eq!(rank(&zeros(3, 2)).unwrap(), None);
        let flat = Tensor::ones((3, 2), DType::F32, &Device::Cpu).unwrap();
        assert!((rank(&flat).unwrap().unwrap() - 1.).abs() < 1e-3);
        let aim = |x: &Tensor| far(x).unwrap();
        let away = |distance: f64| Aim::new(AimKind::Away, Similarity::L2, -distance);
        assert_eq!(aim(&zeros(3, 2)), away(1e6));
        let one = Tensor::new(&[[3f32, 4.], [0., 1.]], &Device::Cpu).unwrap();
        assert_eq!(aim(&one), away(5e6));
    }
}
