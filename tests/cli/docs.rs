//! The pages and CONTRIBUTING are kept true. `ROBUST_BLESS=1` rewrites the pages' tables from the indexes.

use robust::benchmarks::data;
use robust::{attacks, models};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn attacks_table() -> String {
    let mut text = "\n| attack | norms | needs | paper |\n|---|---|---|---|\n".to_string();
    for e in attacks::ALL {
        let norms: Vec<String> = e.norms.iter().map(|n| n.to_string()).collect();
        let needs = format!("{:?}", e.needs).to_lowercase();
        writeln!(text, "| `{}` | {} | {needs} | {} |", e.name, norms.join(", "), e.paper).unwrap();
    }
    text + "\n"
}

fn models_tables() -> String {
    let mut text = "\n| model | what it is |\n|---|---|\n".to_string();
    for b in models::builtin::BUILTINS {
        writeln!(text, "| `builtin:{}` | {} |", b.name, b.summary).unwrap();
    }
    text += "| `FILE.onnx`, `FILE.onnx.gz` | any ONNX graph of the supported operators, opset 7 to 28; weights inside or in files beside it |\n";
    text += "| `FILE.safetensors`, `FILE.pth` | weights of an architecture below, recognised from the tensor names; \
             also those of a TorchScript program (OpenAI's `.pt`), whose code is not run |\n";
    let types: Vec<&str> = models::hf::model_types().collect();
    text += &format!(
        "| `FOLDER` | a Hugging Face folder with `model_type` {}, or one of OpenCLIP ([encoders](encoders.md)) |\n",
        types.join(", ")
    );
    text += "| `hf:ORG/NAME[@REV]` | such a folder by its name on the hub, from the cache of the hub's tools; a build with \
             `--features hub` downloads what is missing |\n";
    text += "\n| `?arch=` | what it is |\n|---|---|\n";
    for a in models::arch::ARCHITECTURES {
        writeln!(text, "| `{}` | {} |", a.name, a.doc.replace('|', "\\|")).unwrap();
    }
    text + "\n"
}

fn data_table() -> String {
    let mut text = "\n| data | what it is | example |\n|---|---|---|\n".to_string();
    for s in data::SOURCES {
        writeln!(text, "| `{}:` | {} | `{}` |", s.scheme, s.summary, s.example).unwrap();
    }
    text + "\n"
}

/// What stands between the marks of a page is what the indexes say.
fn page_holds(name: &str, tables: &str) {
    let (open, close) =
        ("<!-- tables: written by ROBUST_BLESS=1 cargo test --test cli docs -->\n", "<!-- end of tables -->");
    let page = read(name);
    let (before, rest) = page.split_once(open).unwrap();
    let (there, after) = rest.split_once(close).unwrap();
    if std::env::var_os("ROBUST_BLESS").is_some() {
        std::fs::write(path(name), format!("{before}{open}{tables}{close}{after}")).unwrap();
        return;
    }
    assert_eq!(there, tables, "the tables of {name} are old: ROBUST_BLESS=1 cargo test --test cli docs");
}

#[test]
fn the_pages_list_every_attack_model_and_data_source() {
    page_holds("docs/attacks.md", &attacks_table());
    page_holds("docs/architectures.md", &models_tables());
    page_holds("docs/data.md", &data_table());
}

/// A person who has never heard of the tool reads the whole of it.
#[test]
fn the_readme_is_short_and_its_links_lead_somewhere() {
    let readme = read("README.md");
    let words = readme.split_whitespace().count();
    assert!(words <= 1_500, "the README has {words} words");
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|t| !t.contains("://")) {
        assert!(path(target).exists(), "the README links to {target}, which does not exist");
    }
}

/// The worked example of CONTRIBUTING is code that is compiled and run by a test of the attacks' room.
#[test]
fn contributing_teaches_with_code_that_compiles() {
    let text = read("CONTRIBUTING.md");
    let block = text.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(block, read("attacks/tests/contributing/gradient_descent.rs"), "CONTRIBUTING.md and its example differ");
}

/// `scripts/follow_contributing.py` does as the examples say; this holds between two runs of it.
#[test]
fn every_index_line_of_contributing_has_one_place() {
    let text = read("CONTRIBUTING.md");
    let quoted = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
    let (mut files, mut lines) = (0, 0);
    for line in text.lines() {
        match quoted(line).as_slice() {
            [_] if line.starts_with("New file ") => files += 1,
            [file, after] if line.starts_with("In ") => {
                let places = read(file).lines().filter(|l| l.trim() == after).count();
                assert_eq!(places, 1, "CONTRIBUTING.md: {file} has {places} lines `{after}`");
                lines += 1;
            }
            _ => {}
        }
    }
    // A file for each kind of addition; two lines for each but a defence, which is in no index.
    assert_eq!((files, lines), (7, 12));
}
