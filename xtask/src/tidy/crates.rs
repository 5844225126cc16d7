//! The licences, the sources and the duplicates of the crates that go into the program, from `cargo metadata`. deny.toml says the same
//! to cargo-deny.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Finding;

/// Licences that an Apache-2.0 program may contain, by SPDX name.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Where every crate comes from, as `cargo metadata` names it also when the registry is mirrored.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that may be there in two versions, and why.
const TWICE: &[(&str, &str)] = &[
    ("base64", "tokio-websockets still uses 0.22; hyper-util uses 0.23"),
    ("block-buffer", SHA1),
    ("cpufeatures", SHA1),
    ("crypto-common", SHA1),
    ("digest", SHA1),
    ("generic-array", SHA1),
    ("getrandom", "ring still uses 0.2; russh and ours use 0.4"),
    ("sha1", SHA1),
    ("syn", "half of the derive crates have moved to 3; build time only"),
];

/// Why sha1 and what it is made of are there twice.
const SHA1: &str = "aws-config names its SSO cache's files with sha1 0.10; russh uses 0.11";

/// What the program is built for.
const SHIPPED: &[&str] = &[
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "aarch64-apple-darwin",
];

/// For which platforms crates are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Platforms {
    /// All of [`SHIPPED`]; cargo may have to fetch a few crates that only others need.
    Shipped,
    /// The platform this was built on; asks no registry.
    ThisOne,
}

/// How many crates there are, and what is wrong with them.
pub(crate) fn check(top: &Path, platforms: Platforms) -> Result<(usize, Vec<Finding>), String> {
    let mut command = Command::new("cargo");
    command
        .current_dir(top)
        .args(["metadata", "--format-version", "1", "--locked"]);
    match platforms {
        Platforms::Shipped => {
            for platform in SHIPPED {
                command.args(["--filter-platform", platform]);
            }
        }
        Platforms::ThisOne => {
            command.args(["--offline", "--filter-platform", &this_platform()?]);
        }
    }
    let output = command.output().map_err(|why| format!("cargo cannot be started: {why}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo metadata failed: {}", why.trim()));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|why| format!("cargo metadata: {why}"))?;
    Ok(judge(&metadata))
}

fn this_platform() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.map_err(|why| format!("rustc cannot be started: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

fn judge(metadata: &Value) -> (usize, Vec<Finding>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resolved: BTreeSet<String> = list(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| text(&node["id"]))
        .collect();
    let mut findings = Vec::new();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in list(&metadata["packages"]) {
        if !resolved.contains(&text(&package["id"])) {
            continue;
        }
        let name = text(&package["name"]);
        let licence = text(&package["license"]);
        if !allowed(&licence) {
            let what = format!("{name} is licensed as {licence:?}; see LICENCES in xtask/src/tidy/crates.rs");
            findings.push(Finding::new("Cargo.lock", 1, what));
        }
        // The workspace's own packages have no source.
        if let Some(source) = package["source"].as_str().filter(|source| *source != CRATES_IO) {
            findings.push(Finding::new(
                "Cargo.lock",
                1,
                format!("{name} comes from {source}; only crates.io is trusted"),
            ));
        }
        versions.entry(name).or_default().insert(text(&package["version"]));
    }
    let count = versions.values().map(BTreeSet::len).sum();
    for (name, versions) in &versions {
        let excused = TWICE.iter().any(|(excused, _)| excused == name);
        if versions.len() > 1 && !excused {
            let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
            let what = format!(
                "{name} is there as {}; see TWICE in xtask/src/tidy/crates.rs",
                versions.join(" and ")
            );
            findings.push(Finding::new("Cargo.lock", 1, what));
        }
    }
    (count, findings)
}

/// Whether a choice that an SPDX expression offers is in [`LICENCES`]. `/` is the old way to write OR. An AND of ORs
/// is what is read; of any other shape less is allowed than it offers, and a person looks.
fn allowed(expression: &str) -> bool {
    parts(&expression.replace('/', " OR "), " AND ").iter().all(|part| {
        let part = part.trim();
        let inner = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')).unwrap_or(part);
        if inner != part && inner.contains(" AND ") {
            return allowed(inner);
        }
        inner.split(" OR ").any(|name| LICENCES.contains(&name.trim()))
    })
}

/// Splits at a word that stands outside parentheses.
fn parts<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && text[at..].starts_with(word) => {
                parts.push(&text[start..at]);
                start = at + word.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let check = |source: Value, expected: usize| {
            let package = serde_json::json!({"id": "a", "name": "a", "version": "1.0.0", "license": "MIT", "source": source});
            let metadata = serde_json::json!({"packages": [package], "resolve": {"nodes": [{"id": "a"}]}});
            assert_eq!(judge(&metadata).1.len(), expected, "{metadata}");
        };
        check(Value::Null, 0);
        check(CRATES_IO.into(), 0);
        check("registry+https://example.com/index".into(), 1);
        check("git+https://github.com/a/a#0123".into(), 1);
    }

    #[test]
    fn licences() {
        let check = |expression: &str, expected: bool| assert_eq!(allowed(expression), expected, "{expression:?}");
        check("", false);
        check("GPL-3.0-only", false);
        check("MIT AND GPL-3.0-only", false);
        check("LGPL-2.1 OR BSL-1.0", false);
        check("MIT", true);
        check("Unlicense OR MIT", true);
        check("MIT/Apache-2.0", true);
        check("Apache-2.0 / MIT", true);
        check("Apache-2.0 AND ISC", true);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("(GPL-2.0 OR LGPL-2.1) AND MIT", false);
        check("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true);
    }
}
