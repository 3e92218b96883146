//! Published corruption sets on disk: CIFAR-10/100-C and C-bar arrays, MNIST-C folders, ImageNet-C, Tiny-ImageNet-C, C-bar
//! and 3DCC trees of images. Row `i` of every file belongs to sample `i` of the clean data set, as all of them keep its
//! order. Their points are kept as evidence like those of any attack.

use super::applied::{Corruption, Images};
use super::facts::Facts;
use robust_benchmarks::data;
use robust_core::{Access, Card, Error, Region, Result, Spec, ThreatModel};
use std::path::{Path, PathBuf};

/// Where one corruption at one severity lies, as a data set of its own.
struct Place {
    corruption: String,
    severity: usize,
    spec: String,
}

/// Whether a suite is to be read from disk: `imagenet-c:dir=/data/imagenet-c,severities=1-5,only=fog+snow`.
pub fn is_published(text: &str) -> bool {
    Spec::parse(text).is_ok_and(|s| s.get("dir").is_some())
}

/// Every corruption and severity found below `dir=`, for the model of `card`; `samples` is the size of the clean
/// data set.
///
/// # Errors
/// Kind `Usage` for parameters that make no sense, kind `Load` for a set whose images or classes are not the data set's.
pub fn resolve(text: &str, card: &Card, samples: u64) -> Result<Vec<Corruption>> {
    let mut spec = Spec::parse(text)?;
    let dir = spec.remove("dir").map(|v| PathBuf::from(v.text)).unwrap_or_default();
    if !dir.is_dir() {
        return Err(Error::load(dir.display(), "no such folder of corrupted images"));
    }
    let only = spec.remove("only").map(|v| v.text);
    let severities = spec.remove("severities").map(|v| v.text);
    if let Some((key, _)) = spec.params.first() {
        return Err(Error::usage(format!("published sets have no parameter `{key}`"))
            .hint("they take dir, only and severities"));
    }
    let wanted = |place: &Place| {
        let named = only.as_ref().is_none_or(|o| o.split('+').any(|n| n == place.corruption));
        let severe = severities.as_ref().is_none_or(|s| {
            s.split('+').any(|part| {
                let (low, high) = part.split_once('-').unwrap_or((part, part));
                low.parse().is_ok_and(|l: usize| l <= place.severity)
                    && high.parse().is_ok_and(|h: usize| h >= place.severity)
            })
        });
        named && severe
    };
    let places: Vec<Place> = find(&dir, card)?.into_iter().filter(wanted).collect();
    if places.is_empty() {
        return Err(Error::load(dir.display(), "no corruption that was asked for").hint(
            "CORRUPTION.npy and labels.npy, CORRUPTION/test_images.npy, or [GROUP/]CORRUPTION/SEVERITY/CLASS/IMAGE are read",
        ));
    }
    let mut first: Option<Vec<String>> = None;
    places.into_iter().map(|place| ready(&spec.name, place, card, samples, &mut first)).collect()
}

fn ready(suite: &str, place: Place, card: &Card, samples: u64, first: &mut Option<Vec<String>>) -> Result<Corruption> {
    let rows = data::open(&place.spec)?;
    let found = rows.card().clone();
    if let Some(classes) = &found.classes {
        let known = first.get_or_insert_with(|| classes.clone());
        let beyond =
            |a: &[String], b: &[String]| a.iter().filter(|c| !b.contains(c)).take(5).cloned().collect::<Vec<_>>();
        let (missing, extra) = (beyond(known, classes), beyond(classes, known));
        if !(missing.is_empty() && extra.is_empty()) {
            return Err(Error::load(
                format!("{} {}", place.corruption, place.severity),
                format!(
                    "its classes are not the others': missing [{}], extra [{}]",
                    missing.join(", "),
                    extra.join(", ")
                ),
            ));
        }
    }
    if found.samples != samples {
        let n = found.classes.as_ref().map_or(String::new(), |c| format!(" in {} classes", c.len()));
        return Err(Error::load(
            format!("{} {}", place.corruption, place.severity),
            format!("{} images{n}, the clean data set has {samples}", found.samples),
        )
        .hint("the published set and the clean one must hold the same images in the same order"));
    }
    let label = format!(
        "{suite}/{}:severity={},published={}",
        place.corruption,
        place.severity,
        &found.digest[..8.min(found.digest.len())]
    );
    let region = Region::Recipe { id: suite.to_string() };
    Ok(Corruption {
        label,
        threat: ThreatModel::new(region, card.input.clone(), Access::Label)?,
        facts: Facts {
            suite: None,
            corruption: place.corruption,
            severity: place.severity,
            photos: None,
            published: Some(found.digest),
        },
        images: Images::Published(rows),
    })
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let fail = |e: std::io::Error| Error::load(dir.display(), e);
    let mut names: Vec<String> = vec![];
    for entry in dir.read_dir().map_err(fail)?.take(10_000) {
        names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn find(dir: &Path, card: &Card) -> Result<Vec<Place>> {
    let mut places = vec![];
    let labels = dir.join("labels.npy");
    for name in names(dir)? {
        let path = dir.join(&name);
        let shown = path.display();
        if let Some(corruption) = name.strip_suffix(".npy").filter(|c| *c != "labels") {
            let all = (1..=5).map(|severity| Place {
                corruption: corruption.to_string(),
                severity,
                spec: format!("npy:{shown},{}?severity={severity}", labels.display()),
            });
            places.extend(all);
        } else if path.join("test_images.npy").is_file() {
            if name != "identity" {
                let spec = format!("npy:{shown}/test_images.npy,{shown}/test_labels.npy");
                places.push(Place { corruption: name, severity: 1, spec });
            }
        } else if path.is_dir() {
            places.extend(tree(&path, &name, card)?);
            // The published archives have a folder per group: blur, noise, weather...
            for inner in names(&path)?.into_iter().filter(|n| path.join(n).is_dir() && n.parse::<f64>().is_err()) {
                places.extend(tree(&path.join(&inner), &inner, card)?);
            }
        }
    }
    Ok(places)
}

/// Folders named 1 to 5, or by the raw severity of C-bar (`2.35`), mildest first.
fn tree(dir: &Path, corruption: &str, card: &Card) -> Result<Vec<Place>> {
    let mut found: Vec<(f64, String)> =
        names(dir)?.into_iter().filter_map(|n| Some((n.parse::<f64>().ok().filter(|s| *s > 0.)?, n))).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let crop = card.input.shape.get(1..).map_or(String::new(), |s| match s {
        [h, w] if h == w => format!("?crop={h}"),
        _ => String::new(),
    });
    let place = |(severity, (_, name)): (usize, (f64, String))| Place {
        corruption: corruption.to_string(),
        severity,
        spec: format!("folder:{}{crop}", dir.join(name).display()),
    };
    Ok((1..).zip(found).map(place).collect())
}
