//! The native stream has the published programs' statistics, and the comparison has teeth.

use super::exact::{apply, by_name, frost};
use super::files::{Npz, index, listed, picture, root};
use ndarray::{ArrayD, Axis};
use rayon::prelude::*;
use robust_benchmarks::corruptions::{Profile, Random, TEST, mnist, of_side};
use robust_imaging::Bytes;
use robust_imaging::fourier::{Complex, Fourier};
use robust_imaging::gaussian::{Edge, blur, kernel};

const EDGES: [f64; 7] = [0., 1. / 32., 1. / 16., 1. / 8., 1. / 4., 1. / 2., 2.];

fn mean(v: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = v.fold((0., 0.), |(s, n), v| (s + v, n + 1.));
    sum / count
}

fn sd(v: &[f64], spare: f64) -> f64 {
    let m = mean(v.iter().copied());
    (v.iter().map(|x| (x - m).powi(2)).sum::<f64>() / (v.len() as f64 - spare)).sqrt()
}

/// The statistics of the index, in its order, of an output in `[0, 255]`.
fn statistics(x: &Bytes, y: &[f64]) -> Vec<f64> {
    let (n, c) = (x.height, x.channels);
    let own: Vec<f64> = x.samples.iter().map(|v| f64::from(*v)).collect();
    let gap: Vec<f64> = y.iter().zip(&own).map(|(a, b)| a - b).collect();
    let channel = |v: &[f64], k: usize| v.iter().skip(k).step_by(c).copied().collect::<Vec<f64>>();
    let mut out: Vec<f64> = (0..c).map(|k| mean(channel(y, k).into_iter())).collect();
    out.extend((0..c).map(|k| mean(channel(&gap, k).into_iter())));
    out.extend((0..c).map(|k| sd(&channel(&gap, k), 0.)));
    let square = mean(gap.iter().map(|v| v * v));
    let share = |test: &dyn Fn(usize) -> bool| mean((0..y.len()).map(|i| f64::from(u8::from(test(i)))));
    let weights: &[f64] = if c == 3 { &[0.299, 0.587, 0.114] } else { &[1.] };
    let luma = |v: &[f64]| v.chunks(c).map(|p| p.iter().zip(weights).map(|(a, w)| a * w).sum()).collect::<Vec<f64>>();
    let (a, b) = (luma(&own), luma(y));
    out.extend([sd(&gap, 0.), mean(gap.iter().map(|v| v.abs())), 10. * (255f64.powi(2) / square).log10()]);
    out.push(similarity(&a, &b, n));
    out.extend([share(&|i| gap[i] != 0.), share(&|i| y[i] == 0. || y[i] == 255.)]);
    out.extend(bands(b.iter().zip(&a).map(|(b, a)| b - a).collect(), n));
    out
}

fn similarity(a: &[f64], b: &[f64], n: usize) -> f64 {
    let side = if n == 28 { 7 } else { 8 };
    let blocks = (0..n / side).flat_map(|y| (0..n / side).map(move |x| (y * side, x * side)));
    mean(blocks.map(|(y, x)| {
        let part = |v: &[f64]| (0..side * side).map(|i| v[(y + i / side) * n + x + i % side]).collect::<Vec<f64>>();
        let (a, b) = (part(a), part(b));
        let (ma, mb) = (mean(a.iter().copied()), mean(b.iter().copied()));
        let (va, vb) = (sd(&a, 0.).powi(2), sd(&b, 0.).powi(2));
        let both = mean(a.iter().zip(&b).map(|(a, b)| (a - ma) * (b - mb)));
        let (c1, c2) = (2.55f64.powi(2), 7.65f64.powi(2));
        (2. * ma * mb + c1) * (2. * both + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    }))
}

fn bands(gap: Vec<f64>, n: usize) -> Vec<f64> {
    let mut f = Complex { im: vec![0.; gap.len()], re: gap };
    let fourier = Fourier::new(n);
    fourier.forward(&mut f, n);
    let mut f = f.transposed(n);
    fourier.forward(&mut f, n);
    let (mut sums, mut counts) = (vec![0.; EDGES.len()], vec![0.; EDGES.len()]);
    let frequency = |k: usize| k.min(n - k) as f64 / n as f64;
    for i in 0..n * n {
        let r = frequency(i / n).hypot(frequency(i % n));
        let ring = if r == 0. { 0 } else { EDGES.windows(2).position(|w| r > w[0] && r <= w[1]).unwrap() + 1 };
        sums[ring] += (f.re[i].powi(2) + f.im[i].powi(2)) / (n * n) as f64;
        counts[ring] += 1.;
    }
    sums.iter().zip(&counts).map(|(s, c)| if *c == 0. { 0. } else { s / c }).collect()
}

/// The largest z over all statistics of `runs` outputs against the reference's mean and deviation over `theirs` seeds.
fn largest_z(x: &Bytes, runs: &[Vec<f64>], reference: &ArrayD<f32>, theirs: f64) -> (f64, usize) {
    let all: Vec<Vec<f64>> = runs.par_iter().map(|y| statistics(x, y)).collect();
    let n = all.len() as f64;
    let z = |k: usize| {
        let own: Vec<f64> = all.iter().map(|s| s[k]).collect();
        let (m, s) = (f64::from(reference[[0, k]]), f64::from(reference[[1, k]]));
        let gap = (mean(own.iter().copied()) - m).abs();
        let error = (sd(&own, 1.).powi(2) / n + s * s / theirs).sqrt();
        // An infinite ratio of signal to noise in one run makes no statistic.
        if gap.is_finite() { ((gap - 1e-3) / error.max(1e-12)).max(0.) } else { 0. }
    };
    (0..reference.shape()[1]).map(|k| (z(k), k)).fold((0., 0), |a, b| if b.0 > a.0 { b } else { a })
}

fn doubles(y: &Bytes) -> Vec<f64> {
    y.samples.iter().map(|v| f64::from(*v)).collect()
}

fn check(file: &str, input: &str, seeds: u64, levels: &[usize]) {
    let Some(root) = root() else { return };
    if !listed(&root, file) || !listed(&root, input) {
        return;
    }
    let theirs = index(&root)["stats"]["n_seeds"][file.trim_end_matches(".npz")].as_u64().unwrap_or(64) as f64;
    let input = Npz::open(&root, input).bytes("input");
    let mut npz = Npz::open(&root, file);
    let (frost, mut wrong, mut most) = (frost(), vec![], 0.);
    for name in npz.names.clone() {
        if name == "frost" && frost.is_none() {
            eprintln!("skipped: {file} frost, since ROBUST_FROST names no folder of photos");
            continue;
        }
        let table: ArrayD<f32> = npz.array(&name);
        for &level in levels.iter().filter(|l| **l < table.shape()[0]) {
            for i in 0..table.shape()[1] {
                let x = picture(&input, i);
                let runs: Vec<Vec<f64>> = (0..seeds)
                    .into_par_iter()
                    .map(|k| {
                        let random = Random::native(k, &format!("{name}/{level}"), i as u64);
                        doubles(&apply(&x, &name, Profile::Hendrycks, level, random, frost.as_ref()))
                    })
                    .collect();
                let reference = table.index_axis(Axis(0), level).index_axis(Axis(0), i).to_owned();
                let (z, k) = largest_z(&x, &runs, &reference, theirs);
                most = f64::max(most, z);
                if z > 4.5 {
                    wrong.push(format!("{name} s{} i{i} statistic {k}: z = {z:.1}", level + 1));
                }
            }
        }
    }
    eprintln!("{file}: largest z {most:.2}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn native_corruptions_of_cifar_have_the_published_statistics() {
    check("stats_cifar.npz", "det_cifar.npz", 64, &[0, 1, 2, 3, 4]);
}

#[test]
fn native_corruptions_of_imagenet_have_the_published_statistics() {
    check("stats_imagenet.npz", "det_imagenet.npz", 16, &[0, 2, 4]);
}

#[test]
fn native_corruptions_of_mnist_have_the_published_statistics() {
    let Some(root) = root() else { return };
    if !listed(&root, "stats_mnist.npz") || !listed(&root, "det_mnist.npz") {
        return;
    }
    let input = Npz::open(&root, "det_mnist.npz").bytes("input");
    let mut npz = Npz::open(&root, "stats_mnist.npz");
    let mut wrong = vec![];
    for name in mnist::ALL.iter().map(|c| c.name).filter(|n| npz.names.contains(&n.to_string())).collect::<Vec<_>>() {
        let table: ArrayD<f32> = npz.array(name);
        for i in 0..table.shape()[1] {
            let x = picture(&input, i);
            // The reference's are of bytes.
            let one = |k| mnist::values(name, &x, &mut Random::native(k, name, i as u64)).unwrap();
            let runs: Vec<Vec<f64>> = (0..64).map(|k| one(k).into_iter().map(f64::floor).collect()).collect();
            let reference = table.index_axis(Axis(0), 0).index_axis(Axis(0), i).to_owned();
            let (z, k) = largest_z(&x, &runs, &reference, 64.);
            if z > 4.5 {
                wrong.push(format!("{name} i{i} statistic {k}: z = {z:.1}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The largest z of a mistaken program over the images and severities of CIFAR.
fn mistaken(name: &str, make: impl Fn(&Bytes, usize, &mut Random) -> Vec<f64> + Sync) -> Option<f64> {
    let root = root()?;
    if !listed(&root, "stats_cifar.npz") {
        return None;
    }
    let input = Npz::open(&root, "det_cifar.npz").bytes("input");
    let table: ArrayD<f32> = Npz::open(&root, "stats_cifar.npz").array(name);
    let mut most = 0.;
    for level in 0..5 {
        for i in 0..input.shape()[0] {
            let x = picture(&input, i);
            let one = |k: u64| make(&x, level, &mut Random::native(k, name, i as u64));
            let runs: Vec<Vec<f64>> = (0..64).into_par_iter().map(one).collect();
            let reference = table.index_axis(Axis(0), level).index_axis(Axis(0), i).to_owned();
            most = f64::max(most, largest_z(&x, &runs, &reference, 64.).0);
        }
    }
    Some(most)
}

fn noisy(x: &Bytes, sigma: f64, random: &mut Random, cut: fn(f64) -> f64) -> Vec<f64> {
    let noise = random.normals(0., sigma, x.samples.len());
    let one = |(v, n): (&u8, f64)| cut((f64::from(*v) / 255. + n).clamp(0., 1.) * 255.);
    x.samples.iter().zip(noise).map(one).collect()
}

/// Glass blur by hand; `swap` tells whether pixels truly trade places.
fn glass(x: &Bytes, level: usize, random: &mut Random, swap: bool) -> Vec<f64> {
    let (sigma, reach, rounds) = of_side(32).unwrap().glass_blur[level];
    let smooth = |v: &[f64]| {
        let mut y: Vec<f64> = v.iter().map(|v| v / 255.).collect();
        blur(&mut y, 32, 32, 3, &kernel(sigma, 4.), Edge::Nearest);
        y.into_iter().map(|v| (v.clamp(0., 1.) * 255.).floor()).collect::<Vec<f64>>()
    };
    let mut y = smooth(&doubles(x));
    let d = reach as i64;
    for _ in 0..rounds {
        for h in (reach + 1..=32 - reach).rev() {
            for w in (reach + 1..=32 - reach).rev() {
                let (dx, dy) = (random.integer(-d, d), random.integer(-d, d));
                let (to, from) = ((h * 32 + w) * 3, ((h as i64 + dy) as usize * 32 + (w as i64 + dx) as usize) * 3);
                for k in 0..3 {
                    let own = y[to + k];
                    y[to + k] = y[from + k];
                    if swap {
                        y[from + k] = own;
                    }
                }
            }
        }
    }
    smooth(&y)
}

#[test]
fn deliberate_mistakes_are_caught() {
    let sigma = |level: usize| of_side(32).unwrap().gaussian_noise[level];
    let z = |name, make: &(dyn Fn(&Bytes, usize, &mut Random) -> Vec<f64> + Sync)| mistaken(name, make);
    let Some(right) = z("gaussian_noise", &|x, l, r| noisy(x, sigma(l), r, f64::floor)) else { return };
    let rounded = z("gaussian_noise", &|x, l, r| noisy(x, sigma(l), r, f64::round)).unwrap();
    let stronger = z("gaussian_noise", &|x, l, r| noisy(x, 1.02 * sigma(l), r, f64::floor)).unwrap();
    let copied = z("glass_blur", &|x, l, r| glass(x, l, r, false)).unwrap();
    let swapped = z("glass_blur", &|x, l, r| glass(x, l, r, true)).unwrap();
    eprintln!(
        "z: right {right:.1}, rounded {rounded:.1}, +2 % {stronger:.1}, copied {copied:.1}, swapped {swapped:.1}"
    );
    assert!(right <= 4.5 && copied <= 4.5);
    assert!(rounded > 4.5 && stronger > 4.5 && swapped > 4.5);
}

#[test]
fn every_test_corruption_is_found_by_name() {
    assert!(TEST.iter().all(|c| by_name(c.name).name == c.name));
}
