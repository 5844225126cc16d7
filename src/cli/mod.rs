//! stub

pub mod completions;
pub mod init;

pub fn main(_host: &crate::host::Host, _arguments: &[String]) -> std::process::ExitCode {
    std::process::ExitCode::from(1)
}
