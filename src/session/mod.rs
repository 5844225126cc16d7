//! stub
#![allow(dead_code)]
pub(crate) mod machine;
pub(crate) mod note;
