//! Data readers against real files, against files made by other writers, and against hostile ones.

// Helpers beside the tests fail like tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "data/files.rs"]
mod files;
#[path = "data/hostile.rs"]
mod hostile;
#[path = "data/published.rs"]
mod published;
#[path = "data/scale.rs"]
mod scale;
#[path = "data/stored.rs"]
mod stored;

use candle_core::Device;
use files::*;
use robust_benchmarks::data::{SOURCES, open, open_with_notes};
use robust_benchmarks::subset::{Pick, choose};
use robust_core::{Dataset, Input, InputKind, Kind, View, to_host};

/// Rows, labels and failures.
type Plain = (Vec<Vec<f32>>, Vec<u32>, Vec<(u64, String)>);

/// Rows, labels and failures of `ids`, as plain numbers.
fn load(data: &dyn Dataset, ids: &[u64], view: &View) -> Plain {
    let loaded = data.load(ids, view, &Device::Cpu).unwrap();
    let Some(batch) = loaded.batch else { return (vec![], vec![], loaded.failed) };
    let (flat, width) = to_host(&batch.x).unwrap();
    assert_eq!(&batch.x.dims()[1..], view.input.shape.as_slice());
    let left: Vec<u64> = ids.iter().copied().filter(|id| loaded.failed.iter().all(|(f, _)| f != id)).collect();
    assert_eq!(batch.ids, left, "rows keep the order asked for");
    (flat.chunks(width).map(<[f32]>::to_vec).collect(), batch.labels.unwrap(), loaded.failed)
}

fn levels(row: &[f32]) -> Vec<u8> {
    row.iter().map(|v| (v * 255.).round() as u8).collect()
}

fn total(row: &[f32]) -> u64 {
    levels(row).iter().map(|&v| u64::from(v)).sum()
}

/// Row i of many is row i alone, bit for bit, in any order and with repetition.
fn rows_do_not_depend_on_their_neighbours(data: &dyn Dataset, view: &View) {
    let all: Vec<u64> = (0..data.card().samples.min(40)).rev().chain([0, 0]).collect();
    let (rows, labels, _) = load(data, &all, view);
    for (i, &id) in all.iter().enumerate() {
        let (row, label, _) = load(data, &[id], view);
        assert_eq!((row[0].clone(), label[0]), (rows[i].clone(), labels[i]), "sample {id}");
    }
}

#[test]
fn the_built_in_digits_are_the_first_thousand_of_the_test_set() {
    let data = open("builtin:mnist").unwrap();
    assert_eq!((data.card().samples, data.card().name.as_str()), (1000, "builtin:mnist"));
    let ids = choose(1000, &Pick::All).unwrap();
    let (rows, labels, failed) = load(&*data, &ids, &image(1, 28, 28));
    assert!(failed.is_empty());
    // Computed with numpy from the original file.
    assert_eq!(labels[..10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
    assert_eq!((labels.iter().sum::<u32>(), labels[999]), (4327, 9));
    assert_eq!((total(&rows[0]), total(&rows[999])), (18454, 18905));
    assert_eq!(rows.iter().map(|r| total(r)).sum::<u64>(), 24_443_134);
    assert_eq!(levels(&rows[0][202..208]), [84, 185, 159, 151, 60, 36]);
    assert_eq!(rows[0][202], 84. / 255.);
    rows_do_not_depend_on_their_neighbours(&*data, &image(1, 28, 28));
}

#[test]
fn the_real_mnist_files_are_read_in_both_splits() {
    let Some(dir) = shared("mnist") else { return };
    let data = open(&dir).unwrap();
    let ids = choose(data.card().samples, &Pick::All).unwrap();
    let (rows, labels, _) = load(&*data, &ids, &image(1, 28, 28));
    assert_eq!(rows.len(), 10_000);
    assert_eq!((labels[0], labels.iter().sum::<u32>()), (7, 44_434));
    assert_eq!((total(&rows[0]), rows.iter().map(|r| total(r)).sum::<u64>()), (18454, 264_923_200));

    let train = open_with_notes(&format!("mnist:{dir}?split=train")).unwrap();
    assert_eq!((train.data.card().samples, train.notes.len()), (60_000, 1));
    let (rows, labels, _) = load(&*train.data, &[0, 59_999], &image(1, 28, 28));
    assert_eq!((labels, total(&rows[0]), total(&rows[1])), (vec![5, 8], 27525, 20920));
    assert_ne!(train.data.card().digest, data.card().digest);
}

#[test]
fn idx_files_are_found_under_their_usual_names_and_packing_changes_nothing() {
    let (images, labels) = (idx(&[3, 2, 2], &(0..12).collect::<Vec<u8>>()), idx(&[3], &[9, 0, 1]));
    let mut digests = vec![];
    for (below, sep, packed) in [("", '-', false), ("", '.', true), ("raw", '-', true), ("MNIST/raw", '.', false)] {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join(below);
        std::fs::create_dir_all(&at).unwrap();
        for (part, rank, bytes) in [("images", 3, &images), ("labels", 1, &labels)] {
            let end = if packed { ".gz" } else { "" };
            let name = at.join(format!("t10k-{part}{sep}idx{rank}-ubyte{end}"));
            std::fs::write(name, if packed { gzip(bytes) } else { bytes.clone() }).unwrap();
        }
        let data = open(dir.path().to_str().unwrap()).unwrap();
        let (rows, labels, _) = load(&*data, &[2, 0], &image(1, 2, 2));
        assert_eq!((levels(&rows[0]), labels), (vec![8, 9, 10, 11], vec![1, 9]));
        digests.push(data.card().digest.clone());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_flat_model_takes_single_channel_rows_and_no_others() {
    let data = open("builtin:mnist").unwrap();
    let flat = Input { shape: vec![784], domain: Some((0., 1.)), kind: InputKind::Features };
    let (rows, _, _) = load(&*data, &[5], &View::from(flat));
    assert_eq!(rows, load(&*data, &[5], &image(1, 28, 28)).0);
}

#[test]
fn a_set_that_does_not_fit_says_what_was_wanted_and_what_is_there() {
    let data = open("builtin:mnist").unwrap();
    let error = data.load(&[0], &image(3, 32, 32), &Device::Cpu).unwrap_err();
    assert_eq!(error.kind, Kind::Load);
    assert!(error.message.ends_with("the model wants 3x32x32, the data set has 1x28x28"), "{error}");
    let error = data.load(&[3, 1000], &image(1, 28, 28), &Device::Cpu).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert!(error.message.contains("1000"));
    let none = data.load(&[], &image(1, 28, 28), &Device::Cpu).unwrap();
    assert!(none.batch.is_none() && none.failed.is_empty());
}

#[test]
fn the_real_cifar_archive_is_pillows_to_the_last_value() {
    let Some(dir) = shared("cifar10") else { return };
    let opened = open_with_notes(&format!("folder:{dir}/test.tar.gz")).unwrap();
    let card = opened.data.card();
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    assert_eq!((card.samples, card.classes.clone().unwrap()), (5000, classes.map(String::from).to_vec()));
    assert_eq!(opened.notes.len(), 2, "{:?}", opened.notes);
    let mut crc = flate2::Crc::new();
    for start in (0..5000).step_by(500) {
        let ids: Vec<u64> = (start..start + 500).collect();
        let (rows, labels, failed) = load(&*opened.data, &ids, &image(3, 32, 32));
        assert!(failed.is_empty());
        assert!(labels.iter().all(|&label| u64::from(label) == start / 500));
        rows.iter().for_each(|row| crc.update(&interleaved(row, 3)));
    }
    // From `data/make_expected.py`.
    assert_eq!(crc.sum(), 0x3853_8e56);
    rows_do_not_depend_on_their_neighbours(&*opened.data, &image(3, 32, 32));
}

/// Bytes row by row, the channels of a pixel together.
fn interleaved(row: &[f32], channels: usize) -> Vec<u8> {
    let levels = levels(row);
    let plane = levels.len() / channels;
    (0..plane).flat_map(|i| levels.iter().skip(i).step_by(plane).copied()).collect()
}

#[test]
fn photographs_keep_imagenets_labels_and_misfits_say_their_size() {
    let Some(dir) = shared("imagenet-sample") else { return };
    let opened = open_with_notes(&format!("{dir}/val100.tar.gz")).unwrap();
    let data = opened.data;
    assert!(opened.notes.iter().any(|note| note.contains("imagenet_classes.csv, 1000 classes")), "{:?}", opened.notes);
    assert_eq!((data.card().samples, data.card().classes.as_ref().unwrap().len()), (100, 1000));
    assert_eq!(data.card().classes.as_ref().unwrap()[9], "n01518878");
    let error = data.load(&[0], &image(3, 224, 224), &Device::Cpu).unwrap_err();
    assert!(error.message.contains("the model wants 3x224x224, the data set has 3x256x341"), "{error}");
    assert!(error.hint.unwrap().contains("?resize=256&crop=224"));
    let (rows, labels, failed) = load(&*data, &(0..100).collect::<Vec<_>>(), &image(3, 256, 341));
    assert!(rows.len() > 1 && rows.len() + failed.len() == 100);
    // tench, brambling, water ouzel
    assert_eq!(labels[0], 0);
    assert!(failed.iter().all(|(_, why)| why.contains("the model wants 256x341")), "{failed:?}");
    let sorted = open(&format!("{dir}/val100.tar.gz?classes=sorted")).unwrap();
    assert_eq!(sorted.card().classes.as_ref().unwrap().len(), 100);
    assert_ne!(sorted.card().digest, data.card().digest);
}

#[test]
fn photographs_are_resized_and_cropped_as_pillow_and_torchvision_do() {
    let Some(dir) = shared("imagenet-sample") else { return };
    let mut digests = vec![];
    // From `data/make_expected.py`.
    for (name, expected) in [("bilinear", 0xe38a_e310), ("bicubic", 0x9f3d_3a19)] {
        let data = open(&format!("{dir}/val100.tar.gz?resize=180&crop=160&interpolation={name}")).unwrap();
        let (rows, labels, failed) = load(&*data, &(0..100).collect::<Vec<_>>(), &image(3, 160, 160));
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(labels[..4], [0, 10, 20, 30]);
        let mut crc = flate2::Crc::new();
        rows.iter().for_each(|row| crc.update(&interleaved(row, 3)));
        assert_eq!(crc.sum(), expected, "{name}");
        assert!(data.card().name.ends_with(&format!("&resize=180&crop=160x160&interpolation={name}")));
        digests.push(data.card().digest.clone());
    }
    assert_ne!(digests[0], digests[1]);
}

/// Names in the order torchvision gives them, with labels.
const ORDERED: [(&str, u32); 7] = [
    ("B/z.png", 0),
    ("a/y.PNG", 1),
    ("a/sub/0.png", 1),
    ("a/sub-1/0.jpeg", 1),
    ("a/sub/x/0.png", 1),
    ("a-b/0.png", 2),
    ("b/0.png", 3),
];

#[test]
fn folders_and_archives_of_one_tree_are_the_same_samples_in_torchvisions_order() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    let mut entries = vec![];
    for (i, (name, _)) in ORDERED.iter().enumerate().rev() {
        let bytes = if name.ends_with("jpeg") { jpeg(i as u8) } else { png(i as u8, 2, 3) };
        write(&root.join(name), &bytes);
        entries.push((format!("./deep/tree/{name}"), bytes));
    }
    for name in ["readme.txt", "stray.png", "a/notes.md", "empty/nothing.txt"] {
        write(&root.join(name), b"ignored");
    }
    entries.push(("./deep/tree/a/._y.PNG".to_string(), b"an attribute file".to_vec()));
    let tar = tar(&entries);
    write(&dir.path().join("t.tar"), &tar);
    write(&dir.path().join("t.tar.gz"), &gzip(&tar));
    for place in ["tree", "t.tar", "t.tar.gz"] {
        let data = open(dir.path().join(place).to_str().unwrap()).unwrap();
        let empty: &[&str] = if place == "tree" { &["empty"] } else { &[] };
        let classes = [&["B", "a", "a-b", "b"], empty].concat();
        assert_eq!(data.card().classes.as_deref().unwrap(), classes, "{place}");
        let (rows, labels, failed) = load(&*data, &[0, 1, 2, 3, 4, 5, 6], &image(3, 3, 2));
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(labels, ORDERED.map(|(_, label)| label));
        for (i, row) in rows.iter().enumerate() {
            assert!(levels(row).iter().all(|v| v.abs_diff(i as u8) <= 1), "{place} {i}: {row:?}");
        }
        rows_do_not_depend_on_their_neighbours(&*data, &image(3, 3, 2));
    }
}

#[test]
fn a_folder_is_named_by_the_content_of_its_images_and_not_by_their_sizes_or_times() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/0.png");
    write(&dir.path().join("b/1.png"), &png(9, 4, 4));
    let names = |bytes: &[u8]| {
        write(&path, bytes);
        let data = open(dir.path().to_str().unwrap()).unwrap();
        (data.card().digest.clone(), data.formerly().unwrap().to_string())
    };
    let (mut one, mut two) = (png(1, 4, 4), png(2, 4, 4));
    let most = one.len().max(two.len());
    // What follows the end of a PNG is not read.
    one.resize(most, 0);
    two.resize(most, 0);
    let (before, after) = (names(&one), names(&two));
    assert!(before.0 != after.0 && before.1 == after.1, "{before:?} {after:?}");
    assert_eq!(names(&one), before);
    // The same files elsewhere are the same set; with another rule for the images they are another, under both names.
    let other = tempfile::tempdir().unwrap();
    write(&other.path().join("a/0.png"), &one);
    write(&other.path().join("b/1.png"), &png(9, 4, 4));
    assert_eq!(open(other.path().to_str().unwrap()).unwrap().card().digest, before.0);
    let resized = open(&format!("folder:{}?resize=8x8", other.path().display())).unwrap();
    assert!(resized.card().digest != before.0 && resized.formerly() != Some(&before.1));
}

#[test]
fn data_that_changes_under_an_open_set_is_an_error_and_not_another_image() {
    let dir = tempfile::tempdir().unwrap();
    let image_path = dir.path().join("tree/a/0.png");
    write(&image_path, &png(1, 4, 4));
    write(&dir.path().join("tree/a/1.png"), &png(2, 4, 4));
    write(&dir.path().join("t.tar"), &tar(&[("t/a/0.png".to_string(), png(1, 4, 4))]));
    let x = npy(&ndarray::Array4::<u8>::zeros((2, 1, 4, 4)));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    write(path("x.npy").as_ref(), &x);
    write(path("y.npy").as_ref(), &npy(&ndarray::arr1(&[1i64, 0])));
    let specs = [path("tree"), path("t.tar"), format!("npy:{},{}", path("x.npy"), path("y.npy"))];
    let sets: Vec<_> = specs.iter().map(|spec| open(spec).unwrap()).collect();
    let load = |set: usize| sets[set].load(&[0], &image(1, 4, 4), &Device::Cpu);
    assert!((0..3).all(|set| load(set).is_ok()));
    // Beyond the clock's grain of the file system.
    std::thread::sleep(std::time::Duration::from_millis(50));
    write(&image_path, &png(3, 4, 4));
    write(path("t.tar").as_ref(), &tar(&[("t/a/0.png".to_string(), png(3, 4, 4))]));
    write(path("x.npy").as_ref(), &x);
    for set in 0..3 {
        let error = load(set).err().unwrap();
        assert_eq!(error.kind, Kind::Load);
        assert!(error.message.contains("changed after the data set was opened"), "{error}");
    }
    // The other image of the folder is as it was.
    assert!(sets[0].load(&[1], &image(1, 4, 4), &Device::Cpu).is_ok());
    write(&image_path, &png(1, 4, 4));
    assert!(load(0).is_ok(), "the old content is the old image");
}

#[test]
fn single_odd_images_fail_by_name_and_stay_samples() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a/0.png"), &png(1, 9, 9));
    write(&dir.path().join("a/1.png"), &png(2, 4, 4));
    write(&dir.path().join("a/2.jpg"), b"not an image");
    write(&dir.path().join("a/3.bmp"), b"BM");
    write(&dir.path().join("b/4.png"), &png(5, 4, 4));
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", dir.path().join("b/5.png")).unwrap();
    let data = open(dir.path().to_str().unwrap()).unwrap();
    let ids = choose(data.card().samples, &Pick::All).unwrap();
    let (_, labels, failed) = load(&*data, &ids, &image(1, 4, 4));
    assert_eq!(labels, [0, 1]);
    let reasons = ["a/0.png: is 9x9", "a/2.jpg: not a PNG, JPEG, WebP", "a/3.bmp: ", "b/5.png: cannot be reached"];
    assert_eq!(failed.len(), ids.len() - 2);
    for ((_, got), wanted) in failed.iter().zip(reasons) {
        assert!(got.starts_with(wanted), "{got}");
    }
    let error = data.load(&[1], &image(3, 8, 8), &Device::Cpu).unwrap_err();
    assert!(error.message.contains("the model wants 3x8x8, the data set has 1x9x9"), "{error}");
}

#[test]
fn arrays_are_read_alike_from_every_file_in_either_order_of_channels() {
    let (n, c, h, w) = (5usize, 3usize, 2usize, 4usize);
    let value = |i: usize, k: usize, y: usize, x: usize| (i * 40 + k * 8 + y * 4 + x) as u8;
    let first = ndarray::Array4::from_shape_fn((n, c, h, w), |(i, k, y, x)| value(i, k, y, x));
    let last = ndarray::Array4::from_shape_fn((n, h, w, c), |(i, y, x, k)| value(i, k, y, x));
    let floats = first.mapv(|v| f32::from(v) / 255.);
    let labels = ndarray::arr1(&[3i64, 1, 4, 1, 5]);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let y = npy(&labels);
    let x = [npy(&first), npy(&last), npy(&floats), npy(&floats.mapv(f64::from))];
    let mut specs = vec![];
    for (i, x) in x.iter().enumerate() {
        write(path(&format!("x{i}.npy")).as_ref(), x);
        write(path("y.npy").as_ref(), &y);
        specs.push(format!("npy:{},{}", path(&format!("x{i}.npy")), path("y.npy")));
        for packed in [false, true] {
            let name = path(&format!("{i}{packed}.npz"));
            write(name.as_ref(), &npz(&[("other.npy", &y), ("Images.npy", x), ("TARGETS.npy", &y)], packed));
            specs.push(name);
        }
    }
    let raw: Vec<u8> = first.iter().copied().collect();
    write(path("a.safetensors").as_ref(), &tensors(&[n, c, h, w], &raw, &labels.to_vec()));
    specs.push(format!("safetensors:{}", path("a.safetensors")));
    for spec in specs {
        let data = open(&spec).unwrap();
        let (rows, labels, _) = load(&*data, &[4, 0, 2], &image(3, 2, 4));
        assert_eq!(labels, [5, 3, 4], "{spec}");
        for (row, i) in rows.iter().zip([4, 0, 2]) {
            let expected: Vec<f32> = raw[i * 24..(i + 1) * 24].iter().map(|&v| f32::from(v) / 255.).collect();
            assert_eq!(row, &expected, "{spec} sample {i}");
        }
        rows_do_not_depend_on_their_neighbours(&*data, &image(3, 2, 4));
    }
}

#[test]
fn archives_written_by_numpy_itself_are_read() {
    for name in ["stored", "deflated"] {
        let data = open(&format!("{}/tests/data/{name}.npz", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let (rows, labels, _) = load(&*data, &[1, 0], &image(1, 3, 4));
        assert_eq!(labels, [2, 4]);
        assert_eq!(levels(&rows[1]), (0..12).map(|i| i * 7).collect::<Vec<u8>>());
        assert_eq!(levels(&rows[0]), (12..24).map(|i| i * 7).collect::<Vec<u8>>());
    }
}

#[test]
fn arrays_are_chosen_by_name_and_the_choice_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.npz");
    let (x, y) = (npy(&ndarray::Array3::<u8>::zeros((2, 3, 3))), npy(&ndarray::arr1(&[1u8, 0])));
    write(&path, &npz(&[("x_train.npy", &x), ("x_val.npy", &x), ("y_val.npy", &y)], false));
    let spec = path.to_str().unwrap();
    let error = open(spec).err().unwrap();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("x_train, x_val, y_val")), "{error}");
    let opened = open_with_notes(&format!("npz:{spec}?x=x_val&y=y_val")).unwrap();
    assert_eq!(opened.notes, ["images are `x_val`, labels are `y_val`"]);
    let other = open(&format!("npz:{spec}?x=x_train&y=y_val")).unwrap();
    assert_ne!(other.card().digest, opened.data.card().digest);
    write(&path, &npz(&[("x.npy", &x), ("images.npy", &x), ("y.npy", &y)], false));
    assert!(open(spec).err().unwrap().message.contains("both `x` and `images`"));
}

#[test]
fn large_arrays_are_read_by_seeking() {
    let dir = tempfile::tempdir().unwrap();
    let n = 200_000;
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (200000, 3, 32, 32)}";
    sparse(path("x.npy").as_ref(), &npy_header(header), n * 3072, &[(7 * 3072 + 5, 51)]);
    write(path("y.npy").as_ref(), &npy(&ndarray::Array1::from_elem(n as usize, 6u8)));
    let header = format!(
        r#"{{"x":{{"dtype":"U8","shape":[{n},3,32,32],"data_offsets":[0,{0}]}},"y":{{"dtype":"U8","shape":[{n}],"data_offsets":[{0},{1}]}}}}"#,
        n * 3072,
        n * 3073
    );
    let header = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    sparse(path("x.safetensors").as_ref(), &header, n * 3073, &[(7 * 3072 + 5, 51), (n * 3072 + 7, 6)]);
    for spec in [format!("npy:{},{}", path("x.npy"), path("y.npy")), path("x.safetensors")] {
        let data = open(&spec).unwrap();
        let (rows, labels, _) = load(&*data, &[7, n - 1], &image(3, 32, 32));
        assert_eq!((rows[0][5], labels[0], total(&rows[0]), total(&rows[1])), (0.2, 6, 51, 0));
    }
    if let Some(peak) = peak_memory() {
        assert!(peak < 400 << 20, "the process held {peak} bytes while reading files of 600 MB");
    }
}

#[test]
fn unknown_kinds_and_parameters_are_answered_with_the_nearest() {
    let usage = |spec: &str, hint: &str| {
        let error = open(spec).err().unwrap();
        assert_eq!(error.kind, Kind::Usage, "{spec}: {error}");
        assert!(error.to_string().contains(hint), "{spec}: {error}");
    };
    usage("minst:dir", "did you mean `mnist:`? known: builtin:, mnist:");
    usage("zebra:dir", "known: builtin:, mnist:");
    usage("builtin:mnits", "did you mean `builtin:mnist`?");
    usage("builtin:mnist?spit=test", "takes no parameters");
    usage("mnist:dir?spilt=test", "did you mean `?split=");
    usage("npz:f?x=a&x=b", "given twice");
    usage("npy:only.npy", "names one file");
    usage("folder:", "names no place");
    assert!(SOURCES.iter().all(|source| source.example.starts_with(source.scheme)));
}

#[test]
fn a_missing_file_is_answered_with_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("cifar.npz"), b"");
    for spec in [dir.path().join("cifra.npz").to_str().unwrap(), &format!("npz:{}/cifr.npz", dir.path().display())] {
        let error = open(spec).err().unwrap();
        assert_eq!(error.kind, Kind::Load);
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("cifar.npz")), "{error}");
    }
    write(&dir.path().join("data.bin"), b"");
    assert_eq!(open(dir.path().join("data.bin").to_str().unwrap()).err().unwrap().kind, Kind::Usage);
}
