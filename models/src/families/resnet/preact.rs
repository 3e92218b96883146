//! `preact-resnet`: pre-activation residual networks with a 3x3 stem (He et al. 2016b, RobustBench's PreActResNet18).
//! Two functions share their tensors: a block's shortcut convolution reads the block's input or its activation.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "preact-resnet",
    doc: "3x3 stem (conv1), stages layer1, ... of blocks that normalise first (bn1, conv1, bn2, conv2, shortcut.0), a last \
          norm (bn) if the file has one, global mean, linear; `variant=input|activated` says what shortcuts read",
    params: &["variant"],
    detect,
    build,
};

fn detect(dict: &StateDict) -> bool {
    let names = ["layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn2.weight"];
    names.iter().all(|n| dict.contains(n))
        && (dict.contains("linear.weight") || dict.contains("fc.weight"))
        && dict.dims("conv1.weight").is_some_and(|d| d.ends_with(&[3, 3]))
        && !dict.contains("bn1.weight")
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let [stem, channels, ..] = dict.sizes::<4>("conv1.weight")?;
    let last = dict.contains("bn.weight");
    let activated = match options.variant.as_deref() {
        Some("input") => false,
        Some("activated") => true,
        Some(other) => {
            return Err(Error::usage(format!("variant = `{other}` is not one of this architecture's"))
                .hint("say `variant=input` or `variant=activated`"));
        }
        None => {
            let (taken, other) = if last { ("activated", "input") } else { ("input", "activated") };
            dict.note(format!(
                "shortcuts read the {taken} side of their block, as usual {} a last `bn`; the tensors do not tell: \
                 `?variant={other}` if accuracy is off",
                if last { "with" } else { "without" }
            ));
            last
        }
    };
    let head = if dict.contains("fc.weight") { "fc" } else { "linear" };
    let mut stack = Stack { dict, net };
    let mut x = stack.input(options, [channels, 32, 32], Usual::Raw)?;
    x = stack.conv(x, "conv1", Conv::same(stem, 3, 1))?;
    for i in 1..=stack.dict.count(|i| format!("layer{}", i + 1)) {
        for j in 0..stack.dict.count(|j| format!("layer{i}.{j}")) {
            let name = format!("layer{i}.{j}");
            let halves = i > 1 && j == 0 && stack.dict.contains(&format!("{name}.shortcut.0.weight"));
            x = block(&mut stack, x, &name, if halves { 2 } else { 1 }, activated)?;
        }
    }
    if last {
        x = stack.batch_norm(x, "bn")?;
        x = stack.relu(x, "relu")?;
    }
    stack.pooled_head(x, head)
}

fn block(stack: &mut Stack, x: NodeId, name: &str, stride: usize, activated: bool) -> Result<NodeId> {
    let bottleneck = stack.dict.contains(&format!("{name}.conv3.weight"));
    let kernels: &[(usize, usize)] = if bottleneck { &[(1, 1), (3, stride), (1, 1)] } else { &[(3, stride), (3, 1)] };
    let (mut y, mut first) = (x, x);
    for (i, (kernel, stride)) in kernels.iter().enumerate() {
        let [out, ..] = stack.dict.sizes::<4>(&format!("{name}.conv{}.weight", i + 1))?;
        y = stack.batch_norm(y, &format!("{name}.bn{}", i + 1))?;
        y = stack.relu(y, &format!("{name}.relu{}", i + 1))?;
        if i == 0 {
            first = y;
        }
        y = stack.conv(y, &format!("{name}.conv{}", i + 1), Conv::same(out, *kernel, *stride))?;
    }
    let (mut skip, out) = (x, stack.channels(y));
    if stride != 1 || stack.channels(x) != out || stack.dict.contains(&format!("{name}.shortcut.0.weight")) {
        // Bottlenecks exist in one form only.
        let from = if activated || bottleneck { first } else { x };
        skip = stack.conv(from, &format!("{name}.shortcut.0"), Conv::same(out, 1, stride))?;
    }
    stack.add(y, skip, &format!("{name}.add"))
}
