//! Where to compute.

use robust_core::{Error, Result};
use std::str::FromStr;

/// Where models compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The fastest device of this machine that this build can use.
    #[default]
    Auto,
    Cpu,
}

impl FromStr for Device {
    type Err = Error;

    /// # Errors
    /// Kind `Usage` for a device that this build does not have.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            d if d.starts_with("cuda") => Err(Error::usage(format!("device `{d}` is not in this build"))
                .hint("use --device cpu; CUDA is not built yet")),
            d => Err(Error::usage(format!("unknown device `{d}`")).hint("devices are auto and cpu")),
        }
    }
}
