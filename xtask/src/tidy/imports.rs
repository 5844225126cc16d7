//! Who may use whom, read from the code: the order of the modules, the homes of the crates, and the modules that only decide.
//!
//! Tests at the end of a file may use what they like: they are outside.

use super::{Finding, source, source::Source};

/// The top modules, from those that know most to those that know least. A module imports only what stands to its right.
/// Groups are for people; `cli` and `bastiond` never meet.
const ORDER: &[&[&str]] = &[
    &["main", "lib", "fuzzing"],
    &["cli", "bastiond"],
    &["session", "provision"],
    &["tunnel"],
    &["aws", "upstream", "rt", "host", "log"],
    &["ssm", "config", "hop", "protocol", "name", "error"],
];

/// Crates that one place speaks for, and that place: a path under `src/` is at home when it starts with one of these.
const HOMES: &[(&str, &[&str])] = &[
    ("tokio", &["rt/"]),
    ("tokio_rustls", &["rt/"]),
    ("hyper_util", &["rt/"]),
    ("rustls_native_certs", &["rt/"]),
    ("russh", &["tunnel/ssh", "bastiond/ssh"]),
    ("listenfd", &["rt/"]),
    ("socket2", &["rt/"]),
    ("webpki", &["rt/"]),
    ("redb", &["bastiond/store", "session/records"]),
    ("aws_config", &["aws/client.rs", "aws/credentials.rs"]),
    (
        "aws_credential_types",
        &["aws/client.rs", "aws/credentials.rs", "aws/presign.rs"],
    ),
    ("aws_runtime", &["aws/client.rs"]),
    ("aws_sigv4", &["aws/presign.rs"]),
    ("aws_smithy_async", &["rt/"]),
    ("aws_smithy_http_client", &["rt/"]),
    ("aws_smithy_runtime", &["aws/client.rs"]),
    ("aws_smithy_runtime_api", &["rt/", "aws/client.rs"]),
    ("aws_smithy_types", &["aws/client.rs", "aws/credentials.rs", "rt/smithy.rs"]),
    ("aws_types", &["aws/client.rs", "aws/credentials.rs"]),
    ("futures_sink", &["tunnel/websocket.rs"]),
    ("ring", &["tunnel/websocket.rs"]),
    ("tokio_websockets", &["tunnel/websocket.rs"]),
    ("percent_encoding", &["aws/query.rs"]),
    ("roxmltree", &["aws/xml.rs"]),
    ("argh", &["cli/", "bastiond/mod.rs", "bastiond/settings"]),
    ("toml", &["config"]),
];

/// Files under `src/` that take data and give data.
const PURE: &[&str] = &[
    "name.rs",
    "protocol.rs",
    "protocol/",
    "error.rs",
    "config.rs",
    "config/",
    "ssm/",
    "aws/call",
    "aws/date",
    "aws/ec2",
    "aws/elbv2",
    "aws/failure",
    "aws/iam",
    "aws/json",
    "aws/partition",
    "aws/query",
    "aws/refused",
    "aws/s3",
    "aws/ssm",
    "aws/sts",
    "aws/xml",
    "bastiond/audit",
    "bastiond/authorize/blocks",
    "bastiond/clients",
    "bastiond/principal",
    "bastiond/registry",
    "bastiond/route",
    "session/machine",
    "session/pause",
    "tunnel/skew",
    "provision/cost",
    "provision/desired",
    "provision/documents",
    "provision/names",
    "provision/observed",
    "provision/plan",
    "provision/rights",
    "provision/snippet",
    "provision/step",
    "provision/wanted",
];

/// What a pure file does not name: clocks, sockets, files, processes, the environment, randomness, tasks, output.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "Command",
    "stdin",
    "stdout",
    "stderr",
    "println",
    "eprintln",
    "getrandom",
    "hyper",
    "rustix",
    "smol",
];

pub(crate) fn check(file: &str, source: &Source) -> Vec<Finding> {
    let Some(path) = file.strip_prefix("src/") else {
        return Vec::new();
    };
    let mut findings = order(file, path, source);
    findings.extend(homes(file, path, source));
    if starts(path, PURE) {
        findings.extend(purity(file, source));
    }
    findings
}

fn starts(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// Where a top module stands: its group, and its place in the whole line.
fn place(module: &str) -> Option<(usize, usize)> {
    let mut before = 0;
    for (group, modules) in ORDER.iter().enumerate() {
        if let Some(index) = modules.iter().position(|name| *name == module) {
            return Some((group, before + index));
        }
        before += modules.len();
    }
    None
}

fn order(file: &str, path: &str, source: &Source) -> Vec<Finding> {
    let module = path.split(['/', '.']).next().unwrap_or(path);
    let Some((group, mine)) = place(module) else {
        let what = format!("the module {module} has no place in the order; give it one in xtask/src/tidy/imports.rs");
        return vec![Finding::new(file, 1, what)];
    };
    let mut findings = Vec::new();
    for (at, used) in top_modules(path, source) {
        let Some((its_group, its)) = place(&used) else { continue };
        let strangers = its_group == group && module != used && group == 1;
        if at < source.tests && (its < mine || strangers) {
            let what = format!("{module} imports {used}, which does not stand to its right in the order of modules");
            findings.push(Finding::new(file, source.line(at), what));
        }
    }
    findings
}

/// Every top module that the code names, and where: `crate::name`, `crate::{name::.., rt}`, `ephemwork::name` in main.rs,
/// and as many `super::` as lead to the top.
fn top_modules(path: &str, source: &Source) -> Vec<(usize, String)> {
    let depth = path.trim_end_matches("/mod.rs").split('/').count();
    let mut prefixes = vec!["crate::".to_owned(), "super::".repeat(depth)];
    if path == "main.rs" {
        prefixes.push("ephemwork::".to_owned());
    }
    let mut found = Vec::new();
    for prefix in prefixes {
        let path_start = prefix.trim_end_matches(':');
        for at in source.paths(path_start) {
            let Some(rest) = source.code[at..].strip_prefix(prefix.as_str()) else {
                continue;
            };
            match rest.strip_prefix('{') {
                Some(list) => found.extend(first_words(list).into_iter().map(|word| (at, word))),
                None => found.push((at, word(rest))),
            }
        }
    }
    found
}

/// The first words of a use list's items, up to the brace that closes it.
fn first_words(list: &str) -> Vec<String> {
    let (mut words, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && !c.is_whitespace() => {
                words.push(word(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    words
}

fn word(text: &str) -> String {
    let end = text.bytes().position(|byte| !source::is_word(byte)).unwrap_or(text.len());
    text[..end].to_owned()
}

fn homes(file: &str, path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, homes) in HOMES {
        if starts(path, homes) {
            continue;
        }
        for at in source.paths(name) {
            let rest = source.code[at + name.len()..].trim_start();
            let used = rest.starts_with("::") || source.code[..at].trim_end().ends_with("use");
            if used && at < source.tests {
                let what = format!(
                    "the crate {name} is spoken for by src/{}; use what that exports",
                    homes.join(", src/")
                );
                findings.push(Finding::new(file, source.line(at), what));
            }
        }
    }
    findings
}

fn purity(file: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in IMPURE {
        let dotted = format!(".{name}");
        let methods = source
            .code
            .match_indices(&dotted)
            .map(|(at, _)| at)
            .filter(|_| *name == "await");
        for at in source.paths(name).chain(methods) {
            if at < source.tests {
                let what = format!("{name} in a module that only decides; make it an argument or move the act to its caller");
                findings.push(Finding::new(file, source.line(at), what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let check = |file: &str, text: &str, expected: &[&str]| {
            let found = check(file, &Source::of(text));
            let whats: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
            assert_eq!(whats.len(), expected.len(), "{file}: {text}: {whats:?}");
            for (what, start) in whats.iter().zip(expected) {
                assert!(what.starts_with(start), "{file}: {text}: {what}");
            }
        };
        // The order.
        check("src/name.rs", "use crate::protocol::X;", &["name imports protocol"]);
        check(
            "src/rt/mod.rs",
            "use crate::{name::Tag, tunnel::{Link, x}};",
            &["rt imports tunnel"],
        );
        check("src/cli/up.rs", "crate::bastiond::main();", &["cli imports bastiond"]);
        check("src/bastiond/mod.rs", "use super::cli;", &["bastiond imports cli"]);
        check("src/session/mod.rs", "use super::cli::say;", &["session imports cli"]);
        check("src/tunnel/ssh.rs", "use super::super::session;", &["tunnel imports session"]);
        check("src/unheard/of.rs", "", &["the module unheard"]);
        check("src/cli/up.rs", "use crate::{session, rt}; use super::bastiond_path;", &[]);
        check("src/session/mod.rs", "// crate::cli\nlet a = \"crate::cli\";", &[]);
        check("src/name.rs", "fn a() {}\n#[cfg(test)]\nmod tests { use crate::cli; }", &[]);
        check("src/main.rs", "use ephemwork::{cli, bastiond};", &[]);
        check("tests/it/main.rs", "use crate::anything;", &[]);
        // The homes.
        check("src/session/mod.rs", "use tokio::net;", &["the crate tokio is"]);
        check("src/cli/up.rs", "fn a(x: russh::Key) {}", &["the crate russh is"]);
        check("src/cli/up.rs", "use toml;", &["the crate toml is"]);
        check("src/bastiond/ssh/auth.rs", "use russh::server;", &[]);
        check("src/cli/up.rs", "let toml = 1; argh::x();", &[]);
        // The pure ones.
        check("src/session/machine.rs", "let now = Instant::now();", &["Instant::now"]);
        check("src/config/parse.rs", "async fn a() { b.await }", &["async", "await"]);
        check("src/bastiond/route.rs", "use std::fs;", &["std::fs"]);
        check("src/session/machine.rs", "fn step(now: Instant) { awaiting.push(1) }", &[]);
        check("src/session/mod.rs", "async fn a() { Instant::now(); }", &[]);
    }
}
