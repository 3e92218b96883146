//! Models compiled into the program, so that a first run needs no file.

use crate::options::Options;
use crate::weights::StateDict;
use crate::{bytes as files, families as arch};
use robust_core::{Error, Norm, Result, nearest};
use robust_engine::Network;

/// A model that is always there, as `builtin:NAME`.
pub struct Builtin {
    pub name: &'static str,
    /// One sentence with the numbers that matter.
    pub summary: &'static str,
    /// Used when the user gives no epsilon.
    pub default_threat: (Norm, f64),
    arch: &'static str,
    /// A gzip'd safetensors file.
    weights: &'static [u8],
}

pub static BUILTINS: &[Builtin] = &[
    Builtin {
        name: "mnist-std",
        summary: "small CNN for MNIST, normally trained: 98.4 % clean accuracy and no robustness to speak of",
        default_threat: (Norm::Linf, 0.3),
        arch: "mnist-cnn",
        weights: include_bytes!("../data/mnist_std.safetensors.gz"),
    },
    Builtin {
        name: "mnist-at",
        summary: "the same CNN trained against PGD-7 at Linf 0.3: AutoAttack leaves 65.4 % of the first 500 test images \
                  (PGD-10 alone would claim 73.8 %); 98.3 % clean accuracy",
        default_threat: (Norm::Linf, 0.3),
        arch: "mnist-cnn",
        weights: include_bytes!("../data/mnist_at.safetensors.gz"),
    },
];

/// Who made the weights and on what data.
pub const ATTRIBUTION: &str = include_str!("../data/ATTRIBUTION.txt");

/// The built-in of that name; otherwise an error of kind `Usage` with the names there are.
pub fn find(name: &str) -> Result<&'static Builtin> {
    BUILTINS.iter().find(|b| b.name == name).ok_or_else(|| {
        let names = || BUILTINS.iter().map(|b| b.name);
        let known = names().collect::<Vec<_>>().join(", ");
        let hint = match nearest(name, names()) {
            Some(close) => format!("did you mean `builtin:{close}`? built in: {known}"),
            None => format!("built in: {known}"),
        };
        Error::usage(format!("there is no built-in model `{name}`")).hint(hint)
    })
}

impl Builtin {
    /// Name of its architecture.
    pub fn arch(&self) -> &'static str {
        self.arch
    }

    pub fn network(&self) -> Result<Network> {
        let weights = StateDict::from_bytes(&files::unpack(self.weights)?)?;
        let options = Options { arch: Some(self.arch.into()), ..Options::default() };
        Ok(arch::build(&weights, &options)?.network)
    }
}
