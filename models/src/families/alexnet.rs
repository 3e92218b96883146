//! `alexnet`: AlexNet (Krizhevsky 2014, "One weird trick") as torchvision names it, the baseline of ImageNet-C's errors.

use super::architecture::Architecture;
use crate::layers::stack::{Conv, IMAGENET, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::Result;
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "alexnet",
    doc: "torchvision's: convolutions features.0 (11x11, stride 4), features.3 (5x5), features.6, features.8, features.10 (3x3), 3x3 \
          max pools with stride 2 after the first, second and last, mean pool to 6x6, linear layers classifier.1, classifier.4, \
          classifier.6",
    params: &[],
    detect,
    build,
};

/// Number, kernel, stride, pads, and the number of the max pool behind its ReLU.
const CONVS: [(usize, usize, usize, usize, Option<usize>); 5] =
    [(0, 11, 4, 2, Some(2)), (3, 5, 1, 2, Some(5)), (6, 3, 1, 1, None), (8, 3, 1, 1, None), (10, 3, 1, 1, Some(12))];
/// Height and width of the maps the classifier reads.
const SIDE: usize = 6;

fn detect(dict: &StateDict) -> bool {
    ["classifier.1.weight", "classifier.4.weight", "classifier.6.weight"].iter().all(|n| dict.contains(n))
        && dict.dims("features.0.weight").is_some_and(|d| d.len() == 4 && d.ends_with(&[11, 11]))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [_, channels, ..] = dict.sizes::<4>("features.0.weight")?;
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    for (i, kernel, stride, pad, pool) in CONVS {
        let [out, ..] = stack.dict.sizes::<4>(&format!("features.{i}.weight"))?;
        x = stack.conv_with(
            x,
            &format!("features.{i}"),
            Conv { out, kernel, stride, pads: [pad; 4], groups: 1 },
            true,
        )?;
        x = stack.relu(x, &format!("features.{}", i + 1))?;
        if let Some(pool) = pool {
            x = stack.max_pool(x, &format!("features.{pool}"), 3, 2, 0)?;
        }
    }
    x = stack.mean_to(x, "avgpool", SIDE)?;
    x = stack.flatten(x)?;
    stack.perceptron(x, "classifier", &[1, 4, 6])
}
