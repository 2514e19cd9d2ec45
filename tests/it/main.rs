//! Tests without privileges.
