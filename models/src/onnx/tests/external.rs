//! Weights in files beside the graph's.

use super::*;
use std::path::PathBuf;

const WEIGHTS: usize = 64 * 4;

/// `y = x w` over the flattened image with `w` of shape `[32, 2]` in another file.
fn outside(entries: &[(&str, &str)]) -> ModelProto {
    let entry = |(key, value): &(&str, &str)| {
        Bytes::from(Entry { key: key.to_string(), value: value.to_string() }.encode_to_vec())
    };
    let w = TensorProto {
        name: "w".into(),
        dims: vec![32, 2],
        data_type: 1,
        data_location: 1,
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    };
    model(vec![node("Flatten", &["x"], "f"), node("MatMul", &["f", "w"], "y")], vec![w])
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self, model: &ModelProto) -> Result<Network> {
        open(&self.file("net.onnx", &model.encode_to_vec()), &Options::default()).map(|i| i.network)
    }

    #[track_caller]
    fn refused(&self, model: &ModelProto, parts: &[&str]) {
        let error = self.open(model).unwrap_err();
        assert_eq!(error.kind, Kind::Load, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "`{part}` not in: {error}");
        }
    }
}

fn weights(first: f32) -> Vec<u8> {
    (0..64).flat_map(|i| (first + i as f32).to_le_bytes()).collect()
}

const WHERE: &[(&str, &str)] = &[("location", "net.onnx.data"), ("offset", "8"), ("length", "256")];

#[test]
fn weights_are_read_from_the_file_beside_the_graph_and_make_the_digest() {
    let place = Place::new();
    let read = |first: f32| {
        place.file("net.onnx.data", &[&[9; 8], &weights(first)[..]].concat());
        place.open(&outside(WHERE)).unwrap()
    };
    let net = read(1.);
    let digest = robust_engine::digest(&net);
    // The first two pixels alone: 2 times row 0 of the weights and 3 times row 1.
    let mut x = vec![0f32; 32];
    (x[0], x[1]) = (2., 3.);
    let x = candle_core::Tensor::from_vec(x, (1, 2, 4, 4), &candle_core::Device::Cpu).unwrap();
    let reference = robust_engine::Reference::new(std::sync::Arc::new(net), candle_core::DType::F32).unwrap();
    assert_eq!(reference.forward(&x).unwrap().to_vec2::<f32>().unwrap(), [[2. + 9., 4. + 12.]]);
    assert_eq!(robust_engine::digest(&read(1.)), digest);
    assert_ne!(robust_engine::digest(&read(1.5)), digest);
}

#[test]
fn the_whole_model_is_loaded_by_its_name_alone() {
    let place = Place::new();
    place.file("net.onnx.data", &[&[9; 8], &weights(0.)[..]].concat());
    let path = place.file("net.onnx", &outside(WHERE).encode_to_vec());
    let loaded = crate::load(&path.to_string_lossy()).unwrap();
    assert_eq!(loaded.card.output.width(), 2);
}

#[test]
fn a_missing_file_is_named_with_the_remedy() {
    let place = Place::new();
    place.refused(
        &outside(WHERE),
        &["tensor `w`", "`net.onnx.data`", "not beside the .onnx file", "copy `net.onnx.data`", "external_data=False"],
    );
    // Bytes alone have no folder, and no file is opened for them.
    refused(&outside(WHERE), &["tensor `w`", "another file", "`net.onnx.data`"]);
}

#[test]
fn a_packed_graph_has_to_hold_its_weights() {
    use std::io::Write;
    let place = Place::new();
    place.file("net.onnx.data", &weights(0.));
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(&outside(&[("location", "net.onnx.data")]).encode_to_vec()).unwrap();
    let path = place.file("net.onnx.gz", &packed.finish().unwrap());
    let error = open(&path, &Options::default()).err().unwrap();
    assert!(error.message.contains("a packed .onnx.gz has to hold its weights itself"), "{error}");
}

#[test]
fn only_plain_files_within_the_folder_are_opened() {
    let place = Place::new();
    let inner = Place(tempfile::tempdir_in(place.0.path()).unwrap());
    place.file("secret", &weights(0.));
    let secret = place.0.path().join("secret");
    let at = |location: &str| outside(&[("location", location)]);
    for bad in ["../secret", "a/../../secret", &secret.to_string_lossy(), "..\\secret", "c:secret"] {
        inner.refused(&at(bad), &["only names of files within the folder"]);
    }
    inner.refused(&at(""), &["whose name is missing"]);
    inner.refused(&at("."), &["no plain file"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, inner.0.path().join("link")).unwrap();
        inner.refused(&at("link"), &["a link that leads out of the folder"]);
        std::os::unix::fs::symlink("/dev/zero", inner.0.path().join("zero")).unwrap();
        inner.refused(&at("zero"), &["a link that leads out of the folder"]);
        inner.file("own", &weights(0.));
        std::os::unix::fs::symlink("own", inner.0.path().join("inside")).unwrap();
        assert!(inner.open(&at("inside")).is_ok());
        let pipe = inner.0.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|s| s.success()) {
            inner.refused(&at("pipe"), &["no plain file"]);
        }
    }
    std::fs::create_dir(inner.0.path().join("sub")).unwrap();
    inner.file("sub/w.bin", &weights(0.));
    assert!(inner.open(&at("sub/w.bin")).is_ok());
}

#[test]
fn starts_and_lengths_are_held_against_the_file_and_the_tensor() {
    let place = Place::new();
    place.file("net.onnx.data", &weights(0.));
    let at =
        |offset: &str, length: &str| outside(&[("location", "net.onnx.data"), ("offset", offset), ("length", length)]);
    assert_eq!(WEIGHTS, 256);
    assert!(place.open(&at("0", "256")).is_ok());
    place.refused(&at("4", "256"), &["reach beyond the 256 of `net.onnx.data`", "copy both files again"]);
    place.refused(&at("0", "252"), &["need 256 bytes, 252 are set aside"]);
    place.refused(&at("18446744073709551615", "256"), &["reach beyond"]);
    place.refused(&at("-1", "256"), &["`offset` of its data is `-1`"]);
    let mut huge = at("0", "256");
    huge.graph.as_mut().unwrap().initializer[0].dims = vec![1 << 40, 1 << 40];
    place.refused(&huge, &["dimensions"]);
    // Many tensors over the same bytes would be as many copies in memory.
    let mut many = at("0", "256");
    let graph = many.graph.as_mut().unwrap();
    let again = |i: usize| TensorProto { name: format!("w{i}"), ..graph.initializer[0].clone() };
    let copies: Vec<TensorProto> = (0..2).map(again).collect();
    graph.initializer.extend(copies);
    place.refused(&many, &["more than 2 times the bytes of their files"]);
}

#[test]
fn a_file_of_many_names_is_read_once_and_counted_once() {
    let place = Place::new();
    place.file("net.onnx.data", &weights(0.));
    let named = |names: &[&str]| {
        let mut model = outside(&[("location", "net.onnx.data")]);
        let graph = model.graph.as_mut().unwrap();
        let again = |(i, name): (usize, &&str)| {
            let from = outside(&[("location", name)]).graph.unwrap().initializer.remove(0);
            TensorProto { name: format!("w{i}"), ..from }
        };
        let copies: Vec<TensorProto> = names.iter().enumerate().map(again).collect();
        graph.initializer.extend(copies);
        model
    };
    assert!(place.open(&named(&["./net.onnx.data"])).is_ok());
    // Read anew under each name, as many copies in memory as a graph has names for it would be within the rule.
    place.refused(&named(&["./net.onnx.data", "././net.onnx.data"]), &["more than 2 times the bytes of their files"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("net.onnx.data", place.0.path().join("link")).unwrap();
        place.refused(&named(&["link", "./link"]), &["more than 2 times the bytes of their files"]);
    }
}
