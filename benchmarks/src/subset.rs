//! Which samples of a data set a run looks at: all, a fixed pseudo-random part, the first ones, or a list.

use robust_core::{Error, Result};

/// Most ids an id list may expand to: a range is a few letters long and could ask for any amount of memory.
const MAX_IDS: u64 = 1 << 24;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    All,
    /// A pseudo-random part that depends on nothing but `N` and the length, and holds every smaller one: class-sorted
    /// folders make the first N a biased choice.
    Limit(u64),
    First(u64),
    Ids(Vec<u64>),
}

/// The ids of `0..len` that `pick` means, ascending, without repetition. `Limit` and `First` beyond `len` give all: the
/// caller sees the count.
///
/// Errors ([`Kind::Usage`](robust_core::Kind::Usage)): nothing picked, ids named twice or not below `len`.
pub fn choose(len: u64, pick: &Pick) -> Result<Vec<u64>> {
    let chosen = match pick {
        Pick::All => (0..len).collect(),
        Pick::First(n) => (0..len.min(*n)).collect(),
        Pick::Limit(n) if *n >= len => (0..len).collect(),
        Pick::Limit(n) => smallest_ranks(len, *n),
        Pick::Ids(ids) => listed(len, ids)?,
    };
    if chosen.is_empty() {
        return Err(Error::usage(format!("no samples chosen of {len}")).hint("ask for at least one"));
    }
    Ok(chosen)
}

fn smallest_ranks(len: u64, n: u64) -> Vec<u64> {
    let mut ids: Vec<u64> = (0..len).collect();
    let n = n as usize;
    if n > 0 {
        ids.select_nth_unstable_by_key(n - 1, |&id| rank(id));
    }
    ids.truncate(n);
    ids.sort_unstable();
    ids
}

/// SplitMix64's output for the state `id`: a bijection of u64, so no two ids tie.
fn rank(id: u64) -> u64 {
    let z = id.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn listed(len: u64, ids: &[u64]) -> Result<Vec<u64>> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let twice: Vec<u64> = sorted.chunk_by(|a, b| a == b).filter(|same| same.len() > 1).map(|same| same[0]).collect();
    let beyond: Vec<u64> = sorted.iter().copied().filter(|&id| id >= len).collect();
    if !beyond.is_empty() {
        return Err(
            Error::usage(format!("ids beyond the data set's {len} samples: {}", some(&beyond))).hint("ids start at 0")
        );
    }
    if !twice.is_empty() {
        return Err(Error::usage(format!("ids listed more than once: {}", some(&twice))));
    }
    Ok(sorted)
}

fn some(ids: &[u64]) -> String {
    let shown: Vec<String> = ids.iter().take(5).map(u64::to_string).collect();
    let more = ids.len().saturating_sub(5);
    shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// Ids from text: one per line or separated by commas, `a-b` for a range with both ends, `#` to the end of the line is
/// a comment.
///
/// Errors ([`Kind::Usage`](robust_core::Kind::Usage)): anything else, with its line; ranges that run backwards; more
/// than 2^24 ids.
pub fn parse_ids(text: &str) -> Result<Vec<u64>> {
    let mut ids = vec![];
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        for item in line.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (first, last) = range(item).ok_or_else(|| {
                Error::usage(format!("line {}: `{item}` is neither an id nor a range of ids", number + 1))
                    .hint("write `7`, `7, 9` or `10-19`")
            })?;
            if last - first >= MAX_IDS - ids.len() as u64 {
                return Err(Error::usage(format!("line {}: more than {MAX_IDS} ids", number + 1))
                    .hint("use --limit or --first for large parts"));
            }
            ids.extend(first..=last);
        }
    }
    Ok(ids)
}

fn range(item: &str) -> Option<(u64, u64)> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let number = |s: &str| s.trim().bytes().all(|b| b.is_ascii_digit()).then(|| s.trim().parse::<u64>().ok()).flatten();
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rank_is_splitmix64() {
        // The generator's first outputs from seed 1234567, published with its C source.
        let golden = 0x9E37_79B9_7F4A_7C15u64;
        let outputs = [0, 1, 2].map(|k: u64| rank(golden.wrapping_mul(k).wrapping_add(1_234_567)));
        assert_eq!(outputs, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn the_choice_never_changes() {
        // From an independent computation with Python integers.
        assert_eq!(choose(10_000, &Pick::Limit(5)).unwrap(), [558, 5644, 7326, 8715, 9342]);
    }

    #[test]
    fn a_limit_beyond_the_end_gives_everything_and_zero_is_an_error() {
        assert_eq!(choose(3, &Pick::Limit(7)).unwrap(), [0, 1, 2]);
        assert_eq!(choose(3, &Pick::First(u64::MAX)).unwrap(), [0, 1, 2]);
        assert_eq!(choose(3, &Pick::First(2)).unwrap(), [0, 1]);
        assert_eq!(choose(3, &Pick::All).unwrap(), [0, 1, 2]);
        for pick in [Pick::Limit(0), Pick::First(0), Pick::Ids(vec![])] {
            assert!(choose(3, &pick).is_err(), "{pick:?}");
        }
    }

    #[test]
    fn listed_ids_are_sorted_and_wrong_ones_are_named() {
        assert_eq!(choose(10, &Pick::Ids(vec![7, 0, 3])).unwrap(), [0, 3, 7]);
        assert!(choose(10, &Pick::Ids(vec![1, 10, 99])).unwrap_err().message.ends_with("10, 99"));
        assert!(choose(10, &Pick::Ids(vec![4, 1, 4])).unwrap_err().message.ends_with("once: 4"));
    }

    #[test]
    fn id_lists_take_lines_commas_ranges_and_comments() {
        assert_eq!(
            parse_ids("\u{feff}3, 5-7 # the hard ones\r\n\n# nothing\n 9\n1 - 2,").unwrap(),
            [3, 5, 6, 7, 9, 1, 2]
        );
        for wrong in ["a", "-3", "5-3", "1-2-3", "+4", "18446744073709551616", "0-18446744073709551615", "1.5"] {
            assert!(parse_ids(wrong).is_err(), "{wrong}");
        }
        assert!(parse_ids("1\n2\nx").unwrap_err().message.starts_with("line 3"));
    }

    proptest! {
        #[test]
        fn limits_are_nested_ascending_and_of_the_size_asked_for(len in 1u64..3000, a in 1u64..3000, b in 1u64..3000) {
            let small = choose(len, &Pick::Limit(a.min(b))).unwrap();
            let large = choose(len, &Pick::Limit(a.max(b))).unwrap();
            prop_assert_eq!(small.len() as u64, a.min(b).min(len));
            prop_assert!(large.is_sorted_by(|x, y| x < y) && large.last().is_some_and(|&id| id < len));
            prop_assert!(small.iter().all(|id| large.binary_search(id).is_ok()));
        }
    }
}
