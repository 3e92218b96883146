//! Heads that a run fits on its encoders, so that encoders are compared by what a classifier can do with them.

use crate::eval::clean::row_keys;
use crate::eval::plan::{PlannedData, PlannedHead};
use candle_core::{Device, Tensor};
use robust_benchmarks::subset;
use robust_core::{Dataset, Draw, Error, Model, Output, Result, Spec, nearest, stream};
use robust_models::probe::{Features, Fit, Method, fit};
use robust_models::{Head, LoadedModel};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Samples that go through the encoder at once.
const BATCH: usize = 64;

/// The kinds of heads and what each takes.
pub const KINDS: [(&str, &[&str]); 5] = [
    ("linear", &["l2"]),
    ("sgd", &["epochs", "rate", "l2", "seed"]),
    ("prototypes", &[]),
    ("bayes", &[]),
    ("knn", &["k", "temperature"]),
];

/// A head to be fitted: as the user wrote it, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadRequest {
    pub text: String,
    pub method: Method,
}

/// Reads `knn,linear` and `knn:k=5,temperature=0.1`: names alone may share one text.
///
/// # Errors
/// Kind `Usage` for kinds and parameters that are not known, and heads named twice.
pub fn parse(texts: &[String]) -> Result<Vec<HeadRequest>> {
    let mut all: Vec<HeadRequest> = vec![];
    for text in texts {
        let parts: Vec<&str> = if text.contains(':') { vec![text] } else { text.split(',').map(str::trim).collect() };
        for part in parts {
            let spec = Spec::parse(part).map_err(|e| Error::usage(e.message).hint("such as --probe knn,linear"))?;
            let asked = HeadRequest { text: spec.to_string(), method: method(&spec)? };
            if all.iter().any(|a| a.text == asked.text) {
                return Err(Error::usage(format!("head `{}` is named twice", asked.text)));
            }
            all.push(asked);
        }
    }
    Ok(all)
}

fn method(spec: &Spec) -> Result<Method> {
    let Some((_, known)) = KINDS.iter().find(|(name, _)| *name == spec.name) else {
        let names = KINDS.map(|(name, _)| name);
        let hint = nearest(&spec.name, names).map_or(format!("heads are {}", names.join(", ")), |near| {
            format!("did you mean `{near}`? heads are {}", names.join(", "))
        });
        return Err(Error::usage(format!("unknown head `{}`", spec.name)).hint(hint));
    };
    if let Some((key, _)) = spec.params.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        let takes =
            if known.is_empty() { "it takes none".to_string() } else { format!("it takes {}", known.join(", ")) };
        return Err(Error::usage(format!("head `{}` has no parameter `{key}`", spec.name)).hint(takes));
    }
    let number = |key: &str| spec.get(key).map(|v| v.number(key)).transpose();
    let whole = |key: &str, usual: u64| match spec.get(key) {
        None => Ok(usual),
        Some(v) => v.json.as_u64().ok_or_else(|| Error::usage(format!("{key}={} is not a whole number", v.text))),
    };
    Ok(match spec.name.as_str() {
        "linear" => Method::Linear { l2: number("l2")? },
        "sgd" => Method::Sgd {
            epochs: whole("epochs", 100)? as usize,
            rate: number("rate")?.unwrap_or(0.1),
            l2: number("l2")?.unwrap_or(1e-4),
            seed: whole("seed", 0)?,
        },
        "prototypes" => Method::Prototypes,
        "bayes" => Method::Bayes,
        _ => Method::Knn { k: whole("k", 20)? as usize, temperature: number("temperature")?.unwrap_or(0.07) },
    })
}

/// The embeddings of labelled images, in the order of `ids`; `source` names the data in messages.
///
/// # Errors
/// Kind `Load` for images that cannot be read, and data without labels.
pub fn embed(model: &dyn Model, data: &dyn Dataset, source: &str, ids: &[u64]) -> Result<Features> {
    let (mut rows, mut labels, view) = (vec![], vec![], model.card().view());
    for (i, ids) in ids.chunks(BATCH).enumerate() {
        let loaded = data.load(ids, &view, &Device::Cpu)?;
        if let Some((id, why)) = loaded.failed.first() {
            return Err(Error::load(format!("sample {id} of {source}"), why));
        }
        let batch = loaded.batch.ok_or_else(|| Error::load(source, "it gave no images"))?;
        let own = batch.labels.ok_or_else(|| Error::load(source, "it has no labels"))?;
        let keys = row_keys(&batch.ids);
        let draw = Draw { seed: 0, stream: stream("probe"), turn: i as u64, rows: &keys };
        rows.push(model.forward(&batch.x, &draw)?);
        labels.extend(own);
    }
    if rows.is_empty() {
        return Err(Error::load(source, "it gave no images"));
    }
    Features::new(&Tensor::cat(&rows, 0)?, labels)
}

/// What heads are fitted on.
pub struct Training<'a> {
    pub source: &'a str,
    pub data: &'a dyn Dataset,
    /// Take so many samples, chosen as `--limit` chooses them.
    pub limit: Option<u64>,
}

impl Training<'_> {
    fn planned(&self) -> PlannedData {
        PlannedData::of(self.source, self.data)
    }
}

/// An encoder with a head of the run's own on it.
pub struct Headed {
    pub model: LoadedModel,
    /// What was not as asked when it was fitted.
    pub notes: Vec<String>,
    pub planned: PlannedHead,
    pub head: Head,
}

/// Every head on an encoder, in the order asked for. Heads that lie in `root`, the run's folder, already are read from
/// there; the embeddings of the training images are computed once for the others.
///
/// # Errors
/// Kind `Usage` when the model is not an encoder or a head cannot be fitted, kind `Load` for data that cannot be read.
pub fn put_on(encoder: &LoadedModel, asked: &[HeadRequest], on: &Training, root: Option<&Path>) -> Result<Vec<Headed>> {
    if let Output::Logits { k } = encoder.card.output {
        return Err(Error::usage(format!("`{}` gives scores of {k} classes, not an embedding", encoder.name))
            .hint(
                "what its last layer reads is one: add `?output=features` to the model, or `?output=embedding` where the output \
                 itself is",
            ));
    }
    let pick = on.limit.map_or(subset::Pick::All, subset::Pick::Limit);
    let ids = subset::choose(on.data.card().samples, &pick)?;
    let mut features: Option<Features> = None;
    let mut all = vec![];
    for HeadRequest { text, method } in asked {
        let planned = PlannedHead {
            encoder: encoder.name.clone(),
            head: text.clone(),
            file: file_of(encoder, text, on),
            train: on.planned(),
            limit: on.limit,
        };
        let there = root.map(|r| place(r, &planned)).transpose()?.filter(|path| path.exists());
        let (head, notes) = match (there, &mut features) {
            (Some(path), _) => (Head::read(&path)?, vec![]),
            (None, known) => {
                if known.is_none() {
                    *known = Some(embed(encoder.model.as_ref(), on.data, on.source, &ids)?);
                }
                let Some(features) = known else { return Err(Error::internal("embeddings went missing")) };
                let Fit { head, mut notes, .. } =
                    fit(features, method).map_err(|e| e.within(format!("head `{text}`")))?;
                notes.extend(unseen(on.data, features));
                (head, notes)
            }
        };
        let model = encoder.with_head(&head, &format!("{}+{text}", encoder.name))?;
        all.push(Headed { model, notes, planned, head });
    }
    Ok(all)
}

/// What to say of training samples that lack the last of the classes that their data set names: the head ends before them.
pub fn unseen(data: &dyn Dataset, features: &Features) -> Option<String> {
    let (named, known) = (data.card().classes.as_ref()?.len(), features.classes());
    let absent = features.absent(named).filter(|_| known < named)?;
    Some(format!(
        "{absent}, of {named} in the data set: the head scores the first {known} alone, and samples of the others cannot be judged with it"
    ))
}

/// Below the run folder: a name for people, and a key made of everything that decides the head.
fn file_of(encoder: &LoadedModel, text: &str, on: &Training) -> String {
    let facts = json!({
        "robust": env!("CARGO_PKG_VERSION"), "encoder": encoder.card.digest, "head": text,
        "train": on.data.card().digest, "limit": on.limit, "preprocess": encoder.card.preprocess,
    });
    let key: String = blake3::hash(facts.to_string().as_bytes()).to_hex().chars().take(16).collect();
    let name = crate::escape::file_name(&format!("{}-{text}", encoder.name), 60);
    format!("heads/{name}-{key}.safetensors")
}

/// Where the head of a plan lies in the run's folder `root`. The plan may be a stranger's, its file must be inside.
///
/// # Errors
/// Kind `Load` for a file that is not directly in `heads/`.
pub fn place(root: &Path, planned: &PlannedHead) -> Result<PathBuf> {
    let plain = |f: &str| !matches!(f, "" | "." | "..") && !f.contains(['/', '\\', ':']);
    match planned.file.strip_prefix("heads/").is_some_and(plain) {
        true => Ok(root.join(&planned.file)),
        false => Err(Error::load("run.json", format!("`{}` is not a file of its heads", planned.file))
            .hint("the folder was changed: do not trust it")),
    }
}

/// The encoder of a finished run with the head that lies in its folder.
///
/// # Errors
/// Kind `Load` when the file is missing, damaged, or not inside.
pub fn reopen(encoder: &LoadedModel, planned: &PlannedHead, name: &str, root: &Path) -> Result<LoadedModel> {
    encoder.with_head(&Head::read(&place(root, planned)?)?, name)
}

/// Writes heads that are not there yet.
///
/// # Errors
/// Kind `Write`, kind `Load` for files that do not lie inside.
pub fn keep<'a>(root: &Path, heads: impl IntoIterator<Item = (&'a PlannedHead, &'a Head)>) -> Result<()> {
    for (planned, head) in heads {
        let path = place(root, planned)?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| Error::write(dir.display(), e))?;
        }
        if !path.exists() {
            head.write(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<HeadRequest>> {
        parse(&texts.iter().map(|t| t.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn heads_lie_in_their_folder_whatever_the_plan_says() {
        let of = |file: &str| {
            let card = robust_core::DataCard { name: "d".into(), digest: "e".into(), samples: 9, classes: None };
            let train = PlannedData { source: "npz:d.npz".into(), card, by_content: false };
            let planned =
                PlannedHead { encoder: "a".into(), head: "knn".into(), file: file.into(), train, limit: None };
            place(Path::new("run"), &planned)
        };
        assert_eq!(of("heads/a-knn-00.safetensors").unwrap(), Path::new("run/heads/a-knn-00.safetensors"));
        for file in
            ["", "heads/", "heads/.", "heads/..", "../x", "heads/../x", "heads/a/b", "heads/a\\b", "/x", "a", "C:x"]
        {
            assert_eq!(of(file).unwrap_err().kind, robust_core::Kind::Load, "{file}");
        }
    }

    #[test]
    fn heads_are_named_alone_together_and_with_parameters() {
        let all = read(&["knn,linear", "knn:k=5,temperature=0.1", "sgd:seed=3"]).unwrap();
        let texts: Vec<&str> = all.iter().map(|a| a.text.as_str()).collect();
        assert_eq!(texts, ["knn", "linear", "knn:k=5,temperature=0.1", "sgd:seed=3"]);
        assert_eq!(all[0].method, Method::Knn { k: 20, temperature: 0.07 });
        assert_eq!(all[2].method, Method::Knn { k: 5, temperature: 0.1 });
        assert_eq!(all[3].method, Method::Sgd { epochs: 100, rate: 0.1, l2: 1e-4, seed: 3 });
        for (text, part) in [
            ("kn", "did you mean `knn`"),
            ("knn,,linear", "names no"),
            ("knn:neighbours=3", "takes k, temperature"),
            ("bayes:k=3", "takes none"),
            ("knn:k=0.5", "not a whole number"),
            ("knn,knn", "named twice"),
        ] {
            let error = read(&[text]).unwrap_err();
            assert!(error.kind == robust_core::Kind::Usage && error.to_string().contains(part), "{text}: {error}");
        }
    }
}
