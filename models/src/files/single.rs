//! Files of weights without settings.

use super::pth;
use crate::options::Options;
use crate::spec::Source;
use crate::weights::StateDict;
use robust_core::{Error, Result};

/// The tensors of a file without settings, and what was decided on the way to them.
pub(crate) fn tensors(source: &Source, bytes: &[u8], options: &Options) -> Result<(StateDict, Vec<String>)> {
    if matches!(source, Source::Pth(_)) {
        let read = pth::read(bytes, options.key.as_deref())?;
        return Ok((StateDict::from_views(read.tensors.into_iter())?, read.notes));
    }
    if options.key.is_some() {
        return Err(Error::usage("`key` is for .pth checkpoints: a safetensors file holds one state dict"));
    }
    Ok((StateDict::from_bytes(bytes)?, vec![]))
}
