//! What a plan says of a corruption.

use robust_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A corruption as the parameters of a planned attack write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Of images that are made: the suite of the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    pub corruption: String,
    pub severity: usize,
    /// Of images that are made: whether with the published frost photos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photos: Option<bool>,
    /// Of images that are read: the digest of the published set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
}

impl Facts {
    pub(crate) fn params(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => Ok(map),
            _ => Err(Error::internal("a corruption without parameters")),
        }
    }

    /// From the parameters of a planned attack; `None` where they are not a corruption's.
    pub fn of(params: &Map<String, Value>) -> Option<Self> {
        serde_json::from_value(Value::Object(params.clone())).ok()
    }
}
