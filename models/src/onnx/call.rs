//! One node being imported: its inputs and attributes with the types its op expects, and the graph it is built into.

use super::array::{Array, Num};
use super::proto::{AttributeProto, NodeProto, node_name};
use candle_core::Tensor;
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId, Op, ParamId, Shape};
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::rc::Rc;

/// What a name in the file stands for.
#[derive(Clone)]
pub enum Value {
    Node(NodeId),
    Known(Rc<Array>),
    /// Integers that grow with the row.
    ByRow(Rc<ByRow>),
}

impl Value {
    /// A constant, said to be repeated once for each image or not.
    pub fn once_per_image(self, per_image: bool) -> Self {
        match self {
            Value::Known(array) if per_image => Array { per_image, ..array.as_ref().clone() }.into(),
            other => other,
        }
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Value::Known(Rc::new(array))
    }
}

/// Entry `e` of row `i` is `entries[e] + each i`. The leading axis is the batch; `dims` are the others.
#[derive(Debug, Clone)]
pub struct ByRow {
    pub dims: Vec<usize>,
    pub entries: Vec<i64>,
    pub each: i64,
}

/// What to do about a graph whose batch axis is out of reach.
pub(super) const BATCH_HINT: &str = "export it with torch.onnx.export(model, x, \"net.onnx\", dynamo=True), the batch axis first and images apart, or load the weights themselves: the folder with its config.json";

pub(super) type Lower = fn(&mut Graph, &Call) -> Result<Vec<Value>>;

/// How many times the entries of all constants there may be at once can be computed one after the other.
const WORK: usize = 16;
/// Entries of weights that are one number over and over: files of a few bytes may have as many as a small network.
const FILLED: usize = 1 << 26;
/// Entries of lists of axes and of parts.
const MANY: usize = 1 << 12;

pub struct Call<'a> {
    pub node: &'a NodeProto,
    pub opset: i64,
    /// `None` where an optional input is left out.
    pub inputs: Vec<Option<Value>>,
    /// Axes behind the batch that values have here and not in the file: 1 where windows are merged with the batch.
    pub hidden: usize,
}

impl Call<'_> {
    pub fn op(&self) -> &str {
        &self.node.op_type
    }

    /// The name of the value this node makes, which is unique in the graph.
    pub fn out(&self) -> &str {
        self.node.output.iter().find(|o| !o.is_empty()).map_or(&self.node.name, |o| o)
    }

    pub fn fail(&self, why: impl Display) -> Error {
        Error::load(format!("node `{}` ({})", node_name(self.node), self.node.op_type), why)
    }

    fn attr(&self, name: &str, kind: i32, expected: &str) -> Result<Option<&AttributeProto>> {
        match self.node.attribute.iter().find(|a| a.name == name) {
            // Writers before IR version 2 left the type out.
            Some(a) if a.kind != kind && a.kind != 0 => Err(self.fail(format!("attribute `{name}` is not {expected}"))),
            found => Ok(found),
        }
    }
    pub fn has(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|a| a.name == name)
    }
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.attr(name, 2, "an integer")?.map_or(default, |a| a.i))
    }
    pub fn float(&self, name: &str, default: f64) -> Result<f64> {
        // Through the shortest decimal, so that 0.01 in the file is 0.01 and not 0.009999999776 in f64 runs.
        Ok(self.attr(name, 1, "a number")?.map_or(default, |a| a.f.to_string().parse().unwrap_or(f64::from(a.f))))
    }
    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        Ok(self.attr(name, 7, "a list of integers")?.map(|a| a.ints.as_slice()))
    }
    pub fn floats(&self, name: &str) -> Result<Option<&[f32]>> {
        Ok(self.attr(name, 6, "a list of numbers")?.map(|a| a.floats.as_slice()))
    }
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let found = self.attr(name, 3, "a string")?;
        Ok(found.map_or(default.to_string(), |a| String::from_utf8_lossy(&a.s).into_owned()))
    }
    pub fn tensor(&self, name: &str) -> Result<Option<Array>> {
        let Some(found) = self.attr(name, 4, "a tensor")? else { return Ok(None) };
        let proto = found.t.as_ref().ok_or_else(|| self.fail(format!("attribute `{name}` is empty")))?;
        Array::decode(proto, self.out()).map(Some)
    }

    pub fn input(&self, i: usize) -> Option<&Value> {
        self.inputs.get(i)?.as_ref()
    }
    pub fn need(&self, i: usize) -> Result<&Value> {
        self.input(i).ok_or_else(|| self.fail(format!("input {i} is missing")))
    }
    /// Input `i`, which must be a constant or computed from constants and shapes.
    pub fn known(&self, i: usize) -> Result<&Rc<Array>> {
        match self.need(i)? {
            Value::Known(array) => Ok(array),
            Value::Node(_) => Err(self.fail(format!("input {i} must be a constant, here it depends on the image"))),
            Value::ByRow(_) => {
                Err(self.fail(format!("input {i} must be a constant, here it depends on the batch size")))
            }
        }
    }
    pub fn known_ints(&self, i: usize) -> Result<Vec<i64>> {
        self.known(i)?
            .known_ints()
            .ok_or_else(|| self.fail(format!("input {i} must be integers free of the batch size")))
    }
    /// Input `i` as a list of axes, or of something for each axis: what a file computes may be a million times as long.
    pub fn short_ints(&self, i: usize) -> Result<Vec<i64>> {
        self.short(i)?;
        self.known_ints(i)
    }

    fn short(&self, i: usize) -> Result<()> {
        match self.known(i)?.len() {
            n if n <= MANY => Ok(()),
            n => Err(self.fail(format!("input {i} has {n} entries; no value has so many axes or parts"))),
        }
    }

    /// The same where the batch size may be among them.
    pub fn known_nums(&self, i: usize) -> Result<Vec<Num>> {
        self.short(i)?;
        let nums = self.known(i)?.nums().map(<[Num]>::to_vec);
        nums.ok_or_else(|| self.fail(format!("input {i} must be integers")))
    }
    /// Input `i` as one number, if it is there.
    pub fn scalar(&self, i: usize) -> Result<Option<f64>> {
        if self.input(i).is_none() {
            return Ok(None);
        }
        match self.known(i)?.values().as_deref() {
            Some([v]) => Ok(Some(*v)),
            _ => Err(self.fail(format!("input {i} must be a single number"))),
        }
    }
    /// A list of integers that older opsets have as an attribute and newer ones as input `i`.
    pub fn list(&self, attribute: &str, i: usize) -> Result<Option<Vec<i64>>> {
        match self.ints(attribute)? {
            Some(list) => Ok(Some(list.to_vec())),
            None => self.input(i).is_some().then(|| self.short_ints(i)).transpose(),
        }
    }

    /// A possibly negative axis of a value of `rank` axes, the hidden ones among them.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let seen = self.place(axis, rank.saturating_sub(self.hidden))?;
        Ok(if seen == 0 { 0 } else { seen + self.hidden })
    }

    /// A possibly negative place among `rank`.
    pub fn place(&self, axis: i64, rank: usize) -> Result<usize> {
        let place = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        place
            .and_then(|a| usize::try_from(a).ok())
            .filter(|&a| a < rank)
            .ok_or_else(|| self.fail(format!("axis {axis} is outside a value of {rank} axes")))
    }
    /// Like [`Call::axis`], but the batch axis is refused.
    pub fn row_axis(&self, axis: i64, rank: usize) -> Result<usize> {
        match self.axis(axis, rank)? {
            0 => Err(self.across()),
            a => Ok(a),
        }
    }

    /// The error of an op that would mix rows.
    pub fn across(&self) -> Error {
        self.fail("it works across the batch axis, so that rows would depend on their neighbours")
    }
}

pub struct Graph {
    pub builder: Builder,
    /// The batch size the file was exported with, if it is not symbolic.
    pub fixed_batch: Option<usize>,
    /// By the name in the file and what was done to it, apart: a file may hold a name that ends like one of ours.
    params: HashMap<(String, String), ParamId>,
    /// Entries that constants may still take; those that are no longer needed are given back.
    pub budget: usize,
    /// Entries that may still be computed, given back or not.
    pub work: usize,
    /// Values `[n, windows, ...]` that the file has as `[n * windows, ...]`.
    merged: HashMap<NodeId, usize>,
    /// Values `[n, a.., ...]` that the file has as `[a.., n, ...]`, and how many axes are in front.
    fronts: HashMap<NodeId, usize>,
    /// Comparisons: 0 or 1.
    pub masks: HashSet<NodeId>,
    /// The input transposed to channels last, and as it was before.
    pub turned: Option<(NodeId, NodeId)>,
    /// Places where what depends on the image is rounded to integers.
    pub rounded: usize,
    /// Entries that weights filled with one number may still have.
    pub filled: usize,
}

impl Graph {
    /// `budget`: entries folding may produce in all, so that a small file cannot ask for much memory.
    pub fn new(builder: Builder, fixed_batch: Option<usize>, budget: usize) -> Self {
        let (params, merged, fronts) = (HashMap::new(), HashMap::new(), HashMap::new());
        let work = budget.saturating_mul(WORK);
        let (masks, turned) = (HashSet::new(), None);
        Self { builder, fixed_batch, params, budget, work, merged, fronts, masks, turned, rounded: 0, filled: FILLED }
    }

    /// How many windows are merged into a value's batch axis; 1 for none.
    pub fn windows(&self, id: NodeId) -> usize {
        self.merged.get(&id).copied().unwrap_or(1)
    }

    /// Nothing for a single window.
    pub fn merge(&mut self, id: NodeId, windows: usize) {
        if windows > 1 {
            self.merged.insert(id, windows);
        }
    }

    /// Whether an axis lies in front of the batch.
    pub fn fronted(&self, id: NodeId) -> bool {
        self.fronts(id) > 0
    }

    /// How many axes lie in front of the batch.
    pub fn fronts(&self, id: NodeId) -> usize {
        self.fronts.get(&id).copied().unwrap_or(0)
    }

    /// Nothing for none.
    pub fn put_front(&mut self, id: NodeId, axes: usize) {
        if axes > 0 {
            self.fronts.insert(id, axes);
        }
    }

    /// The most axes the file sees in a merged input of the call.
    pub fn rank_of(&self, call: &Call) -> usize {
        let ranks = call.inputs.iter().flatten().filter_map(|v| match v {
            Value::Node(id) if self.windows(*id) > 1 => Some(self.builder.shape(*id).rank() - 1),
            _ => None,
        });
        ranks.max().unwrap_or(0)
    }

    pub fn spend(&mut self, call: &Call, dims: &[usize]) -> Result<()> {
        let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).filter(|&n| n <= self.budget);
        let n =
            n.ok_or_else(|| call.fail(format!("a constant of shape {dims:?} is far beyond the size of the file")))?;
        if n > self.work {
            return Err(call.fail("the constants computed before it are far beyond the size of the file"));
        }
        self.budget -= n;
        self.work -= n;
        Ok(())
    }

    /// The node's own value.
    pub fn node(&mut self, call: &Call, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        self.builder.node(call.out(), op, inputs).map_err(|e| e.within(format!("ONNX op {}", call.op())))
    }
    /// An intermediate value, named after the node's own.
    pub fn step(&mut self, call: &Call, what: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let name = format!("{}/{what}", call.out());
        self.builder.node(name, op, inputs).map_err(|e| e.within(format!("ONNX op {}", call.op())))
    }

    pub fn weight(&mut self, call: &Call, array: &Array) -> Result<ParamId> {
        let tensor = array.tensor().ok_or_else(|| call.fail(format!("`{}` must be floating point", array.name)))?;
        Ok(self.derived(&array.name, "", tensor.clone()))
    }
    /// A weight computed from `name` as `how` says; the same pair is stored once.
    pub fn derived(&mut self, name: &str, how: &str, tensor: Tensor) -> ParamId {
        let builder = &mut self.builder;
        let key = (name.to_string(), how.to_string());
        *self.params.entry(key).or_insert_with(|| builder.param(format!("{name}{how}"), tensor))
    }

    /// Any value as a node; constants become parameters.
    pub fn any(&mut self, call: &Call, i: usize) -> Result<NodeId> {
        match call.need(i)? {
            Value::Node(id) => Ok(*id),
            Value::ByRow(_) => Err(indices(call, i)),
            Value::Known(array) => {
                let param = self.weight(call, array)?;
                let name = format!("{}/{}", call.out(), array.name);
                self.builder.node(name, Op::Param(param), &[])
            }
        }
    }

    /// Input `i`, which must have a batch axis, and its shape.
    pub fn rows(&self, call: &Call, i: usize) -> Result<(NodeId, Shape)> {
        match call.need(i)? {
            Value::Node(id) if self.builder.shape(*id).batched => Ok((*id, self.builder.shape(*id).clone())),
            _ => Err(call.fail(format!("input {i} does not depend on the image, which is not supported here"))),
        }
    }
}

fn indices(call: &Call, i: usize) -> Error {
    call.fail(format!("input {i} holds indices that depend on the batch size")).hint(BATCH_HINT)
}

/// The usual result: one value.
pub fn one(id: NodeId) -> Result<Vec<Value>> {
    Ok(vec![Value::Node(id)])
}
