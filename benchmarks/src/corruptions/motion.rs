//! Motion blur along a random direction.

use super::common::image;
use super::{Call, Corruption, Profile};
use robust_imaging::motion::{Motion, Rounding, motion_blur};

pub static MOTION: Corruption = Corruption {
    name: "motion_blur",
    summary: "a line of pixels at up to 45 degrees, averaged",
    apply: |x, call| {
        let (radius, sigma) = call.table.motion_blur[call.level];
        let motion = Motion { radius, sigma, degrees: call.random.uniform(-45., 45.) };
        Ok(image(x, motion_blur(&x.samples, [x.height, x.width, x.channels], motion, rounding(call))))
    },
};

pub(super) fn rounding(call: &Call) -> Rounding {
    match call.profile {
        Profile::Hendrycks => Rounding::Quantum,
        Profile::ImageCorruptions => Rounding::Truncate,
    }
}
