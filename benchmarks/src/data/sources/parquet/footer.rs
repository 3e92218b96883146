//! A look at a Parquet footer and page headers before the library's: it reserves what the schema's own numbers say, follows its
//! nesting by recursion, reads fields as what they should be, and steps over what it does not know as often as a number in the file
//! says, also where that takes no bytes. All that is bounded here first. Thrift's compact protocol, as far as stepping over it goes.

use super::fields::{self, Holds};
use crate::data::blob::Blob;

/// Largest footer read: some thousand row groups of a few columns.
const MAX_FOOTER: u64 = 64 << 20;
const MAX_DEPTH: u32 = 16;

type Answer<T> = Result<T, String>;

/// Whether the schema in the footer is a tree of sound size.
pub(super) fn check(blob: &Blob) -> Answer<()> {
    let tail = blob.len().checked_sub(8).and_then(|at| blob.slice(at, 8)).ok_or_else(|| broken("too short"))?;
    let tail = tail.read_all().map_err(|e| e.to_string())?;
    let Some((len, b"PAR1")) = tail.split_first_chunk::<4>() else { return Err("not a Parquet file".to_string()) };
    let len = u64::from(u32::from_le_bytes(*len));
    if len > MAX_FOOTER {
        return Err(format!("a footer of {len} bytes, at most {MAX_FOOTER} are read"));
    }
    let footer = (blob.len() - 8).checked_sub(len).and_then(|at| blob.slice(at, len));
    let footer = footer.ok_or_else(|| broken("truncated"))?.read_all().map_err(|e| e.to_string())?;
    let mut thrift = Thrift(&footer);
    let mut id = 0;
    while let Some(kind) = thrift.field(&mut id)? {
        match (id, kind) {
            (2, 9) => schema(&mut thrift)?,
            _ => thrift.skip(kind, MAX_DEPTH)?,
        }
    }
    Thrift(&footer).fields(fields::FILE, MAX_DEPTH)
}

/// Elements in depth-first order, each with the number of its children.
fn schema(thrift: &mut Thrift<'_>) -> Answer<()> {
    let (count, kind) = thrift.list()?;
    if kind != 12 {
        return Err(broken("schema"));
    }
    // How many children of each open group are still to come.
    let mut open: Vec<u64> = vec![];
    for _ in 0..count {
        let (mut id, mut children) = (0, 0);
        while let Some(kind) = thrift.field(&mut id)? {
            match (id, kind) {
                (5, 5) => children = thrift.zigzag()?,
                _ => thrift.skip(kind, MAX_DEPTH)?,
            }
        }
        if children < 0 || children as u64 > count {
            return Err(broken("schema"));
        }
        if let Some(left) = open.last_mut() {
            *left = left.saturating_sub(1);
        }
        open.push(children as u64);
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > MAX_DEPTH as usize {
            return Err(format!("a schema more than {MAX_DEPTH} levels deep"));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(broken("schema")) }
}

/// Most bytes of a page's header: statistics of long values are in it.
const MAX_HEADER: usize = 1 << 20;

/// Whether the page header at the start of `rest` is one.
pub(super) fn check_header(rest: &Blob) -> Answer<()> {
    // Nearly all are short.
    for most in [1 << 10, MAX_HEADER] {
        let bytes = rest.head(most).map_err(|e| e.to_string())?;
        let walked = Thrift(&bytes).fields(fields::PAGE_HEADER, MAX_DEPTH);
        if walked.is_ok() || bytes.len() < most || most == MAX_HEADER {
            return walked.map_err(|_| "a broken page header".to_string());
        }
    }
    Ok(())
}

struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    fn byte(&mut self) -> Answer<u8> {
        let (&byte, rest) = self.0.split_first().ok_or_else(|| broken("truncated"))?;
        self.0 = rest;
        Ok(byte)
    }

    fn varint(&mut self) -> Answer<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(broken("number"))
    }

    fn zigzag(&mut self) -> Answer<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, len: u64) -> Answer<()> {
        let rest = usize::try_from(len).ok().and_then(|len| self.0.get(len..));
        self.0 = rest.ok_or_else(|| broken("truncated"))?;
        Ok(())
    }

    /// The type of the next field; its number goes to `id`.
    fn field(&mut self, id: &mut i64) -> Answer<Option<u8>> {
        let head = self.byte()?;
        if head & 15 == 0 {
            return Ok(None);
        }
        *id = match head >> 4 {
            0 => self.zigzag()?,
            step => id.saturating_add(i64::from(step)),
        };
        Ok(Some(head & 15))
    }

    /// Number and type of the elements of a list; each takes at least a byte.
    fn list(&mut self) -> Answer<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        if count > self.0.len() as u64 { Err(broken("list")) } else { Ok((count, head & 15)) }
    }

    /// Steps over a structure whose known fields hold what they should. The library reads those as what they should be whatever
    /// they say they are, and would then be at another place than we are.
    fn fields(&mut self, known: &[(i64, Holds)], depth: u32) -> Answer<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| broken("nesting"))?;
        let mut id = 0;
        while let Some(kind) = self.field(&mut id)? {
            if !(1..=i64::from(i16::MAX)).contains(&id) {
                return Err(broken("field"));
            }
            match known.iter().find(|(known, _)| *known == id) {
                Some((_, holds)) => self.held(holds, kind, depth)?,
                None => self.skip(kind, depth)?,
            }
        }
        Ok(())
    }

    fn held(&mut self, holds: &Holds, kind: u8, depth: u32) -> Answer<()> {
        match (holds, kind) {
            (Holds::Fields(known), 12) => self.fields(known, depth),
            (Holds::List(each), 9 | 10) => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.held(each, kind, depth))
            }
            (Holds::Truth, 1 | 2) => Ok(()),
            (Holds::Scalar(expected), _) if *expected == kind => self.skip(kind, depth),
            _ => Err(broken("field")),
        }
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Answer<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| broken("nesting"))?;
        match kind {
            1 | 2 => Ok(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.pass(8),
            8 => self.varint().and_then(|len| self.pass(len)),
            9 | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.element(kind, depth))
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                if count > self.0.len() as u64 {
                    return Err(broken("map"));
                }
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 15, depth)
                })
            }
            12 => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            _ => Err(broken("type")),
        }
    }

    /// Outside of a field a truth value takes a byte, for the library none; no footer has lists of them.
    fn element(&mut self, kind: u8, depth: u32) -> Answer<()> {
        if matches!(kind, 1 | 2) { Err(broken("type")) } else { self.skip(kind, depth) }
    }
}

fn broken(what: &str) -> String {
    format!("a broken Parquet footer ({what})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_header_may_not_promise_what_takes_no_bytes() {
        let header = |bytes: &[u8]| check_header(&Blob::memory([bytes, &[0xAA; 40]].concat()));
        // A data page of six bytes, as pyarrow writes it, up to its stop.
        assert_eq!(header(&[0x15, 0, 0x15, 12, 0x15, 12, 0x2C, 0x15, 4, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0]), Ok(()));
        let most = [0xFF, 0xFF, 0xFF, 0xFF, 7];
        for bomb in [
            [&[0xF9, 0xF1][..], &most].concat(), // a field that holds a list of 2^31 truth values
            [&[0xFB][..], &most, &[0x11]].concat(), // a map of 2^31 of them
            vec![0xF9, 0x31, 0],                 // few of them, over which reader and library part
            vec![0x15, 0, 0x18, 0, 0],           // text where a size should be
            vec![0x05, 0x82, 0x80, 0x08, 0, 0],  // a number of a field that is another one in sixteen bits
            [&[0xF8][..], &most].concat(),       // text beyond the end
            [0x1C].repeat(200),                  // structures within structures
        ] {
            assert_eq!(header(&bomb), Err("a broken page header".to_string()), "{bomb:?}");
        }
    }

    #[test]
    fn a_footers_known_fields_are_what_they_should_be() {
        let file = |third: &[u8]| {
            let start = [0x15, 2, 0x19, 0x1C, 0x48, 1, b'a', 0];
            let footer = [&start, third, &[0]].concat();
            check(&Blob::memory([b"PAR1", footer.as_slice(), &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()))
        };
        assert_eq!(file(&[0x16, 6]), Ok(()));
        // Unknown ones of later versions.
        assert_eq!(file(&[0x16, 6, 0xD5, 4, 0x19, 0x25, 1, 2]), Ok(()));
        for bomb in [
            &[0x18, 2, 0x16, 6][..], // text in place of the number of rows: the library would read on inside of it
            &[0x16, 6, 0xD9, 0x11, 1], // a list of truth values
            &[0x16, 6, 0x09, 6, 0x1C], // a list in field 3 again
            &[0x16, 6, 0x19, 0x15, 2], // row groups that are numbers
        ] {
            assert!(file(bomb).is_err(), "{bomb:?}");
        }
    }
}
