//! Which models have text towers that are read.

pub(super) const KNOWN: &str = "zero-shot heads need both towers: a CLIP or SigLIP folder of transformers, a folder of OpenCLIP, or a \
                     file of OpenAI's or OpenCLIP's weights";
