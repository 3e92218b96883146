//! Damaged and hostile files: always an error of kind `Load`, never a panic and never much memory.

#[path = "../../../fuzz/src/graphs/mod.rs"]
mod graphs;
#[path = "../../../fuzz/src/legacy.rs"]
mod old;

use crate::support::{golden, host, named};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use robust_core::{Draw, Kind, Result, RowKey, Site};
use robust_models::onnx::import;
use robust_models::safetensors::StateDict;
use robust_models::{LoadedModel, Options, arch, load};

#[test]
fn a_truncated_onnx_file_is_a_load_error_wherever_it_is_cut() {
    let bytes = std::fs::read(golden("convolutions_11.onnx")).unwrap();
    for cut in (0..bytes.len()).step_by(3) {
        let error = import(bytes[..cut].to_vec(), &Options::default()).err();
        assert_eq!(error.map(|e| e.kind), Some(Kind::Load), "cut at {cut}");
    }
}

#[test]
fn a_damaged_gzip_file_is_a_load_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx.gz");
    std::fs::write(&path, [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    let error = load(&path.to_string_lossy()).unwrap_err();
    assert!(error.kind == Kind::Load && error.message.contains("gzip"), "{error}");
}

#[test]
fn a_gzip_bomb_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx.gz");
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    (0..80).for_each(|_| std::io::Write::write_all(&mut packed, &[0; 1 << 20]).unwrap());
    std::fs::write(&path, packed.finish().unwrap()).unwrap();
    let error = load(&path.to_string_lossy()).unwrap_err();
    assert!(error.kind == Kind::Load && error.message.contains("unpack to more than 67108864"), "{error}");
}

#[test]
fn a_safetensors_header_that_promises_more_than_the_file_holds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let header = br#"{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    for content in [bytes, vec![0xff; 64], vec![]] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(load(&path.to_string_lossy()).unwrap_err().kind, Kind::Load);
    }
}

fn stored(target: &str) -> Vec<Vec<u8>> {
    let packed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/corpus/{target}.tar.gz"));
    let file = flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap());
    let mut all = vec![];
    for entry in tar::Archive::new(file).entries().unwrap() {
        let (mut entry, mut bytes) = (entry.unwrap(), vec![]);
        if entry.header().entry_type().is_file() {
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            all.push(bytes);
        }
    }
    all
}

fn judged<T>(answer: Result<T>) -> Option<T> {
    answer.inspect_err(|e| assert!(matches!(e.kind, Kind::Load | Kind::Usage), "{e}")).ok()
}

/// Outputs of both interpreters and a gradient, of two rows.
fn passes(loaded: &LoadedModel) -> Result<()> {
    let (row, width) = (&loaded.card.input.shape, loaded.card.output.width());
    let len: usize = row.iter().product();
    let pixels = (0..2 * len).map(|i| (i * 37 % 101) as f32 / 100.).collect();
    let x = Tensor::from_vec(pixels, [&[2], &row[..]].concat(), &Device::Cpu)?;
    let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &[RowKey::of(0), RowKey::of(1)] };
    for y in [loaded.model.forward(&x, &draw)?, loaded.model.exact(&x, &draw)?] {
        assert_eq!(y.dims(), [2, width]);
    }
    let seed = Tensor::ones((2, width), DType::F32, &Device::Cpu)?;
    let dx = loaded.model.trace(&x, &draw, &[])?.pull(&[(Site::Output, seed)])?;
    assert_eq!(dx.dims(), x.dims());
    Ok(())
}

/// What the fuzz target `quantised` does.
#[test]
fn stored_quantised_networks_are_refused_or_give_outputs_and_gradients() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.onnx");
    let (mut read, mut ran) = (0, 0);
    for bytes in stored("quantised") {
        std::fs::write(&path, graphs::quantised(&bytes)).unwrap();
        read += 1;
        if let Some(loaded) = judged(load(&path.to_string_lossy())) {
            ran += usize::from(judged(passes(&loaded)).is_some());
        }
    }
    println!("quantised: {read} networks, {ran} of them run");
    assert!(read > 100 && ran > 20, "{read}, {ran}");
}

/// What the fuzz target `external` does.
#[test]
fn stored_graphs_with_weights_beside_them_are_refused_or_load() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir(at("sub")).unwrap();
    #[cfg(unix)]
    for (link, to) in [("link", "a.onnx.data"), ("up", ".."), ("zero", "/dev/zero")] {
        std::os::unix::fs::symlink(to, at(link)).unwrap();
    }
    let (mut read, mut loaded) = (0, 0);
    for bytes in stored("external") {
        let graphs::Outside { graph, data } = graphs::external(&bytes);
        std::fs::write(at("a.onnx.data"), &data).unwrap();
        std::fs::write(at("sub/w.bin"), &data[..data.len() / 2]).unwrap();
        std::fs::write(at("a.onnx"), &graph).unwrap();
        read += 1;
        loaded += usize::from(judged(load(&at("a.onnx").to_string_lossy())).is_some());
    }
    println!("external: {read} graphs, {loaded} of them load");
    assert!(read > 100 && loaded > 20, "{read}, {loaded}");
}

/// What the fuzzer found worth keeping: every part of a reader that it reached.
#[test]
fn the_stored_fuzz_corpus_is_answered_without_a_panic() {
    let place = tempfile::tempdir().unwrap();
    type Make = fn(&[u8]) -> Vec<u8>;
    let as_it_is: Make = <[u8]>::to_vec;
    let targets = [
        ("onnx", "a.onnx", as_it_is),
        ("pth", "a.pth", as_it_is),
        ("weights", "a.safetensors", as_it_is),
        ("legacy", "a.pth", old::legacy),
    ];
    for (target, name, make) in targets {
        let path = place.path().join(name);
        let (mut read, mut loaded) = (0, 0);
        for bytes in stored(target) {
            std::fs::write(&path, make(&bytes)).unwrap();
            read += 1;
            loaded += usize::from(judged(load(&path.to_string_lossy())).is_some());
        }
        println!("{target}: {read} files, {loaded} of them load");
        assert!(read > 100);
    }
}

#[test]
fn a_tensor_without_axes_is_a_load_error_where_its_sizes_are_looked_at() {
    let names =
        ["stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "stages.0.blocks.0.mlp.fc1.weight", "head.norm.weight"];
    let scalar = candle_core::Tensor::new(1f32, &candle_core::Device::Cpu).unwrap();
    let dict = StateDict::from_tensors(names.into_iter().map(|n| (n.to_string(), scalar.clone())).collect());
    let options = Options { arch: Some("convnext".into()), ..Options::default() };
    let error = arch::build(&dict, &options).unwrap_err();
    assert!(error.kind == Kind::Load && error.to_string().contains("stem.0.weight"), "{error}");
}

fn zeros(entries: &[(&str, &[usize])]) -> StateDict {
    let zeros = |dims: &[usize]| candle_core::Tensor::zeros(dims, candle_core::DType::F32, &candle_core::Device::Cpu);
    StateDict::from_tensors(entries.iter().map(|(n, s)| (n.to_string(), zeros(s).unwrap())).collect())
}

#[test]
fn places_are_not_resized_to_far_more_than_the_file() {
    let blocks = ("blocks.0.attn.qkv.weight", &[192, 64][..]);
    // Half a gigabyte of places, and as much between the two steps of resizing.
    let dict = zeros(&[
        ("patch_embed.proj.weight", &[64, 3, 8, 8]),
        ("patch_embed.proj.bias", &[64]),
        ("pos_embed", &[1, 4, 64]),
        blocks,
    ]);
    let options = Options { input: Some([3, 8800, 8800]), heads: Some("1".into()), ..Options::default() };
    let error = arch::build(&dict, &options).unwrap_err();
    assert!(
        error.kind == Kind::Load && error.message.contains("`pos_embed`: it expands to [1100, 1100, 64]"),
        "{error}"
    );
    // A convolution of one pixel's width, and a stray tensor that makes it look like a stem: no image of 256 x 256 places.
    let dict = zeros(&[
        ("patch_embed.proj.weight", &[64, 64, 256, 1]),
        ("pos_embed", &[1, 1, 64]),
        ("patch_embed.proj.stem.1.weight", &[64]),
        blocks,
    ]);
    let error = arch::build(&dict, &Options { input: None, ..options }).unwrap_err();
    let part = "`patch_embed.proj.weight` has shape [64, 64, 256, 1], [64, 64, 256, 256] is expected";
    assert!(error.kind == Kind::Load && error.message.contains(part), "{error}");
}

fn flip(file: &str, changes: &[(prop::sample::Index, u8)]) {
    let mut bytes = std::fs::read(golden(file)).unwrap();
    for (place, value) in changes {
        let i = place.index(bytes.len());
        bytes[i] ^= value;
    }
    if let Err(e) = import(bytes, &Options::default()) {
        assert!(matches!(e.kind, Kind::Load | Kind::Usage), "{e}");
    }
}

fn small_safetensors() -> Vec<u8> {
    let shapes: [(&str, Vec<usize>); 8] = [
        ("conv1.weight", vec![1, 1, 5, 5]),
        ("conv1.bias", vec![1]),
        ("conv2.weight", vec![1, 1, 5, 5]),
        ("conv2.bias", vec![1]),
        ("fc1.weight", vec![2, 4]),
        ("fc1.bias", vec![2]),
        ("fc2.weight", vec![3, 2]),
        ("fc2.bias", vec![3]),
    ];
    let tensors = shapes.map(|(name, shape)| (name.to_string(), named::weight(name, &shape)));
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(n, t)| (n.clone(), t.dims().to_vec(), host(t).iter().flat_map(|&v| (v as f32).to_le_bytes()).collect()))
        .collect();
    let views = data.iter().map(|(n, dims, bytes)| {
        (n, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, dims.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_byte_flips_never_panic(
        file in prop::sample::select(vec!["shapes_18.onnx", "layouts_13.onnx", "matrices_13.onnx", "pools_11.onnx"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6),
    ) {
        flip(file, &changes);
    }

    #[test]
    fn random_byte_flips_in_weights_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..4),
    ) {
        let mut bytes = small_safetensors();
        let header = bytes.len() / 2; // most changes to the weights themselves are still weights
        for (place, value) in &changes {
            bytes[place.index(header)] ^= value;
        }
        let built = StateDict::from_bytes(&bytes).and_then(|dict| arch::build(&dict, &Options::default()));
        prop_assert!(built.is_ok() || !changes.is_empty());
    }
}
