//! How much memory there is, and how many samples of a model fit into it.

use super::watcher::Watcher;
use crate::escape;
use candle_core::DType;
use robust_core::Result;
use robust_engine::{CpuPlan, Network, Reference};
use robust_models::LoadedModel;
use std::sync::Arc;

/// The share of free memory that a batch may take: kernels need room of their own, and some attacks hold more than others.
const SHARE: f64 = 0.7;
/// Copies of a row that an attack and the judge hold.
const COPIES: usize = 12;
/// How many times its weight size a loaded model occupies: as they were read and in double precision, and laid out for fast passes there and
/// back and for exact ones. ResNet-50, ViT-B/16 and VGG-16 take 6 to 9 times the file, the process and what loading
/// needs for a while included.
const LAYOUTS: usize = 6;

/// Bytes that can still be allocated: what the system says is free, and what the process's control group leaves; `None`
/// where neither can be read.
pub fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let free = read("/proc/meminfo").and_then(|text| free_of(&text));
    let number = |path: &str| read(path).and_then(|t| t.trim().parse::<u64>().ok());
    let left = number("/sys/fs/cgroup/memory.max")
        .zip(number("/sys/fs/cgroup/memory.current"))
        .map(|(most, now)| most.saturating_sub(now));
    free.into_iter().chain(left).min()
}

fn free_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of text such as `800MiB`, `8GiB`, `16G` (binary units) or `1000000`.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(1 << unit)
}

/// `1.3 GiB` or `20 MiB`.
pub fn text(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024. { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.) }
}

/// The batch of `wanted` rows or fewer for which `limit` bytes, or what is free, are enough for all models; says so when
/// it is fewer.
///
/// # Errors
/// Those of looking at a network.
pub fn batch(limit: Option<u64>, wanted: usize, models: &[LoadedModel], watcher: &mut dyn Watcher) -> Result<usize> {
    let Some(free) = limit.or_else(available) else { return Ok(wanted) };
    let all = models.iter().filter_map(|m| m.network.as_ref()).map(|n| weights(n)).fold(0, u64::saturating_add);
    let mut batch = wanted;
    // What a model elsewhere takes is not taken here.
    for (model, network) in models.iter().filter_map(|m| Some((m, m.network.as_ref()?))) {
        let row = row(network)?;
        let fits = fitting(wanted, row, free.saturating_sub(all));
        if fits < batch {
            let [row, weights, free] = [row, all, free].map(text);
            watcher.note(&format!(
                "batches of {fits} instead of {wanted}: `{}` takes about {row} a sample with its gradient, beside {weights} for \
                 weights, of {free}",
                escape::line(&model.name)
            ));
            batch = fits;
        }
    }
    Ok(batch)
}

/// Bytes that one row of a network takes under attack, with its gradient.
///
/// # Errors
/// Kind `Usage` when `ROBUST_KERNELS` names kernels this processor cannot run.
pub fn row(network: &Arc<Network>) -> Result<u64> {
    let passes = CpuPlan::row_bytes(&Reference::new(Arc::clone(network), DType::F32)?)?;
    let input: usize = network.input_row().iter().product();
    Ok(passes.saturating_add(input.saturating_mul(COPIES * size_of::<f32>())) as u64)
}

/// Bytes that the weights of a network take, however many rows there are.
pub fn weights(network: &Network) -> u64 {
    let bytes = network.params().iter().map(|p| p.value.elem_count().saturating_mul(p.value.dtype().size_in_bytes()));
    bytes.fold(0, usize::saturating_add).saturating_mul(LAYOUTS) as u64
}

/// How many of `wanted` rows of `row` bytes fit into `available` bytes; at least one.
pub fn fitting(wanted: usize, row: u64, available: u64) -> usize {
    let most = (SHARE * available as f64 / row.max(1) as f64) as usize;
    wanted.min(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(parse("8GiB"), Some(8 << 30));
        assert_eq!(["512", "3k", "20MB", "1 T"].map(parse), [Some(512), Some(3072), Some(20 << 20), Some(1 << 40)]);
        assert_eq!(["", "x", "8Q", "-1", "99999999999T"].map(parse), [None; 5]);
        assert_eq!([text(20 << 20), text(3 << 29)], ["20 MiB", "1.5 GiB"]);
        assert_eq!(free_of("MemTotal: 9 kB\nMemAvailable:     2048 kB\n"), Some(2 << 20));
        assert_eq!(free_of("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn a_batch_shrinks_to_what_fits_and_never_to_nothing() {
        assert_eq!(fitting(64, 1 << 20, 1 << 30), 64);
        assert_eq!(fitting(64, 100 << 20, 1 << 30), 7);
        assert_eq!(fitting(64, 4 << 30, 1 << 30), 1);
    }
}
