//! Corruption suites as an evaluation asks for them.

use super::applied::Corruption;
use super::{generated, published};
use robust_benchmarks::corruptions::{Photos, Suite};
use robust_core::{Card, Result, Spec};
use std::path::PathBuf;

/// Suites that are made here or read from published sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suites {
    /// Such as `imagenet-c:severities=1-5` or `cifar-c:dir=FOLDER`.
    pub specs: Vec<String>,
    /// Folder of the published frost photos; without it frost is drawn, under another name and outside every mean.
    pub frost_dir: Option<PathBuf>,
}

impl Suites {
    /// Whether the suites are known ones; the rest depends on the images.
    ///
    /// # Errors
    /// Kind `Usage` naming the suite that is not known.
    pub fn check(&self) -> Result<()> {
        let made = self.specs.iter().filter(|text| !published::is_published(text));
        made.map(|text| Spec::parse(text)?.name.parse::<Suite>()).try_for_each(|suite| suite.map(|_| ()))
    }

    /// Every corruption asked for, of the images of one model; `samples` are the data set's.
    ///
    /// # Errors
    /// Kind `Usage` for parameters or image sizes that a suite does not have, kind `Load` for photos and published sets that
    /// cannot be read.
    pub fn resolve(&self, card: &Card, samples: u64) -> Result<Vec<Corruption>> {
        let frost = match self.specs.is_empty() {
            true => None,
            false => self.frost_dir.as_deref().map(Photos::open).transpose()?,
        };
        let corruptions = |text: &String| match published::is_published(text) {
            true => published::resolve(text, card, samples),
            false => generated::resolve(text, card, frost.as_ref()),
        };
        Ok(self.specs.iter().map(corruptions).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}
