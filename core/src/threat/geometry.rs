//! Projections, distances and membership, for tensors and for rows on the host.

use super::row;
use crate::{Error, Norm, Region, Result, ThreatModel, to_host};
use candle_core::Tensor;
use rayon::prelude::*;

impl ThreatModel {
    /// Rows of `x` moved into the region: onto the ball, then into the domain, so that `admits` holds. For Linf and L0
    /// this is the nearest point; for L1 and L2 see [`ThreatModel::project_exact`]. A NaN entry becomes the clean one.
    pub fn project(&self, x: &Tensor, clean: &Tensor) -> Result<Tensor> {
        self.each_row(x, clean, |x, clean| row::project(self, x, clean))
    }

    /// Rows of `x` moved to the nearest (Euclidean) point of ball and domain together.
    pub fn project_exact(&self, x: &Tensor, clean: &Tensor) -> Result<Tensor> {
        self.each_row(x, clean, |x, clean| row::project_exact(self, x, clean))
    }

    /// [`ThreatModel::project`] for one row on the host.
    pub fn project_row(&self, x: &mut [f32], clean: &[f32]) {
        row::project(self, x, clean);
    }

    /// [`ThreatModel::project_exact`] for one row on the host.
    pub fn project_exact_row(&self, x: &mut [f32], clean: &[f32]) {
        row::project_exact(self, x, clean);
    }

    /// The legal interval of every entry around one clean row, ends included: where clamping to it is all that
    /// projecting takes, as in Linf. Other norms bind entries together; for them it is the domain.
    pub fn bounds_row(&self, clean: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let edge = |from: f32| {
            let mut edges = vec![from; clean.len()];
            row::project(self, &mut edges, clean);
            edges
        };
        match self.region {
            Region::Ball { norm: Norm::Linf, .. } => (edge(f32::MIN), edge(f32::MAX)),
            _ => {
                let (low, high) = self.domain();
                (vec![low; clean.len()], vec![high; clean.len()])
            }
        }
    }

    fn each_row(&self, x: &Tensor, clean: &Tensor, project: impl Fn(&mut [f32], &[f32]) + Sync) -> Result<Tensor> {
        if x.dims() != clean.dims() {
            return Err(Error::internal(format!("projecting {:?} around {:?}", x.dims(), clean.dims())));
        }
        let ((mut moved, width), (clean, _)) = (to_host(x)?, to_host(clean)?);
        moved.par_chunks_mut(width.max(1)).zip(clean.par_chunks(width.max(1))).for_each(|(x, c)| project(x, c));
        Ok(Tensor::from_vec(moved, x.dims(), x.device())?)
    }

    /// The distance of two rows under `norm`, in f64; L0 counts pixels of images and entries of anything else.
    pub fn distance(&self, norm: Norm, clean: &[f32], x: &[f32]) -> f64 {
        row::distance(norm, self.input.channels(), clean, x)
    }

    /// Whether `x` is a legal adversarial point for `clean`: finite, in the domain and in the region.
    pub fn admits(&self, clean: &[f32], x: &[f32]) -> bool {
        let (low, high) = self.input.domain.unwrap_or((f32::MIN, f32::MAX));
        x.len() == clean.len()
            && x.iter().all(|v| *v >= low && *v <= high)
            && match self.region {
                Region::Ball { norm, eps } => self.distance(norm, clean, x) <= eps,
                _ => true,
            }
    }
}
