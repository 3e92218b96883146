//! CIFAR-10's form with one number a picture in it, its brightness, and a network that needs the right normalisation to read
//! the class from it.

use safetensors::{Dtype, tensor::TensorView};
use std::path::Path;

/// How the network was "trained".
pub const RIGHT: &str = "mean=0.4914,0.4822,0.4465&std=0.2471,0.2435,0.2616";
pub const WRONG: &str = "mean=0.5&std=0.5";
/// Brightness of a class, in levels, and the most that a picture differs from it: more than half the distance of two.
const FIRST: usize = 25;
const APART: usize = 22;
const SPREAD: usize = 14;

/// Class and brightness of a picture.
fn picture(id: usize) -> (usize, usize) {
    let mixed = id.wrapping_mul(2_654_435_761) >> 7;
    (mixed % 10, FIRST + APART * (mixed % 10) + (mixed / 10) % (2 * SPREAD + 1) - SPREAD)
}

/// `test_batch.bin` of 10,000 pictures.
pub fn data(folder: &Path) {
    let rows = (0..10_000).flat_map(|id| {
        let (class, level) = picture(id);
        std::iter::once(class as u8).chain(std::iter::repeat_n(level as u8, 3072))
    });
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("test_batch.bin"), rows.collect::<Vec<u8>>()).unwrap();
}

/// Per cent of the pictures that the network reads rightly: those that are not nearer to a neighbour.
pub fn accuracy() -> f64 {
    let right = |id: &usize| {
        let (class, level) = picture(*id);
        let nearest = ((level - FIRST.min(level)) as f64 / APART as f64).round().min(9.) as usize;
        nearest == class
    };
    (0..10_000).filter(right).count() as f64 / 100.
}

/// A `cifar-resnet` of two channels, the brightness and its negative, that takes the nearest class.
pub fn model(path: &Path) {
    let normalised = |level: usize| (level as f32 / 255. - 0.4914) / 0.2471;
    let mut stem = vec![0f32; 2 * 3 * 9];
    (stem[4], stem[27 + 4]) = (1., -1.);
    let centres: Vec<f32> = (0..10).map(|k| normalised(FIRST + APART * k)).collect();
    let weight: Vec<f32> = centres.iter().flat_map(|c| [2. * c, -2. * c]).collect();
    let bias: Vec<f32> = centres.iter().map(|c| -c * c).collect();
    let mut tensors = vec![
        ("conv1.weight".to_string(), vec![2, 3, 3, 3], stem),
        ("layer1.0.conv1.weight".to_string(), vec![2, 2, 3, 3], vec![0.; 36]),
        ("layer1.0.conv2.weight".to_string(), vec![2, 2, 3, 3], vec![0.; 36]),
        ("linear.weight".to_string(), vec![10, 2], weight),
        ("linear.bias".to_string(), vec![10], bias),
    ];
    for norm in ["bn1", "layer1.0.bn1", "layer1.0.bn2"] {
        for (name, value) in [("weight", 1.), ("bias", 0.), ("running_mean", 0.), ("running_var", 1.)] {
            tensors.push((format!("{norm}.{name}"), vec![2], vec![value; 2]));
        }
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> =
        tensors.into_iter().map(|(n, s, v)| (n, s, v.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views = bytes.iter().map(|(n, s, b)| (n.as_str(), TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
