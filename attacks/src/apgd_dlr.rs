//! APGD-DLR (Croce and Hein 2020, arXiv 2003.01690): APGD on the difference of logits ratio, which no scale of the
//! logits can flatten.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! As `apgd-ce`, climbing (best other score - label's score) / (largest score - third largest score).
//!
//! # Parameters
//! As `apgd-ce`: `steps` (default 100), `restarts` (default 1), `rho` (default 0.75), `larger` (default true; L1 only),
//! `compat` (default false).
//!
//! # Differs from the paper
//! As `apgd-ce`. With two classes the ratio does not exist: its numerator, the margin, is climbed instead; compat
//! refuses.
//!
//! # Cost per sample
//! As `apgd-ce`.

use crate::apgd_ce::build;
use crate::climb::Climb;
use robust_core::{Access, Entry, Norm};

pub const ENTRY: Entry = Entry {
    name: "apgd-dlr",
    paper: "Croce and Hein 2020, arXiv 2003.01690",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("apgd_dlr.rs"),
    build: |spec| build(spec, Climb::Dlr),
};
