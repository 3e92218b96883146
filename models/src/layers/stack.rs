//! Lays layers onto a builder with the weights of a state dict, in PyTorch's names.

use super::normalise::normalise;
use crate::options::Options;
use crate::weights::StateDict;
use candle_core::{Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Activation, Binary, Builder, NodeId, Op, Pads, ParamId, Reduction, Window};

pub(crate) struct Stack<'a> {
    pub dict: &'a mut StateDict,
    pub net: &'a mut Builder,
}

/// What a family's networks expect of their pixels when neither the file nor the user says.
#[derive(Clone, Copy)]
pub(crate) enum Usual {
    Raw,
    Known { whose: &'static str, mean: [f64; 3], std: [f64; 3] },
}

pub(crate) const IMAGENET: Usual =
    Usual::Known { whose: "ImageNet's", mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

pub(crate) const HALF: Usual = Usual::Known { whose: "Inception's", mean: [0.5; 3], std: [0.5; 3] };

/// The note on a normalisation that nobody asked for.
pub(crate) fn applied(whose: &str) -> String {
    format!(
        "{whose} mean and standard deviation are applied, as networks of this family expect; `?mean=none` if yours takes pixels \
         as they are"
    )
}

/// One square convolution.
#[derive(Clone, Copy)]
pub(crate) struct Conv {
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pads: Pads,
    pub groups: usize,
}

impl Conv {
    /// Keeps the size at stride 1.
    pub fn same(out: usize, kernel: usize, stride: usize) -> Self {
        Self { out, kernel, stride, pads: [kernel / 2; 4], groups: 1 }
    }

    pub fn grouped(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// TensorFlow's `SAME`: at stride 2 the zeros go below and to the right.
    pub fn tf_same(out: usize, kernel: usize, stride: usize) -> Self {
        let all = kernel.saturating_sub(stride);
        let before = all / 2;
        Self { pads: [before, before, all - before, all - before], ..Self::same(out, kernel, stride) }
    }
}

/// Buffers of a normalising layer or wrapper; the wrapped model's names have a prefix that these lack.
const NORMALISERS: [(&str, &str); 3] = [("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std")];

/// The names of the buffers that normalise the input: at the top, or one level down (`normalize.mean`, `0.mean`).
fn normaliser(dict: &StateDict) -> Option<(String, String)> {
    let partner = |name: &str| {
        let (head, last) =
            name.rsplit_once('.').map_or(("", name), |(_, last)| (&name[..name.len() - last.len()], last));
        let (_, std) = NORMALISERS.iter().find(|(mean, _)| *mean == last)?;
        (head.matches('.').count() <= 1).then(|| format!("{head}{std}")).filter(|s| dict.contains(s))
    };
    dict.names().find_map(|name| partner(name).map(|std| (name.to_string(), std)))
}

/// Whether a tensor is such a buffer, whatever its prefix.
pub(crate) fn normalises(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    NORMALISERS.iter().any(|(m, s)| last == *m || last == *s)
}

impl Stack<'_> {
    /// The input and its normalisation; `shape` is what to assume when the user says nothing.
    pub fn input(&mut self, options: &Options, shape: [usize; 3], usual: Usual) -> Result<NodeId> {
        let shape = match options.input {
            Some(wanted) if wanted[0] != shape[0] => {
                return Err(Error::usage(format!(
                    "input has {} channels, the weights are for {}",
                    wanted[0], shape[0]
                )));
            }
            Some(wanted) => wanted,
            None => shape,
        };
        let x = self.net.input("image", &shape)?;
        let buffers = match normaliser(self.dict) {
            Some((mean, std)) => {
                self.dict.note(format!("the file's own `{mean}` and `{std}` normalise the input"));
                Some((self.per_channel(&mean, shape[0])?, self.per_channel(&std, shape[0])?))
            }
            None if options.mean.is_some() || options.std.is_some() => None,
            None => self.usual(shape[0], usual)?,
        };
        normalise(self.net, x, options, buffers)
    }

    fn usual(&mut self, channels: usize, usual: Usual) -> Result<Option<(Tensor, Tensor)>> {
        match usual {
            Usual::Known { whose, mean, std } if channels == 3 => {
                self.dict.note(applied(whose));
                Ok(Some((Tensor::new(&mean, &Device::Cpu)?, Tensor::new(&std, &Device::Cpu)?)))
            }
            _ => {
                self.dict.note(
                    "pixels enter in [0,1] as they are, for no tensor tells; if the network was trained on normalised images, say \
                     `?mean=imagenet`, `?mean=cifar10`, `?mean=half` or `?mean=..&std=..`",
                );
                Ok(None)
            }
        }
    }

    /// A buffer `[c]`, `[c, 1, 1]` or `[1, c, 1, 1]`, or a single value for all channels.
    fn per_channel(&mut self, name: &str, channels: usize) -> Result<Tensor> {
        let forms = [vec![], vec![1], vec![channels], vec![channels, 1, 1], vec![1, channels, 1, 1]];
        let form = forms.iter().find(|f| self.dict.dims(name) == Some(f)).unwrap_or(&forms[2]);
        self.dict.take(name, form)
    }

    pub fn channels(&self, x: NodeId) -> usize {
        self.net.shape(x).row.first().copied().unwrap_or(0)
    }

    pub fn param(&mut self, name: String, shape: &[usize]) -> Result<ParamId> {
        let value = self.dict.take(&name, shape)?;
        Ok(self.net.param(name, value))
    }

    /// A convolution, with a bias if the file has one.
    pub fn conv(&mut self, x: NodeId, name: &str, conv: Conv) -> Result<NodeId> {
        let biased = self.dict.contains(&format!("{name}.bias"));
        self.conv_with(x, name, conv, biased)
    }

    pub fn conv_with(&mut self, x: NodeId, name: &str, conv: Conv, biased: bool) -> Result<NodeId> {
        let Conv { out, kernel, groups, .. } = conv;
        let channels = self.channels(x) / groups.max(1);
        let weight = self.param(format!("{name}.weight"), &[out, channels, kernel, kernel])?;
        let bias = biased.then(|| self.param(format!("{name}.bias"), &[out])).transpose()?;
        self.convolved(x, name, conv, (weight, bias))
    }

    /// A convolution by weights that are laid already.
    pub fn convolved(
        &mut self,
        x: NodeId,
        name: &str,
        conv: Conv,
        (weight, bias): (ParamId, Option<ParamId>),
    ) -> Result<NodeId> {
        let Conv { stride, pads, groups, .. } = conv;
        let op = Op::Conv2d { weight, bias, stride: [stride; 2], dilation: [1, 1], pads, groups };
        self.net.node(name, op, &[x])
    }

    pub fn batch_norm(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.batch_norm_with(x, name, 1e-5)
    }

    pub fn batch_norm_with(&mut self, x: NodeId, name: &str, eps: f64) -> Result<NodeId> {
        let c = [self.channels(x)];
        let op = Op::BatchNorm {
            mean: self.param(format!("{name}.running_mean"), &c)?,
            var: self.param(format!("{name}.running_var"), &c)?,
            gamma: Some(self.param(format!("{name}.weight"), &c)?),
            beta: Some(self.param(format!("{name}.bias"), &c)?),
            eps,
        };
        self.net.node(name, op, &[x])
    }

    pub fn linear(&mut self, x: NodeId, name: &str, out: usize) -> Result<NodeId> {
        self.linear_with(x, name, out, true)
    }

    pub fn linear_with(&mut self, x: NodeId, name: &str, out: usize, biased: bool) -> Result<NodeId> {
        let inputs = self.net.shape(x).row.last().copied().unwrap_or(0);
        let weight = self.param(format!("{name}.weight"), &[out, inputs])?;
        let bias = biased.then(|| self.param(format!("{name}.bias"), &[out])).transpose()?;
        self.net.node(name, Op::Linear { weight, bias }, &[x])
    }

    /// A linear layer without bias whose weight `[inputs, out]` is kept for multiplying from the right.
    pub fn times(&mut self, x: NodeId, weight: &str, out: usize, name: &str) -> Result<NodeId> {
        let inputs = self.net.shape(x).row.last().copied().unwrap_or(0);
        let value = self.dict.take(weight, &[inputs, out])?;
        // A stand-in may be without axes.
        let value = if value.rank() == 2 { value.t()?.contiguous()? } else { value };
        let weight = self.net.param(weight, value);
        self.net.node(name, Op::Linear { weight, bias: None }, &[x])
    }

    pub fn layer_norm(&mut self, x: NodeId, name: &str, eps: f64) -> Result<NodeId> {
        let width = [self.net.shape(x).row.last().copied().unwrap_or(0)];
        let gamma = Some(self.param(format!("{name}.weight"), &width)?);
        let beta = Some(self.param(format!("{name}.bias"), &width)?);
        self.net.node(name, Op::LayerNorm { gamma, beta, eps }, &[x])
    }

    /// A linear layer over the last axis, kept as one or as a convolution of 1x1.
    pub fn pointwise(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        let inputs = self.net.shape(x).row.last().copied().unwrap_or(0);
        let weight = format!("{name}.weight");
        let dims = self.dict.dims(&weight).map_or(vec![], <[usize]>::to_vec);
        let out = dims.first().copied().unwrap_or(0);
        let shape = if dims.len() == 4 { vec![out, inputs, 1, 1] } else { vec![out, inputs] };
        let value = self.dict.take(&weight, &shape)?.reshape((out, inputs))?;
        let weight = self.net.param(weight, value);
        let bias = Some(self.param(format!("{name}.bias"), &[out])?);
        self.net.node(name, Op::Linear { weight, bias }, &[x])
    }

    /// A weight as a value.
    pub fn constant(&mut self, name: &str, shape: &[usize]) -> Result<NodeId> {
        let param = self.param(name.to_string(), shape)?;
        self.net.node(name, Op::Param(param), &[])
    }

    /// Three linear layers of one width whose weights are kept as one, with a bias if the file has one.
    pub fn thirds(&mut self, x: NodeId, name: &str, width: usize) -> Result<[NodeId; 3]> {
        let bias = format!("{name}.bias");
        let bias = self.dict.contains(&bias).then(|| self.dict.take(&bias, &[3 * width])).transpose()?;
        self.thirds_with(x, name, &format!("{name}.weight"), bias, width)
    }

    /// The same with a weight of any name and a bias `[3 width]` from elsewhere.
    pub fn thirds_with(
        &mut self,
        x: NodeId,
        name: &str,
        weight: &str,
        bias: Option<Tensor>,
        width: usize,
    ) -> Result<[NodeId; 3]> {
        self.thirds_of([x; 3], name, weight, bias, width)
    }

    /// The same where each layer reads a value of its own, all as wide as the first.
    pub fn thirds_of(
        &mut self,
        xs: [NodeId; 3],
        name: &str,
        weight: &str,
        bias: Option<Tensor>,
        width: usize,
    ) -> Result<[NodeId; 3]> {
        let inputs = self.net.shape(xs[0]).row.last().copied().unwrap_or(0);
        let weight = self.dict.take(weight, &[3 * width, inputs])?;
        let mut third = |i: usize, part: &str| self.part(xs[i], name, part, (&weight, bias.as_ref()), i * width, width);
        Ok([third(0, "q")?, third(1, "k")?, third(2, "v")?])
    }

    /// Two linear layers of one width whose weights are kept as one.
    pub fn halves(&mut self, x: NodeId, name: &str, width: usize, biased: bool) -> Result<[NodeId; 2]> {
        let inputs = self.net.shape(x).row.last().copied().unwrap_or(0);
        let weight = self.dict.take(&format!("{name}.weight"), &[2 * width, inputs])?;
        let bias = biased.then(|| self.dict.take(&format!("{name}.bias"), &[2 * width])).transpose()?;
        let mut half = |i: usize, part: &str| self.part(x, name, part, (&weight, bias.as_ref()), i * width, width);
        Ok([half(0, "first")?, half(1, "second")?])
    }

    /// The linear layer of some rows of a weight.
    fn part(
        &mut self,
        x: NodeId,
        name: &str,
        part: &str,
        (weight, bias): (&Tensor, Option<&Tensor>),
        start: usize,
        width: usize,
    ) -> Result<NodeId> {
        let cut = |t: &Tensor| t.narrow(0, start, width)?.contiguous();
        let weight = self.net.param(format!("{name}.weight.{part}"), cut(weight)?);
        let bias = bias.map(cut).transpose()?.map(|b| self.net.param(format!("{name}.bias.{part}"), b));
        self.net.node(format!("{name}.{part}"), Op::Linear { weight, bias }, &[x])
    }

    pub fn act(&mut self, x: NodeId, name: &str, act: Activation) -> Result<NodeId> {
        self.net.node(name, Op::Act(act), &[x])
    }

    pub fn relu(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.act(x, name, Activation::Relu)
    }

    pub fn add(&mut self, x: NodeId, y: NodeId, name: &str) -> Result<NodeId> {
        self.net.node(name, Op::Binary(Binary::Add), &[x, y])
    }

    pub fn max_pool(&mut self, x: NodeId, name: &str, kernel: usize, stride: usize, pad: usize) -> Result<NodeId> {
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], pads: [pad; 4], ceil: false };
        self.net.node(name, Op::MaxPool(window), &[x])
    }

    pub fn flatten(&mut self, x: NodeId) -> Result<NodeId> {
        let row = vec![self.net.shape(x).len()];
        self.net.node("flatten", Op::Reshape { row }, &[x])
    }

    /// The mean over all positions, then the last linear layer, whose tensors say how many classes there are.
    pub fn pooled_head(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.pooled(x, name, true)
    }

    /// The same for families that some train without the last bias.
    pub fn pooled_head_maybe_biased(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.pooled(x, name, false)
    }

    /// As [`Stack::pooled_head`], or an embedding where the file has no last layer at all.
    pub fn pooled_or_head(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        if self.dict.any(&format!("{name}.")) {
            return self.pooled(x, name, true);
        }
        self.dict.embeds();
        self.mean(x)
    }

    /// The last linear layer over an embedding, or the embedding itself where the file has none.
    pub fn head(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        if !self.dict.any(&format!("{name}.")) {
            self.dict.embeds();
            return Ok(x);
        }
        let [classes, _] = self.dict.sizes(&format!("{name}.weight"))?;
        self.linear(x, name, classes)
    }

    /// Stage after stage of blocks, as many as the file has of each; `name` says how it calls a block of a stage, both counted
    /// from 0, and `block` lays one. The first of every stage but the first has stride 2.
    pub fn stages(
        &mut self,
        mut x: NodeId,
        name: impl Fn(usize, usize) -> String,
        mut block: impl FnMut(&mut Self, NodeId, &str, usize) -> Result<NodeId>,
    ) -> Result<NodeId> {
        for i in 0..self.dict.count(|i| name(i, 0)) {
            for j in 0..self.dict.count(|j| name(i, j)) {
                x = block(self, x, &name(i, j), if i > 0 && j == 0 { 2 } else { 1 })?;
            }
        }
        Ok(x)
    }

    /// Linear layers of these numbers under `name`, with ReLU behind all but the last.
    pub fn perceptron(&mut self, mut x: NodeId, name: &str, layers: &[usize]) -> Result<NodeId> {
        for (n, i) in layers.iter().enumerate() {
            let layer = format!("{name}.{i}");
            let [out, _] = self.dict.sizes(&format!("{layer}.weight"))?;
            x = self.linear(x, &layer, out)?;
            if n + 1 < layers.len() {
                x = self.relu(x, &format!("{name}.{}", i + 1))?;
            }
        }
        Ok(x)
    }

    /// The mean over all positions.
    pub fn mean(&mut self, x: NodeId) -> Result<NodeId> {
        self.net.node("pool", Op::Reduce { kind: Reduction::Mean, axes: vec![2, 3], keep: false }, &[x])
    }

    fn pooled(&mut self, x: NodeId, name: &str, always: bool) -> Result<NodeId> {
        let [classes, _] = self.dict.sizes(&format!("{name}.weight"))?;
        let x = self.mean(x)?;
        let biased = always || self.dict.contains(&format!("{name}.bias"));
        self.linear_with(x, name, classes, biased)
    }
}

/// The activation a user names, or the family's own.
pub(crate) fn activation(options: &Options, usual: Activation) -> Result<Activation> {
    let Some(name) = &options.activation else { return Ok(usual) };
    const KNOWN: [(&str, Activation); 7] = [
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("elu", Activation::Elu(1.)),
        ("softplus", Activation::Softplus),
        ("leaky_relu", Activation::LeakyRelu(0.01)),
    ];
    KNOWN.iter().find(|(n, _)| n == name).map(|(_, a)| *a).ok_or_else(|| {
        let known = KNOWN.map(|(n, _)| n).join(", ");
        Error::usage(format!("`{name}` is not an activation known here")).hint(format!("known: {known}"))
    })
}
