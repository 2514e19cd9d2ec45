//! Tests without privileges.

mod config;
