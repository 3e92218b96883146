//! A network as a model: what attacks and reports see of it.

use crate::cpu::plan::Cpu;
use crate::graph::{Network, NodeId, Op, digest};
use crate::interpreter::{Compiled, Interpreter, Pass, Purpose, Resident};
use crate::reference::{OpByOp, Reference};
use candle_core::{DType, Tensor};
use robust_core::{Access, Card, Draw, Error, Input, Kind, Model, Output, Result, Site, TapId, Trace};
use std::sync::{Arc, Mutex, PoisonError};

/// Compiled forms with other taps that are kept.
const TAPPED: usize = 4;

/// A compiled form, and what it was compiled for.
type Kept = (Purpose, Vec<NodeId>, Arc<dyn Compiled>);

/// A [`Network`] under its card, run by an [`Interpreter`].
pub struct NetworkModel {
    resident: Arc<dyn Resident>,
    card: Card,
    taps: Vec<NodeId>,
    /// Compiled when first needed, the latest last; taps stay values of their own, so each set of them is a form.
    compiled: Mutex<Vec<Kept>>,
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
        Self::with_card(net, Card { taps, ..Card::new(name, input, output) })
    }

    /// The network under a given card, whose taps name nodes, run by plans for this processor. The digest, whether it jumps and
    /// what runs it are found here, never believed; a network is neither stochastic nor couples rows.
    ///
    /// # Errors
    /// Kind `Load` when the card's input, output or taps do not fit the network.
    pub fn with_card(net: Arc<Network>, card: Card) -> Result<Self> {
        // Kernels that cannot run are an error now, not at the first forward.
        Self::on(&Cpu::chosen()?, net, card)
    }

    /// As [`NetworkModel::with_card`], run by another interpreter.
    ///
    /// # Errors
    /// As [`NetworkModel::with_card`]; a network that the interpreter cannot take.
    pub fn on(interpreter: &dyn Interpreter, net: Arc<Network>, card: Card) -> Result<Self> {
        let misfit = |what: &str, card: &[usize], net: &[usize]| {
            let message = format!("the card's {what} has shape {card:?}, the network's {net:?}");
            if card == net { Ok(()) } else { Err(Error::new(Kind::Load, message)) }
        };
        misfit("input", &card.input.shape, net.input_row())?;
        misfit("output", &[card.output.width()], net.output_row())?;
        let taps: Result<Vec<NodeId>> = card.taps.iter().map(|name| tap(&net, name)).collect();
        let (digest, jumps) = (digest(&net), net.jumps());
        let card =
            Card { digest, jumps, interpreter: interpreter.name(), stochastic: false, couples_rows: false, ..card };
        Ok(Self { resident: interpreter.load(net)?, taps: taps?, card, compiled: Mutex::default() })
    }

    fn compiled(&self, purpose: Purpose, taps: &[NodeId]) -> Result<Arc<dyn Compiled>> {
        let mut kept = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(p, t, _)| *p == purpose && t == taps) {
            return Ok(Arc::clone(&kept[at].2));
        }
        let made = self.resident.compile(purpose, taps)?;
        let tapped = |(_, t, _): &Kept| !t.is_empty();
        if let Some(oldest) =
            kept.iter().position(tapped).filter(|_| kept.iter().filter(|k| tapped(k)).count() >= TAPPED)
        {
            kept.remove(oldest);
        }
        kept.push((purpose, taps.to_vec(), Arc::clone(&made)));
        Ok(made)
    }

    pub fn network(&self) -> &Arc<Network> {
        self.resident.network()
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
        self.compiled(Purpose::Search, &[])?.forward(x)
    }

    fn exact(&self, x: &Tensor, _draw: &Draw) -> Result<Tensor> {
        self.compiled(Purpose::Exact, &[])?.forward(x)
    }

    fn in_double(&self) -> Result<Option<Arc<dyn Model>>> {
        let interpreter = OpByOp(DType::F64);
        let compiled = interpreter.load(Arc::clone(self.network()))?.compile(Purpose::Double, &[])?;
        let card = Card { interpreter: interpreter.name(), taps: vec![], access: Access::Scores, ..self.card.clone() };
        Ok(Some(Arc::new(InDouble { compiled, card })))
    }

    fn trace<'a>(&'a self, x: &Tensor, _draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let keep: Result<Vec<NodeId>> = taps.iter().map(|&t| self.node(t)).collect();
        let pass = self.compiled(Purpose::Search, &keep?)?.trace(x)?;
        Ok(Box::new(NetworkTrace { model: self, pass, x: x.clone(), full: None, taps: taps.to_vec() }))
    }
}

/// A network run op by op in f64.
struct InDouble {
    compiled: Arc<dyn Compiled>,
    card: Card,
}

impl Model for InDouble {
    fn card(&self) -> &Card {
        &self.card
    }

    fn forward(&self, x: &Tensor, _draw: &Draw) -> Result<Tensor> {
        self.compiled.forward(x)
    }
}

struct NetworkTrace<'a> {
    model: &'a NetworkModel,
    pass: Box<dyn Pass>,
    x: Tensor,
    /// For seeds at taps that were not asked for: the reference can seed any value.
    full: Option<Box<dyn Pass>>,
    taps: Vec<TapId>,
}

impl Trace for NetworkTrace<'_> {
    fn output(&self) -> &Tensor {
        self.pass.output()
    }

    fn tap(&self, tap: TapId) -> Result<&Tensor> {
        self.pass.value(self.model.node(tap)?)
    }

    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        let known = seeds.iter().all(|(site, _)| match site {
            Site::Output => true,
            Site::Tap(tap) => self.taps.contains(tap),
        });
        let at = |site: &Site| match site {
            Site::Output => Ok(self.model.network().output()),
            Site::Tap(tap) => self.model.node(*tap),
        };
        let seeds: Result<Vec<_>> = seeds.iter().map(|(site, seed)| Ok((at(site)?, seed.clone()))).collect();
        if known {
            return self.pass.pull(&seeds?);
        }
        if self.full.is_none() {
            let reference = Reference::new(Arc::clone(self.model.network()), DType::F32)?;
            self.full = Some(Box::new(reference.trace(&self.x, &[])?));
        }
        match &mut self.full {
            Some(full) => full.pull(&seeds?),
            None => Err(Error::internal("a trace lost its tape")),
        }
    }
}
