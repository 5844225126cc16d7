//! The bastion in AWS: what it is, what stands in the account, the steps between the two, and their carrying out.
//!
//! `init`, `upgrade` and `destroy` are all plan and apply: [`desired`] and [`plan`] decide from plain data, [`observed`] is that data.

pub mod cost;
pub mod desired;
pub mod documents;
pub mod names;
pub mod observed;
pub mod plan;
pub mod rights;
pub mod step;
