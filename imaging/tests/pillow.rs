//! Decoding and resizing against files Pillow made (`pillow/make.py`): every value must be equal.

// Helpers beside the tests fail like tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use robust_core::{Interpolation, Preprocess, Resize};
use robust_imaging::{Bytes, Samples, decode_bytes, jpeg, size, stored};
use std::path::{Path, PathBuf};

fn files(ending: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow");
    let mut found: Vec<PathBuf> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == ending));
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_string()
}

fn pixels(path: &Path) -> (usize, usize, Vec<u8>) {
    let image = stored(&std::fs::read(path).unwrap()).unwrap();
    let Samples::U8(samples) = image.samples else { panic!("{} is not 8 bits", path.display()) };
    (image.height, image.width, samples)
}

#[test]
fn every_jpeg_and_webp_decodes_to_pillows_pixels() {
    let found = [files("jpg"), files("webp")].concat();
    assert!(found.len() >= 60, "{} files", found.len());
    for path in found {
        let expected = pixels(&path.with_extension("png"));
        assert_eq!(size(&std::fs::read(&path).unwrap()).unwrap(), (expected.0, expected.1), "{}", path.display());
        assert!(pixels(&path) == expected, "{} differs", path.display());
    }
}

#[test]
fn every_resized_image_is_pillows() {
    let mut seen = 0;
    for path in files("png") {
        let name = name(&path);
        let parts: Vec<&str> = name.split('-').collect();
        let (source, channels) = match parts[0] {
            "resize" => ("source.png", 3),
            "greysize" => ("grey.png", 1),
            _ => continue,
        };
        let interpolation = match parts[1] {
            "box" => Interpolation::Box,
            "bilinear" => Interpolation::Bilinear,
            "bicubic" => Interpolation::Bicubic,
            "lanczos" => Interpolation::Lanczos,
            other => panic!("{other}"),
        };
        let expected = pixels(&path);
        let source = decode_bytes(&std::fs::read(path.with_file_name(source)).unwrap(), channels).unwrap();
        let resized = source.resize(expected.0, expected.1, interpolation.into()).unwrap();
        assert!(resized.samples == expected.2, "{name} differs");
        seen += 1;
    }
    assert!(seen >= 32, "{seen} files");
}

#[test]
fn the_shorter_side_and_the_centre_are_torchvisions() {
    // `F.resize(image, 256)` and `F.center_crop(image, 224)` of torchvision: (h, w) -> size, then (top, left).
    for ((h, w), n, expected) in [
        ((375, 500), 256, (256, 341)),
        ((500, 375), 256, (341, 256)),
        ((333, 500), 256, (256, 384)),
        ((100, 100), 256, (256, 256)),
        ((2, 3), 7, (7, 10)),
    ] {
        assert_eq!(robust_imaging::resized(h, w, Resize::Shortest(n)), expected);
    }
    for (size, crop, start) in [(10, 4, 3), (9, 4, 2), (11, 4, 4), (7, 4, 2), (5, 4, 0), (341, 224, 58), (4, 4, 0)] {
        let line = Bytes::new(1, size, 1, (0..size).map(|v| v as u8).collect()).unwrap();
        assert_eq!(line.crop(1, crop).unwrap().samples[0], start as u8, "{size} {crop}");
        let line = Bytes::new(size, 1, 1, (0..size).map(|v| v as u8).collect()).unwrap();
        assert_eq!(line.crop(crop, 1).unwrap().samples[0], start as u8, "{size} {crop}");
    }
    let small = Bytes::new(2, 2, 1, vec![0; 4]).unwrap();
    assert!(small.crop(3, 1).unwrap_err().message.contains("is 2x2, smaller than the crop of 3x1"));
    for (h, w) in [(0, 3), (3, 0), (20_000, 1), (usize::MAX, usize::MAX), (16_000, 16_000)] {
        assert!(small.clone().resize(h, w, Interpolation::Bilinear.into()).is_err());
    }
    let how = Preprocess { resize: Some(Resize::Shortest(4)), crop: Some((4, 3)), ..Preprocess::default() };
    let prepared = Bytes::new(2, 3, 3, vec![7; 18]).unwrap().prepare(&how).unwrap();
    assert_eq!((prepared.height, prepared.width, prepared.planes().len()), (4, 3, 36));
}

#[test]
fn a_jpeg_cut_anywhere_is_an_error() {
    for file in ["base-420-17x16", "progressive-17x16", "restart-blocks"] {
        let path = files("jpg").into_iter().find(|path| name(path) == file).unwrap();
        let bytes = std::fs::read(path).unwrap();
        for cut in 0..bytes.len() - 1 {
            assert!(jpeg::decode(&bytes[..cut]).is_err(), "{file} cut at {cut}");
            // An end marker where data was missing must not hide it; whole scans may be missing from a progressive one.
            let ended = [&bytes[..cut], &[0xFF, 0xD9]].concat();
            let short = file == "base-420-17x16" && cut + 4 < bytes.len();
            assert!(!short || jpeg::decode(&ended).is_err(), "{file} ended at {cut}");
        }
    }
}

#[test]
fn a_jpeg_that_claims_more_than_its_bytes_can_hold_is_refused() {
    let path = files("jpg").into_iter().find(|path| name(path) == "base-420-64x48").unwrap();
    let bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    let with = |offset: usize, value: &[u8]| {
        let mut changed = bytes.clone();
        changed[at + offset..at + offset + value.len()].copy_from_slice(value);
        jpeg::decode(&changed).unwrap_err().message
    };
    assert!(with(5, &[0xFF, 0xFF, 0xFF, 0xFF]).contains("at most"));
    assert!(with(5, &[0x3F, 0xFF, 0x0F, 0xFF]).contains("cannot hold 4095x16383"));
    assert!(with(5, &[0, 0]).contains("64x0"));
    assert!(with(4, &[12]).contains("12 bits"));
    assert!(with(1, &[0xC9]).contains("arithmetic"));
    assert!(with(9, &[2]).contains("2 colours"));
    assert!(with(11, &[0x00]).contains("impossible sampling"));
    assert!(with(11, &[0x33]).contains("scan header"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn damaged_jpegs_and_webps_never_panic(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        for file in ["base-420-37x29", "progressive-37x29", "restart-blocks", "cmyk", "411", "webp-lossy", "webp-lossless"] {
            let ending = if file.starts_with("webp") { "webp" } else { "jpg" };
            let path = files(ending).into_iter().find(|path| name(path) == file).unwrap();
            let mut bytes = std::fs::read(path).unwrap();
            let len = bytes.len();
            for &(at, value) in &flips {
                bytes[at % len] = value;
            }
            if let Ok(image) = decode_bytes(&bytes, 3) {
                prop_assert_eq!(image.samples.len(), image.height * image.width * 3);
            }
        }
    }
}
