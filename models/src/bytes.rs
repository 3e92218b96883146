//! Reading model files whole, with a bound, and helpful errors for the ones that are not there.

use crate::model_files::is_model_file;
use flate2::read::GzDecoder;
use robust_core::{Error, Kind, Result, nearest};
use std::io::Read;
use std::path::Path;

/// Bytes a model file may have, unpacked too.
pub const MAX_BYTES: u64 = 4 << 30;
/// What packed bytes may become: weights hardly shrink, so whatever grows more than this is a bomb. Files of few weights
/// shrink more, and are small.
const MAX_RATIO: u64 = 12;
const FREE_GROWTH: u64 = 64 << 20;

/// The file's bytes, unpacked if it is gzip'd (told by its first bytes, not by its name).
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = whole(path, MAX_BYTES)?;
    if bytes.starts_with(&[0x1f, 0x8b]) { unpack(&bytes).map_err(|e| e.within(path.display())) } else { Ok(bytes) }
}

/// Whether the file is gzip'd, told by its first bytes.
///
/// # Errors
/// Kind `Load` for files that cannot be read.
pub fn is_packed(path: &Path) -> Result<bool> {
    let mut first = vec![];
    let read = std::fs::File::open(path).and_then(|f| f.take(2).read_to_end(&mut first));
    read.map_err(|e| Error::load(path.display(), e))?;
    Ok(first == [0x1f, 0x8b])
}

/// The bytes of a file that has to be small.
pub fn read_small(path: &Path, most: u64) -> Result<Vec<u8>> {
    whole(path, most)
}

fn whole(path: &Path, most: u64) -> Result<Vec<u8>> {
    robust_core::files::read(path, most).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => missing(path),
        _ => Error::load(path.display(), e),
    })
}

/// Unpacks gzip, up to the same bound and to what so many bytes may honestly become.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let most = FREE_GROWTH.max(MAX_RATIO.saturating_mul(packed.len() as u64)).min(MAX_BYTES);
    let mut bytes = vec![];
    // The last four bytes say how long it becomes: if that is so, nothing is allocated twice.
    let said = packed.last_chunk().map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
    bytes.try_reserve_exact(said.min(most) as usize + 1).map_err(|e| Error::load("the file", e))?;
    let mut reader = GzDecoder::new(packed).take(most + 1);
    reader
        .read_to_end(&mut bytes)
        .map_err(|e| Error::load("the file", format!("its gzip data is damaged ({e})")).hint("copy the file again"))?;
    if bytes.len() as u64 > most {
        let why = format!("its {} packed bytes unpack to more than {most}", packed.len());
        return Err(Error::load("the file", why).hint("unpack it yourself if that is right"));
    }
    Ok(bytes)
}

/// A tensor operation that a damaged file led astray is the file's fault, not a bug of ours.
pub fn blame(error: Error) -> Error {
    match error.kind {
        Kind::Load | Kind::Usage => error,
        _ => Error { kind: Kind::Load, ..error },
    }
}

/// The error for a file that is not there, with the names in its folder that come close.
pub fn missing(path: &Path) -> Error {
    let error = Error::load(path.display(), "no such file");
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(folder) else {
        return error.hint(format!("the folder {} does not exist either", folder.display()));
    };
    let names: Vec<String> =
        entries.take(10_000).flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(close) = nearest(&wanted, names.iter().map(String::as_str)) {
        return error.hint(format!("did you mean {}?", folder.join(close).display()));
    }
    let mut models: Vec<String> = names.into_iter().filter(|n| is_model_file(n)).collect();
    models.sort_unstable();
    models.truncate(5);
    match models.is_empty() {
        true => error.hint(format!("{} holds no .onnx, .safetensors or .pth file", folder.display())),
        false => error.hint(format!("{} holds {}", folder.display(), models.join(", "))),
    }
}
