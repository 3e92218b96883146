//! Where a command computes, and on how many threads.

use robust::core::{Error, Result};

/// # Errors
/// Kind `Usage` for a device that this build does not have.
pub fn check_device(device: &str) -> Result<()> {
    match device {
        "auto" | "cpu" => Ok(()),
        d if d.starts_with("cuda") => {
            Err(Error::usage(format!("device `{d}` is not in this build"))
                .hint("use --device cpu; CUDA is not built yet"))
        }
        d => Err(Error::usage(format!("unknown device `{d}`")).hint("devices are auto and cpu")),
    }
}

/// Sizes the pool of threads; nothing to do without a number.
///
/// # Errors
/// Kind `Usage` for a number that makes no sense.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    if threads == 0 || threads > 1024 {
        return Err(Error::usage(format!("--threads {threads} is not between 1 and 1024")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::internal(format!("thread pool: {e}")))
}
