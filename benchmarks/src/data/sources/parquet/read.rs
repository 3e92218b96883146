//! Image data sets as Hugging Face stores them: Parquet files with a column of `{bytes, path}` and one of labels. Labels
//! are read at once, images by row group, of which the last few are kept.

use super::footer;
use super::pages::{Pages, Source, wrong};
use crate::data::blob::{Blob, digest_of};
use crate::data::images::{ImageSet, Images, preprocess};
use crate::data::query::Query;
use crate::data::reader::{Found, base_name};
use ::parquet::basic::Type;
use ::parquet::column::reader::{ColumnReader, get_column_reader};
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use robust_core::{DataCard, Error, Result, caught};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const IMAGES: [&str; 3] = ["image", "img", "x"];
const LABELS: [&str; 6] = ["label", "labels", "fine_label", "target", "cls", "y"];
/// Far beyond ImageNet-21k.
const MAX_ROWS: u64 = 1 << 25;
/// Row groups kept: batches ask for ascending ids, several threads at a time.
const KEPT: usize = 4;
const CHUNK: usize = 1 << 14;

type Answer<T> = std::result::Result<T, ParquetError>;

/// `parquet:PATH?images=COLUMN&labels=COLUMN`: a file, or a folder of files of one split.
pub(super) fn open(path: &Path, query: &Query) -> Result<Found> {
    let prepare = preprocess(query)?;
    let mut set = Parquet { files: vec![], groups: vec![], labels: vec![], kept: Mutex::default() };
    let (mut digests, mut notes) = (vec![], vec![]);
    for path in files(path)? {
        let blob = Blob::open(&path)?;
        let fail = |why: String| Error::load(path.display(), why);
        digests.push((base_name(&path), blob.digest().map_err(|e| fail(e.to_string()))?));
        footer::check(&blob).map_err(fail)?;
        let source = Arc::new(Source(blob));
        let meta = guard(|| ParquetMetaDataReader::new().parse_and_finish(&*source)).map_err(fail)?;
        let file = File::new(source, meta, query).map_err(fail)?;
        if set.files.is_empty() {
            notes.push(format!("images are `{}`, labels are `{}`", file.path(file.images), file.path(file.labels)));
        }
        guard(|| set.add(file)).map_err(fail)?;
    }
    if set.labels.is_empty() {
        return Err(Error::load(path.display(), "no images in it"));
    }
    let digests: Vec<(&str, blake3::Hash)> = digests.iter().map(|(name, hash)| (name.as_str(), *hash)).collect();
    let mut card = DataCard {
        name: format!("parquet:{}", base_name(path)),
        digest: digest_of(&digests),
        samples: set.labels.len() as u64,
        classes: None,
    };
    // Which columns were read is part of what the data are.
    let columns: Vec<String> = set.files.iter().flat_map(|f| [f.path(f.images), f.path(f.labels)]).collect();
    card.digest = blake3::hash(format!("{} {}", card.digest, columns.join(" ")).as_bytes()).to_hex().to_string();
    Ok(Found { data: Box::new(ImageSet::new(card, set, prepare)), notes })
}

/// The library answers some broken files by panicking; those panics are an answer, not a bug to report on the screen.
fn guard<T>(work: impl FnOnce() -> Answer<T>) -> std::result::Result<T, String> {
    match caught(work) {
        Some(answer) => answer.map_err(|e| e.to_string()),
        None => Err("a broken Parquet file".to_string()),
    }
}

/// The files of one split, in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let fail = |e: std::io::Error| Error::load(path.display(), e);
    let mut found = vec![];
    for entry in path.read_dir().map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == "parquet") {
            found.push(path);
        }
    }
    found.sort();
    let splits: BTreeSet<String> =
        found.iter().map(|p| base_name(p).split(['-', '.']).next().unwrap_or("").into()).collect();
    match (found.len(), splits.len()) {
        (0, _) => Err(Error::load(path.display(), "no .parquet files in it")),
        (1, _) | (_, 1) => Ok(found),
        _ => {
            let list: Vec<String> = splits.into_iter().collect();
            Err(Error::load(path.display(), format!("holds several splits: {}", list.join(", ")))
                .hint(format!("name one file, such as {}, or move one split to a folder", found[0].display())))
        }
    }
}

struct File {
    source: Arc<Source>,
    meta: ParquetMetaData,
    images: usize,
    labels: usize,
}

impl File {
    fn new(source: Arc<Source>, meta: ParquetMetaData, query: &Query) -> std::result::Result<Self, String> {
        let columns = meta.file_metadata().schema_descr().columns();
        let paths: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
        let pick = |key: &str, usual: &[&str], ends: &[&str], kinds: &[Type]| {
            let names: Vec<&str> = query.get(key).map_or(usual.to_vec(), |asked| vec![asked]);
            let fits = |name: &str| {
                let is = |i: &usize| ends.iter().any(|end| paths[*i] == format!("{name}{end}"));
                let sound =
                    |i: &usize| kinds.contains(&columns[*i].physical_type()) && columns[*i].max_rep_level() == 0;
                (0..paths.len()).find(|i| is(i) && sound(i))
            };
            names.iter().find_map(|name| fits(name)).ok_or_else(|| {
                let shown: Vec<&str> = paths.iter().take(12).map(String::as_str).collect();
                format!("no column of {key} ({}); it has: {}", names.join(", "), shown.join(", "))
            })
        };
        let images = pick("images", &IMAGES, &[".bytes", ""], &[Type::BYTE_ARRAY])?;
        let labels = pick("labels", &LABELS, &[""], &[Type::INT32, Type::INT64])?;
        Ok(Self { source, meta, images, labels })
    }

    fn path(&self, column: usize) -> String {
        let path = self.meta.file_metadata().schema_descr().column(column).path().string();
        path.strip_suffix(".bytes").unwrap_or(&path).to_string()
    }

    fn column(&self, group: usize, column: usize) -> Answer<ColumnReader> {
        let pages = Pages::new(self.source.clone(), self.meta.row_group(group), column)?;
        Ok(get_column_reader(self.meta.file_metadata().schema_descr().column(column), Box::new(pages)))
    }

    fn labels(&self, group: usize, rows: u64, into: &mut Vec<u32>) -> Answer<()> {
        let start = into.len() as u64;
        let mut reader = self.column(group, self.labels)?;
        loop {
            let (mut wide, mut narrow, mut levels) = (vec![], vec![], vec![]);
            let (read, _, _) = match &mut reader {
                ColumnReader::Int32ColumnReader(r) => r.read_records(CHUNK, Some(&mut levels), None, &mut narrow)?,
                ColumnReader::Int64ColumnReader(r) => r.read_records(CHUNK, Some(&mut levels), None, &mut wide)?,
                _ => return Err(wrong("labels that are not integers")),
            };
            wide.extend(narrow.into_iter().map(i64::from));
            if wide.len() != read {
                return Err(wrong("a sample has no label"));
            }
            for value in wide {
                into.push(u32::try_from(value).map_err(|_| wrong(&format!("label {value} is not a class number")))?);
            }
            match into.len() as u64 - start {
                n if read == 0 && n == rows => return Ok(()),
                n if read == 0 || n > rows => return Err(wrong(&format!("{n} labels for {rows} rows"))),
                _ => {}
            }
        }
    }

    /// Every image of a row group; `None` where there is none.
    fn images(&self, group: usize, rows: u64) -> Answer<Vec<Option<ByteArray>>> {
        let ColumnReader::ByteArrayColumnReader(mut reader) = self.column(group, self.images)? else {
            return Err(wrong("images that are not bytes"));
        };
        let deepest = self.meta.file_metadata().schema_descr().column(self.images).max_def_level();
        let mut images = vec![];
        loop {
            let (mut values, mut levels) = (vec![], vec![]);
            let (read, _, _) = reader.read_records(CHUNK, Some(&mut levels), None, &mut values)?;
            if read == 0 {
                break;
            }
            let mut values = values.into_iter();
            images.extend((0..read).map(|i| match deepest == 0 || levels.get(i) == Some(&deepest) {
                true => values.next(),
                false => None,
            }));
            if images.len() as u64 > rows {
                break;
            }
        }
        match images.len() as u64 == rows {
            true => Ok(images),
            false => Err(wrong(&format!("{} images for {rows} rows", images.len()))),
        }
    }
}

struct Group {
    first: u64,
    rows: u64,
    file: usize,
    index: usize,
}

type Kept = VecDeque<(usize, Arc<Vec<Option<ByteArray>>>)>;

struct Parquet {
    files: Vec<File>,
    groups: Vec<Group>,
    labels: Vec<u32>,
    kept: Mutex<Kept>,
}

impl Parquet {
    fn add(&mut self, file: File) -> Answer<()> {
        for index in 0..file.meta.num_row_groups() {
            let first = self.labels.len() as u64;
            let rows = u64::try_from(file.meta.row_group(index).num_rows()).unwrap_or(u64::MAX);
            if rows.saturating_add(first) > MAX_ROWS {
                return Err(wrong(&format!("more than {MAX_ROWS} rows")));
            }
            file.labels(index, rows, &mut self.labels)?;
            self.groups.push(Group { first, rows, file: self.files.len(), index });
        }
        self.files.push(file);
        Ok(())
    }

    fn group(&self, at: usize) -> std::result::Result<Arc<Vec<Option<ByteArray>>>, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, images)) = kept.iter().find(|(group, _)| *group == at) {
            return Ok(images.clone());
        }
        let group = &self.groups[at];
        let images = Arc::new(guard(|| self.files[group.file].images(group.index, group.rows))?);
        kept.push_back((at, images.clone()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(images)
    }
}

impl Images for Parquet {
    fn label(&self, id: u64) -> u32 {
        self.labels[id as usize]
    }

    fn name(&self, id: u64) -> String {
        format!("row {id}")
    }

    fn bytes(&self, id: u64) -> std::result::Result<Vec<u8>, String> {
        let at = self.groups.partition_point(|group| group.first + group.rows <= id);
        let images = self.group(at)?;
        let image = images.get((id - self.groups[at].first) as usize).and_then(Option::as_ref);
        image.map(|image| image.data().to_vec()).ok_or_else(|| "has no image".to_string())
    }

    fn written(&self) -> Option<String> {
        let at = self.files.iter().position(|file| file.source.0.written())?;
        Some(format!("file {} of the data set", at + 1))
    }
}
