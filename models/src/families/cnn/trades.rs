//! `trades-cnn`: the SmallCNN of TRADES (Zhang et al. 2019) for MNIST: four 3x3 convolutions without padding, two max pools, three
//! linear layers; widths and image size follow from the tensors.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "trades-cnn",
    doc: "TRADES' SmallCNN: conv 3x3 twice, max pool 2, twice again (feature_extractor.conv1..4), three linear layers (classifier.fc1..3)",
    params: &[],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    [
        "feature_extractor.conv1.weight",
        "feature_extractor.conv4.weight",
        "classifier.fc1.weight",
        "classifier.fc3.weight",
    ]
    .iter()
    .all(|n| dict.contains(n))
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [_, channels, ..] = dict.sizes::<4>("feature_extractor.conv1.weight")?;
    let [last, ..] = dict.sizes::<4>("feature_extractor.conv4.weight")?;
    let [_, flat] = dict.sizes("classifier.fc1.weight")?;
    let side = (flat / last.max(1)).isqrt();
    if options.input.is_none() && side * side * last != flat {
        return Err(Error::load("`classifier.fc1.weight`", format!("{flat} inputs are not {last} square maps"))
            .hint("say the image size: `?input=CxHxW`"));
    }
    let mut stack = Stack { dict, net };
    // Each pair of convolutions takes 4 off a side, each pool halves it.
    let side = side.saturating_mul(4).saturating_add(12);
    let mut x = stack.input(options, [channels, side, side], Usual::Raw)?;
    for i in 1..=4 {
        let name = format!("feature_extractor.conv{i}");
        let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.weight"))?;
        x = stack.conv(x, &name, Conv { pads: [0; 4], ..Conv::same(out, 3, 1) })?;
        x = stack.relu(x, &format!("feature_extractor.relu{i}"))?;
        if i % 2 == 0 {
            x = stack.max_pool(x, &format!("feature_extractor.maxpool{}", i / 2), 2, 2, 0)?;
        }
    }
    x = stack.flatten(x)?;
    for i in 1..=3 {
        let name = format!("classifier.fc{i}");
        let [out, _] = stack.dict.sizes(&format!("{name}.weight"))?;
        x = stack.linear(x, &name, out)?;
        if i < 3 {
            x = stack.relu(x, &format!("classifier.relu{i}"))?;
        }
    }
    Ok(x)
}
