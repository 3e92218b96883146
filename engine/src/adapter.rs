//! A user's own candle module as a model. Its gradients are candle's, which some ops cut or get wrong without a word,
//! so they are measured against differences before the first attack relies on them.

use candle_core::{DType, Device, Module, Tensor, Var};
use robust_core::{
    Access, Card, Draw, Error, Input, Kind, Model, Output, Result, RowKey, Site, TapId, Trace, stream, take,
};

/// Input directions and output seeds the check compares along.
const DIRECTIONS: u64 = 4;
const SEEDS: u64 = 2;
/// Steps of the differences in parts of the input's range: curvature spoils the long ones, rounding the short ones.
const STEPS: [f64; 4] = [1e-2, 3e-3, 1e-3, 3e-4];
/// Differences in f32 agree with a right gradient to about 0.1 %; a missing path or factor is far beyond this.
const TOLERANCE: f64 = 0.02;

/// A candle [`Module`] over f32 rows `[n, input...]` -> `[n, width]`.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use robust_core::{Input, InputKind, Model, Output};
/// use robust_engine::ModuleModel;
///
/// /// Two scores of three features.
/// struct Linear(Tensor);
///
/// impl Module for Linear {
///     fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
///         x.matmul(&self.0)
///     }
/// }
///
/// # fn main() -> robust_core::Result<()> {
/// let weights = Tensor::new(&[[1f32, -1.], [0., 2.], [3., 0.]], &Device::Cpu)?;
/// let input = Input { shape: vec![3], domain: None, kind: InputKind::Features };
/// let sample = Tensor::zeros((1, 3), DType::F32, &Device::Cpu)?; // the gradient is checked here
/// let model = ModuleModel::new(Linear(weights), "linear", input, Output::Logits { k: 2 }, &sample)?;
/// assert!(!model.card().couples_rows);
/// # Ok(())
/// # }
/// ```
pub struct ModuleModel<M> {
    module: M,
    card: Card,
}

impl<M: Module + Send + Sync> ModuleModel<M> {
    /// A white box. `sample` (`[n, input...]`, n at least 1, typical of the data) is where the gradient is checked
    /// against directional differences of the output.
    ///
    /// The card's digest is of the module's answers at the sample and at fixed noise, since a module does not show its
    /// weights.
    ///
    /// # Errors
    /// Kind `Load` when shapes do not fit the declaration, when no gradient reaches the input, and when the gradient
    /// differs from what differences measure; the message holds both numbers.
    pub fn new(module: M, name: impl Into<String>, input: Input, output: Output, sample: &Tensor) -> Result<Self> {
        let mut model = Self::without_gradients(module, name, input, output, sample)?;
        model.check_gradient(sample).map_err(|e| e.within(format!("model `{}`", model.card.name)))?;
        model.card.access = Access::Gradient;
        Ok(model)
    }

    /// A black box: attacks that need gradients are refused, nothing is checked but shapes and coupling of rows.
    ///
    /// # Errors
    /// Kind `Load` when shapes do not fit the declaration.
    pub fn without_gradients(
        module: M,
        name: impl Into<String>,
        input: Input,
        output: Output,
        sample: &Tensor,
    ) -> Result<Self> {
        let interpreter = "candle/f32".to_string();
        let card = Card { access: Access::Scores, interpreter, ..Card::new(name, input, output) };
        let mut model = Self { module, card };
        let one = take(sample, &[0]).map_err(|_| Error::new(Kind::Load, "expected a sample of at least one row"))?;
        model.card.couples_rows = model.couples(&one)?;
        model.card.digest = model.digest(&one)?;
        Ok(model)
    }

    /// Replaces the digest of answers, whose bits depend on the processor, by one of the caller's weights.
    pub fn with_digest(mut self, digest: impl Into<String>) -> Self {
        self.card.digest = digest.into();
        self
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (expected, row) = (&self.card.input.shape, x.dims().get(1..).unwrap_or(&[]));
        if x.rank() == 0 || row != expected.as_slice() || x.dims()[0] == 0 || x.dtype() != DType::F32 {
            let got = format!("{:?} of {:?}", x.dims(), x.dtype());
            return Err(Error::new(Kind::Load, format!("expected f32 rows of {expected:?}, got {got}")));
        }
        let y = self.module.forward(x)?;
        let expected = [x.dims()[0], self.card.output.width()];
        if y.dims() != expected || y.dtype() != DType::F32 {
            let message = format!("the module answered {:?} of {:?}, its card says {expected:?}", y.dims(), y.dtype());
            return Err(Error::new(Kind::Load, message));
        }
        Ok(y)
    }

    /// Whether the answer for `one` changes with the row beside it, or when it stands alone.
    fn couples(&self, one: &Tensor) -> Result<bool> {
        let first = |beside: &Tensor| host(&take(&self.run(&Tensor::cat(&[one, beside], 0)?)?, &[0])?);
        let (a, b) = (first(&self.noise(1, one)?)?, first(&self.noise(2, one)?)?);
        let alone = host(&self.run(one)?)?;
        // Beside others the same kernels run, so bits must agree; alone, others may, so rounding is forgiven.
        let top = alone.iter().fold(0f64, |m, v| m.max(v.abs()));
        let strays = alone.iter().zip(&a).any(|(x, y)| (x - y).abs() > 1e-3 * top + 1e-6);
        Ok(strays || a.iter().zip(&b).any(|(x, y)| x.to_bits() != y.to_bits()))
    }

    /// A fixed row of the input's kind: uniform in its domain, or normal.
    fn noise(&self, turn: u64, like: &Tensor) -> Result<Tensor> {
        let (row, device) = (&self.card.input.shape, like.device());
        match self.card.input.domain {
            Some((low, high)) => draw(turn, &[RowKey::of(0)], |d| d.uniform(low, high, row, device)),
            None => normals(turn, 1, row, device),
        }
    }

    fn digest(&self, one: &Tensor) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        let known = serde_json::to_vec(&("module", &self.card.name, &self.card.input, &self.card.output));
        hash.update(&known.map_err(|e| Error::internal(format!("a card has no JSON: {e}")))?);
        let probes: Result<Vec<Tensor>> = (3..11).map(|turn| self.noise(turn, one)).collect();
        for x in std::iter::once(one).chain(&probes?) {
            host(&self.run(x)?)?.iter().for_each(|v| {
                hash.update(&v.to_le_bytes());
            });
        }
        Ok(hash.finalize().to_hex().to_string())
    }

    fn check_gradient(&self, sample: &Tensor) -> Result<()> {
        let (x, range) = self.interior(sample)?;
        let device = x.device();
        let row = &self.card.input.shape;
        let directions: Result<Vec<Tensor>> =
            (0..DIRECTIONS).map(|i| normals(100 + i, x.dims()[0], row, device)).collect();
        let directions = directions?;
        let mut trace = ModuleTrace::new(self, &x)?;
        let y = host(trace.output())?;
        let (mut seeds, mut slopes) = (vec![], vec![]);
        for i in 0..SEEDS {
            let seed = normals(200 + i, x.dims()[0], &[self.card.output.width()], device)?;
            let grad = host(&trace.pull(&[(Site::Output, seed.clone())])?)?;
            for v in &directions {
                slopes.push(dot(&grad, &host(v)?));
            }
            seeds.push(host(&seed)?);
        }
        let mut best: Option<Measured> = None;
        for h in STEPS.map(|s| s * range) {
            let changes = self.changes(&x, &directions, h)?;
            let measured: Vec<f64> = seeds.iter().flat_map(|s| changes.iter().map(|c| dot(s, c))).collect();
            let rounding = seeds.iter().map(|s| abs_dot(s, &y)).fold(0., f64::max) * f64::from(f32::EPSILON) / h;
            let found = Measured::new(&slopes, measured, rounding);
            if best.as_ref().is_none_or(|b| found.error < b.error || b.error.is_nan()) {
                best = Some(found);
            }
        }
        best.map_or(Ok(()), |b| b.judge(&slopes))
    }

    /// Central differences of the output along each direction.
    fn changes(&self, x: &Tensor, directions: &[Tensor], h: f64) -> Result<Vec<Vec<f64>>> {
        let at = |v: &Tensor, by: f64| host(&self.run(&(x + (v * by)?)?)?);
        let change = |v: &Tensor| {
            let (ahead, behind) = (at(v, h)?, at(v, -h)?);
            Ok(ahead.iter().zip(behind).map(|(a, b)| (a - b) / (2. * h)).collect())
        };
        directions.iter().map(change).collect()
    }

    /// Up to two rows of the sample, drawn in from the ends of the domain where a clamp would have its kink, and the
    /// length that steps are measured in.
    fn interior(&self, sample: &Tensor) -> Result<(Tensor, f64)> {
        let rows: Vec<u32> = (0..sample.dims()[0].min(2) as u32).collect();
        let x = take(sample, &rows)?;
        match self.card.input.domain {
            Some((low, high)) => {
                let middle = f64::from(low + high) / 2.;
                Ok((x.affine(0.9, 0.1 * middle)?, f64::from(high - low)))
            }
            None => {
                let values = host(&x)?;
                let rms = (dot(&values, &values) / values.len() as f64).sqrt();
                Ok((x, if rms > 0. { rms } else { 1. }))
            }
        }
    }
}

/// Slopes by differences at one step, and how far autograd's are from them.
struct Measured {
    slopes: Vec<f64>,
    error: f64,
    /// What rounding alone may contribute to a slope.
    rounding: f64,
}

impl Measured {
    fn new(autograd: &[f64], slopes: Vec<f64>, rounding: f64) -> Self {
        let off: Vec<f64> = autograd.iter().zip(&slopes).map(|(a, b)| a - b).collect();
        let error = rms(&off) / rms(&slopes).max(rms(autograd)).max(f64::MIN_POSITIVE);
        Self { slopes, error, rounding }
    }

    fn judge(&self, autograd: &[f64]) -> Result<()> {
        let flat = |v: &[f64]| rms(v) <= 10. * self.rounding;
        if flat(&self.slopes) && flat(autograd) {
            return Err(Error::new(
                Kind::Load,
                "its gradient cannot be checked: the output does not change around the sample",
            )
            .hint("give a sample the model is less sure of, logits instead of probabilities, or `without_gradients`"));
        }
        if self.error <= TOLERANCE {
            return Ok(());
        }
        let k = autograd.len();
        let message = format!(
            "candle's gradient is wrong: slopes along {k} fixed directions have size {:.4e} by autograd and {:.4e} by \
             differences of the output, {:.1} % apart (allowed: {:.0} %)",
            rms(autograd),
            rms(&self.slopes),
            100. * self.error,
            100. * TOLERANCE
        );
        Err(Error::new(Kind::Load, message).hint(REMEDY))
    }
}

const REMEDY: &str = "candle_nn's softmax_last_dim, layer_norm and rms_norm and candle's max_pool2d and upsample give no or \
                      wrong gradients: build the model as a robust_engine::Network, replace these ops, or use \
                      `without_gradients` for attacks that need scores only";

fn rms(v: &[f64]) -> f64 {
    (dot(v, v) / v.len().max(1) as f64).sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn abs_dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

fn host(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn draw<T>(turn: u64, rows: &[RowKey], f: impl FnOnce(Draw<'_>) -> T) -> T {
    f(Draw { seed: 0, stream: stream("engine/module-check"), turn, rows })
}

fn normals(turn: u64, n: usize, row: &[usize], device: &Device) -> Result<Tensor> {
    let rows: Vec<RowKey> = (0..n as u64).map(RowKey::of).collect();
    draw(turn, &rows, |d| d.normal(row, device))
}

impl<M: Module + Send + Sync> Model for ModuleModel<M> {
    fn card(&self) -> &Card {
        &self.card
    }

    fn forward(&self, x: &Tensor, _draw: &Draw) -> Result<Tensor> {
        Ok(self.run(x)?.detach())
    }

    fn trace<'a>(&'a self, x: &Tensor, _draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        if self.card.access < Access::Gradient {
            return Err(Error::usage(format!("model `{}` was declared without gradients", self.card.name))
                .hint("use an attack that needs scores or labels only, or build it with `ModuleModel::new`"));
        }
        if let Some(tap) = taps.first() {
            return Err(no_tap(&self.card.name, *tap));
        }
        Ok(Box::new(ModuleTrace::new(self, x)?))
    }
}

fn no_tap(name: &str, tap: TapId) -> Error {
    Error::usage(format!("model `{name}` has no inner values, tap {} was asked for", tap.0))
        .hint("build it as a robust_engine::Network to see inside")
}

/// The input as a variable, the output with candle's graph behind it.
struct ModuleTrace<'a, M> {
    model: &'a ModuleModel<M>,
    x: Var,
    graph: Tensor,
    output: Tensor,
}

impl<'a, M: Module + Send + Sync> ModuleTrace<'a, M> {
    fn new(model: &'a ModuleModel<M>, x: &Tensor) -> Result<Self> {
        let x = Var::from_tensor(&x.detach())?;
        let graph = model.run(&x)?;
        let output = graph.detach();
        Ok(Self { model, x, graph, output })
    }
}

impl<M: Module + Send + Sync> Trace for ModuleTrace<'_, M> {
    fn output(&self) -> &Tensor {
        &self.output
    }

    fn tap(&self, tap: TapId) -> Result<&Tensor> {
        Err(no_tap(&self.model.card.name, tap))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that trusts candle's backward, after measuring it")]
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (site, seed) in seeds {
            if let Site::Tap(tap) = site {
                return Err(no_tap(&self.model.card.name, *tap));
            }
            let seed = seed.detach();
            sum = Some(sum.map_or(Ok(seed.clone()), |s| s + seed)?);
        }
        let Some(seed) = sum else { return Ok(self.x.zeros_like()?) };
        let grads = (&self.graph * seed)?.sum_all()?.backward().map_err(|e| {
            Error::new(Kind::Load, format!("candle has no gradient: {}", Error::from(e).message)).hint(REMEDY)
        })?;
        let dx = grads.get(&self.x).map(Tensor::detach);
        dx.ok_or_else(|| {
            Error::new(Kind::Load, "no gradient reaches the input: an op cuts candle's graph").hint(REMEDY)
        })
    }
}
