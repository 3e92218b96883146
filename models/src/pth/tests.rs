//! Hostile and foreign checkpoints, made by hand: always an error of kind `Load` that says what is wrong, never a panic,
//! never a call, never more memory than the file accounts for.

use super::read;
use proptest::prelude::*;
use robust_core::{Error, Kind};

/// A zip archive that stores its members, as torch.save writes it.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (vec![], vec![]);
    for (name, data) in members {
        let (offset, size) = ((file.len() as u32).to_le_bytes(), (data.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        file.extend(
            [b"PK\x03\x04".as_slice(), &[0; 14], &size, &size, &name_len, &[0; 2], name.as_bytes(), data].concat(),
        );
        let entry = [b"PK\x01\x02".as_slice(), &[0; 16], &size, &size, &name_len, &[0; 12], &offset, name.as_bytes()];
        directory.extend(entry.concat());
    }
    let (start, size) = ((file.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    let count = (members.len() as u16).to_le_bytes();
    file.extend(directory);
    file.extend([b"PK\x05\x06".as_slice(), &[0; 4], &count, &count, &size, &start, &[0; 2]].concat());
    file
}

fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    zip(&[("a/data.pkl", pickle), ("a/data/0", &1.5f32.to_le_bytes().repeat(6))])
}

pub(super) fn error(bytes: &[u8]) -> Error {
    let error = read(bytes, None).unwrap_err();
    assert_eq!(error.kind, Kind::Load, "{error}");
    error
}

pub(super) fn int(n: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &n.to_le_bytes()].concat()
}

pub(super) fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

pub(super) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(super) fn tuple(items: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), items.iter().flat_map(|&i| int(i)).collect(), b"t".to_vec()].concat()
}

/// The pickle `{"w": tensor}` with these claims.
fn claims(class: &[u8], key: &str, len: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let parts = [
        b"\x80\x02}".to_vec(),
        text("w"),
        global("torch._utils", "_rebuild_tensor_v2"),
        b"((".to_vec(),
        text("storage"),
        class.to_vec(),
        text(key),
        text("cpu"),
        int(len),
        b"tQ".to_vec(),
        int(offset),
        tuple(size),
        tuple(stride),
        b"\x89}tRs.".to_vec(),
    ];
    parts.concat()
}

fn floats(len: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    checkpoint(&claims(&global("torch", "FloatStorage"), "0", len, offset, size, stride))
}

/// The floats of a file's only tensor.
pub(super) fn floats_of(bytes: &[u8]) -> Vec<f32> {
    let read = read(bytes, None).unwrap();
    assert_eq!(read.tensors.len(), 1);
    read.tensors[0].3.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

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

/// A TorchScript program of this pickled module.
fn program(pickle: &[u8]) -> Vec<u8> {
    let data = 1.5f32.to_le_bytes().repeat(6);
    zip(&[("a/data.pkl", pickle), ("a/constants.pkl", b"\x80\x02)."), ("a/data/0", &data)])
}

/// An object of a program's class with its attributes, each a name and a value.
fn module(attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let inside: Vec<u8> = attributes.iter().flat_map(|(name, value)| [text(name), value.to_vec()].concat()).collect();
    [global("__torch__.net", "Module"), b")\x81}(".to_vec(), inside, b"ub".to_vec()].concat()
}

/// The tensor of six ones and a half.
fn six() -> Vec<u8> {
    let all = claims(&global("torch", "FloatStorage"), "0", 6, 0, &[6], &[1]);
    let start = all.iter().position(|&b| b == b'c').unwrap();
    all[start..all.len() - 2].to_vec()
}

fn whole(module: &[u8]) -> Vec<u8> {
    program(&[b"\x80\x02", module, b"."].concat())
}

#[test]
fn the_tensors_of_a_program_are_those_of_its_modules() {
    let lists = [global("torch.jit._pickle", "build_intlist"), b"(](".to_vec(), int(1), b"etR".to_vec()].concat();
    let inner =
        module(&[("bias", &six()), ("training", b"\x89"), ("sizes", &lists), ("none", b"N"), ("empty", &module(&[]))]);
    let shared = [&inner, &b"q\x07"[..]].concat();
    let root = module(&[("weight", &six()), ("0", &shared), ("again", b"h\x07"), ("rate", b"G\0\0\0\0\0\0\0\0")]);
    let bytes = whole(&root);
    let found = read(&bytes, None).unwrap();
    let names: Vec<&str> = found.tensors.iter().map(|t| t.0.as_str()).collect();
    assert_eq!(names, ["0.bias", "again.bias", "weight"]);
    assert_eq!(found.notes, ["the file is a TorchScript program: its tensors are read, its code is not run"]);
    // A module of it alone.
    assert_eq!(read(&bytes, Some("again")).unwrap().tensors[0].0, "bias");
    let wrong = read(&bytes, Some("agian")).unwrap_err();
    assert!(wrong.kind == Kind::Usage && wrong.to_string().contains("did you mean `again`"), "{wrong}");
    let tensor = read(&bytes, Some("weight")).unwrap_err();
    assert!(tensor.message.contains("`weight` is a tensor"), "{tensor}");
}

#[test]
fn programs_that_are_no_trees_of_attributes_are_refused_with_the_module_at_fault() {
    let object = [global("__torch__.net", "Module"), b")\x81".to_vec()].concat();
    let with = |state: &[u8]| module(&[("a", &module(&[("b", &[&object, state, b"b"].concat())]))]);
    let cyclic = [&object, &b"q\x00}("[..], &text("a"), &module(&[("up", b"h\x00")]), b"ub"].concat();
    let long = "n".repeat(600);
    let qint = [global("torch._utils", "_rebuild_qtensor"), b")R".to_vec()].concat();
    let missing = claims(&global("torch", "FloatStorage"), "7", 6, 0, &[6], &[1]);
    let missing = &missing[missing.iter().position(|&b| b == b'c').unwrap()..missing.len() - 2];
    for (root, part) in [
        (with(b"N"), "module `a.b` is made by global `__torch__.net.Module`, whose state is None"),
        (with(b"K\x01"), "whose state is a number, not a dict of attributes"),
        (with(b")"), "whose state is a tuple"),
        (with(b"]"), "whose state is a list"),
        (with(&six()), "whose state is a tensor"),
        (with(&module(&[])), "whose state is made by global `__torch__.net.Module`"),
        (with(&[&b"}K\x01"[..], &six(), b"s"].concat()), "module `a.b` has an attribute whose name is a number"),
        (module(&[("a", &object)]), "module `a` is made by global `__torch__.net.Module`, whose state is None"),
        (cyclic, "module `a.up` holds itself"),
        (module(&[(&long, &module(&[(&long, &six())]))]), "not a short string"),
        (module(&[("w", &six()), ("w", &six())]), "two tensors called `w`"),
        (module(&[("a.w", &six()), ("a", &module(&[("w", &six())]))]), "two tensors called `a.w`"),
        (
            module(&[("a", &module(&[("q", &qint)]))]),
            "tensor `a.q`: it is made by global `torch._utils._rebuild_qtensor`",
        ),
        (module(&[("a", &module(&[("w", missing)]))]), "tensor `a.w`: its storage `7` is not in the file"),
        (module(&[]), "the file holds no tensors"),
    ] {
        let error = error(&whole(&root));
        assert!(error.message.contains(part), "{part}: {error}");
        assert!(part.contains("no tensors") || error.hint.is_some_and(|h| h.contains("jit") || h.contains("trust")));
    }
    // Built without any object, by a class of another home, or not by NEWOBJ: no program.
    for pickle in [&b"\x80\x02b."[..], b"\x80\x02Nb."] {
        assert!(error(&program(pickle)).message.contains("stack is empty"));
    }
    let foreign = [&b"\x80\x02"[..], &global("__torch__evil", "M"), b")\x81}b."].concat();
    assert!(error(&program(&foreign)).message.contains("whose data is made by global `__torch__evil.M`, not a module"));
    let called = [&b"\x80\x02"[..], &global("__torch__", "M"), b")R}b."].concat();
    assert!(error(&program(&called)).message.contains("whose data is made by global `__torch__.M`, not a module"));
}

#[test]
fn deep_wide_and_shared_modules_cost_no_more_than_the_file_accounts_for() {
    // 10^5 modules within each other.
    let open = [b"h\x00)\x81}(".as_slice(), &text("a")].concat();
    let class = [global("__torch__", "M"), b"q\x000".to_vec()].concat();
    let deep = [class.clone(), open.repeat(100_000), b"N".to_vec(), b"ub".repeat(100_000)].concat();
    assert!(error(&whole(&deep)).message.contains("lies more than 64 modules deep"));
    // A million attributes that are one tensor.
    let attributes: Vec<u8> =
        (0..1_000_000).flat_map(|i| [text(&format!("{i}")), b"h\x01".to_vec()].concat()).collect();
    let once =
        [six(), b"q\x010".to_vec(), class.clone(), b"h\x00)\x81}(".to_vec(), attributes, b"ub".to_vec()].concat();
    assert!(error(&whole(&once)).message.contains("more memory than the whole file accounts for"));
    // Every level twice: 2^60 modules, and 2^60 tensors.
    for (value, count) in [(b"N".to_vec(), 60u8), (six(), 60)] {
        let mut wide = [class.clone(), b"h\x00)\x81}(".to_vec(), text("w"), value, b"ubq\x01".to_vec()].concat();
        for level in 1..count {
            let get = [b'h', level];
            let both = [text("a"), get.to_vec(), text("b"), get.to_vec()].concat();
            wide.extend([b"0h\x00)\x81}(".to_vec(), both, vec![b'u', b'b', b'q', level + 1]].concat());
        }
        assert!(error(&whole(&wide)).message.contains("more memory than the whole file accounts for"));
    }
    // One tensor of the file's size under a hundred names.
    let data = vec![0; 1 << 18];
    let large = claims(&global("torch", "FloatStorage"), "0", 1 << 16, 0, &[1 << 16], &[1]);
    let large = &large[large.iter().position(|&b| b == b'c').unwrap()..large.len() - 2];
    let names: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
    let all: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), large)).collect();
    let pickle = [b"\x80\x02", &module(&all)[..], b"."].concat();
    let bytes = zip(&[("a/data.pkl", &pickle), ("a/constants.pkl", b"\x80\x02)."), ("a/data/0", &data)]);
    assert!(error(&bytes).message.contains("more memory than the whole file"));
}

#[test]
fn of_a_program_only_the_code_may_be_compressed() {
    let pickle = [b"\x80\x02", &module(&[("w", &six())])[..], b"."].concat();
    let data = 1.5f32.to_le_bytes().repeat(6);
    for (name, loads) in
        [("a/code/__torch__/net.py", true), ("a/data/1", false), ("a/codes/x.py", false), ("code", false)]
    {
        let mut bytes =
            zip(&[("a/data.pkl", &pickle), ("a/constants.pkl", b"\x80\x02)."), ("a/data/0", &data), (name, b"packed")]);
        let entry = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        (bytes[entry + 10], bytes[entry + 24]) = (8, 200);
        match read(&bytes, None) {
            Ok(found) => assert!(loads && found.tensors.len() == 1, "{name}"),
            Err(e) => assert!(!loads && e.message.contains("is compressed"), "{name}: {e}"),
        }
        bytes[entry + 8] = 1;
        assert!(error(&bytes).message.contains("is encrypted"), "{name}");
    }
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
    let legacy = [b"\x80\x02".as_slice(), super::legacy::MAGIC, &[0; 10]].concat();
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
    let bytes = include_bytes!("../../tests/golden/mnist_protocol4.pth");
    for cut in (0..bytes.len()).step_by(3) {
        error(&bytes[..cut]);
    }
    let pickle = claims(&global("torch", "FloatStorage"), "0", 6, 0, &[6], &[1]);
    (0..pickle.len()).for_each(|cut| drop(error(&checkpoint(&pickle[..cut]))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_byte_flips_never_panic_nor_make_more_than_the_file_accounts_for(
        which in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..5),
    ) {
        let files: [&[u8]; 4] = [
            include_bytes!("../../tests/golden/mnist_protocol4.pth"),
            include_bytes!("../../tests/golden/mnist_foreign.pth"),
            &checkpoint(&claims(&global("torch", "FloatStorage"), "0", 6, 1, &[2, 2], &[1, 2])),
            include_bytes!("../../tests/golden/stranger_script.pt"),
        ];
        let mut bytes = files[which].to_vec();
        changes.iter().for_each(|(place, value)| bytes[place.index(files[which].len())] ^= value);
        match read(&bytes, None) {
            Ok(read) => {
                let total: usize = read.tensors.iter().map(|(.., data)| data.len()).sum();
                prop_assert!(total <= (2 * bytes.len()).max(super::SMALLEST));
            }
            Err(e) => prop_assert!(matches!(e.kind, Kind::Load), "{}", e),
        }
    }

    #[test]
    fn random_programs_never_panic(parts in prop::collection::vec(prop::sample::select(vec![
        &b"c__torch__\nM\n"[..], b")", b"\x81", b"}", b"(", b"u", b"b", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"X\x01\0\0\0a", b"s", b"N",
        b"c__torch__\nM\n)\x81}(", b"X\x01\0\0\0bc__torch__\nM\n)\x81}(", b"ub", b"X\x01\0\0\0c",
    ]), 0..40)) {
        if let Err(e) = read(&program(&[b"\x80\x02", &parts.concat()[..], b"."].concat()), None) {
            prop_assert!(matches!(e.kind, Kind::Load), "{}", e);
        }
    }

    #[test]
    fn random_opcodes_never_panic(pickle in prop::collection::vec(prop::sample::select(b"\x80\x02()]}NKJ01qhjrtl\x85\x86\x87\x94aesuRbQd\x81c\n\x93X\x8a\x8c\x00\x01.".to_vec()), 0..60)) {
        if let Err(e) = read(&checkpoint(&pickle), None) {
            prop_assert!(matches!(e.kind, Kind::Load), "{}", e);
        }
    }
}
