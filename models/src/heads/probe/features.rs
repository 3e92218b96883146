//! Embeddings and their classes, and what fits need of them.

use crate::heads::head::Head;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result};

/// Smallest length an embedding is divided by.
pub(super) const TINY: f64 = 1e-12;
/// Every fifth sample of a class is held out where a choice is made.
const HELD_OUT: usize = 5;
/// Entries whose deviation is a smaller share of their mean are not brought to a deviation of 1, but by this share of the mean: single
/// precision holds seven digits of the encoder's output, so the rounding of such an entry would be a thousandth of a deviation and more.
const STEADY: f64 = 1e-3;
/// Classes named in a message.
const SHOWN: usize = 10;

/// Embeddings `[n, d]`, f64, and their classes.
#[derive(Debug, Clone)]
pub struct Features {
    pub x: Tensor,
    pub labels: Vec<u32>,
}

impl Features {
    /// # Errors
    /// Kind `Load` for embeddings that are not finite, and labels that do not fit them.
    pub fn new(x: &Tensor, labels: Vec<u32>) -> Result<Self> {
        let x = x.to_dtype(DType::F64)?;
        let (n, _) = x.dims2()?;
        if n != labels.len() || n == 0 {
            return Err(Error::load(
                "the embeddings",
                format!("{n} embeddings and {} labels do not fit", labels.len()),
            ));
        }
        let sum = x.sum_all()?.to_scalar::<f64>()?;
        if !sum.is_finite() {
            return Err(Error::load("the embeddings", "some are not finite"));
        }
        Ok(Self { x, labels })
    }

    pub fn classes(&self) -> usize {
        self.labels.iter().max().map_or(0, |m| *m as usize + 1)
    }

    /// The rows at these places.
    pub fn rows(&self, at: &[usize]) -> Result<Self> {
        let ids: Vec<u32> = at.iter().map(|&i| i as u32).collect();
        let x = self.x.index_select(&Tensor::from_vec(ids, at.len(), &Device::Cpu)?, 0)?;
        Ok(Self { x, labels: at.iter().map(|&i| self.labels[i]).collect() })
    }

    /// The first `shots` of each class.
    pub fn few(&self, shots: usize) -> Result<Self> {
        let mut seen = vec![0; self.classes()];
        let mut keep = |i: &usize| {
            let count = &mut seen[self.labels[*i] as usize];
            *count += 1;
            *count <= shots
        };
        let at: Vec<usize> = (0..self.labels.len()).filter(|i| keep(i)).collect();
        self.rows(&at)
    }

    /// Places to fit on and every fifth of each class to choose or to judge by.
    pub fn split(&self) -> (Vec<usize>, Vec<usize>) {
        let mut seen = vec![0usize; self.classes()];
        (0..self.labels.len()).partition(|&i| {
            let count = &mut seen[self.labels[i] as usize];
            *count += 1;
            !count.is_multiple_of(HELD_OUT)
        })
    }

    /// Rows of length 1.
    pub(super) fn directions(&self) -> Result<Tensor> {
        let norms = self.x.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(TINY)?;
        Ok(self.x.broadcast_div(&norms)?)
    }

    /// Places of rows that have a direction: that are not zero.
    pub fn pointed(&self) -> Result<Vec<usize>> {
        let norms = self.x.sqr()?.sum(1)?.sqrt()?.to_vec1::<f64>()?;
        Ok((0..norms.len()).filter(|&i| norms[i] > TINY).collect())
    }

    /// `[classes, n]`: 1 where a sample is of a class.
    pub(super) fn members(&self) -> Result<Tensor> {
        let (n, k) = (self.labels.len(), self.classes());
        let mut which = vec![0f64; k * n];
        self.labels.iter().enumerate().for_each(|(i, &l)| which[l as usize * n + i] = 1.);
        Ok(Tensor::from_vec(which, (k, n), &Device::Cpu)?)
    }

    /// Mean and deviation of each entry.
    pub(super) fn moments(&self) -> Result<(Tensor, Tensor)> {
        let mean = self.x.mean_keepdim(0)?;
        let var = self.x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
        Ok((mean, var.sqrt()?))
    }

    /// Which of so many classes no sample is of, in words; `None` where every one has some.
    pub fn absent(&self, classes: usize) -> Option<String> {
        let mut seen = vec![false; classes.max(self.classes())];
        self.labels.iter().for_each(|&l| seen[l as usize] = true);
        let absent: Vec<usize> = (0..seen.len()).filter(|&l| !seen[l]).collect();
        let named: Vec<String> = absent.iter().take(SHOWN).map(usize::to_string).collect();
        let more = if absent.len() > SHOWN { format!(" and {} more", absent.len() - SHOWN) } else { String::new() };
        let word = if absent.len() == 1 { "class" } else { "classes" };
        (!absent.is_empty()).then(|| format!("no training sample is of {word} {}{more}", named.join(", ")))
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.absent(0) {
            Some(absent) => Err(Error::usage(absent).hint("take more samples: --limit, or all of them")),
            None if self.classes() < 2 => Err(Error::usage("all training samples are of one class")),
            None => Ok(()),
        }
    }
}

/// Standardised features, and how a linear map of them becomes one of the plain ones.
pub(super) struct Standard {
    pub x: Tensor,
    pub members: Tensor,
    pub labels: Vec<u32>,
    pub mean: Tensor,
    pub scale: Tensor,
}

impl Standard {
    pub fn of(f: &Features) -> Result<Self> {
        let (mean, deviation) = f.moments()?;
        // Entries that never change say nothing, and what hardly changes is rounding of the encoder, not to be blown up.
        let least = (mean.abs()? * STEADY)?;
        let scale = (deviation.maximum(&least)? + 1e-8)?.recip()?;
        let x = f.x.broadcast_sub(&mean)?.broadcast_mul(&scale)?.contiguous()?;
        Ok(Self { x, members: f.members()?.t()?.contiguous()?, labels: f.labels.clone(), mean, scale })
    }

    pub fn head(&self, weight: &Tensor, bias: &Tensor) -> Result<Head> {
        let weight = weight.broadcast_mul(&self.scale)?;
        let centre = single(&self.mean)?;
        let rest = weight.broadcast_mul(&(&self.mean - &centre)?)?.sum(1)?;
        Ok(Head::Linear { weight, bias: (bias - rest)?, centre: Some(centre.squeeze(0)?) })
    }
}

/// As single precision holds it, so that networks of either precision take off the same.
pub(super) fn single(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(DType::F32)?.to_dtype(DType::F64)?)
}
