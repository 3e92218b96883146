//! Which text tower a spec names.

use super::known::KNOWN;
use super::open_clip;
use super::tower::TextTower;
use super::transformers::of_transformers;
use crate::bytes;
use crate::files::hf::{settled, with_words};
use crate::files::open_clip::is_folder;
use crate::files::single::tensors;
use crate::options::Options;
use crate::spec::{Parsed, Source, hub_name, parse};
use robust_core::{Error, Result};

/// Tokens of the longest prompt a tower may read: attention's weights grow with the square.
const LONGEST: usize = 1 << 12;

impl TextTower {
    /// The text tower of the model a spec names: a CLIP or SigLIP folder of transformers, a folder of OpenCLIP, or a file of
    /// OpenAI's or OpenCLIP's weights. The spec may be the image tower's: of a file `activation`, `key` and `strip` count for both
    /// towers, and `heads`, `output`, `head` and what is done to images for the other one alone. What the image tower's reader
    /// refuses is refused here too.
    ///
    /// # Errors
    /// Kind `Usage` for a spec that makes no sense and parameters that the model does not take; kind `Load` for models without a
    /// text tower, damaged ones, and towers for prompts of more than 4,096 tokens.
    pub fn open(spec: &str) -> Result<Self> {
        let Parsed { source, options, .. } = parse(spec)?;
        if let Some(name) = hub_name(spec) {
            with_words(name)?;
        }
        let tower = Self::read(spec, &source, &options)?;
        match tower.longest <= LONGEST {
            true => Ok(tower),
            false => Err(Error::load(
                format!("{}, text tower", tower.place),
                format!("its table of places is for prompts of {} tokens, up to {LONGEST} are read", tower.longest),
            )
            .hint("does the file come from where you think? Published towers read some hundred")),
        }
    }

    fn read(spec: &str, source: &Source, options: &Options) -> Result<Self> {
        match source {
            Source::Folder(path) => {
                settled(options)?;
                if let Some(pool) = &options.pool {
                    return Err(Error::usage(format!(
                        "`pool={pool}` changes nothing: models with two towers have one way to their outputs"
                    )));
                }
                if is_folder(path) { open_clip::of_folder(path) } else { of_transformers(path) }
            }
            Source::Safetensors(path) | Source::Pth(path) => {
                let bytes = bytes::read(path)?;
                let open = || {
                    let (dict, notes) = tensors(source, &bytes, options)?;
                    open_clip::of_file(dict, notes, path, options)
                };
                open().map_err(|e| bytes::blame(e).within(path.display()))
            }
            Source::Onnx(_) | Source::Builtin(_) => {
                Err(Error::load(format!("`{spec}`"), "it has no text tower").hint(KNOWN))
            }
        }
    }
}
