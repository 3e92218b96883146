//! The marker level of a JPEG: tables, the frame header, and the scans that fill a frame with coefficients.

use super::frame::{Component, Frame, Space};
use super::huffman::{Bits, Huffman};
use super::image::{check_size, is_jpeg};
use super::scan::{self, Part, Scan};
use super::transform::NATURAL_ORDER;
use crate::limits::bad;
use robust_core::Result;

/// Far more than any encoder writes: every scan may visit every block, however few bytes it has.
const MAX_SCANS: usize = 256;

pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    quant: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart: usize,
    jfif: bool,
    adobe: Option<u8>,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if !is_jpeg(bytes) {
            return Err(bad("not a JPEG image".to_string()));
        }
        Ok(Self {
            bytes,
            at: 2,
            quant: [None; 4],
            dc: Default::default(),
            ac: Default::default(),
            restart: 0,
            jfif: false,
            adobe: None,
        })
    }

    /// Reads up to and including the frame header; nothing is allocated for pixels.
    pub fn header(&mut self) -> Result<Frame> {
        loop {
            match self.marker()? {
                kind @ 0xC0..=0xC2 => {
                    let body = self.segment()?;
                    return self.frame(body, kind == 0xC2);
                }
                kind @ (0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) => {
                    return Err(bad(format!("a lossless, hierarchical or arithmetic-coded JPEG (marker {kind:#x})")));
                }
                0xD9 | 0xDA => return Err(bad("a JPEG without a frame header".to_string())),
                kind => self.table(kind)?,
            }
        }
    }

    /// Reads every scan up to the end marker.
    pub fn scans(&mut self, frame: &mut Frame) -> Result<()> {
        for component in &mut frame.components {
            component.coefficients = vec![[0; 64]; component.across * component.down];
        }
        let mut scans = 0;
        loop {
            match self.marker()? {
                0xD9 => break,
                0xDA => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(bad(format!("more than {MAX_SCANS} scans in one JPEG")));
                    }
                    self.scan(frame)?;
                }
                0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                    return Err(bad("a second frame in one JPEG".to_string()));
                }
                kind => self.table(kind)?,
            }
        }
        match frame.components.iter().all(|c| c.quant.is_some()) {
            true => Ok(()),
            false => Err(bad("a JPEG without data for all of its colours".to_string())),
        }
    }

    /// The next marker, past fill bytes, leftovers of a scan and restarts.
    fn marker(&mut self) -> Result<u8> {
        while let Some(pair) = self.bytes.get(self.at..self.at + 2) {
            match *pair {
                [0xFF, 0x00 | 0x01 | 0xD0..=0xD8] => self.at += 2,
                [0xFF, kind] if kind != 0xFF => {
                    self.at += 2;
                    return Ok(kind);
                }
                _ => self.at += 1,
            }
        }
        Err(bad("the JPEG ends before its end marker: truncated".to_string()))
    }

    fn segment(&mut self) -> Result<&'a [u8]> {
        let cut = || bad("the JPEG ends inside a segment: truncated".to_string());
        let head = self.bytes.get(self.at..self.at + 2).ok_or_else(cut)?;
        let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let body = self.bytes.get(self.at + 2..self.at + len.max(2)).ok_or_else(cut)?;
        self.at += len.max(2);
        Ok(body)
    }

    fn table(&mut self, kind: u8) -> Result<()> {
        let body = self.segment()?;
        match kind {
            0xDB => self.quant_tables(body),
            0xC4 => self.huffman_tables(body),
            0xDD => {
                let interval = body.first_chunk().ok_or_else(|| bad("a short restart segment".to_string()))?;
                self.restart = usize::from(u16::from_be_bytes(*interval));
                Ok(())
            }
            0xDC => Err(bad("a JPEG that gives its height after its pixels".to_string())),
            0xE0 => {
                self.jfif |= body.starts_with(b"JFIF\0");
                Ok(())
            }
            0xEE => {
                if body.starts_with(b"Adobe") && body.len() >= 12 {
                    self.adobe = Some(body[11]);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn quant_tables(&mut self, mut body: &[u8]) -> Result<()> {
        while let Some((&head, rest)) = body.split_first() {
            let (wide, slot) = (usize::from(head >> 4), usize::from(head & 15));
            let (Some(raw), true, true) = (rest.get(..64 * (wide + 1)), wide < 2, slot < 4) else {
                return Err(bad("a broken quantisation table".to_string()));
            };
            let mut table = [0; 64];
            for (&to, raw) in NATURAL_ORDER.iter().zip(raw.chunks(wide + 1)) {
                table[to] = raw.iter().fold(0, |v, &b| v << 8 | u16::from(b));
            }
            self.quant[slot] = Some(table);
            body = &rest[64 * (wide + 1)..];
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<()> {
        while let Some((&head, rest)) = body.split_first() {
            let slots = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = slots.get_mut(usize::from(head & 15)).filter(|_| head >> 4 < 2);
            let counts = rest.first_chunk::<16>();
            let total = counts.map_or(0, |counts| counts.iter().map(|&n| usize::from(n)).sum());
            let symbols = rest.get(16..16 + total);
            let table = counts.zip(symbols).and_then(|(counts, symbols)| Huffman::new(counts, symbols));
            let (Some(slot), Some(table)) = (slot, table) else {
                return Err(bad("a broken Huffman table".to_string()));
            };
            *slot = Some(table);
            body = &rest[16 + total..];
        }
        Ok(())
    }

    fn frame(&self, body: &[u8], progressive: bool) -> Result<Frame> {
        let &[bits, h1, h0, w1, w0, count, ref rest @ ..] = body else {
            return Err(bad("a short frame header".to_string()));
        };
        if bits != 8 {
            return Err(bad(format!("a JPEG of {bits} bits per sample, 8 are read")));
        }
        let (height, width) = (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
        check_size(width, height, self.bytes.len())?;
        if !matches!(count, 1 | 3 | 4) || rest.len() != 3 * usize::from(count) {
            return Err(bad(format!("a JPEG of {count} colours, 1, 3 and 4 are read")));
        }
        let parts = rest.as_chunks::<3>().0;
        let factor = |part: &[u8; 3]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        let sound = |part: &[u8; 3]| matches!(factor(part), (1..=4, 1..=4)) && part[2] < 4;
        if !parts.iter().all(sound) {
            return Err(bad("a frame header with impossible sampling or tables".to_string()));
        }
        let h = parts.iter().map(|p| factor(p).0).max().unwrap_or(1);
        let v = parts.iter().map(|p| factor(p).1).max().unwrap_or(1);
        let component = |part: &[u8; 3]| {
            let own = factor(part);
            Component {
                id: part[0],
                h: own.0,
                v: own.1,
                table: usize::from(part[2]),
                width: (width * own.0).div_ceil(h),
                height: (height * own.1).div_ceil(v),
                across: width.div_ceil(8 * h) * own.0,
                down: height.div_ceil(8 * v) * own.1,
                coefficients: vec![],
                quant: None,
            }
        };
        let components: Vec<Component> = parts.iter().map(component).collect();
        // Sampling may multiply the blocks a pixel needs: the same bound again, on all of them.
        if components.iter().map(|c| c.across * c.down).sum::<usize>() > 64 + 32 * self.bytes.len() {
            return Err(bad(format!("a JPEG of {} bytes cannot hold its blocks", self.bytes.len())));
        }
        let ids: Vec<u8> = components.iter().map(|c| c.id).collect();
        Ok(Frame { width, height, h, v, progressive, space: self.space(&ids), components })
    }

    fn space(&self, ids: &[u8]) -> Space {
        match (ids, self.adobe) {
            ([_], _) => Space::Grey,
            ([_, _, _], _) if self.jfif => Space::Ycc,
            ([_, _, _], Some(0)) => Space::Rgb,
            (b"RGB", None) => Space::Rgb,
            ([_, _, _], _) => Space::Ycc,
            (_, Some(2)) => Space::Ycck,
            _ => Space::Cmyk,
        }
    }

    fn scan(&mut self, frame: &mut Frame) -> Result<()> {
        let body = self.segment()?;
        let broken = || bad("a broken scan header".to_string());
        let (&count, rest) = body.split_first().ok_or_else(broken)?;
        let count = usize::from(count);
        let (Some(chosen), Some(&[start, end, bits])) = (rest.get(..2 * count), rest.get(2 * count..)) else {
            return Err(broken());
        };
        let mut parts = vec![];
        for pair in chosen.chunks_exact(2) {
            let index = frame.components.iter().position(|c| c.id == pair[0]).ok_or_else(broken)?;
            if parts.iter().any(|part: &Part<'_>| part.component == index) {
                return Err(broken());
            }
            let component = &mut frame.components[index];
            if component.quant.is_none() {
                let table = self.quant[component.table];
                component.quant = Some(table.ok_or_else(|| bad("a missing quantisation table".to_string()))?);
            }
            let (dc, ac) = (self.dc.get(usize::from(pair[1] >> 4)), self.ac.get(usize::from(pair[1] & 15)));
            let tables = (dc.and_then(Option::as_ref), ac.and_then(Option::as_ref));
            parts.push(Part { component: index, dc: tables.0, ac: tables.1, last: 0 });
        }
        let (start, end) = (usize::from(start), usize::from(end));
        let scan = Scan { start, end, high: bits >> 4, low: bits & 15, restart: self.restart, run: 0 };
        let mut data = Bits::new(self.bytes, self.at);
        scan::read(frame, &mut parts, scan, &mut data)?;
        self.at = data.at();
        Ok(())
    }
}
