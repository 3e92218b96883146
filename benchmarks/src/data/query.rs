//! What the user says after a data set's place: `?key=value&key=value`.

use robust_core::{Error, Result, nearest};

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
    /// Labels are not needed, see [`open_points`](super::open_points).
    pub points: bool,
    /// Caches are not believed, see [`open_proven`](super::open_proven).
    pub anew: bool,
}

impl Query {
    /// With what whoever opens the set wants.
    pub fn asked(self, Ask { points, anew }: Ask) -> Self {
        Self { points, anew, ..self }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// Kind `Usage` for parameters beyond those known, without a value or given twice.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self> {
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
