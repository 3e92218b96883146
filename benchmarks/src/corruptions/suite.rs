//! Suites by name, and one corruption at one severity as something to apply.

use super::{Call, Corruption, EXTRA, Photos, Profile, Random, SIDES, TEST, UNPUBLISHED, cbar, mnist, of_side};
use robust_core::{Error, Result, Spec, nearest};
use robust_imaging::Bytes;
use serde::{Deserialize, Serialize};

/// A published family of corruptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suite {
    #[serde(rename = "imagenet-c")]
    ImageNetC,
    #[serde(rename = "cifar-c")]
    CifarC,
    #[serde(rename = "mnist-c")]
    MnistC,
    #[serde(rename = "c-bar")]
    CBar,
}

impl Suite {
    pub const ALL: [Suite; 4] = [Suite::ImageNetC, Suite::CifarC, Suite::MnistC, Suite::CBar];

    pub fn name(self) -> &'static str {
        match self {
            Suite::ImageNetC => "imagenet-c",
            Suite::CifarC => "cifar-c",
            Suite::MnistC => "mnist-c",
            Suite::CBar => "c-bar",
        }
    }

    pub fn summary(self) -> &'static str {
        match self {
            Suite::ImageNetC => {
                "15 corruptions and 4 for validation of RGB images of side 224, 299, 64 or 32, 5 severities"
            }
            Suite::CifarC => "the same with CIFAR's severities, for RGB images of side 32",
            Suite::MnistC => "15 corruptions of 28x28 grey images, one severity",
            Suite::CBar => "10 corruptions unlike ImageNet-C's, for RGB images of any side from 32, 5 severities",
        }
    }

    /// Every corruption of the suite for images of `side`, those outside the published mean last.
    pub fn corruptions(self, side: usize) -> Vec<&'static Corruption> {
        match self {
            Suite::ImageNetC | Suite::CifarC => {
                TEST.into_iter().chain(EXTRA).chain(UNPUBLISHED.iter().copied()).collect()
            }
            Suite::MnistC => mnist::ALL.to_vec(),
            Suite::CBar if side == 32 => cbar::CIFAR.to_vec(),
            Suite::CBar => cbar::IMAGENET.to_vec(),
        }
    }

    pub fn severities(self) -> usize {
        if self == Suite::MnistC { 1 } else { 5 }
    }
}

impl std::str::FromStr for Suite {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let names = || Suite::ALL.iter().map(|s| s.name());
        Suite::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| {
            let error = Error::usage(format!("unknown corruption suite `{text}`"));
            error.hint(match nearest(text, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("suites are {}", names().collect::<Vec<_>>().join(", ")),
            })
        })
    }
}

/// One corruption at one severity: everything that decides its output but seed, sample and image.
#[derive(Clone)]
pub struct Recipe {
    pub suite: Suite,
    pub corruption: &'static Corruption,
    /// From 1.
    pub severity: usize,
    pub profile: Profile,
    /// Whose severity table, by side; `None` for suites without tables.
    pub table: Option<usize>,
    pub frost: Option<Photos>,
}

/// Smallest side of an RGB image: blurs and crops of the tables reach further than anything smaller.
pub const MIN_SIDE: usize = 32;

/// The recipes that `imagenet-c:severities=1-5,only=fog+snow,extra=true` means for images of `shape` `[c, h, w]`.
/// `severities` are numbers and ranges joined by `+`; `extra` adds the four for validation; `table` names the side whose
/// severities are used; `profile` is `hendrycks` or `imagecorruptions`.
///
/// # Errors
/// Kind `Usage` for what makes no sense, kind `Load` for images that do not suit the suite.
pub fn parse(text: &str, shape: &[usize], frost: Option<&Photos>) -> Result<Vec<Recipe>> {
    let mut spec = Spec::parse(text)?;
    let suite: Suite = spec.name.parse()?;
    let side = check_shape(suite, shape)?;
    let severities = severities(spec.remove("severities").map(|v| v.text), suite)?;
    let profile = match spec.remove("profile").map(|v| v.text).as_deref() {
        None | Some("hendrycks") => Profile::Hendrycks,
        Some("imagecorruptions") if suite == Suite::ImageNetC => Profile::ImageCorruptions,
        Some(other) => {
            return Err(Error::usage(format!("{} has no profile `{other}`", suite.name()))
                .hint("imagenet-c has hendrycks (the published sets) and imagecorruptions"));
        }
    };
    let table = table(spec.remove("table").map(|v| v.text), suite, profile, side)?;
    let extra = spec.remove("extra").is_some_and(|v| v.json == true);
    let only = spec.remove("only").map(|v| v.text);
    if let Some((key, _)) = spec.params.first() {
        let known = ["severities", "only", "extra", "table", "profile"];
        let error = Error::usage(format!("{} has no parameter `{key}`", suite.name()));
        return Err(error.hint(match nearest(key, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it takes {}", known.join(", ")),
        }));
    }
    let chosen = choose(suite, side, only.as_deref(), extra, frost.is_some())?;
    let recipe = |corruption, severity| {
        let frost = frost.filter(|_| needs_photos(corruption)).cloned();
        Recipe { suite, corruption, severity, profile, table, frost }
    };
    Ok(chosen.iter().flat_map(|&c| severities.iter().map(move |&s| (c, s))).map(|(c, s)| recipe(c, s)).collect())
}

fn check_shape(suite: Suite, shape: &[usize]) -> Result<usize> {
    let name = suite.name();
    let &[c, h, w] = shape else {
        return Err(Error::load(name, format!("rows of shape {shape:?} are not images [channels, height, width]")));
    };
    let refuse = |why: String, hint: &str| Err(Error::load(name, why).hint(hint));
    match suite {
        Suite::MnistC if [c, h, w] == [1, 28, 28] => Ok(28),
        Suite::MnistC => refuse(
            format!("images of {h}x{w} with {c} channels, 28x28 with one is wanted"),
            "imagenet-c, cifar-c and c-bar are for RGB images",
        ),
        _ if c != 3 => refuse(
            format!("images of {c} channels, 3 (RGB) are wanted"),
            "grey 28x28 images have a suite of their own, mnist-c",
        ),
        _ if h.min(w) < MIN_SIDE => refuse(
            format!(
                "images of {h}x{w} are too small: glass_blur, defocus_blur and the others need at least {MIN_SIDE}x{MIN_SIDE}"
            ),
            "resize them: folder:DIR?resize=32x32",
        ),
        Suite::CifarC if [h, w] != [32, 32] => {
            refuse(format!("images of {h}x{w}, CIFAR's are 32x32"), "imagenet-c has tables for 224, 299, 64 and 32")
        }
        // What is not square is corrupted on a square of the longer side.
        _ => Ok(h.max(w)),
    }
}

fn severities(text: Option<String>, suite: Suite) -> Result<Vec<usize>> {
    let most = suite.severities();
    let Some(text) = text else { return Ok((1..=most).collect()) };
    let refuse = || {
        Error::usage(format!("severities={text} makes no sense: {} has 1 to {most}", suite.name()))
            .hint("such as severities=3, severities=1-5 or severities=1+3+5")
    };
    let mut all = vec![];
    for part in text.split('+') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| s.trim().parse::<usize>().ok().filter(|n| (1..=most).contains(n));
        match (number(low), number(high)) {
            (Some(a), Some(b)) if a <= b => all.extend(a..=b),
            _ => return Err(refuse()),
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn table(text: Option<String>, suite: Suite, profile: Profile, side: usize) -> Result<Option<usize>> {
    if matches!(suite, Suite::MnistC | Suite::CBar) {
        return match text {
            None => Ok(None),
            Some(_) => Err(Error::usage(format!("{} has no table to choose", suite.name()))),
        };
    }
    let known = SIDES.map(|s| s.to_string()).join(", ");
    match text {
        Some(text) => text.parse().ok().filter(|s| of_side(*s).is_some()).map(Some).ok_or_else(|| {
            Error::usage(format!("table={text} is not one of the published sides")).hint(format!("they are {known}"))
        }),
        None if profile == Profile::ImageCorruptions => Ok(Some(224)),
        None => Ok(Some(nearest_side(side))),
    }
}

/// The side with published severities that is nearest in proportion.
fn nearest_side(side: usize) -> usize {
    let apart = |s: usize| (s.max(side) as f64) / (s.min(side).max(1) as f64);
    SIDES.into_iter().min_by(|a, b| apart(*a).total_cmp(&apart(*b))).unwrap_or(SIDES[0])
}

/// What keeps the numbers of images of `h` by `w` from being compared with published ones, where severities for images of
/// side `table` are used.
pub fn stand_in(table: Option<usize>, h: usize, w: usize) -> Option<String> {
    let table = table.filter(|side| [h, w] != [*side, *side])?;
    let square = if h == w { "" } else { ", on a square of the longer side that mirrors the image," };
    Some(format!(
        "No severities were published for images of {h}x{w}: those for {table}x{table} are used{square} so mCE is not comparable with \
         published numbers."
    ))
}

fn needs_photos(corruption: &Corruption) -> bool {
    corruption.name == "frost"
}

/// By default the published test corruptions, frost replaced by its stand-in where there are no photos.
fn choose(
    suite: Suite,
    side: usize,
    only: Option<&str>,
    extra: bool,
    photos: bool,
) -> Result<Vec<&'static Corruption>> {
    let all = suite.corruptions(side);
    let Some(only) = only else {
        let usual = |c: &&&Corruption| match c.name {
            "frost" => photos,
            "frost_procedural" => !photos,
            name => {
                let among = |list: &[&Corruption]| list.iter().any(|e| e.name == name);
                matches!(suite, Suite::MnistC | Suite::CBar) || !among(UNPUBLISHED) && (extra || !among(&EXTRA))
            }
        };
        return Ok(all.iter().filter(usual).copied().collect());
    };
    let one = |name: &str| {
        let found = all.iter().copied().find(|c| c.name == name).ok_or_else(|| {
            let names = || all.iter().map(|c| c.name);
            let error = Error::usage(format!("{} has no corruption `{name}`", suite.name()));
            error.hint(match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
            })
        })?;
        if needs_photos(found) && !photos {
            return Err(Error::usage("frost needs the published photos")
                .hint("name their folder with --frost-dir, or choose frost_procedural, which is not comparable"));
        }
        Ok(found)
    };
    only.split('+').map(|name| one(name.trim())).collect()
}

impl Recipe {
    /// The recipe that a [`Recipe::label`] names, for images of `shape` `[c, h, w]`.
    ///
    /// # Errors
    /// Kind `Load` for what is not the label of a recipe, and those of [`parse`].
    pub fn named(label: &str, shape: &[usize], frost: Option<&Photos>) -> Result<Self> {
        let wrong = || Error::load(format!("`{label}`"), "it is not the label of a corruption");
        let (path, params) = label.split_once(':').ok_or_else(wrong)?;
        let (suite, corruption) = path.split_once('/').ok_or_else(wrong)?;
        let params = params.replacen("severity=", "severities=", 1);
        let found = parse(&format!("{suite}:only={corruption},{params}"), shape, frost)?;
        match <[Recipe; 1]>::try_from(found) {
            Ok([recipe]) if recipe.label() == label => Ok(recipe),
            _ => Err(wrong()),
        }
    }

    /// Names outputs and the noise: `imagenet-c/fog/3`, with table and profile where they are not the usual ones.
    pub fn label(&self) -> String {
        let mut label = format!("{}/{}:severity={}", self.suite.name(), self.corruption.name, self.severity);
        if let Some(side) = self.table {
            label += &format!(",table={side}");
        }
        if self.profile != Profile::Hendrycks {
            label += ",profile=imagecorruptions";
        }
        label
    }

    /// The corrupted image.
    ///
    /// # Errors
    /// Kind `Load` naming the corruption that cannot take the image.
    pub fn apply(&self, x: &Bytes, random: &mut Random) -> Result<Bytes> {
        if x.height != x.width {
            let side = x.height.max(x.width);
            return self.apply(&mirrored(x, side)?, random)?.crop(x.height, x.width);
        }
        let side = self.table.unwrap_or(x.height);
        let table = of_side(side).unwrap_or(&super::tables::LARGE);
        let mut call =
            Call { table, profile: self.profile, level: self.severity - 1, random, frost: self.frost.as_ref() };
        (self.corruption.apply)(x, &mut call).map_err(|e| e.within(self.corruption.name))
    }

    /// [`Recipe::apply`] to one row of pixels `[c, h, w]` in `[0,1]`.
    ///
    /// # Errors
    /// Kind `Load` for pixels that are not one of 256 levels, which all corruptions are defined on.
    pub fn apply_row(&self, row: &[f32], shape: &[usize], random: &mut Random) -> Result<Vec<f32>> {
        let &[c, h, w] = shape else {
            return Err(Error::internal(format!("a recipe on rows of shape {shape:?}")));
        };
        let x = levels(row, c, h, w)?;
        Ok(self.apply(&x, random)?.planes())
    }
}

/// The image in the middle of a square, mirrored at its edges as often as it takes.
fn mirrored(x: &Bytes, side: usize) -> Result<Bytes> {
    let (h, w, c) = (x.height, x.width, x.channels);
    // As a crop from the centre takes it back.
    let from = |n: usize| ((side - n) as f64 / 2.).round_ties_even() as usize;
    let (top, left) = (from(h), from(w));
    let place = |at: usize, before: usize, n: usize| {
        let along = (at as i64 - before as i64).rem_euclid(2 * n as i64) as usize;
        if along < n { along } else { 2 * n - 1 - along }
    };
    let pixel = |i: usize| {
        let from = (place(i / side, top, h) * w + place(i % side, left, w)) * c;
        &x.samples[from..from + c]
    };
    Bytes::new(side, side, c, (0..side * side).flat_map(pixel).copied().collect())
}

/// Planes in `[0,1]` as interleaved bytes, nothing rounded.
fn levels(row: &[f32], c: usize, h: usize, w: usize) -> Result<Bytes> {
    let between = |v: &&f32| {
        let off = (**v * 255. - (**v * 255.).round()).abs();
        off.is_nan() || off >= 1e-3
    };
    if let Some(v) = row.iter().find(between) {
        return Err(Error::load("pixels", format!("{v} is not one of the 256 levels that corruptions are defined on"))
            .hint("16-bit and float images: round them to 8 bits first"));
    }
    Bytes::new(h, w, c, robust_imaging::interleaved(row, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_names_its_recipe_again() {
        let suites = [
            ("imagenet-c:extra=true", vec![3, 224, 224]),
            ("imagenet-c:profile=imagecorruptions,severities=2", vec![3, 96, 64]),
            ("cifar-c:severities=1+5", vec![3, 32, 32]),
            ("mnist-c", vec![1, 28, 28]),
            ("c-bar", vec![3, 40, 40]),
        ];
        for (text, shape) in suites {
            let recipes = parse(text, &shape, None).unwrap();
            assert!(!recipes.is_empty());
            for recipe in recipes {
                let again = Recipe::named(&recipe.label(), &shape, None).unwrap();
                let facts = |r: &Recipe| (r.suite, r.corruption.name, r.severity, r.profile, r.table);
                assert_eq!(facts(&again), facts(&recipe), "{}", recipe.label());
            }
        }
        for wrong in
            ["", "pgd", "mnist-c/fog", "mnist-c/fog:severity=1-2", "mnist-c/fog+snow:severity=1", "x/fog:severity=1"]
        {
            assert!(Recipe::named(wrong, &[1, 28, 28], None).is_err(), "{wrong}");
        }
    }

    fn error(text: &str, shape: &[usize]) -> Error {
        match parse(text, shape, None) {
            Ok(recipes) => panic!("{text} gave {} recipes", recipes.len()),
            Err(e) => e,
        }
    }

    fn names(text: &str, shape: &[usize]) -> Vec<String> {
        parse(text, shape, None).unwrap().iter().map(|r| format!("{}{}", r.corruption.name, r.severity)).collect()
    }

    #[test]
    fn suites_have_their_published_numbers_of_members() {
        assert_eq!(parse("imagenet-c", &[3, 224, 224], None).unwrap().len(), 75);
        assert_eq!(parse("imagenet-c:extra=true", &[3, 64, 64], None).unwrap().len(), 95);
        assert_eq!(parse("cifar-c", &[3, 32, 32], None).unwrap().len(), 75);
        assert_eq!(parse("mnist-c", &[1, 28, 28], None).unwrap().len(), 15);
        assert_eq!(parse("c-bar", &[3, 32, 32], None).unwrap().len(), 50);
        assert_eq!(names("cifar-c:severities=1+3-4,only=fog", &[3, 32, 32]), ["fog1", "fog3", "fog4"]);
    }

    #[test]
    fn frost_without_photos_goes_by_another_name() {
        let all = names("imagenet-c:severities=1", &[3, 224, 224]);
        assert!(all.contains(&"frost_procedural1".to_string()) && !all.contains(&"frost1".to_string()));
        assert!(error("imagenet-c:only=frost", &[3, 224, 224]).hint.unwrap().contains("--frost-dir"));
    }

    #[test]
    fn severities_zero_and_six_are_refused() {
        for text in ["0", "6", "0-5", "3-2", "", "x", "1-", "1++2"] {
            assert!(error(&format!("cifar-c:severities={text}"), &[3, 32, 32]).message.contains("1 to 5"), "{text}");
        }
        assert!(error("mnist-c:severities=2", &[1, 28, 28]).message.contains("1 to 1"));
    }

    #[test]
    fn images_that_do_not_suit_are_refused_with_what_would() {
        assert!(error("imagenet-c", &[1, 224, 224]).message.contains("1 channels, 3 (RGB)"));
        assert!(error("imagenet-c", &[4, 224, 224]).message.contains("4 channels, 3 (RGB)"));
        assert!(error("imagenet-c", &[3, 20, 20]).message.contains("glass_blur"));
        assert!(error("imagenet-c", &[3, 20, 20]).message.contains("at least 32x32"));
        assert!(error("imagenet-c", &[3, 224, 31]).message.contains("at least 32x32"));
        assert!(error("cifar-c", &[3, 32, 40]).message.contains("CIFAR's are 32x32"));
        assert_eq!(parse("imagenet-c:table=224", &[3, 96, 96], None).unwrap().len(), 75);
        assert!(error("cifar-c", &[3, 64, 64]).message.contains("CIFAR's are 32x32"));
        assert!(error("mnist-c", &[3, 28, 28]).message.contains("with 3 channels"));
        assert!(error("imagenet-c", &[10]).message.contains("not images"));
        assert!(error("imagenet-d", &[3, 224, 224]).hint.unwrap().contains("imagenet-c"));
        assert!(error("cifar-c:only=fogg", &[3, 32, 32]).hint.unwrap().contains("`fog`"));
        assert!(error("cifar-c:severity=3", &[3, 32, 32]).hint.unwrap().contains("severities"));
    }

    #[test]
    fn other_sizes_take_the_nearest_table_and_say_so() {
        for (shape, table) in [
            ([3, 96, 96], 64),
            ([3, 128, 128], 224),
            ([3, 40, 32], 32),
            ([3, 256, 256], 224),
            ([3, 384, 384], 299),
            ([3, 200, 224], 224),
            ([3, 64, 64], 64),
        ] {
            let recipe = parse("imagenet-c:only=fog,severities=1", &shape, None).unwrap().remove(0);
            assert_eq!(recipe.table, Some(table), "{shape:?}");
            let note = stand_in(recipe.table, shape[1], shape[2]);
            assert_eq!(note.is_some(), shape != [3, table, table], "{note:?}");
            assert!(
                note.is_none_or(|n| n.contains("not comparable") && n.contains("mirrors") == (shape[1] != shape[2]))
            );
        }
        assert_eq!(stand_in(None, 50, 40), None);
    }

    #[test]
    fn what_is_not_square_is_corrupted_as_part_of_a_square() {
        let (h, w) = (34, 48);
        let row: Vec<f32> = (0..3 * h * w).map(|i| ((i * 37 + i / 50) % 256) as f32 / 255.).collect();
        for recipe in parse("imagenet-c:severities=3", &[3, h, w], None).unwrap() {
            let made = recipe.apply_row(&row, &[3, h, w], &mut Random::native(1, &recipe.label(), 5)).unwrap();
            assert!(made.len() == row.len() && made != row, "{}", recipe.label());
        }
        // Brightness looks at each pixel alone, so nothing but the pixels themselves may matter.
        let bright = &parse("imagenet-c:severities=3,only=brightness,table=64", &[3, h, w], None).unwrap()[0];
        let made = bright.apply_row(&row, &[3, h, w], &mut Random::native(1, "x", 5)).unwrap();
        let square: Vec<f32> = (0..3)
            .flat_map(|c| {
                let plane = &row[c * h * w..(c + 1) * h * w];
                (0..w * w).map(move |i| plane.get(i).copied().unwrap_or(0.))
            })
            .collect();
        let whole = bright.apply_row(&square, &[3, w, w], &mut Random::native(1, "x", 5)).unwrap();
        for c in 0..3 {
            assert_eq!(made[c * h * w..(c + 1) * h * w], whole[c * w * w..c * w * w + h * w]);
        }
    }

    #[test]
    fn a_mirrored_image_begins_in_the_middle_and_comes_back_whole() {
        let x = Bytes::new(1, 3, 1, vec![1, 2, 3]).unwrap();
        let square = mirrored(&x, 3).unwrap();
        assert_eq!(square.samples, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
        let wide = Bytes::new(2, 7, 1, (0..14).collect()).unwrap();
        assert_eq!(mirrored(&wide, 7).unwrap().crop(2, 7).unwrap(), wide);
    }

    #[test]
    fn pixels_between_the_levels_are_refused() {
        let recipe = &parse("mnist-c:only=stripe", &[1, 28, 28], None).unwrap()[0];
        let mut row = vec![17. / 255.; 784];
        let mut random = Random::native(0, "x", 0);
        assert_eq!(recipe.apply_row(&row, &[1, 28, 28], &mut random).unwrap()[10], 17. / 255.);
        row[3] = 1000. / 65535.;
        assert!(recipe.apply_row(&row, &[1, 28, 28], &mut random).unwrap_err().message.contains("256 levels"));
        row[3] = f32::NAN;
        assert!(recipe.apply_row(&row, &[1, 28, 28], &mut random).is_err());
    }

    #[test]
    fn every_member_keeps_the_size_and_depends_on_the_sample_alone() {
        for (text, shape) in [("cifar-c:extra=true", [3, 32, 32]), ("c-bar", [3, 32, 32]), ("mnist-c", [1, 28, 28])] {
            let count = shape.iter().product();
            let row: Vec<f32> = (0..count).map(|i: usize| ((i * 37 + i / 50) % 256) as f32 / 255.).collect();
            for recipe in parse(text, &shape, None).unwrap() {
                let make =
                    |sample| recipe.apply_row(&row, &shape, &mut Random::native(1, &recipe.label(), sample)).unwrap();
                let once = make(5);
                assert!(once.len() == count && once == make(5), "{}", recipe.label());
            }
        }
    }
}
