//! Sets as their publishers ship them: CIFAR, CIFAR-C, WebDataset, lists of classes, Parquet; their facts, and their lies.

use super::files::*;
use super::{levels, load, rows_do_not_depend_on_their_neighbours};
use candle_core::Device;
use proptest::prelude::*;
use robust_benchmarks::data::{inspect, open, open_with_notes};
use robust_core::{Error, Kind, Preprocess, Resize, View};
use std::path::{Path, PathBuf};

fn stored(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn refused(spec: &str) -> Error {
    let error = open(spec).err().unwrap_or_else(|| panic!("{spec} was opened"));
    assert_eq!(error.kind, Kind::Load, "{spec}: {error}");
    error
}

/// A folder with these files in it.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| write(&dir.path().join(name), bytes));
    dir
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

#[test]
fn cifar_is_the_same_whether_binary_or_pickled_in_a_folder_or_an_archive() {
    let bin = stored("cifar/test_batch.bin");
    let (p2, p3, p4) = (stored("cifar/test_batch.p2"), stored("cifar/test_batch.p3"), stored("cifar/test_batch.p4"));
    let meta = stored("cifar/batches.meta.p2");
    let dir = tempfile::tempdir().unwrap();
    let mut specs = vec![];
    let cases: [(&str, &str, &[u8]); 4] = [
        ("a", "cifar-10-batches-bin/test_batch.bin", &bin),
        ("b", "cifar-10-batches-py/test_batch", &p2),
        ("c", "test_batch", &p4),
        ("d", "test_batch", &p3),
    ];
    for (below, name, bytes) in cases {
        let mut files = vec![(name.to_string(), bytes.to_vec())];
        if !name.ends_with("bin") {
            files.push((name.replace("test_batch", "batches.meta"), meta.clone()));
        }
        files.iter().for_each(|(name, bytes)| write(&dir.path().join(below).join(name), bytes));
        write(&dir.path().join(format!("{below}.tar")), &tar(&files));
        write(&dir.path().join(format!("{below}.tar.gz")), &gzip(&tar(&files)));
        specs.extend(["", ".tar", ".tar.gz"].map(|end| text(&dir.path().join(format!("{below}{end}")))));
    }
    for spec in specs {
        let data = open(&format!("cifar10:{spec}")).unwrap();
        let (rows, labels, _) = load(&*data, &[1, 0], &image(3, 32, 32));
        assert_eq!(labels, [8, 3], "{spec}");
        let ends = |row: &[f32]| (levels(row)[0], levels(row)[3071]);
        assert_eq!((ends(&rows[0]), ends(&rows[1])), ((22, 44), (11, 33)), "{spec}");
        assert_eq!(levels(&rows[1]), bin[1..3073]);
        let first = if spec.contains("/a") { "airplane" } else { "class 0" };
        assert_eq!(data.card().classes.as_ref().unwrap()[0], first);
        rows_do_not_depend_on_their_neighbours(&*data, &image(3, 32, 32));
    }
    // A folder of them needs no scheme.
    assert!(open(&text(&dir.path().join("b"))).unwrap().card().name.starts_with("cifar10:b?split=test"));
    assert!(refused(&format!("cifar10:{}?split=train", text(&dir.path().join("b")))).message.contains("data_batch_1"));
    assert_eq!(open("cifar10:.?split=tset").err().unwrap().kind, Kind::Usage);
}

#[test]
fn training_batches_follow_each_other_and_cifar_100_has_two_kinds_of_labels() {
    let record = |label: u8| [vec![label], vec![label * 20; 3072]].concat();
    let names = [1, 2, 3, 4, 5].map(|i| format!("data_batch_{i}.bin"));
    let batches = [1, 2, 3, 4, 5].map(|i| [record(i), record(i + 1)].concat());
    let files: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(batches.iter().map(Vec::as_slice)).collect();
    let dir = folder(&files);
    let data = open(&format!("cifar10:{}?split=train", text(dir.path()))).unwrap();
    let (rows, labels, _) = load(&*data, &[9, 0, 3, 4], &image(3, 32, 32));
    assert_eq!(labels, [6, 1, 3, 3]);
    assert_eq!(rows.iter().map(|row| levels(row)[5]).collect::<Vec<_>>(), [120, 20, 60, 60]);

    let hundred = folder(&[("test", &stored("cifar/test.p4")), ("meta", &stored("cifar/meta.p4"))]);
    let binary = folder(&[("test.bin", &stored("cifar/test.bin"))]);
    let mut digests = vec![];
    for dir in [&hundred, &binary] {
        for (kind, expected) in [("fine", [42, 99]), ("coarse", [7, 19])] {
            let data = open(&format!("cifar100:{}?labels={kind}", text(dir.path()))).unwrap();
            assert_eq!(load(&*data, &[0, 1], &image(3, 32, 32)).1, expected);
            digests.push(data.card().digest.clone());
        }
    }
    digests.dedup();
    assert_eq!(digests.len(), 4);
    let facts = inspect(&format!("cifar100:{}?labels=coarse", text(hundred.path()))).unwrap();
    assert_eq!(facts.classes[1].name.as_deref(), Some("coarse 19"));
}

#[test]
fn pickles_that_ask_for_more_than_data_are_refused_by_name() {
    let with = |bytes: &[u8]| {
        let dir = folder(&[("test_batch", bytes)]);
        refused(&format!("cifar10:{}", text(dir.path()))).message
    };
    assert!(with(b"\x80\x02cos\nsystem\nU\x04true\x85R.").contains("`os.system`, and nothing is executed"));
    assert!(with(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.").contains("`posix.system`"));
    assert!(with(b"\x80\x02cnumpy\nndarray\n)R.").contains("calls `numpy.ndarray`"));
    assert!(with(b"\x80\x02}P.").contains("operation 0x50"));
    assert!(with(&[b"(".repeat(100_000), b".".to_vec()].concat()).contains("broken pickle"));
    assert!(with(&[b"(l".repeat(2_000_000), b".".to_vec()].concat()).contains("other than a dict"));
    let deep = [b"]".to_vec(), b"\x85".repeat(1_000_000), b".".to_vec()].concat();
    assert!(with(&deep).contains("other than a dict"));
    assert!(with(&b"N".repeat(5_000_000)).contains("more than 4194304 objects"));
    let memo: Vec<u8> =
        (0..50_000u32).flat_map(|i| [&b"Nr"[..], &i.wrapping_mul(77_777).to_le_bytes(), b"0"].concat()).collect();
    assert!(with(&[memo, b"N.".to_vec()].concat()).contains("other than a dict"));
    assert!(with(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff").contains("truncated"));
    assert!(with(b"\x80\x02}U\x04dataT\xff\xff\xff\x7fx").contains("truncated"));
    assert!(with(b"\x80\x02}h\x05.").contains("broken"));
    assert!(with(b"\x80\x02}.").contains("no array `data`"));
    assert!(with(b"").contains("truncated"));
    let good = stored("cifar/test_batch.p2");
    for cut in [good.len() - 1, good.len() / 2, 100, 3] {
        with(&good[..cut]);
    }
    // A shape of more than the bytes that are there, and one label too few.
    let at = good.windows(4).position(|w| w == b"K\x02M\x00").unwrap();
    let mut lying = good.clone();
    lying[at + 1] = 200;
    assert!(with(&lying).contains("shape [200, 3072] has 6144 bytes"));
    let at = good.windows(4).position(|w| w == b"K\x03K\x08").unwrap();
    let fewer = [&good[..at], &good[at + 2..]].concat();
    assert!(with(&fewer).contains("2 images but 1 labels"));
    let mut far = good.clone();
    far[at + 1] = 10;
    assert!(with(&far).contains("label 10 of sample 0"));
}

#[test]
fn binary_batches_must_be_whole_records() {
    for bytes in [&[][..], &[0; 3072], &[0; 3074]] {
        let dir = folder(&[("test_batch.bin", bytes)]);
        assert!(refused(&format!("cifar10:{}", text(dir.path()))).message.contains("not records of 3073"));
    }
    let dir = folder(&[("test_batch.bin", &[vec![10], vec![0; 3072]].concat())]);
    assert!(refused(&format!("cifar10:{}", text(dir.path()))).message.contains("label 10"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(&format!("cifar10:{}", text(empty.path()))).message.contains("no file test_batch"));
}

#[test]
fn severities_are_fifths_of_the_images_with_all_labels_or_one_part_of_them() {
    let x = ndarray::Array4::from_shape_fn((20, 2, 2, 3), |(i, ..)| i as u8);
    let labels = ndarray::Array1::from_shape_fn(20, |i| (i % 4) as u8);
    let dir =
        folder(&[("x.npy", &npy(&x)), ("all.npy", &npy(&labels)), ("part.npy", &npy(&ndarray::arr1(&[0u8, 1, 2, 3])))]);
    let at = |name: &str| text(&dir.path().join(name));
    let mut digests = vec![];
    for (labels, severity) in [("all.npy", 1), ("all.npy", 5), ("part.npy", 3)] {
        let data = open(&format!("npy:{},{}?severity={severity}", at("x.npy"), at(labels))).unwrap();
        let (rows, labels, _) = load(&*data, &[0, 3], &image(3, 2, 2));
        assert_eq!((data.card().samples, labels), (4, vec![0, 3]));
        assert_eq!([levels(&rows[0])[0], levels(&rows[1])[0]], [(severity - 1) * 4, (severity - 1) * 4 + 3]);
        digests.push((data.card().name.clone(), data.card().digest.clone()));
    }
    assert!(digests[0].1 != digests[1].1 && digests[0].0.ends_with("?severity=1"));
    assert!(refused(&format!("npy:{},{}", at("x.npy"), at("part.npy"))).message.contains("20 images but 4 labels"));
    for severity in ["0", "6", "x"] {
        let error = open(&format!("npy:{},{}?severity={severity}", at("x.npy"), at("all.npy"))).err().unwrap();
        assert_eq!(error.kind, Kind::Usage);
    }
    write(&dir.path().join("odd.npy"), &npy(&ndarray::Array4::<u8>::zeros((7, 2, 2, 3))));
    let error = refused(&format!("npy:{},{}?severity=1", at("odd.npy"), at("all.npy")));
    assert!(error.message.contains("7 images are not 5 equal parts"));
}

#[test]
fn a_list_of_classes_gives_a_part_of_a_set_the_labels_of_the_whole() {
    let list = b"0,n1,ant\n1,n2,bee\n2,n3,crane\n3,n4,crane\n";
    let files = [("n4/0.png", png(1, 2, 2)), ("n2/0.png", png(2, 2, 2))];
    let dir = folder(&files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())));
    let root = text(dir.path());
    let plain = open(&root).unwrap();
    assert_eq!(load(&*plain, &[0, 1], &image(1, 2, 2)).1, [0, 1]);
    write(&dir.path().join("list.csv"), list);
    let listed = open(&format!("folder:{root}?classes={root}/list.csv")).unwrap();
    assert_eq!(load(&*listed, &[0, 1], &image(1, 2, 2)).1, [1, 3]);
    assert_ne!(listed.card().digest, plain.card().digest);
    // Beside the folders, under a usual name, it needs no asking.
    write(&dir.path().join("classes.csv"), list);
    let found = open_with_notes(&root).unwrap();
    assert_eq!(load(&*found.data, &[0, 1], &image(1, 2, 2)).1, [1, 3]);
    assert!(found.notes.iter().any(|note| note == "labels are those of classes.csv, 4 classes"), "{:?}", found.notes);
    assert_eq!(load(&*open(&format!("{root}?classes=sorted")).unwrap(), &[0, 1], &image(1, 2, 2)).1, [0, 1]);
    // One that does not know the folders is passed over with a word, unless it was asked for.
    write(&dir.path().join("classes.csv"), b"0,other\n");
    let found = open_with_notes(&root).unwrap();
    assert!(found.notes.iter().any(|note| note.contains("`n2` is not in the list")), "{:?}", found.notes);
    assert!(refused(&format!("{root}?classes={root}/classes.csv")).message.contains("`n2` is not in the list"));
    write(&dir.path().join("crane/0.png"), &png(1, 2, 2));
    assert!(refused(&format!("{root}?classes={root}/list.csv")).message.contains("two classes of the list"));
}

#[test]
fn the_users_rule_wins_over_the_models_and_a_crop_needs_room() {
    let dir = folder(&[("a/0.png", &png(9, 8, 6)), ("b/1.png", &png(7, 20, 20)), ("b/2.png", &png(7, 3, 3))]);
    let root = text(dir.path());
    let mut view = image(3, 4, 4);
    assert!(open(&root).unwrap().load(&[0], &view, &Device::Cpu).is_err());
    view.preprocess = Some(Preprocess { resize: Some(Resize::Exact(4, 4)), ..Preprocess::default() });
    let (rows, _, failed) = load(&*open(&root).unwrap(), &[0, 1, 2], &view);
    assert!(rows.len() == 3 && failed.is_empty() && levels(&rows[0]) == [9; 48]);
    let cropped = open(&format!("{root}?crop=4")).unwrap();
    let (rows, _, failed) = load(&*cropped, &[0, 1, 2], &view);
    assert_eq!((rows.len(), failed[0].1.as_str()), (2, "b/2.png: is 3x3, smaller than the crop of 4x4"));
    let error = open(&format!("{root}?resize=5x4")).unwrap().load(&[0], &image(3, 4, 4), &Device::Cpu).unwrap_err();
    assert!(error.message.contains("wants 3x4x4, the data set has 1x5x4"), "{error}");
    for bad in ["resize=0", "resize=4x", "crop=-1", "resize=99999", "resize=4&interpolation=cubic", "interpolation=box"]
    {
        assert_eq!(open(&format!("{root}?{bad}")).err().unwrap().kind, Kind::Usage, "{bad}");
    }
}

fn shard(first: usize, count: usize) -> Vec<u8> {
    let mut entries = vec![];
    for i in first..first + count {
        entries.push((format!("d/{i:04}.png"), png(i as u8, 3, 2)));
        match i % 2 {
            0 => entries.push((format!("d/{i:04}.cls"), format!("{}\n", i % 7).into_bytes())),
            _ => entries.push((format!("d/{i:04}.json"), format!(r#"{{"w": 3, "label": {}}}"#, i % 7).into_bytes())),
        }
        entries.push((format!("d/{i:04}.txt"), b"a caption".to_vec()));
    }
    tar(&entries)
}

#[test]
fn shards_are_one_set_named_by_pattern_folder_or_file() {
    let dir =
        folder(&[("s-000.tar", &shard(0, 3)), ("s-001.tar", &shard(3, 2)), ("s-002.tar.gz", &gzip(&shard(5, 4)))]);
    let root = text(dir.path());
    let mut digests = vec![];
    for (spec, samples) in
        [(root.clone(), 9), (format!("{root}/s-{{000..001}}.tar"), 5), (format!("{root}/s-002.tar.gz"), 4)]
    {
        let opened = open_with_notes(&format!("wds:{spec}")).unwrap();
        assert_eq!(opened.data.card().samples, samples, "{spec}");
        let first = if samples == 4 { 5 } else { 0 };
        let ids: Vec<u64> = (0..samples).rev().collect();
        let (rows, labels, failed) = load(&*opened.data, &ids, &image(1, 2, 3));
        assert!(failed.is_empty());
        for ((row, label), id) in rows.iter().zip(labels).zip(ids) {
            assert_eq!((levels(row), label), (vec![(id + first) as u8; 6], ((id + first) % 7) as u32), "{spec} {id}");
        }
        digests.push(opened.data.card().digest.clone());
    }
    digests.dedup();
    assert_eq!(digests.len(), 3);
    let resized = open(&format!("wds:{root}?resize=4x4")).unwrap();
    assert_eq!(levels(&load(&*resized, &[2], &image(1, 4, 4)).0[0]), [2; 16]);
    assert_eq!(open(&format!("wds:{root}/s-{{9..1}}.tar")).err().unwrap().kind, Kind::Usage);
    assert_eq!(open(&format!("wds:{root}/s-{{0..99999999999}}.tar")).err().unwrap().kind, Kind::Usage);
    assert!(refused(&format!("wds:{root}/s-{{000..007}}.tar")).message.contains("no such file"));
}

#[test]
fn shards_that_lie_are_refused() {
    let with = |entries: &[(&str, &[u8])]| {
        let entries: Vec<_> = entries.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        let dir = folder(&[("a.tar", &tar(&entries)), ("b.tar.gz", &gzip(&tar(&entries)))]);
        let plain = refused(&format!("wds:{}/a.tar", text(dir.path()))).message;
        let packed = refused(&format!("wds:{}/b.tar.gz", text(dir.path()))).message;
        assert_eq!(plain.replace("a.tar", ""), packed.replace("b.tar.gz", ""));
        plain
    };
    let image = png(1, 2, 2);
    assert!(with(&[("0.png", &image)]).contains("sample 0 has no label"));
    assert!(with(&[("0.png", &image), ("0.json", b"{}")]).contains("has no label"));
    assert!(with(&[("0.cls", b"1")]).contains("no images"));
    assert!(with(&[("0.png", &image), ("0.jpg", &image), ("0.cls", b"1")]).contains("two images"));
    assert!(
        with(&[("0.png", &image), ("0.cls", b"1"), ("0.json", br#"{"label": 2}"#)]).contains("label 2, but 1 beside")
    );
    assert!(with(&[("0.png", &image), ("0.cls", b"-1")]).contains("`-1` is not a class number"));
    assert!(with(&[("0.png", &image), ("0.cls", b"")]).contains("is not a class number"));
    assert!(with(&[("0.png", &image), ("0.json", &b"[".repeat(100_000))]).contains("0.json"));
    assert!(with(&[("0.png", &image), ("0.cls", &vec![b'1'; 2 << 20])]).contains("are not a label"));
    let broken = folder(&[("a.tar", &shard(0, 2)[..1500]), ("empty.tar", b"")]);
    refused(&format!("wds:{}/a.tar", text(broken.path())));
    refused(&format!("wds:{}/empty.tar", text(broken.path())));
    let none = tempfile::tempdir().unwrap();
    assert!(refused(&format!("wds:{}", text(none.path()))).message.contains("no .tar files"));
}

#[test]
fn an_archive_is_unpacked_once_where_a_cache_is_named() {
    let entries = [("t/a/0.png".to_string(), png(1, 2, 2)), ("t/b/0.png".to_string(), png(2, 2, 2))];
    let dir = folder(&[("t.tar.gz", &gzip(&tar(&entries)))]);
    let (cache, root) = (text(&dir.path().join("cache")), text(dir.path()));
    let spec = format!("folder:{root}/t.tar.gz?cache={cache}");
    let plain = open(&format!("folder:{root}/t.tar.gz")).unwrap();
    for word in ["kept for the next time", "found unpacked"] {
        let opened = open_with_notes(&spec).unwrap();
        assert!(opened.notes.iter().any(|note| note.contains(word) && note.contains("MB")), "{:?}", opened.notes);
        assert_eq!(opened.data.card(), plain.card());
        assert_eq!(load(&*opened.data, &[1, 0], &image(1, 2, 2)), load(&*plain, &[1, 0], &image(1, 2, 2)));
    }
    let kept: Vec<PathBuf> = Path::new(&cache).read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "the unpacked archive, and the digest of what it holds");
    // A damaged archive leaves nothing behind.
    let packed = gzip(&tar(&entries));
    write(&dir.path().join("t.tar.gz"), &packed[..packed.len() / 2]);
    assert!(open(&spec).is_err());
    assert_eq!(Path::new(&cache).read_dir().unwrap().count(), 2);
}

#[test]
fn inspect_tells_what_a_set_is() {
    let dir =
        folder(&[("a/0.png", &png(51, 4, 3)), ("a/1.png", b"broken"), ("b/0.png", &png(255, 4, 3)), ("c/x.txt", b"")]);
    let facts = inspect(&format!("{}?resize=6x8", text(dir.path()))).unwrap();
    assert_eq!((facts.format.as_str(), facts.samples, facts.shape), ("folder", 3, Some(vec![3, 6, 8])));
    let counts: Vec<_> = facts.classes.iter().map(|c| (c.label, c.name.as_deref().unwrap(), c.samples)).collect();
    assert_eq!(counts, [(0, "a", 2), (1, "b", 1)]);
    assert_eq!((facts.range, facts.unreadable.len()), (Some((0.2, 1.)), 1));
    assert_eq!(facts.preprocess.unwrap().resize, Some(Resize::Exact(6, 8)));
    assert_eq!(facts.notes, ["class folder c holds no images; it keeps its label"]);
    let facts = inspect("builtin:mnist").unwrap();
    assert_eq!((facts.format.as_str(), facts.classes.len(), facts.range), ("builtin", 10, Some((0., 1.))));
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<robust_benchmarks::data::DataFacts>(&text).unwrap(), facts);
}

#[test]
fn webp_images_are_samples_and_truncated_ones_fail_alone() {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../imaging/tests/pillow/webp-lossless.webp"))
        .unwrap();
    let jpeg = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../imaging/tests/pillow/base-420-37x29.jpg"))
        .unwrap();
    let files = [
        ("a/0.webp", &bytes[..]),
        ("a/1.webp", &bytes[..bytes.len() / 2]),
        ("b/0.jpg", &jpeg[..]),
        ("b/1.jpg", &jpeg[..jpeg.len() / 2]),
        ("b/2.jpg", &[]),
    ];
    let dir = folder(&files);
    let (rows, _, failed) = load(&*open(&text(dir.path())).unwrap(), &[0, 1, 2, 3, 4], &image(3, 29, 37));
    assert_eq!((rows.len(), failed.iter().map(|(id, _)| *id).collect::<Vec<_>>()), (2, vec![1, 3, 4]));
    assert!(failed[1].1.contains("truncated"), "{failed:?}");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_parquet_says_how_to_get_one_with_it() {
    let error = open("parquet:somewhere.parquet").err().unwrap();
    assert_eq!(error.kind, Kind::Usage);
    assert!(error.hint.unwrap().contains("--features parquet"));
}

#[cfg(feature = "parquet")]
mod parquet {
    use super::*;

    fn at(name: &str) -> String {
        format!("parquet:{}/tests/data/parquet/{name}.parquet", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn files_of_every_packing_are_the_same_samples() {
        for name in ["none", "snappy", "zstd", "gzip", "v2", "plain", "cifar"] {
            let data = open(&at(name)).unwrap();
            let ids: Vec<u64> = (0..10).rev().collect();
            let (rows, labels, failed) = load(&*data, &ids, &image(1, 4, 5));
            assert!(failed.is_empty(), "{name}: {failed:?}");
            assert_eq!(labels, [3, 5, 6, 2, 9, 5, 1, 4, 1, 3], "{name}");
            rows.iter().zip(&ids).for_each(|(row, id)| assert_eq!(levels(row), vec![*id as u8 * 10; 20], "{name}"));
            rows_do_not_depend_on_their_neighbours(&*data, &image(1, 4, 5));
        }
        let coarse = open(&(at("cifar") + "?labels=coarse_label&resize=8x8")).unwrap();
        assert_eq!(load(&*coarse, &[9, 1], &image(3, 8, 8)).1, [0, 0]);
        assert_ne!(coarse.card().digest, open(&at("cifar")).unwrap().card().digest);
        let facts = inspect(&at("v2")).unwrap();
        assert_eq!((facts.format.as_str(), facts.samples, facts.shape), ("parquet", 10, Some(vec![3, 4, 5])));
    }

    #[test]
    fn rows_without_an_image_fail_alone_and_other_holes_are_refused() {
        let (rows, _, failed) = load(&*open(&at("holes")).unwrap(), &[1, 2, 3, 5], &image(1, 4, 5));
        assert_eq!((rows.len(), failed.len(), failed[0].1.as_str()), (2, 2, "row 2: has no image"));
        assert!(refused(&at("nolabel")).message.contains("a sample has no label"));
        assert!(refused(&at("lz4")).message.contains("are not read"));
        assert!(refused(&(at("none") + "?labels=lable")).message.contains("it has: image.bytes, image.path, label"));
        let file = stored("parquet/none.parquet");
        let dir = folder(&[("test-0.parquet", &file), ("train-0.parquet", &file)]);
        assert!(refused(&format!("parquet:{}", text(dir.path()))).message.contains("several splits: test, train"));
        let dir = folder(&[("test-0.parquet", &file), ("test-1.parquet", &file), ("readme.md", b"")]);
        let data = open(&format!("parquet:{}", text(dir.path()))).unwrap();
        let (rows, labels, _) = load(&*data, &[19, 10], &image(1, 4, 5));
        assert_eq!((levels(&rows[0])[0], levels(&rows[1])[0], labels), (90, 0, vec![3, 3]));
    }

    #[test]
    fn files_that_are_cut_or_nest_without_end_are_refused() {
        let file = stored("parquet/snappy.parquet");
        for cut in [0, 3, 7, 8, 12, file.len() / 2, file.len() - 1] {
            let dir = folder(&[("a.parquet", &file[..cut])]);
            refused(&text(&dir.path().join("a.parquet")));
        }
        // A schema of nothing but groups with one child each: the library would follow it down the stack.
        let element = [0x58, 1, b'a', 0x15, 2, 0];
        let count = 200_000usize;
        let mut footer = vec![0x15, 2, 0x19, 0xFC];
        footer.extend([(count & 0x7F) as u8 | 0x80, (count >> 7 & 0x7F) as u8 | 0x80, (count >> 14) as u8]);
        footer.extend([0x48, 1, b'a', 0x15, 2, 0].repeat(count));
        assert_eq!(element.len(), 6);
        let bytes = [b"PAR1", footer.as_slice(), &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
        let dir = folder(&[("a.parquet", &bytes)]);
        assert!(refused(&text(&dir.path().join("a.parquet"))).message.contains("levels deep"));
        let bytes = [b"PAR1", &[0x19; 64][..], &u32::MAX.to_le_bytes(), b"PAR1"].concat();
        let dir = folder(&[("a.parquet", &bytes)]);
        assert!(refused(&text(&dir.path().join("a.parquet"))).message.contains("footer of 4294967295 bytes"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn damaged_sets_are_answers_not_panics(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..10)) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let cases = [
            ("cifar10", "test_batch", stored("cifar/test_batch.p2"), image(3, 32, 32)),
            ("cifar10", "test_batch", stored("cifar/test_batch.p4"), image(3, 32, 32)),
            ("cifar100", "test", stored("cifar/test.p4"), image(3, 32, 32)),
            ("cifar100", "meta", stored("cifar/meta.p4"), image(3, 32, 32)),
            ("wds", "s.tar", shard(0, 2), image(1, 2, 3)),
            ("wds", "s.tar.gz", gzip(&shard(0, 2)), image(1, 2, 3)),
            ("folder", "classes.txt", b"0,a\n1,b\n".to_vec(), image(3, 3, 3)),
            ("parquet", "a.parquet", stored("parquet/snappy.parquet"), image(1, 4, 5)),
            ("parquet", "b.parquet", stored("parquet/v2.parquet"), image(1, 4, 5)),
            ("parquet", "c.parquet", stored("parquet/zstd.parquet"), image(1, 4, 5)),
        ];
        write(&at("a/0.png"), &png(1, 3, 3));
        for (scheme, name, mut bytes, view) in cases {
            // Most of these files is pixels: half of the damage goes to the first and last of them.
            let len = bytes.len();
            for (i, &(place, value)) in flips.iter().enumerate() {
                let near = place % len.min(200);
                bytes[match i % 3 { 0 => place % len, 1 => near, _ => len - 1 - near }] = value;
            }
            write(&at(name), &bytes);
            let place = if matches!(scheme, "wds" | "parquet") { at(name) } else { dir.path().to_path_buf() };
            answer(&format!("{scheme}:{}", text(&place)), &view);
        }
    }
}

fn answer(spec: &str, view: &View) {
    if let Ok(data) = open(spec) {
        let ids: Vec<u64> = (0..data.card().samples.min(4)).collect();
        let _ = data.load(&ids, view, &Device::Cpu);
        let _ = inspect(spec);
    }
}
