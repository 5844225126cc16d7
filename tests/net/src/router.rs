//! A long, lossy link where the kernel has no netem: packets that the router's rules lead into a TUN device come out of it again later,
//! or not at all. Attaching to such a device takes an ioctl, which safe Rust has not, so a script of some lines does it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The name of the device, which `ip tuntap` has made.
pub(crate) const DEVICE: &str = "slow0";

const SCRIPT: &str = include_str!("slow.py");

/// `router DELAY_MS LOSS_PERCENT`: delays each packet by so much, and loses some. Becomes Python; prints `ready`.
pub(crate) fn main(arguments: &[String]) -> Result<(), String> {
    let mut python = Command::new("python3");
    let why = python.args(["-u", "-c", SCRIPT, DEVICE]).args(arguments).exec();
    Err(format!("python3: {why}"))
}
