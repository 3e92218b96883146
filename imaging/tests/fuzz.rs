//! What the fuzz targets `png`, `jpeg` and `webp` do, over made-up inputs and over those that were worth keeping.

// Helpers beside the tests fail like tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../../fuzz/src/images/mod.rs"]
mod images;

use proptest::prelude::*;
use robust_core::Kind;
use robust_imaging::{flat, size};
use std::path::Path;

type Make = fn(&[u8]) -> Vec<u8>;
const TARGETS: [(&str, Make); 3] = [("png", images::png), ("jpeg", images::jpeg), ("webp", images::webp)];

/// Whether it decodes; where it does, to as many pixels as its header says.
fn answered(file: &[u8]) -> bool {
    let size = size(file);
    let mut decoded = false;
    for channels in [1, 3] {
        match flat(file, channels) {
            Ok(image) => {
                assert_eq!(size.as_ref().ok(), Some(&(image.height, image.width)));
                assert_eq!(image.planes().len(), channels * image.height * image.width);
                decoded = true;
            }
            Err(e) => assert_eq!(e.kind, Kind::Load, "{e}"),
        }
    }
    decoded
}

#[test]
fn the_stored_fuzz_corpus_is_answered_without_a_panic() {
    for (target, make) in TARGETS {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/corpus/{target}.tar.gz"));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap()));
        let (mut read, mut decoded) = (0, 0);
        for entry in archive.entries().unwrap() {
            let (mut entry, mut bytes) = (entry.unwrap(), vec![]);
            if !entry.header().entry_type().is_file() {
                continue;
            }
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (read, decoded) = (read + 1, decoded + usize::from(answered(&make(&bytes))));
        }
        println!("{target}: {read} inputs, {decoded} of them decode");
        assert!(read > 100 && decoded > 20, "{target}: {read}, {decoded}");
    }
}

#[test]
fn a_jpeg_of_blank_blocks_is_made_and_decodes_to_middle_grey() {
    // Tables to begin with, 16 x 8 pixels, one colour; one scan over it without data of its own, then zeros: each block's
    // first code says that it is where the one before was, its second that nothing follows.
    let file = images::jpeg(&[4, 15, 7, 0, 0, 0, 5, 0, 0x80, 0, 0, 63, 0]);
    assert_eq!(size(&file).unwrap(), (8, 16));
    assert_eq!(flat(&file, 1).unwrap().samples, robust_imaging::Samples::U8(vec![128; 128]));
}

#[test]
fn a_webp_of_one_colour_is_made_and_decodes_to_it() {
    // No transform, no cache, no groups of codes; five codes of one symbol: green 1 (and red, blue and alpha), distance 0.
    // Bits from the lowest on: 0 0 0, then per code 1 (simple), 0 (one symbol), 1 (of eight bits), the symbol.
    let mut bits = vec![0, 0, 0];
    for symbol in [7u8, 1, 0, 255] {
        bits.extend([1, 0, 1]);
        bits.extend((0..8).map(|i| symbol >> i & 1));
    }
    bits.extend([1, 0, 0, 0]);
    let stream: Vec<u8> = bits.chunks(8).map(|c| c.iter().rev().fold(0, |v, b| v << 1 | b)).collect();
    let part = [&[0, stream.len() as u8 + 1, 0, 0][..], &stream].concat();
    let file = images::webp(&[&[0, 2, 1][..], &part].concat());
    assert_eq!(size(&file).unwrap(), (2, 3));
    assert_eq!(flat(&file, 3).unwrap().samples, robust_imaging::Samples::U8([1, 7, 0].repeat(6)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn files_whose_framing_is_right_never_panic(
        target in 0usize..3,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        answered(&TARGETS[target].1(&bytes));
    }
}
