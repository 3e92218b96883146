//! Running the command in a folder of its own.

use safetensors::{Dtype, tensor::TensorView};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub struct Place {
    pub dir: tempfile::TempDir,
}

pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_robust"));
        command.args(args.split_whitespace()).current_dir(self.dir.path());
        for (key, _) in std::env::vars().filter(|(k, _)| k.starts_with("ROBUST_")) {
            command.env_remove(key);
        }
        command
    }

    /// Arguments are split at spaces.
    pub fn robust(&self, args: &str) -> Said {
        said(self.command(args).output().unwrap())
    }

    /// Runs and insists on exit code 0.
    pub fn ok(&self, args: &str) -> Said {
        let said = self.robust(args);
        assert_eq!(said.code, 0, "`robust {args}` failed:\n{}\n{}", said.out, said.err);
        said
    }

    /// Runs and insists on this exit code and these words on stderr.
    pub fn fails(&self, args: &str, code: i32, words: &[&str]) -> Said {
        let said = self.robust(args);
        assert_eq!(said.code, code, "`robust {args}`:\n{}\n{}", said.out, said.err);
        for word in words {
            assert!(said.err.contains(word), "`robust {args}` does not say `{word}`:\n{}", said.err);
        }
        assert!(!said.err.contains("panicked") && !said.err.contains("bug in robust"), "{}", said.err);
        said
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A data set of images `[n, c, h, w]` and labels as a safetensors file.
pub fn images(place: &Place, name: &str, x: &[f32], shape: [usize; 4], labels: &[i64]) {
    let x: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
    let y: Vec<u8> = labels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let x = TensorView::new(Dtype::F32, shape.to_vec(), &x).unwrap();
    let y = TensorView::new(Dtype::I64, vec![labels.len()], &y).unwrap();
    std::fs::write(place.path(name), safetensors::serialize([("x", x), ("y", y)], None).unwrap()).unwrap();
}

/// The fixtures' folder, or a printed reason why this test does nothing.
pub fn fixtures(test: &str) -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let root = std::env::var_os("ROBUST_FIXTURES").map_or(usual, PathBuf::from);
    if root.is_dir() {
        return Some(root.canonicalize().unwrap());
    }
    println!("{test}: skipped, there is no {} (set ROBUST_FIXTURES)", root.display());
    None
}
