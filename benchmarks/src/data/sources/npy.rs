//! NumPy's array files: our own reader of the header, because it is a Python literal from a stranger.

use crate::data::array::Array;
use crate::data::array_set::ArraySet;
use crate::data::blob::{Blob, digest_of};
use crate::data::dtype::{Dtype, ElementKind};
use crate::data::place::existing;
use crate::data::query::{Ask, Query};
use crate::data::reader::{Found, base_name};
use crate::data::source::{Source, ends_with};
use robust_core::{DataCard, Error, Result};
use std::path::Path;

pub(super) const SOURCE: Source = Source {
    scheme: "npy",
    summary: "two .npy files, images and labels; of CIFAR-10-C and its like one severity",
    example: "npy:gaussian_noise.npy,labels.npy?severity=3",
    params: &[&["severity", "offset", "domain"]],
    recognises,
    open: open_at,
};

/// NumPy itself refuses longer ones without being told otherwise.
const MAX_HEADER: usize = 10_000;
const SEVERITIES: usize = 5;

fn recognises(path: &Path, ask: Ask) -> Result<bool> {
    if !ends_with(path, ".npy") || ask.points {
        return Ok(ends_with(path, ".npy"));
    }
    let place = path.display();
    Err(Error::usage(format!("`{place}` holds images or labels, both are wanted"))
        .hint(format!("`npy:{place},LABELS.npy`")))
}

fn open_at(place: &str, query: &Query) -> Result<Found> {
    if query.points && Path::new(place).is_file() {
        return open_points(&existing(place)?);
    }
    let (images, labels) = pair_of_paths(place)?;
    open(&existing(images)?, &existing(labels)?, query)
}

/// Paths may hold commas: the split at which both files are there is the one that was meant.
fn pair_of_paths(place: &str) -> Result<(&str, &str)> {
    let mut splits = place.match_indices(',').map(|(at, _)| (&place[..at], &place[at + 1..]));
    let there = |(x, y): &(&str, &str)| Path::new(x).is_file() && Path::new(y).is_file();
    splits.clone().find(there).or_else(|| splits.next()).filter(|(x, y)| !x.is_empty() && !y.is_empty()).ok_or_else(
        || {
            Error::usage(format!("`npy:{place}` names one file, images and labels are wanted"))
                .hint("for example `npy:x_test.npy,y_test.npy`")
        },
    )
}

/// `npy:IMAGES,LABELS?severity=1..5`: with a severity, the images are five equal parts, mildest first (CIFAR-10-C and its
/// like), and the labels those of all or of one part.
fn open(images: &Path, labels: &Path, query: &Query) -> Result<Found> {
    let (x, y) = (Blob::open(images)?, Blob::open(labels)?);
    let hash = |path: &Path, blob: &Blob| blob.digest().map_err(|e| Error::load(path.display(), e));
    let mut parts = vec![("images", hash(images, &x)?), ("labels", hash(labels, &y)?)];
    let mut name = format!("npy:{},{}", base_name(images), base_name(labels));
    let subject = images.display().to_string();
    let (mut x, mut y) = (array(&subject, &x)?, array(&labels.display().to_string(), &y)?);
    if let Some(text) = query.get("severity") {
        let severity = text.parse().ok().filter(|s| (1..=SEVERITIES).contains(s));
        let severity = severity.ok_or_else(|| {
            Error::usage(format!("`severity={text}` is none of 1 to {SEVERITIES}")).hint("1 is the mildest")
        })?;
        name += &format!("?severity={severity}");
        parts.push(("severity", blake3::hash(text.as_bytes())));
        let (rows, each) = (x.rows(), x.rows() / SEVERITIES);
        let part = |array: &Array| array.range((severity - 1) * each, each).filter(|_| each * SEVERITIES == rows);
        let fail = || Error::load(&subject, format!("{rows} images are not {SEVERITIES} equal parts"));
        x = part(&x).ok_or_else(fail)?;
        if y.rows() == rows {
            y = part(&y).ok_or_else(fail)?;
        }
    }
    let card = DataCard { name, digest: digest_of(&parts), samples: 0, classes: None };
    Ok(ArraySet::new(&subject, card, x, Some(&y))?.found(vec![]))
}

/// One file of points without labels.
fn open_points(points: &Path) -> Result<Found> {
    let blob = Blob::open(points)?;
    let subject = points.display().to_string();
    let hash = blob.digest().map_err(|e| Error::load(&subject, e))?;
    let name = format!("npy:{}", base_name(points));
    let card = DataCard { name, digest: digest_of(&[("images", hash)]), samples: 0, classes: None };
    Ok(ArraySet::new(&subject, card, array(&subject, &blob)?, None)?.found(vec![]))
}

/// The array in the bytes of one .npy file.
pub(super) fn array(what: &str, blob: &Blob) -> Result<Array> {
    let fail = |why: String| Error::load(what, why);
    let head = blob.head(12 + MAX_HEADER).map_err(|e| Error::load(what, e))?;
    let (start, len) = match head.as_slice() {
        [b'\x93', b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        [b'\x93', b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
            (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        [b'\x93', b'N', b'U', b'M', b'P', b'Y', version, ..] => {
            return Err(fail(format!("truncated, or a .npy file of unknown version {version}")));
        }
        _ => return Err(fail("not a .npy file".to_string())),
    };
    if len > MAX_HEADER {
        return Err(fail(format!("a header of {len} bytes, at most {MAX_HEADER} are read")));
    }
    let text = head.get(start..start + len).ok_or_else(|| fail("truncated in the header".to_string()))?;
    let text = std::str::from_utf8(text).map_err(|_| fail("the header is not text".to_string()))?;
    let header =
        Literal(text).header().ok_or_else(|| fail(format!("cannot make sense of the header `{}`", text.trim())))?;
    let dtype = dtype(header.descr).ok_or_else(|| refused(what, header.descr))?;
    if header.fortran && header.shape.len() > 1 {
        return Err(fail("in Fortran order".to_string()).hint("save `np.ascontiguousarray(a)`"));
    }
    let from = (start + len) as u64;
    let body = blob.slice(from, blob.len() - from).ok_or_else(|| fail("truncated".to_string()))?;
    Array::new(what, body, header.shape, dtype)
}

fn refused(what: &str, descr: &str) -> Error {
    let numbers =
        "store pixels as uint8 or float32 (`a.astype('float32')`), labels as class numbers (`a.astype('int64')`)";
    match descr.trim_start_matches(['<', '>', '|', '=']).chars().next() {
        Some('O') => Error::load(what, "holds pickled Python objects, which are never executed").hint(numbers),
        Some('U' | 'S') => Error::load(what, "holds text, numbers are wanted")
            .hint("number the classes: `names, y = np.unique(y, return_inverse=True)`"),
        _ => Error::load(what, format!("elements of type `{descr}` are not read")).hint(numbers),
    }
}

fn dtype(descr: &str) -> Option<Dtype> {
    let (order, rest) = descr.split_at_checked(1)?;
    let (kind, size) = rest.split_at_checked(1)?;
    let size = size.parse().ok()?;
    let kind = match (kind, size) {
        ("u", 1 | 2 | 4 | 8) => ElementKind::Unsigned,
        ("i", 1 | 2 | 4 | 8) => ElementKind::Signed,
        ("f", 2 | 4 | 8) => ElementKind::Float,
        ("b", 1) => ElementKind::Bool,
        _ => return None,
    };
    let big_endian = match order {
        "<" => false,
        "|" if size == 1 => false,
        ">" => true,
        _ => return None,
    };
    Some(Dtype { kind, size, big_endian: big_endian && size > 1 })
}

struct Header<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Vec<usize>,
}

/// What is left to read of a Python dict literal with string, bool and tuple values: no nesting, so no recursion.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn header(&mut self) -> Option<Header<'a>> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.eat('{')?;
        while self.eat('}').is_none() {
            let key = self.string()?;
            self.eat(':')?;
            let fresh = match key {
                "descr" => descr.replace(self.string()?).is_none(),
                "fortran_order" => fortran.replace(self.bool()?).is_none(),
                "shape" => shape.replace(self.tuple()?).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
            if self.eat(',').is_none() {
                self.eat('}')?;
                break;
            }
        }
        self.0.trim().is_empty().then_some(())?;
        Some(Header { descr: descr?, fortran: fortran?, shape: shape? })
    }

    fn eat(&mut self, c: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(c)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (inside, rest) = text[1..].split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    fn bool(&mut self) -> Option<bool> {
        let text = self.0.trim_start();
        let (value, rest) = match text.strip_prefix("True") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("False")?),
        };
        self.0 = rest;
        Some(value)
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        let (inside, rest) = self.0.trim_start().strip_prefix('(')?.split_once(')')?;
        self.0 = rest;
        let mut items: Vec<&str> = inside.split(',').map(str::trim).collect();
        if items.last().is_some_and(|item| item.is_empty()) {
            items.pop();
        }
        // Python 2 wrote `3L`.
        items.iter().map(|item| item.strip_suffix('L').unwrap_or(item).parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(version: u8, header: &str, body: &[u8]) -> Blob {
        let len = header.len() as u32;
        let len = if version == 1 { (len as u16).to_le_bytes().to_vec() } else { len.to_le_bytes().to_vec() };
        Blob::memory([b"\x93NUMPY", [version, 0].as_slice(), &len, header.as_bytes(), body].concat())
    }

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let spellings = [
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }          \n",
            r#"{"shape":(2,3L,),"fortran_order":False,"descr":"<u1"}"#,
        ];
        for (version, header) in spellings.into_iter().flat_map(|h| [1, 2, 3].map(|v| (v, h))) {
            assert_eq!(array("x", &file(version, header, &[0; 6])).unwrap().rows(), 2, "{version} {header}");
        }
    }

    #[test]
    fn headers_that_lie_or_ask_for_more_are_errors() {
        let with =
            |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}");
        let cases = [
            (with("|O", "(2,)"), "never executed"),
            (with("<U1", "(3,)"), "text"),
            (with("<c8", "(3,)"), "not read"),
            (with("|u1", "(7,)"), "needs 7 bytes, the file has 6"),
            (with("|u1", "(5,)"), "needs 5 bytes"),
            (with("|u1", "(0, 6)"), "no elements"),
            (with("|u1", "()"), "a single number"),
            (with("<f8", "(4611686018427387904, 4611686018427387904)"), "not one of rows"),
            (with("|u1", "(18446744073709551616,)"), "make sense"),
            (with("|u1", "(-6,)"), "make sense"),
            (with("|u1", "((6,),)"), "make sense"),
            ("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (6,)}".into(), "make sense"),
            ("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}".into(), "Fortran"),
            ("{'descr': '|u1', 'descr': '|i1', 'fortran_order': True, 'shape': (6,)}".into(), "make sense"),
            ("{'descr': '|u1', 'shape': (6,)}".into(), "make sense"),
            ("((((((((((((((((((((((((((((((".into(), "make sense"),
            ("".into(), "make sense"),
        ];
        for (header, why) in cases {
            let message = array("x", &file(1, &header, &[0; 6])).unwrap_err().message;
            assert!(message.contains(why), "{header}: {message}");
        }
        let huge = [b"\x93NUMPY\x02\x00".as_slice(), &u32::MAX.to_le_bytes(), b"{}"].concat();
        assert!(array("x", &Blob::memory(huge)).unwrap_err().message.contains("4294967295"));
        for bytes in
            [&b""[..], b"\x93NUM", b"\x93NUMPY\x01\x00\xff", b"\x93NUMPY\x01\x00\xff\x00{", b"\x93NUMPY\x09\x00\0\0"]
        {
            assert!(array("x", &Blob::memory(bytes.to_vec())).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_header_is_an_answer_not_a_panic(header in "[{}()',:a-z0-9<|é ]{0,60}", body in 0usize..20) {
            let _ = array("x", &file(1, &header, &vec![0; body]));
        }
    }
}
