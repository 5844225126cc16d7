//! `ephemwork init`: writes an ephemwork.toml from what the project has, and never over one that exists.
//!
//! [`detect`] decides what is there, [`write`] what the file says; this file looks and writes.

pub mod compose;
pub mod detect;
pub mod write;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use argh::FromArgs;

use crate::config;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use detect::{Directory, INTERESTING};
use write::Written;

/// How many directories are looked into: a monorepo of a hundred services fits, a home directory by mistake ends soon.
const MAX_DIRECTORIES: usize = 200;

/// How many entries of one directory are listed.
const MAX_ENTRIES: usize = 2000;

/// How much of a file is read, in bytes; what names a service stands far in front of that.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// How many services are written; who has more removes and adds by hand anyway.
const MAX_SERVICES: usize = 50;

/// Directories whose own directories are looked into, as monorepos have them.
const GROUPS: &[&str] = &["services", "apps", "packages"];

/// Directories that hold what tools made.
const GENERATED: &[&str] = &[
    "node_modules",
    "target",
    "vendor",
    "venv",
    "dist",
    "build",
    "out",
    "__pycache__",
    "coverage",
];

/// Write an ephemwork.toml from what this directory has; never over one that exists.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "init", example = "ephemwork init", example = "ephemwork init --stdout")]
pub struct Init {
    /// print the file instead of writing it
    #[argh(switch)]
    pub stdout: bool,

    /// print one JSON object: file, services, what was left out
    #[argh(switch)]
    pub json: bool,
}

/// What to print on stdout, after the file is written.
///
/// # Errors
/// `Exit::Config` when there already is a file; else what the system says.
pub fn run(host: &Host, init: &Init) -> Result<String> {
    let file = host.directory.join(config::FILE);
    if !init.stdout && file.symlink_metadata().is_ok() {
        return Err(exists(&file));
    }
    let root = host
        .directory
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let (directories, mut notes) = look(&host.directory);
    let (mut findings, skipped) = detect::detect(&directories);
    notes.extend(skipped);
    if findings.len() > MAX_SERVICES {
        notes.push(format!(
            "{} more services than the {MAX_SERVICES} written here",
            findings.len() - MAX_SERVICES
        ));
        findings.truncate(MAX_SERVICES);
    }
    let services = write::settle(findings, &root);
    let text = write::text(&services, &notes);
    if let Err(mistakes) = config::parse(&text, &file) {
        let why = config::render(&mistakes, &text, &file);
        return Err(Error::new(Exit::Bug, "init would write a file that it cannot read itself").because(why));
    }
    if !init.stdout {
        save(&file, &text)?;
    }
    Ok(match (init.json, init.stdout) {
        (true, _) => json(&file, !init.stdout, &text, &services, &notes),
        (false, true) => text,
        (false, false) => report(&services, &notes, above(host)),
    })
}

fn exists(file: &Path) -> Error {
    Error::new(
        Exit::Config,
        format!("{} exists already; nothing was written", file.display()),
    )
    .hint("see what would be written: ephemwork init --stdout")
}

/// Creates the file or fails; a file that could not be written whole is taken away again.
fn save(file: &Path, text: &str) -> Result<()> {
    let failed = |why: std::io::Error| Error::new(Exit::Bug, format!("{} cannot be written", file.display())).because(why);
    let mut created = match fs::File::create_new(file) {
        Ok(created) => created,
        Err(why) if why.kind() == ErrorKind::AlreadyExists => return Err(exists(file)),
        Err(why) => return Err(failed(why)),
    };
    created.write_all(text.as_bytes()).map_err(|why| match fs::remove_file(file) {
        Ok(()) => failed(why),
        Err(also) => failed(why).hint(format!("remove what is left of it: {also}")),
    })
}

/// The file of a directory above, which the new one hides from here on.
fn above(host: &Host) -> Option<std::path::PathBuf> {
    config::find(host.directory.parent()?, |file| file.is_file())
}

/// This directory, its directories, and those in [`GROUPS`], in the order of their names.
fn look(root: &Path) -> (Vec<Directory>, Vec<String>) {
    let mut notes = Vec::new();
    let mut paths = vec![String::new()];
    for name in directories_in(root, &mut notes) {
        if GROUPS.contains(&name.as_str()) {
            let inner = directories_in(&root.join(&name), &mut notes);
            paths.extend(inner.into_iter().map(|inner| format!("{name}/{inner}")));
        }
        paths.push(name);
    }
    if paths.len() > MAX_DIRECTORIES {
        notes.push(format!(
            "{} directories beyond the first {MAX_DIRECTORIES}",
            paths.len() - MAX_DIRECTORIES
        ));
        paths.truncate(MAX_DIRECTORIES);
    }
    let read = |path: String| {
        let directory = root.join(&path);
        let files = INTERESTING
            .iter()
            .filter_map(|file| Some(((*file).to_owned(), text_of(&directory.join(file))?)));
        Directory {
            files: files.collect(),
            path,
        }
    };
    (paths.into_iter().map(read).collect(), notes)
}

fn directories_in(directory: &Path, notes: &mut Vec<String>) -> Vec<String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(why) => {
            notes.push(format!("{}: {why}", directory.display()));
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| {
            // A link may lead anywhere; an entry that is gone or has no UTF-8 name is none of ours.
            let entry = entry.ok().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))?;
            entry.file_name().into_string().ok()
        })
        .filter(|name| !name.starts_with('.') && !GENERATED.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

/// The first [`MAX_FILE_BYTES`] of a regular file; a lock file's size does not matter, only that it is there.
fn text_of(file: &Path) -> Option<String> {
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return None;
    }
    let mut bytes = Vec::new();
    fs::File::open(file).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn report(services: &[Written], notes: &[String], above: Option<std::path::PathBuf>) -> String {
    let mut out = format!("Wrote {}\n", config::FILE);
    let width = services.iter().map(|service| service.name.len()).max().unwrap_or(0);
    for Written { name, port, finding } in services {
        let guess = if finding.port_is_certain { "" } else { ", port guessed" };
        out.push_str(&format!(
            "  {name:width$}  port {port:<5}  {}  ({}{guess})\n",
            finding.run, finding.because
        ));
    }
    for note in notes {
        out.push_str(&format!("  left out: {note}\n"));
    }
    if let Some(above) = above {
        out.push_str(&format!("  from here on it counts instead of {}\n", above.display()));
    }
    out.push_str(&match services.first() {
        Some(first) => format!("Next: read it, then run  ephemwork up {}\n", first.name),
        None => format!(
            "No service was recognised. Next: write one into {}, then run  ephemwork up SERVICE\n",
            config::FILE
        ),
    });
    out
}

fn json(file: &Path, written: bool, text: &str, services: &[Written], notes: &[String]) -> String {
    let service = |Written { name, port, finding }: &Written| {
        serde_json::json!({
            "name": name, "port": port, "port_guessed": !finding.port_is_certain,
            "directory": finding.directory, "run_command": finding.run, "from": finding.because,
        })
    };
    let services: Vec<_> = services.iter().map(service).collect();
    let object = serde_json::json!({ "file": file, "written": written, "text": text, "services": services, "left_out": notes });
    format!("{object}\n")
}
