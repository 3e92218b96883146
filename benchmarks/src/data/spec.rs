//! What the user typed: `scheme:place?key=value&key=value`, or a path that is looked at.

use super::{Found, SOURCES, archive, builtin, cifar, declared, folder, mnist, npy, npz, safetensors, wds};
use robust_core::{Error, PREPROCESSING as IMAGE, Result, nearest};
use std::path::{Path, PathBuf};

/// Names of images and of labels, the first pair that a file has before the others: what people and libraries write.
const PAIRS: [(&[&str], &[&str]); 4] = [
    (&["x", "images", "data"], &["y", "labels", "targets"]),
    (
        &["x_test", "test_x", "test_images", "test_data", "images_test"],
        &["y_test", "test_y", "test_labels", "test_targets", "labels_test"],
    ),
    (&["image", "img", "imgs", "inputs"], &["label", "target", "classes", "class"]),
    (&["arr_0"], &["arr_1"]),
];
const IMAGES: [&str; 3] = ["x", "images", "data"];
const POINTS: [&str; 3] = ["x_adv", "adv", "adversarial"];

/// `key=value` pairs after the `?`.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    /// Points to judge are wanted: whatever labels lie beside them are not read.
    pub points: bool,
    /// See [`Ask::anew`].
    pub anew: bool,
}

/// What whoever opens a data set wants of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ask {
    /// Labels are not needed, see [`super::open_points`].
    pub points: bool,
    /// Caches are not believed, see [`super::open_proven`].
    pub anew: bool,
}

impl Query {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn parse(text: &str, known: &[&str]) -> Result<Self> {
        let mut pairs: Vec<(String, String)> = vec![];
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&key) || value.is_empty() {
                let hint = match (nearest(key, known.iter().copied()), known) {
                    (_, []) => "this kind of data set takes no parameters".to_string(),
                    (Some(near), _) => format!("did you mean `?{near}=...`?"),
                    _ => format!("parameters: {}", known.join(", ")),
                };
                return Err(Error::usage(format!("data set parameter `{part}` makes no sense")).hint(hint));
            }
            if pairs.iter().any(|(k, _)| k == key) {
                return Err(Error::usage(format!("data set parameter `{key}` is given twice")));
            }
            pairs.push((key.to_string(), value.to_string()));
        }
        Ok(Self { pairs, ..Self::default() })
    }
}

/// The data set that `spec` names.
pub(super) fn open(spec: &str, Ask { points, anew }: Ask) -> Result<Found> {
    // A path that is there wins over any reading of its colons and question marks.
    let scheme = match Path::new(spec).exists() {
        true => None,
        // One letter is a drive.
        false => spec.split_once(':').filter(|(scheme, _)| scheme.len() > 1 && !scheme.contains(['/', '\\'])),
    };
    let (scheme, rest) = match scheme {
        Some((scheme, rest)) => (scheme, rest),
        None => (guess(split_query(spec).0, points)?, spec),
    };
    let (place, query) = split_query(rest);
    let known: &[&str] = match scheme {
        "mnist" => &["split", "offset"],
        "cifar10" => &["split", "cache", "offset"],
        "cifar100" => &["split", "labels", "cache", "offset"],
        "npz" | "safetensors" => &["x", "y", "offset", "domain"],
        "npy" => &["severity", "offset", "domain"],
        "folder" => &[&IMAGE[..], &["classes", "subset", "cache", "offset"]].concat(),
        "wds" => &[&IMAGE[..], &["cache", "offset"]].concat(),
        "parquet" => &[&IMAGE[..], &["images", "labels", "offset"]].concat(),
        _ => &[],
    };
    if !SOURCES.iter().any(|source| source.scheme == scheme) {
        return Err(unknown(scheme));
    }
    let query = Query { points, anew, ..Query::parse(query, known)? };
    if place.is_empty() {
        let example = SOURCES.iter().find(|source| source.scheme == scheme).map_or("", |source| source.example);
        return Err(Error::usage(format!("`{spec}` names no place")).hint(format!("for example `{example}`")));
    }
    let found = match scheme {
        "builtin" => builtin::open(place),
        "mnist" => mnist::open(&existing(place)?, &query),
        "npz" => npz::open(&existing(place)?, &query),
        "npy" if points && Path::new(place).is_file() => npy::open_points(&existing(place)?),
        "npy" => {
            let (images, labels) = pair_of_paths(place)?;
            npy::open(&existing(images)?, &existing(labels)?, &query)
        }
        "safetensors" => safetensors::open(&existing(place)?, &query),
        "cifar10" => cifar::open(&existing(place)?, cifar::Kind::Ten, &query),
        "cifar100" => cifar::open(&existing(place)?, cifar::Kind::Hundred, &query),
        "wds" => wds::open(place, &query),
        "parquet" => parquet(place, &query),
        _ => folder::open(&existing(place)?, &query),
    };
    declared::apply(found?, &query)
}

#[cfg(feature = "parquet")]
fn parquet(place: &str, query: &Query) -> Result<Found> {
    super::parquet::open(&existing(place)?, query)
}

#[cfg(not(feature = "parquet"))]
fn parquet(place: &str, _: &Query) -> Result<Found> {
    Err(Error::usage(format!("`parquet:{place}`: this build reads no Parquet"))
        .hint("build with `--features parquet`, or convert it to an ImageFolder (`folder:`)"))
}

fn split_query(text: &str) -> (&str, &str) {
    if Path::new(text).exists() { (text, "") } else { text.split_once('?').unwrap_or((text, "")) }
}

/// Paths may hold commas: the split at which both files are there is the one that was meant.
fn pair_of_paths(place: &str) -> Result<(&str, &str)> {
    let mut splits = place.match_indices(',').map(|(at, _)| (&place[..at], &place[at + 1..]));
    let there = |(x, y): &(&str, &str)| Path::new(x).is_file() && Path::new(y).is_file();
    splits.clone().find(there).or_else(|| splits.next()).filter(|(x, y)| !x.is_empty() && !y.is_empty()).ok_or_else(
        || {
            Error::usage(format!("`npy:{place}` names one file, images and labels are wanted"))
                .hint("for example `npy:x_test.npy,y_test.npy`")
        },
    )
}

fn guess(place: &str, points: bool) -> Result<&'static str> {
    let path = existing(place)?;
    if path.is_dir() {
        return Ok(match () {
            _ if mnist::is_here(&path) => "mnist",
            _ => cifar::is_here(&path).unwrap_or("folder"),
        });
    }
    let name = place.to_lowercase();
    match () {
        _ if name.ends_with(".npz") => Ok("npz"),
        _ if name.ends_with(".safetensors") => Ok("safetensors"),
        _ if name.ends_with(".parquet") => Ok("parquet"),
        _ if archive::is_tar(&name) => Ok("folder"),
        _ if name.ends_with(".npy") && points => Ok("npy"),
        _ if name.ends_with(".npy") => Err(Error::usage(format!("`{place}` holds images or labels, both are wanted"))
            .hint(format!("`npy:{place},LABELS.npy`"))),
        _ => Err(Error::usage(format!("cannot tell what kind of data set `{place}` is")).hint(list())),
    }
}

fn unknown(scheme: &str) -> Error {
    let near = nearest(scheme, SOURCES.iter().map(|source| source.scheme));
    let near = near.map(|near| format!("did you mean `{near}:`? ")).unwrap_or_default();
    Error::usage(format!("unknown kind of data set `{scheme}:`")).hint(near + &list())
}

fn list() -> String {
    let known: Vec<String> = SOURCES.iter().map(|source| format!("{}:", source.scheme)).collect();
    format!("known: {}", known.join(", "))
}

/// The path, or an error with the names beside it that come close.
pub(super) fn existing(place: &str) -> Result<PathBuf> {
    let path = PathBuf::from(place);
    if path.exists() {
        return Ok(path);
    }
    let error = Error::load(place, "no such file or folder");
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(error),
    };
    let Ok(listing) = folder.read_dir() else {
        return Err(error.hint(format!("the folder {} is not there either", folder.display())));
    };
    let mut names: Vec<String> =
        listing.take(10_000).flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Err(match nearest(&wanted, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean {}?", folder.join(near).display())),
        None if wanted == "mnist" => error.hint("`builtin:mnist` needs no files"),
        None => error,
    })
}

/// Which of `names` hold the images and the labels: as asked for by `?x=` and `?y=`, else by their usual names. Points
/// have no labels, and the only array of a file is them whatever it is called.
pub(super) fn pick_arrays<'a>(subject: &str, names: &'a [String], query: &Query) -> Result<(&'a str, Option<&'a str>)> {
    if let (true, None, [only]) = (query.points, query.get("x"), names) {
        return Ok((only, None));
    }
    let one = |key: &str, usual: &[&str], what: &str| {
        let asked = query.get(key);
        let fits = |name: &&String| match asked {
            Some(asked) => name.as_str() == asked,
            None => usual.contains(&name.to_lowercase().as_str()),
        };
        let hint = format!("name them with `?x=NAME&y=NAME`; the file has: {}", some(names));
        match names.iter().filter(fits).collect::<Vec<_>>().as_slice() {
            [name] => Ok(name.as_str()),
            [] => {
                let wanted = asked.map_or_else(|| usual.join(", "), str::to_string);
                Err(Error::load(subject, format!("no array of {what} in it (looked for: {wanted})")).hint(hint))
            }
            [a, b, ..] => Err(Error::load(subject, format!("both `{a}` and `{b}` may be the {what}")).hint(hint)),
        }
    };
    if query.points {
        return Ok((one("x", &[&IMAGES[..], &POINTS].concat(), "points")?, None));
    }
    let has = |key: &str, usual: &[&str]| {
        query.get(key).is_some() || names.iter().any(|name| usual.contains(&name.to_lowercase().as_str()))
    };
    let (images, labels) = PAIRS.iter().find(|(x, y)| has("x", x) && has("y", y)).unwrap_or(&PAIRS[0]);
    Ok((one("x", images, "images")?, Some(one("y", labels, "labels")?)))
}

/// The note of what [`pick_arrays`] took.
pub(super) fn chosen(x: &str, y: Option<&str>) -> String {
    y.map_or_else(|| format!("points are `{x}`"), |y| format!("images are `{x}`, labels are `{y}`"))
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(12).map(String::as_str).collect();
    shown.join(", ") + if names.len() > 12 { ", ..." } else { "" }
}
