//! What a corruption is, and what it is called with.

use super::photos::Photos;
use super::random::Random;
use super::tables::Table;
use robust_core::Result;
use robust_imaging::Bytes;
use serde::{Deserialize, Serialize};

/// Whose code is followed where published programs differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The programs that made the published sets.
    #[default]
    Hendrycks,
    /// The `imagecorruptions` package (Michaelis et al. 2019), with ImageNet's severities at any size.
    ImageCorruptions,
}

/// What a corruption needs besides the image.
pub struct Call<'a> {
    pub table: &'a Table,
    pub profile: Profile,
    /// Severity minus one.
    pub level: usize,
    pub random: &'a mut Random,
    pub frost: Option<&'a Photos>,
}

/// One way to spoil an image.
pub struct Corruption {
    /// As in the published folders and files.
    pub name: &'static str,
    pub summary: &'static str,
    pub apply: fn(&Bytes, &mut Call) -> Result<Bytes>,
}
