//! The sequences of ImageNet-P and CIFAR-10-P (Hendrycks and Dietterich 2019): one image under a perturbation that grows,
//! frame by frame. Affine frames are those of the library version of the time: centres half a pixel off, values cut off.

use super::colour::in_hsv;
use super::common::{doubles, finish, image};
use super::poisson::Poisson;
use super::random::Random;
use super::{snow, spatter};
use robust_core::{Error, Result, nearest};
use robust_imaging::Bytes;
use robust_imaging::gaussian::{Edge, blur, kernel};
use robust_imaging::motion::{Motion, Rounding, motion_blur};
use robust_imaging::warp::{Affine, Sampling, affine_pil, perspective_cv};

/// The ten of ImageNet-P that are scored, in the order of the paper.
pub const SCORED: [&str; 10] = [
    "gaussian_noise",
    "shot_noise",
    "motion_blur",
    "zoom_blur",
    "snow",
    "brightness",
    "translate",
    "rotate",
    "tilt",
    "scale",
];

/// The ten for images of 32x32: the published program for CIFAR-10-P scores spatter instead of snow.
pub fn scored(small: bool) -> [&'static str; 10] {
    SCORED.map(|name| if small && name == "snow" { "spatter" } else { name })
}

/// Others: stronger noise, and those kept for validation.
pub const OTHERS: [&str; 10] = [
    "gaussian_noise_2",
    "gaussian_noise_3",
    "shot_noise_2",
    "shot_noise_3",
    "speckle_noise",
    "speckle_noise_2",
    "speckle_noise_3",
    "gaussian_blur",
    "spatter",
    "shear",
];

const FRAMES: usize = 31;

/// The frames of `name` from an image of 32x32 (CIFAR's parameters), or from one of at least 224 whose middle 224x224 is
/// shown (ImageNet's; the published sets start from 256).
///
/// # Errors
/// Kind `Usage` for other names, kind `Load` for images of other sizes or not RGB.
pub fn frames(name: &str, x: &Bytes, random: &mut Random) -> Result<Vec<Bytes>> {
    if x.channels != 3 || x.height != x.width || !(x.height == 32 || x.height >= 224) {
        let (h, w, c) = (x.height, x.width, x.channels);
        return Err(Error::load("sequence", format!("an image of {h}x{w} with {c} channels"))
            .hint("RGB images of 32x32, or square ones of at least 224x224, are wanted"));
    }
    let small = x.height == 32;
    let side = if small { 32 } else { 224 };
    let own = x.crop(side, side)?;
    let all = |count: usize, frame: &mut dyn FnMut(f64) -> Result<Bytes>| (0..count).map(|i| frame(i as f64)).collect();
    let pick = |a: f64, b: f64| if small { a } else { b };
    match name {
        "gaussian_noise" => Ok(noisy(&own, pick(0.02, 0.03), false, random)),
        "gaussian_noise_2" => Ok(noisy(&own, pick(0.04, 0.05), false, random)),
        "gaussian_noise_3" => Ok(noisy(&own, pick(0.06, 0.08), false, random)),
        "speckle_noise" => Ok(noisy(&own, 0.05, true, random)),
        "speckle_noise_2" => Ok(noisy(&own, pick(0.07, 0.1), true, random)),
        "speckle_noise_3" => Ok(noisy(&own, pick(0.1, 0.15), true, random)),
        "spatter" => Ok(spatter::sequence(&own, small, FRAMES, random)),
        "shot_noise" => Ok(shots(&own, pick(700., 300.), random)),
        "shot_noise_2" => Ok(shots(&own, pick(400., 120.), random)),
        "shot_noise_3" => Ok(shots(&own, pick(200., 60.), random)),
        "motion_blur" => all(if small { 21 } else { FRAMES }, &mut |i| {
            let motion = Motion {
                radius: pick(6., 10.),
                sigma: pick(1.8, 3.),
                degrees: if small { (i - 20.) * 9. } else { (i - 30.) * 4. },
            };
            Ok(image(&own, motion_blur(&own.samples, [side, side, 3], motion, Rounding::Quantum)))
        }),
        "zoom_blur" => zooms(x, side),
        "snow" => Ok(snow::sequence(&own, small, FRAMES, random)),
        "brightness" => all(FRAMES, &mut |i| {
            let more = (i - 15.) * pick(1.5, 2.) / 100.;
            Ok(in_hsv(&own, |[h, s, v]| [h, s, (v + more).clamp(0., 1.)]))
        }),
        "translate" => all(if small { 16 } else { 41 }, &mut |i| {
            let map = map(x, 0., i - pick(7., 20.), 1., 0.);
            affine_pil(x, map, Sampling::Nearest).crop(side, side)
        }),
        "rotate" => all(FRAMES, &mut |i| bent(x, side, map(x, i - 15., 0., 1., 0.))),
        "shear" => all(FRAMES, &mut |i| bent(x, side, map(x, 0., 0., 1., i - 15.))),
        "scale" => all(FRAMES, &mut |i| {
            let scale = if small { (i * 2. + 70.) / 100. } else { (i * 2.5 + 40.) / 100. };
            bent(x, side, map(x, 0., 0., scale, 0.))
        }),
        "tilt" => {
            all(FRAMES, &mut |i| perspective_cv(x, tilt(x.height as f64, pick(0.75, 1.) * (i - 15.))?).crop(side, side))
        }
        "gaussian_blur" => all(FRAMES, &mut |i| {
            let (sigma, truncate) = if small { (0.3 + 0.015 * i, 7.) } else { (0.25 + 0.035 * i, 6.) };
            let mut y = doubles(&own);
            blur(&mut y, side, side, 3, &kernel(sigma, truncate), Edge::Nearest);
            Ok(finish(&own, &y))
        }),
        other => {
            let names = || SCORED.into_iter().chain(OTHERS);
            Err(Error::usage(format!("no sequence is called `{other}`")).hint(match nearest(other, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => names().collect::<Vec<_>>().join(", "),
            }))
        }
    }
}

fn bent(x: &Bytes, side: usize, map: Affine) -> Result<Bytes> {
    affine_pil(x, map, Sampling::Bilinear).crop(side, side)
}

/// Rotation and shear in degrees about a centre half a pixel beyond the middle, then a shift and a scale.
fn map(x: &Bytes, angle: f64, shift: f64, scale: f64, shear: f64) -> Affine {
    let (cx, cy) = (x.width as f64 * 0.5 + 0.5, x.height as f64 * 0.5 + 0.5);
    let (a, s) = (angle.to_radians(), shear.to_radians());
    let d = libm::cos(a + s) * libm::cos(a) + libm::sin(a + s) * libm::sin(a);
    let unit = (1. / scale) / d;
    let [xx, xy, yx, yy] = [libm::cos(a + s), libm::sin(a + s), -libm::sin(a), libm::cos(a)].map(|v| unit * v);
    [xx, xy, xx * (-cx - shift) + xy * -cy + cx, yx, yy, yx * (-cx - shift) + yy * -cy + cy]
}

/// The clean image, then 30 of it with fresh noise, in single precision.
fn noisy(x: &Bytes, sigma: f64, proportional: bool, random: &mut Random) -> Vec<Bytes> {
    let mut frame = || {
        let noise = random.normals(0., 1., x.samples.len());
        let one = |(v, n): (&u8, f64)| {
            let u = f32::from(*v) / 255.;
            let y = u + if proportional { u } else { 1. } * (sigma as f32 * n as f32);
            (y.clamp(0., 1.) * 255.) as u8
        };
        image(x, x.samples.iter().zip(noise).map(one).collect())
    };
    let noise: Vec<Bytes> = (1..FRAMES).map(|_| frame()).collect();
    [vec![x.clone()], noise].concat()
}

fn shots(x: &Bytes, scale: f64, random: &mut Random) -> Vec<Bytes> {
    let tables: Vec<Poisson> = (0..=255).map(|v| Poisson::new(f64::from(v) / 255. * scale)).collect();
    let mut frame = || {
        let one = |&v: &u8| {
            let k = match random {
                Random::Native(words) => tables[usize::from(v)].draw(|| words.word()),
                Random::Numpy(m) => m.poisson(f64::from(v) / 255. * scale),
            };
            ((k as f32 / scale as f32).clamp(0., 1.) * 255.) as u8
        };
        image(x, x.samples.iter().map(one).collect())
    };
    let noise: Vec<Bytes> = (1..FRAMES).map(|_| frame()).collect();
    [vec![x.clone()], noise].concat()
}

/// The running mean of ever larger copies.
fn zooms(x: &Bytes, side: usize) -> Result<Vec<Bytes>> {
    let own = x.crop(side, side)?;
    let mut sum: Vec<f32> = own.samples.iter().map(|v| f32::from(*v) / 255.).collect();
    let mut frames = vec![own];
    for i in 1..FRAMES {
        let larger = bent(x, side, map(x, 0., 0., 1. + 0.004 * i as f64, 0.))?;
        sum.iter_mut().zip(&larger.samples).for_each(|(s, v)| *s += f32::from(*v) / 255.);
        let mean = |s: &f32| (s / (i + 1) as f32 * 255.) as u8;
        frames.push(image(&larger, sum.iter().map(mean).collect()));
    }
    Ok(frames)
}

/// The inverse of the view of a square image turned by `degrees` about both of its axes, from as far as its diagonal.
fn tilt(side: f64, degrees: f64) -> Result<[f64; 9]> {
    let (sin, cos) = libm::sincos(degrees.to_radians());
    let far = (side * side + side * side).sqrt();
    let half = side / 2.;
    // Plane to space, about x, about y, away from the eye, and to the picture.
    let lift = [[1., 0., -half], [0., 1., -half], [0., 0., 1.], [0., 0., 1.]];
    let about_x = [[1., 0., 0., 0.], [0., cos, -sin, 0.], [0., sin, cos, 0.], [0., 0., 0., 1.]];
    let about_y = [[cos, 0., -sin, 0.], [0., 1., 0., 0.], [sin, 0., cos, 0.], [0., 0., 0., 1.]];
    let away = [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., far], [0., 0., 0., 1.]];
    let view = [[far, 0., half, 0.], [0., far, half, 0.], [0., 0., 1., 0.]];
    let m = product(&product(&product(&product(&view, &away), &about_x), &about_y), &lift);
    inverse(m).ok_or_else(|| Error::internal(format!("a view at {degrees} degrees has no inverse")))
}

fn product<const A: usize, const B: usize, const C: usize>(x: &[[f64; B]; A], y: &[[f64; C]; B]) -> [[f64; C]; A] {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..B).map(|k| x[i][k] * y[k][j]).sum()))
}

fn inverse(m: [[f64; 3]; 3]) -> Option<[f64; 9]> {
    let minor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        m[a][c] * m[b][d] - m[a][d] * m[b][c]
    };
    let determinant: f64 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    (determinant != 0.).then(|| std::array::from_fn(|k| minor(k % 3, k / 3) / determinant))
}
