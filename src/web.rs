//! What our HTTP servers share: [`mod@line`] cuts off whoever is slow, [`socket`] is one in the file system.

pub mod line;
pub mod socket;
