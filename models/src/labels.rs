//! The names that a model has for its classes.

use crate::files::hf;
use crate::spec;
use crate::spec::Source;
use std::path::PathBuf;

/// Names of classes in the order of the scores, and the file that says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassNames {
    pub file: PathBuf,
    pub names: Vec<String>,
}

/// The names that the settings of a Hugging Face folder have for the classes; `None` where they have none (`LABEL_0`, ...),
/// for other kinds of models, and where the scores are not those of the folder's own head.
pub fn class_names(model: &str) -> Option<ClassNames> {
    let parsed = spec::parse(model).ok()?;
    let Source::Folder(folder) = parsed.source else { return None };
    if parsed.options.head.is_some() || parsed.options.output.is_some() {
        return None;
    }
    let file = folder.join("config.json");
    let names = hf::class_names(&file)?;
    let told = |(i, name): (usize, &String)| *name != format!("LABEL_{i}");
    names.iter().enumerate().any(told).then_some(ClassNames { file, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_settings_in_the_order_of_the_scores() {
        let place = tempfile::tempdir().unwrap();
        let spec = place.path().display().to_string();
        let write = |text: &str| std::fs::write(place.path().join("config.json"), text).unwrap();
        write(r#"{"id2label": {"1": "bee", "0": "ant", "2": "cat, tomcat"}}"#);
        let found = class_names(&spec).unwrap();
        assert_eq!(found.names, ["ant", "bee", "cat, tomcat"]);
        assert_eq!(class_names(&format!("{spec}?head=h.safetensors")), None);
        for none in [
            r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#,
            r#"{"id2label": {"0": "ant", "2": "bee"}}"#,
            r#"{"id2label": ["ant"]}"#,
            r#"{"id2label": {"0": 7}}"#,
            "{}",
        ] {
            write(none);
            assert_eq!(class_names(&spec), None, "{none}");
        }
    }
}
