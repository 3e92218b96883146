//! What the fuzz targets share: a place for the file, a meter of memory, and the rule every reader is held to: an answer
//! or an error of kind `Load` or `Usage`, never a panic, and never more memory than twice the file and a fixed allowance.

mod graphs;
mod images;
mod legacy;

pub use graphs::{Outside, external, quantised};
pub use images::{jpeg, png, webp};
pub use legacy::legacy;

use candle_core::{DType, Device, Tensor};
use robust_benchmarks::data;
use robust_core::{Draw, Input, Kind, Model, Result, RowKey, Site, View};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Once};

/// What a reader may take however small the file: buffers of fixed size, tables, messages.
pub const ALLOWANCE: usize = 4 << 20;
/// The same for ONNX, where small files may hold masks and tables as arithmetic: a million entries, in f64 while folded.
pub const FOLDED: usize = 40 << 20;

struct Meter;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only sizes are counted.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static METER: Meter = Meter;

/// Runs `read` on a file of `file` bytes that the caller may still hold, and holds it to the rule of memory.
fn metered<T>(file: usize, allowance: usize, read: impl FnOnce() -> T) -> T {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let answer = read();
    let taken = PEAK.load(Relaxed).saturating_sub(before);
    assert!(taken <= 2 * file + allowance, "{taken} bytes for a file of {file}");
    answer
}

fn judged<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(matches!(error.kind, Kind::Load | Kind::Usage), "{error}");
            None
        }
    }
}

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("robust-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    folder
});

/// The path of a file of this name and content.
pub fn file(name: &str, bytes: &[u8]) -> String {
    let path = FOLDER.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("a temporary folder");
    }
    std::fs::write(&path, bytes).expect("a temporary file");
    path.to_string_lossy().into_owned()
}

pub fn folder(name: &str) -> String {
    FOLDER.join(name).to_string_lossy().into_owned()
}

/// Loads a model file and drops it.
pub fn model(name: &str, bytes: &[u8], allowance: usize) {
    // Unpacking has a bound of its own and needs no fuzzing of the library that does it.
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        let path = file(name, bytes);
        metered(bytes.len(), allowance, || judged(robust_models::load(&path)));
    }
}

/// Loads a graph with the files in its folder: the data, the same data once more, and links to it and out of the folder.
pub fn outside(Outside { graph, data }: &Outside) {
    static LINKS: Once = Once::new();
    file("outside/a.onnx.data", data);
    file("outside/sub/w.bin", &data[..data.len() / 2]);
    LINKS.call_once(|| {
        for (link, to) in [("link", "a.onnx.data"), ("up", ".."), ("zero", "/dev/zero")] {
            let made = std::os::unix::fs::symlink(to, FOLDER.join("outside").join(link));
            made.expect("a link");
        }
    });
    if !graph.starts_with(&[0x1f, 0x8b]) {
        let path = file("outside/a.onnx", graph);
        // The graph may be named as a file of weights too.
        metered(2 * graph.len() + data.len() * 3 / 2, FOLDED, || judged(robust_models::load(&path)));
    }
}

/// Loads a network; where it loads, both interpreters give an output and a gradient of two rows, or an error of kind `Load`
/// or `Usage`.
pub fn network(bytes: &[u8]) {
    let path = file("a.onnx", bytes);
    let loaded = metered(bytes.len(), FOLDED, || judged(robust_models::load(&path)));
    if let Some(loaded) = loaded {
        judged(passes(&*loaded.model));
    }
}

fn passes(model: &dyn Model) -> Result<()> {
    let (row, width) = (&model.card().input.shape, model.card().output.width());
    let len: usize = row.iter().product();
    let pixels = (0..2 * len).map(|i| (i * 37 % 101) as f32 / 100.).collect();
    let x = Tensor::from_vec(pixels, [&[2], &row[..]].concat(), &Device::Cpu)?;
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &[RowKey::of(0), RowKey::of(1)] };
    for y in [model.forward(&x, &draw)?, model.exact(&x, &draw)?] {
        assert_eq!(y.dims(), [2, width]);
    }
    let seed = Tensor::ones((2, width), DType::F32, &Device::Cpu)?;
    let dx = model.trace(&x, &draw, &[])?.pull(&[(Site::Output, seed)])?;
    assert_eq!(dx.dims(), x.dims());
    Ok(())
}

/// Opens a data set whose files have `len` bytes together, and reads its first and last sample. Samples become f32 pixels,
/// and images unpack: the rule of memory is for opening.
pub fn dataset(spec: &str, len: usize) {
    let Some(data) = metered(len, ALLOWANCE, || judged(data::open(spec))) else { return };
    let last = data.card().samples - 1;
    let rows = [[1, 28, 28], [3, 32, 32]].map(|[c, h, w]| View::from(Input::image(c, h, w)));
    for view in rows {
        if let Some(loaded) = judged(data.load(&[0, last], &view, &Device::Cpu)) {
            let rows = loaded.batch.map_or(0, |batch| batch.ids.len());
            assert_eq!(rows + loaded.failed.len(), 2);
        }
    }
}

/// Decodes an image; its pixels are bounded by their own limits, not by the file's size.
pub fn image(bytes: &[u8]) {
    let size = judged(robust_imaging::size(bytes));
    for channels in [1, 3] {
        if let Some(image) = judged(robust_imaging::flat(bytes, channels)) {
            assert_eq!(Some((image.height, image.width)), size);
            assert_eq!(image.planes().len(), channels * image.height * image.width);
        }
    }
}
