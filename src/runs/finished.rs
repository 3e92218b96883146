//! Run folders as tables need them: plan, outcomes, rows, diagnoses, and each sample's verdict for pairing.

use crate::disk;
use crate::doctor::{self, Diagnosis};
use crate::eval::plan::PlannedModel;
use crate::eval::record::{self, RunRecord};
use crate::eval::{journal, rows};
use crate::report::{self, Row};
use crate::runs::stats::Paired;
use robust_core::{Error, Kind, Outcome, Result, Verdict, nearest};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One run as far as it has come.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    pub root: PathBuf,
    pub record: RunRecord,
    pub outcomes: Vec<Outcome>,
    /// One per model and attack, and the worst cases: [`report::summarise`].
    pub rows: Vec<Row>,
    pub diagnoses: Vec<Diagnosis>,
    /// By model of the plan: [`rows::named`].
    pub images: Vec<Option<String>>,
    /// Outcomes that the plan asks for and that are not there: the run is growing, or was cut short.
    pub missing: usize,
}

/// What became of every sample, by id: of one attack, or the worst of several.
pub type Verdicts = BTreeMap<u64, Verdict>;

impl FinishedRun {
    /// Reads a run folder. One that is still growing, or was cut short, gives what is there.
    ///
    /// # Errors
    /// Kind `Load` when it is not a run or is damaged, kind `Evidence` when its plan was edited.
    pub fn open(root: &Path) -> Result<Self> {
        let record = record(root)?;
        let outcomes = journal::read_outcomes(root, &record.plan)?.outcomes;
        rows::consistent(&record.plan, &outcomes).map_err(|e| e.within(format!("run {}", disk::short(root))))?;
        Ok(Self::new(root, record, outcomes))
    }

    pub fn new(root: &Path, record: RunRecord, outcomes: Vec<Outcome>) -> Self {
        let images = record.plan.models.iter().map(|model| rows::named(model, &outcomes)).collect();
        let (rows, diagnoses) = table(&record, &outcomes);
        let missing = record.plan.rows().saturating_sub(outcomes.len());
        Self { root: root.to_path_buf(), record, outcomes, rows, diagnoses, images, missing }
    }

    /// Whether its last start found every outcome there, and attacked nothing.
    pub fn is_read_back(&self) -> bool {
        let last = self.record.sessions.last();
        self.record.sessions.len() > 1 && last.is_some_and(|s| s.attack_seconds.iter().all(|t| *t == 0.))
    }

    /// Names the run in messages: its folder's last part.
    pub fn name(&self) -> String {
        disk::short(&self.root)
    }

    /// What to tell of a run that is not complete.
    pub fn warning(&self) -> Option<String> {
        let (all, part) = (self.record.plan.rows(), self.record.plan.shard);
        let unfinished = (self.missing > 0).then(|| format!("{} of {all} outcomes are missing", self.missing));
        let shard = part.map(|s| format!("it is shard {s} of a run"));
        let said: Vec<String> = [unfinished, shard].into_iter().flatten().collect();
        (!said.is_empty()).then(|| format!("{}: {}", self.name(), said.join("; ")))
    }

    pub fn model(&self, name: &str) -> Result<&PlannedModel> {
        let models = &self.record.plan.models;
        models.iter().find(|m| m.name == name).ok_or_else(|| {
            let names = models.iter().map(|m| m.name.as_str());
            let hint = nearest(name, names.clone()).map_or_else(
                || format!("its models are {}", names.collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            Error::usage(format!("run {} has no model `{name}`", self.name())).hint(hint)
        })
    }

    /// The labels of the attacks behind a row: one, or all of the threat model for a worst case.
    pub fn attacks(&self, row: &Row) -> Vec<&str> {
        let Ok(model) = self.model(&row.model) else { return vec![] };
        if !report::is_worst(&row.attack) {
            return model.attacks.iter().map(|a| a.label.as_str()).filter(|l| *l == row.attack).collect();
        }
        let Some(first) = model.attacks.iter().find(|a| a.threat_text() == row.threat) else { return vec![] };
        let same = model.attacks.iter().filter(|a| a.threat.region == first.threat.region);
        same.map(|a| a.label.as_str()).collect()
    }

    /// The verdict on every sample of a row, the worst where several attacks are behind it.
    pub fn verdicts(&self, row: &Row) -> Verdicts {
        let attacks = self.attacks(row);
        let mut worst = Verdicts::new();
        for o in self.outcomes.iter().filter(|o| o.model == row.model && attacks.contains(&o.attack.as_str())) {
            worst.entry(o.id).and_modify(|v| *v = report::worse(*v, o.verdict)).or_insert(o.verdict);
        }
        worst
    }

    /// Whether each clean sample of a model is classified correctly, by id.
    pub fn clean(&self, model: &str) -> BTreeMap<u64, bool> {
        let mine = self.outcomes.iter().filter(|o| o.model == model);
        mine.map(|o| (o.id, o.clean.is_some_and(|p| p.margin > 0.))).collect()
    }

    /// What decides the attacks behind a row, one object each, in the plan's order: two rows with equal ones were
    /// attacked in the same way.
    pub fn facts(&self, row: &Row) -> Vec<Value> {
        let labels = self.attacks(row);
        let Ok(model) = self.model(&row.model) else { return vec![] };
        let mine = model.attacks.iter().filter(|a| labels.contains(&a.label.as_str()));
        mine.map(|a| {
            let mut facts = json!({ "attack": a.attack, "threat": a.threat.to_string(), "eps": a.threat.eps(), "queries": a.queries,
                    "params": a.params, "eot": a.eot, "votes": a.votes });
            if let Some(gradients) = &a.gradients {
                facts["gradients"] = json!(gradients);
            }
            if let Some(aim) = &a.aim {
                facts["aim"] = json!(aim);
            }
            facts
        })
        .collect()
    }

    /// Whether an attack behind a row does as its reference implementation does.
    pub fn is_compat(&self, row: &Row) -> bool {
        let labels = self.attacks(row);
        let Ok(model) = self.model(&row.model) else { return false };
        model.attacks.iter().any(|a| labels.contains(&a.label.as_str()) && a.is_compat())
    }

    /// Seconds per (model, attack), in the plan's order, over all sessions.
    pub fn seconds(&self) -> Vec<f64> {
        seconds(&self.record)
    }
}

/// Reads every folder; each must be a run of its own.
pub fn open_all(roots: &[PathBuf]) -> Result<Vec<FinishedRun>> {
    roots.iter().map(|root| FinishedRun::open(root)).collect()
}

/// Reads `run.json` and insists that its plan is the one that was run.
///
/// # Errors
/// Kind `Load` when there is none, kind `Evidence` when it was edited.
pub fn record(root: &Path) -> Result<RunRecord> {
    let record = record::read_record(root)?;
    if record.plan.fingerprint()? != record.fingerprint {
        return Err(Error::new(Kind::Evidence, "run.json was edited: its plan does not have its fingerprint"));
    }
    let (ids, samples) = (&record.plan.ids, record.plan.dataset.card.samples);
    if let Some(id) = ids.iter().find(|id| **id >= samples) {
        return Err(Error::new(
            Kind::Evidence,
            format!("run.json contradicts itself: sample {id} of a data set of {samples}"),
        )
        .hint("the file was edited: evaluate again"));
    }
    Ok(record)
}

/// blake3 of sample ids as little-endian words, hex: equal for the same samples in the same order.
pub fn ids_digest(ids: impl IntoIterator<Item = u64>) -> String {
    let bytes: Vec<u8> = ids.into_iter().flat_map(u64::to_le_bytes).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// The beginning of a digest, for people.
pub fn brief(digest: &str) -> String {
    digest.chars().take(10).collect()
}

/// Samples by whether they held before and after; those that only one side has are left out.
pub fn pair(before: &Verdicts, after: &Verdicts) -> Paired {
    let mut table = Paired::default();
    for (id, was) in before {
        if let Some(is) = after.get(id) {
            table.add(*was == Verdict::Held, *is == Verdict::Held);
        }
    }
    table
}

fn seconds(record: &RunRecord) -> Vec<f64> {
    let slots = record.plan.models.iter().map(|m| m.attacks.len()).sum();
    let mut total = vec![0.; slots];
    for session in &record.sessions {
        total.iter_mut().zip(&session.attack_seconds).for_each(|(t, s)| *t += s);
    }
    total
}

/// The rows of a run's table, and what makes them doubtful.
pub fn table(record: &RunRecord, outcomes: &[Outcome]) -> (Vec<Row>, Vec<Diagnosis>) {
    let mut rows = report::summarise(&record.plan, outcomes, &seconds(record));
    let diagnoses = doctor::diagnose(record, outcomes);
    for row in &mut rows {
        row.reliability = diagnoses.iter().find(|d| d.model == row.model).and_then(|d| d.grade);
    }
    (rows, diagnoses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::attacked::unreadable;
    use crate::eval::plan::tests::plan;

    fn outcome(attack: &str, id: u64, verdict: Verdict) -> Outcome {
        Outcome { verdict, why: None, ..unreadable("m", attack, id, "").outcome }
    }

    /// A run of two samples under the attacks `a` and `b` of one threat model.
    fn run(a: [Verdict; 2], b: [Verdict; 2]) -> FinishedRun {
        let mut plan = plan();
        plan.ids = vec![3, 8];
        let fingerprint = plan.fingerprint().unwrap();
        let record = RunRecord { schema: record::RECORD_SCHEMA.into(), fingerprint, plan, sessions: vec![] };
        let lines = ["a", "b"].iter().zip([a, b]);
        let outcomes = lines.flat_map(|(l, v)| [outcome(l, 3, v[0]), outcome(l, 8, v[1])]).collect();
        FinishedRun::new(Path::new("runs/x"), record, outcomes)
    }

    #[test]
    fn the_worst_case_pairs_by_the_worst_verdict_of_each_sample() {
        use Verdict::{CleanMiss, Failed, Fooled, Held};
        let (before, after) = (run([Held, Held], [Held, Fooled]), run([Failed, CleanMiss], [Held, CleanMiss]));
        let worst = before.rows.last().unwrap();
        assert_eq!(before.attacks(worst), ["a", "b"]);
        let (was, is) = (before.verdicts(worst), after.verdicts(worst));
        assert_eq!((was[&3], was[&8], is[&3], is[&8]), (Held, Fooled, Failed, CleanMiss));
        assert_eq!(pair(&was, &is), Paired { both: 0, broken: 1, fixed: 0, neither: 1 });
        assert_eq!(pair(&was, &is).n(), worst.n);
        let of_b: Vec<Verdict> = before.verdicts(&before.rows[1]).into_values().collect();
        assert_eq!((before.attacks(&before.rows[1]), of_b), (vec!["b"], vec![Held, Fooled]));
    }

    #[test]
    fn only_what_the_doctor_looked_at_is_called_reliable() {
        let FinishedRun { mut record, outcomes, .. } = run([Verdict::Held; 2], [Verdict::Held; 2]);
        let grade = |record: &RunRecord| table(record, &outcomes).0[0].reliability;
        record.sessions = vec![record::Session::default()];
        assert_eq!(grade(&record), None);
        // A look that found nothing, in any session.
        let doctor = vec![("m".to_string(), vec![])];
        record.sessions.push(record::Session { doctor, ..record::Session::default() });
        assert_eq!(grade(&record), Some(doctor::Grade::Reliable));
        let bad = doctor::Finding::new(doctor::Code::Softmax, "seen", "do");
        assert_eq!(doctor::Diagnosis::new("m", vec![bad]).unchecked().grade, Some(doctor::Grade::Doubtful));
    }

    #[test]
    fn a_run_that_is_cut_short_says_so_and_an_unknown_model_is_named() {
        let whole = run([Verdict::Held; 2], [Verdict::Held; 2]);
        assert_eq!(whole.warning(), None);
        let part = FinishedRun::new(&whole.root, whole.record.clone(), whole.outcomes[..3].to_vec());
        assert_eq!(part.warning().unwrap(), "x: 1 of 4 outcomes are missing");
        assert!(whole.model("n").unwrap_err().hint.unwrap().contains("did you mean `m`"));
    }
}
