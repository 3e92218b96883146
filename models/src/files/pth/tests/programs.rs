//! TorchScript programs.

use super::crafted::{claims, error, global, int, module, program, six, text, whole, zip};
use crate::files::pth::read;
use robust_core::Kind;

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
