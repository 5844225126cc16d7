//! Hands the git revision to `--version`; a build outside a checkout says `unknown`.

use std::process::Command;

#[allow(clippy::disallowed_methods, reason = "a build script has no host.rs")]
fn main() {
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    println!("cargo::rerun-if-env-changed=EPHEMWORK_REVISION");
    let given = std::env::var("EPHEMWORK_REVISION").ok();
    let revision = given.or_else(|| {
        let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    });
    let revision = revision
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=EPHEMWORK_REVISION={revision}");
}
