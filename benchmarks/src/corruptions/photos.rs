//! The photos of ice that others published, which are not in this program.

use super::sha256;
use robust_core::{Error, Result, files};
use robust_imaging::{Bytes, decode_bytes};
use std::path::Path;
use std::sync::Arc;

/// Names and first bytes of the sha256 of the photos that made the published sets.
pub const PHOTOS: [(&str, &str); 5] = [
    ("frost1.png", "ff9f9078"),
    ("frost2.png", "fe211a89"),
    ("frost3.png", "2d0d50b4"),
    ("frost4.jpg", "3f8b91ca"),
    ("frost5.jpg", "5fc6a19d"),
];

/// The five photos at the size a table wants.
#[derive(Debug, Clone)]
pub struct Photos {
    pub(super) full: Arc<Vec<Bytes>>,
}

/// Bytes that a published photo may have: the largest has 1.6 MB.
const MAX_PHOTO: u64 = 16 << 20;

impl Photos {
    /// Reads and checks `frost1.png` ... `frost5.jpg` of a folder.
    ///
    /// # Errors
    /// Kind `Load` for a missing folder or photo and for other photos than the published ones.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::load(folder.display(), "no such folder of frost photos").hint(hint()));
        }
        let read = |(name, sum): (&str, &str)| {
            let path = folder.join(name);
            let bytes = files::read(&path, MAX_PHOTO).map_err(|e| Error::load(path.display(), e).hint(hint()))?;
            let found = sha256::hex(&bytes);
            if !found.starts_with(sum) {
                let begins: String = found.chars().take(8).collect();
                return Err(Error::load(
                    path.display(),
                    format!("its sha256 begins {begins}, the published photo's {sum}"),
                )
                .hint("other photos give another corruption; leave --frost-dir out for the procedural one"));
            }
            opaque(&bytes).map_err(|e| e.within(path.display()))
        };
        Ok(Self { full: Arc::new(PHOTOS.map(read).into_iter().collect::<Result<_>>()?) })
    }
}

pub(super) fn hint() -> String {
    let names: Vec<&str> = PHOTOS.iter().map(|(name, _)| *name).collect();
    format!("--frost-dir wants {} of hendrycks/robustness; without it frost is procedural", names.join(", "))
}

/// Alpha is dropped without blending, as the published code does.
fn opaque(bytes: &[u8]) -> Result<Bytes> {
    use robust_imaging::{Samples, stored};
    let picture = stored(bytes)?;
    match (picture.per_pixel, picture.samples) {
        (4, Samples::U8(v)) => {
            let colours = v.as_chunks::<4>().0.iter().flat_map(|p| [p[0], p[1], p[2]]).collect();
            Bytes::new(picture.height, picture.width, 3, colours)
        }
        _ => decode_bytes(bytes, 3),
    }
}
