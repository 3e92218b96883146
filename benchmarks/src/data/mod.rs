//! Data readers: one file per format, all behind [`open`].
//!
//! Every reader keeps memory proportional to the rows asked for (plus a few bytes per sample for labels and positions),
//! treats what it reads as hostile, and never runs or extracts anything. Packed data is unpacked to a temporary file
//! without a name, or where `ROBUST_CACHE` (or `?cache=DIR`) names a folder, kept there by the packed file's digest.
//!
//! Digests are blake3 over the content: of the file (archives, shards, `npz:` and `safetensors:` with the names of the
//! arrays used), of both files (`npy:`), of the unpacked contents (`mnist:`, `cifar10:`), and for folders over the class
//! names and every image's relative path and content: all of its files are read once when it is opened, and each must
//! hash to the same whenever it is read again. Of files that stay open, length and time of change must stay as they
//! were. An unpacked copy in the cache is used only while it has the digest that it was written with. Parameters that
//! change labels or pixels enter the digest and the name.
//!
//! Values are pixels in `[0,1]`, or features where an array of floats leaves that range in most rows; `?domain=lo:hi` or `none`
//! says so otherwise. A single image has at most 64 Mi pixels ([`robust_imaging::MAX_PIXELS`]) and 16,384 a side; larger and
//! broken ones are samples that fail. `?offset=-1` is added to every label. What is decided is told in the notes of
//! [`open_with_notes`], what is met while samples are loaded in [`Dataset::remarks`](robust_core::Dataset::remarks).
//!
//! Sources of image files (`folder:`, `wds:`, `parquet:`) take `?resize=256&crop=224&interpolation=bicubic`: resizing of
//! the shorter side (or `HxW` exactly) and a crop from the centre, with the values Pillow and torchvision give. Of ImageNet's
//! validation images `folder:` takes `?subset=robustbench`, the 5,000 that RobustBench evaluates on, and recognises them.

mod archive;
mod array;
mod array_set;
mod blob;
mod cache;
mod classes;
mod declared;
mod dtype;
mod fixed;
mod images;
mod inspect;
mod labels;
mod named;
mod numbering;
mod opener;
mod pickle;
mod place;
mod query;
mod reader;
mod rows;
mod source;
mod sources;
mod tree;
mod values;

pub use classes::Classes;
pub use fixed::wnids;
pub use inspect::{ClassCount, DataFacts, inspect};
pub use opener::{open, open_points, open_proven, open_with_notes};
pub use reader::{Labelling, Opened};
pub use source::Source;
pub use sources::SOURCES;
