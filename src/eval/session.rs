//! One session of a run: its folder is opened, new or where it was left, and what is left of the plan is done there.

use super::evaluation::Folder;
use super::journal::{self, Journal};
use super::plan::{self, Plan};
use super::prepared::Prepared;
use super::record::{self, RunRecord, Session};
use super::shard::Shard;
use super::tables::{Finished, write_tables};
use super::units::{Run, Subject, Times};
use super::watcher::{Start, Watcher};
use super::{load, rows};
use crate::clock::{self, Stopwatch};
use crate::encoder::heads;
use crate::{doctor, escape};
use robust_core::{Dataset, Error, Kind, Outcome, Result};
use robust_engine::Network;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A run whose outcomes are all there. Its folder is locked until this is dropped: what is made of the outcomes belongs to
/// the same writer.
struct Done {
    record: RunRecord,
    outcomes: Vec<Outcome>,
    journal: Journal,
}

impl Prepared {
    /// The folder of the run.
    ///
    /// # Errors
    /// Never in practice: the plan is made of numbers and names.
    pub fn root(&self) -> Result<PathBuf> {
        self.evaluation.folder.path().map_or_else(|| named(&self.plan), |path| Ok(path.to_path_buf()))
    }

    /// Does what is left of the plan in its folder, and makes the tables of the outcomes.
    ///
    /// # Errors
    /// Kind `Usage` when the folder holds something else, `Interrupted` when the watcher stopped it, `Incomplete` when the time
    /// was up, `Write` when the folder could not be written to; whatever is whole stays, and the same evaluation goes on
    /// from there. Kind `Load` for data that cannot be read, kind `Evidence` when the folder was changed.
    pub fn run(&self, watcher: &mut dyn Watcher) -> Result<Finished> {
        let root = self.root()?;
        let mut done = || {
            let Done { record, outcomes, journal } = self.attack(&root, watcher)?;
            let finished = write_tables(&root, record, outcomes)?;
            journal.check()?;
            Ok(finished)
        };
        done().map_err(|e| self.resumable(e, &root))
    }

    fn attack(&self, root: &Path, watcher: &mut dyn Watcher) -> Result<Done> {
        let (mut journal, mut outcomes, mut record) = self.open(root, watcher)?;
        heads::keep(root, self.heads.iter().map(|(planned, head)| (planned, head)))?;
        let (plan, meter, continues) = (&self.plan, &self.meter, self.continues(root));
        watcher.started(&Start { root, plan, done: outcomes.len(), meter, continues: &continues });
        // The doctor looks at scores of classes, once: also in a run that went on before it could write down what it found.
        let unchecked = record.sessions.iter().all(|s| s.doctor.is_empty());
        if unchecked && self.evaluation.doctor && self.evaluation.goal.is_none() {
            let found = consult(plan, &self.subjects, &self.networks, self.data.as_ref())?;
            if let Some(session) = record.sessions.last_mut() {
                session.doctor = found;
            }
            record::write_record(root, &record)?;
        }
        let (clock, before) = (Stopwatch::start(), meter.seconds());
        let mut times = Times::new(plan);
        let run = Run {
            plan,
            subjects: &self.subjects,
            data: self.data.as_ref(),
            batch_size: self.batch_size,
            max_seconds: self.evaluation.max_minutes.map(|m| 60. * m),
        };
        let result = run.go(&mut journal, &mut outcomes, &mut times, watcher);
        watcher.ended();
        if let Some(session) = record.sessions.last_mut() {
            session.seconds = clock.seconds();
            (session.attack_seconds, session.stages) = (times.attacks, times.stages);
            session.network_seconds = meter.seconds() - before;
        }
        load::tell_remarks(self.data.as_ref(), watcher);
        let written = record::write_record(root, &record);
        result?;
        written?;
        Ok(Done { record, outcomes, journal })
    }

    /// The folder's journal, what it holds already, and its record with a new session.
    fn open(&self, root: &Path, watcher: &mut dyn Watcher) -> Result<(Journal, Vec<Outcome>, RunRecord)> {
        let session = Session {
            started: clock::now(),
            threads: rayon::current_num_threads(),
            batch_size: self.batch_size,
            machine: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            command: self.evaluation.command.clone(),
            ..Session::default()
        };
        let (plan, folder) = (&self.plan, &self.evaluation.folder);
        let fingerprint = plan.fingerprint()?;
        if record::exists(root) {
            // A named folder has the fingerprint in its name, so what lies there is this very run.
            if matches!(folder, Folder::New(_)) {
                return Err(Error::usage(format!("folder {} is not empty: it holds a run", root.display()))
                    .hint("add --resume to continue it, or choose another folder with --out"));
            }
            return resume(root, (plan, &fingerprint), self.data.as_ref(), session, watcher);
        }
        if !journal::is_vacant(root) {
            let hint = match folder {
                Folder::Named => "move it away: runs without a folder of their own go there",
                _ => "choose a new folder with --out",
            };
            let why = match folder {
                Folder::Resume(_) => "holds no run to resume, and is not empty",
                _ => "is not empty",
            };
            return Err(Error::usage(format!("folder {} {why}", root.display())).hint(hint));
        }
        let journal = journal::create(root)?;
        let schema = record::RECORD_SCHEMA.to_string();
        let record = RunRecord { schema, fingerprint, plan: plan.clone(), sessions: vec![session] };
        record::write_record(root, &record)?;
        Ok((journal, vec![], record))
    }

    /// How an unfinished run goes on.
    fn continues(&self, root: &Path) -> String {
        match self.evaluation.folder {
            Folder::Named => "the same command continues".to_string(),
            _ => format!(
                "`--out {} --resume` with the same options continues",
                escape::shell(&root.display().to_string())
            ),
        }
    }

    /// Adds how the unfinished run goes on.
    fn resumable(&self, error: Error, root: &Path) -> Error {
        let continues = self.continues(root);
        match (error.kind, &error.hint) {
            (Kind::Interrupted | Kind::Incomplete, _) | (Kind::Write, None) => error.hint(continues),
            (Kind::Write, Some(first)) => {
                let both = format!("{first}; then {continues}");
                error.hint(both)
            }
            _ => error,
        }
    }
}

fn resume(
    root: &Path,
    (plan, fingerprint): (&Plan, &str),
    data: &dyn Dataset,
    session: Session,
    watcher: &mut dyn Watcher,
) -> Result<(Journal, Vec<Outcome>, RunRecord)> {
    let mut record = record::read_record(root)?;
    if record.plan.shard != plan.shard {
        let name = |s: Option<Shard>| s.map_or("the whole".to_string(), |s| format!("shard {s}"));
        let (theirs, ours) = (name(record.plan.shard), name(plan.shard));
        return Err(Error::usage(format!("the run in {} does {theirs} of its plan, not {ours}", root.display()))
            .hint("give each shard a folder of its own with --out"));
    }
    rows::same_rule(&record.plan, data)?;
    if record.fingerprint != fingerprint || record.plan.fingerprint()? != fingerprint {
        let differences = record.plan.differences(plan)?.join("; ");
        return Err(Error::usage(format!("the run in {} has other settings: {differences}", root.display()))
            .hint("resume with the settings it was started with, or choose a new folder with --out"));
    }
    let (journal, outcomes) = journal::resume(root, plan)?;
    rows::still_there(plan, &outcomes, data)?;
    let (done, all) = (outcomes.len(), plan.rows());
    watcher
        .note(&format!("resuming {}: {done} of {all} outcomes are there", escape::line(&root.display().to_string())));
    record.sessions.push(session);
    Ok((journal, outcomes, record))
}

/// Lets the doctor look at a few samples: loading and gradients.
fn consult(
    plan: &Plan,
    subjects: &[Subject],
    networks: &[Option<Arc<Network>>],
    data: &dyn Dataset,
) -> Result<Vec<(String, Vec<doctor::Finding>)>> {
    let mut all = vec![];
    for (subject, network) in subjects.iter().zip(networks) {
        let model = &subject.target.deployed;
        let view = model.card().view();
        let ids = plan::spread(&plan.ids, doctor::SAMPLES);
        let Some(batch) = data.load(&ids, &view, &candle_core::Device::Cpu)?.batch else { continue };
        let mut found = doctor::examine(model.as_ref(), &batch)?;
        found.extend(doctor::examine_gradients(model.as_ref(), &batch)?);
        if let Some(network) = network {
            found.extend(doctor::examine_neighbours(network, &batch)?);
        }
        all.push((model.card().name.clone(), found));
    }
    Ok(all)
}

/// `runs/MODELS-DATA-FINGERPRINT`: the same command finds its own folder again.
fn named(plan: &Plan) -> Result<PathBuf> {
    let clean = |s: &str| -> String {
        s.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).take(40).collect()
    };
    let names: Vec<String> = plan.models.iter().take(3).map(|m| clean(&m.name)).collect();
    let fingerprint: String = plan.fingerprint()?.chars().take(10).collect();
    let part = plan.shard.map_or(String::new(), |s| format!("-{}-of-{}", s.index, s.of));
    Ok(Path::new("runs").join(format!("{}-{}-{fingerprint}{part}", names.join("+"), clean(&plan.dataset.card.name))))
}
