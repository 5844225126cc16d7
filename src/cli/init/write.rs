//! The text of a new ephemwork.toml. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::detect::Finding;
use crate::config;
use crate::name;

/// A service as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Fits [`name::Service`], and no other has it.
    pub name: String,
    /// No other service has it, nor the edge.
    pub port: u16,
    /// What was recognised.
    pub finding: Finding,
}

/// Names and ports that are right beside each other. `root` is the name of the directory where `init` runs.
pub fn settle(findings: Vec<Finding>, root: &str) -> Vec<Written> {
    let mut names = BTreeSet::new();
    let mut ports = BTreeSet::from([config::DEFAULT_LISTEN.port()]);
    // What a file says has its port before what is only a default.
    for finding in findings.iter().filter(|finding| finding.port_is_certain) {
        ports.insert(finding.port);
    }
    let mut certain = BTreeSet::new();
    let mut settled = Vec::new();
    for finding in findings {
        let directory = finding
            .directory
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or(root);
        let wanted = [finding.name.as_str(), directory]
            .into_iter()
            .map(fit)
            .find(|name| !name.is_empty());
        let wanted = wanted.unwrap_or_else(|| "app".to_owned());
        let name = (1..)
            .map(|count| {
                if count == 1 {
                    wanted.clone()
                } else {
                    format!("{wanted}-{count}")
                }
            })
            .find(|name| names.insert(name.clone()))
            .unwrap_or(wanted);
        let own = finding.port_is_certain && finding.port != config::DEFAULT_LISTEN.port() && certain.insert(finding.port);
        let port = if own { finding.port } else { free(finding.port, &ports) };
        ports.insert(port);
        settled.push(Written { name, port, finding });
    }
    settled
}

/// The first port from `port` on that nobody has.
fn free(port: u16, taken: &BTreeSet<u16>) -> u16 {
    (port..=u16::MAX)
        .chain(1024..port)
        .find(|port| !taken.contains(port))
        .unwrap_or(port)
}

/// Every run of characters that no service name has becomes one `-`; short enough to get a number behind it.
fn fit(text: &str) -> String {
    let mut fitting = String::new();
    for c in text.chars() {
        if fitting.len() >= name::MAX_LEN - 8 {
            break;
        }
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            fitting.push(c);
        } else if !fitting.is_empty() && !fitting.ends_with('-') {
            fitting.push('-');
        }
    }
    fitting.trim_matches('-').to_owned()
}

/// The whole file.
pub fn text(services: &[Written], notes: &[String]) -> String {
    let mut out = String::from(include_str!("../../../assets/init-head.toml"));
    let by_port: BTreeMap<u16, &str> = services.iter().map(|service| (service.port, service.name.as_str())).collect();
    for service in services {
        out.push_str(&section(service, &by_port));
    }
    if services.is_empty() {
        out.push_str(include_str!("../../../assets/init-empty.toml"));
    }
    if !notes.is_empty() {
        out.push_str("\n# Seen and left out:\n");
        notes
            .iter()
            .for_each(|note| out.push_str(&format!("#   {}\n", one_line(note))));
    }
    out
}

fn section(service: &Written, by_port: &BTreeMap<u16, &str>) -> String {
    let Written { name, port, finding } = service;
    // Dots would make a table below a table.
    let key = if name.contains('.') { quoted(name) } else { name.clone() };
    let mut out = format!("\n# {}\n[service.{key}]\n", one_line(&finding.because));
    out.push_str(&match (finding.port_is_certain, *port == finding.port) {
        (true, true) => format!("port = {port}\n"),
        (false, true) => format!("port = {port} # a guess: the usual one; it must be where run_command listens\n"),
        (_, false) => {
            let other = by_port.get(&finding.port).copied().unwrap_or("ephemwork");
            format!(
                "port = {port} # {} is that of {other}; make run_command listen here (PORT is set to it)\n",
                finding.port
            )
        }
    });
    if !finding.directory.is_empty() {
        out.push_str(&format!("working_directory = {}\n", quoted(&finding.directory)));
    }
    if let Some(build) = &finding.build {
        out.push_str(&format!("build_command = {}\n", quoted(build)));
    }
    out.push_str(&format!("run_command = {}\n", quoted(&finding.run)));
    if finding.h2c {
        out.push_str("protocol = \"h2c\"\n");
    } else {
        out.push_str("# health_check_path = \"/health\" # without it, it is ready once the port accepts\n");
    }
    out
}

/// A TOML basic string (TOML 1.0, section "String").
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Fit for a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
