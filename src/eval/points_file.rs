//! Points made elsewhere: adversarial examples of any other tool, judged under a threat model.
//!
//! # Asks
//! Labels.
//!
//! # Steps
//! `file:PATH,eps=8/255,norm=linf`: the file's row for each sample is asked once. Row `i` belongs to sample `i` of the data set
//! when the file has as many rows, else to the `i`-th sample of the run, in ascending order of ids. Files are .npy, .npz (the
//! array `x`, `x_adv`, `adv` or the only one) and .safetensors, floats in the model's input range or uint8 pixels, channels first
//! or last; labels in them are not read.
//!
//! Other tools reckon in f32, which leaves points at exactly epsilon up to 3e-8 outside. A point outside is moved to the
//! nearest legal one when that changes no entry by more than 1e-6 of the width of the input's range, or when it and the clean image
//! are 8-bit pixels (k/255) whose levels, as whole numbers, lie within epsilon; values that far outside the range
//! itself (-2.98e-8, 1.0000001) are rounding too. What is judged and kept lies inside exactly. The table says how many points were
//! moved and how far.
//!
//! Any other point outside is not judged: its sample counts as failed, not as robust. The table says how many
//! there are and how far the furthest lies, the grade is `unreliable`, and the run ends with exit code 3 unless
//! `--allow-failed` covers them. Rounding to float16 moves pixels by up to 2.4e-4, far beyond the tolerance.
//!
//! # Parameters
//! `project` (default rounding): `true` moves every point into the region, however far outside it lies; `false` moves
//! none, so that only points that are legal to the last bit are judged.
//!
//! # Differs from the paper
//! There is none.
//!
//! # Cost per sample
//! 1 forward, none for a point that is not judged.

use crate::eval::plan::{UNIT, spread};
use candle_core::{Device, Tensor};
use robust_attacks::{Ready, check_entry, resolve_entry};
use robust_benchmarks::data;
use robust_core::{
    Access, Attack, Built, Card, Dataset, Entry, Error, Input, Near, Norm, Oracle, Place, Result, Spec, ThreatModel,
    View, largest_gap, parameters, to_host,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;
use std::path::Path;

/// Which points outside are moved into the region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Project {
    #[default]
    Rounding,
    All,
    None,
}

impl Serialize for Project {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Project::Rounding => to.serialize_str("rounding"),
            Project::All => to.serialize_bool(true),
            Project::None => to.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for Project {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(from)? {
            serde_json::Value::Bool(true) => Ok(Project::All),
            serde_json::Value::Bool(false) => Ok(Project::None),
            value if value == "rounding" => Ok(Project::Rounding),
            _ => Err(D::Error::custom("expected true, false or rounding")),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    project: Project,
}

struct Given {
    rows: Box<dyn Dataset>,
    place: HashMap<u64, u64>,
    project: Project,
}

/// The rows of a file by their number, and why others cannot be read.
type Rows = HashMap<u64, Result<Vec<f32>, String>>;

/// Reads rows as they are: whether their values may be so is for the judge to say.
fn read(file: &dyn Dataset, rows: &[u64], input: &Input) -> Result<Rows> {
    let view = View::from(Input { domain: None, ..input.clone() });
    let loaded = file.load(rows, &view, &Device::Cpu)?;
    let mut read: Rows = loaded.failed.into_iter().map(|(row, why)| (row, Err(why))).collect();
    if let Some(batch) = loaded.batch {
        let (flat, width) = to_host(&batch.x)?;
        let rows = flat.chunks(width.max(1)).map(|x| Ok(x.to_vec()));
        read.extend(batch.ids.iter().copied().zip(rows));
    }
    Ok(read)
}

/// What is to be done with one point.
enum Fate {
    Ask(Vec<f32>, Option<Place>),
    /// It is not judged, for this reason.
    Leave(Option<Place>, String),
}

impl Attack for Given {
    fn label_free(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let row = |id: u64| {
            let row = self.place.get(&id).copied();
            row.ok_or_else(|| Error::load("the file of points", format!("no row for sample {id}")))
        };
        let numbers: Vec<u64> = oracle.ids().into_iter().map(row).collect::<Result<_>>()?;
        let threat = oracle.threat().clone();
        let mut points = read(self.rows.as_ref(), &numbers, &threat.input)?;
        let (clean, width) = to_host(oracle.x())?;
        let (mut asked, mut of) = (vec![], vec![]);
        for ((i, number), clean) in (0u32..).zip(&numbers).zip(clean.chunks(width.max(1))) {
            let fate = match points.remove(number) {
                Some(Ok(x)) => self.fate(&threat, clean, x),
                Some(Err(why)) => Fate::Leave(None, format!("its point (row {number}) cannot be read: {why}")),
                None => Fate::Leave(None, format!("the file of points gave no row {number}")),
            };
            match fate {
                Fate::Ask(x, place) => {
                    oracle.note_place(i, place, None)?;
                    asked.extend(x);
                    of.push(i);
                }
                Fate::Leave(place, why) => oracle.note_place(i, place, Some(why))?,
            }
        }
        if !of.is_empty() {
            let dims: Vec<usize> = std::iter::once(of.len()).chain(threat.input.shape.iter().copied()).collect();
            oracle.ask(&Tensor::from_vec(asked, dims, oracle.x().device())?, &of)?;
            oracle.advance(&mut [])?;
        }
        Ok(())
    }

    fn passes(&self) -> (u64, u64) {
        (1, 0)
    }
}

impl Given {
    fn fate(&self, threat: &ThreatModel, clean: &[f32], x: Vec<f32>) -> Fate {
        match (threat.near(clean, &x), self.project) {
            (Near::Inside, _) => Fate::Ask(x, None),
            (Near::Rounded { x, by }, Project::Rounding | Project::All) => Fate::Ask(x, Some(Place::Moved(by))),
            (Near::Outside(_), Project::All) => {
                let mut moved = x.clone();
                threat.project_exact_row(&mut moved, clean);
                let by = largest_gap(&x, &moved);
                Fate::Ask(moved, Some(Place::Moved(by)))
            }
            (Near::Rounded { .. }, Project::None) => {
                let by = threat.beyond(clean, &x);
                Fate::Leave(Some(Place::Outside(by)), format!("its point lies {by:.2e} outside {threat}, by rounding"))
            }
            (Near::Outside(by), _) => {
                let seems = seems(threat, clean, &x, by).map_or(String::new(), |s| format!(": {s}"));
                Fate::Leave(Some(Place::Outside(by)), format!("its point lies {by:.2e} outside {threat}{seems}"))
            }
        }
    }
}

/// The most that rounding to float16 moves a value of the range `[0,1]`, and a little more.
const HALF: f64 = 2.5e-4;

/// What a point that lies outside may be instead, with what to do.
fn seems(threat: &ThreatModel, clean: &[f32], x: &[f32], by: f64) -> Option<String> {
    let like = |x: Vec<f32>| !matches!(threat.near(clean, &x), Near::Outside(_));
    let (low, high) = threat.domain();
    let share = largest_gap(clean, x) / (f64::from(high) - f64::from(low));
    let sum = if threat.norm() == Some(Norm::Linf) { 1. } else { x.len() as f64 };
    if x.iter().all(|v| is_half(*v)) && by <= HALF * sum {
        return Some(
            "its values are float16, which rounds by more than 1e-6; save float32, or give project=true".into(),
        );
    }
    if like(clean.iter().zip(x).map(|(c, d)| c + d).collect()) {
        return Some("it looks like a perturbation; save the clean image plus it".into());
    }
    if like(x.iter().map(|v| v / 255.).collect()) {
        return Some("it looks like pixels in 0..255; divide by 255, or save uint8".into());
    }
    (share > 0.5).then(|| "it is far from this sample's clean image; does the row belong to it?".into())
}

/// Whether a value is one of float16's (normal ones; smaller ones are multiples of the smallest).
fn is_half(v: f32) -> bool {
    match v.abs() < 6.103_515_6e-5 {
        true => (v * 16_777_216.).fract() == 0.,
        false => v.to_bits() & 0x1fff == 0,
    }
}

/// Its builder is never called by name: [`resolve`] fills in the file.
pub static ENTRY: Entry = Entry {
    name: "file",
    paper: "examples made by other software",
    needs: Access::Label,
    norms: &[Norm::Linf, Norm::L2, Norm::L1, Norm::L0],
    source: include_str!("points_file.rs"),
    build: |spec| {
        let (_, params) = parameters::<Parameters>(spec)?;
        Ok(Built { attack: Box::new(Nothing), params })
    },
};

struct Nothing;

impl Attack for Nothing {
    fn run(&self, _: &mut Oracle) -> Result<()> {
        Ok(())
    }
    fn passes(&self) -> (u64, u64) {
        (1, 0)
    }
}

/// Whether an attack spec names a file of points: `file:adv.npz,eps=8/255,norm=linf`.
pub fn is_file(text: &str) -> bool {
    text.starts_with("file:")
}

/// The file a spec names, and its parameters.
fn parse(text: &str) -> Result<(&str, Spec)> {
    let rest = text.trim_start_matches("file:");
    let (path, params) = rest.split_once(',').unwrap_or((rest, ""));
    if path.is_empty() || path.contains('=') && !Path::new(path).exists() {
        return Err(Error::usage(format!("`{text}` names no file of points"))
            .hint("write file:adv.npy,eps=8/255,norm=linf; `robust explain file` says more"));
    }
    Ok((path, Spec { name: "file".to_string(), ..Spec::parse(&format!("file:{params}"))? }))
}

/// What can be said of any attack's spec before models and data are loaded.
///
/// # Errors
/// Kind `Usage` for names and parameters that make no sense.
pub fn check(text: &str) -> Result<()> {
    if !is_file(text) {
        return robust_attacks::check(text);
    }
    let (_, spec) = parse(text)?;
    check_entry(text, spec, &ENTRY, None)
}

/// Reads the file and checks it against the samples of a run: `ids` of a data set of `samples`.
///
/// # Errors
/// Kind `Load` when the file does not fit, or is in another unit than the model's input; kind `Usage` for parameters that
/// make no sense.
pub fn resolve(text: &str, card: &Card, samples: u64, ids: &[u64]) -> Result<Ready> {
    let (path, spec) = parse(text)?;
    let (own, _) = parameters::<Parameters>(&own(&spec))?;
    let mut ready = resolve_entry(text, spec, &ENTRY, None, card)?;
    let rows = data::open_points(path)?;
    let count = rows.card().samples;
    let place: HashMap<u64, u64> = match count {
        n if n == samples => ids.iter().map(|id| (*id, *id)).collect(),
        n if n == ids.len() as u64 => ids.iter().zip(0..).map(|(id, row)| (*id, row)).collect(),
        n => {
            let ran = ids.len();
            return Err(Error::load(path, format!("{n} points; the data set has {samples} samples, the run {ran}"))
                .hint(
                    "give one row per sample of the data set, or one per sample of the run in ascending order of ids",
                ));
        }
    };
    let mut numbers: Vec<u64> = place.values().copied().collect();
    numbers.sort_unstable();
    let first = read(rows.as_ref(), &spread(&numbers, UNIT), &card.input)?;
    check_unit(path, first.values().flatten(), &ready.threat, own.project)?;
    let digest = rows.card().digest.clone();
    ready.params.insert("points".to_string(), digest.clone().into());
    // The content, not the path, tells two files apart.
    let short: String = digest.chars().take(8).collect();
    ready.label = ready.label.replacen("file-", &format!("file-{short}-"), 1);
    ready.attack = Box::new(Given { rows, place, project: own.project });
    Ok(ready)
}

/// The parameters that are not every attack's.
fn own(spec: &Spec) -> Spec {
    let params = spec.params.iter().filter(|(k, _)| !Spec::COMMON.contains(&k.as_str())).cloned().collect();
    Spec { name: spec.name.clone(), params }
}

/// Refuses files of which every row looked at leaves the input's range by more than rounding: they are in another unit. Where
/// everything is to be moved, only a row that leaves it by half its width does.
fn check_unit<'a>(
    path: &str,
    rows: impl Iterator<Item = &'a Vec<f32>>,
    threat: &ThreatModel,
    project: Project,
) -> Result<()> {
    let Some((low, high)) = threat.input.domain else { return Ok(()) };
    let slack = match project {
        Project::All => 0.5 * (high - low),
        _ => threat.rounding() as f32,
    };
    let (mut min, mut max, mut seen) = (f32::MAX, f32::MIN, false);
    for row in rows {
        let (least, most) = row.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        if least >= low - slack && most <= high + slack {
            return Ok(());
        }
        (min, max, seen) = (min.min(least), max.max(most), true);
    }
    if !seen {
        return Ok(());
    }
    let hint = match (min >= low, max.max(-min)) {
        (true, most) if most <= 255. => "divide by 255, or store the points as uint8",
        (false, most) if most <= 0.5 * (high - low) => {
            "they look like perturbations: save the clean images plus them (or give project=true for points outside)"
        }
        _ => "undo the normalisation: points are wanted as pixels were, mean and std belong to the model",
    };
    Err(Error::load(path, format!("points have values from {min} to {max}, the model wants {low} to {high}"))
        .hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use robust_core::Region;

    fn threat(norm: Norm, eps: f64) -> ThreatModel {
        ThreatModel::new(Region::Ball { norm, eps }, Input::image(1, 2, 2), Access::Label).unwrap()
    }

    fn given(project: Project) -> Given {
        let rows = data::open("builtin:mnist").unwrap();
        Given { rows, place: HashMap::new(), project }
    }

    #[test]
    fn project_says_which_points_are_moved() {
        let threat = threat(Norm::Linf, 8. / 255.);
        let clean = [10. / 255., 0.5, 0.25, 1f32];
        let rounded: Vec<f32> = clean.iter().map(|c| (c + 8f32 / 255.).min(1.)).collect();
        assert!(!threat.admits(&clean, &rounded), "f32 leaves it outside");
        let far: Vec<f32> = clean.iter().map(|c| (c + 0.1).min(1.)).collect();
        for (project, moves_rounded, moves_far) in
            [(Project::Rounding, true, false), (Project::All, true, true), (Project::None, false, false)]
        {
            for (x, moves) in [(&rounded, moves_rounded), (&far, moves_far)] {
                match given(project).fate(&threat, &clean, x.clone()) {
                    Fate::Ask(x, Some(Place::Moved(by))) => {
                        assert!(moves && threat.admits(&clean, &x) && by > 0., "{project:?}");
                    }
                    Fate::Leave(Some(Place::Outside(by)), why) => {
                        assert!(!moves && by > 0. && why.contains("outside"), "{project:?} {why}");
                    }
                    _ => panic!("{project:?}"),
                }
            }
        }
        let json = |p| serde_json::to_value(Parameters { project: p }).unwrap();
        for project in [Project::Rounding, Project::All, Project::None] {
            assert_eq!(serde_json::from_value::<Parameters>(json(project)).unwrap().project, project);
        }
    }

    #[test]
    fn what_a_point_outside_may_be_is_said() {
        let threat = threat(Norm::Linf, 8. / 255.);
        let clean = [0.3f32, 0.47, 0.25, 0.4];
        let point: Vec<f32> = clean.iter().map(|c| c - 8f32 / 255.).collect();
        let of = |x: &[f32]| seems(&threat, &clean, x, threat.beyond(&clean, x)).unwrap_or_default();
        // Rounded down, away from the clean image.
        let half: Vec<f32> = point.iter().map(|v| f32::from_bits(v.to_bits() & !0x1fff)).collect();
        assert!(half.iter().all(|v| is_half(*v)) && !point.iter().all(|v| is_half(*v)));
        assert!(of(&half).contains("float16"), "{}", of(&half));
        assert!(of(&[-0.03, -0.031, 0.02, 0.01]).contains("perturbation"));
        assert!(of(&point.iter().map(|v| v * 255.).collect::<Vec<_>>()).contains("0..255"));
        assert!(of(&[0.9, 0.1, 0.333, 0.2]).contains("does the row belong"));
        assert_eq!(of(&clean.map(|c| c - 0.05)), "");
    }

    #[test]
    fn files_in_another_unit_are_refused_whatever_is_projected() {
        let threat = threat(Norm::Linf, 8. / 255.);
        let ask = |rows: &[Vec<f32>], project| {
            check_unit("adv.npy", rows.iter(), &threat, project).map_err(|e| e.hint.unwrap_or_default())
        };
        let (bytes, small) = (vec![vec![0., 17., 255., 3.]], vec![vec![-0.03, 0.03, 0., 0.01]]);
        for project in [Project::Rounding, Project::All, Project::None] {
            assert!(ask(&bytes, project).unwrap_err().contains("255"));
            assert!(ask(&[vec![-2.1, 2.2, 0.1, 0.4]], project).unwrap_err().contains("normalisation"));
            assert!(ask(&[vec![-2.98e-8, 1.000_000_1, 0., 1.]], project).is_ok());
            // One good row among them: the others are each other's own affair.
            assert!(ask(&[bytes[0].clone(), vec![0.; 4]], project).is_ok());
        }
        assert!(ask(&small, Project::Rounding).unwrap_err().contains("perturbations"));
        assert!(ask(&small, Project::All).is_ok());
    }
}
