//! The services of a compose file that are built here and publish a port.
//!
//! This reads lines, not YAML: block mappings of any indentation, `build` as a path or a mapping, `ports` as a block or
//! flow list, short and long syntax. What it does not understand (anchors, merge keys, `extends`, flow mappings, tabs,
//! port ranges) is skipped, and the caller is told which service and why.

/// A service that `docker compose up` would build and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComposeService {
    /// Its key below `services`.
    pub name: String,
    /// The directory that is built, relative to the file's, without `./`; empty for the file's own.
    pub context: String,
    /// The port on this machine.
    pub published: u16,
    /// The port in the container.
    pub target: u16,
}

/// A line without its comment: how far it is indented and what it says.
struct Line<'t> {
    indent: usize,
    text: &'t str,
}

/// Every service that can be used, and a sentence for each that cannot.
pub fn read(text: &str) -> (Vec<ComposeService>, Vec<String>) {
    let (mut services, mut notes) = (Vec::new(), Vec::new());
    if let Some(at) = text.lines().position(|line| line.trim_start_matches(' ').starts_with('\t')) {
        notes.push(format!("line {} is indented with a tab, which YAML forbids", at + 1));
        return (services, notes);
    }
    let lines: Vec<Line<'_>> = text.lines().filter_map(line).collect();
    let Some(start) = lines
        .iter()
        .position(|line| line.indent == 0 && key(line.text).is_some_and(|(key, _)| key == "services"))
    else {
        notes.push("there is no block \"services:\" in it".to_owned());
        return (services, notes);
    };
    if let Some((_, value)) = key(lines[start].text).filter(|(_, value)| !value.is_empty()) {
        notes.push(format!("services: {value} is not understood"));
    }
    for (name, value, body) in children(block(&lines[start + 1..], 0)) {
        match service(name, value, body) {
            Ok(service) => services.push(service),
            Err(why) => notes.push(format!("service {name:?}: {why}")),
        }
    }
    (services, notes)
}

fn service(name: &str, value: &str, body: &[Line<'_>]) -> Result<ComposeService, String> {
    if !value.is_empty() {
        return Err(format!("{value:?} behind its name is not understood"));
    }
    let (mut context, mut ports) = (None, None);
    for (key, value, body) in children(body) {
        match key {
            "<<" | "extends" => return Err(format!("{key:?} is not followed")),
            "build" if value.starts_with(['{', '&', '*']) => return Err(format!("build: {value} is not understood")),
            "build" if value.is_empty() => {
                let inner = children(body).into_iter().find(|(key, _, _)| *key == "context");
                context = Some(inner.map_or(".", |(_, value, _)| unquoted(value)));
            }
            "build" => context = Some(unquoted(value)),
            "ports" => ports = Some(first_port(value, body)?),
            _ => {}
        }
    }
    let context = context.ok_or("it has no build, so it is not yours to change here")?;
    let (published, target) = ports.ok_or("it publishes no port")?;
    let context = context
        .trim_start_matches("./")
        .trim_end_matches('/')
        .trim_end_matches('.')
        .to_owned();
    Ok(ComposeService {
        name: name.to_owned(),
        context,
        published,
        target,
    })
}

/// Published and target of the first entry of `ports`.
fn first_port(value: &str, body: &[Line<'_>]) -> Result<(u16, u16), String> {
    if let Some(list) = value.strip_prefix('[') {
        let first = list.trim_end_matches(']').split(',').next().unwrap_or_default();
        return short_port(unquoted(first.trim()));
    }
    if !value.is_empty() {
        return Err(format!("ports: {value} is not understood"));
    }
    let first = body.first().ok_or("its list of ports is empty")?;
    let item = first.text.strip_prefix('-').ok_or("its ports are not a list")?.trim();
    if key(item).is_none_or(|(key, _)| !matches!(key, "target" | "published" | "name" | "host_ip" | "protocol" | "mode")) {
        return short_port(unquoted(item));
    }
    // The long syntax: the lines up to the next "-" at the same indentation.
    let rest = body[1..]
        .iter()
        .take_while(|line| line.indent > first.indent)
        .map(|line| line.text);
    let pairs: Vec<(&str, &str)> = std::iter::once(item).chain(rest).filter_map(key).collect();
    let number = |wanted: &str| {
        let (_, value) = pairs.iter().find(|(key, _)| *key == wanted)?;
        port(unquoted(value))
    };
    match (number("published"), number("target")) {
        (Some(published), Some(target)) => Ok((published, target)),
        _ => Err("its port has no fixed number on this machine".to_owned()),
    }
}

/// `[HOST_IP:]PUBLISHED:TARGET[/tcp]`.
fn short_port(text: &str) -> Result<(u16, u16), String> {
    let plain = defaults(text);
    let plain = plain.strip_suffix("/tcp").unwrap_or(&plain);
    let mut parts = plain.rsplitn(3, ':');
    let target = parts.next().and_then(port);
    match (parts.next().map(port), target) {
        (Some(Some(published)), Some(target)) => Ok((published, target)),
        (None, Some(_)) => Err(format!("port {text:?} has no fixed number on this machine")),
        _ => Err(format!("port {text:?} is not understood")),
    }
}

/// `${NAME:-8000}` and `${NAME-8000}` become `8000`.
fn defaults(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((inner, behind)) = behind.split_once('}') else {
            break;
        };
        out.push_str(before);
        out.push_str(inner.split_once('-').map_or("", |(_, default)| default));
        rest = behind;
    }
    out + rest
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|&port| port != 0)
}

/// `None` for blank lines, comments and document marks.
fn line(raw: &str) -> Option<Line<'_>> {
    let text = raw.trim_start_matches(' ');
    let indent = raw.len() - text.len();
    let text = if text.starts_with('#') {
        ""
    } else {
        text.split(" #").next().unwrap_or("")
    };
    let text = text.trim_end();
    (!text.is_empty() && text != "---").then_some(Line { indent, text })
}

/// The lines that are indented deeper than `parent`, up to the first that is not; a list may stand at its key's own depth.
fn block<'l, 't>(lines: &'l [Line<'t>], parent: usize) -> &'l [Line<'t>] {
    let inside = |line: &Line<'_>| line.indent > parent || line.indent == parent && parent > 0 && line.text.starts_with('-');
    let end = lines.iter().position(|line| !inside(line)).unwrap_or(lines.len());
    &lines[..end]
}

/// The keys of a block with what stands behind and below each.
fn children<'l, 't>(lines: &'l [Line<'t>]) -> Vec<(&'t str, &'t str, &'l [Line<'t>])> {
    let Some(depth) = lines.first().map(|line| line.indent) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.indent != depth || line.text.starts_with('-') {
            continue;
        }
        if let Some((name, value)) = key(line.text) {
            found.push((name, value, block(&lines[at + 1..], depth)));
        }
    }
    found
}

/// `name: value`, `name:`, `"name": value`.
fn key(text: &str) -> Option<(&str, &str)> {
    let (name, value) = match text.strip_suffix(':') {
        Some(name) if !name.contains(": ") => (name, ""),
        _ => text.split_once(": ")?,
    };
    Some((unquoted(name.trim()), value.trim()))
}

fn unquoted(text: &str) -> &str {
    let inside = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_compose_files() {
        let check = |text: &str, expected: &[(&str, &str, u16, u16)], skipped: &[&str]| {
            let (services, notes) = read(text);
            let found: Vec<_> = services
                .iter()
                .map(|service| {
                    (
                        service.name.as_str(),
                        service.context.as_str(),
                        service.published,
                        service.target,
                    )
                })
                .collect();
            assert_eq!(found, expected, "{text}");
            assert_eq!(notes, skipped, "{text}");
        };
        check("", &[], &["there is no block \"services:\" in it"]);
        check(
            "services: {api: {build: .}}\n",
            &[],
            &["services: {api: {build: .}} is not understood"],
        );
        check(
            "services:\n\tapi:\n",
            &[],
            &["line 2 is indented with a tab, which YAML forbids"],
        );
        check(
            "version: '3'\nservices:\n  api:   # ours\n    build: ./api\n    ports:\n      - \"8000:80\"\n      - 9:9\n\n  web:\n    build:\n      \
             dockerfile: x\n      context: web/\n    ports: ['127.0.0.1:3000:3001/tcp', '1:2']\nvolumes:\n  x:\n    build: no\n",
            &[("api", "api", 8000, 80), ("web", "web", 3000, 3001)],
            &[],
        );
        check(
            "---\nservices:\n    'a':\n        build: .\n        ports:\n        - ${PORT:-8000}:80\n    b:\n        build: .\n        ports:\n        - target: 80\n          \
             published: \"8080\"\n",
            &[("a", "", 8000, 80), ("b", "", 8080, 80)],
            &[],
        );
        check(
            "services:\n  db:\n    image: postgres\n    ports:\n      - 5432:5432\n  a:\n    build: .\n  b:\n    build: .\n    ports:\n      - 3000\n  \
             c:\n    build: .\n    ports:\n      - 1-2:1-2\n  d:\n    <<: *base\n  e: *x\n  f:\n    build: .\n    ports:\n      - ${PORT}:80\n  \
             g:\n    build: .\n    ports:\n      - target: 8\n",
            &[],
            &[
                "service \"db\": it has no build, so it is not yours to change here",
                "service \"a\": it publishes no port",
                "service \"b\": port \"3000\" has no fixed number on this machine",
                "service \"c\": port \"1-2:1-2\" is not understood",
                "service \"d\": \"<<\" is not followed",
                "service \"e\": \"*x\" behind its name is not understood",
                "service \"f\": port \"${PORT}:80\" is not understood",
                "service \"g\": its port has no fixed number on this machine",
            ],
        );
    }
}
