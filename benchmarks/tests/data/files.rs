//! Small files of every format, made by other people's writers where there are any.

use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
use ndarray_npy::{WritableElement, WriteNpyExt};
use robust_core::{Input, View};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub fn image(c: usize, h: usize, w: usize) -> View {
    View::from(Input::image(c, h, w))
}

/// A folder of the shared data, or `None` with a printed reason.
pub fn shared(name: &str) -> Option<String> {
    let fixtures = match std::env::var_os("ROBUST_FIXTURES") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"),
    };
    let dir = fixtures.join("../data").join(name);
    if !dir.is_dir() {
        println!("skipped: no {}", dir.display());
        return None;
    }
    Some(dir.to_str().unwrap().to_string())
}

pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn idx(dims: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes = (0x800 | dims.len() as u32).to_be_bytes().to_vec();
    bytes.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    bytes.extend(body);
    bytes
}

/// A grey image of one level.
pub fn png(level: u8, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = vec![];
    let samples = vec![level; (width * height) as usize];
    PngEncoder::new(&mut bytes).write_image(&samples, width, height, ExtendedColorType::L8).unwrap();
    bytes
}

/// A grey image of one level, 2 wide and 3 high.
pub fn jpeg(level: u8) -> Vec<u8> {
    let mut bytes = vec![];
    JpegEncoder::new_with_quality(&mut bytes, 100).encode(&[level; 18], 2, 3, ExtendedColorType::Rgb8).unwrap();
    bytes
}

pub fn tar(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn npy<A: WritableElement, D: ndarray::Dimension>(array: &ndarray::Array<A, D>) -> Vec<u8> {
    let mut bytes = vec![];
    array.write_npy(&mut bytes).unwrap();
    bytes
}

pub fn npy_header(header: &str) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header.as_bytes()].concat()
}

pub fn npz(members: &[(&str, &[u8])], packed: bool) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    let method = if packed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    for (name, bytes) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Tensors `images` of bytes and `labels` of i64.
pub fn tensors(shape: &[usize], images: &[u8], labels: &[i64]) -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let raw: Vec<u8> = labels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let images = TensorView::new(Dtype::U8, shape.to_vec(), images).unwrap();
    let labels = TensorView::new(Dtype::I64, vec![labels.len()], &raw).unwrap();
    safetensors::serialize([("images", images), ("labels", labels)], None).unwrap()
}

/// A header, then `len` zeros that take no space, with single bytes set.
pub fn sparse(path: &Path, header: &[u8], len: u64, set: &[(u64, u8)]) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(header).unwrap();
    file.set_len(header.len() as u64 + len).unwrap();
    for &(at, value) in set {
        file.seek(SeekFrom::Start(header.len() as u64 + at)).unwrap();
        file.write_all(&[value]).unwrap();
    }
}

/// The most memory this process has held, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
