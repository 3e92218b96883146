//! Files of arrays with names: which are the images and which the labels.

use super::query::Query;
use robust_core::{Error, Result};

/// Names of images and of labels, the first pair that a file has before the others: what people and libraries write.
const PAIRS: [(&[&str], &[&str]); 4] = [
    (&["x", "images", "data"], &["y", "labels", "targets"]),
    (
        &["x_test", "test_x", "test_images", "test_data", "images_test"],
        &["y_test", "test_y", "test_labels", "test_targets", "labels_test"],
    ),
    (&["image", "img", "imgs", "inputs"], &["label", "target", "classes", "class"]),
    (&["arr_0"], &["arr_1"]),
];
const IMAGES: [&str; 3] = ["x", "images", "data"];
const POINTS: [&str; 3] = ["x_adv", "adv", "adversarial"];

/// Which of `names` hold the images and the labels: as asked for by `?x=` and `?y=`, else by their usual names. Points
/// have no labels, and the only array of a file is them whatever it is called.
pub(super) fn pick_arrays<'a>(subject: &str, names: &'a [String], query: &Query) -> Result<(&'a str, Option<&'a str>)> {
    if let (true, None, [only]) = (query.points, query.get("x"), names) {
        return Ok((only, None));
    }
    let one = |key: &str, usual: &[&str], what: &str| {
        let asked = query.get(key);
        let fits = |name: &&String| match asked {
            Some(asked) => name.as_str() == asked,
            None => usual.contains(&name.to_lowercase().as_str()),
        };
        let hint = format!("name them with `?x=NAME&y=NAME`; the file has: {}", some(names));
        match names.iter().filter(fits).collect::<Vec<_>>().as_slice() {
            [name] => Ok(name.as_str()),
            [] => {
                let wanted = asked.map_or_else(|| usual.join(", "), str::to_string);
                Err(Error::load(subject, format!("no array of {what} in it (looked for: {wanted})")).hint(hint))
            }
            [a, b, ..] => Err(Error::load(subject, format!("both `{a}` and `{b}` may be the {what}")).hint(hint)),
        }
    };
    if query.points {
        return Ok((one("x", &[&IMAGES[..], &POINTS].concat(), "points")?, None));
    }
    let has = |key: &str, usual: &[&str]| {
        query.get(key).is_some() || names.iter().any(|name| usual.contains(&name.to_lowercase().as_str()))
    };
    let (images, labels) = PAIRS.iter().find(|(x, y)| has("x", x) && has("y", y)).unwrap_or(&PAIRS[0]);
    Ok((one("x", images, "images")?, Some(one("y", labels, "labels")?)))
}

/// The note of what [`pick_arrays`] took.
pub(super) fn chosen(x: &str, y: Option<&str>) -> String {
    y.map_or_else(|| format!("points are `{x}`"), |y| format!("images are `{x}`, labels are `{y}`"))
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(12).map(String::as_str).collect();
    shown.join(", ") + if names.len() > 12 { ", ..." } else { "" }
}
