//! An attack asks an oracle; an entry tells the index what it is and how to build it.

use crate::{Access, Error, Goal, Norm, Oracle, Result, Spec, nearest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One algorithm with checked parameters. It sees models through the [`Oracle`] only.
pub trait Attack: Send + Sync {
    /// What counts as success, given the labels and the clean scores (one row each). Default: any other class.
    fn aim(&self, labels: &[u32], _clean: &[Vec<f32>]) -> Result<Goal> {
        Ok(Goal::Untargeted(labels.to_vec()))
    }

    /// Whether it can go for a goal without labels on a bare encoder, where [`Attack::aim`] is not asked: see
    /// [`Goal::Away`] and [`Goal::Towards`]. Default: it cannot.
    ///
    /// # Errors
    /// Kind `Usage`, saying what it needs.
    fn label_free(&self) -> Result<()> {
        Err(Error::usage("it needs scores of classes, which a bare encoder does not give"))
    }

    /// Asks until it has nothing left to try; the oracle keeps the best point.
    fn run(&self, oracle: &mut Oracle) -> Result<()>;

    /// Whether samples that are wrong already are put to it too: their verdict stays a clean miss, but the prediction at
    /// their point is written down, as the error rate of a corruption counts every sample.
    fn takes_misses(&self) -> bool {
        false
    }

    /// The most search passes one sample can cost (forward, backward), for forecasts and progress.
    fn passes(&self) -> (u64, u64);

    /// [`Attack::passes`] for a model of so many classes, each gradient averaged over `draws` passes. Default: every
    /// backward has a forward of its own.
    fn passes_on(&self, _classes: usize, draws: u64) -> (u64, u64) {
        let (forward, backward) = self.passes();
        (forward.saturating_sub(backward) + backward.saturating_mul(draws), backward.saturating_mul(draws))
    }
}

/// A checked attack and its parameters with every default filled in.
pub struct Built {
    pub attack: Box<dyn Attack>,
    pub params: serde_json::Map<String, serde_json::Value>,
}

/// The index line of an attack: one const per file.
pub struct Entry {
    pub name: &'static str,
    /// Authors, year and where to find it.
    pub paper: &'static str,
    pub needs: Access,
    /// The norms it works in, its usual one first.
    pub norms: &'static [Norm],
    /// The attack's own source file: its `//!` header is what `robust explain` prints.
    pub source: &'static str,
    pub build: fn(&Spec) -> Result<Built>,
}

impl Entry {
    /// The first sentence of the header.
    pub fn summary(&self) -> String {
        let text = documentation(self.source);
        let first: String = text.lines().take_while(|l| !l.trim().is_empty()).collect::<Vec<_>>().join(" ");
        first.split(". ").next().unwrap_or_default().trim_end_matches('.').to_string()
    }
}

/// The `//!` header of a source file as plain text.
pub fn documentation(source: &str) -> String {
    source
        .lines()
        .take_while(|l| l.starts_with("//!"))
        .map(|l| l.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads an attack's own parameters from a spec: unknown keys are answered with the nearest known one.
pub fn parameters<P: DeserializeOwned + Serialize + Default>(
    spec: &Spec,
) -> Result<(P, serde_json::Map<String, serde_json::Value>)> {
    let broken = |e: serde_json::Error| Error::usage(format!("attack `{}`: {e}", spec.name));
    let known = match serde_json::to_value(P::default()).map_err(broken)? {
        serde_json::Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    for (key, _) in &spec.params {
        if !known.contains_key(key) {
            let names = || known.keys().map(String::as_str).chain(Spec::COMMON.iter().copied());
            let list = names().collect::<Vec<_>>().join(", ");
            let error = Error::usage(format!("attack `{}` has no parameter `{key}`", spec.name));
            return Err(error.hint(match nearest(key, names()) {
                Some(near) => format!("did you mean `{near}`? It takes {list}"),
                None => format!("it takes {list}"),
            }));
        }
    }
    let given = spec.params.iter().map(|(k, v)| (k.clone(), v.json.clone())).collect();
    let params: P = serde_json::from_value(serde_json::Value::Object(given)).map_err(broken)?;
    let full = match serde_json::to_value(&params).map_err(broken)? {
        serde_json::Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    Ok((params, full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_file_is_its_documentation() {
        assert_eq!(documentation("//! One line.\n//!\n//! # Steps\nuse x;\n//! no"), "One line.\n\n# Steps");
    }
}
