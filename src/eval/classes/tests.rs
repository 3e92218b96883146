//! Folders whose right labels are known, against models with so many outputs.

use super::*;
use std::path::PathBuf;

struct Place(tempfile::TempDir);

impl Place {
    /// One image in each folder; what ends in `/` stays empty.
    fn new(folders: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let png = robust_imaging::png(&[7; 4], 2, 2, 1).unwrap();
        for folder in folders {
            let path = place.path().join("data").join(folder);
            std::fs::create_dir_all(&path).unwrap();
            if !folder.ends_with('/') {
                std::fs::write(path.join("0.png"), &png).unwrap();
            }
        }
        Self(place)
    }

    fn spec(&self, query: &str) -> String {
        format!("folder:{}{query}", self.0.path().join("data").display())
    }

    fn names(&self, names: &[&str]) -> ClassNames {
        let file: PathBuf = self.0.path().join("config.json");
        let map: serde_json::Map<String, serde_json::Value> =
            names.iter().enumerate().map(|(i, name)| (i.to_string(), (*name).into())).collect();
        std::fs::write(&file, serde_json::json!({ "id2label": map }).to_string()).unwrap();
        ClassNames { file, names: names.iter().map(|n| n.to_string()).collect() }
    }

    /// The labels in the order of the samples, and the query that gives them again.
    fn labels(&self, query: &str, outputs: usize, names: Option<ClassNames>) -> Result<(Vec<u32>, String)> {
        let scores = Scores { model: "net", outputs, names };
        let (source, opened) = open(&self.spec(query), &[scores], false)?;
        let ids: Vec<u64> = (0..opened.data.card().samples).collect();
        let labels = opened.data.labels(&ids).unwrap();
        let again = data::open(&source).unwrap();
        assert_eq!(again.labels(&ids).unwrap(), labels, "{source}");
        assert_eq!(again.card().digest, opened.data.card().digest);
        Ok((labels, source.split_once('?').map_or(String::new(), |(_, query)| query.to_string())))
    }

    fn refused(&self, outputs: usize, names: Option<ClassNames>) -> String {
        self.labels("", outputs, names).unwrap_err().to_string()
    }
}

fn is(labels: &[u32], query: &str) -> (Vec<u32>, String) {
    (labels.to_vec(), query.to_string())
}

#[test]
fn folders_that_are_numbers_have_them_as_labels() {
    let eleven: Vec<String> = (0..11).map(|i| i.to_string()).collect();
    let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
    // Samples lie in the order of the names as text: 0, 1, 10, 2, ...
    let place = Place::new(&eleven);
    assert_eq!(place.labels("", 11, None).unwrap(), is(&[0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9], ""));
    assert!(place.refused(10, None).contains("11 class folders (0, 1, 2, 3, 4, ...), but model `net` has 10 outputs"));
    let gaps = Place::new(&["0", "1", "3"]);
    assert_eq!(gaps.labels("", 4, None).unwrap(), is(&[0, 1, 3], ""));
    assert_eq!(gaps.labels("", 10, None).unwrap(), is(&[0, 1, 3], ""));
    // As many as outputs, though one number is beyond them: they can only be counted.
    assert_eq!(gaps.labels("", 3, None).unwrap(), is(&[0, 1, 2], "classes=natural"));
    let from_one = Place::new(&["1", "2", "3", "4"]);
    assert_eq!(from_one.labels("", 4, None).unwrap(), is(&[0, 1, 2, 3], ""));
    // With ten outputs, 1 may be the class 0 or the class 1.
    let refused = from_one.refused(10, None);
    assert!(refused.contains("`?classes=numbers`") && refused.contains("`?classes=sorted`"), "{refused}");
    assert_eq!(from_one.labels("?classes=numbers", 10, None).unwrap().0, [1, 2, 3, 4]);
    assert_eq!(from_one.labels("?classes=sorted", 10, None).unwrap().0, [0, 1, 2, 3]);
    assert_eq!(from_one.labels("?classes=numbers&offset=-1", 10, None).unwrap().0, [0, 1, 2, 3]);
}

#[test]
fn a_missing_class_is_refused_with_the_ways_out() {
    let place = Place::new(&["ant", "bee", "dog"]);
    let refused = place.refused(4, None);
    for word in ["3 class folders (ant, bee, dog)", "4 outputs", "an empty folder", "?offset=1", "?classes=sorted"] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    assert_eq!(place.labels("?classes=sorted", 4, None).unwrap().0, [0, 1, 2]);
    let filled = Place::new(&["ant", "bee", "cat/", "dog"]);
    assert_eq!(filled.labels("", 4, None).unwrap(), is(&[0, 1, 3], ""));
    // A background class before the others.
    assert_eq!(Place::new(&["ant", "bee"]).labels("?offset=1", 3, None).unwrap().0, [1, 2]);
}

#[test]
fn what_tools_leave_behind_is_no_class() {
    let place = Place::new(&["ant", ".ipynb_checkpoints", "bee", "__MACOSX/ant", "cat", "cat/.thumbnails", ".git/"]);
    assert_eq!(place.labels("", 3, None).unwrap(), is(&[0, 1, 2], ""));
    let notes = data::open_with_notes(&place.spec("")).unwrap().notes.join("\n");
    assert!(notes.contains("3 files that are hidden") && notes.contains(".ipynb_checkpoints"), "{notes}");
    assert!(notes.contains("hidden folder .git is not a class"), "{notes}");
}

#[test]
fn names_of_the_model_give_the_labels_of_the_model() {
    let place = Place::new(&["tiger_cat", "Ant", "dog"]);
    let model = || place.names(&["dog, Canis familiaris", "ant", "bee", "tiger cat"]);
    let (labels, query) = place.labels("", 4, Some(model())).unwrap();
    // In the order of the folders: Ant, dog, tiger_cat.
    assert_eq!(labels, [1, 0, 3]);
    assert!(query.starts_with("classes=") && query.ends_with("config.json"), "{query}");
    assert_eq!(place.labels("?classes=sorted", 4, Some(model())).unwrap().0, [0, 1, 2]);
    let stranger = Place::new(&["ant", "bees"]);
    let refused = stranger.refused(4, Some(stranger.names(&["ant", "bee", "cat", "dog"])));
    assert!(refused.contains("class folders bees are not among the classes of `net`, 1 others are"), "{refused}");
    // Names that have nothing in common are told, where the number fits.
    let others = Place::new(&["n01", "n02"]);
    let scores = Scores { model: "net", outputs: 2, names: Some(others.names(&["ant", "bee"])) };
    let notes = open(&others.spec(""), &[scores], false).unwrap().1.notes.join("\n");
    assert!(notes.contains("(n01, n02) are not named as the classes of `net` (ant, bee)"), "{notes}");
    // The same order needs nothing, and so changes no digest.
    let same = Place::new(&["ant", "bee"]);
    assert_eq!(same.labels("", 2, Some(same.names(&["ant", "bee"]))).unwrap(), is(&[0, 1], ""));
}

#[test]
fn models_that_need_other_orders_are_not_measured_together() {
    let place = Place::new(&["ant", "bee"]);
    let turned = place.names(&["bee", "ant"]);
    let scores = |model: &'static str, names| Scores { model, outputs: 2, names };
    let both = [scores("a", None), scores("b", Some(turned))];
    let error = open(&place.spec(""), &both, false).err().unwrap();
    assert!(error.message.contains("`a` and `b` have their classes in different orders"), "{error}");
    assert!(open(&place.spec(""), &both[..1], false).is_ok());
}

#[test]
fn a_part_of_imagenet_keeps_its_labels() {
    // Classes 9 and 0.
    let place = Place::new(&["n01518878", "n01440764"]);
    assert_eq!(place.labels("", 1000, None).unwrap(), is(&[0, 9], "classes=imagenet"));
    assert_eq!(place.labels("", 2, None).unwrap(), is(&[0, 1], ""));
    assert!(place.refused(999, None).contains("2 class folders"));
}

#[test]
fn labels_beyond_the_classes_are_named_before_anything_is_attacked() {
    let place = Place::new(&["0", "1", "2", "9"]);
    let opened = data::open(&place.spec("")).unwrap();
    let scores = |outputs| Scores { model: "net", outputs, names: None };
    check_labels(opened.as_ref(), &[0, 1, 2, 3], &scores(10)).unwrap();
    check_labels(opened.as_ref(), &[0, 1, 2], &scores(9)).unwrap();
    let error = check_labels(opened.as_ref(), &[1, 3], &scores(9)).unwrap_err();
    assert!(
        error.message.contains("label 9 (9) of sample 3 is not one of the 9 classes of `net`, 0 to 8: 1 of 2"),
        "{error}"
    );
    // 1 to 9 of nine classes.
    assert!(error.hint.unwrap().contains("`?offset=-1`"));
    let error = check_labels(opened.as_ref(), &[0, 3], &scores(9)).unwrap_err();
    assert!(error.hint.unwrap().contains("--ids"));
}
