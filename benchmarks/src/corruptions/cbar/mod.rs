//! ImageNet-C-bar and CIFAR-10-C-bar (Mintun, Kirillov and Xie 2021, arXiv 2102.11273): ten corruptions each that are
//! unlike those of ImageNet-C. Names are spelled as in the published folders.

mod bend;
mod chequers;
mod common;
mod perlin;
mod spark;
mod spectral;
mod strokes;
mod waves;

use super::{Call, Corruption};
use common::Severity;
use robust_core::Result;
use robust_imaging::Bytes;

/// Severities as published, mildest first: of parameters in tenths of their range.
macro_rules! member {
    ($name:literal, $summary:literal, $apply:path, $severities:expr) => {
        Corruption {
            name: $name,
            summary: $summary,
            apply: |x: &Bytes, call: &mut Call| -> Result<Bytes> {
                const SEVERITIES: [f64; 5] = $severities;
                $apply(x, Severity(SEVERITIES[call.level]), call.random)
            },
        }
    };
}

/// For ImageNet's images.
pub static IMAGENET: [&Corruption; 10] = [
    &member!("blue_noise_sample", "pixels kept where blue noise is high", spectral::sample, [0.8, 1.6, 2.4, 4., 5.6]),
    &member!("brownish_noise", "noise of mostly low frequencies", spectral::brownish, [1., 2., 3., 4., 5.]),
    &member!("caustic_refraction", "seen through moving water", bend::caustics, [2.35, 3.2, 4.9, 6.6, 9.15]),
    &member!("checkerboard_cutout", "cells of a turned chequerboard cut out", chequers::cutout, [2., 3., 4., 5., 6.]),
    &member!("cocentric_sine_waves", "wavy rings", waves::rings, [3., 5., 8., 9., 10.]),
    &member!("inverse_sparkles", "rays of light from all sides", spark::inverse, [1., 2., 4., 9., 10.]),
    &member!("perlin_noise", "turbulence of Perlin noise", perlin::perlin, [4.6, 5.2, 5.8, 7.6, 8.8]),
    &member!("plasma_noise", "coloured plasma", waves::plasma, [4.75, 7., 8.5, 9.25, 10.]),
    &member!("single_frequency_greyscale", "one grey wave", waves::single, [1., 1.5, 2., 4.5, 5.]),
    &member!("sparkles", "five bright stars", spark::sparkles, [1., 2., 3., 5., 6.]),
];

/// For CIFAR's images.
pub static CIFAR: [&Corruption; 10] = [
    &member!("blue_noise_sample", "pixels kept where blue noise is high", spectral::sample, [0.7, 1.4, 2.1, 3.5, 4.2]),
    &member!("brownish_noise", "noise of mostly low frequencies", spectral::brownish, [2.5, 4., 5.5, 6.5, 7.]),
    &member!("checkerboard_cutout", "cells of a turned chequerboard cut out", chequers::cutout, [1., 2., 3., 4., 5.]),
    &member!("circular_motion_blur", "turned during exposure", bend::circular, [2.8, 3.6, 4.4, 5.2, 6.]),
    &member!("inverse_sparkles", "rays of light from all sides", spark::inverse, [1., 1.5, 2.5, 4.5, 5.]),
    &member!("lines", "random grey lines", strokes::lines, [0.5, 1., 1.5, 2., 2.5]),
    &member!("pinch_and_twirl", "cells pinched and twirled", bend::twirl, [5.5, 6., 6.5, 8.5, 10.]),
    &member!("ripple", "rows and columns waved", bend::ripple, [5.5, 6., 6.5, 7.5, 8.]),
    &member!("sparkles", "five bright stars", spark::sparkles, [0.7, 3.5, 5.6, 6.3, 7.]),
    &member!("transverse_chromatic_abberation", "channels enlarged unequally", bend::chromatic, [1., 2., 5., 9., 10.]),
];
