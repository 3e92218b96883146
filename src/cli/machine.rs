//! What commands that compute may use: threads, memory, time.

use robust::core::{Error, Result};
use robust::eval::memory_estimate;

/// Worker threads of commands that compute.
#[derive(clap::Args)]
#[group(id = "machine-threads")]
pub struct Threads {
    /// Worker threads (default: all cores); never changes a result
    #[arg(long, value_name = "T", env = "ROBUST_THREADS")]
    threads: Option<usize>,
}

impl Threads {
    /// Sizes the pool of threads, once in a process; nothing to do without a number.
    ///
    /// # Errors
    /// Kind `Usage` for a number that makes no sense.
    pub fn set(&self) -> Result<()> {
        let Some(threads) = self.threads else { return Ok(()) };
        if threads == 0 || threads > 1024 {
            return Err(Error::usage(format!("--threads {threads} is not between 1 and 1024")));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|e| Error::internal(format!("thread pool: {e}")))
    }
}

/// Of commands that attack.
#[derive(clap::Args)]
#[group(id = "machine-memory")]
pub struct Memory {
    /// Memory to stay within, such as 8GiB; batches shrink to fit, which never changes a result [default: what is free]
    #[arg(long, value_name = "SIZE", env = "ROBUST_MEMORY", value_parser = parse_size)]
    memory: Option<u64>,
}

impl Memory {
    /// Bytes.
    pub fn limit(&self) -> Option<u64> {
        self.memory
    }
}

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    memory_estimate::parse(text).ok_or_else(|| "it is a number with k, M, G or T after it, such as 8GiB".to_string())
}

/// Of commands that run for long and can be continued.
#[derive(clap::Args)]
#[group(id = "machine-limits")]
pub struct Limits {
    /// Begin no unit of work after this time; exit 3 if any is left
    #[arg(long, value_name = "T")]
    max_minutes: Option<f64>,
}

impl Limits {
    pub fn max_minutes(&self) -> Option<f64> {
        self.max_minutes
    }
}
