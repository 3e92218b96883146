//! Heads: what turns an encoder's embedding into scores of classes. A head becomes part of the network under attack, so
//! every one is a few differentiable ops.

use crate::files::safetensors::parse;
use crate::layers::stack::Stack;
use crate::layers::tokens::{self, made, unit};
use crate::loaded::{LoadedModel, describe};
use crate::weights::{StateDict, View};
use crate::{bytes, convert};
use ::safetensors::{Dtype, SafeTensors};
use candle_core::{DType, Device, Tensor};
use robust_core::{Card, Error, Model, Result};
use robust_engine::{Activation, Binary, Builder, NetworkModel, NodeId, Op, Reduction, Reference};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What the votes of neighbours that are not among the `k` nearest count, so that a gradient points to every class and
/// ties between classes are settled.
const FAINT: f64 = 1e-6;
/// Votes below it count as this: their logarithm must be finite.
const FLOOR: f64 = 1e-30;
const MAX_BYTES: u64 = 2 << 30;
const KIND: &str = "robust.head";
const ENCODER: &str = "robust.encoder";

/// Scores of classes from embeddings `[n, d]`. Weights are f32 or f64 tensors on the CPU.
#[derive(Debug, Clone)]
pub enum Head {
    /// `weight (x - centre) + bias`: linear probes. The centre is taken off first: entries that are large and hardly differ would
    /// otherwise cancel in single precision.
    Linear { weight: Tensor, bias: Tensor, centre: Option<Tensor> },
    /// `scale cos(weight, x) + bias`: prototypes and zero-shot text. Rows of `weight` have length 1.
    Cosine { weight: Tensor, scale: f64, bias: f64 },
    /// `square y² + weight y + bias` of `y = x - centre`: Gaussian naive Bayes.
    Quadratic { square: Tensor, weight: Tensor, bias: Tensor, centre: Option<Tensor> },
    /// The logarithm of what the `k` nearest of `bank` vote for each class, each with `exp(cos / temperature)` (Wu et al.
    /// 2018, as DINO's evaluation has it). Rows of `bank` have length 1.
    Neighbours { bank: Tensor, labels: Vec<u32>, k: usize, temperature: f64 },
}

impl Head {
    pub fn name(&self) -> &'static str {
        match self {
            Head::Linear { .. } => "linear",
            Head::Cosine { .. } => "cosine",
            Head::Quadratic { .. } => "quadratic",
            Head::Neighbours { .. } => "neighbours",
        }
    }

    fn classes(labels: &[u32]) -> usize {
        labels.iter().max().map_or(0, |m| *m as usize + 1)
    }

    /// Appends the head to an embedding `[n, d]`; returns the scores `[n, classes]`.
    ///
    /// # Errors
    /// Kind `Load` where the embedding has another width.
    pub fn lay(&self, net: &mut Builder, x: NodeId) -> Result<NodeId> {
        let row = net.shape(x).row.clone();
        let width = self.width();
        if row != [width] {
            return Err(Error::load(
                "the head",
                format!("it is for embeddings of {width} entries, the encoder gives {row:?}"),
            )
            .hint("probe this very encoder, with the same `pool` and `input`"));
        }
        let mut none = StateDict::default();
        let s = &mut Stack { dict: &mut none, net };
        let dense = |s: &mut Stack, x: NodeId, name: &str, weight: &Tensor, bias: Option<&Tensor>| {
            let weight = s.net.param(format!("{name}.weight"), weight.clone());
            let bias = bias.map(|b| s.net.param(format!("{name}.bias"), b.clone()));
            s.net.node(name, Op::Linear { weight, bias }, &[x])
        };
        match self {
            Head::Linear { weight, bias, centre } => {
                let x = centred(s, x, centre.as_ref())?;
                dense(s, x, "head", weight, Some(bias))
            }
            Head::Cosine { weight, scale, bias } => {
                let x = unit(s, x, "head.unit")?;
                let x = dense(s, x, "head.cosines", weight, None)?;
                let x = tokens::scale(s, x, *scale, "head.scaled")?;
                let bias = made(s, "head.bias", vec![*bias], &[])?;
                s.add(x, bias, "head")
            }
            Head::Quadratic { square, weight, bias, centre } => {
                let x = centred(s, x, centre.as_ref())?;
                let squares = s.net.node("head.squares", Op::Binary(Binary::Mul), &[x, x])?;
                let first = dense(s, squares, "head.square", square, None)?;
                let second = dense(s, x, "head.linear", weight, Some(bias))?;
                s.add(first, second, "head")
            }
            Head::Neighbours { bank, labels, k, temperature } => {
                let x = unit(s, x, "head.unit")?;
                let cosines = dense(s, x, "head.cosines", bank, None)?;
                votes(s, cosines, labels, *k, *temperature)
            }
        }
    }

    /// Entries of an embedding.
    pub fn width(&self) -> usize {
        match self {
            Head::Linear { weight, .. } | Head::Cosine { weight, .. } | Head::Quadratic { weight, .. } => {
                weight.dims()[1]
            }
            Head::Neighbours { bank, .. } => bank.dims()[1],
        }
    }

    /// Scores `[n, classes]` of embeddings `[n, d]`, in f64.
    pub fn scores(&self, x: &Tensor) -> Result<Tensor> {
        let mut net = Builder::new();
        let input = net.input("embedding", &[self.width()])?;
        let out = self.lay(&mut net, input)?;
        Reference::new(Arc::new(net.finish(out)?), DType::F64)?.forward(x)
    }

    fn centre(&self) -> Option<&Tensor> {
        match self {
            Head::Linear { centre, .. } | Head::Quadratic { centre, .. } => centre.as_ref(),
            _ => None,
        }
    }

    /// Writes a safetensors file, whole or not at all; equal heads are equal bytes.
    ///
    /// # Errors
    /// Kind `Write` when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.lay_down(path, None)
    }

    /// The same with the digest of the network that the head is for: no other will take it.
    ///
    /// # Errors
    /// Kind `Write` when it cannot be written.
    pub fn write_for(&self, path: &Path, encoder: &str) -> Result<()> {
        self.lay_down(path, Some(encoder))
    }

    fn lay_down(&self, path: &Path, encoder: Option<&str>) -> Result<()> {
        let (mut tensors, numbers): (Vec<(&str, Tensor)>, String) = match self {
            Head::Linear { weight, bias, .. } => {
                (vec![("weight", weight.clone()), ("bias", bias.clone())], String::new())
            }
            Head::Cosine { weight, scale, bias } => (vec![("weight", weight.clone())], format!("{scale} {bias}")),
            Head::Quadratic { square, weight, bias, .. } => {
                (vec![("square", square.clone()), ("weight", weight.clone()), ("bias", bias.clone())], String::new())
            }
            Head::Neighbours { bank, labels, k, temperature } => {
                let values: Vec<f64> = labels.iter().map(|&l| f64::from(l)).collect();
                let labels = Tensor::from_vec(values, labels.len(), &Device::Cpu)?;
                (vec![("bank", bank.clone()), ("labels", labels)], format!("{k} {temperature}"))
            }
        };
        tensors.extend(self.centre().map(|c| ("centre", c.clone())));
        let view = |(name, t): (&str, Tensor)| -> Result<View<'static>> {
            let values = t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            Ok((name.to_string(), Dtype::F64, t.dims().to_vec(), bytes.into()))
        };
        let views = tensors.into_iter().map(view).collect::<Result<Vec<_>>>()?;
        let mut about = BTreeMap::from([(KIND, self.name().to_string()), ("numbers", numbers)]);
        about.extend(encoder.map(|digest| (ENCODER, digest.to_string())));
        convert::write(&views, &about, path)
    }

    /// Reads what [`Head::write`] wrote.
    ///
    /// # Errors
    /// Kind `Load` for files that are missing, damaged or no heads.
    pub fn read(path: &Path) -> Result<Self> {
        Self::with_encoder(path).map(|(head, _)| head)
    }

    /// A head for the network of this digest. Returns also what to say where the file does not tell which one it is for.
    ///
    /// # Errors
    /// As [`Head::read`], and kind `Load` for the head of another encoder.
    pub fn read_for(path: &Path, digest: &str) -> Result<(Self, Option<String>)> {
        let (head, encoder) = Self::with_encoder(path)?;
        match encoder {
            Some(own) if own == digest => Ok((head, None)),
            Some(own) => {
                let short = |d: &str| d.chars().take(12).collect::<String>();
                let why = format!("it is for the encoder {}, this one is {}", short(&own), short(digest));
                Err(Error::load(format!("the head {}", path.display()), why).hint(
                    "embeddings of another encoder, `pool`, `input` or normalisation mean something else: fit one on this very encoder with `robust probe`",
                ))
            }
            None => Ok((head, Some("the head does not say which encoder it is for: fit it again to be sure".into()))),
        }
    }

    fn with_encoder(path: &Path) -> Result<(Self, Option<String>)> {
        let bytes = bytes::read_small(path, MAX_BYTES)?;
        Self::parse(&bytes).map_err(|e| bytes::blame(e).within(path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<(Self, Option<String>)> {
        parse(bytes)?;
        let (_, about) = SafeTensors::read_metadata(bytes).map_err(|e| Error::load("the head", e))?;
        let about = about.metadata().clone().unwrap_or_default();
        let Some(kind) = about.get(KIND) else {
            return Err(Error::load("the file", "it is not a head")
                .hint("`robust probe --model ENC --train DATA -o head.safetensors` writes one"));
        };
        let numbers = about.get("numbers").map_or("", String::as_str).split_whitespace();
        let numbers: Vec<f64> = numbers.filter_map(|n| n.parse().ok()).filter(|n: &f64| n.is_finite()).collect();
        let dict = StateDict::from_bytes(bytes)?;
        let matrix = |name: &str| {
            let [_, _] = dict.sizes::<2>(name)?;
            dict.tensor(name).cloned().ok_or_else(|| Error::internal("a tensor went missing"))
        };
        let classes = |of: &Tensor, name: &str| {
            let [n] = dict.sizes::<1>(name)?;
            let found = dict.tensor(name).cloned().filter(|_| n == of.dims()[0]);
            found.ok_or_else(|| {
                Error::load(format!("`{name}`"), format!("it has {n} entries, {} are expected", of.dims()[0]))
            })
        };
        let centre = |of: &Tensor| match dict.contains("centre") {
            false => Ok(None),
            true => match (dict.sizes::<1>("centre")?, of.dims()) {
                ([n], [_, d]) if n == *d => Ok(dict.tensor("centre").cloned()),
                ([n], _) => Err(Error::load("`centre`", format!("its {n} entries are not those of an embedding"))),
            },
        };
        let head = match (kind.as_str(), &numbers[..]) {
            ("linear", []) => {
                let weight = matrix("weight")?;
                Ok(Head::Linear { bias: classes(&weight, "bias")?, centre: centre(&weight)?, weight })
            }
            ("cosine", &[scale, bias]) => Ok(Head::Cosine { weight: matrix("weight")?, scale, bias }),
            ("quadratic", []) => {
                let (weight, square) = (matrix("weight")?, matrix("square")?);
                if weight.dims() != square.dims() {
                    return Err(Error::load(
                        "`square`",
                        format!("it has shape {:?}, {:?} is expected", square.dims(), weight.dims()),
                    ));
                }
                Ok(Head::Quadratic { bias: classes(&weight, "bias")?, centre: centre(&weight)?, weight, square })
            }
            ("neighbours", &[k, temperature]) if k >= 1. && temperature > 0. => {
                let bank = matrix("bank")?;
                let labels = classes(&bank, "labels")?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                let most = bank.dims()[0].max(1 << 16) as f64;
                if let Some(bad) = labels.iter().find(|l| !(**l >= 0. && **l < most && l.fract() == 0.)) {
                    return Err(Error::load("`labels`", format!("{bad} is not a class")));
                }
                Ok(Head::Neighbours {
                    bank,
                    labels: labels.iter().map(|&l| l as u32).collect(),
                    k: k as usize,
                    temperature,
                })
            }
            _ => {
                Err(Error::load("the head", format!("kind `{kind}` with {} numbers is not known here", numbers.len())))
            }
        };
        Ok((head?, about.get(ENCODER).cloned()))
    }
}

/// The embedding less the centre.
fn centred(s: &mut Stack, x: NodeId, centre: Option<&Tensor>) -> Result<NodeId> {
    let Some(centre) = centre else { return Ok(x) };
    let param = s.net.param("head.centre", centre.reshape((1, centre.elem_count()))?);
    let centre = s.net.node("head.centre", Op::Param(param), &[])?;
    s.net.node("head.centred", Op::Binary(Binary::Sub), &[x, centre])
}

/// `log(sum of the k nearest's votes + FAINT * sum of all votes)` per class; votes are relative to the nearest's.
fn votes(s: &mut Stack, cosines: NodeId, labels: &[u32], k: usize, temperature: f64) -> Result<NodeId> {
    let classes = Head::classes(labels);
    let nearest = Op::Reduce { kind: Reduction::Max, axes: vec![1], keep: true };
    let nearest = s.net.node("head.nearest", nearest, &[cosines])?;
    let behind = s.net.node("head.behind", Op::Binary(Binary::Sub), &[cosines, nearest])?;
    let behind = tokens::scale(s, behind, 1. / temperature, "head.exponents")?;
    let all = s.act(behind, "head.votes", Activation::Exp)?;
    let near = s.net.node("head.near", Op::KeepTop { k }, &[all])?;
    let faint = tokens::scale(s, all, FAINT, "head.faint")?;
    let counted = s.add(near, faint, "head.counted")?;
    let mut which = vec![0f32; classes * labels.len()];
    labels.iter().enumerate().for_each(|(i, &l)| which[l as usize * labels.len() + i] = 1.);
    let which = Tensor::from_vec(which, (classes, labels.len()), &Device::Cpu)?;
    let weight = s.net.param("head.classes.weight", which);
    let sums = s.net.node("head.classes", Op::Linear { weight, bias: None }, &[counted])?;
    let sums = s.act(sums, "head.floor", Activation::Clip(FLOOR, f64::INFINITY))?;
    s.act(sums, "head", Activation::Log)
}

impl LoadedModel {
    /// This encoder with a head on it, under another name.
    ///
    /// # Errors
    /// Kind `Load` where the head is for embeddings of another width.
    pub fn with_head(&self, head: &Head, name: &str) -> Result<Self> {
        let (mut net, out) = self.graph()?.reopen();
        let out = head.lay(&mut net, out)?;
        let network = Arc::new(net.finish(out)?);
        let card = describe(&network, name.to_string(), self.card.default_threat, false)?;
        let card = Card { preprocess: self.card.preprocess, ..card };
        let model = NetworkModel::with_card(Arc::clone(&network), card)?;
        let (name, family, card) = (name.to_string(), self.family.clone(), model.card().clone());
        let (notes, ignored, network) = (self.notes.clone(), self.ignored.clone(), Some(network));
        Ok(Self { name, format: self.format, family, card, network, model: Arc::new(model), notes, ignored })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Scores by a network whose input is the embedding, flat.
    pub fn scored(head: &Head, x: &Tensor) -> Vec<f64> {
        let mut net = Builder::new();
        let input = net.input("embedding", &x.dims()[1..]).unwrap();
        let out = head.lay(&mut net, input).unwrap();
        let net = Arc::new(net.finish(out).unwrap());
        let scores = Reference::new(net, DType::F64).unwrap().forward(x).unwrap();
        scores.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_head_is_written_to_the_same_bytes_every_time() {
        let place = tempfile::tempdir().unwrap();
        let tensor = |rows: usize| Tensor::ones((rows, 3), DType::F64, &Device::Cpu).unwrap();
        let bytes = |i: usize| {
            let path = place.path().join(format!("{i}.safetensors"));
            Head::Cosine { weight: tensor(2), scale: 0.1, bias: -3. }.write(&path).unwrap();
            let again = Head::read(&path).unwrap();
            assert!(matches!(again, Head::Cosine { scale: 0.1, bias: -3., .. }));
            std::fs::read(path).unwrap()
        };
        let first = bytes(0);
        // Two entries of a hash map are in either order half of the time.
        assert!((1..24).all(|i| bytes(i) == first));
        let header = String::from_utf8_lossy(&first[8..]).into_owned();
        assert!(header.starts_with(r#"{"__metadata__":{"numbers":"0.1 -3","robust.head":"cosine"}"#), "{header}");
    }
}
