//! The README and CONTRIBUTING are kept true.

use robust::{attacks, benchmarks::data, models};
use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_readme_lists_every_attack_model_and_data_source() {
    let readme = read("README.md");
    for entry in attacks::ALL {
        let norms: Vec<String> = entry.norms.iter().map(|n| n.to_string()).collect();
        let row = format!("| `{}` | {} | {:?} | {} |", entry.name, norms.join(", "), entry.needs, entry.paper);
        assert!(readme.contains(&row), "README.md lacks the line\n{row}");
    }
    for builtin in models::builtin::BUILTINS {
        assert!(readme.contains(&format!("`builtin:{}`", builtin.name)), "{}", builtin.name);
    }
    for arch in models::arch::ARCHITECTURES {
        assert!(readme.contains(&format!("`{}`", arch.name)), "README.md lacks architecture {}", arch.name);
    }
    for source in data::SOURCES {
        assert!(readme.contains(&format!("`{}:", source.scheme)), "README.md lacks data source {}", source.scheme);
    }
}

/// The worked example of CONTRIBUTING is code that exists: following it to the letter gives this attack.
#[test]
fn contributing_teaches_with_code_that_compiles() {
    let text = read("CONTRIBUTING.md");
    let block = text.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(block, read("attacks/tests/contributing/gradient_descent.rs"), "CONTRIBUTING.md and its example differ");
}
