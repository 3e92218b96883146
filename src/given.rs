//! Points made elsewhere: adversarial examples of any other tool, judged under a threat model.
//!
//! # Asks
//! Labels.
//!
//! # Steps
//! The file's row for each sample is asked once, as it is; `project=true` moves it into the region first. Row `i` belongs
//! to sample `i` of the data set when the file has as many rows, else to the `i`-th sample of the run.
//!
//! # Parameters
//! `project` (default false): other tools often leave a point a rounding error outside the ball, where it does not count.
//!
//! # Differs from the paper
//! There is none.
//!
//! # Cost per sample
//! 1 forward.

use candle_core::{Device, Tensor};
use robust_attacks::{Ready, resolve_entry};
use robust_benchmarks::data;
use robust_core::{Access, Attack, Built, Card, Dataset, Entry, Error, Norm, Oracle, Result, Spec, View, parameters};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    project: bool,
}

struct Given {
    rows: Box<dyn Dataset>,
    place: HashMap<u64, u64>,
    project: bool,
}

impl Attack for Given {
    fn label_free(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let ids = oracle.ids();
        let row = |id: &u64| {
            self.place
                .get(id)
                .copied()
                .ok_or_else(|| Error::load("the file of points", format!("no row for sample {id}")))
        };
        let rows: Vec<u64> = ids.iter().map(row).collect::<Result<_>>()?;
        let view = View::from(oracle.threat().input.clone());
        let loaded = self.rows.load(&rows, &view, &Device::Cpu)?;
        if let Some((row, why)) = loaded.failed.first() {
            return Err(Error::load("the file of points", format!("row {row}: {why}")));
        }
        let Some(batch) = loaded.batch else { return Ok(()) };
        let x: Tensor = if self.project { oracle.threat().project_exact(&batch.x, oracle.x())? } else { batch.x };
        let of: Vec<u32> = (0..oracle.len() as u32).collect();
        oracle.ask(&x, &of)?;
        oracle.advance(&mut [])?;
        Ok(())
    }

    fn passes(&self) -> (u64, u64) {
        (1, 0)
    }
}

/// Its builder is never called by name: [`resolve`] fills in the file.
pub static ENTRY: Entry = Entry {
    name: "file",
    paper: "examples made by other software",
    needs: Access::Label,
    norms: &[Norm::Linf, Norm::L2, Norm::L1, Norm::L0],
    source: include_str!("given.rs"),
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

/// Reads the file and checks it against the samples of a run: `ids` of a data set of `samples`.
///
/// # Errors
/// Kind `Load` when the file does not fit, kind `Usage` for parameters that make no sense.
pub fn resolve(text: &str, card: &Card, samples: u64, ids: &[u64]) -> Result<Ready> {
    let rest = text.trim_start_matches("file:");
    let (path, params) = rest.split_once(',').unwrap_or((rest, ""));
    let spec = Spec { name: "file".to_string(), ..Spec::parse(&format!("file:{params}"))? };
    let project = spec.get("project").is_some_and(|v| v.json == true);
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
    let digest = rows.card().digest.clone();
    ready.params.insert("points".to_string(), digest.clone().into());
    // The content, not the path, tells two files apart.
    let short: String = digest.chars().take(8).collect();
    ready.label = ready.label.replacen("file-", &format!("file-{short}-"), 1);
    ready.attack = Box::new(Given { rows, place, project });
    Ok(ready)
}
