//! Questions to the models under attack.

use super::{Answer, Jacobian, Oracle, Slope};
use crate::{Access, Objective, Result, take, to_host};
use candle_core::Tensor;

impl Oracle<'_> {
    /// One forward for each row of `x` `[m, ...]`; `of[i]` is the live sample that owns row `i`.
    ///
    /// # Errors
    /// Kind `Usage` where the threat model grants no labels; failures of models.
    pub fn ask(&mut self, x: &Tensor, of: &[u32]) -> Result<Answer> {
        self.allow(Access::Label)?;
        let granted = self.grant(x, of, self.target.search().len() as u64)?;
        let output = self.target.deployed.card().output;
        let width = output.width();
        let (mut scores, mut reached) = (vec![0f32; of.len() * width], vec![false; of.len()]);
        let asked = positions(&granted);
        if !asked.is_empty() {
            let (rows, owners) = subset(x, of, &asked)?;
            let (seen, _) = to_host(&self.forward(&rows, &owners)?)?;
            let there = self.note(&rows, &owners, &seen, width)?;
            for ((&i, z), there) in asked.iter().zip(seen.chunks(width)).zip(there) {
                row_mut(&mut scores, i, width).copy_from_slice(z);
                reached[i as usize] = there;
            }
        }
        let labels = scores.chunks(width).map(|z| output.said(z).unwrap_or(0)).collect();
        let scores = match self.threat.access {
            Access::Scores | Access::Gradient => Some(Tensor::from_vec(scores, (of.len(), width), x.device())?),
            _ => None,
        };
        Ok(Answer { scores, labels, reached, granted })
    }

    /// One forward and one backward per row, EOT draw and surrogate.
    ///
    /// # Errors
    /// Kind `Usage` where the threat model grants no gradients, and for an objective that the goal or the number of classes
    /// cannot carry; failures of models.
    pub fn gradient(&mut self, x: &Tensor, of: &[u32], objective: &Objective) -> Result<Slope> {
        self.allow(Access::Gradient)?;
        let output = self.target.deployed.card().output;
        let width = output.width();
        objective.check(&self.live.goal, output.classes())?;
        let granted = self.grant(x, of, self.draws())?;
        let asked = positions(&granted);
        let row = x.elem_count() / of.len().max(1);
        let (mut out, mut loss) = (vec![0f32; of.len() * width], vec![f64::NAN; of.len()]);
        let mut last_loss = loss.clone();
        let mut log_scale = vec![f64::NEG_INFINITY; of.len()];
        let mut dx = vec![0f32; x.elem_count()];
        if !asked.is_empty() {
            let (rows, owners) = subset(x, of, &asked)?;
            let climbed = self.climb(&rows, &owners, &asked, objective)?;
            self.note(&rows, &owners, if self.last_draw { &climbed.last_out } else { &climbed.out }, width)?;
            for (n, &i) in asked.iter().enumerate() {
                row_mut(&mut out, i, width).copy_from_slice(&climbed.out[n * width..][..width]);
                row_mut(&mut dx, i, row).copy_from_slice(&climbed.dx[n * row..][..row]);
                loss[i as usize] = climbed.loss[n];
                last_loss[i as usize] = climbed.last_loss[n];
                log_scale[i as usize] = climbed.log_scale[n];
            }
        }
        let out = Tensor::from_vec(out, (of.len(), width), x.device())?;
        Ok(Slope { out, loss, dx: Tensor::from_vec(dx, x.dims(), x.device())?, log_scale, last_loss, granted })
    }

    /// One forward, and one backward for each of `seeds` (`[m, k]` each, over classes), per row, EOT draw and surrogate: scores
    /// and `seed^T d scores / d x` per seed. A rejection is neither pulled back nor answered here.
    ///
    /// # Errors
    /// Kind `Usage` where the threat model grants no gradients; failures of models.
    pub fn jacobian(&mut self, x: &Tensor, of: &[u32], seeds: &[Tensor]) -> Result<Jacobian> {
        self.allow(Access::Gradient)?;
        let output = self.target.deployed.card().output;
        let (width, classes) = (output.width(), output.classes());
        let granted = self.grant(x, of, self.draws())?;
        let row = x.elem_count() / of.len().max(1);
        let mut out = vec![0f32; of.len() * classes];
        let mut pulled = vec![vec![0f32; x.elem_count()]; seeds.len()];
        let asked = positions(&granted);
        if !asked.is_empty() {
            let (rows, owners) = subset(x, of, &asked)?;
            let whole = |s: &Tensor| match width - classes {
                0 => Ok(subset(s, of, &asked)?.0),
                more => Ok(subset(s, of, &asked)?.0.pad_with_zeros(1, 0, more)?),
            };
            let seeds = seeds.iter().map(whole).collect::<Result<Vec<_>>>()?;
            let (scores, gradients) = self.pull(&rows, &owners, &seeds)?;
            self.note(&rows, &owners, &scores, width)?;
            for (n, &i) in asked.iter().enumerate() {
                row_mut(&mut out, i, classes).copy_from_slice(&scores[n * width..][..classes]);
                for (to, from) in pulled.iter_mut().zip(&gradients) {
                    row_mut(to, i, row).copy_from_slice(&from[n * row..][..row]);
                }
            }
        }
        let out = Tensor::from_vec(out, (of.len(), classes), x.device())?;
        let pulled =
            pulled.into_iter().map(|p| Ok(Tensor::from_vec(p, x.dims(), x.device())?)).collect::<Result<_>>()?;
        Ok(Jacobian { out, pulled, granted })
    }

    /// One forward for each live sample at the point that stands for it: its success, or its clean row.
    pub fn recheck(&mut self) -> Result<()> {
        let mut flat = Vec::with_capacity(self.live.x.elem_count());
        for &r in &self.live.of {
            let record = &self.records[r as usize];
            let pending = record.candidate.as_ref().map(|p| &p.x);
            flat.extend_from_slice(pending.or(record.found.as_ref().map(|f| &f.x)).unwrap_or(&record.clean));
        }
        let x = Tensor::from_vec(flat, self.live.x.dims(), self.live.x.device())?;
        let of: Vec<u32> = (0..self.len() as u32).collect();
        self.ask(&x, &of).map(|_| ())
    }

    /// Forwards that one gradient of one row costs.
    pub(super) fn draws(&self) -> u64 {
        u64::from(self.eot) * self.target.search().len() as u64
    }
}

fn positions(granted: &[bool]) -> Vec<u32> {
    (0..granted.len() as u32).filter(|&i| granted[i as usize]).collect()
}

fn subset(x: &Tensor, of: &[u32], rows: &[u32]) -> Result<(Tensor, Vec<u32>)> {
    if rows.len() == of.len() {
        return Ok((x.clone(), of.to_vec()));
    }
    Ok((take(x, rows)?, rows.iter().map(|&i| of[i as usize]).collect()))
}

fn row_mut(flat: &mut [f32], row: u32, width: usize) -> &mut [f32] {
    &mut flat[row as usize * width..][..width]
}
