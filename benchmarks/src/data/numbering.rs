//! The labels of class folders that no list names: their place among all by name, and for folders whose names are whole
//! numbers by number, or the number itself where some are missing.

use super::reader::Labelling;
use robust_core::{Error, Result, nearest};

/// Largest label of a folder whose name is a number; larger ones are names like any other.
const MAX_NUMBER: u32 = 1 << 20;
/// What `?classes=` takes besides a file.
pub(super) const WAYS: [&str; 4] = ["sorted", "natural", "numbers", "imagenet"];

pub(super) struct Numbering {
    /// By label; empty where no folder has it.
    pub names: Vec<String>,
    /// Of each folder.
    pub labels: Vec<u32>,
    pub labelling: Labelling,
}

/// Labels of `folders`, which are sorted as text. `asked`: `sorted` keeps that order (torchvision's), `natural` sorts by
/// number, `numbers` takes the number itself. Otherwise folders whose names are all whole numbers have their place by
/// number where none is missing between the least and the greatest, else their number.
///
/// # Errors
/// Kind `Usage` for ways that need numbers where names are none.
pub(super) fn number(folders: &[String], asked: Option<&str>, notes: &mut Vec<String>) -> Result<Numbering> {
    let labelling = if asked.is_some() { Labelling::Told } else { Labelling::Sorted };
    let plain = || Numbering { names: folders.to_vec(), labels: (0..folders.len() as u32).collect(), labelling };
    let numbers = match (asked, numbers(folders)) {
        (Some("sorted"), _) | (None, None) => return Ok(plain()),
        (Some(way), None) => {
            return Err(Error::usage(format!(
                "`classes={way}` is for folders whose names are different whole numbers"
            ))
            .hint("`classes=sorted` takes them by name, `classes=FILE` is a list of classes"));
        }
        (_, Some(numbers)) => numbers,
    };
    let mut order: Vec<usize> = (0..folders.len()).collect();
    order.sort_by_key(|&i| numbers[i]);
    let (least, most) = (numbers[order[0]], numbers[order[order.len() - 1]]);
    let missing = (least..=most).filter(|n| !numbers.contains(n)).count();
    if asked == Some("numbers") || asked.is_none() && missing > 0 {
        let mut names = vec![String::new(); most as usize + 1];
        folders.iter().zip(&numbers).for_each(|(name, &n)| names[n as usize].clone_from(name));
        notes.push(format!(
            "class folders are numbers from {least} to {most}, {missing} between them are missing: the label is the number (`?classes=natural` \
             counts the folders instead)"
        ));
        let labelling = if asked.is_some() { Labelling::Told } else { Labelling::Numbers };
        return Ok(Numbering { names, labels: numbers, labelling });
    }
    let mut labels = vec![0; folders.len()];
    order.iter().enumerate().for_each(|(place, &i)| labels[i] = place as u32);
    if labels.iter().enumerate().any(|(i, label)| *label != i as u32) {
        notes.push(
            "class folders are numbers and have their labels in the order of numbers (torchvision's ImageFolder sorts them as text, 10 before \
             2: `?classes=sorted`)"
                .to_string(),
        );
    }
    if least > 0 {
        notes.push(format!("class folders {least} to {most} have the labels 0 to {}", folders.len() - 1));
    }
    Ok(Numbering { names: order.iter().map(|&i| folders[i].clone()).collect(), labels, labelling })
}

/// The names as numbers, where all are different whole numbers.
pub(super) fn numbers(folders: &[String]) -> Option<Vec<u32>> {
    let one = |name: &String| {
        let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
        name.parse::<u32>().ok().filter(|n| digits && *n <= MAX_NUMBER)
    };
    let numbers: Vec<u32> = folders.iter().map(one).collect::<Option<_>>()?;
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len() == numbers.len() && !numbers.is_empty()).then_some(numbers)
}

/// What was meant where `?classes=` names no file.
pub(super) fn unknown(text: &str) -> Option<String> {
    nearest(text, WAYS).map(|way| format!("did you mean `?classes={way}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(folders: &[&str], asked: Option<&str>) -> (Vec<u32>, usize, Labelling) {
        let mut folders: Vec<String> = folders.iter().map(|f| f.to_string()).collect();
        folders.sort();
        let numbering = number(&folders, asked, &mut vec![]).unwrap();
        for (name, label) in folders.iter().zip(&numbering.labels) {
            assert_eq!(&numbering.names[*label as usize], name);
        }
        (numbering.labels, numbering.names.len(), numbering.labelling)
    }

    #[test]
    fn numbers_are_sorted_as_numbers_and_missing_ones_keep_their_place() {
        let eleven: Vec<String> = (0..11).map(|i| i.to_string()).collect();
        let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
        // As text: 0, 1, 10, 2, ..., 9.
        let natural = [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9].to_vec();
        assert_eq!(labels(&eleven, None), (natural, 11, Labelling::Sorted));
        assert_eq!(labels(&eleven, Some("sorted")), ((0..11).collect(), 11, Labelling::Told));
        assert_eq!(labels(&["0", "1", "3", "7"], None), (vec![0, 1, 3, 7], 8, Labelling::Numbers));
        assert_eq!(labels(&["0", "1", "3", "7"], Some("natural")), (vec![0, 1, 2, 3], 4, Labelling::Told));
        assert_eq!(labels(&["1", "2", "3", "4"], None), (vec![0, 1, 2, 3], 4, Labelling::Sorted));
        assert_eq!(labels(&["1", "2", "3", "4"], Some("numbers")), (vec![1, 2, 3, 4], 5, Labelling::Told));
        assert_eq!(labels(&["000", "001", "002"], None).0, [0, 1, 2]);
        // Names, not numbers: by name.
        for folders in [&["2", "10", "a"][..], &["1", "01"], &["9999999999", "10"], &["-1", "0"], &["n02", "n10"]] {
            assert_eq!(labels(folders, None), ((0..folders.len() as u32).collect(), folders.len(), Labelling::Sorted));
        }
        assert!(number(&["a".to_string()], Some("numbers"), &mut vec![]).is_err());
    }
}
