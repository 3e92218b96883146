//! The weights of a folder: one safetensors file, its shards by their index, or PyTorch's own format.

use crate::bytes;
use crate::files::pth;
use crate::files::safetensors::{parse, views};
use crate::settings::Config;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

pub const ONE: &str = "model.safetensors";
pub const INDEX: &str = "model.safetensors.index.json";
pub const PICKLED: &str = "pytorch_model.bin";
pub const PICKLED_INDEX: &str = "pytorch_model.bin.index.json";
/// In the order in which they are looked for.
pub const NAMES: [&str; 4] = [ONE, INDEX, PICKLED, PICKLED_INDEX];
/// Bytes of an index, and files it may name.
pub const MAX_INDEX: u64 = 64 << 20;
const MAX_SHARDS: usize = 1024;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::load(name, format!("it has no `weight_map` from tensors to files ({e})")))
    }

    fn files(&self, index: &str) -> Result<BTreeSet<&String>> {
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        if names.len() > MAX_SHARDS || names.is_empty() {
            return Err(Error::load(index, format!("it names {} files; 1 to {MAX_SHARDS} are supported", names.len())));
        }
        names.iter().try_for_each(|name| inside(name)).map_err(|e| e.within(index))?;
        Ok(names)
    }
}

/// The files that an index names.
///
/// # Errors
/// Kind `Load` for an index that is none, and for files outside the folder.
#[cfg(feature = "hub")]
pub fn shards_of(index: &str, bytes: &[u8]) -> Result<Vec<String>> {
    Ok(Index::read(index, bytes)?.files(index)?.into_iter().cloned().collect())
}

/// # Errors
/// Kind `Load` for files that are missing or damaged, an index that names files outside the folder, tensors that are not
/// where the index says.
pub fn read(folder: &Path, _config: &Config) -> Result<(StateDict, Vec<String>)> {
    let has = |name: &str| folder.join(name).is_file();
    match () {
        () if has(ONE) => Ok((one(folder, ONE)?, vec![])),
        () if has(INDEX) => shards(folder, INDEX),
        () if has(PICKLED) => {
            let note = format!("weights are from {PICKLED}, read as data");
            Ok((one(folder, PICKLED)?, vec![note]))
        }
        () if has(PICKLED_INDEX) => shards(folder, PICKLED_INDEX),
        () => Err(Error::load(folder.display(), format!("it holds neither {ONE} nor {INDEX} nor {PICKLED}"))
            .hint("download the weights too, not the settings alone")),
    }
}

/// Whether a folder holds weights under one of these names.
pub fn any(folder: &Path) -> bool {
    NAMES.iter().any(|name| folder.join(name).is_file())
}

/// One file of a folder.
///
/// # Errors
/// Kind `Load` for one that is missing or damaged.
pub fn one(folder: &Path, name: &str) -> Result<StateDict> {
    let bytes = bytes::read(&folder.join(name))?;
    let dict = match name.ends_with(".safetensors") {
        true => StateDict::from_bytes(&bytes),
        false => pth::read(&bytes, None).and_then(|read| StateDict::from_views(read.tensors.into_iter())),
    };
    dict.map_err(|e| bytes::blame(e).within(name))
}

fn shards(folder: &Path, index: &str) -> Result<(StateDict, Vec<String>)> {
    let bytes = bytes::read_small(&folder.join(index), MAX_INDEX)?;
    let read = Index::read(index, &bytes)?;
    let names = read.files(index)?;
    let mut all = BTreeMap::new();
    for name in &names {
        let dict = match name.ends_with(".safetensors") {
            true => {
                let bytes = bytes::read(&folder.join(name))?;
                let file = parse(&bytes).map_err(|e| e.within(name))?;
                StateDict::from_views(views(&file)).map_err(|e| e.within(name))?
            }
            false => one(folder, name)?,
        };
        for tensor in dict.names().map(String::from).collect::<Vec<_>>() {
            match read.weight_map.get(&tensor) {
                Some(there) if there == *name => {}
                Some(there) => {
                    return Err(Error::load(
                        format!("tensor `{tensor}`"),
                        format!("the index has it in {there}, it is in {name}"),
                    ));
                }
                None => {
                    return Err(Error::load(
                        format!("tensor `{tensor}`"),
                        format!("{name} has it, the index does not"),
                    ));
                }
            }
            if let Some(value) = dict.tensor(&tensor) {
                all.insert(tensor, value.clone());
            }
        }
    }
    let skipped = |n: &str| StateDict::is_no_weight(n);
    if let Some((lost, file)) = read.weight_map.iter().find(|(n, _)| !all.contains_key(*n) && !skipped(n)) {
        return Err(Error::load(format!("tensor `{lost}`"), format!("the index has it in {file}, which lacks it")));
    }
    Ok((StateDict::from_tensors(all), vec![format!("weights are from {} shards", names.len())]))
}

/// A shard is a file of the folder itself.
fn inside(name: &str) -> Result<()> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) if !name.contains(['\\', '\0']) => Ok(()),
        _ => {
            Err(Error::load(format!("shard `{name}`"), "it is not a plain file name: shards lie in the folder itself")
                .hint("do not trust this folder: an index has no business outside it"))
        }
    }
}
