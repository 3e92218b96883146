//! Folders of the hub, brought into the cache that its own tools use: only what a folder needs, only when `hf:` names it,
//! only what is not there. A snapshot that is whole is used without a question; one that is not is completed at the same
//! commit.
//!
//! Endpoint, token, cache, proxies and the flags that forbid connections are those of the hub's own tools (`HF_ENDPOINT`,
//! `HF_TOKEN` or the token file, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`). What the other side
//! says is not trusted: sizes are bounded, names are plain, contents are checked against their sha256 where the hub has it.

use super::address::is_commit;
use super::client::{Client, Listing, Trouble};
use super::download::{Download, persist};
use super::settings::Settings;
use super::store::Store;
use crate::bytes;
use crate::files::hf::cache::{Wanted, find, plain};
use crate::files::hf::weights::{INDEX, MAX_INDEX, NAMES, ONE, PICKLED, PICKLED_INDEX, shards_of};
use crate::files::hf::{is_transformers, tokenizer};
use crate::files::open_clip::settings as open_clip;
use robust_core::{Error, Kind, Result};
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const PROCESSOR: &str = "preprocessor_config.json";
const TOKENIZER: &str = tokenizer::FILE;
/// Bytes of a file of settings, and of all files together.
const MAX_CONFIG: u64 = 32 << 20;
const MAX_TOTAL: u64 = 64 << 30;

/// What a folder of one kind is made of.
struct Layout {
    config: &'static str,
    /// Files that some have.
    others: &'static [(&'static str, u64)],
    /// In the order in which they are looked for.
    weights: [&'static str; 4],
}

const TRANSFORMERS: Layout =
    Layout { config: CONFIG, others: &[(PROCESSOR, MAX_CONFIG), (TOKENIZER, tokenizer::MAX_BYTES)], weights: NAMES };
const OPEN_CLIP: Layout =
    Layout { config: open_clip::CONFIG, others: &[(TOKENIZER, tokenizer::MAX_BYTES)], weights: open_clip::WEIGHTS };

/// The snapshot of a model, completed if need be; the settings are looked at only then.
///
/// # Errors
/// Kind `Load` for what the cache lacks and the hub does not give, `Write` for a cache that cannot be written, `Usage` for
/// settings that make no sense, `Interrupted`.
pub(crate) fn fetch(settings: &dyn Fn() -> Result<Settings>, root: &Path, wanted: &Wanted) -> Result<PathBuf> {
    let store = Store::new(root, wanted);
    let local = find(root, wanted);
    let state = local.as_deref().map_or(Ok(State::Lacking), |folder| state(folder, &store))?;
    let complete = |revision: &str| complete(&settings()?, &store, wanted, revision, state);
    let commit = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match (local, state) {
        (Ok(folder), State::Whole) => Ok(folder),
        // It can be loaded as it is, and has been until now: trouble with hub or cache is no reason to stop.
        (Ok(folder), State::Loadable) => match complete(&commit(&folder)) {
            Err(e) if e.kind == Kind::Interrupted => Err(e),
            _ => Ok(folder),
        },
        (Ok(folder), State::Lacking) => complete(&commit(&folder)),
        (Err(_), _) => complete(&wanted.revision),
    }
}

/// Brings the `tokenizer.json` of a model that is in the cache, if the hub has one: whoever filled the cache may have left it out.
/// Without an answer there is none, and the question is put again the next time.
///
/// # Errors
/// Kind `Interrupted`.
pub(crate) fn fetch_words(settings: &dyn Fn() -> Result<Settings>, root: &Path, wanted: &Wanted) -> Result<()> {
    let store = Store::new(root, wanted);
    let Ok(folder) = find(root, wanted) else { return Ok(()) };
    let commit = folder.file_name().unwrap_or_default().to_string_lossy();
    if folder.join(TOKENIZER).is_file() || store.is_denied(&commit, TOKENIZER) {
        return Ok(());
    }
    let asked = settings().and_then(|settings| complete(&settings, &store, wanted, &commit, State::Loadable));
    match asked {
        Err(e) if e.kind == Kind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

/// What of a folder is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Nobody knows whether the revision has a file of preprocessing.
    Loadable,
    Lacking,
}

fn state(folder: &Path, store: &Store) -> Result<State> {
    let has = |name: &str| folder.join(name).is_file();
    if open_clip::is_folder(folder) {
        let whole = OPEN_CLIP.weights.iter().any(|name| has(name));
        return Ok(if whole { State::Whole } else { State::Lacking });
    }
    let shards = |index: &str| -> Result<bool> {
        let bytes = bytes::read_small(&folder.join(index), MAX_INDEX)?;
        Ok(shards_of(index, &bytes)?.iter().all(|shard| has(shard)))
    };
    // In the order in which weights are looked for.
    let weights = match () {
        () if has(ONE) => true,
        () if has(INDEX) => shards(INDEX)?,
        () if has(PICKLED) => true,
        () if has(PICKLED_INDEX) => shards(PICKLED_INDEX)?,
        () => false,
    };
    let commit = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(match has(CONFIG) && weights {
        false => State::Lacking,
        true if has(PROCESSOR) || store.is_denied(&commit, PROCESSOR) => State::Whole,
        true => State::Loadable,
    })
}

/// Brings what is missing of a revision.
fn complete(settings: &Settings, store: &Store, wanted: &Wanted, revision: &str, state: State) -> Result<PathBuf> {
    if let Some(flag) = settings.offline {
        return Err(wanted
            .missing(format!("the cache lacks files of it, and {flag} is set: nothing is asked"))
            .hint("unset it, or let `hf download` bring the files where there is a connection"));
    }
    let client = Client::new(settings)?;
    let Listing { commit, files } = listing(&client, settings, wanted, revision, state)?;
    let has = |name: &str| files.iter().any(|f| f == name);
    let folder = store.snapshot(&commit);
    let download = Download { client: &client, settings, store, wanted, commit: &commit };
    let weights_of = |layout: &Layout| layout.weights.into_iter().find(|name| has(layout.config) && has(name));
    let (layout, weights) = match (weights_of(&TRANSFORMERS), weights_of(&OPEN_CLIP)) {
        (None, None) => {
            let why = format!(
                "its files on the hub are no such folder: {CONFIG} and {ONE} (or {PICKLED}) are wanted, or {} and {}",
                OPEN_CLIP.config, OPEN_CLIP.weights[0]
            );
            return Err(wanted.missing(why).hint("export the model to ONNX, or name its weights file and `?arch=`"));
        }
        (Some(weights), None) => (&TRANSFORMERS, weights),
        (None, Some(weights)) => (&OPEN_CLIP, weights),
        // The settings say whether transformers could build it; timm's do not.
        (Some(ours), Some(theirs)) => {
            store.refer(&wanted.revision, &commit)?;
            download.bring(CONFIG, MAX_CONFIG)?;
            if is_transformers(&folder) { (&TRANSFORMERS, ours) } else { (&OPEN_CLIP, theirs) }
        }
    };
    store.refer(&wanted.revision, &commit)?;
    download.bring(layout.config, MAX_CONFIG)?;
    for (name, most) in layout.others {
        match has(name) {
            true => drop(download.bring(name, *most)?),
            false => store.deny(&commit, name)?,
        }
    }
    if state == State::Loadable {
        // Weights are there, perhaps in another format than would be chosen now.
        return Ok(folder);
    }
    if weights != INDEX && weights != PICKLED_INDEX {
        download.bring(weights, bytes::MAX_BYTES)?;
        return Ok(folder);
    }
    download.bring(weights, MAX_INDEX)?;
    let bytes = bytes::read_small(&folder.join(weights), MAX_INDEX)?;
    let shards = shards_of(weights, &bytes)?;
    shards.iter().try_for_each(|shard| honest(shard, &files)).map_err(|e| e.within(weights))?;
    let mut total = 0;
    for shard in &shards {
        total += download.bring(shard, bytes::MAX_BYTES.min(MAX_TOTAL - total))?;
    }
    Ok(folder)
}

/// The files of a revision; where a commit is asked for, of that one alone.
fn listing(client: &Client, settings: &Settings, wanted: &Wanted, revision: &str, state: State) -> Result<Listing> {
    let mut ask = || client.list(wanted, revision);
    let found = match state {
        // What is there can be loaded whatever the answer is: once is enough.
        State::Loadable => match ask() {
            Ok(listing) => listing,
            Err(Trouble::Passing(error, _) | Trouble::Final(error)) => return Err(error),
        },
        State::Whole | State::Lacking => persist(settings, &mut ask)?,
    };
    // A local snapshot is completed at its own commit, whichever the branch has now.
    let pinned = revision != wanted.revision || is_commit(revision);
    match pinned && !revision.eq_ignore_ascii_case(&found.commit) {
        true => Err(wanted
            .missing(format!("the commit {revision} is asked for, the hub answers with {}", found.commit))
            .hint("do not trust this answer: does HF_ENDPOINT name the hub you mean?")),
        false => Ok(found),
    }
}

/// A shard is weights, under a plain name that the revision has.
fn honest(shard: &str, files: &[String]) -> Result<()> {
    let ending = [".safetensors", ".bin"].iter().any(|end| shard.ends_with(end));
    match plain(shard) && ending && files.iter().any(|f| f == shard) {
        true => Ok(()),
        false => Err(Error::load(format!("shard `{shard}`"), "the revision has no weights of that name")
            .hint("do not trust this model: an index names files beside it")),
    }
}

#[cfg(test)]
mod tests;
