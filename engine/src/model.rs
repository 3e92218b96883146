//! A network as a model: what attacks and reports see of it.

use crate::cpu::plan::{Plan, Precision, Traced};
use crate::digest::digest;
use crate::network::{Network, NodeId, Op};
use crate::reference::{Reference, Tape};
use candle_core::{DType, Tensor};
use robust_core::{Access, Card, Draw, Error, Input, Kind, Model, Output, Result, Site, TapId, Trace};
use std::sync::{Arc, Mutex, PoisonError};

/// Plans with other taps that are kept.
const PLANS: usize = 4;

/// A plan, and what it was compiled for.
type Compiled = (Precision, Vec<NodeId>, Arc<Plan>);

/// A [`Network`] under its card, run in f32 by plans for this processor.
pub struct NetworkModel {
    reference: Reference,
    card: Card,
    taps: Vec<NodeId>,
    /// Compiled when first needed, the latest last; taps stay values of their own, so each set of them is a plan.
    plans: Mutex<Vec<Compiled>>,
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
        // Kernels that cannot run are an error now, not at the first forward.
        Plan::chosen_kernels()?;
        Ok(Self { reference: Reference::new(net, DType::F32)?, taps: taps?, card, plans: Mutex::default() })
    }

    fn plan(&self, precision: Precision, taps: &[NodeId]) -> Result<Arc<Plan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = plans.iter().position(|(p, t, _)| *p == precision && t == taps) {
            return Ok(Arc::clone(&plans[at].2));
        }
        let plan = Arc::new(Plan::new(&self.reference, precision, taps)?);
        let tapped = |(_, t, _): &Compiled| !t.is_empty();
        if let Some(oldest) =
            plans.iter().position(tapped).filter(|_| plans.iter().filter(|p| tapped(p)).count() >= PLANS)
        {
            plans.remove(oldest);
        }
        plans.push((precision, taps.to_vec(), Arc::clone(&plan)));
        Ok(plan)
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
        self.plan(Precision::Fast, &[])?.forward(x)
    }

    fn exact(&self, x: &Tensor, _draw: &Draw) -> Result<Tensor> {
        self.plan(Precision::Exact, &[])?.forward(x)
    }

    fn trace<'a>(&'a self, x: &Tensor, _draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let keep: Result<Vec<NodeId>> = taps.iter().map(|&t| self.node(t)).collect();
        let traced = self.plan(Precision::Fast, &keep?)?.trace(x)?;
        Ok(Box::new(NetworkTrace { model: self, traced, x: x.clone(), tape: None, taps: taps.to_vec() }))
    }
}

struct NetworkTrace<'a> {
    model: &'a NetworkModel,
    traced: Traced,
    x: Tensor,
    /// For seeds at taps that were not asked for: the reference can seed any value.
    tape: Option<Tape<'a>>,
    taps: Vec<TapId>,
}

impl Trace for NetworkTrace<'_> {
    fn output(&self) -> &Tensor {
        self.traced.output()
    }

    fn tap(&self, tap: TapId) -> Result<&Tensor> {
        self.traced.value(self.model.node(tap)?)
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
            return self.traced.pull(&seeds?);
        }
        if self.tape.is_none() {
            self.tape = Some(self.model.reference.trace(&self.x, &[])?);
        }
        match &mut self.tape {
            Some(tape) => tape.pull(&seeds?),
            None => Err(Error::internal("a trace lost its tape")),
        }
    }
}
