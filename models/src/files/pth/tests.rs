//! Hostile and foreign checkpoints, made by hand: always an error of kind `Load` that says what is wrong, never a panic,
//! never a call, never more memory than the file accounts for.

mod archives;
mod crafted;
mod legacy;
mod programs;
mod random;
