//! Common corruptions of images: the 19 of ImageNet-C and CIFAR-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), the
//! 15 of MNIST-C (Mu and Gilmer 2019, arXiv 1906.02337) and the 10 of ImageNet-C-bar and CIFAR-10-C-bar (Mintun, Kirillov
//! and Xie 2021, arXiv 2102.11273). One file per corruption or small family; to add one, write its file, its `mod` line and
//! its line in [`UNPUBLISHED`].
//!
//! Outputs equal those of the published code where it is deterministic. Where it draws random numbers, they equal its
//! outputs under [`Random::numpy`], and have its statistics under [`Random::native`], whose draws depend on seed, suite,
//! corruption, severity and sample alone.

mod blur;
pub mod cbar;
mod colour;
mod common;
mod corruption;
mod digital;
mod elastic;
mod fog;
mod frost;
mod glass;
mod ice;
mod lines;
pub mod mnist;
mod motion;
mod mt;
mod noise;
mod photos;
mod poisson;
mod random;
pub mod sequences;
#[doc(hidden)]
pub mod sha256;
mod snow;
mod spatter;
mod suite;
mod tables;
mod ziggurat;
mod zoom;

pub use corruption::{Call, Corruption, Profile};
pub use photos::{PHOTOS, Photos};
pub use random::Random;
pub use suite::{MIN_SIDE, Recipe, Suite, parse, stand_in};
pub use tables::{SIDES, Table, of_side};

/// The 15 that make mCE, in the order of the paper.
pub static TEST: [&Corruption; 15] = [
    &noise::GAUSSIAN,
    &noise::SHOT,
    &noise::IMPULSE,
    &blur::DEFOCUS,
    &glass::GLASS,
    &motion::MOTION,
    &zoom::ZOOM,
    &snow::SNOW,
    &frost::FROST,
    &fog::FOG,
    &colour::BRIGHTNESS,
    &colour::CONTRAST,
    &elastic::ELASTIC,
    &digital::PIXELATE,
    &digital::JPEG,
];

/// The 4 kept for validation: never part of mCE.
pub static EXTRA: [&Corruption; 4] = [&noise::SPECKLE, &blur::GAUSSIAN, &spatter::SPATTER, &colour::SATURATE];

/// Of no published set, for RGB images: made where `only=` names them, and in no mean.
pub static UNPUBLISHED: &[&Corruption] = &[
    // Stands in for frost where the photos are missing.
    &frost::PROCEDURAL,
];
