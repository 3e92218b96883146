//! A network as a model: what attacks and reports see of it.

use crate::network::{Network, NodeId, Op};
use crate::reference::{Reference, Tape};
use candle_core::{DType, Tensor};
use robust_core::{Access, Card, Draw, Error, Input, Kind, Model, Output, Result, Site, TapId, Trace};
use std::fmt::Write;
use std::sync::Arc;

/// A [`Network`] under its card, run in f32.
pub struct NetworkModel {
    reference: Reference,
    card: Card,
    taps: Vec<NodeId>,
}

impl NetworkModel {
    /// The network with every named inner value as a tap; the output must be one axis wide.
    ///
    /// # Errors
    /// Kind `Load` when `input` or `output` do not fit the network.
    pub fn new(net: Arc<Network>, name: impl Into<String>, input: Input, output: Output) -> Result<Self> {
        let mut taps: Vec<String> = vec![];
        for (node, shape) in net.nodes().iter().zip(net.shapes()) {
            if shape.batched && node.op != Op::Input && !node.name.is_empty() && !taps.contains(&node.name) {
                taps.push(node.name.clone());
            }
        }
        let card = Card {
            name: name.into(),
            digest: String::new(),
            input,
            output,
            stochastic: false,
            couples_rows: false,
            access: Access::Gradient,
            taps,
            preprocess: None,
            default_threat: None,
        };
        Self::with_card(net, card)
    }

    /// The network under a given card, whose taps name nodes. The digest is computed here, never believed; a network
    /// is neither stochastic nor couples rows.
    ///
    /// # Errors
    /// Kind `Load` when the card's input, output or taps do not fit the network.
    pub fn with_card(net: Arc<Network>, card: Card) -> Result<Self> {
        let misfit = |what: &str, card: &[usize], net: &[usize]| {
            let message = format!("the card's {what} has shape {card:?}, the network's {net:?}");
            if card == net { Ok(()) } else { Err(Error::new(Kind::Load, message)) }
        };
        misfit("input", &card.input.shape, net.input_row())?;
        misfit("output", &[card.output.width()], net.output_row())?;
        let taps: Result<Vec<NodeId>> = card.taps.iter().map(|name| tap(&net, name)).collect();
        let card = Card { digest: digest(&net), stochastic: false, couples_rows: false, ..card };
        Ok(Self { reference: Reference::new(net, DType::F32)?, taps: taps?, card })
    }

    pub fn network(&self) -> &Arc<Network> {
        self.reference.network()
    }

    fn node(&self, tap: TapId) -> Result<NodeId> {
        let node = self.taps.get(tap.0).copied();
        node.ok_or_else(|| Error::internal(format!("tap {} of model `{}` does not exist", tap.0, self.card.name)))
    }
}

fn tap(net: &Network, name: &str) -> Result<NodeId> {
    let batched = |id: &NodeId| net.shapes()[id.0].batched;
    net.find(name).filter(batched).ok_or_else(|| {
        let known = net.nodes().iter().map(|n| n.name.as_str());
        let error = Error::new(Kind::Load, format!("the network has no inner value `{name}`"));
        match robust_core::nearest(name, known) {
            Some(close) => error.hint(format!("did you mean `{close}`?")),
            None => error,
        }
    })
}

impl Model for NetworkModel {
    fn card(&self) -> &Card {
        &self.card
    }

    fn forward(&self, x: &Tensor, _draw: &Draw) -> Result<Tensor> {
        self.reference.forward(x)
    }

    fn trace<'a>(&'a self, x: &Tensor, _draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let keep: Result<Vec<NodeId>> = taps.iter().map(|&t| self.node(t)).collect();
        Ok(Box::new(NetworkTrace { model: self, tape: self.reference.trace(x, &keep?)? }))
    }
}

struct NetworkTrace<'a> {
    model: &'a NetworkModel,
    tape: Tape<'a>,
}

impl Trace for NetworkTrace<'_> {
    fn output(&self) -> &Tensor {
        self.tape.output()
    }

    fn tap(&self, tap: TapId) -> Result<&Tensor> {
        self.tape.value(self.model.node(tap)?)
    }

    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        let at = |site: &Site| match site {
            Site::Output => Ok(self.model.network().output()),
            Site::Tap(tap) => self.model.node(*tap),
        };
        let seeds: Result<Vec<_>> = seeds.iter().map(|(site, seed)| Ok((at(site)?, seed.clone()))).collect();
        self.tape.pull(&seeds?)
    }
}

/// blake3 of the function: every op with its attributes and wiring, every weight it reads bit for bit. Names and unused
/// weights do not count. Lower-case hex.
pub fn digest(net: &Network) -> String {
    let mut hash = blake3::Hasher::new();
    let mut line = String::new();
    // Weights by first use: the order in which a builder declared them is not part of the function.
    let mut order = vec![None; net.params().len()];
    let mut used = vec![];
    for (node, shape) in net.nodes().iter().zip(net.shapes()) {
        line.clear();
        for p in node.op.params() {
            order[p.0].get_or_insert_with(|| {
                used.push(p);
                used.len() - 1
            });
        }
        let op = canonical(&node.op, |p| order[p].unwrap_or(usize::MAX));
        let inputs: Vec<usize> = node.inputs.iter().map(|i| i.0).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(line, "{op:?} {inputs:?} {} {:?}", shape.batched, shape.row);
        hash.update(line.as_bytes());
    }
    hash.update(format!("output {}\n", net.output().0).as_bytes());
    for p in used {
        let value = &net.params()[p.0].value;
        hash.update(format!("{:?} {:?}\n", value.dtype(), value.dims()).as_bytes());
        weigh(&mut hash, value);
    }
    hash.finalize().to_hex().to_string()
}

/// The op with its weights renumbered.
fn canonical(op: &Op, number: impl Fn(usize) -> usize) -> Op {
    use crate::network::ParamId;
    let new = |p: &mut ParamId| p.0 = number(p.0);
    let mut op = op.clone();
    match &mut op {
        Op::Param(p) => new(p),
        Op::Conv2d { weight, bias, .. } | Op::Linear { weight, bias } => {
            new(weight);
            bias.iter_mut().for_each(new);
        }
        Op::BatchNorm { mean, var, gamma, beta, .. } => {
            [mean, var].into_iter().chain(gamma).chain(beta).for_each(new);
        }
        _ => {}
    }
    op
}

fn weigh(hash: &mut blake3::Hasher, value: &Tensor) {
    let flat = value.flatten_all();
    // f64 holds every f32 exactly, and its bytes tell any two apart; the type itself is hashed beside the shape.
    // `Builder::finish` has read every weight this way already, so there is no failure to report.
    let wide = flat.and_then(|t| t.to_dtype(DType::F64)).and_then(|t| t.to_vec1::<f64>()).unwrap_or_default();
    for chunk in wide.chunks(1 << 13) {
        hash.update(&chunk.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    }
}
