//! What an output has acknowledged: everything up to a floor, and at most 64 ranges above it. Pure.

/// Everything up to the floor, and some ranges above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {}
