//! The bastion in AWS: what it is, what stands in the account, the steps between the two, and their carrying out.
//!
//! `init`, `upgrade` and `destroy` are all plan and apply. [`desired`] and [`plan`] decide from plain data, [`observed`] is that data;
//! [`read`] and [`settle`] ask the account, [`converge`] carries out and looks again.

mod apply;
pub mod binary;
pub mod command;
pub mod converge;
pub mod cost;
pub mod desired;
pub mod documents;
pub mod names;
pub mod observed;
pub mod plan;
pub mod read;
pub mod rights;
pub mod settle;
pub mod snippet;
pub mod status;
pub mod step;
pub mod wanted;
