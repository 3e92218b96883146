//! Projected steepest ascent, the engine of FGSM, BIM, PGD and MI-FGSM: what differs between them is the start, the
//! step size and the memory.

use candle_core::Tensor;
use rayon::prelude::*;
use robust_core::{Norm, Objective, Oracle, Result, ThreatModel, rows, to_host};

/// One run of ascent from every live sample.
pub struct Ascent {
    pub steps: u64,
    /// Length of the first step under the threat's norm; `None` is 2.5 eps / steps (Madry et al. 2018).
    pub step: Option<f64>,
    /// The last step's length over the first's: 1 keeps it, smaller ones shrink it geometrically.
    pub decay: f64,
    pub random_start: bool,
    /// Share of the accumulated direction kept at each step (Dong et al. 2018).
    pub momentum: Option<f64>,
    pub objective: Objective,
}

rows! {
    struct State { x: Tensor, velocity: Tensor }
}

/// How far from the clean point an ascent begins that has no slope there and no random start, as a share of epsilon: far
/// enough for the embedding to move by more than rounding, near enough to leave the attack what it is.
const NUDGE: f64 = 0.1;

/// Share of entries an L1 step moves, as SLIDE does (Tramer and Boneh 2019, 1 % of the entries).
const L1_SHARE: f64 = 0.01;

impl Ascent {
    /// Evaluates every iterate, the last one included: `steps + 1` forwards, `steps` backwards.
    pub fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let threat = oracle.threat().clone();
        let radius = radius(&threat);
        let first = self.step.unwrap_or(2.5 * radius / self.steps as f64);
        let x = match self.random_start {
            true => random_start(oracle, &threat, radius)?,
            false if oracle.goal().is_flat_at_start() => random_start(oracle, &threat, NUDGE * radius)?,
            false => oracle.x().clone(),
        };
        let mut state = State { velocity: x.zeros_like()?, x };
        for t in 0..self.steps {
            let of: Vec<u32> = (0..oracle.len() as u32).collect();
            let mut slope = oracle.gradient(&state.x, &of, &self.objective)?.dx;
            if !oracle.advance(&mut [&mut state, &mut slope])? {
                return Ok(());
            }
            if let Some(kept) = self.momentum {
                state.velocity = ((state.velocity * kept)? + normalised(&slope, Norm::L1)?)?;
                slope = state.velocity.clone();
            }
            let progress = t as f64 / (self.steps.max(2) - 1) as f64;
            let length = first * self.decay.powf(progress);
            let moved = (&state.x + step(&slope, &state.x, &threat, length)?)?;
            // Ball first and box second is not the nearest legal point in L1 and L2, and stalls at the box.
            state.x = threat.project_exact(&moved, oracle.x())?;
        }
        let of: Vec<u32> = (0..oracle.len() as u32).collect();
        oracle.ask(&state.x, &of)?;
        oracle.advance(&mut [])?;
        Ok(())
    }
}

/// Epsilon, or for unbounded threats the width of the domain.
fn radius(threat: &ThreatModel) -> f64 {
    let width = threat.input.domain.map_or(1., |(low, high)| f64::from(high) - f64::from(low));
    if threat.eps().is_finite() { threat.eps() } else { width }
}

/// Linf: uniform in the cube. L2 and L1: a normal direction on the sphere, cut by the domain.
pub fn random_start(oracle: &Oracle, threat: &ThreatModel, radius: f64) -> Result<Tensor> {
    let x = oracle.x();
    let (row, draw) = (&x.dims()[1..], oracle.draw(0));
    let noise = match threat.norm() {
        Some(norm @ (Norm::L1 | Norm::L2)) => normalised(&draw.normal(row, x.device())?, norm)?.affine(radius, 0.)?,
        _ => draw.uniform(-radius as f32, radius as f32, row, x.device())?,
    };
    threat.project(&(x + noise)?, x)
}

/// The step of this length that raises a linear loss most within the domain: signs for Linf, the gradient's direction
/// for L2, for L1 the entries of steepest slope.
fn step(slope: &Tensor, x: &Tensor, threat: &ThreatModel, length: f64) -> Result<Tensor> {
    match threat.norm() {
        Some(Norm::L2) => Ok(normalised(slope, Norm::L2)?.affine(length, 0.)?),
        Some(Norm::L1) => steepest_entries(slope, x, threat, length),
        _ => Ok(slope.sign()?.affine(length, 0.)?),
    }
}

/// Rows divided by their norm (zeros stay zeros), summed in f64 row by row.
pub fn normalised(x: &Tensor, norm: Norm) -> Result<Tensor> {
    each_row(x, |row| {
        let size = match norm {
            Norm::L1 => row.iter().map(|v| f64::from(v.abs())).sum::<f64>(),
            Norm::L2 => row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt(),
            _ => row.iter().fold(0., |a, v| f64::max(a, f64::from(v.abs()))),
        };
        if size > 0. && size.is_finite() {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / size) as f32);
        }
    })
}

/// Spends `length` on entries by falling slope, on each at most its 1 % share and the room the domain leaves it.
fn steepest_entries(slope: &Tensor, x: &Tensor, threat: &ThreatModel, length: f64) -> Result<Tensor> {
    let (at, width) = to_host(x)?;
    let (low, high) = threat.input.domain.unwrap_or((f32::MIN, f32::MAX));
    let share = length / (width as f64 * L1_SHARE).ceil().max(1.);
    let (mut flat, _) = to_host(slope)?;
    flat.par_chunks_mut(width.max(1)).zip(at.par_chunks(width.max(1))).for_each(|(row, at)| {
        let mut order: Vec<usize> = (0..row.len()).filter(|&i| row[i] != 0.).collect();
        order.sort_by(|&a, &b| row[b].abs().total_cmp(&row[a].abs()).then(a.cmp(&b)));
        let (mut left, mut moves) = (length, vec![0f32; row.len()]);
        for i in order {
            let room = f64::from(if row[i] > 0. { high - at[i] } else { at[i] - low });
            let spent = room.min(share).min(left).max(0.);
            moves[i] = (spent as f32).copysign(row[i]);
            left -= spent;
            if left <= 0. {
                break;
            }
        }
        row.copy_from_slice(&moves);
    });
    Ok(Tensor::from_vec(flat, slope.dims(), slope.device())?)
}

fn each_row(x: &Tensor, change: impl Fn(&mut [f32]) + Send + Sync) -> Result<Tensor> {
    let (mut flat, width) = to_host(x)?;
    flat.par_chunks_mut(width.max(1)).for_each(change);
    Ok(Tensor::from_vec(flat, x.dims(), x.device())?)
}
