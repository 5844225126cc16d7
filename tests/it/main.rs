mod completions;
mod config;
mod init;
