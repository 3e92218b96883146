//! One scan of entropy-coded data into coefficients: sequential, or one step of a progressive image (T.81, annexes F, G).

use super::frame::{Component, Frame};
use super::huffman::{Bits, Huffman, corrupt};
use super::transform::NATURAL_ORDER;
use crate::limits::bad;
use robust_core::Result;

/// A component's share of a scan.
pub(super) struct Part<'a> {
    pub component: usize,
    pub dc: Option<&'a Huffman>,
    pub ac: Option<&'a Huffman>,
    /// The DC coefficient before.
    pub last: i32,
}

/// Which coefficients (`start..=end` in zigzag order) and which of their bits (from `low`, after `high`) a scan brings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    pub start: usize,
    pub end: usize,
    pub high: u8,
    pub low: u8,
    /// Units between restart markers; 0 for none.
    pub restart: usize,
    /// Blocks still to come without new coefficients.
    pub run: u32,
}

type Block = [i16; 64];

pub(super) fn read(frame: &mut Frame, parts: &mut [Part<'_>], mut scan: Scan, data: &mut Bits<'_>) -> Result<()> {
    if !frame.progressive {
        (scan.start, scan.end, scan.high, scan.low) = (0, 63, 0, 0);
    }
    check(frame, parts, &scan)?;
    let single = parts.len() == 1;
    let (across, down) = match parts.first() {
        Some(part) if single => {
            let component = &frame.components[part.component];
            (component.width.div_ceil(8), component.height.div_ceil(8))
        }
        _ => (frame.width.div_ceil(8 * frame.h), frame.height.div_ceil(8 * frame.v)),
    };
    for unit in 0..across * down {
        if scan.restart > 0 && unit > 0 && unit % scan.restart == 0 {
            data.restart()?;
            scan.run = 0;
            parts.iter_mut().for_each(|part| part.last = 0);
        }
        let (row, column) = (unit / across, unit % across);
        for part in parts.iter_mut() {
            let component = &mut frame.components[part.component];
            let (h, v) = if single { (1, 1) } else { (component.h, component.v) };
            for y in row * v..(row + 1) * v {
                for x in column * h..(column + 1) * h {
                    block(part, component, y, x, &mut scan, frame.progressive, data)?;
                }
            }
        }
        data.check()?;
    }
    Ok(())
}

fn check(frame: &Frame, parts: &[Part<'_>], scan: &Scan) -> Result<()> {
    let blocks: usize = parts.iter().map(|p| frame.components[p.component].h * frame.components[p.component].v).sum();
    let size = !parts.is_empty() && parts.len() <= 4 && (parts.len() == 1 || blocks <= 10);
    let range = if scan.start == 0 { !frame.progressive || scan.end == 0 } else { parts.len() == 1 };
    let bits = scan.low <= 13 && (scan.high == 0 || scan.high == scan.low + 1);
    if size && range && bits && scan.start <= scan.end && scan.end < 64 {
        return Ok(());
    }
    Err(bad("a scan header that makes no sense".to_string()))
}

fn block(
    part: &mut Part<'_>,
    component: &mut Component,
    y: usize,
    x: usize,
    scan: &mut Scan,
    progressive: bool,
    data: &mut Bits<'_>,
) -> Result<()> {
    let block = component.coefficients.get_mut(y * component.across + x).ok_or_else(corrupt)?;
    match (progressive, scan.start, scan.high) {
        (false, ..) => {
            dc_first(part, block, 0, data)?;
            ac_sequential(table(part.ac)?, block, data)
        }
        (true, 0, 0) => dc_first(part, block, scan.low, data),
        (true, 0, _) => {
            block[0] |= (data.bits(1) << scan.low) as i16;
            Ok(())
        }
        (true, _, 0) => ac_first(table(part.ac)?, block, scan, data),
        (true, ..) => ac_refine(table(part.ac)?, block, scan, data),
    }
}

fn table(table: Option<&Huffman>) -> Result<&Huffman> {
    table.ok_or_else(|| bad("a missing Huffman table".to_string()))
}

fn dc_first(part: &mut Part<'_>, block: &mut Block, low: u8, data: &mut Bits<'_>) -> Result<()> {
    let length = data.symbol(table(part.dc)?)?;
    if length > 15 {
        return Err(corrupt());
    }
    part.last = part.last.wrapping_add(data.signed(u32::from(length)));
    block[0] = part.last.wrapping_shl(u32::from(low)) as i16;
    Ok(())
}

fn ac_sequential(table: &Huffman, block: &mut Block, data: &mut Bits<'_>) -> Result<()> {
    let mut k = 1;
    while k < 64 {
        let symbol = data.symbol(table)?;
        let (zeros, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (zeros, length) {
            (15, 0) => k += 16,
            (_, 0) => break,
            _ => {
                let at = NATURAL_ORDER.get(k + zeros).ok_or_else(corrupt)?;
                block[*at] = data.signed(length) as i16;
                k += zeros + 1;
            }
        }
    }
    Ok(())
}

fn ac_first(table: &Huffman, block: &mut Block, scan: &mut Scan, data: &mut Bits<'_>) -> Result<()> {
    if scan.run > 0 {
        scan.run -= 1;
        return Ok(());
    }
    let mut k = scan.start;
    while k <= scan.end {
        let symbol = data.symbol(table)?;
        let (zeros, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (zeros, length) {
            (15, 0) => k += 16,
            (_, 0) => {
                scan.run = (1 << zeros) - 1 + data.bits(zeros as u32);
                break;
            }
            _ => {
                let at = NATURAL_ORDER.get(k + zeros).ok_or_else(corrupt)?;
                block[*at] = (data.signed(length) << scan.low) as i16;
                k += zeros + 1;
            }
        }
    }
    Ok(())
}

fn ac_refine(table: &Huffman, block: &mut Block, scan: &mut Scan, data: &mut Bits<'_>) -> Result<()> {
    let one = 1i16 << scan.low;
    let mut k = scan.start;
    if scan.run == 0 {
        while k <= scan.end {
            let symbol = data.symbol(table)?;
            let (mut zeros, length) = (symbol >> 4, symbol & 15);
            let fresh = match length {
                0 if zeros < 15 => {
                    scan.run = (1 << zeros) + data.bits(u32::from(zeros));
                    break;
                }
                0 => 0,
                1 if data.bits(1) == 1 => one,
                1 => -one,
                _ => return Err(corrupt()),
            };
            // Coefficients known already get their next bit on the way to the one that is new.
            while k <= scan.end {
                let known = &mut block[NATURAL_ORDER[k]];
                if *known != 0 {
                    refine(known, one, data);
                } else if zeros == 0 {
                    *known = fresh;
                    k += 1;
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
        }
    }
    if scan.run > 0 {
        for &at in NATURAL_ORDER.get(k..=scan.end).unwrap_or_default() {
            if block[at] != 0 {
                refine(&mut block[at], one, data);
            }
        }
        scan.run -= 1;
    }
    Ok(())
}

fn refine(known: &mut i16, one: i16, data: &mut Bits<'_>) {
    if data.bits(1) == 1 && *known & one == 0 {
        *known = if *known > 0 { known.wrapping_add(one) } else { known.wrapping_sub(one) };
    }
}
