//! Choices of images that others have fixed, by the names of their files.

use robust_core::{Error, Result};

/// Images of the set.
pub(super) const SIZE: usize = 5_000;
/// Classes of ImageNet, whose labels go with it.
pub(super) const CLASSES: usize = 1_000;

/// A bit for each validation image of ILSVRC 2012, the lowest first: whether RobustBench (Croce et al. 2021) evaluates on it. The
/// first is `ILSVRC2012_val_00000001`.
static ROBUSTBENCH: &[u8; 6_250] = include_bytes!("robustbench_imagenet.bits");

/// The numbers of ImageNet's classes in WordNet, in the order of their labels: four bytes each, the lowest first.
static WNIDS: &[u8; 4 * CLASSES] = include_bytes!("imagenet_wnids.u32");

/// The names of ImageNet's 1,000 classes in WordNet (`n01440764`), in the order of their labels: what `?classes=imagenet` takes.
pub fn wnids() -> impl Iterator<Item = String> {
    WNIDS.as_chunks().0.iter().map(|number| format!("n{:08}", u32::from_le_bytes(*number)))
}

fn holds(number: usize) -> bool {
    ROBUSTBENCH.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
}

/// The place among the validation images, from 0, that a file's name says.
fn number(path: &str) -> Option<usize> {
    let rest = path.rsplit('/').next()?.strip_prefix("ILSVRC2012_val_")?;
    let (digits, rest) = (rest.get(..8)?, &rest[8..]);
    let whole = digits.bytes().all(|b| b.is_ascii_digit()) && !rest.starts_with(|c: char| c.is_ascii_digit());
    digits.parse::<usize>().ok().filter(|_| whole)?.checked_sub(1)
}

/// Which of the images `?subset=` means.
///
/// # Errors
/// Kind `Usage` for a set that is not known; kind `Load` where images of it are missing or there twice.
pub(super) fn select<'a>(subject: &str, set: &str, names: impl Iterator<Item = &'a str>) -> Result<Vec<bool>> {
    if set != "robustbench" {
        return Err(Error::usage(format!("data set parameter `subset={set}` names no set that is known"))
            .hint("`subset=robustbench` is the 5,000 validation images of ImageNet that RobustBench evaluates on"));
    }
    let (mut seen, mut kept, mut twice) = (vec![false; 8 * ROBUSTBENCH.len()], vec![], None);
    for name in names {
        let found = number(name).filter(|n| holds(*n));
        if let Some(n) = found {
            twice = twice.or(seen[n].then(|| name.to_string()));
            seen[n] = true;
        }
        kept.push(found.is_some());
    }
    if let Some(name) = twice {
        return Err(Error::load(subject, format!("{name} is there twice")).hint("one class folder should have it"));
    }
    let missing: Vec<usize> = (0..seen.len()).filter(|&n| holds(n) && !seen[n]).collect();
    match missing.first() {
        None => Ok(kept),
        Some(first) => {
            let why = format!(
                "{} of the {SIZE} images of `subset=robustbench` are missing, such as ILSVRC2012_val_{:08}",
                missing.len(),
                first + 1
            );
            Err(Error::load(subject, why).hint(
                "name the folder of ImageNet's 50,000 validation images, one folder per class, under their own names",
            ))
        }
    }
}

/// Whether images are exactly the set.
pub(super) fn is_whole<'a>(mut names: impl ExactSizeIterator<Item = &'a str>) -> bool {
    let mut seen = vec![false; 8 * ROBUSTBENCH.len()];
    names.len() == SIZE
        && names.all(|name| match number(name).filter(|n| holds(*n)) {
            Some(n) => !std::mem::replace(&mut seen[n], true),
            None => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> String {
        format!("n01440764/ILSVRC2012_val_{:08}.JPEG", n + 1)
    }

    /// Of all numbers in the published list.
    const SUM: usize = 123_943_129;

    #[test]
    fn the_set_has_the_images_of_the_published_list() {
        let all: Vec<usize> = (0..50_000).filter(|&n| holds(n)).collect();
        assert_eq!(all.len(), SIZE);
        // The first, second and last of the list, and its sum.
        assert!([15_253, 20_685, 39_611].iter().all(|n| holds(n - 1)) && !holds(50_000));
        assert_eq!(all.iter().map(|n| n + 1).sum::<usize>(), SUM);
    }

    #[test]
    fn the_classes_are_those_of_the_published_list() {
        let all: Vec<String> = wnids().collect();
        assert_eq!((all.len(), &*all[0], &*all[9], &*all[999]), (CLASSES, "n01440764", "n01518878", "n15075141"));
        assert!(all.is_sorted());
        // Of the list with an end of line after each name.
        let digest = blake3::hash((all.join("\n") + "\n").as_bytes()).to_hex();
        assert_eq!(digest[..16], *"5403c5fae9deb7b5", "{digest}");
    }

    #[test]
    fn names_say_which_image_it_is() {
        let numbers = [
            ("n1/ILSVRC2012_val_00000001.JPEG", Some(0)),
            ("a/b/ILSVRC2012_val_00050000_n01440764.jpg", Some(49_999)),
            ("ILSVRC2012_val_00000000.JPEG", None),
            ("n1/ILSVRC2012_val_000000011.JPEG", None),
            ("n1/ILSVRC2012_val_0000001.JPEG", None),
            ("n1/ILSVRC2012_test_00000001.JPEG", None),
            ("n1/ILSVRC2012_val_0000000é.JPEG", None),
        ];
        numbers.iter().for_each(|(path, expected)| assert_eq!(number(path), *expected, "{path}"));
    }

    #[test]
    fn it_is_chosen_whole_or_not_at_all() {
        let all: Vec<String> = (0..50_000).map(name).collect();
        let kept = select("val", "robustbench", all.iter().map(String::as_str)).unwrap();
        assert_eq!(kept.iter().filter(|k| **k).count(), SIZE);
        let mut set: Vec<&str> = all.iter().zip(&kept).filter(|(_, k)| **k).map(|(n, _)| n.as_str()).collect();
        assert!(is_whole(set.iter().copied()) && !is_whole(all.iter().map(String::as_str)));
        let twice = [&set[..], &set[..1]].concat();
        assert!(select("val", "robustbench", twice.into_iter()).unwrap_err().message.contains("twice"));
        let last = set.pop().unwrap();
        let error = select("val", "robustbench", set.iter().copied()).unwrap_err();
        assert!(error.message.contains("1 of the 5000 images") && error.message.contains(&last[10..33]), "{error}");
        set.push(set[0]);
        assert!(!is_whole(set.into_iter()));
        let error = select("val", "robustbanch", std::iter::empty()).unwrap_err();
        assert!(error.kind == robust_core::Kind::Usage && error.to_string().contains("robustbench"), "{error}");
    }

    fn png([width, height]: [u32; 2]) -> Vec<u8> {
        use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
        let mut bytes = vec![];
        let pixels = vec![7; (width * height) as usize];
        PngEncoder::new(&mut bytes).write_image(&pixels, width, height, ExtendedColorType::L8).unwrap();
        bytes
    }

    /// Class folders and images of these numbers, ten in each folder until there are no more, of two sizes in turn: as a tar
    /// archive.
    fn archive(classes: &[String], numbers: impl Iterator<Item = usize>, sizes: [[u32; 2]; 2]) -> Vec<u8> {
        let mut tar = tar::Builder::new(vec![]);
        let mut add = |kind: tar::EntryType, name: String, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).unwrap();
        };
        classes.iter().for_each(|c| add(tar::EntryType::Directory, format!("{c}/"), &[]));
        let images = sizes.map(png);
        for (i, n) in numbers.enumerate() {
            let name = format!("{}/ILSVRC2012_val_{:08}.JPEG", classes[(i / 10).min(classes.len() - 1)], n + 1);
            add(tar::EntryType::Regular, name, &images[n % 2]);
        }
        tar.into_inner().unwrap()
    }

    /// Many sizes, as originals have.
    const ORIGINAL: [[u32; 2]; 2] = [[4, 2], [3, 4]];

    fn set() -> impl Iterator<Item = usize> {
        (0..50_000).filter(|&n| holds(n))
    }

    #[test]
    fn a_folder_of_more_gives_the_set_and_a_folder_of_the_set_is_recognised() {
        let place = tempfile::tempdir().unwrap();
        let open = |folder: &str, query: &str| {
            crate::data::open(&format!("folder:{}{query}", place.path().join(folder).display()))
        };
        let classes: Vec<String> = wnids().collect();
        // Two hundred others beside it, and before it.
        let others = || (0..50_000).filter(|&n| !holds(n));
        let numbers = others().take(100).chain(set()).chain(others().rev().take(100));
        std::fs::write(place.path().join("val.tar"), archive(&classes, numbers, ORIGINAL)).unwrap();
        let all = open("val.tar", "").unwrap();
        assert!(all.card().samples > 5_000 && !all.card().name.contains("subset"), "{:?}", all.card().name);
        let part = open("val.tar", "?subset=robustbench&resize=2x3").unwrap();
        assert_eq!(
            (part.card().samples, part.card().name.as_str()),
            (5_000, "folder:val.tar?subset=robustbench&resize=2x3&interpolation=bilinear")
        );
        // Its first image is the first of the set, and keeps the label of its folder.
        let view = robust_core::View::from(robust_core::Input::image(1, 2, 3));
        let batch = part.load(&[0, 4_999], &view, &candle_core::Device::Cpu).unwrap().batch.unwrap();
        assert_eq!(batch.labels.unwrap(), [10, 509]);
        // The set alone, where copies of one size or one shorter side are told from originals.
        let sets = [
            ("set", &classes[..], ORIGINAL),
            ("copies", &classes, [[3, 2]; 2]),
            ("shorter", &classes, [[4, 3], [3, 5]]),
            ("less", &classes[..500], ORIGINAL),
        ];
        for (name, classes, sizes) in sets {
            std::fs::write(place.path().join(format!("{name}.tar")), archive(classes, set(), sizes)).unwrap();
        }
        assert_eq!(open("set.tar", "").unwrap().card().name, "folder:set.tar?subset=robustbench");
        assert_eq!(
            open("set.tar", "").unwrap().card().digest,
            open("set.tar", "?subset=robustbench").unwrap().card().digest
        );
        assert_eq!(open("copies.tar", "").unwrap().card().name, "folder:copies.tar?subset=robustbench&copies=2x3");
        assert_eq!(open("shorter.tar", "").unwrap().card().name, "folder:shorter.tar?subset=robustbench&copies=3");
        // Without the folders of classes that have no image in it, labels are others.
        assert_eq!(open("less.tar", "").unwrap().card().name, "folder:less.tar");
        let error = open("less.tar", "?subset=robustbench").err().unwrap();
        assert!(error.message.contains("500 classes are not ImageNet's"), "{error}");
    }

    #[test]
    fn a_thousand_classes_are_imagenets_only_by_their_names_and_order() {
        let place = tempfile::tempdir().unwrap();
        let classes: Vec<String> = wnids().collect();
        // One folder more before the others and one less: every label is one off.
        let shifted: Vec<String> = ["n00000001".to_string()].into_iter().chain(wnids().take(999)).collect();
        let words: Vec<String> = (0..1_000).map(|i| format!("word {i:03}")).collect();
        for (name, folders) in [("own", &classes), ("shifted", &shifted), ("words", &words)] {
            std::fs::write(place.path().join(format!("{name}.tar")), archive(folders, set(), ORIGINAL)).unwrap();
        }
        let lines = |name: fn(usize, &str) -> String| -> String {
            classes.iter().enumerate().map(|(i, wnid)| name(i, wnid) + "\n").collect()
        };
        let lists = [
            ("both", lines(|i, wnid| format!("{i},{wnid},word {i:03}"))),
            ("turned", lines(|i, wnid| format!("{},{wnid},word {i:03}", 999 - i))),
            ("bare", lines(|i, _| format!("{i},word {i:03}"))),
        ];
        for (name, text) in &lists {
            std::fs::write(place.path().join(format!("{name}.csv")), text).unwrap();
        }
        for (folders, list, imagenet) in [
            ("own", None, true),
            ("shifted", None, false),
            ("words", None, false),
            ("own", Some("both"), true),
            ("own", Some("turned"), false),
            ("words", Some("both"), true),
            ("words", Some("bare"), false),
        ] {
            let list = list.map(|l| format!("?classes={}", place.path().join(format!("{l}.csv")).display()));
            let spec = format!("folder:{}/{folders}.tar{}", place.path().display(), list.unwrap_or_default());
            let opened = crate::data::open_with_notes(&spec).unwrap();
            let name = &opened.data.card().name;
            let claims = name.contains("subset=robustbench") && !name.contains("labels=others");
            assert!(claims == imagenet && name.contains("subset=robustbench"), "{spec}: {name}");
            let said = opened.notes.iter().any(|n| n.contains("not known to be ImageNet's"));
            assert!(said != imagenet, "{:?}", opened.notes);
        }
    }
}
