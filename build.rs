//! Hands the git revision to `--version`; a build outside a checkout says `unknown`.

use std::process::Command;

#[allow(clippy::disallowed_methods, reason = "a build script has no host.rs")]
fn main() {
    // In a worktree these are elsewhere than in .git, and a file that is not there would mean a build each time.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in std::iter::once("HEAD".to_owned()).chain(branch) {
        if let Some(path) = git(&["rev-parse", "--git-path", &name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-env-changed=EPHEMWORK_REVISION");
    let given = std::env::var("EPHEMWORK_REVISION").ok();
    let revision = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    let revision = revision
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=EPHEMWORK_REVISION={revision}");
}

/// What git says; `None` outside a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
