//! Single-thread times of every corruption on a 224x224 image beside those of the published Python programs, and the bars
//! that must hold. The reference times are medians over severities, measured once with its packages (numpy 1.26.4, scipy
//! 1.11.4, scikit-image 0.20.0, OpenCV 4.8.1, ImageMagick 6.9) on a 2-core machine: `cargo bench -p robust-benchmarks
//! --bench corruptions`. `ROBUST_REFERENCE=python3` times two of them again, where numpy and scipy are installed.

// A bench reads the clock and prints.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

// As the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use robust_benchmarks::corruptions::{Random, Recipe, parse};
use robust_imaging::Bytes;
use std::hint::black_box;
use std::time::Instant;

/// Milliseconds per image (mean over severities) of the published programs, and how many times faster we must be.
const REFERENCE: [(&str, f64, f64); 29] = [
    ("gaussian_noise", 7.33, 5.),
    ("shot_noise", 12.95, 5.),
    ("impulse_noise", 6.11, 5.),
    ("defocus_blur", 5.94, 1.),
    ("glass_blur", 759.22, 300.),
    ("motion_blur", 72.23, 20.),
    ("zoom_blur", 92.34, 20.),
    ("snow", 42.59, 20.),
    ("frost", 7.39, 1.),
    ("fog", 6.56, 1.),
    ("brightness", 22.32, 20.),
    ("contrast", 1.89, 1.),
    ("elastic_transform", 24.93, 20.),
    ("pixelate", 0.54, 0.),
    ("jpeg_compression", 0.36, 0.),
    ("speckle_noise", 2.79, 5.),
    ("gaussian_blur", 3.39, 1.),
    ("spatter", 4.22, 1.),
    ("saturate", 21.54, 20.),
    ("caustic_refraction", 5800., 50.),
    ("inverse_sparkles", 800., 50.),
    ("sparkles", 4000., 50.),
    ("perlin_noise", 1900., 50.),
    ("blue_noise_sample", 200., 50.),
    ("plasma_noise", 2400., 50.),
    ("checkerboard_cutout", 300., 50.),
    ("cocentric_sine_waves", 200., 50.),
    ("single_frequency_greyscale", 100., 50.),
    ("brownish_noise", 700., 50.),
];

/// A picture with flat parts, ramps and texture.
fn picture() -> Bytes {
    let value = |i: usize| {
        let (y, x, k) = (i / 3 / 224, i / 3 % 224, i % 3);
        let wave = (x as f64 / 9.).sin() * (y as f64 / 14.).cos() * 60.;
        let texture = if y > 112 { ((x * 31 + y * 17 + k * 7) % 64) as f64 } else { 0. };
        (90. + wave + texture + 20. * k as f64).clamp(0., 255.) as u8
    };
    Bytes::new(224, 224, 3, (0..224 * 224 * 3).map(value).collect()).unwrap()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Milliseconds of one image by each recipe: medians.
fn times(x: &Bytes, recipes: &[&Recipe]) -> Vec<f64> {
    let one = |recipe: &&Recipe| {
        let run = |sample: u64| {
            let mut random = Random::native(0, "bench", sample);
            let start = Instant::now();
            black_box(recipe.apply(black_box(x), &mut random).unwrap());
            1000. * start.elapsed().as_secs_f64()
        };
        run(0); // tables are built once
        median((1..12).map(run).collect())
    };
    recipes.iter().map(one).collect()
}

fn main() {
    let x = picture();
    let shape = [3, 224, 224];
    let frost =
        std::env::var_os("ROBUST_FROST").map(|dir| robust_benchmarks::corruptions::Photos::open(dir.as_ref()).unwrap());
    let mut recipes = parse("imagenet-c:extra=true", &shape, frost.as_ref()).unwrap();
    recipes.extend(parse("c-bar", &shape, None).unwrap());
    println!("{:28} {:>9} {:>10} {:>8} {:>6}", "corruption", "ours ms", "python ms", "times", "bar");
    let (mut suite, mut bar_ours, mut bar_theirs, mut missed) = (0., 0., 0., vec![]);
    let mut suite_theirs = 0.;
    // `-- NAME` times one of them alone, and shows its severities.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    for (i, (name, theirs, bar)) in REFERENCE.iter().enumerate() {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let mine: Vec<&Recipe> = recipes.iter().filter(|r| r.corruption.name == *name).collect();
        if mine.is_empty() {
            println!("{name:28} {:>9} {theirs:10.2}   (needs ROBUST_FROST)", "-");
            continue;
        }
        let each = times(&x, &mine);
        let ours = each.iter().sum::<f64>() / each.len() as f64;
        let times = theirs / ours;
        println!(
            "{name:28} {ours:9.3} {theirs:10.2} {times:8.1} {bar:6.0}{}",
            if times < *bar { "  MISSED" } else { "" }
        );
        if only.is_some() {
            println!("by severity: {each:.3?}");
        }
        if times < *bar {
            missed.push(*name);
        }
        match i {
            0..15 => (suite, suite_theirs) = (suite + 5. * ours, suite_theirs + 5. * theirs),
            19.. => (bar_ours, bar_theirs) = (bar_ours + ours, bar_theirs + theirs),
            _ => {}
        }
    }
    if only.is_some() {
        return;
    }
    println!("15 x 5 suite: {suite:.1} ms, {:.1} times (bar 50)", suite_theirs / suite);
    println!("C-bar: {bar_ours:.1} ms, {:.1} times (bar 300)", bar_theirs / bar_ours);
    println!("missed: {}", if missed.is_empty() { "none".to_string() } else { missed.join(", ") });
    reference();
}

/// Two reference programs again, on this machine.
fn reference() {
    let Some(python) = std::env::var_os("ROBUST_REFERENCE") else { return };
    let program = "\
import time, numpy as np
from scipy.ndimage import gaussian_filter
x = np.random.randint(0, 256, (224, 224, 3)).astype(np.uint8)
def median(f):
    t = []
    for _ in range(7):
        a = time.process_time(); f(); t.append(1000 * (time.process_time() - a))
    return sorted(t)[3]
print('gaussian_noise, python here: %.2f ms' % median(lambda: np.uint8(np.clip(x / 255. + np.random.normal(size=x.shape, scale=.18), 0, 1) * 255)))
print('gaussian_blur, python here: %.2f ms' % median(lambda: np.uint8(np.clip(gaussian_filter(x / 255., (3, 3, 0), mode='nearest'), 0, 1) * 255)))
";
    match std::process::Command::new(python).args(["-c", program]).output() {
        Ok(out) if out.status.success() => print!("{}", String::from_utf8_lossy(&out.stdout)),
        Ok(out) => println!("the reference did not run: {}", String::from_utf8_lossy(&out.stderr)),
        Err(e) => println!("the reference did not run: {e}"),
    }
}
