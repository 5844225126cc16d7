//! The bastion's daemon.

#![allow(dead_code, reason = "the parts that call each other are being put together")]

pub(crate) mod authorize;
mod changes;
pub(crate) mod control;
pub(crate) mod edge;
pub(crate) mod guard;
mod keys;
pub(crate) mod lane;
pub(crate) mod metrics;
mod notify;
mod refused;
pub(crate) mod registry;
pub(crate) mod route;
pub(crate) mod settings;
pub(crate) mod ssh;
mod staging;
pub(crate) mod state;
mod store;

pub fn main(_host: &crate::host::Host, _arguments: &[String]) -> std::process::ExitCode {
    std::process::ExitCode::from(1)
}
