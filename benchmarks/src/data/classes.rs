//! Which label a class folder has, where its place among its neighbours does not say: a list of classes, as a file.
//!
//! Read are JSON (a list of names, a list of lists of names, an object of name to label or of label to names, the `id2label`
//! of a model's config.json) and text, a line per class: `label,name,name` or `label name`, else names whose label is the
//! line's place. A class may go by any of its names (`n01440764`, `tench`), as long as no other class has it too; where no
//! class has a name as it is written, large and small letters, `_`, `-` and spaces are taken for the same.

use super::blob::Blob;
use robust_core::{Error, Result};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Largest list of classes read.
pub(super) const MAX_LIST: u64 = 4 << 20;
const MAX_LABEL: usize = 1 << 20;
/// A list of these names beside the class folders is meant for them.
const USUAL: [&str; 8] = [
    "classes.txt",
    "classes.csv",
    "classes.json",
    "class_index.json",
    "imagenet_classes.csv",
    "imagenet_class_index.json",
    "LOC_synset_mapping.txt",
    "synset_words.txt",
];

/// Whether a path is a list of classes near the root.
pub(super) fn is_list(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.matches('/').count() <= 1 && USUAL.contains(&name)
}

/// A list of classes.
pub struct Classes {
    /// `None` for a name that two classes have.
    labels: HashMap<String, Option<u32>>,
    /// The same by [`alike`] names.
    alike: HashMap<String, Option<u32>>,
    /// By label, the first name of each.
    pub names: Vec<String>,
    /// Whether they stood among a model's settings, which say more than the list.
    among_settings: bool,
}

impl Classes {
    /// A list in a file.
    ///
    /// # Errors
    /// Kind `Load` for files that are missing, too large or no list of classes.
    pub fn open(path: &Path) -> Result<Self> {
        let blob = Blob::open(path)?;
        if blob.len() > MAX_LIST {
            return Err(Error::load(
                path.display(),
                format!("{} bytes are too many for a list of classes", blob.len()),
            ));
        }
        Self::parse(&path.display().to_string(), &blob.read_all().map_err(|e| Error::load(path.display(), e))?)
    }

    /// # Errors
    /// Kind `Load` for what is not a list of classes; `subject` names it.
    pub fn parse(subject: &str, bytes: &[u8]) -> Result<Self> {
        let fail = |why: String| Error::load(subject, why);
        let text = std::str::from_utf8(bytes).map_err(|_| fail("a list of classes that is not text".to_string()))?;
        let mut classes = Self { labels: HashMap::new(), alike: HashMap::new(), names: vec![], among_settings: false };
        let entries = match text.trim_start().starts_with(['[', '{']) {
            true => {
                let mut json: Value =
                    serde_json::from_str(text).map_err(|e| fail(format!("a list of classes: {e}")))?;
                if let Some(settings) = json.get_mut("id2label").map(Value::take).filter(Value::is_object) {
                    classes.among_settings = true;
                    json = settings;
                }
                let entries = of_json(json).ok_or_else(|| fail("JSON that is not a list of classes".to_string()))?;
                if classes.among_settings { entries.into_iter().map(with_synonyms).collect() } else { entries }
            }
            false => of_lines(text),
        };
        let mut taken = HashSet::new();
        for (label, names) in entries {
            if label >= MAX_LABEL || !taken.insert(label) {
                return Err(fail(format!("class {label} is listed twice or beyond {MAX_LABEL}")));
            }
            if classes.names.len() <= label {
                classes.names.resize(label + 1, String::new());
            }
            classes.names[label] = names.first().cloned().unwrap_or_default();
            for name in names {
                for (all, name) in [(&mut classes.alike, alike(&name)), (&mut classes.labels, name)] {
                    let known = all.entry(name).or_insert(Some(label as u32));
                    *known = known.filter(|&known| known == label as u32);
                }
            }
        }
        match classes.names.is_empty() {
            true => Err(fail("a list without classes".to_string())),
            false => Ok(classes),
        }
    }

    /// What tells one list from another: the file's bytes, of settings what they say of classes.
    pub(super) fn hash(&self, bytes: &[u8]) -> blake3::Hash {
        match self.among_settings {
            true => blake3::hash(self.names.join("\n").as_bytes()),
            false => blake3::hash(bytes),
        }
    }

    /// The label of a class folder.
    ///
    /// # Errors
    /// Why it has none.
    pub fn label(&self, name: &str) -> Result<u32, String> {
        match self.labels.get(name).or_else(|| self.alike.get(&alike(name))) {
            Some(Some(label)) => Ok(*label),
            Some(None) => Err(format!("two classes of the list are called `{name}`")),
            None => Err(format!("class folder `{name}` is not in the list of classes")),
        }
    }
}

fn alike(name: &str) -> String {
    name.to_lowercase().replace(['_', '-'], " ")
}

/// Settings join the names of a class by commas: `tench, Tinca tinca`.
fn with_synonyms((label, mut names): (usize, Vec<String>)) -> (usize, Vec<String>) {
    let whole = names.first().cloned().unwrap_or_default();
    if whole.contains(',') {
        names.extend(whole.split(',').map(|name| name.trim().to_string()));
    }
    (label, names)
}

fn of_json(json: Value) -> Option<Vec<(usize, Vec<String>)>> {
    let names = |value: Value| match value {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.into_iter().map(|name| name.as_str().map(str::to_string)).collect(),
        _ => None,
    };
    match json {
        Value::Array(list) => list.into_iter().enumerate().map(|(i, value)| Some((i, names(value)?))).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| match value.as_u64() {
                Some(label) => Some((usize::try_from(label).ok()?, vec![key])),
                None => Some((key.parse().ok()?, names(value)?)),
            })
            .collect(),
        _ => None,
    }
}

/// `label,rest`
fn numbered(line: &str) -> Option<(usize, &str)> {
    let (label, rest) = line.split_once([',', ' ', '\t', ':'])?;
    Some((label.parse().ok()?, rest.trim()))
}

fn of_lines(text: &str) -> Vec<(usize, Vec<String>)> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The first line may be a heading.
    let labelled = lines.last().and_then(|line| numbered(line)).is_some();
    if labelled {
        let entry = |(label, rest): (usize, &str)| (label, rest.split(',').map(|n| n.trim().to_string()).collect());
        return lines.iter().filter_map(|line| numbered(line)).map(entry).collect();
    }
    let entry = |line: &str| {
        let first = line.split([',', ' ', '\t']).next().unwrap_or(line).to_string();
        let whole = line.to_string();
        if first == whole { vec![first] } else { vec![first, whole] }
    };
    lines.iter().enumerate().map(|(i, line)| (i, entry(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(list: &str, name: &str) -> Result<u32, String> {
        Classes::parse("list", list.as_bytes()).map_err(|e| e.message)?.label(name)
    }

    #[test]
    fn every_way_to_write_a_list_gives_the_same_labels() {
        let lists = [
            "n1\nn2\n",
            "n1 tench, Tinca tinca\nn2 goldfish, Carassius auratus\n",
            "0,n1,tench\n1,n2,goldfish\n",
            "index,wnid,name\n0,n1,tench\n1,n2,goldfish\n",
            "1 n2\n0 n1\n",
            r#"["n1", "n2"]"#,
            r#"[["n1", "tench"], ["n2", "goldfish"]]"#,
            r#"{"0": ["n1", "tench"], "1": ["n2", "goldfish"]}"#,
            r#"{"n2": 1, "n1": 0}"#,
            r#"{"model_type": "vit", "id2label": {"1": "n2, goldfish", "0": "n1"}}"#,
        ];
        for list in lists {
            assert_eq!((label(list, "n1"), label(list, "n2")), (Ok(0), Ok(1)), "{list}");
            assert!(label(list, "n3").unwrap_err().contains("`n3` is not in the list"), "{list}");
        }
        assert_eq!(label(lists[2], "goldfish"), Ok(1));
        assert_eq!(label("tiger_cat\nTiger-Shark", "tiger shark"), Ok(1));
        assert!(label("tiger cat\nTiger_cat", "TIGER CAT").unwrap_err().contains("two classes"));
        assert_eq!(label("tiger cat\nTiger_cat", "Tiger_cat"), Ok(1));
    }

    #[test]
    fn lists_that_contradict_themselves_are_refused() {
        assert!(label("0,crane\n1,crane", "crane").unwrap_err().contains("two classes"));
        assert!(label("0,a\n0,b", "a").unwrap_err().contains("listed twice"));
        assert!(label("99999999999,a", "a").unwrap_err().contains("beyond"));
        assert!(label("", "a").unwrap_err().contains("without classes"));
        assert!(label(&"[".repeat(100_000), "a").unwrap_err().contains("list of classes"));
        assert!(label(r#"[{"a": 1}]"#, "a").unwrap_err().contains("not a list of classes"));
    }
}
