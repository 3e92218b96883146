//! Parts that files are made of by hand.

use crate::files::pth::read;
use crate::files::pth::read::SMALLEST;
use proptest::prelude::*;
use robust_core::{Error, Kind};

/// A zip archive that stores its members, as torch.save writes it.
pub fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
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

pub fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    zip(&[("a/data.pkl", pickle), ("a/data/0", &1.5f32.to_le_bytes().repeat(6))])
}

pub fn error(bytes: &[u8]) -> Error {
    let error = read(bytes, None).unwrap_err();
    assert_eq!(error.kind, Kind::Load, "{error}");
    error
}

pub fn int(n: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &n.to_le_bytes()].concat()
}

pub fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn tuple(items: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), items.iter().flat_map(|&i| int(i)).collect(), b"t".to_vec()].concat()
}

/// The pickle `{"w": tensor}` with these claims.
pub fn claims(class: &[u8], key: &str, len: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
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

pub fn floats(len: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    checkpoint(&claims(&global("torch", "FloatStorage"), "0", len, offset, size, stride))
}

/// The floats of a file's only tensor.
pub fn floats_of(bytes: &[u8]) -> Vec<f32> {
    let read = read(bytes, None).unwrap();
    assert_eq!(read.tensors.len(), 1);
    read.tensors[0].3.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
/// A TorchScript program of this pickled module.
pub fn program(pickle: &[u8]) -> Vec<u8> {
    let data = 1.5f32.to_le_bytes().repeat(6);
    zip(&[("a/data.pkl", pickle), ("a/constants.pkl", b"\x80\x02)."), ("a/data/0", &data)])
}

/// An object of a program's class with its attributes, each a name and a value.
pub fn module(attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let inside: Vec<u8> = attributes.iter().flat_map(|(name, value)| [text(name), value.to_vec()].concat()).collect();
    [global("__torch__.net", "Module"), b")\x81}(".to_vec(), inside, b"ub".to_vec()].concat()
}

/// The tensor of six ones and a half.
pub fn six() -> Vec<u8> {
    let all = claims(&global("torch", "FloatStorage"), "0", 6, 0, &[6], &[1]);
    let start = all.iter().position(|&b| b == b'c').unwrap();
    all[start..all.len() - 2].to_vec()
}

pub fn whole(module: &[u8]) -> Vec<u8> {
    program(&[b"\x80\x02", module, b"."].concat())
}

/// What came of a damaged file: no more than it accounts for, or an error of kind `Load`.
pub fn bounded(bytes: &[u8]) -> Result<(), TestCaseError> {
    match read(bytes, None) {
        Ok(read) => {
            let total: usize = read.tensors.iter().map(|(.., data)| data.len()).sum();
            prop_assert!(total <= (2 * bytes.len()).max(SMALLEST));
        }
        Err(e) => prop_assert!(matches!(e.kind, Kind::Load), "{}", e),
    }
    Ok(())
}
