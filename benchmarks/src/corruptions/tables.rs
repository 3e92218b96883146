//! The severity tables of ImageNet-C (side 224), its Inception variant (299), Tiny-ImageNet-C (64) and CIFAR-10/100-C (32)
//! by Hendrycks and Dietterich 2019 (arXiv 1903.12261): one entry per severity, mildest first.

/// Side lengths that have a table of their own.
pub const SIDES: [usize; 4] = [224, 299, 64, 32];

type Five<T> = [T; 5];

pub struct Table {
    pub side: usize,
    /// Standard deviation.
    pub gaussian_noise: Five<f64>,
    /// Photons of a full pixel.
    pub shot_noise: Five<f64>,
    /// Share of samples hit.
    pub impulse_noise: Five<f64>,
    pub speckle_noise: Five<f64>,
    pub gaussian_blur: Five<f64>,
    /// Standard deviation, reach, rounds.
    pub glass_blur: Five<(f64, usize, usize)>,
    /// Radius and the softening of its edge.
    pub defocus_blur: Five<(f64, f64)>,
    /// Radius and standard deviation.
    pub motion_blur: Five<(f64, f64)>,
    /// Step and number of factors from 1: lengths of a float range, which are accidents of rounding.
    pub zoom_blur: Five<(f64, usize)>,
    /// Strength and decay of the roughness.
    pub fog: Five<(f64, f64)>,
    pub fog_side: usize,
    /// Weights of image and photo.
    pub frost: Five<(f64, f64)>,
    /// Size of the photo before it is cropped.
    pub frost_scale: f64,
    pub snow: Five<Snow>,
    pub spatter: Five<Spatter>,
    pub contrast: Five<f64>,
    pub brightness: Five<f64>,
    /// Factor and addition.
    pub saturate: Five<(f64, f64)>,
    pub jpeg: Five<u8>,
    pub pixelate: Five<f64>,
    /// Displacement, smoothness and affine shake in units of `elastic_unit` pixels.
    pub elastic: Five<(f64, f64, f64)>,
    pub elastic_unit: f64,
}

/// Mean, deviation, zoom, threshold, radius and deviation of the fall, weight of the image.
pub type Snow = (f64, f64, f64, f64, f64, f64, f64);
/// Mean, deviation, blur, threshold, gain (water) or second blur (mud), whether it is mud.
pub type Spatter = (f64, f64, f64, f64, f64, bool);

const ZOOM_LARGE: Five<(f64, usize)> = [(0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)];
const ZOOM_SMALL: Five<(f64, usize)> = [(0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)];

pub static LARGE: Table = Table {
    side: 224,
    gaussian_noise: [0.08, 0.12, 0.18, 0.26, 0.38],
    shot_noise: [60., 25., 12., 5., 3.],
    impulse_noise: [0.03, 0.06, 0.09, 0.17, 0.27],
    speckle_noise: [0.15, 0.2, 0.35, 0.45, 0.6],
    gaussian_blur: [1., 2., 3., 4., 6.],
    glass_blur: [(0.7, 1, 2), (0.9, 2, 1), (1., 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
    defocus_blur: [(3., 0.1), (4., 0.5), (6., 0.5), (8., 0.5), (10., 0.5)],
    motion_blur: [(10., 3.), (15., 5.), (15., 8.), (15., 12.), (20., 15.)],
    zoom_blur: ZOOM_LARGE,
    fog: [(1.5, 2.), (2., 2.), (2.5, 1.7), (2.5, 1.5), (3., 1.4)],
    fog_side: 256,
    frost: [(1., 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    frost_scale: 1.,
    snow: [
        (0.1, 0.3, 3., 0.5, 10., 4., 0.8),
        (0.2, 0.3, 2., 0.5, 12., 4., 0.7),
        (0.55, 0.3, 4., 0.9, 12., 8., 0.7),
        (0.55, 0.3, 4.5, 0.85, 12., 8., 0.65),
        (0.55, 0.3, 2.5, 0.85, 12., 12., 0.55),
    ],
    spatter: [
        (0.65, 0.3, 4., 0.69, 0.6, false),
        (0.65, 0.3, 3., 0.68, 0.6, false),
        (0.65, 0.3, 2., 0.68, 0.5, false),
        (0.65, 0.3, 1., 0.65, 1.5, true),
        (0.67, 0.4, 1., 0.65, 1.5, true),
    ],
    contrast: [0.4, 0.3, 0.2, 0.1, 0.05],
    brightness: [0.1, 0.2, 0.3, 0.4, 0.5],
    saturate: [(0.3, 0.), (0.1, 0.), (2., 0.), (5., 0.1), (20., 0.2)],
    jpeg: [25, 18, 15, 10, 7],
    pixelate: [0.6, 0.5, 0.4, 0.3, 0.25],
    elastic: [(2., 0.7, 0.1), (2., 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)],
    elastic_unit: 244., // as published: not 224
};

pub static INCEPTION: Table = Table {
    side: 299,
    gaussian_noise: [0.09, 0.13, 0.19, 0.27, 0.4],
    shot_noise: [50., 20., 10., 5., 3.],
    impulse_noise: [0.04, 0.07, 0.1, 0.18, 0.28],
    speckle_noise: [0.16, 0.21, 0.36, 0.46, 0.61],
    gaussian_blur: [1.5, 2.5, 3.5, 4.5, 6.5],
    glass_blur: [(0.8, 1, 3), (1., 3, 1), (1.1, 2, 4), (1.2, 4, 2), (1.6, 5, 2)],
    defocus_blur: [(4., 0.1), (5., 0.5), (7., 0.5), (10., 0.5), (12., 0.5)],
    motion_blur: [(12., 4.), (17., 6.), (17., 9.), (17., 13.), (22., 16.)],
    fog: [(1.5, 2.), (2., 2.), (2.5, 1.8), (2.5, 1.6), (3., 1.5)],
    fog_side: 512,
    spatter: [
        (0.65, 0.3, 4., 0.69, 0.9, false),
        (0.65, 0.3, 3.5, 0.68, 0.9, false),
        (0.65, 0.3, 3., 0.68, 0.8, false),
        (0.65, 0.3, 1.2, 0.65, 1.8, true),
        (0.67, 0.4, 1.2, 0.65, 1.8, true),
    ],
    jpeg: [23, 16, 13, 8, 5],
    pixelate: [0.5, 0.4, 0.3, 0.25, 0.2],
    elastic_unit: 360.,
    ..LARGE
};

pub static TINY: Table = Table {
    side: 64,
    gaussian_noise: [0.04, 0.08, 0.12, 0.15, 0.18],
    shot_noise: [250., 100., 50., 30., 15.],
    impulse_noise: [0.01, 0.02, 0.05, 0.08, 0.14],
    speckle_noise: [0.15, 0.2, 0.25, 0.3, 0.35],
    gaussian_blur: [0.5, 0.75, 1., 1.25, 1.5],
    glass_blur: [(0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)],
    defocus_blur: [(0.5, 0.6), (1., 0.1), (1.5, 0.1), (2.5, 0.01), (3., 0.1)],
    motion_blur: [(10., 1.), (10., 1.5), (10., 2.), (10., 2.5), (12., 3.)],
    zoom_blur: ZOOM_SMALL,
    fog: [(0.4, 3.), (0.7, 3.), (1., 2.5), (1.5, 2.), (2., 1.75)],
    fog_side: 64,
    frost: [(1., 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)],
    frost_scale: 0.3,
    snow: [
        (0.1, 0.2, 1., 0.6, 8., 3., 0.8),
        (0.1, 0.2, 1., 0.5, 10., 4., 0.8),
        (0.15, 0.3, 1.75, 0.55, 10., 4., 0.7),
        (0.25, 0.3, 2.25, 0.6, 12., 6., 0.65),
        (0.3, 0.3, 1.25, 0.65, 14., 12., 0.6),
    ],
    spatter: [
        (0.62, 0.1, 0.7, 0.7, 0.6, false),
        (0.65, 0.1, 0.8, 0.7, 0.6, false),
        (0.65, 0.3, 1., 0.69, 0.6, false),
        (0.65, 0.1, 0.7, 0.68, 0.6, true),
        (0.65, 0.1, 0.5, 0.67, 0.6, true),
    ],
    saturate: [(0.3, 0.), (0.1, 0.), (2., 0.), (5., 0.1), (30., 0.2)],
    jpeg: [65, 58, 50, 40, 25],
    pixelate: [0.9, 0.8, 0.7, 0.6, 0.5],
    elastic: [(0., 0., 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)],
    elastic_unit: 64.,
    ..LARGE
};

pub static CIFAR: Table = Table {
    side: 32,
    gaussian_noise: [0.04, 0.06, 0.08, 0.09, 0.1],
    shot_noise: [500., 250., 100., 75., 50.],
    impulse_noise: [0.01, 0.02, 0.03, 0.05, 0.07],
    speckle_noise: [0.06, 0.1, 0.12, 0.16, 0.2],
    gaussian_blur: [0.4, 0.6, 0.7, 0.8, 1.],
    glass_blur: [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    defocus_blur: [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1., 0.2), (1.5, 0.1)],
    motion_blur: [(6., 1.), (6., 1.5), (6., 2.), (8., 2.), (9., 2.5)],
    zoom_blur: ZOOM_SMALL,
    fog: [(0.2, 3.), (0.5, 3.), (0.75, 2.5), (1., 2.), (1.5, 1.75)],
    fog_side: 32,
    frost: [(1., 0.2), (1., 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    frost_scale: 0.2,
    snow: [
        (0.1, 0.2, 1., 0.6, 8., 3., 0.95),
        (0.1, 0.2, 1., 0.5, 10., 4., 0.9),
        (0.15, 0.3, 1.75, 0.55, 10., 4., 0.9),
        (0.25, 0.3, 2.25, 0.6, 12., 6., 0.85),
        (0.3, 0.3, 1.25, 0.65, 14., 12., 0.8),
    ],
    spatter: [
        (0.62, 0.1, 0.7, 0.7, 0.5, false),
        (0.65, 0.1, 0.8, 0.7, 0.5, false),
        (0.65, 0.3, 1., 0.69, 0.5, false),
        (0.65, 0.1, 0.7, 0.69, 0.6, true),
        (0.65, 0.1, 0.5, 0.68, 0.6, true),
    ],
    contrast: [0.75, 0.5, 0.4, 0.3, 0.15],
    brightness: [0.05, 0.1, 0.15, 0.2, 0.3],
    saturate: [(0.3, 0.), (0.1, 0.), (1.5, 0.), (2., 0.1), (2.5, 0.2)],
    jpeg: [80, 65, 58, 50, 40],
    pixelate: [0.95, 0.9, 0.85, 0.75, 0.65],
    elastic: [(0., 0., 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
    elastic_unit: 32.,
};

/// The table of a side length, if it has one.
pub fn of_side(side: usize) -> Option<&'static Table> {
    [&LARGE, &INCEPTION, &TINY, &CIFAR].into_iter().find(|t| t.side == side)
}
