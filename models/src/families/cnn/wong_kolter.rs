//! `wong-kolter`: the networks of the provable defence (Wong and Kolter 2018; Wong et al. 2018), small, large, wide and deep: an
//! `nn.Sequential` of convolutions and linear layers with a ReLU behind all but the last. Kernels of 4 halve the maps, kernels of 3 keep
//! them; both have a padding of 1. Fast adversarial training's net for MNIST (Wong et al. 2020) is the small one.

use crate::families::architecture::Architecture;
use crate::layers::stack::{Conv, Stack, Usual};
use crate::options::Options;
use crate::weights::StateDict;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId};

pub const ARCHITECTURE: Architecture = Architecture {
    name: "wong-kolter",
    doc: "Wong and Kolter's nn.Sequential (0, 2, ..): conv 4x4 of stride 2 and conv 3x3, padding 1, then linear layers; ReLU between",
    params: &[],
    detect: |dict| plan(dict).is_some(),
    build,
};

/// What their networks for CIFAR-10 subtract and divide by.
const CIFAR: Usual = Usual::Known { whose: "Wong and Kolter's", mean: [0.485, 0.456, 0.406], std: [0.225; 3] };
const KERNELS: [usize; 2] = [3, 4];

/// Layers by their numbers in the `nn.Sequential`.
struct Layers {
    /// With their kernels.
    convs: Vec<(usize, usize)>,
    linear: Vec<usize>,
}

/// Numbers of the convolutions with their kernels, and of the linear layers: every other one, and one more place for the flattening.
/// `None` for any other file.
fn plan(dict: &StateDict) -> Option<Layers> {
    let dims = |i: usize| dict.dims(&format!("{i}.weight")).map(<[usize]>::len).zip(dict.dims(&format!("{i}.bias")));
    let mut convs = vec![];
    let mut at = 0;
    while let Some((4, [_])) = dims(at) {
        let &[_, _, height, width] = dict.dims(&format!("{at}.weight"))? else { return None };
        if height != width || !KERNELS.contains(&height) {
            return None;
        }
        convs.push((at, height));
        at += 2;
    }
    at += 1;
    let mut linear = vec![];
    while let Some((2, [_])) = dims(at) {
        linear.push(at);
        at += 2;
    }
    // A kernel of 3 alone could be of anyone's net.
    let theirs = convs.iter().any(|(_, kernel)| *kernel == 4) && !linear.is_empty();
    (theirs && dict.names().count() == 2 * (convs.len() + linear.len())).then_some(Layers { convs, linear })
}

fn build(dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<NodeId> {
    let Layers { convs, linear } = plan(dict).ok_or_else(|| {
        let why = "they are not square convolutions of 3 and 4 at `0.`, `2.`, .. with linear layers behind them, biases and all";
        Error::load("the weights", why)
            .hint("tell the layers of another nn.Sequential: `?layers=conv(s=2,p=1),relu,flatten,linear`")
    })?;
    let (Some(&(last, _)), Some(&first)) = (convs.last(), linear.first()) else {
        return Err(Error::internal("a plan without layers"));
    };
    let [_, channels, ..] = dict.sizes::<4>("0.weight")?;
    let [maps, ..] = dict.sizes::<4>(&format!("{last}.weight"))?;
    let [_, flat] = dict.sizes(&format!("{first}.weight"))?;
    let side = (flat / maps.max(1)).isqrt();
    if options.input.is_none() && side * side * maps != flat {
        return Err(Error::load(format!("`{first}.weight`"), format!("{flat} inputs are not {maps} square maps"))
            .hint("say the image size: `?input=CxHxW`"));
    }
    let halved = convs.iter().filter(|(_, kernel)| *kernel == 4).count() as u32;
    let side = side.saturating_mul(2usize.saturating_pow(halved));
    dict.note(
        "kernels of 4 have stride 2, kernels of 3 stride 1, all a padding of 1, with ReLU between the layers, as in Wong and Kolter's \
         networks; if yours is another, tell its layers: `?layers=conv(s=2,p=1),relu,flatten,linear`",
    );
    let mut s = Stack { dict, net };
    let mut x = s.input(options, [channels, side, side], CIFAR)?;
    for (i, kernel) in convs {
        let [out, ..] = s.dict.sizes::<4>(&format!("{i}.weight"))?;
        let stride = if kernel == 4 { 2 } else { 1 };
        x = s.conv(x, &i.to_string(), Conv { pads: [1; 4], ..Conv::same(out, kernel, stride) })?;
        x = s.relu(x, &(i + 1).to_string())?;
    }
    x = s.flatten(x)?;
    for i in linear.iter().copied() {
        let [out, _] = s.dict.sizes(&format!("{i}.weight"))?;
        x = s.linear(x, &i.to_string(), out)?;
        if Some(&i) != linear.last() {
            x = s.relu(x, &(i + 1).to_string())?;
        }
    }
    Ok(x)
}
