mod completions;
mod config;
mod init;
mod names;
