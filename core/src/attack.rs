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

    /// Whether it looks for the nearest success of every sample, not for any within a ball. It then needs no epsilon, keeps what is
    /// nearest instead of what is first, and its outcomes have that distance. Default: it does not.
    fn minimises(&self) -> bool {
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
        sentence(&first).trim_end_matches('.').to_string()
    }
}

/// The text up to the first full stop that ends a sentence: one in brackets or of `et al.` does not.
fn sentence(text: &str) -> &str {
    let ends = |at: &usize| {
        let before = &text[..*at];
        before.matches('(').count() <= before.matches(')').count() && !before.ends_with("et al")
    };
    text.match_indices(". ").map(|(at, _)| at).find(ends).map_or(text, |at| &text[..at])
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

/// What other tools call a parameter, and what it is called here.
const ELSEWHERE: [(&str, &str); 19] = [
    ("epsilon", "eps"),
    ("epsilons", "eps"),
    ("radius", "eps"),
    ("iterations", "steps"),
    ("iters", "steps"),
    ("max_iter", "steps"),
    ("n_iter", "steps"),
    ("nb_iter", "steps"),
    ("num_steps", "steps"),
    ("n_queries", "queries"),
    ("max_queries", "queries"),
    ("alpha", "step"),
    ("eps_step", "step"),
    ("step_size", "step"),
    ("n_restarts", "restarts"),
    ("num_restarts", "restarts"),
    ("loss", "objective"),
    ("random_start", "random"),
    ("p", "norm"),
];

/// The known parameter that somebody means by `key`.
fn meant<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let named = ELSEWHERE.iter().find(|(other, _)| *other == key.to_lowercase()).map(|(_, ours)| *ours);
    known.iter().copied().find(|k| Some(*k) == named).or_else(|| nearest(key, known.iter().copied()))
}

/// Says of a value what is wanted in its place: by the default's kind, else by what the reader expected.
fn misread(attack: &str, key: &str, value: &str, usual: Option<&serde_json::Value>, why: &str) -> Error {
    let expected = why.split_once("expected ").map_or(why, |(_, expected)| expected);
    let wanted = match usual {
        Some(serde_json::Value::Bool(_)) => "true or false".to_string(),
        Some(serde_json::Value::Number(n)) if n.is_u64() => format!("a whole number, such as {n}"),
        Some(serde_json::Value::Number(n)) => format!("a number, such as {n}"),
        _ if expected == "f64" => "a number".to_string(),
        _ => expected.to_string(),
    };
    Error::usage(format!("attack `{attack}`: {key}={value} is not {wanted}"))
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
    for (key, value) in &spec.params {
        if !known.contains_key(key) {
            let names: Vec<&str> = known.keys().map(String::as_str).chain(Spec::COMMON).collect();
            let list = names.join(", ");
            let error = Error::usage(format!("attack `{}` has no parameter `{key}`", spec.name));
            return Err(error.hint(match meant(key, &names) {
                Some(near) => format!("did you mean {near}={}? It takes {list}", value.text),
                None => format!("it takes {list}"),
            }));
        }
    }
    // One at a time, so that the one that makes no sense is named.
    for (key, value) in &spec.params {
        let alone = serde_json::Map::from_iter([(key.clone(), value.json.clone())]);
        serde_json::from_value::<P>(serde_json::Value::Object(alone))
            .map_err(|e| misread(&spec.name, key, &value.text, known.get(key), &e.to_string()))?;
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

    #[test]
    fn a_summary_is_a_whole_sentence() {
        let first = "PGD (Madry et al. 2018, arXiv 1706.06083): steps. Then more.";
        assert_eq!(sentence(first), "PGD (Madry et al. 2018, arXiv 1706.06083): steps");
        assert_eq!(sentence("As Croce et al. say. More"), "As Croce et al. say");
        assert_eq!(sentence("One line."), "One line.");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named_with_what_is_wanted() {
        #[derive(Serialize, serde::Deserialize)]
        #[serde(default)]
        struct P {
            steps: u64,
            step: Option<f64>,
            share: f64,
            random: bool,
        }
        impl Default for P {
            fn default() -> Self {
                Self { steps: 40, step: None, share: 0.5, random: true }
            }
        }
        let error = |text: &str| parameters::<P>(&Spec::parse(text).unwrap()).map(|_| ()).unwrap_err().message;
        assert_eq!(error("a:steps=-3"), "attack `a`: steps=-3 is not a whole number, such as 40");
        assert_eq!(error("a:random=true,step=big"), "attack `a`: step=big is not a number");
        assert_eq!(error("a:share=x"), "attack `a`: share=x is not a number, such as 0.5");
        assert_eq!(error("a:random=2"), "attack `a`: random=2 is not true or false");
    }

    #[test]
    fn parameters_of_other_tools_are_answered_with_ours() {
        let known = ["steps", "step", "restarts", "eps", "norm", "queries"];
        let meant = |key: &str| meant(key, &known);
        assert_eq!([meant("epsilon"), meant("n_iter"), meant("alpha")], [Some("eps"), Some("steps"), Some("step")]);
        assert_eq!([meant("stpes"), meant("loss"), meant("nothing")], [Some("steps"), None, None]);
    }
}
