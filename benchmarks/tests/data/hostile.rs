//! Files that are broken or lie: every one is an error with a reason, none a panic or a large allocation.

use super::files::*;
use candle_core::Device;
use proptest::prelude::*;
use robust_benchmarks::data::open;
use robust_core::{Error, Kind};
use std::path::Path;

fn refused(spec: &str) -> Error {
    let error = open(spec).err().unwrap_or_else(|| panic!("{spec} was opened"));
    assert_eq!(error.kind, Kind::Load, "{spec}: {error}");
    error
}

/// The error for one file of this content.
fn refused_file(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join(name), bytes);
    refused(dir.path().join(name).to_str().unwrap()).message
}

fn mnist_of(images: &[u8], labels: &[u8], end: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join(format!("t10k-images-idx3-ubyte{end}")), images);
    write(&dir.path().join(format!("t10k-labels-idx1-ubyte{end}")), labels);
    refused(&format!("mnist:{}", dir.path().display())).message
}

/// What the fuzzer found worth keeping: every part of a reader that it reached.
#[test]
fn the_stored_fuzz_corpus_is_answered_without_a_panic() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let spec = |scheme: &str, name: &str| format!("{scheme}:{}", at(name).display());
    let mut targets = vec![
        ("arrays", vec!["a.npz"], vec![spec("npz", "a.npz")]),
        ("arrays", vec!["a.safetensors"], vec![spec("safetensors", "a.safetensors")]),
        ("npy", vec!["x.npy", "y.npy"], vec![spec("npy", "x.npy") + "," + &at("y.npy").display().to_string()]),
        ("idx", vec!["m/t10k-images-idx3-ubyte", "m/t10k-labels-idx1-ubyte"], vec![spec("mnist", "m")]),
        ("cifar", vec!["c/test_batch"], vec![spec("cifar10", "c")]),
        ("tar", vec!["a.tar"], vec![spec("folder", "a.tar"), spec("wds", "a.tar")]),
    ];
    if cfg!(feature = "parquet") {
        targets.push(("parquet", vec!["a.parquet"], vec![spec("parquet", "a.parquet")]));
    }
    for (target, names, specs) in targets {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/corpus/{target}.tar.gz"));
        let mut archive = ::tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap()));
        let (mut read, mut opened) = (0, 0);
        for entry in archive.entries().unwrap() {
            let mut bytes = vec![];
            std::io::Read::read_to_end(&mut entry.unwrap(), &mut bytes).unwrap();
            // Two files lie behind each other, after the length of the first.
            let parts = match (names.as_slice(), bytes.split_first_chunk()) {
                ([one], _) => vec![(one, &bytes[..])],
                ([a, b], Some((&cut, rest))) => {
                    let (x, y) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(cut))));
                    vec![(a, x), (b, y)]
                }
                _ => continue,
            };
            parts.iter().for_each(|(name, part)| write(&at(name), part));
            for spec in &specs {
                read += 1;
                let data = match open(spec) {
                    Ok(data) => data,
                    Err(e) => {
                        assert!(matches!(e.kind, Kind::Load | Kind::Usage), "{e}");
                        continue;
                    }
                };
                opened += 1;
                let ids = [0, data.card().samples - 1];
                for view in [image(1, 28, 28), image(3, 32, 32)] {
                    if let Ok(loaded) = data.load(&ids, &view, &Device::Cpu) {
                        assert_eq!(loaded.batch.map_or(0, |b| b.ids.len()) + loaded.failed.len(), 2);
                    }
                }
            }
        }
        println!("{target}: {read} files, {opened} of them open");
        assert!(read > 20 && opened > 0, "{target}");
    }
}

#[test]
fn idx_files_that_lie_are_refused() {
    let (images, labels) = (idx(&[2, 2, 2], &[0; 8]), idx(&[2], &[1, 2]));
    let cases = [
        (images[..20].to_vec(), labels.clone(), "needs 8 bytes, the file has 4"),
        (images[..10].to_vec(), labels.clone(), "too few for an IDX header"),
        (vec![], labels.clone(), "too few"),
        (idx(&[3, 2, 2], &[0; 12]), labels.clone(), "3 images but 2 labels"),
        (idx(&[u32::MAX, 28, 28], &[0; 8]), labels.clone(), "needs 3367254359280 bytes, the file has 8"),
        (idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 8]), labels.clone(), "not one of rows"),
        (idx(&[0, 28, 28], &[]), idx(&[0], &[]), "no elements"),
        (idx(&[12], &[0; 12]), labels.clone(), "starts with 0x00000801"),
        (images.clone(), images.clone(), "starts with 0x00000803"),
        (images.clone(), idx(&[2], &[1]), "needs 2 bytes, the file has 1"),
    ];
    for (images, labels, why) in cases {
        let message = mnist_of(&images, &labels, "");
        assert!(message.contains(why), "{message}");
        let message = mnist_of(&gzip(&images), &gzip(&labels), ".gz");
        assert!(message.contains(why), "{message}");
    }
    let packed = gzip(&images);
    assert!(mnist_of(&packed[..packed.len() - 9], &gzip(&labels), ".gz").contains("truncated"));
    assert!(mnist_of(&images, &gzip(&labels), ".gz").contains("not a gzip file"));
}

#[test]
fn npz_files_that_lie_are_refused() {
    let (x, y) = (npy(&ndarray::Array3::<u8>::ones((4, 3, 3))), npy(&ndarray::arr1(&[1i32, 0, 2, 1])));
    for packed in [false, true] {
        let good = npz(&[("x.npy", &x), ("y.npy", &y)], packed);
        for cut in [0, 3, 40, good.len() / 2, good.len() - 1] {
            refused_file("a.npz", &good[..cut]);
        }
        // One pixel changed behind the checksum's back.
        let mut damaged = good.clone();
        let at = 30 + "x.npy".len() + x.len() - 4;
        damaged[if packed { 30 + 5 + 20 } else { at }] ^= 0x55;
        refused_file("a.npz", &damaged);
        let truncated = npz(&[("x.npy", &x[..x.len() - 1]), ("y.npy", &y)], packed);
        assert!(refused_file("a.npz", &truncated).contains("needs 36 bytes, the file has 35"));
        let negative = npy(&ndarray::arr1(&[1i32, 0, -2, 1]));
        let message = refused_file("a.npz", &npz(&[("x.npy", &x), ("y.npy", &negative)], packed));
        assert!(message.contains("label -2 of sample 2"), "{message}");
        let hot = npy(&ndarray::Array2::<i32>::zeros((4, 10)));
        assert!(refused_file("a.npz", &npz(&[("x.npy", &x), ("y.npy", &hot)], packed)).contains("[4, 10]"));
        let float = npy(&ndarray::arr1(&[1f32, 0., f32::NAN, 1.]));
        assert!(
            refused_file("a.npz", &npz(&[("x.npy", &x), ("y.npy", &float)], packed)).contains("label NaN of sample 2")
        );
        let wide = npy(&ndarray::Array3::<i64>::from_elem((4, 3, 3), 300));
        assert!(refused_file("a.npz", &npz(&[("x.npy", &wide), ("y.npy", &y)], packed)).contains("from 300 to 300"));
        assert!(refused_file("a.npz", &npz(&[("x.npy", &x)], packed)).contains("no array of labels"));
        let zero = npy(&ndarray::Array3::<u8>::ones((0, 3, 3)));
        assert!(refused_file("a.npz", &npz(&[("x.npy", &zero), ("y.npy", &y)], packed)).contains("no elements"));
    }
    assert!(refused_file("a.npz", b"not a zip at all").contains("cannot load"));
}

#[test]
fn a_deflated_bomb_is_cut_off_before_it_fills_the_disk() {
    // 1.2 GB of zeros in about a megabyte.
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    writer.start_file("x.npy", zip::write::SimpleFileOptions::default()).unwrap();
    for _ in 0..1200 {
        std::io::Write::write_all(&mut writer, &[0; 1 << 20]).unwrap();
    }
    writer.start_file("y.npy", zip::write::SimpleFileOptions::default()).unwrap();
    let message = refused_file("a.npz", &writer.finish().unwrap().into_inner());
    assert!(message.contains("unpack to more than"), "{message}");
}

#[test]
fn safetensors_files_that_lie_are_refused() {
    let good = tensors(&[4, 3, 3], &[0; 36], &[1, 2, 3, 4]);
    for cut in [0, 7, 8, 60, good.len() - 1] {
        refused_file("a.safetensors", &good[..cut]);
    }
    assert!(refused_file("a.safetensors", &[good.clone(), vec![0]].concat()).contains("the file has"));
    let with = |header: &str, body: usize| {
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; body]].concat();
        refused_file("a.safetensors", &bytes)
    };
    assert!(with(r#"{"x":{"dtype":"U8","shape":[2,9],"data_offsets":[0,8]}}"#, 8).contains("header"));
    assert!(with(r#"{"x":{"dtype":"U8","shape":[9223372036854775807,9],"data_offsets":[0,8]}}"#, 8).contains("header"));
    assert!(with(r#"{"x":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}"#, 8).contains("header"));
    assert!(with(r#"{"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, 8).contains("no array of labels"));
    with(&"[".repeat(100_000), 0);
    assert!(refused_file("a.safetensors", &u64::MAX.to_le_bytes()).contains("header of 18446744073709551615 bytes"));
    let message = with(
        r#"{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#,
        3,
    );
    assert!(message.contains("BF16"), "{message}");
}

#[test]
fn rows_out_of_range_fail_alone_and_a_set_out_of_range_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.npz");
    let y = npy(&ndarray::Array1::<u8>::zeros(8));
    let mut x = ndarray::Array3::<f32>::from_elem((8, 2, 2), 0.5);
    x[[0, 0, 0]] = 255.;
    x[[1, 1, 1]] = f32::NAN;
    x[[2, 0, 1]] = f32::INFINITY;
    // Rounding: moved to the end of the range and told.
    x[[3, 0, 0]] = 1f32.next_up();
    x[[4, 0, 0]] = -2.98e-8;
    x[[5, 0, 0]] = -2e-6;
    write(&path, &npz(&[("x.npy", &npy(&x)), ("y.npy", &y)], false));
    let data = open(path.to_str().unwrap()).unwrap();
    let loaded = data.load(&[0, 1, 2, 3, 4, 5, 6, 7], &image(1, 2, 2), &Device::Cpu).unwrap();
    let batch = loaded.batch.unwrap();
    assert_eq!(batch.ids, [3, 4, 6, 7]);
    let values = batch.x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!((values[0], values[4]), (1., 0.));
    let why: Vec<&str> = loaded.failed.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(why[0], "has values from 0.5 to 255, the model wants 0 to 1");
    assert_eq!(why[1..3], ["holds NaN", "holds inf"]);
    assert_eq!(why[3], "has values from -0.000002 to 0.5, the model wants 0 to 1");
    let remark = data.remarks().join(" ");
    assert!(remark.contains("2 samples, the first of them sample 3") && remark.contains("1.0000001"), "{remark}");
    let mut unbounded = image(1, 2, 2);
    unbounded.input.domain = None;
    assert!(data.load(&[0], &unbounded, &Device::Cpu).unwrap().batch.is_some());
    assert_eq!(data.domain(), Some((0., 1.)));

    for (top, hint, domain) in [(255., "divide by 255", Some((0., 1.))), (-2.5, "undo the normalisation", None)] {
        let x = ndarray::Array3::<f32>::from_shape_fn((8, 2, 2), |(_, i, j)| if i + j == 1 { top } else { 0. });
        write(&path, &npz(&[("x.npy", &npy(&x)), ("y.npy", &y)], false));
        let data = open(path.to_str().unwrap()).unwrap();
        let error = data.load(&[3, 0], &image(1, 2, 2), &Device::Cpu).unwrap_err();
        assert_eq!((error.kind, data.domain()), (Kind::Load, domain));
        assert!(error.message.contains("the model wants 0 to 1"), "{error}");
        assert!(error.hint.unwrap().starts_with(hint));
    }
}

#[test]
fn ambiguous_channels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.npz");
    let (x, y) = (npy(&ndarray::Array4::<u8>::zeros((2, 3, 3, 3))), npy(&ndarray::arr1(&[0u8, 1])));
    write(&path, &npz(&[("x.npy", &x), ("y.npy", &y)], false));
    let error = open(path.to_str().unwrap()).unwrap().load(&[0], &image(3, 3, 3), &Device::Cpu).unwrap_err();
    assert!(error.message.contains("ambiguous"), "{error}");
}

#[test]
fn folders_without_images_or_above_the_classes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    assert!(refused(root).message.contains("no images"));
    write(&dir.path().join("stray.png"), &png(0, 2, 2));
    assert!(refused(root).message.contains("no images"));
    write(&dir.path().join("train/cat/0.png"), &png(0, 2, 2));
    write(&dir.path().join("test/cat/0.png"), &png(0, 2, 2));
    let error = refused(root);
    assert!(error.message.contains("holds splits, not classes: test, train"), "{error}");
    assert!(error.hint.unwrap().contains("/test"));
    assert!(open(&format!("{root}/test")).is_ok());
}

#[cfg(unix)]
#[test]
fn links_that_go_round_and_files_that_never_end_do_not_hang() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a/0.png"), &png(3, 2, 2));
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("a/1.png")).unwrap();
    let data = open(dir.path().to_str().unwrap()).unwrap();
    let loaded = data.load(&[0, 1], &image(1, 2, 2), &Device::Cpu).unwrap();
    assert_eq!(loaded.failed, [(1, "a/1.png: is not a file".to_string())]);
    std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
    assert!(refused(dir.path().to_str().unwrap()).message.contains("a link to a folder that it is in"));
}

fn raw_entry(kind: tar::EntryType, name: &str, size: u64, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn tar_archives_that_lie_are_refused_packed_or_not() {
    use tar::EntryType as Type;
    let image = png(1, 2, 2);
    let entry = raw_entry(Type::Regular, "a/0.png", image.len() as u64, &image);
    let end = vec![0; 1024];
    let mut scrambled = entry.clone();
    scrambled[0] ^= 1;
    let cases = [
        (vec![], "no closing block"),
        (end.clone(), "no images"),
        (entry[..700.min(entry.len() - 1)].to_vec(), "truncated"),
        ([entry.clone(), raw_entry(Type::Regular, "a/1.png", 1 << 40, b"x"), end.clone()].concat(), ""),
        ([entry.clone(), raw_entry(Type::Regular, "a/1.png", u64::MAX, b"x"), end.clone()].concat(), ""),
        ([entry.clone(), raw_entry(Type::Regular, "a/1.txt", 1 << 40, b"x"), end.clone()].concat(), ""),
        ([raw_entry(Type::GNULongName, "", 1 << 40, b"x"), entry.clone(), end.clone()].concat(), "attributes of"),
        ([raw_entry(Type::XHeader, "", 1 << 40, b"x"), entry.clone(), end.clone()].concat(), "attributes of"),
        ([raw_entry(Type::XHeader, "", 9, b"99 path=x"), entry.clone(), end.clone()].concat(), ""),
        ([scrambled, end.clone()].concat(), "checksum"),
        (b"plain text, long enough to fill a block. ".repeat(30), ""),
    ];
    for (i, (bytes, why)) in cases.iter().enumerate() {
        for (name, bytes) in [("a.tar", bytes.clone()), ("a.tar.gz", gzip(bytes))] {
            let message = refused_file(name, &bytes);
            let same_words = name == "a.tar" || !why.contains("closing");
            assert!(!same_words || message.contains(why), "case {i}, {name}: {message}");
        }
    }
    let packed = gzip(&[entry.clone(), end].concat());
    refused_file("a.tgz", &packed[..packed.len() - 5]);
    assert!(refused_file("a.tar", &[&entry[..], &entry[..]].concat()).contains("no closing block"));
    assert!(refused_file("a.tar", b"PK\x03\x04").contains("zip"));
}

#[test]
fn special_entries_of_an_archive_are_samples_that_fail() {
    use tar::EntryType as Type;
    let image_bytes = png(1, 2, 2);
    let long = format!("{}/0.png", "n".repeat(150));
    let mut bytes = raw_entry(Type::GNULongName, "././@LongLink", long.len() as u64, long.as_bytes());
    bytes.extend(raw_entry(Type::Regular, "cut", image_bytes.len() as u64, &image_bytes));
    bytes.extend(raw_entry(Type::Symlink, "z/link.png", 0, b""));
    bytes.extend(raw_entry(Type::Regular, "../../z/up.png", image_bytes.len() as u64, &image_bytes));
    bytes.extend(raw_entry(Type::Regular, "z/bomb.png", 1 << 20, &png_bomb()));
    bytes.resize(bytes.len() + (1 << 20), 0);
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("a.tar", bytes.clone()), ("a.tar.gz", gzip(&bytes))] {
        write(&dir.path().join(name), &bytes);
        let data = open(dir.path().join(name).to_str().unwrap()).unwrap();
        assert_eq!(data.card().classes.as_ref().unwrap().len(), 3);
        let loaded = data.load(&[0, 1, 2, 3], &image(1, 2, 2), &Device::Cpu).unwrap();
        assert_eq!(loaded.batch.unwrap().ids, [0, 1]);
        assert!(loaded.failed[0].1.starts_with("z/bomb.png: "), "{:?}", loaded.failed);
        assert!(loaded.failed[1].1.starts_with("z/link.png: is a link"), "{:?}", loaded.failed);
    }
}

/// The header of a PNG of 2^30 by 2^30 pixels: its checksum is right, nothing follows.
fn png_bomb() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\x40\0\0\0\x40\0\0\0\x08\x02\0\0\0".to_vec();
    let crc = !bytes[12..].iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    });
    bytes.extend(crc.to_be_bytes());
    bytes.extend(b"\0\0\0\x01IDAT\0\0\0\0\0");
    bytes
}

fn damage(bytes: &mut [u8], flips: &[(usize, u8)]) {
    let len = bytes.len();
    for &(at, value) in flips {
        bytes[at % len] = value;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn damaged_files_are_answers_not_panics(flips in proptest::collection::vec((0usize..4096, any::<u8>()), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let (x, y) = (npy(&ndarray::Array3::<u8>::ones((2, 3, 3))), npy(&ndarray::arr1(&[1u8, 0])));
        let entries = [("a/0.png".to_string(), png(1, 3, 3)), ("b/0.png".to_string(), png(2, 3, 3))];
        let files = [
            ("s.npz", npz(&[("x.npy", &x), ("y.npy", &y)], false)),
            ("d.npz", npz(&[("x.npy", &x), ("y.npy", &y)], true)),
            ("s.safetensors", tensors(&[2, 3, 3], &[0; 18], &[1, 0])),
            ("t.tar", tar(&entries)),
            ("t.tar.gz", gzip(&tar(&entries))),
            ("t10k-images-idx3-ubyte", idx(&[2, 3, 3], &[0; 18])),
        ];
        write(&dir.path().join("t10k-labels-idx1-ubyte"), &idx(&[2], &[0, 1]));
        for (name, mut bytes) in files {
            damage(&mut bytes, &flips);
            let path = dir.path().join(name);
            write(&path, &bytes);
            let place: &Path = if name.starts_with("t10k") { dir.path() } else { &path };
            if let Ok(data) = open(place.to_str().unwrap()) {
                let ids: Vec<u64> = (0..data.card().samples.min(4)).collect();
                let _ = data.load(&ids, &image(1, 3, 3), &Device::Cpu);
            }
        }
    }
}
