//! One running `up`.

pub mod serve;
