//! Rows on the host: what attacks with state per sample share. One struct per sample, plain slices inside.

use candle_core::Tensor;
use robust_core::{Answer, Error, Norm, Oracle, Result, Slope, ThreatModel, to_host};

/// The clean rows of the live samples.
pub fn clean_rows(oracle: &Oracle) -> Result<Vec<Vec<f32>>> {
    let (flat, width) = to_host(oracle.x())?;
    Ok(flat.chunks(width.max(1)).map(<[f32]>::to_vec).collect())
}

/// One row per live sample, side by side.
pub fn stacked<'r>(oracle: &Oracle, rows: impl Iterator<Item = &'r Vec<f32>>) -> Result<Tensor> {
    let x = oracle.x();
    let mut flat = Vec::with_capacity(x.elem_count());
    rows.for_each(|r| flat.extend_from_slice(r));
    Ok(Tensor::from_vec(flat, x.dims(), x.device())?)
}

/// Row `i` belongs to live sample `i`.
pub fn everyone(oracle: &Oracle) -> Vec<u32> {
    (0..oracle.len() as u32).collect()
}

/// Asks one row per live sample.
pub fn ask<'r>(oracle: &mut Oracle, rows: impl Iterator<Item = &'r Vec<f32>>) -> Result<Answer> {
    let (x, of) = (stacked(oracle, rows)?, everyone(oracle));
    oracle.ask(&x, &of)
}

/// Asks the clean rows once more: what the reference does to find out who is correct.
pub fn ask_clean(oracle: &mut Oracle) -> Result<()> {
    let (x, of) = (oracle.x().clone(), everyone(oracle));
    oracle.ask(&x, &of).map(|_| ())
}

/// Copies a slope's gradients to `to`, entries that are not finite as 0: they point nowhere.
pub fn take_slopes<'r>(slope: &Slope, to: impl Iterator<Item = &'r mut Vec<f32>>) -> Result<()> {
    let (flat, width) = to_host(&slope.dx)?;
    for (row, from) in to.zip(flat.chunks(width.max(1))) {
        row.iter_mut().zip(from).for_each(|(a, b)| *a = if b.is_finite() { *b } else { 0. });
    }
    Ok(())
}

/// Score rows of an answer that has them.
pub fn scores(answer: &Answer) -> Result<Vec<Vec<f32>>> {
    let scores = answer.scores.as_ref().ok_or_else(|| Error::internal("an answer without scores"))?;
    Ok(scores.to_vec2::<f32>()?)
}

/// Classes other than the label by falling clean score, one list per live sample.
pub fn runners_up(oracle: &Oracle) -> Result<Vec<Vec<u32>>> {
    let labels = oracle.goal().classes();
    let rank = |(z, &label): (&Vec<f32>, &u32)| {
        let mut order: Vec<u32> = (0..z.len() as u32).filter(|c| *c != label).collect();
        order.sort_by(|a, b| z[*b as usize].total_cmp(&z[*a as usize]).then(a.cmp(b)));
        order
    };
    Ok(oracle.clean_scores()?.iter().zip(labels).map(rank).collect())
}

/// How many classes an attack may go for: `asked`, or `most` cut to what the model has.
///
/// # Errors
/// Kind `Usage` when fewer than `asked` other classes exist, or none.
pub fn targets(classes: usize, asked: Option<u64>, most: u64) -> Result<u64> {
    let others = (classes as u64).saturating_sub(1);
    if others == 0 {
        return Err(Error::usage(format!("the model has {classes} class: there is nothing to mistake it for")));
    }
    match asked {
        Some(n) if n > others => Err(Error::usage(format!("targets={n}, but the model has {others} other classes"))
            .hint(format!("give targets={others} or less, or leave it out"))),
        Some(n) => Ok(n),
        None => Ok(most.min(others)),
    }
}

/// The length of a row under Linf, L2 or L1, in f64 with a fixed order of summation.
pub fn length(norm: Norm, v: &[f32]) -> f64 {
    match norm {
        Norm::Linf => f64::from(v.iter().fold(0f32, |a, x| a.max(x.abs()))),
        Norm::L2 => lanes(v.iter().map(|x| f64::from(*x) * f64::from(*x))).sqrt(),
        _ => lanes(v.iter().map(|x| f64::from(x.abs()))),
    }
}

/// `<w, a - b>`.
pub fn dot_gap(w: &[f32], a: &[f32], b: &[f32]) -> f64 {
    lanes(w.iter().zip(a.iter().zip(b)).map(|(w, (a, b))| f64::from(*w) * (f64::from(*a) - f64::from(*b))))
}

/// A sum in eight lanes: one would wait for each addition.
fn lanes(mut values: impl Iterator<Item = f64>) -> f64 {
    let mut sums = [0f64; 8];
    loop {
        for sum in &mut sums {
            match values.next() {
                Some(v) => *sum += v,
                None => return sums.iter().sum(),
            }
        }
    }
}

/// Classes of the model under attack.
pub fn classes(oracle: &Oracle) -> Result<usize> {
    Ok(oracle.clean_scores()?.first().map_or(0, Vec::len))
}

/// Epsilon, or for unbounded threats the width of the domain.
pub fn radius(threat: &ThreatModel) -> f64 {
    let (low, high) = threat.input.domain.unwrap_or((0., 1.));
    if threat.eps().is_finite() { threat.eps() } else { f64::from(high) - f64::from(low) }
}
