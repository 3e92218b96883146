//! The norms that measure a perturbation.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Norm {
    L0,
    L1,
    L2,
    Linf,
}

impl Norm {
    /// Every norm, by rising exponent.
    pub const ALL: [Norm; 4] = [Norm::L0, Norm::L1, Norm::L2, Norm::Linf];

    /// The suffix of attack names: `l0`, `l1`, `l2`, `linf`.
    pub fn suffix(self) -> &'static str {
        match self {
            Norm::L0 => "l0",
            Norm::L1 => "l1",
            Norm::L2 => "l2",
            Norm::Linf => "linf",
        }
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::str::FromStr for Norm {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Norm::ALL
            .into_iter()
            .find(|n| n.suffix() == text.to_lowercase())
            .ok_or_else(|| Error::usage(format!("unknown norm `{text}`")).hint("norms are l0, l1, l2 and linf"))
    }
}
