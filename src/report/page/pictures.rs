//! Clean, adversarial and ten times their difference, as images inside the page: a few per model and attack, where the
//! attack turned the model round the most.

use super::subjects::{Subject, norm};
use crate::eval::clean::row_digest;
use crate::eval::plan::{Keep, PlannedAttack};
use crate::eval::{evidence, journal};
use crate::runs::finished::FinishedRun;
use base64::{Engine, prelude::BASE64_STANDARD};
use candle_core::Device;
use robust_benchmarks::data;
use robust_core::{Dataset, Outcome, Result, Verdict, to_host};
use robust_imaging::{interleaved, png};
use std::collections::HashMap;

/// What a report may show.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the runs' data set is now, unless where they found it.
    pub dataset: Option<String>,
    /// Rows of images at most; none at all with 0.
    pub most: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { dataset: None, most: 48 }
    }
}

/// Characters of all images together: the page stays one that can be mailed.
const BYTES: usize = 3_000_000;

/// Rows per model and attack at most.
const PER_CELL: usize = 6;

/// An image inside the page, and what it shows.
pub struct Picture {
    pub uri: String,
    pub alt: String,
}

/// One sample.
pub struct Triplet {
    pub pictures: Vec<Picture>,
    pub caption: String,
}

pub struct Grid {
    pub title: String,
    pub triplets: Vec<Triplet>,
}

/// A model and attack that fooled samples.
struct Place<'a> {
    subject: &'a Subject<'a>,
    attack: usize,
}

/// The grids, and what to say of what is not shown.
pub fn grids(subjects: &[Subject], options: &Options) -> (Vec<Grid>, Vec<String>) {
    let (mut grids, mut notes): (Vec<Grid>, Vec<String>) = (vec![], vec![]);
    let mut say = |note: String| {
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    let mut places: Vec<Place> = vec![];
    for subject in subjects {
        let all = subject.attacks().enumerate().filter(|(_, (a, _))| !a.is_corruption());
        let fooled = all.filter(|(_, (_, o))| o.iter().any(|o| o.verdict == Verdict::Fooled));
        places.extend(fooled.map(|(attack, _)| Place { subject, attack }));
    }
    if places.is_empty() || options.most == 0 {
        return (vec![], vec![]);
    }
    let each = (options.most / places.len()).clamp(1, PER_CELL);
    let mut opened: HashMap<*const FinishedRun, Option<Box<dyn Dataset>>> = HashMap::new();
    let (mut bytes, mut shown) = (0, 0);
    for place in &places {
        if shown + each > options.most.max(each) || bytes > BYTES {
            say(format!(
                "Images are capped at {} rows and {} MB: more models and attacks are not shown.",
                options.most,
                BYTES / 1_000_000
            ));
            break;
        }
        let run = place.subject.run;
        if run.record.plan.evidence == Keep::None {
            say(format!("{} kept no adversarial points (--evidence none): no images.", run.name()));
            continue;
        }
        let data = opened.entry(run as *const FinishedRun).or_insert_with(|| match open(run, options) {
            Ok(data) => Some(data),
            Err(why) => {
                say(format!("No clean images of {}: {why}; --dataset says where the data set is now.", run.name()));
                None
            }
        });
        match grid(place, each, data.as_deref()) {
            Ok(Some(grid)) => {
                bytes += grid.triplets.iter().flat_map(|t| &t.pictures).map(|p| p.uri.len()).sum::<usize>();
                shown += grid.triplets.len();
                grids.push(grid);
            }
            Ok(None) => say(format!("{}: no points that are images were kept under some attacks.", run.name())),
            Err(why) => say(format!("{}: {why}", run.name())),
        }
    }
    if !grids.is_empty() {
        say(format!("At most {each} samples per model and attack: those whose margin fell the most."));
    }
    (grids, notes)
}

fn open(run: &FinishedRun, options: &Options) -> Result<Box<dyn Dataset>, String> {
    let planned = &run.record.plan.dataset;
    let data = data::open(options.dataset.as_ref().unwrap_or(&planned.source)).map_err(|e| e.message)?;
    // Each image is held against its line's digest before it is shown.
    let digest = planned.card.digest.as_str();
    match data.card().digest == digest || data.formerly() == Some(digest) {
        true => Ok(data),
        false => Err("the data set is not the one that was attacked".to_string()),
    }
}

/// How far the margin fell.
fn gap(o: &Outcome) -> f64 {
    o.clean.map_or(0., |p| p.margin) - o.best.map_or(0., |p| p.margin)
}

fn grid(place: &Place, each: usize, data: Option<&dyn Dataset>) -> Result<Option<Grid>> {
    let (subject, planned) = (place.subject, &place.subject.model.attacks[place.attack]);
    let Some([c, h, w]) =
        <[usize; 3]>::try_from(planned.threat.input.shape.clone()).ok().filter(|s| s[0] == 1 || s[0] == 3)
    else {
        return Ok(None);
    };
    let mut picked: Vec<&Outcome> = subject.outcomes[place.attack]
        .iter()
        .filter(|o| o.verdict == Verdict::Fooled && o.evidence.is_some())
        .collect();
    picked.sort_by(|a, b| gap(b).total_cmp(&gap(a)).then(a.id.cmp(&b.id)));
    picked.truncate(each);
    let points = points(subject, place.attack, &picked)?;
    let clean = data.map_or_else(|| Ok(HashMap::new()), |d| originals(d, subject, planned, &picked))?;
    let Some(entries) = c.checked_mul(h).and_then(|v| v.checked_mul(w)) else { return Ok(None) };
    let mut triplets = vec![];
    for o in picked {
        // A point that is not its line's is not evidence of anything.
        let Some(x) = points.get(&o.id).filter(|x| x.len() == entries && Some(row_digest(x)) == o.evidence) else {
            continue;
        };
        let original = clean.get(&o.id).filter(|x| x.len() == entries && row_digest(x) == o.digest);
        triplets.push(triplet(subject, planned, o, x, original, [c, h, w])?);
    }
    let title = format!("{} under {}", subject.label, planned.label);
    Ok((!triplets.is_empty()).then_some(Grid { title, triplets }))
}

fn points(subject: &Subject, attack: usize, picked: &[&Outcome]) -> Result<evidence::Points> {
    let (run, mut all) = (subject.run, evidence::Points::new());
    let units = journal::by_unit(&run.record.plan, &run.outcomes);
    for (unit, lines) in units.filter(|(u, _)| u.attack == attack) {
        let mine =
            |o: &&&Outcome| lines.first().is_some_and(|l| l.model == o.model) && lines.iter().any(|l| l.id == o.id);
        let ids: Vec<u64> = picked.iter().filter(mine).map(|o| o.id).collect();
        if !ids.is_empty() {
            let label = &subject.model.attacks[attack].label;
            all.extend(evidence::read_some(&run.root, &unit.name(), &subject.model.name, label, &ids)?);
        }
    }
    Ok(all)
}

fn originals(
    data: &dyn Dataset,
    subject: &Subject,
    attack: &PlannedAttack,
    picked: &[&Outcome],
) -> Result<HashMap<u64, Vec<f32>>> {
    let ids: Vec<u64> = picked.iter().map(|o| o.id).collect();
    let Some(batch) = data.load(&ids, &subject.model.view(attack), &Device::Cpu)?.batch else {
        return Ok(HashMap::new());
    };
    let (flat, width) = to_host(&batch.x)?;
    Ok(batch.ids.iter().copied().zip(flat.chunks(width.max(1)).map(<[f32]>::to_vec)).collect())
}

fn triplet(
    subject: &Subject,
    attack: &PlannedAttack,
    o: &Outcome,
    x: &[f32],
    clean: Option<&Vec<f32>>,
    [c, h, w]: [usize; 3],
) -> Result<Triplet> {
    let (low, high) = attack.threat.input.domain.unwrap_or((0., 1.));
    let shown = |row: &[f32]| row.iter().map(|v| (v - low) / (high - low)).collect::<Vec<f32>>();
    let picture = |row: &[f32], alt: String| -> Result<Picture> {
        Ok(Picture {
            uri: format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png(&interleaved(row, c), h, w, c)?)),
            alt,
        })
    };
    let label = o.label.map_or_else(String::new, |l| subject.class(l));
    let now = o.best.and_then(|p| p.label).map_or_else(String::new, |l| subject.class(l));
    let mut pictures = vec![];
    if let Some(clean) = clean {
        pictures.push(picture(&shown(clean), format!("sample {}, clean, {label}", o.id))?);
    }
    pictures.push(picture(&shown(x), format!("sample {}, adversarial, taken for {now}", o.id))?);
    if let Some(clean) = clean {
        let difference: Vec<f32> = shown(x).iter().zip(&shown(clean)).map(|(x, c)| 0.5 + 10. * (x - c)).collect();
        pictures.push(picture(&difference, format!("sample {}, ten times the difference on grey", o.id))?);
    }
    let measure = norm(&attack.threat.region).map_or(String::new(), |n| format!("{n} "));
    let distance = o.distance.map_or(String::new(), |d| format!(", {measure}{d:.4}"));
    let change = if o.label.is_some() { format!(": {label} → {now}") } else { String::new() };
    Ok(Triplet { pictures, caption: format!("#{}{change}{distance}", o.id) })
}
