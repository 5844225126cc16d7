//! `cargo xtask dist`: the program as it is given to people, one static and stripped file for a target, in dist/.
//!
//! What came out is judged by its own program headers, not by what was asked for.

mod elf;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use argh::FromArgs;
use ephemwork::host::Host;
use serde_json::json;
use sha2::{Digest, Sha256};

/// build a stripped static release into dist/, with its size and SHA-256.
/// Example: cargo xtask dist --target aarch64-unknown-linux-musl
#[derive(FromArgs)]
#[argh(subcommand, name = "dist")]
pub(crate) struct Arguments {
    /// the target (default: this machine)
    #[argh(option)]
    target: Option<String>,
}

/// How a target is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// glibc linked in: cargo with `+crt-static`.
    StaticGlibc,
    /// musl: cargo-zigbuild brings the C compiler and the linker for ring.
    Zig,
    /// macOS has no static system library; everything else is linked in.
    Plain,
}

impl Way {
    fn of(target: &str) -> Result<Way, String> {
        match target {
            target if target.ends_with("-linux-musl") => Ok(Way::Zig),
            target if target.ends_with("-linux-gnu") => Ok(Way::StaticGlibc),
            target if target.ends_with("-apple-darwin") => Ok(Way::Plain),
            _ => Err(format!(
                "there is no way to build for {target}. There is for -linux-musl, -linux-gnu and -apple-darwin"
            )),
        }
    }
}

pub(crate) fn main(host: &Host, arguments: &Arguments) -> Result<(), String> {
    let this = rustc_host()?;
    build(host, arguments.target.as_deref().unwrap_or(&this))
}

/// What has to be installed before a build for `target`, with the commands.
pub(crate) fn missing_for(target: &str) -> Result<Option<String>, String> {
    Ok(missing(Way::of(target)?, target))
}

/// Builds for a target, into dist/.
pub(crate) fn build(host: &Host, target: &str) -> Result<(), String> {
    let way = Way::of(target)?;
    if let Some(missing) = missing(way, target) {
        return Err(missing);
    }
    let mut build = Command::new("cargo");
    build
        .current_dir(crate::top())
        .arg(if way == Way::Zig { "zigbuild" } else { "build" });
    build.args([
        "--release",
        "--locked",
        "--package",
        "ephemwork",
        "--bin",
        "ephemwork",
        "--target",
        target,
    ]);
    build
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    if way == Way::StaticGlibc {
        let given = host.variable("RUSTFLAGS").unwrap_or_default();
        build.env("RUSTFLAGS", format!("{given} -C target-feature=+crt-static").trim());
    }
    println!("building for {target}; with whole-program optimisation this takes some minutes");
    let output = build.output().map_err(|why| format!("cargo cannot be started: {why}"))?;
    if !output.status.success() {
        return Err(format!("the build for {target} failed"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = messages.filter_map(|message| message["executable"].as_str().map(str::to_owned));
    let built = executables.next();
    let built = built.ok_or("cargo built no executable")?;
    finish(Path::new(&built), target)
}

fn finish(built: &Path, target: &str) -> Result<(), String> {
    let bytes = fs::read(built).map_err(|why| format!("{}: {why}", built.display()))?;
    if target.contains("-linux-") {
        let image = elf::read(&bytes).map_err(|why| format!("{}: {why}", built.display()))?;
        image
            .check()
            .map_err(|why| format!("{} is not what is given to people: {why}", built.display()))?;
    }
    let directory = crate::top().join("dist");
    let name = format!("ephemwork-{target}");
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let about = json!({
        "file": name,
        "target": target,
        "version": env!("CARGO_PKG_VERSION"),
        "program": ephemwork::version("ephemwork"),
        "size": bytes.len(),
        "sha256": sha256,
    });
    let write = || {
        fs::create_dir_all(&directory)?;
        // Copied whole: fs::copy keeps that it is executable.
        fs::copy(built, directory.join(&name))?;
        fs::write(directory.join(format!("{name}.sha256")), format!("{sha256}  {name}\n"))?;
        fs::write(directory.join(format!("{name}.json")), format!("{about:#}\n"))
    };
    write().map_err(|why| format!("{}: {why}", directory.display()))?;
    println!("dist/{name}: {:.2} MB, SHA-256 {sha256}", bytes.len() as f64 / 1e6);
    Ok(())
}

/// What has to be installed first, as a sentence with the commands; `None` when nothing has.
fn missing(way: Way, target: &str) -> Option<String> {
    let mut commands = Vec::new();
    if !installed_targets().iter().any(|installed| installed == target) {
        commands.push(format!("rustup target add {target}"));
    }
    if way == Way::Zig && !runs("cargo-zigbuild", "--version") {
        commands.push("pip install cargo-zigbuild ziglang".to_owned());
    }
    (!commands.is_empty()).then(|| {
        format!(
            "to build for {target} something is missing. Install it:\n  {}",
            commands.join("\n  ")
        )
    })
}

/// The targets whose standard library is there. rustc is asked rather than rustup, which may not be what installed it.
fn installed_targets() -> Vec<String> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let entries = fs::read_dir(Path::new(&sysroot).join("lib/rustlib"))
        .into_iter()
        .flatten()
        .flatten();
    let with_std = entries.filter(|entry| entry.path().join("lib").is_dir());
    with_std
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn runs(program: &str, argument: &str) -> bool {
    let status = Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn rustc_host() -> Result<String, String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|why| format!("rustc cannot be started: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        assert_eq!(Way::of("aarch64-unknown-linux-musl"), Ok(Way::Zig));
        assert_eq!(Way::of("x86_64-unknown-linux-gnu"), Ok(Way::StaticGlibc));
        assert_eq!(Way::of("aarch64-apple-darwin"), Ok(Way::Plain));
        assert!(Way::of("x86_64-pc-windows-msvc").is_err());
    }

    #[test]
    fn what_is_missing_is_told_with_its_command() {
        let told = missing(Way::StaticGlibc, "riscv64gc-unknown-linux-gnu").unwrap();
        assert!(told.contains("rustup target add riscv64gc-unknown-linux-gnu"), "{told}");
        assert_eq!(missing(Way::StaticGlibc, &rustc_host().unwrap()), None);
    }
}
