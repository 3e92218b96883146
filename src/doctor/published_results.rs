//! What others have published about a model of this name. A loader that errs (another normalisation, another activation,
//! another variant) still gives numbers; next to the published ones they show.
//!
//! `known.csv` holds RobustBench's entries of March 2025 (Croce et al. 2021, arXiv 2010.09670), accuracies in per cent: clean, and
//! under AutoAttack or, of the boards of corruptions, on average over them; `best` is the lowest robust accuracy that others
//! have reported.

use crate::doctor::{Code, Finding, Severity};
use crate::eval::plan::{Plan, PlannedAttack, PlannedModel};
use crate::runs::stats::binomial_cdf;
use robust_core::{DataCard, Norm, Outcome, Region, Spec, Verdict};
use robust_models::ensemble::{members, published_scores};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One published result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// As RobustBench names it: `Carmon2019Unlabeled`.
    pub name: String,
    /// The data set: `cifar10`, `cifar100`, `imagenet`.
    pub board: String,
    /// `Linf`, `L2` or `corruptions`.
    pub threat: String,
    /// In units of pixels in `[0,1]`, as written: `8/255`; empty for corruptions.
    pub eps: String,
    /// Per cent of the test set (of ImageNet: of RobustBench's 5,000 images).
    pub clean: f64,
    pub robust: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<f64>,
    /// Where the model comes from.
    pub source: String,
}

/// Images of a board's test set.
fn test_set(board: &str) -> u64 {
    if board == "imagenet" { 5_000 } else { 10_000 }
}

/// Standard errors of the published value, in a sample of the size at hand, from which on a difference is not luck.
const ERRORS: f64 = 3.;
/// And the chance of a difference as large to one side, exactly: the normal one of three standard errors.
const CHANCE: f64 = 0.00135;

impl Known {
    fn region(&self) -> Option<Region> {
        let norm = match self.threat.as_str() {
            "Linf" => Norm::Linf,
            "L2" => Norm::L2,
            _ => return None,
        };
        let eps = Spec::parse(&format!("known:eps={}", self.eps)).ok()?;
        Some(Region::Ball { norm, eps: eps.get("eps")?.number("eps").ok()? })
    }

    /// `cifar10 Linf 8/255: clean 89.69 %, AutoAttack 59.53 %`.
    pub fn describe(&self) -> String {
        let Self { board, threat, eps, clean, robust, .. } = self;
        let best = self.best.map_or(String::new(), |b| format!(", other attacks {b:.2} %"));
        match eps.is_empty() {
            true => format!("{board}, {threat}: clean {clean:.2} %, mean over them {robust:.2} %"),
            false => format!("{board}, {threat} {eps}: clean {clean:.2} %, AutoAttack {robust:.2} %{best}"),
        }
    }
}

/// Everything that is known.
pub fn table() -> &'static [Known] {
    static TABLE: OnceLock<Vec<Known>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut lines = csv::Reader::from_reader(include_bytes!("published_results.csv").as_slice());
        // A test reads every line.
        lines.deserialize().filter_map(Result::ok).collect()
    })
}

/// The entries of `table` that a model may be: by its label or by the name of its file or folder, whatever the case. In a
/// file's path folders like RobustBench's, `cifar10/Linf/NAME.pt`, choose among boards. Names that anyone might use
/// (`Standard`) count only there. None for a source that asks for an embedding or another head (`?output=`, `?head=`): the
/// published numbers are of the file's own classifier. Files that RobustBench numbers (`NAME.pt_m0.pt`, ...) are the model of
/// that name as an ensemble only.
pub fn recognise<'a>(table: &'a [Known], label: &str, source: &str) -> Vec<&'a Known> {
    let path = place(source).trim_end_matches(['/', '\\']);
    let parts: Vec<&str> = path.split(['/', '\\', ':']).collect();
    let stem = parts.last().map_or("", |file| file.split(['.', '@']).next().unwrap_or(file));
    if is_altered(source) || !joined_as_published(stem, source) {
        return vec![];
    }
    let named = |k: &&Known| k.name.eq_ignore_ascii_case(stem) || k.name.eq_ignore_ascii_case(label);
    let shelved = |k: &&Known| match parts.as_slice() {
        [.., board, threat, _] => k.board.eq_ignore_ascii_case(board) && k.threat.eq_ignore_ascii_case(threat),
        _ => false,
    };
    let by_name: Vec<&Known> = table.iter().filter(named).collect();
    let by_place: Vec<&Known> = by_name.iter().copied().filter(shelved).collect();
    match by_place.is_empty() {
        false => by_place,
        true => by_name.into_iter().filter(|k| !k.name.starts_with("Standard")).collect(),
    }
}

/// The path that a source is known by, without label and parameters; empty where it is several files of several names, or one
/// of several.
fn place(source: &str) -> &str {
    let ensemble = source.split_once("ensemble:").filter(|(label, _)| label.is_empty() || label.ends_with('='));
    let members = ensemble.map_or(vec![], |(label, _)| members(&source[label.len()..]));
    let shared = |path: &'_ str| path.rsplit_once(".pt_m").map_or(0, |(name, _)| name.len());
    match members.as_slice() {
        [] => {
            let path = source.split_once('?').map_or(source, |(path, _)| path);
            let path = path.rsplit_once('=').map_or(path, |(_, path)| path);
            if shared(path) == 0 { path } else { "" }
        }
        [first, others @ ..] => {
            let name = &first[..shared(first)];
            if others.iter().all(|other| other[..shared(other)] == *name) { name } else { "" }
        }
    }
}

/// Whether what a source says of its members' scores is what the numbers of that name are of.
fn joined_as_published(stem: &str, source: &str) -> bool {
    let said = pairs(source).find_map(|(key, value)| (key == "scores").then_some(value).flatten());
    match (said, published_scores(stem)) {
        (None, _) => true,
        (Some(said), Some(published)) => said == published,
        // Both decide alike.
        (Some(said), None) => matches!(said, "probabilities" | "log-probabilities"),
    }
}

/// Parameters of a source and of its members, which have questions of their own.
fn pairs(source: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let query = source.split_once('?').map_or("", |(_, query)| query);
    query.split(['&', '?']).map(|pair| pair.split_once('=').map_or((pair.trim(), None), |(k, v)| (k.trim(), Some(v))))
}

/// Whether a source asks for something else than the file's own classifier.
fn is_altered(source: &str) -> bool {
    pairs(source).any(|(key, _)| matches!(key, "output" | "head" | "mix"))
}

/// The board whose whole test set a data set is: CIFAR as published, all of it, with the labels of the boards; of ImageNet the
/// originals of RobustBench's 5,000 images under ImageNet's own labels. Copies in other formats may have been compressed again,
/// and are not judged.
fn board(card: &DataCard) -> Option<&'static str> {
    let is = |scheme: &str, query: &str| card.name.starts_with(scheme) && card.name.ends_with(query);
    let board = match card.name.split_once('?') {
        _ if is("cifar10:", "?split=test") => "cifar10",
        _ if is("cifar100:", "?split=test&labels=fine") => "cifar100",
        Some((place, query)) if place.starts_with("folder:") => {
            let mut pairs = query.split('&');
            let set = pairs.clone().any(|p| p == "subset=robustbench");
            let others = |p: &str| p.starts_with("copies=") || p.starts_with("labels=");
            (set && !pairs.any(others)).then_some("imagenet")?
        }
        _ => return None,
    };
    (card.samples == test_set(board)).then_some(board)
}

/// Hits among n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    hits: u64,
    n: u64,
}

impl Count {
    fn of(verdicts: impl Iterator<Item = bool>) -> Self {
        verdicts.fold(Self::default(), |c, hit| Self { hits: c.hits + u64::from(hit), n: c.n + 1 })
    }

    fn rate(self) -> f64 {
        self.hits as f64 / self.n.max(1) as f64
    }

    /// How many standard errors these hits are above a published value in per cent of `all` images, negative below, where
    /// that is not luck.
    fn surprise(self, percent: f64, all: u64) -> Option<f64> {
        // One image of the test set: a rate of zero would have no error.
        let p = (percent / 100.).clamp(1. / all as f64, 1. - 1. / all as f64);
        let z = (self.rate() - p) / (p * (1. - p) / self.n.max(1) as f64).sqrt();
        let tail = match z > 0. {
            true => self.hits.checked_sub(1).map_or(1., |below| 1. - binomial_cdf(below, self.n, p)),
            false => binomial_cdf(self.hits, self.n, p),
        };
        (self.n > 0 && z.abs() > ERRORS && tail < CHANCE).then_some(z)
    }

    fn text(self) -> String {
        format!("{} of {} ({:.2} %)", self.hits, self.n, 100. * self.rate())
    }
}

/// What contradicts the published numbers of a model of this label and source, when so many of the samples of `data` are
/// right, of a sample without bias.
pub fn clean(label: &str, source: &str, data: &DataCard, right: &[bool]) -> Vec<Finding> {
    let entries = of_board(table(), label, source, data);
    loading(&entries, Count::of(right.iter().copied())).into_iter().collect()
}

fn of_board<'a>(table: &'a [Known], label: &str, source: &str, data: &DataCard) -> Vec<&'a Known> {
    let Some(board) = board(data) else { return vec![] };
    let mut entries = recognise(table, label, source);
    entries.retain(|k| k.board == board);
    entries
}

/// The clean accuracy differs from every published one.
fn loading(entries: &[&Known], right: Count) -> Option<Finding> {
    // A name may stand on several boards: it is enough to agree with one.
    let all: Option<Vec<(f64, &Known)>> =
        entries.iter().map(|k| Some((right.surprise(k.clean, test_set(&k.board))?, *k))).collect();
    let (z, nearest) = all?.into_iter().min_by(|a, b| a.0.abs().total_cmp(&b.0.abs()))?;
    let text = format!(
        "probable loading error: {} of the clean samples are right, RobustBench has {:.2} % for {} ({} {}): {:.1} standard \
         errors {}",
        right.text(),
        nearest.clean,
        nearest.name,
        nearest.board,
        nearest.threat,
        z.abs(),
        if z > 0. { "above" } else { "below" }
    );
    let advice = "check normalisation, activation and variant (`robust inspect`), and that the file is the published one; a \
                  model of another origin needs another label and file name";
    let finding = Finding::new(Code::CleanNotAsPublished, text, advice);
    let finding = finding.with("clean_accuracy", right.rate()).with("published", nearest.clean / 100.);
    Some(finding.with("samples", right.n as f64).with("standard_errors", z))
}

/// Steps of PGD, and queries of an attack without gradients, from which on what AutoAttack leaves is a measure of it.
const STEPS: u64 = 40;
const QUERIES: u64 = 1000;

/// Whether an attack may be asked to come near AutoAttack: one step or a little noise never does.
fn is_thorough(attack: &PlannedAttack) -> bool {
    // Draws that are averaged into one step are one.
    let (forwards, steps) = (attack.passes.0, attack.passes.1 / u64::from(attack.eot.max(1)));
    steps >= STEPS || steps == 0 && forwards >= QUERIES
}

/// More samples hold than under AutoAttack. Where no attack was thorough that is worth a note only.
fn weakness(entry: &Known, held: Count, thorough: bool) -> Option<Finding> {
    let z = held.surprise(entry.robust, test_set(&entry.board)).filter(|z| *z > 0.)?;
    let what = if thorough { "attack too weak or other protocol" } else { "as is normal after few steps" };
    let text = format!(
        "{what}: {} hold at {} {}, RobustBench has {:.2} % under AutoAttack for {}: {z:.1} standard \
         errors above",
        held.text(),
        entry.threat,
        entry.eps,
        entry.robust,
        entry.name
    );
    let advice = "add `--attack autoattack-NORM:eps=..` before the number is compared with others; more steps, restarts and other \
                  losses find what is missing";
    let mut finding = Finding::new(Code::RobustAbovePublished, text, advice);
    if !thorough {
        finding.severity = Severity::Note;
    }
    let finding = finding.with("robust_accuracy", held.rate()).with("published", entry.robust / 100.);
    Some(finding.with("samples", held.n as f64).with("standard_errors", z))
}

/// Compares a run's numbers with the published ones, by the model's name: clean accuracy either way, and the worst case over
/// all attacks of a published threat model from above. Only for the whole standard test set or a `--limit` of it; other
/// choices have biases of their own.
pub fn examine(plan: &Plan, outcomes: &[Outcome]) -> Vec<(String, Vec<Finding>)> {
    let of = |m: &PlannedModel| (m.name.clone(), of_model(table(), plan, m, outcomes));
    plan.models.iter().map(of).collect()
}

fn of_model(table: &[Known], plan: &Plan, model: &PlannedModel, outcomes: &[Outcome]) -> Vec<Finding> {
    // A head of the run's own, or a goal without classes, is not what was published.
    let own = model.head.is_none() && model.attacks.iter().all(|a| a.aim.is_none());
    let entries = match own && (plan.pick == "all" || plan.pick.starts_with("limit ")) {
        true => of_board(table, &model.name, &model.source, &plan.dataset.card),
        false => vec![],
    };
    if entries.is_empty() {
        return vec![];
    }
    let mine = || outcomes.iter().filter(|o| o.model == model.name);
    let right: BTreeMap<u64, bool> = mine().filter_map(|o| Some((o.id, o.clean?.margin > 0.))).collect();
    let right = Count::of(right.into_values());
    if let Some(finding) = loading(&entries, right) {
        // The rest of the numbers is not this model's.
        return vec![finding];
    }
    let agrees = |k: &&&Known| right.surprise(k.clean, test_set(&k.board)).is_none();
    let weak = |k: &&Known| {
        let attacks = within(&k.region()?, model);
        weakness(k, worst_case(&attacks, &mine), attacks.iter().any(|a| is_thorough(a)))
    };
    entries.iter().filter(agrees).filter_map(weak).collect()
}

/// The attacks on a model in a region.
fn within<'a>(region: &Region, model: &'a PlannedModel) -> Vec<&'a PlannedAttack> {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs();
    let same = |other: &Region| match (region, other) {
        (Region::Ball { norm: p, eps: a }, Region::Ball { norm: q, eps: b }) => p == q && near(*a, *b),
        _ => false,
    };
    model.attacks.iter().filter(|a| same(&a.threat.region)).collect()
}

/// Samples that hold under every one of these attacks, among those that all of them have judged.
fn worst_case<'a, I: Iterator<Item = &'a Outcome>>(attacks: &[&PlannedAttack], mine: &dyn Fn() -> I) -> Count {
    let labels: Vec<&str> = attacks.iter().map(|a| a.label.as_str()).collect();
    let mut held = BTreeMap::<u64, (usize, bool)>::new();
    for o in mine().filter(|o| labels.contains(&o.attack.as_str()) && o.verdict != Verdict::Failed) {
        let (judged, all) = held.entry(o.id).or_insert((0, true));
        *judged += 1;
        *all &= o.verdict == Verdict::Held;
    }
    Count::of(held.into_values().filter(|(judged, _)| *judged == labels.len()).map(|(_, all)| all))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;
