//! `vgg`: VGG with or without batch norm (Simonyan and Zisserman 2015) as torchvision names it. Where the pools are
//! follows from the gaps in the numbers of the layers.

use super::architecture::Architecture;
use crate::layers::stack::{Conv, IMAGENET, Stack};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "vgg",
    doc: "torchvision's: 3x3 convolutions (features.N, batch norm beside them or not) and 2x2 max pools, mean pool to 7x7, \
          linear layers classifier.0, classifier.3, classifier.6",
    params: &[],
    detect,
    build,
};

/// Height and width of the maps the classifier reads.
const SIDE: usize = 7;

fn detect(dict: &StateDict) -> bool {
    ["classifier.0.weight", "classifier.3.weight", "classifier.6.weight"].iter().all(|n| dict.contains(n))
        && dict.dims("features.0.weight").is_some_and(|d| d.len() == 4 && d.ends_with(&[3, 3]))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [_, channels, ..] = dict.sizes::<4>("features.0.weight")?;
    let mut convs: Vec<usize> = vec![];
    let rank = |i: usize| dict.dims(&format!("features.{i}.weight")).map(<[usize]>::len);
    // Numbers are few and close together; one beyond the count of tensors is not a VGG and left over.
    convs.extend((0..4 * dict.names().count()).filter(|&i| rank(i) == Some(4)));
    let normed: Vec<bool> = convs.iter().map(|&i| rank(i + 1) == Some(1)).collect();
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 224, 224], IMAGENET)?;
    for (n, (&i, normed)) in convs.iter().zip(normed).enumerate() {
        let [out, ..] = stack.dict.sizes::<4>(&format!("features.{i}.weight"))?;
        x = stack.conv(x, &format!("features.{i}"), Conv::same(out, 3, 1))?;
        if normed {
            x = stack.batch_norm(x, &format!("features.{}", i + 1))?;
        }
        let relu = i + 1 + usize::from(normed);
        x = stack.relu(x, &format!("features.{relu}"))?;
        match convs.get(n + 1) {
            Some(&next) if next == relu + 1 => {}
            Some(&next) if next != relu + 2 => {
                let why = format!("features.{next} follows features.{relu}: no VGG has this gap");
                return Err(Error::load("the weights", why));
            }
            _ => x = stack.max_pool(x, &format!("features.{}", relu + 1), 2, 2, 0)?,
        }
    }
    x = stack.mean_to(x, "avgpool", SIDE)?;
    x = stack.flatten(x)?;
    stack.perceptron(x, "classifier", &[0, 3, 6])
}
