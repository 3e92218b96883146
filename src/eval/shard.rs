//! Cutting a plan into shards: unit of work `i` belongs to shard `i mod N + 1` of `N`.

use robust_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Shard `index` of `of`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Shard {
    pub index: u64,
    pub of: u64,
}

/// A shard as a file says it.
#[derive(Deserialize)]
struct Written {
    index: u64,
    of: u64,
}

impl TryFrom<Written> for Shard {
    type Error = String;
    fn try_from(Written { index, of }: Written) -> std::result::Result<Self, String> {
        Self::new(index, of).map_err(|e| e.message)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// Where a launcher puts the task's number and the number of tasks.
struct Launcher {
    index: &'static str,
    /// `None`: the launcher does not say, `--shards` must.
    count: Option<&'static str>,
    /// What the first task is called.
    first: u64,
}

const fn launcher(index: &'static str, count: Option<&'static str>, first: u64) -> Launcher {
    Launcher { index, count, first }
}

/// Asked in this order, after `ROBUST_SHARD` and Slurm's and SGE's arrays, which need arithmetic.
const LAUNCHERS: [Launcher; 7] = [
    launcher("JOB_COMPLETION_INDEX", None, 0),
    launcher("OMPI_COMM_WORLD_RANK", Some("OMPI_COMM_WORLD_SIZE"), 0),
    launcher("SLURM_PROCID", Some("SLURM_NTASKS"), 0),
    launcher("RANK", Some("WORLD_SIZE"), 0),
    launcher("AWS_BATCH_JOB_ARRAY_INDEX", Some("AWS_BATCH_JOB_ARRAY_SIZE"), 0),
    launcher("PBS_ARRAY_INDEX", None, 0),
    launcher("CI_NODE_INDEX", Some("CI_NODE_TOTAL"), 1),
];

impl Shard {
    pub fn new(index: u64, of: u64) -> Result<Self> {
        if of == 0 || index == 0 || index > of {
            return Err(Error::usage(format!("there is no shard {index}/{of}"))
                .hint("shards count from 1: --shard 1/4 to --shard 4/4"));
        }
        Ok(Self { index, of })
    }

    /// `K/N`, or `auto` for what the environment of a job array, MPI launcher or CI matrix says. `count` is `--shards`,
    /// for launchers that do not tell how many tasks there are.
    pub fn parse(text: &str, count: Option<u64>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        if text == "auto" {
            return Self::auto(count, env);
        }
        let parts = text.split_once('/').and_then(|(k, n)| Some((k.trim().parse().ok()?, n.trim().parse().ok()?)));
        match parts {
            Some((k, n)) => Self::new(k, n),
            None => Err(Error::usage(format!("--shard {text} is not K/N or auto")).hint("such as --shard 1/4")),
        }
    }

    fn auto(count: Option<u64>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        if let Some(text) = env("ROBUST_SHARD") {
            return Self::parse(&text, count, &|_| None).map_err(|e| e.within("ROBUST_SHARD"));
        }
        let number = |name: &str| env(name).and_then(|v| v.trim().parse::<u64>().ok());
        if let Some(id) = number("SLURM_ARRAY_TASK_ID") {
            let (first, step) =
                (number("SLURM_ARRAY_TASK_MIN").unwrap_or(0), number("SLURM_ARRAY_TASK_STEP").unwrap_or(1));
            let place = id.saturating_sub(first) / step.max(1) + 1;
            return Self::new(place, known(number("SLURM_ARRAY_TASK_COUNT").or(count), "SLURM_ARRAY_TASK_ID")?);
        }
        if let Some(id) = number("SGE_TASK_ID") {
            let (first, step) =
                (number("SGE_TASK_FIRST").unwrap_or(1), number("SGE_TASK_STEPSIZE").unwrap_or(1).max(1));
            let tasks = number("SGE_TASK_LAST").map(|last| last.saturating_sub(first) / step + 1).or(count);
            return Self::new(id.saturating_sub(first) / step + 1, known(tasks, "SGE_TASK_ID")?);
        }
        for l in LAUNCHERS {
            if let Some(index) = number(l.index) {
                let of = known(l.count.and_then(number).or(count), l.index)?;
                return Self::new((index + 1).saturating_sub(l.first), of);
            }
        }
        Err(Error::usage("--shard auto finds no job array, MPI launcher or CI matrix in the environment")
            .hint("give --shard K/N, or set ROBUST_SHARD=K/N"))
    }

    /// Whether unit number `unit` of the plan is this shard's.
    pub fn takes(&self, unit: usize) -> bool {
        unit as u64 % self.of == self.index - 1
    }
}

fn known(count: Option<u64>, index: &str) -> Result<u64> {
    count.ok_or_else(|| {
        Error::usage(format!("{index} says which task this is, but nothing says how many there are"))
            .hint("add --shards N")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(vars: &[(&str, &str)], count: Option<u64>) -> Result<String> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let env = move |name: &str| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        Shard::parse("auto", count, &env).map(|s| s.to_string())
    }

    #[test]
    fn every_launcher_is_read_as_its_manual_counts() {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "3"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "1"),
        ];
        assert_eq!(auto(&slurm, None).unwrap(), "3/4");
        let sge = [("SGE_TASK_ID", "5"), ("SGE_TASK_FIRST", "1"), ("SGE_TASK_LAST", "9"), ("SGE_TASK_STEPSIZE", "2")];
        assert_eq!(auto(&sge, None).unwrap(), "3/5");
        assert_eq!(auto(&[("JOB_COMPLETION_INDEX", "0")], Some(3)).unwrap(), "1/3");
        assert_eq!(auto(&[("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "3")], None).unwrap(), "3/3");
        assert_eq!(auto(&[("RANK", "1"), ("WORLD_SIZE", "2")], None).unwrap(), "2/2");
        assert_eq!(auto(&[("CI_NODE_INDEX", "1"), ("CI_NODE_TOTAL", "2")], None).unwrap(), "1/2");
        assert_eq!(auto(&[("AWS_BATCH_JOB_ARRAY_INDEX", "4")], Some(9)).unwrap(), "5/9");
        assert_eq!(auto(&[("ROBUST_SHARD", "2/5"), ("RANK", "0"), ("WORLD_SIZE", "1")], None).unwrap(), "2/5");
    }

    #[test]
    fn nonsense_is_refused_with_the_next_step() {
        let parse = |text: &str| Shard::parse(text, None, &|_| None).unwrap_err().to_string();
        assert!(parse("0/4").contains("count from 1") && parse("5/4").contains("count from 1"));
        assert!(parse("4").contains("K/N") && parse("auto").contains("ROBUST_SHARD"));
        assert!(auto(&[("PBS_ARRAY_INDEX", "3")], None).unwrap_err().to_string().contains("--shards N"));
    }

    #[test]
    fn shards_share_the_units_without_overlap() {
        for of in [1, 3, 7] {
            for unit in 0..50 {
                assert_eq!((1..=of).filter(|&index| Shard { index, of }.takes(unit)).count(), 1);
            }
        }
    }
}
