//! Zip archives of a pickle and storages: what they claim is held against what is there.

use super::crafted::{checkpoint, claims, error, floats, global, text, zip};
use crate::files::pth::legacy;
use crate::files::pth::read;

#[test]
fn a_small_checkpoint_is_read_with_its_strides() {
    let bytes = floats(6, 1, &[2, 2], &[1, 2]);
    let read = read(&bytes, None).unwrap();
    let (name, dtype, shape, data) = &read.tensors[0];
    assert_eq!((name.as_str(), dtype, shape.as_slice()), ("w", &safetensors::Dtype::F32, &[2, 2][..]));
    assert_eq!(**data, 1.5f32.to_le_bytes().repeat(4));
}

#[test]
fn claims_beyond_the_storage_are_refused_with_their_numbers() {
    const HUGE: i64 = 1 << 40;
    for (len, offset, size, stride, part) in [
        (6, 0, vec![HUGE], vec![1], "leaves its storage"),
        (HUGE, 0, vec![6], vec![1], "claims 1099511627776 elements"),
        (i64::MAX, 0, vec![i64::MAX], vec![1], "elements of 4 bytes"),
        (6, 0, vec![HUGE], vec![0], "more memory than the whole file"),
        (6, 0, vec![1 << 31, 1 << 31, 1 << 31], vec![0, 0, 0], "more memory than the whole file"),
        (6, 4, vec![3], vec![1], "leaves its storage"),
        (6, 0, vec![2, 3], vec![i64::MAX, 1], "leaves its storage"),
        (6, -1, vec![1], vec![1], "offset -1 is negative"),
        (6, 0, vec![-2], vec![1], "size -2 is negative"),
        (6, 0, vec![2], vec![-1], "stride -1 is negative"),
        (-6, 0, vec![2], vec![1], "number of elements -6 is negative"),
        (6, 0, vec![2], vec![1, 1], "1 sizes and 2 strides"),
        (6, 0, vec![1; 100], vec![1; 100], "100 axes"),
        (7, 0, vec![1], vec![1], "claims 7 elements"),
    ] {
        let error = error(&floats(len, offset, &size, &stride));
        assert!(error.message.contains("tensor `w`") && error.message.contains(part), "{part}: {error}");
    }
}

#[test]
fn storages_that_are_missing_or_of_unknown_classes_are_named() {
    for (class, key, part) in [
        (global("torch", "FloatStorage"), "../../etc/passwd", "`../../etc/passwd` is not in the file"),
        (global("torch", "QInt8Storage"), "0", "global `torch.QInt8Storage`"),
        (global("posix", "FloatStorage"), "0", "global `posix.FloatStorage`"),
        (text("FloatStorage"), "0", "a string"),
    ] {
        let error = error(&checkpoint(&claims(&class, key, 6, 0, &[1], &[1])));
        assert!(error.message.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_call_of_a_foreign_function_is_named_and_never_made() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("executed");
    let call = |module: &str, name: &str| {
        let command = format!("touch {}", proof.display());
        [b"\x80\x02".to_vec(), global(module, name), text(&command), b"\x85R".to_vec()].concat()
    };
    for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval")] {
        let alone = error(&checkpoint(&[call(module, name), b".".to_vec()].concat()));
        assert!(alone.message.contains(&format!("`{module}.{name}`")), "{alone}");
        assert!(alone.hint.unwrap().contains("python -c"));
        // As a tensor's storage: the tensor cannot be read.
        let inside = [
            b"\x80\x02}".to_vec(),
            text("w"),
            global("torch._utils", "_rebuild_tensor_v2"),
            b"(".to_vec(),
            call(module, name)[2..].to_vec(),
            b"K\x00)))tRs.".to_vec(),
        ];
        let inside = error(&checkpoint(&inside.concat()));
        assert!(inside.message.contains(&format!("`{module}.{name}`")), "{inside}");
    }
    // Beside the weights it is only an object nobody asked for.
    let valid = claims(&global("torch", "FloatStorage"), "0", 6, 0, &[6], &[1]);
    let beside = [
        &b"\x80\x02}"[..],
        &text("bad"),
        &call("os", "system")[2..],
        b"s",
        &text("state_dict"),
        &valid[2..valid.len() - 1],
        b"s.",
    ];
    let bytes = checkpoint(&beside.concat());
    assert_eq!(read(&bytes, None).unwrap().tensors.len(), 1);
    assert!(read(&bytes, Some("bad")).unwrap_err().message.contains("`os.system`"));
    assert!(!proof.exists());
}

#[test]
fn opcodes_that_are_unknown_or_out_of_place_are_named() {
    for (pickle, part) in [
        (&b"\x80\x02\xff."[..], "opcode 0xff at byte 2"),
        (b"\x80\x02I01\n.", "opcode INT at byte 2"),
        (b"\x80\x02(ios\nsystem\n.", "opcode INST at byte 3"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x07.", "protocol 7"),
        (b"\x80\x02h\x05.", "opcode BINGET at byte 2: nothing was remembered as 5"),
        (b"\x80\x02j\xff\xff\xff\xff.", "nothing was remembered as 4294967295"),
        (b"\x80\x02r\xff\xff\xff\xff.", "stack is empty"),
        (b"\x80\x02R.", "stack is empty"),
        (b"\x80\x02t.", "no mark"),
        (b"\x80\x02(NN\x85\x87.", "stack is empty"),
        (b"\x80\x02NNa.", "no collection"),
        (b"\x80\x02}(Nu.", "a key has no value"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "ends too early"),
        (b"\x80\x02\x8b\xff\xff\xff\xff.", "ends too early"),
        (b"\x80\x02NQ.", "not to a storage"),
        (b"\x80\x02cos", "a name has no end"),
        (b"", "ends too early"),
    ] {
        let message = error(&checkpoint(pickle)).message;
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn the_largest_memo_index_and_the_deepest_nesting_cost_nothing() {
    let valid = claims(&global("torch", "FloatStorage"), "0", 6, 0, &[6], &[1]);
    let remembered = [b"\x80\x02Nr\xff\xff\xff\xff0".as_slice(), &valid[2..]].concat();
    assert_eq!(read(&checkpoint(&remembered), None).unwrap().tensors.len(), 1);
    // A million tuples, lists and dicts within each other, dropped from the stack and kept in the file's dict.
    let opens = b"]".repeat(1_000_000);
    let closes = b"a".repeat(999_999);
    let nested = [b"\x80\x02".as_slice(), &opens, &closes, b"."].concat();
    assert!(error(&checkpoint(&nested)).message.contains("a list"));
    let tuples = [b"\x80\x02)".as_slice(), &b"\x85".repeat(1_000_000), b"0", &valid[2..]].concat();
    assert_eq!(read(&checkpoint(&tuples), None).unwrap().tensors.len(), 1);
    let dicts = [b"\x80\x02".as_slice(), &b"}U\x01k".repeat(200_000), b"N", &b"s".repeat(200_000), b"."].concat();
    assert!(error(&checkpoint(&dicts)).message.contains("no dict of tensors"));
    assert!(error(&checkpoint(&b"]".repeat(3 << 20))).message.contains("more than 2097152 values"));
}

#[test]
fn a_list_that_many_dicts_are_made_of_costs_no_more_than_the_pickle() {
    // Calls with one list of many references to one pair: a million entries a call for 6 bytes.
    let bomb = |entries: usize, calls: usize| {
        let call = b"h\x00h\x01R0".repeat(calls);
        let list = [b"](NN\x86", &b"2".repeat(entries - 1)[..], b"e\x85q\x010"].concat();
        [b"\x80\x02", &global("collections", "OrderedDict")[..], b"q\x000", &list, &call, b"N."].concat()
    };
    let message = error(&checkpoint(&bomb(1_000_000, 1000))).message;
    let why = "its dicts are made of more entries than the pickle has bytes";
    assert!(message.contains("opcode REDUCE at byte") && message.contains(why), "{message}");
    // As many as there are bytes are fine.
    assert!(error(&checkpoint(&bomb(10, 4))).message.contains("it is None"));
}

#[test]
fn opcodes_of_one_byte_keep_a_bounded_number_of_values() {
    for (start, op) in [(&b"N"[..], b"2"), (b"", b"("), (b"N", b"\x94"), (b"", b")")] {
        let pickle = [b"\x80\x04", start, &op.repeat(3 << 20)].concat();
        let message = error(&checkpoint(&pickle)).message;
        assert!(message.contains("more than 2097152 values at a time"), "{op:?}: {message}");
    }
}

#[test]
fn one_long_string_as_the_key_of_many_entries_costs_nothing() {
    let key = "k".repeat(1 << 20);
    let entries = b"h\x00}s".repeat(100_000);
    let pickle = [b"\x80\x02}".as_slice(), &text(&key), b"q\x00", b"Ns", &entries, b"."].concat();
    assert!(error(&checkpoint(&pickle)).message.contains("no dict of tensors (its keys: none)"));
}

#[test]
fn dicts_that_hold_each_other_end() {
    // d = {}; d["d"] = d, and every level twice: 2^40 paths, 40 dicts.
    let own = [b"\x80\x02}q\x00".as_slice(), &text("d"), b"h\x00s."].concat();
    assert!(error(&checkpoint(&own)).message.contains("no dict of tensors"));
    let mut wide = b"\x80\x02}q\x00".to_vec();
    for level in 1u8..40 {
        let inner = [
            b"}".as_slice(),
            &[b'q', level],
            &text("a"),
            &[b'h', level - 1, b's'],
            &text("b"),
            &[b'h', level - 1, b's'],
        ];
        wide.extend(inner.concat());
    }
    wide.push(b'.');
    assert!(error(&checkpoint(&wide)).message.contains("no dict of tensors"));
}

#[test]
fn many_views_of_one_storage_may_not_add_up_to_much_memory() {
    let one = claims(&global("torch", "FloatStorage"), "0", 1 << 16, 0, &[1 << 16], &[1]);
    let body = &one[one.iter().position(|&b| b == b'X').unwrap() + 6..one.len() - 2];
    let entries: Vec<u8> =
        (0..100).flat_map(|i| [text(&format!("w{i}")), body.to_vec(), b"s".to_vec()].concat()).collect();
    let pickle = [b"\x80\x02}".as_slice(), &entries, b"."].concat();
    let bytes = zip(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 1 << 18])]);
    assert!(error(&bytes).message.contains("more memory than the whole file"));
}
#[test]
fn archives_that_play_tricks_are_refused() {
    let pickle = claims(&global("torch", "FloatStorage"), "0", 6, 0, &[6], &[1]);
    let data = [0u8; 24];
    let twice = zip(&[("a/data.pkl", &pickle), ("a/data/0", &data), ("a/data/0", &[1; 24])]);
    assert!(error(&twice).message.contains("two members called `a/data/0`"));
    for name in ["../a/data/0", "/etc/passwd", "a/../../b", "a\\b", "c:/b"] {
        assert!(error(&zip(&[("a/data.pkl", &pickle), (name, &data)])).message.contains("points outside"), "{name}");
    }
    let two = zip(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle), ("a/data/0", &data)]);
    assert!(error(&two).message.contains("several pickles"));
    let big = zip(&[("a/data.pkl", &pickle), ("a/data/0", &data), ("a/byteorder", b"big")]);
    assert!(error(&big).message.contains("big-endian"));
    let at = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    let valid = zip(&[("a/data.pkl", &pickle), ("a/data/0", &data)]);
    let entry = at(&valid, b"PK\x01\x02");
    for (offset, value, part) in [
        (10, 8, "is compressed"),
        (8, 1, "is encrypted"),
        (20, 99, "two sizes"),
        (42, 7, "not where its directory says"),
        (45, 99, "beyond its end"),
        (46, b'b', "not where its directory says"),
    ] {
        let mut bytes = valid.clone();
        bytes[entry + offset] = value;
        let message = error(&bytes).message;
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn files_of_other_kinds_are_told_apart() {
    let tar = [vec![b'a'; 257], b"ustar\0".to_vec(), vec![0; 300]].concat();
    let legacy = [b"\x80\x02".as_slice(), legacy::MAGIC, &[0; 10]].concat();
    for (bytes, part) in [
        (&b""[..], "empty"),
        (b"hello, world", "not a checkpoint"),
        (b"\x80\x04\x95rest of a pickle", "plain pickle"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "LFS"),
        (&tar, "tar archive"),
        (&legacy, "its magic number: cannot load the pickle"),
        (&zip(&[("x.npy", b"1")]), "numpy"),
        (&zip(&[("x.txt", b"1")]), "without a `data.pkl`"),
        (&zip(&[("m/data.pkl", b"\x80\x02N."), ("m/constants.pkl", b"1")]), "TorchScript program whose data is None"),
        (&zip(&[("m/model.json", b"{}")]), "TorchScript program of PyTorch before 1.4"),
        (b"PK\x03\x04", "damaged"),
    ] {
        let error = error(bytes);
        assert!(error.message.contains(part) && error.hint.is_some(), "{part}: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_a_load_error() {
    let bytes = include_bytes!("../../../../tests/golden/mnist_protocol4.pth");
    for cut in (0..bytes.len()).step_by(3) {
        error(&bytes[..cut]);
    }
    let pickle = claims(&global("torch", "FloatStorage"), "0", 6, 0, &[6], &[1]);
    (0..pickle.len()).for_each(|cut| drop(error(&checkpoint(&pickle[..cut]))));
}
