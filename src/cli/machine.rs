//! Where a command computes, and on how many threads.

use robust::core::{Error, Result};
use robust::models::LoadedModel;
use robust::{memory, say};

/// Of commands that attack.
#[derive(clap::Args)]
#[group(id = "machine-memory")]
pub struct Memory {
    /// Memory to stay within, such as 8GiB; batches shrink to fit, which never changes a result [default: what is free]
    #[arg(long, value_name = "SIZE", env = "ROBUST_MEMORY", value_parser = parse_size)]
    memory: Option<u64>,
}

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    memory::parse(text).ok_or_else(|| "it is a number with k, M, G or T after it, such as 8GiB".to_string())
}

impl Memory {
    /// The batch of `wanted` rows or fewer that fits for all models; says so when it is fewer.
    ///
    /// # Errors
    /// Those of looking at a network.
    pub fn batch(&self, wanted: usize, models: &[LoadedModel]) -> Result<usize> {
        let Some(free) = self.memory.or_else(memory::available) else { return Ok(wanted) };
        let weights =
            models.iter().filter_map(|m| m.network.as_ref()).map(|n| memory::weights(n)).fold(0, u64::saturating_add);
        let mut batch = wanted;
        // What a model elsewhere takes is not taken here.
        for (model, network) in models.iter().filter_map(|m| Some((m, m.network.as_ref()?))) {
            let row = memory::row(network)?;
            let fits = memory::fitting(wanted, row, free.saturating_sub(weights));
            if fits < batch {
                let [row, weights, free] = [row, weights, free].map(memory::text);
                say(&format!(
                    "note: batches of {fits} instead of {wanted}: `{}` takes about {row} a sample with its gradient, beside \
                     {weights} for weights, of {free}",
                    model.name
                ));
                batch = fits;
            }
        }
        Ok(batch)
    }
}

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
