mod config;
mod init;
