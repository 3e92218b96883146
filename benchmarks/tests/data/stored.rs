//! Images, arrays and labels as people store them: every way gives the same pixels and classes, or a sentence that mends it.

use super::files::*;
use super::load;
use robust_benchmarks::data::{inspect, open, open_with_notes};
use robust_core::Kind;

#[test]
fn arrays_go_by_the_names_that_libraries_give_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.npz");
    let (x, y) = (npy(&ndarray::Array3::<u8>::zeros((2, 3, 3))), npy(&ndarray::arr1(&[1u8, 0])));
    let (other, wrong) = (npy(&ndarray::Array3::<u8>::ones((5, 2, 2))), npy(&ndarray::arr1(&[1u8; 5])));
    for (images, labels, beside) in [
        ("test_images", "test_labels", &["train_images", "val_images", "train_labels"][..]),
        ("x_test", "y_test", &["x_train", "y_train"]),
        ("arr_0", "arr_1", &[]),
        ("X", "Y", &["arr_0", "arr_1", "mean"]),
        ("image", "label", &["other"]),
        ("x", "y", &["x_test", "y_test", "adv_x"]),
    ] {
        let mut members = vec![(format!("{images}.npy"), &x), (format!("{labels}.npy"), &y)];
        members.extend(
            beside.iter().map(|name| (format!("{name}.npy"), if name.contains('y') { &wrong } else { &other })),
        );
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        write(&path, &npz(&members, false));
        let opened = open_with_notes(path.to_str().unwrap()).unwrap();
        assert_eq!(opened.notes, [format!("images are `{images}`, labels are `{labels}`")]);
        assert_eq!(load(&*opened.data, &[0, 1], &image(1, 3, 3)).1, [1, 0]);
    }
}

/// A .npy file of any type, which the writer here may lack.
fn raw_npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}");
    [npy_header(&header), body.to_vec()].concat()
}

#[test]
fn pixels_of_every_type_are_the_same_pixels() {
    let levels = [0u8, 51, 102, 255];
    let expected: Vec<f32> = levels.iter().map(|v| f32::from(*v) / 255.).collect();
    fn bytes<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
        values.flatten().collect()
    }
    let each = || levels.iter().copied();
    // 51 / 255 and 102 / 255 as numpy rounds them to halves.
    let halves = bytes([0u16, 0x3266, 0x3666, 0x3C00].into_iter().map(u16::to_le_bytes));
    let cases = [
        ("|u1", levels.to_vec(), ""),
        ("<i8", bytes(each().map(|v| i64::from(v).to_le_bytes())), "divided by 255"),
        (">i4", bytes(each().map(|v| i32::from(v).to_be_bytes())), "divided by 255"),
        ("<u2", bytes(each().map(|v| u16::from(v).to_le_bytes())), "divided by 255"),
        ("<u2", bytes(each().map(|v| (257 * u16::from(v)).to_le_bytes())), "divided by 65535"),
        ("<f8", bytes(each().map(|v| (f64::from(v) / 255.).to_le_bytes())), ""),
        (">f4", bytes(each().map(|v| (f32::from(v) / 255.).to_be_bytes())), ""),
        ("<f2", halves, ""),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    let y = npy(&ndarray::arr1(&[1u8]));
    for (descr, body, note) in cases {
        write(&path, &npz(&[("x.npy", &raw_npy(descr, "(1, 2, 2)", &body)), ("y.npy", &y)], false));
        let opened = open_with_notes(path.to_str().unwrap()).unwrap();
        let rows = load(&*opened.data, &[0], &image(1, 2, 2)).0;
        let room = if descr == "<f2" { 2e-4 } else { 0. };
        assert!(rows[0].iter().zip(&expected).all(|(a, b)| (a - b).abs() <= room), "{descr}: {rows:?}");
        assert_eq!(opened.data.domain(), Some((0., 1.)));
        assert!(opened.notes.join(" ").contains(note), "{descr}: {:?}", opened.notes);
    }
    for (descr, body) in [("|b1", vec![0, 1, 1, 0]), ("<i2", vec![0, 0, 1, 0, 1, 0, 0, 0])] {
        write(&path, &npz(&[("x.npy", &raw_npy(descr, "(1, 2, 2)", &body)), ("y.npy", &y)], false));
        let opened = open_with_notes(path.to_str().unwrap()).unwrap();
        assert_eq!(load(&*opened.data, &[0], &image(1, 2, 2)).0[0], [0., 1., 1., 0.]);
        assert!(opened.notes.join(" ").contains("as "), "{descr}: {:?}", opened.notes);
    }
}

#[test]
fn labels_of_every_type_and_shape_are_the_same_labels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    let x = npy(&ndarray::Array3::<u8>::zeros((3, 2, 2)));
    let hot: Vec<u8> = [0f32, 0., 1., 1., 0., 0., 0., 1., 0.].iter().flat_map(|v| v.to_le_bytes()).collect();
    let floats: Vec<u8> = [2f32, 0., 1.].iter().flat_map(|v| v.to_le_bytes()).collect();
    let good = [
        ("|u1", "(3,)", vec![2, 0, 1], ""),
        ("|u1", "(3, 1)", vec![2, 0, 1], ""),
        ("|u1", "(1, 3)", vec![2, 0, 1], ""),
        ("|u1", "(3, 1, 1)", vec![2, 0, 1], ""),
        (">i2", "(3,)", vec![0, 2, 0, 0, 0, 1], ""),
        ("<f4", "(3,)", floats, "floating-point whole numbers"),
        ("<f4", "(3, 3)", hot, "one-hot rows of 3 classes"),
        ("|u1", "(3, 3)", vec![0, 0, 1, 1, 0, 0, 0, 1, 0], "one-hot"),
    ];
    let write_labels = |descr: &str, shape: &str, body: &[u8]| {
        write(&path, &npz(&[("x.npy", &x), ("y.npy", &raw_npy(descr, shape, body))], false));
        open_with_notes(path.to_str().unwrap())
    };
    for (descr, shape, body, note) in good {
        let opened = write_labels(descr, shape, &body).unwrap();
        assert_eq!(opened.data.labels(&[0, 1, 2]).unwrap(), [2, 0, 1], "{descr} {shape}");
        assert!(opened.notes.join(" ").contains(note), "{:?}", opened.notes);
    }
    let bools = write_labels("|b1", "(3,)", &[1, 0, 1]).unwrap();
    assert_eq!(bools.data.labels(&[0, 1, 2]).unwrap(), [1, 0, 1]);
    let half = 0.5f32.to_le_bytes();
    let bad = [
        ("|i1", "(3,)", vec![0, 255, 1], "label -1 of sample 1", "keep = y >= 0"),
        ("<f4", "(3,)", [half, half, half].concat(), "label 0.5 of sample 0", "astype('int64')"),
        ("|u1", "(3, 3)", vec![0, 0, 1, 1, 1, 0, 0, 1, 0], "the row of sample 1", "argmax(1)"),
        ("|u1", "(3, 2, 2)", vec![0; 12], "one number per image", "shape [n]"),
        ("<U1", "(3,)", vec![0; 12], "text", "np.unique"),
        ("|O", "(3,)", vec![0; 24], "never executed", "astype('int64')"),
        ("|u1", "()", vec![3], "a single number", ""),
        ("|u1", "(0,)", vec![], "no elements", ""),
        ("|u1", "(2,)", vec![0, 1], "3 images but 2 labels", "one label per image"),
    ];
    for (descr, shape, body, why, hint) in bad {
        let error = write_labels(descr, shape, &body).err().unwrap();
        assert!(error.message.contains(why), "{descr} {shape}: {error}");
        assert!(error.hint.unwrap_or_default().contains(hint), "{descr} {shape}");
    }
}

#[test]
fn labels_are_moved_by_the_offset_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    let (x, y) = (npy(&ndarray::Array3::<u8>::zeros((3, 2, 2))), npy(&ndarray::arr1(&[1u8, 2, 3])));
    write(&path, &npz(&[("x.npy", &x), ("y.npy", &y)], false));
    let at = |query: &str| open(&format!("npz:{}{query}", path.display()));
    let lowered = at("?offset=-1").unwrap();
    assert_eq!(load(&*lowered, &[0, 2], &image(1, 2, 2)).1, [0, 2]);
    assert_eq!(lowered.labels(&[1]).unwrap(), [1]);
    assert!(lowered.card().name.ends_with("?offset=-1"));
    assert_ne!(lowered.card().digest, at("").unwrap().card().digest);
    let error = at("?offset=-2").err().unwrap();
    assert!(error.message.contains("label 1 of sample 0 becomes -1"), "{error}");
    assert_eq!(at("?offset=one").err().unwrap().kind, Kind::Usage);
    let root = dir.path().join("f");
    write(&root.join("a/0.png"), &png(1, 2, 2));
    let moved = open(&format!("folder:{}?offset=1", root.display())).unwrap();
    assert_eq!(
        (moved.labels(&[0]).unwrap(), moved.card().classes.clone().unwrap()),
        (vec![1], vec![String::new(), "a".into()])
    );
}

#[test]
fn transparent_and_sixteen_bit_images_are_read_and_told() {
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
    let dir = tempfile::tempdir().unwrap();
    let encode = |samples: &[u8], kind: ExtendedColorType| {
        let mut bytes = vec![];
        PngEncoder::new(&mut bytes).write_image(samples, 1, 1, kind).unwrap();
        bytes
    };
    write(&dir.path().join("a/0.png"), &encode(&[0, 0, 0, 0], ExtendedColorType::Rgba8));
    write(&dir.path().join("a/1.png"), &encode(&32896u16.to_ne_bytes(), ExtendedColorType::L16));
    write(&dir.path().join("a/2.ppm"), b"P6 1 1 255\n\x01\x02\x03");
    let spec = dir.path().to_str().unwrap().to_string();
    let data = open(&spec).unwrap();
    assert!(data.remarks().is_empty());
    let rows = load(&*data, &[0, 1, 2], &image(3, 1, 1)).0;
    assert_eq!(rows[0], [1.; 3]);
    assert_eq!(rows[1], [32896. / 65535.; 3]);
    assert_eq!(rows[2], [1. / 255., 2. / 255., 3. / 255.]);
    assert_eq!(data.remarks(), ["1 images are partly transparent and were laid over white, the first of them a/0.png"]);
    let data = open(&format!("folder:{spec}?resize=1x1")).unwrap();
    assert_eq!(load(&*data, &[1], &image(3, 1, 1)).0[0], [128. / 255.; 3]);
    assert!(data.remarks()[0].contains("rounded to 8"), "{:?}", data.remarks());
}

#[test]
fn a_huge_image_is_looked_at_within_a_budget() {
    let dir = tempfile::tempdir().unwrap();
    let huge = image::RgbImage::new(8000, 8000);
    let mut bytes = std::io::Cursor::new(vec![]);
    huge.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    write(&dir.path().join("a/0.png"), &bytes.into_inner());
    write(&dir.path().join("a/1.png"), &png(51, 4, 4));
    let facts = inspect(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((facts.shape, facts.range), (Some(vec![3, 8000, 8000]), Some((0.2, 0.2))));
    assert!(
        facts.notes.iter().any(|note| note.contains("1 of the images looked at were not decoded")),
        "{:?}",
        facts.notes
    );
}
