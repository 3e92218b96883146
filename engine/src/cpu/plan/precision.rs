//! What a plan is compiled for.

/// How exactly a plan computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Winograd where it is faster: agrees with the reference within 1e-4 of the largest entry. Gives gradients.
    Fast,
    /// Direct sums in a fixed order, within 1e-5. Forward only.
    Exact,
}

/// Which weights are brought into their kernels' form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    For(Precision),
    /// None: only to see which steps there would be.
    None,
}

/// Windows along an axis up to which their links are listed.
pub(super) const LINKS: usize = 1 << 16;
