//! PyTorch checkpoints (`.pth`, `.pt`, `.bin`) as torch.save writes them: since 1.6 a zip archive of one pickle and the
//! tensors' storages, before it pickles with the storages behind them; and TorchScript programs (torch.jit.save), whose modules are
//! named tensors as well. Only data is read: no class is loaded and nothing in the file is ever executed.

mod advice;
mod legacy;
mod machine;
mod node;
mod opcodes;
mod pickle;
mod read;
mod script;
mod search;
mod sniff;
mod storage;
mod tensor;
#[cfg(test)]
mod tests;
mod zip;

pub(crate) use read::read;
