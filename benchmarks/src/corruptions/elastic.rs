//! Elastic transform: an affine shake and a smooth random displacement of every pixel.

use super::common::image;
use super::random::Random;
use super::{Call, Corruption, Profile};
use robust_core::Result;
use robust_imaging::Bytes;
use robust_imaging::fourier::{Complex, filter_mirrored, smooth_few};
use robust_imaging::gaussian::{Edge, blur, kernel};
use robust_imaging::vector::truncated_f32;
use robust_imaging::warp::{Quad, affine_cv, displaced};

pub static ELASTIC: Corruption = Corruption {
    name: "elastic_transform",
    summary: "pixels moved by a smooth random field",
    apply: |x, call| match call.profile {
        Profile::Hendrycks => hendrycks(x, call),
        Profile::ImageCorruptions => package(x, call),
    },
};

fn quads(x: &Bytes) -> Vec<Quad> {
    let units: [f32; 256] = std::array::from_fn(|v| v as f32 / 255.);
    x.samples.as_chunks().0.iter().map(|&[r, g, b]| [r, g, b, 0].map(|v| units[usize::from(v)])).collect()
}

fn hendrycks(x: &Bytes, call: &mut Call) -> Result<Bytes> {
    let n = x.height;
    let unit = call.table.elastic_unit;
    let (alpha, sigma, shake) = call.table.elastic[call.level];
    let (alpha, sigma, shake) = (unit * alpha, unit * sigma, unit * shake);
    let moves: Vec<f64> = (0..6).map(|_| call.random.uniform(-shake, shake)).collect();
    let across = call.random.uniforms(-1., 1., n * n);
    let down = call.random.uniforms(-1., 1., n * n);
    let shaken = affine_cv(&quads(x), n, affine(n, &moves));
    Ok(displace(x, &shaken, smooth([across, down], n, sigma, call), alpha))
}

/// The map that takes three points of a right angle to where `moves` puts them, inverted as OpenCV does it.
fn affine(n: usize, moves: &[f64]) -> [f64; 6] {
    let (c, q) = ((n / 2) as f32, (n / 3) as f32);
    let corners = [[c + q, c + q], [c + q, c - q], [c - q, c - q]];
    let moved = |i: usize, k: usize| f64::from(corners[i][k] + moves[2 * i + k] as f32);
    let row = |k: usize| {
        let (a, b, d) = (moved(0, k), moved(1, k), moved(2, k));
        let (down, across) = ((a - b) / f64::from(2. * q), (b - d) / f64::from(2. * q));
        (across, down, a - (across + down) * f64::from(c + q))
    };
    let ((a, b, e), (c, d, f)) = (row(0), row(1));
    let scale = 1. / (a * d - b * c);
    let (xx, xy, yx, yy) = (d * scale, -b * scale, -c * scale, a * scale);
    [xx, xy, -xx * e - xy * f, yx, yy, -yx * e - yy * f]
}

/// Beyond this radius the field is filtered in the cosine domain.
const WIDE: usize = 24;

/// Noise through a Gaussian of this many pixels. Of our own noise only those cosines are made that the Gaussian leaves
/// more than a ten-thousandth of: what the cut kernel leaves of the others is below 3e-5 of the field's variance.
fn smooth([mut across, mut down]: [Vec<f64>; 2], n: usize, sigma: f64, call: &Call) -> [Vec<f64>; 2] {
    let w = kernel(sigma, 3.);
    if w.len() <= WIDE {
        blur(&mut across, n, n, 1, &w, Edge::Symmetric);
        blur(&mut down, n, n, 1, &w, Edge::Symmetric);
        return [across, down];
    }
    if let Random::Native(_) = call.random {
        let most = (2. * 1e4f64.ln()).sqrt() * n as f64 / (std::f64::consts::PI * sigma);
        smooth_few(&mut across, n, &w, most.ceil() as usize + 1);
        smooth_few(&mut down, n, &w, most.ceil() as usize + 1);
        return [across, down];
    }
    let mut field = Complex { re: across, im: down };
    filter_mirrored(&mut field, n, n, &w);
    let mut turned = field.transposed(n);
    filter_mirrored(&mut turned, n, n, &w);
    let field = turned.transposed(n);
    [field.re, field.im]
}

fn displace(x: &Bytes, pixels: &[Quad], field: [Vec<f64>; 2], alpha: f64) -> Bytes {
    let [dx, dy] = field.map(|v| v.iter().map(|v| (v * alpha) as f32).collect::<Vec<f32>>());
    let mut samples = vec![0; x.samples.len()];
    let out = samples.as_chunks_mut::<3>().0;
    let mut bytes = vec![[0; 4]; x.width];
    displaced(pixels, x.height, &dx, &dy, |y, row| {
        let flat = bytes.as_flattened_mut().iter_mut().zip(row.as_flattened());
        flat.for_each(|(to, v)| *to = truncated_f32(v.clamp(0., 1.) * 255.));
        out[y * x.width..].iter_mut().zip(&bytes).for_each(|(to, &[r, g, b, _])| *to = [r, g, b]);
    });
    image(x, samples)
}

/// The `imagecorruptions` package: no shake, a field of a few pixels per hundred of the side.
fn package(x: &Bytes, call: &mut Call) -> Result<Bytes> {
    let n = x.height;
    let side = n as f64;
    let alpha = 250. * [0.05, 0.065, 0.085, 0.1, 0.12][call.level];
    let reach = side * 0.005;
    let across = call.random.uniforms(-reach, reach, n * n);
    let down = call.random.uniforms(-reach, reach, n * n);
    Ok(displace(x, &quads(x), smooth([across, down], n, side * 0.01, call), alpha))
}
