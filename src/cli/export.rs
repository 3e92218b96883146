//! `robust export`: a run's adversarial points for people and other tools.

use super::output::{print, print_data};
use super::progress::Terminal;
use robust::core::{Result, Target};
use robust::escape::line;
use robust::eval::{load, record};
use robust::runs::export::{As, Exported, export};
use robust::say;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  robust export runs/net --out adv --contact-sheet\n  robust export runs/net --out adv --png --safetensors"
)]
pub struct Args {
    /// Run folder
    dir: PathBuf,
    /// Where to write, one folder per model and attack
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// One 8-bit PNG per sample
    #[arg(long)]
    png: bool,
    /// x.npy, y.npy and ids.npy
    #[arg(long)]
    npy: bool,
    /// points.safetensors with x, y and ids; `--attack file:` reads it (the default)
    #[arg(long)]
    safetensors: bool,
    /// sheet.png: clean, adversarial and ten times their difference for the first 16 samples
    #[arg(long)]
    contact_sheet: bool,
    /// Where the run's models are now, in its order, if they have moved
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Where the run's data set is now, if it has moved
    #[arg(long, value_name = "DATA")]
    dataset: Option<String>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let record = record::read_record(&args.dir)?;
    let (models, data) =
        load::reopen(&args.dir, &record.plan, &args.model, args.dataset.as_ref(), &mut Terminal::quiet())?;
    let targets: Vec<Target> = models.iter().map(|m| Target::white_box(m.model.clone())).collect();
    let flags = [
        (args.png, As::Png),
        (args.npy, As::Npy),
        (args.safetensors, As::Safetensors),
        (args.contact_sheet, As::Sheet),
    ];
    let mut kinds: Vec<As> = flags.iter().filter(|(on, _)| *on).map(|(_, kind)| *kind).collect();
    if kinds.is_empty() {
        kinds.push(As::Safetensors);
    }
    let done = export(&args.dir, &record, &targets, data.as_ref(), &args.out, &kinds)?;
    if args.json {
        print_data(&format!("{}\n", serde_json::json!({ "schema": "robust.export/1", "results": done })))?;
    } else {
        print(&done.iter().map(to_text).collect::<String>())?;
    }
    say(&format!("written to {}", args.out.display()));
    Ok(())
}

fn to_text(e: &Exported) -> String {
    format!(
        "{} {}: {} points, {} of them fooled; as 8-bit images {} still fool the model within the threat, {} more outside it\n",
        line(&e.model),
        line(&e.attack),
        e.points,
        e.fooled,
        e.survive_8bit,
        e.illegal_8bit
    )
}
