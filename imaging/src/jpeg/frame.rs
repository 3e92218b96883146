//! A frame: its colour planes and their coefficients.

/// One colour plane.
#[derive(Debug)]
pub(super) struct Component {
    pub id: u8,
    pub h: usize,
    pub v: usize,
    pub table: usize,
    /// Samples that mean something.
    pub width: usize,
    pub height: usize,
    /// Blocks stored, padded to whole units of interleaved scans.
    pub across: usize,
    pub down: usize,
    /// 64 per block in natural order, block rows after each other.
    pub coefficients: Vec<[i16; 64]>,
    /// The table in force when the component's first scan began, in natural order.
    pub quant: Option<[u16; 64]>,
}

/// What the components are, after libjpeg's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    Ycc,
    Rgb,
    Cmyk,
    Ycck,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    pub h: usize,
    pub v: usize,
    pub progressive: bool,
    pub components: Vec<Component>,
    pub space: Space,
}
