//! One error type for the whole house. Messages are lower-case fragments with the offending value;
//! `hint` is what to type or do next. The command maps each kind to its exit code.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by who can put it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense: unknown name, implausible epsilon, missing device or feature.
    Usage,
    /// A model, a data set or a run folder could not be read, or does not fit its partner.
    Load,
    /// Results could not be written; what is on disk is intact and the run can be resumed.
    Write,
    /// The evidence contradicts what it is evidence of.
    Evidence,
    /// The run is not complete.
    Incomplete,
    /// The user asked to stop.
    Interrupted,
    /// A tensor operation failed where it must not: a bug of ours, or a device out of memory.
    Internal,
}

#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }
    /// `subject` is the file or source, `why` a fragment that fits "cannot load X: ...".
    pub fn load(subject: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Kind::Load, format!("cannot load {subject}: {why}"))
    }
    pub fn write(path: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Kind::Write, format!("cannot write {path}: {why}"))
    }
    /// The user asked to stop.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }
    /// Adds the next step for the user.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Adds where it happened: `context: message`.
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // candle's Display carries a whole backtrace; the first line is the message.
        let text = error.to_string();
        Self::internal(text.lines().next().unwrap_or("tensor error").to_string())
    }
}

/// The closest of `known` to `name`, for "did you mean": at most a third of the letters may differ.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&name, &k.to_lowercase()), k))
        .filter(|(d, k)| *d <= (name.len().max(k.len()) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_swap_and_refuses_a_stranger() {
        assert_eq!(nearest("pdg", ["fgsm", "pgd", "bim"]), Some("pgd"));
        assert_eq!(nearest("zebra", ["fgsm", "pgd", "bim"]), None);
    }

    #[test]
    fn a_tensor_error_keeps_its_first_line_only() {
        let error: Error = candle_core::Error::Msg("one\ntwo".into()).into();
        assert_eq!(error.message, "one");
    }
}
