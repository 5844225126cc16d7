//! One running `up`.
#![allow(dead_code)]

mod dotenv;
mod health;
pub(crate) mod home;
pub(crate) mod identity;
mod lines;
mod logs;
mod machine;
pub(crate) mod note;
mod orphans;
mod port;
mod records;
pub mod serve;
mod service;
mod system;

use std::sync::Arc;

/// What a person is told while an `up` runs.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// Something happened.
    Note(note::Note),
    /// A service printed a line.
    Line(crate::name::Service, String),
}

/// Who tells it; a line may wait for a slow terminal there, a note never does.
pub(crate) type Show = Arc<dyn Fn(Said) + Send + Sync>;
