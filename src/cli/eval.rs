//! `robust eval`: load, plan, run, summarise.

use super::heads::{self, Opened};
use super::load::{self, Wanted};
use super::summary::write_summary;
use super::{Format, STOP, corrupt, goal, machine, pick, print, target};
use robust::attacks::{self, Ready};
use robust::benchmarks::subset;
use robust::core::{AimSpec, Dataset, Draw, Error, Kind, Outcome, Result, Site};
use robust::engine::Network;
use robust::folder::{self, Record, Session};
use robust::models::{Head, LoadedModel};
use robust::plan::{self, Keep, Plan, PlannedData, PlannedHead, PlannedModel};
use robust::progress::{Meter, Metered, Progress};
use robust::report::{self, Row, encoders};
use robust::run::{Run, Subject, Times, is_compat};
use robust::shard::Shard;
use robust::{classes, clock, doctor, escape, evaluate, given, rows, say, stages};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Model: a file (.onnx, .onnx.gz, .safetensors, .pth) or builtin:NAME, with [name=] before and ?key=value after it, or several as
    /// one, ensemble:A+B+C?key=value (see below); repeatable
    #[arg(long, required = true, value_name = "MODEL")]
    model: Vec<String>,
    /// Data set: builtin:mnist, mnist:DIR, cifar10:PATH, folder:PATH, wds:TAR, npz:FILE, npy:IMAGES,LABELS, ...: `robust list datasets`
    #[arg(long, value_name = "DATA", env = "ROBUST_DATASET")]
    dataset: Option<String>,
    /// Attack: name:key=value,... such as pgd-linf:eps=8/255,steps=40, or file:POINTS,eps=... to judge examples made elsewhere; repeatable
    #[arg(long, required_unless_present = "corruptions", value_name = "ATTACK")]
    attack: Vec<String>,
    #[command(flatten)]
    corruption: corrupt::Options,
    /// For bare encoders, without labels: away[:cosine=C|:l2=D] from the clean embedding, or towards another sample's; without a
    /// number the threshold comes from the data (see below)
    #[arg(long, value_name = "GOAL", conflicts_with = "corruptions")]
    goal: Option<String>,
    #[command(flatten)]
    heads: heads::Options,
    /// A fixed pseudo-random subset of N samples; larger ones contain smaller ones
    #[arg(long, value_name = "N", conflicts_with_all = ["first", "ids"])]
    limit: Option<u64>,
    /// The first N samples (biased when the data set is sorted by class)
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    first: Option<u64>,
    /// A file of sample ids: one per line or separated by commas, a-b for ranges, # for comments
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Samples attacked at once, 1 to 64; never changes a result
    #[arg(long, default_value_t = plan::UNIT, value_name = "B", env = "ROBUST_BATCH_SIZE")]
    batch_size: usize,
    /// Seed of all noise
    #[arg(long, default_value_t = 0, value_name = "S", env = "ROBUST_SEED")]
    seed: u64,
    #[command(flatten)]
    target: target::Options,
    /// Where to compute: auto or cpu (this build has no other device)
    #[arg(long, default_value = "auto", value_name = "DEVICE", env = "ROBUST_DEVICE")]
    device: String,
    /// Worker threads (default: all cores); never changes a result
    #[arg(long, value_name = "T", env = "ROBUST_THREADS")]
    threads: Option<usize>,
    #[command(flatten)]
    memory: machine::Memory,
    /// Run folder (default: runs/ and a name made of models, data and settings; continued if it exists)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the run in --out
    #[arg(long)]
    resume: bool,
    /// Which adversarial points to keep
    #[arg(long, default_value = "fooled", value_name = "WHICH", value_parser = parse_keep)]
    evidence: Keep,
    /// Samples that may fail to be judged before the exit code says so
    #[arg(long, default_value_t = 0, value_name = "N")]
    allow_failed: u64,
    /// Do only shard K of N (from 1), or `auto`: what the job array, MPI launcher or CI matrix says; join with `robust merge`
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Number of shards, where --shard auto cannot know it
    #[arg(long, value_name = "N", requires = "shard")]
    shards: Option<u64>,
    /// Begin no unit of work after this time; exit 3 if any is left
    #[arg(long, value_name = "T")]
    max_minutes: Option<f64>,
    /// Print the plan with the most passes it can cost, and stop
    #[arg(long)]
    dry_run: bool,
    /// What to print on standard output
    #[arg(long, default_value = "text", value_enum)]
    format: Format,
    /// Skip the doctor, which looks at a few samples for wrong loading and masked gradients (`robust doctor` looks further); the grade is then `unchecked`
    #[arg(long)]
    no_doctor: bool,
    /// No progress bar
    #[arg(long)]
    no_progress: bool,
}

const AFTER: &str = "\
Examples:
  robust eval --model builtin:mnist-at --attack pgd-linf:eps=0.3,steps=40
  robust eval --model builtin:mnist-std --model builtin:mnist-at --attack fgsm --attack pgd --format csv
  robust eval --model builtin:mnist-std --corruptions mnist-c
  robust eval --model wrn=net.safetensors?arch=cifar-resnet --dataset folder:test --attack pgd-l2:eps=0.5 --limit 1000
  robust eval --model ./dinov2-small --dataset folder:val --attack pgd-linf:eps=4/255 --goal away:cosine=0.5
  robust eval --model a=simclr.safetensors?output=features --model b=sup.safetensors?output=features --probe knn,linear
              --train mnist:data?split=train --dataset mnist:data --attack pgd-linf:eps=0.1 --out runs/encoders

Ensembles: ensemble:A+B+C is one network whose scores are the logarithm of the mean of the members' probabilities, or with
?scores=probabilities that mean itself, with ?scores=logits the mean of their logits. Mixtures of an accurate and a robust member
(adaptive-smoothing, mixednuts, mixednuts-bypassed, with mix=) are in docs/encoders.md. Parameters after ? are all members';
[A?key=value] has its own. One * in a file's name stands for all that fit: 'ensemble:dir/Chen2020Adversarial.pt_m*.pt?mean=..'.

Goals without labels: with --goal away a sample is fooled when the cosine of its embedding and the clean one's is below the
threshold (or their distance above it, l2); with --goal towards, when its embedding comes that near to the one of another
sample, chosen by seed and id. Thresholds left open are the median similarity of two different samples (away: the image is a
stranger to itself) and of a sample to its nearest other one (towards: it is taken for a neighbour), among 128 of the run.
They differ between encoders; say a number to compare encoders at one.";

fn parse_keep(text: &str) -> std::result::Result<Keep, String> {
    match text {
        "all" => Ok(Keep::All),
        "fooled" => Ok(Keep::Fooled),
        "none" => Ok(Keep::None),
        _ => Err("it is all, fooled or none".to_string()),
    }
}

/// What a command needs to attack: everything but the folder.
pub struct Prepared {
    pub plan: Plan,
    pub subjects: Vec<Subject>,
    pub data: Box<dyn Dataset>,
    pub meter: Arc<Meter>,
    /// Samples attacked at once.
    pub batch_size: usize,
    /// Of each model, for the doctor.
    networks: Vec<Option<Arc<Network>>>,
    /// Heads that belong into the run's folder.
    heads: Vec<(PlannedHead, Head)>,
}

/// Checks the options, loads models and data, resolves the plan.
pub fn prepare(args: &Args) -> Result<Prepared> {
    machine::check_device(&args.device)?;
    machine::set_threads(args.threads)?;
    if args.batch_size == 0 || args.batch_size > plan::UNIT {
        return Err(Error::usage(format!("--batch-size {} is not between 1 and {}", args.batch_size, plan::UNIT)));
    }
    // Spelling comes first: models and data may take minutes to load.
    args.attack.iter().try_for_each(|spec| given::check(spec))?;
    args.corruption.check()?;
    let goal = args.goal.as_deref().map(AimSpec::parse).transpose()?;
    let wanted = if args.goal.is_some() { Wanted::Embeddings } else { Wanted::Scores };
    let Opened { mut loaded, sources, heads } = args.heads.open(&args.model, wanted, args.out.as_deref())?;
    let (source, data) = load_data(args, &mut loaded, if heads.is_empty() { &sources } else { &[] })?;
    let meter = Arc::new(Meter::default());
    let (ids, pick) = choose(args, data.as_ref())?;
    // Before anything is attacked: a label in the last unit would end the run there.
    load::scores(&loaded, &sources).iter().try_for_each(|scores| classes::check_labels(data.as_ref(), &ids, scores))?;
    let subjects = subjects(args, goal, &loaded, &meter, (data.as_ref(), &ids))?;
    check_fit(&subjects, data.as_ref(), &ids)?;
    let models = planned(&loaded, sources, &heads, &subjects);
    let plan = make_plan(args, models, source, data.as_ref(), ids, pick, interpreters(&loaded))?;
    let warn = |f: doctor::Finding| say(&format!("warning: {}\n  hint: {}", escape::line(&f.evidence), f.advice));
    doctor::foresee(&plan).into_iter().for_each(warn);
    let batch_size = args.memory.batch(args.batch_size, &loaded)?;
    let networks = loaded.iter().map(|m| m.network.clone()).collect();
    Ok(Prepared { plan, subjects, data, meter, batch_size, networks, heads })
}

pub fn run(args: &Args) -> Result<()> {
    let prepared = prepare(args)?;
    if args.dry_run {
        return print(&describe(args, &prepared.plan, &prepared.subjects, prepared.data.as_ref())?);
    }
    let done = evaluate(args, &prepared)?;
    conclude(args, done)
}

/// Images that do not fit a model are refused before there is a folder for the run.
fn check_fit(subjects: &[Subject], data: &dyn Dataset, ids: &[u64]) -> Result<()> {
    for Subject { target, .. } in subjects {
        let first = data.load(&ids[..ids.len().min(1)], &target.deployed.card().view(), &candle_core::Device::Cpu)?;
        first.batch.map_or(Ok(()), |batch| evaluate::check_fit(target, &batch))?;
    }
    Ok(())
}

/// A run that came to its end. Its folder is locked until this is dropped: what is made of the outcomes belongs to the
/// same writer.
pub struct Done {
    pub root: PathBuf,
    pub record: Record,
    pub outcomes: Vec<Outcome>,
    pub journal: folder::Journal,
}

/// Runs a plan in its folder, or what is left of it there.
pub fn evaluate(args: &Args, prepared: &Prepared) -> Result<Done> {
    let root = args.out.clone().map_or_else(|| default_folder(&prepared.plan), Ok)?;
    go(args, prepared, &root).map_err(|e| resumable(e, args, &root))
}

fn go(args: &Args, prepared: &Prepared, root: &Path) -> Result<Done> {
    let Prepared { plan, subjects, data, meter, .. } = prepared;
    let (mut journal, mut outcomes, mut record) = open(args, root, prepared)?;
    super::on_leaving(continues(args, root));
    robust::heads::keep(root, prepared.heads.iter().map(|(planned, head)| (planned, head)))?;
    // The doctor looks at scores of classes, once: also in a run that went on before it could write down what it found.
    let unchecked = record.sessions.iter().all(|s| s.doctor.is_empty());
    if unchecked && !args.no_doctor && args.goal.is_none() {
        let found = consult(plan, subjects, &prepared.networks, data.as_ref())?;
        if let Some(session) = record.sessions.last_mut() {
            session.doctor = found;
        }
        folder::write_record(root, &record)?;
    }
    let progress = Progress::new(plan, outcomes.len(), args.no_progress, meter.clone());
    let (clock, before) = (clock::Stopwatch::start(), meter.seconds());
    let mut times = Times::new(plan);
    let run = Run {
        plan,
        subjects,
        data: data.as_ref(),
        batch_size: prepared.batch_size,
        progress: &progress,
        stop: &STOP,
        max_seconds: args.max_minutes.map(|m| 60. * m),
    };
    let result = run.go(&mut journal, &mut outcomes, &mut times);
    drop(progress);
    if let Some(session) = record.sessions.last_mut() {
        session.seconds = clock.seconds();
        (session.attack_seconds, session.stages) = (times.attacks, times.stages);
        session.network_seconds = meter.seconds() - before;
    }
    load::tell_remarks(data.as_ref());
    let written = folder::write_record(root, &record);
    result?;
    written?;
    Ok(Done { root: root.to_path_buf(), record, outcomes, journal })
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
        let Some(batch) = data.load(&plan::spread(&plan.ids, doctor::SAMPLES), &view, &candle_core::Device::Cpu)?.batch
        else {
            continue;
        };
        let mut found = doctor::examine(model.as_ref(), &batch)?;
        found.extend(doctor::examine_gradients(model.as_ref(), &batch)?);
        if let Some(network) = network {
            found.extend(doctor::examine_neighbours(network, &batch)?);
        }
        all.push((model.card().name.clone(), found));
    }
    Ok(all)
}

/// How an unfinished run goes on.
fn continues(args: &Args, root: &Path) -> String {
    match args.out {
        Some(_) => format!("`--out {} --resume` with the same options continues", shell(root)),
        None => "the same command continues".to_string(),
    }
}

/// A path that can be pasted into a command.
fn shell(path: &Path) -> String {
    escape::shell(&path.display().to_string())
}

/// Adds how the unfinished run goes on.
fn resumable(error: Error, args: &Args, root: &Path) -> Error {
    let continues = continues(args, root);
    match (error.kind, &error.hint) {
        (Kind::Interrupted | Kind::Incomplete, _) | (Kind::Write, None) => error.hint(continues),
        (Kind::Write, Some(first)) => {
            let both = format!("{first}; then {continues}");
            error.hint(both)
        }
        _ => error,
    }
}

/// `specs`: of models that score the classes of their own files.
fn load_data(args: &Args, loaded: &mut [LoadedModel], specs: &[String]) -> Result<(String, Box<dyn Dataset>)> {
    let source = match &args.dataset {
        Some(source) => source.clone(),
        None if loaded.iter().all(|m| m.format == "builtin") => "builtin:mnist".to_string(),
        None => {
            return Err(Error::usage("no --dataset")
                .hint("such as --dataset folder:val; `robust list datasets` shows what can be read"));
        }
    };
    load::data_for(&source, loaded, specs, false)
}

fn subjects(
    args: &Args,
    goal: Option<AimSpec>,
    loaded: &[LoadedModel],
    meter: &Arc<Meter>,
    (data, ids): (&dyn Dataset, &[u64]),
) -> Result<Vec<Subject>> {
    let samples = data.card().samples;
    let resolve = |spec: &String, model: &LoadedModel| match given::is_file(spec) {
        true => given::resolve(spec, &model.card, samples, ids),
        false => attacks::resolve(spec, &model.card),
    };
    let climb = args.target.open()?;
    loaded
        .iter()
        .map(|model| {
            let mut ready: Vec<Ready> = args.attack.iter().map(|s| resolve(s, model)).collect::<Result<_>>()?;
            ready.extend(args.corruption.attacks(&model.card, samples)?);
            if let Some(spec) = goal {
                ready = goal::aimed(spec, ready, model, data, ids, args.seed)?;
            }
            if let Some(twice) = ready.iter().enumerate().find(|(i, r)| ready[..*i].iter().any(|q| q.label == r.label))
            {
                return Err(Error::usage(format!("attack `{}` is given twice", twice.1.label)));
            }
            let compat = |r: &&Ready| is_compat(&r.params);
            if let (Some(same), Some(other)) = (ready.iter().find(compat), ready.iter().find(|r| !compat(r))) {
                return Err(Error::usage(format!("`{}` and `{}` do not belong in one table", same.label, other.label))
                    .hint("compat=true is for comparison with the reference's numbers: evaluate the others apart"));
            }
            let target = climb.target(Arc::new(Metered::new(model.model.clone(), meter.clone())))?;
            Ok(Subject::new(target, ready, climb.gradients()))
        })
        .collect()
}

/// The ids of the run and how they were chosen.
fn choose(args: &Args, data: &dyn Dataset) -> Result<(Vec<u64>, String)> {
    let (pick, text) = match (args.limit, args.first, &args.ids) {
        (Some(n), ..) => (subset::Pick::Limit(n), format!("limit {n}")),
        (_, Some(n), _) => (subset::Pick::First(n), format!("first {n}")),
        (_, _, Some(file)) => (subset::Pick::Ids(pick::read_ids(file)?), "ids".to_string()),
        _ => (subset::Pick::All, "all".to_string()),
    };
    Ok((subset::choose(data.card().samples, &pick)?, text))
}

fn planned(
    loaded: &[LoadedModel],
    sources: Vec<String>,
    heads: &[(PlannedHead, Head)],
    subjects: &[Subject],
) -> Vec<PlannedModel> {
    let all = loaded.iter().zip(sources).zip(subjects).enumerate();
    all.map(|(i, ((model, source), subject))| PlannedModel {
        name: model.name.clone(),
        source,
        digest: model.card.digest.clone(),
        preprocess: model.card.preprocess,
        head: heads.get(i).map(|(planned, _)| planned.clone()),
        attacks: subject.planned(),
    })
    .collect()
}

/// What computes the models, each way once.
fn interpreters(loaded: &[LoadedModel]) -> String {
    let mut names: Vec<&str> = vec![];
    for model in loaded {
        if !names.contains(&model.card.interpreter.as_str()) {
            names.push(&model.card.interpreter);
        }
    }
    names.join(" + ")
}

fn make_plan(
    args: &Args,
    models: Vec<PlannedModel>,
    source: String,
    data: &dyn Dataset,
    ids: Vec<u64>,
    pick: String,
    interpreter: String,
) -> Result<Plan> {
    Ok(Plan {
        schema: plan::SCHEMA.to_string(),
        robust: env!("CARGO_PKG_VERSION").to_string(),
        models,
        ids,
        dataset: PlannedData::of(&source, data),
        pick,
        seed: args.seed,
        unit: plan::UNIT,
        evidence: args.evidence,
        shard: args.shard.as_ref().map(|s| Shard::parse(s, args.shards, &|v| std::env::var(v).ok())).transpose()?,
        interpreter,
    })
}

/// The plan in words: passes at most, the time they would take at the speed of a few of them, and the evidence's size.
fn describe(args: &Args, plan: &Plan, subjects: &[Subject], data: &dyn Dataset) -> Result<String> {
    let n = plan.units().iter().map(|u| u.count as u64).sum::<u64>()
        / plan.models.iter().map(|m| m.attacks.len() as u64).sum::<u64>().max(1);
    let mut text = format!("{n} of {} samples of {}\n", plan.dataset.card.samples, plan.dataset.card.name);
    let (mut seconds, mut bytes) = (0., 0);
    for (model, subject) in plan.models.iter().zip(subjects) {
        let (forward_time, backward_time) = pace(plan, subject, data)?;
        for attack in &model.attacks {
            // One clean forward; one to confirm a success or to judge the strongest point.
            let (forward, backward) = (n * (attack.passes.0 + 2), n * attack.passes.1);
            text += &format!("{} {}: at most {forward} forwards, {backward} backwards\n", model.name, attack.label);
            seconds += forward as f64 * forward_time + backward as f64 * backward_time;
            // Corrupted images are made again by whoever checks them.
            if plan.evidence == Keep::All || !attack.is_recipe() {
                bytes += n * 4 * attack.threat.input.len() as u64;
            }
        }
    }
    let kept = match plan.evidence {
        Keep::All => format!("{:.1} MB of evidence", bytes as f64 / 1e6),
        Keep::Fooled if bytes == 0 => "no evidence: corrupted images are made again when they are checked".to_string(),
        Keep::Fooled => format!("at most {:.1} MB of evidence", bytes as f64 / 1e6),
        Keep::None => "no evidence".to_string(),
    };
    text += &format!(
        "at most about {} on this machine, {kept}\n",
        indicatif::HumanDuration(Duration::from_secs_f64(seconds.min(1e9)))
    );
    let root = args.out.clone().map_or_else(|| default_folder(plan), Ok)?;
    Ok(text + &format!("run folder: {}\n", root.display()))
}

/// Seconds that a forward and a backward of one row take, measured on one batch.
fn pace(plan: &Plan, subject: &Subject, data: &dyn Dataset) -> Result<(f64, f64)> {
    let model = &subject.target.deployed;
    let view = model.card().view();
    let ids: Vec<u64> = plan.ids.iter().copied().take(plan.unit).collect();
    let Some(batch) = data.load(&ids, &view, &candle_core::Device::Cpu)?.batch else { return Ok((0., 0.)) };
    let keys = evaluate::row_keys(&batch.ids);
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
    let rows = batch.len() as f64;
    // The first pass pays for cold caches and for weights that are packed when first needed.
    let out = model.forward(&batch.x, &draw)?;
    model.trace(&batch.x, &draw, &[])?.pull(&[(Site::Output, out.ones_like()?)])?;
    let clock = clock::Stopwatch::start();
    let out = model.forward(&batch.x, &draw)?;
    let forward = clock.seconds() / rows;
    let clock = clock::Stopwatch::start();
    model.trace(&batch.x, &draw, &[])?.pull(&[(Site::Output, out.ones_like()?)])?;
    Ok((forward, (clock.seconds() / rows - forward).max(0.)))
}

/// `runs/MODELS-DATA-FINGERPRINT`: the same command finds its own folder again.
fn default_folder(plan: &Plan) -> Result<PathBuf> {
    let clean = |s: &str| -> String {
        s.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).take(40).collect()
    };
    let names: Vec<String> = plan.models.iter().take(3).map(|m| clean(&m.name)).collect();
    let fingerprint: String = plan.fingerprint()?.chars().take(10).collect();
    let part = plan.shard.map_or(String::new(), |s| format!("-{}-of-{}", s.index, s.of));
    Ok(Path::new("runs").join(format!("{}-{}-{fingerprint}{part}", names.join("+"), clean(&plan.dataset.card.name))))
}

fn open(args: &Args, root: &Path, prepared: &Prepared) -> Result<(folder::Journal, Vec<Outcome>, Record)> {
    let Prepared { plan, data, batch_size, .. } = prepared;
    let session = Session {
        started: clock::now(),
        threads: rayon::current_num_threads(),
        batch_size: *batch_size,
        machine: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
        ..Session::default()
    };
    let fingerprint = plan.fingerprint()?;
    // The default folder is named by the fingerprint, so what lies there is this very run.
    if folder::exists(root) && (args.resume || args.out.is_none()) {
        let mut record = folder::read_record(root)?;
        if record.plan.shard != plan.shard {
            let name = |s: Option<Shard>| s.map_or("the whole".to_string(), |s| format!("shard {s}"));
            let (theirs, ours) = (name(record.plan.shard), name(plan.shard));
            return Err(Error::usage(format!("the run in {} does {theirs} of its plan, not {ours}", root.display()))
                .hint("give each shard a folder of its own with --out"));
        }
        rows::same_rule(&record.plan, data.as_ref())?;
        if record.fingerprint != fingerprint || record.plan.fingerprint()? != fingerprint {
            let differences = record.plan.differences(plan)?.join("; ");
            return Err(Error::usage(format!("the run in {} has other settings: {differences}", root.display()))
                .hint("resume with the settings it was started with, or choose a new folder with --out"));
        }
        let (journal, outcomes) = folder::resume(root, plan)?;
        rows::still_there(plan, &outcomes, data.as_ref())?;
        let (done, all) = (outcomes.len(), plan.rows());
        say(&format!("resuming {}: {done} of {all} outcomes are there", root.display()));
        record.sessions.push(session);
        return Ok((journal, outcomes, record));
    }
    if folder::exists(root) {
        return Err(Error::usage(format!("folder {} is not empty: it holds a run", root.display()))
            .hint("add --resume to continue it, or choose another folder with --out"));
    }
    if !folder::is_vacant(root) {
        let hint = match args.out {
            Some(_) => "choose a new folder with --out",
            None => "move it away: runs without a folder of their own go there",
        };
        let why = if args.resume { "holds no run to resume, and is not empty" } else { "is not empty" };
        return Err(Error::usage(format!("folder {} {why}", root.display())).hint(hint));
    }
    let journal = folder::create(root)?;
    let record =
        Record { schema: folder::RECORD_SCHEMA.to_string(), fingerprint, plan: plan.clone(), sessions: vec![session] };
    folder::write_record(root, &record)?;
    Ok((journal, vec![], record))
}

fn conclude(args: &Args, done: Done) -> Result<()> {
    let Done { root, record, outcomes, journal } = done;
    let (rows, diagnoses) = write_summary(&root, &record, &outcomes)?;
    let compared = encoders::compare(&record.plan, &outcomes);
    if !compared.is_empty() {
        folder::write_atomic(&root.join("encoders.csv"), encoders::to_csv(&compared)?.as_bytes())?;
    }
    args.corruption.keep(&root, &record.plan, &outcomes)?;
    journal.check().map_err(|e| resumable(e, args, &root))?;
    drop(journal);
    // From here on everything is in its place; only talking is left.
    args.corruption.print(&record.plan, &outcomes, &rows, args.format)?;
    if args.format == Format::Text {
        print(&encoders::to_text(&compared))?;
        let stages = stages::joined(record.sessions.iter().map(|s| s.stages.as_slice()));
        print(&stages::to_text(&stages, &outcomes))?;
    }
    report::own_class(&record.plan, &outcomes).iter().for_each(|note| say(&format!("note: {note}")));
    for d in &diagnoses {
        d.findings.iter().filter(|f| f.severity > doctor::Severity::Note).for_each(|f| {
            say(&format!("warning: {}: {}\n  hint: {}", escape::line(&d.model), escape::line(&f.evidence), f.advice));
        });
    }
    if let Some(shard) = record.plan.shard {
        say(&format!("shard {shard}: join all {} with `robust merge DIR... --out DIR`", shard.of));
    }
    say(&format!("run folder: {} (re-check it with `robust verify {}`)", root.display(), shell(&root)));
    check_failed(args, &rows, &outcomes)
}

fn check_failed(args: &Args, rows: &[Row], outcomes: &[Outcome]) -> Result<()> {
    let failed = rows.iter().map(|r| r.failed).max().unwrap_or(0);
    if failed <= args.allow_failed {
        return Ok(());
    }
    let first =
        outcomes.iter().find_map(|o| o.why.as_ref().map(|why| format!("sample {}: {why}", o.id))).unwrap_or_default();
    Err(Error::new(Kind::Incomplete, format!("{failed} samples could not be judged ({first})"))
        .hint(format!("mend them, or accept that they count as not robust: --allow-failed {failed}")))
}
