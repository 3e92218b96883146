//! `robust corrupt`, and the options of `robust eval` that concern corruptions.

use super::output::{Format, print};
use super::{pick, summary};
use robust::benchmarks::corruptions::{Photos, parse, stand_in};
use robust::benchmarks::data;
use robust::core::{Error, Input, Result, View};
use robust::corruption::suites::Suites;
use robust::corruption::write::{As, Job, sheet, write};
use robust::eval::Finished;
use robust::report::{Row, corruptions};
use robust::{disk, say};
use std::path::PathBuf;

/// Of `robust eval`.
#[derive(clap::Args)]
pub struct Options {
    /// Corruption suite: imagenet-c, cifar-c, mnist-c or c-bar, then :severities=1-5,only=fog+snow,extra=true,table=224, or :dir=FOLDER for a published set on disk; repeatable
    #[arg(long, value_name = "SUITE")]
    corruptions: Vec<String>,
    /// Folder of the published frost photos; without it frost is drawn, under another name and outside every mean
    #[arg(long, value_name = "DIR", env = "ROBUST_FROST")]
    frost_dir: Option<PathBuf>,
    /// What mCE is relative to: alexnet (published images only) or a run folder over the same images
    #[arg(long, value_name = "RUN", requires = "corruptions")]
    reference: Option<String>,
}

impl Options {
    pub fn suites(&self) -> Suites {
        Suites { specs: self.corruptions.clone(), frost_dir: self.frost_dir.clone() }
    }

    /// The usual rows, and the table of corruptions where there are any: in text it stands for their rows.
    pub fn print(&self, finished: &Finished, format: Format) -> Result<()> {
        let run = &finished.run;
        let reference = self.reference.as_deref().map(corruptions::Reference::open).transpose()?;
        if finished.corruptions.is_empty() || format != Format::Text {
            return summary::print_rows(&run.rows, format);
        }
        let others: Vec<Row> = run.rows.iter().filter(|r| !r.norm.is_empty()).cloned().collect();
        if !others.is_empty() {
            summary::print_rows(&others, format)?;
        }
        match reference {
            None => print(&corruptions::to_text(&finished.corruptions)),
            reference => {
                let reports = corruptions::summarise(&run.record.plan, &run.outcomes, reference.as_ref())?;
                print(&corruptions::to_text(&reports))
            }
        }
    }
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  robust corrupt imagenet-c --dataset 'folder:val?resize=256&crop=224' --size 3x224x224 --out corrupted --png --limit 100
  robust corrupt mnist-c --dataset builtin:mnist --size 1x28x28 --out corrupted --npy
  robust corrupt imagenet-c --dataset folder:val --size 3x224x224 --contact-sheet sheet.png --ids ids.txt")]
pub struct Args {
    /// Corruption suite with its parameters, as `robust eval --corruptions`
    suite: String,
    /// Data set, as of `robust eval`
    #[arg(long, value_name = "DATA", env = "ROBUST_DATASET")]
    dataset: String,
    /// Channels, height and width of its images
    #[arg(long, value_name = "CxHxW")]
    size: String,
    /// Where to write: SUITE/CORRUPTION/SEVERITY below it
    #[arg(long, value_name = "DIR", required_unless_present = "contact_sheet")]
    out: Option<PathBuf>,
    /// One 8-bit PNG per image, in a folder per class (the default)
    #[arg(long)]
    png: bool,
    /// CORRUPTION.npy, all severities one after the other, and labels.npy, as CIFAR-10-C is published
    #[arg(long)]
    npy: bool,
    /// CORRUPTION.safetensors with x, y and ids
    #[arg(long)]
    safetensors: bool,
    /// A PNG of every corruption at every severity of the first image chosen
    #[arg(long, value_name = "FILE")]
    contact_sheet: Option<PathBuf>,
    #[command(flatten)]
    pick: pick::Options,
    /// Seed of all draws
    #[arg(long, default_value_t = 0, value_name = "S", env = "ROBUST_SEED")]
    seed: u64,
    /// Folder of the published frost photos
    #[arg(long, value_name = "DIR", env = "ROBUST_FROST")]
    frost_dir: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let shape = shape(&args.size)?;
    let frost = args.frost_dir.as_deref().map(Photos::open).transpose()?;
    let recipes = parse(&args.suite, &shape, frost.as_ref())?;
    if let Some(note) = recipes.first().and_then(|recipe| stand_in(recipe.table, shape[1], shape[2])) {
        say(&format!("note: {note}"));
    }
    let data = data::open(&args.dataset)?;
    let ids = args.pick.choose(data.as_ref())?;
    let view = View::from(Input::image(shape[0], shape[1], shape[2]));
    let job = Job { recipes: &recipes, data: data.as_ref(), view: &view, ids: &ids, seed: args.seed };
    if let Some(path) = &args.contact_sheet {
        disk::publish(path, &sheet(&job)?)?;
        say(&format!("written to {}", path.display()));
    }
    let Some(out) = &args.out else { return Ok(()) };
    let flags = [(args.png, As::Png), (args.npy, As::Npy), (args.safetensors, As::Safetensors)];
    let mut kinds: Vec<As> = flags.into_iter().filter(|f| f.0).map(|f| f.1).collect();
    if kinds.is_empty() {
        kinds.push(As::Png);
    }
    let count = write(&job, out, &kinds)?;
    say(&format!("{count} images of {} recipes written to {}", recipes.len(), out.display()));
    Ok(())
}

fn shape(text: &str) -> Result<[usize; 3]> {
    let parts: Option<Vec<usize>> = text.split('x').map(|p| p.parse().ok().filter(|n| *n > 0)).collect();
    parts.and_then(|p| p.try_into().ok()).ok_or_else(|| {
        Error::usage(format!("--size {text} is not channels, height and width")).hint("such as 3x224x224 or 1x28x28")
    })
}
