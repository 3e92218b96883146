//! Pages of a column, unpacked here: the library believes every size a page names, an attacker's among them. It is told
//! that nothing is compressed, and gets pages whose sizes and counts have been held against their bytes.

use super::footer::check_header;
use crate::data::blob::{Blob, Cursor};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

/// Most bytes of one column of one row group once unpacked.
const MAX_UNPACKED: u64 = 1 << 30;
/// Snappy's best: three bytes for sixty-four.
const SNAPPY_RATIO: usize = 22;
/// Most values a byte of a page can stand for; runs of one value need fewer, but they are not images.
const MAX_RUN: usize = 1 << 16;

pub(super) struct Source(pub Blob);

impl Length for Source {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Source {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.rest(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let span = self.0.slice(start, length as u64).ok_or_else(|| wrong("a place outside the file"))?;
        Ok(span.read_all()?.into())
    }
}

impl Source {
    fn rest(&self, start: u64) -> Result<Blob> {
        let rest = self.0.len().checked_sub(start).and_then(|len| self.0.slice(start, len));
        rest.ok_or_else(|| wrong("a place outside the file"))
    }
}

/// The same file where pages are read: what its readers give begins with a page header.
struct Leaves(Arc<Source>);

impl Length for Leaves {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Leaves {
    type T = Headers;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let rest = self.0.rest(start)?;
        Ok(Headers { reader: rest.reader(), unseen: Some(rest) })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// What the library reads page headers from: each is looked at first.
struct Headers {
    reader: BufReader<Cursor>,
    /// What has not been looked at: readers are also made where nothing is read.
    unseen: Option<Blob>,
}

impl Read for Headers {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(rest) = self.unseen.take() {
            check_header(&rest).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        }
        match self.reader.read(out)? {
            // The library would go on reading nothing.
            0 if !out.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

pub(super) struct Pages {
    inner: SerializedPageReader<Leaves>,
    compression: Compression,
    unpacked: u64,
}

impl Pages {
    pub fn new(source: Arc<Source>, group: &RowGroupMetaData, column: usize) -> Result<Self> {
        let meta = group.column(column);
        let compression = meta.compression();
        let plain = meta.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let rows = usize::try_from(group.num_rows()).map_err(|_| wrong("a negative number of rows"))?;
        Ok(Self {
            inner: SerializedPageReader::new(Arc::new(Leaves(source)), &plain, rows, None)?,
            compression,
            unpacked: 0,
        })
    }

    fn unpack(&mut self, packed: Bytes) -> Result<Bytes> {
        let room = MAX_UNPACKED.saturating_sub(self.unpacked);
        let too_much = || wrong("more than a column may unpack to");
        let bytes = match self.compression {
            Compression::UNCOMPRESSED => packed,
            Compression::SNAPPY => {
                let len = snap::raw::decompress_len(&packed).map_err(|e| wrong(&e.to_string()))?;
                if len > packed.len() * SNAPPY_RATIO || len as u64 > room {
                    return Err(too_much());
                }
                snap::raw::Decoder::new().decompress_vec(&packed).map_err(|e| wrong(&e.to_string()))?.into()
            }
            Compression::ZSTD(_) => read(zstd::stream::read::Decoder::new(packed.as_ref())?, room)?,
            Compression::GZIP(_) => read(flate2::read::MultiGzDecoder::new(packed.as_ref()), room)?,
            other => return Err(wrong(&format!("columns packed with {other:?} are not read"))),
        };
        self.unpacked += bytes.len() as u64;
        if self.unpacked > MAX_UNPACKED { Err(too_much()) } else { Ok(bytes) }
    }

    fn page(&mut self, page: Page) -> Result<Page> {
        let (values, len) = (page.num_values() as usize, page.buffer().len());
        if values > len.saturating_mul(MAX_RUN) {
            return Err(wrong(&format!("a page of {len} bytes that promises {values} values")));
        }
        Ok(match page {
            Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } => {
                let buf = self.unpack(buf)?;
                Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics }
            }
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
                let buf = self.unpack(buf)?;
                // Each entry becomes an object: they must be there.
                let plain = matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY);
                if !plain || u64::from(num_values) * 4 > buf.len() as u64 {
                    return Err(wrong("a dictionary that promises more than it holds"));
                }
                Page::DictionaryPage { buf, num_values, encoding, is_sorted }
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                statistics,
            } => {
                let levels = (def_levels_byte_len as usize).saturating_add(rep_levels_byte_len as usize);
                if levels > buf.len() || num_nulls > num_values {
                    return Err(wrong("levels that are longer than their page"));
                }
                let buf = match is_compressed {
                    true => [&buf[..levels], &self.unpack(buf.slice(levels..))?].concat().into(),
                    false => buf,
                };
                let is_compressed = false;
                Page::DataPageV2 {
                    buf,
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed,
                    statistics,
                }
            }
        })
    }
}

fn read(packed: impl Read, room: u64) -> Result<Bytes> {
    let mut bytes = vec![];
    packed.take(room.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.inner.get_next_page()?.map(|page| self.page(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

pub(super) fn wrong(why: &str) -> ParquetError {
    ParquetError::General(why.to_string())
}
