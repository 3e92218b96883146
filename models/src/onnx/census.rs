//! How many parts a file has, counted before anything is decoded.

use robust_core::{Error, Result};

/// Messages a real graph may hold. Decoding turns two bytes of an empty message into a hundred, so they are counted first.
const MAX_MESSAGES: usize = 1 << 20;

/// Counts the fields of the model, of its graph and of its nodes, and the parts of what says where weights are, without decoding
/// anything.
pub fn census(bytes: &[u8]) -> Result<()> {
    let mut open = vec![(bytes, Part::Model)];
    let mut seen = 0usize;
    while let Some((mut rest, part)) = open.pop() {
        while let Some((field, body, tail)) = next_field(rest) {
            // Numbers in a tensor or an attribute stay numbers.
            seen += usize::from(!matches!(part, Part::Attribute | Part::Tensor) || field == 13);
            if seen > MAX_MESSAGES {
                return Err(Error::load(
                    "the file",
                    format!("it has more than {MAX_MESSAGES} parts, which no model has"),
                ));
            }
            let inner = match (part, field) {
                (Part::Model, 7) => Some(Part::Graph),
                (Part::Graph, 1) => Some(Part::Node),
                (Part::Graph, 5) | (Part::Attribute, 5) => Some(Part::Tensor),
                (Part::Node, 5) => Some(Part::Attribute),
                _ => None,
            };
            open.extend(inner.map(|inner| (body, inner)));
            rest = tail;
        }
    }
    Ok(())
}

/// Messages whose fields are counted.
#[derive(Clone, Copy)]
enum Part {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
}

/// The next field's number, its body (empty for a varint) and what follows; `None` at the end or where the
/// bytes make no sense, which the decoder then reports.
fn next_field(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (key, rest) = varint(bytes)?;
    let (length, rest) = match key & 7 {
        0 => (0, varint(rest)?.1),
        1 => (8, rest),
        2 => varint(rest)?,
        5 => (4, rest),
        _ => return None,
    };
    let (body, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((key >> 3, body, tail))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().take(10).enumerate() {
        value |= u64::from(b & 0x7f).checked_shl(7 * i as u32)?;
        if b < 0x80 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}
