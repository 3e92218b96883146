//! Files of before PyTorch 1.6, made by hand: what they claim is held against what is there.

use super::crafted::{bounded, error, floats_of, global, int, text, tuple};
use crate::files::pth::legacy;
use crate::files::pth::read;
use proptest::prelude::*;

/// A file of these parts: its object, the names of its storages, each storage's number of elements and bytes.
fn old(object: &[u8], names: &[&str], storages: &[(u64, &[u8])]) -> Vec<u8> {
    with_machine(b"\x88", object, names, storages)
}

fn with_machine(little: &[u8], object: &[u8], names: &[&str], storages: &[(u64, &[u8])]) -> Vec<u8> {
    let magic = [b"\x80\x02", legacy::MAGIC, b"."].concat();
    let machine = [b"\x80\x02}", &text("little_endian")[..], little, b"s."].concat();
    let names: Vec<u8> = names.iter().flat_map(|n| text(n)).collect();
    let data: Vec<u8> = storages.iter().flat_map(|(n, bytes)| [&n.to_le_bytes()[..], bytes].concat()).collect();
    [&magic[..], b"\x80\x02M\xe9\x03.", &machine, object, b"\x80\x02](", &names, b"e.", &data].concat()
}

/// The object `{"w": tensor}` by the first function that rebuilt tensors, of a storage of six elements or of a part of it.
fn object(view: &[u8], size: &[i64], stride: &[i64]) -> Vec<u8> {
    let parts = [
        b"\x80\x02}".to_vec(),
        text("w"),
        global("torch._utils", "_rebuild_tensor"),
        b"((".to_vec(),
        text("storage"),
        global("torch", "FloatStorage"),
        text("7"),
        text("cuda:0"),
        int(6),
        view.to_vec(),
        b"tQ".to_vec(),
        int(0),
        tuple(size),
        tuple(stride),
        b"tRs.".to_vec(),
    ];
    parts.concat()
}

fn six() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn part(start: i64, len: i64) -> Vec<u8> {
    [b"(".to_vec(), text("70"), int(start), int(len), b"t".to_vec()].concat()
}

#[test]
fn storages_behind_the_pickle_are_read_whole_and_in_parts() {
    let whole = old(&object(b"N", &[2, 2], &[1, 3]), &["7"], &[(6, &six())]);
    assert_eq!(floats_of(&whole), [0., 3., 1., 4.]);
    let some = old(&object(&part(2, 3), &[3], &[1]), &["7"], &[(6, &six())]);
    assert_eq!(floats_of(&some), [2., 3., 4.]);
    // Protocol 4 puts a frame before the magic number.
    let framed = [b"\x80\x04\x95\x0d\0\0\0\0\0\0\0", &whole[2..]].concat();
    assert_eq!(floats_of(&framed), [0., 3., 1., 4.]);
    let more = [&whole[..], b"more"].concat();
    assert_eq!(read(&more, None).unwrap().notes, ["4 bytes behind the last tensor of the file are not read"]);
}

#[test]
fn what_old_files_claim_beyond_what_they_hold_is_refused() {
    let fits = object(b"N", &[6], &[1]);
    let good = six();
    for (file, why) in [
        (old(&object(&part(4, 3), &[3], &[1]), &["7"], &[(6, &good)]), "3 elements at 4 leave its storage of 6"),
        (old(&object(&part(i64::MAX, 3), &[3], &[1]), &["7"], &[(6, &good)]), "leave its storage"),
        (old(&object(&part(2, 3), &[4], &[1]), &["7"], &[(6, &good)]), "leaves its storage of 3 elements"),
        (old(&object(b"K\x01", &[3], &[1]), &["7"], &[(6, &good)]), "the part of its storage is a number"),
        (old(&object(b"N", &[7], &[1]), &["7"], &[(6, &good)]), "leaves its storage of 6 elements"),
        (old(&fits, &["7"], &[(5, &good)]), "has 5 elements, 6 are expected"),
        (old(&fits, &["7"], &[(u64::MAX, &good)]), "18446744073709551615 elements, 6 are expected"),
        (old(&fits, &["7"], &[(6, &good[..23])]), "claims 6 elements of 4 bytes, the file has 23 more"),
        (old(&fits, &["7"], &[]), "it ends before the storage `7`"),
        (old(&fits, &[], &[]), "its storage `7` is not in the file"),
        (old(&fits, &["7", "7"], &[(6, &good), (6, &good)]), "is there twice"),
        (old(&fits, &["7", "8"], &[(6, &good), (6, &good)]), "the storage `8` belongs to no tensor"),
        (with_machine(b"\x89", &fits, &["7"], &[(6, &good)]), "big-endian"),
        (old(&[b"\x80\x02", &global("os", "system")[..], &text("true"), b"\x85R."].concat(), &[], &[]), "`os.system`"),
        (old(b"\x80\x02N.", &[], &[]), "it is None, not a dict of tensors"),
    ] {
        let error = error(&file);
        assert!(error.message.contains(why) && error.hint.is_some(), "{why}: {error}");
    }
    let huge = [&text("w")[..], &global("torch._utils", "_rebuild_tensor"), b"(("].concat();
    let claim =
        [&text("storage")[..], &global("torch", "DoubleStorage"), &text("7"), b"N", &int(1 << 61), b"NtQ"].concat();
    let object = [b"\x80\x02}", &huge[..], &claim, b"K\x00))tRs."].concat();
    assert!(error(&old(&object, &["7"], &[(1 << 61, &good)])).message.contains("claims 2305843009213693952 elements"));
}

#[test]
fn classes_come_with_their_source_which_is_passed_over() {
    let class = [
        b"(".to_vec(),
        text("module"),
        global("__main__", "Net"),
        text("net.py"),
        text("class Net: ..."),
        b"tQ".to_vec(),
    ];
    let tensor = object(b"N", &[6], &[1]);
    let start = tensor.iter().position(|&b| b == b'c').unwrap();
    // As PyTorch before 1.0 kept parameters.
    let parameter =
        [&global("torch.nn.parameter", "Parameter")[..], &tensor[start..tensor.len() - 2], b"\x88\x86R"].concat();
    let dict = |name: &str, inside: &[u8]| [&text(name)[..], b"}(", inside, b"u"].concat();
    let state = [
        &b"}("[..],
        &dict("_parameters", &[&text("w")[..], &parameter, &text("none"), b"N"].concat()),
        &dict("_buffers", b""),
        &dict("_modules", b""),
        b"u",
    ];
    let module = [&b"\x80\x02"[..], &class.concat(), b")\x81", &state.concat(), b"b."].concat();
    let bytes = old(&module, &["7"], &[(6, &six())]);
    assert_eq!(floats_of(&bytes), [0., 1., 2., 3., 4., 5.]);
    assert!(read(&bytes, None).unwrap().notes[0].contains("global `__main__.Net`"));
    // An object that is not a module: only its code knows what is in it, and the way out comes first.
    let other = [&b"\x80\x02"[..], &class.concat(), b")\x81", &dict("a", b"")[6..], b"b."].concat();
    let error = error(&old(&other, &[], &[]));
    let hint = error.hint.unwrap();
    assert!(error.message.contains("`__main__.Net`") && hint.starts_with("export it where its code is"), "{hint}");
    assert!(hint.contains("torch.onnx.export(model.eval()"), "{hint}");
}

#[test]
fn modules_that_hold_themselves_or_each_other_many_times_end() {
    let dict = |name: &str, inside: &[u8]| [&text(name)[..], b"}(", inside, b"u"].concat();
    let state = |modules: &[u8]| {
        [b"}(".to_vec(), dict("_parameters", b""), dict("_buffers", b""), dict("_modules", modules), b"ub".to_vec()]
            .concat()
    };
    let new = [global("a", "M"), b")\x81".to_vec()].concat();
    let own = [
        b"\x80\x02".to_vec(),
        new.clone(),
        b"q\x00".to_vec(),
        state(&[text("m"), b"h\x00".to_vec()].concat()),
        b".".to_vec(),
    ];
    let why = error(&old(&own.concat(), &[], &[]));
    assert!(why.message.contains("the module `m` holds itself"), "{why}");
    let mut wide = [b"\x80\x02".to_vec(), new.clone(), state(b""), b"q\x00".to_vec()].concat();
    for level in 1u8..60 {
        let get = [b'h', level - 1];
        let both = [text("a"), get.to_vec(), text("b"), get.to_vec()].concat();
        wide.extend([new.clone(), state(&both), vec![b'q', level]].concat());
    }
    wide.push(b'.');
    assert!(error(&old(&wide, &[], &[])).message.contains("more memory than the whole file accounts for"));
}

#[test]
fn an_old_file_cut_anywhere_is_a_load_error() {
    let bytes = include_bytes!("../../../../tests/golden/legacy.pth");
    (0..bytes.len()).for_each(|cut| drop(error(&bytes[..cut])));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_byte_flips_in_old_files_never_panic_nor_make_more_than_the_file_accounts_for(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..5),
    ) {
        let files: [&[u8]; 3] = [
            include_bytes!("../../../../tests/golden/legacy.pth"),
            include_bytes!("../../../../tests/golden/old_sequential.pth"),
            &old(&object(&part(2, 3), &[3], &[1]), &["7"], &[(6, &six())]),
        ];
        let mut bytes = files[which].to_vec();
        changes.iter().for_each(|(place, value)| bytes[place.index(files[which].len())] ^= value);
        bounded(&bytes)?;
    }
}
