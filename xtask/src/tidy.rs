//! `cargo xtask tidy`: the house rules that no compiler checks, read from the files. It changes nothing.
//!
//! The rules themselves are data: [`imports`] has the order of modules, the homes of crates and the pure modules,
//! [`text`] what every file must be, [`crates`] the licences and the duplicates. The same runs as a test.

mod crates;
mod imports;
mod source;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use argh::FromArgs;

/// check module order, crate homes, pure modules, file sizes, licences and duplicate crates.
/// Example: cargo xtask tidy
#[derive(FromArgs)]
#[argh(subcommand, name = "tidy")]
pub(crate) struct Arguments {
    /// check the crates of this machine's platform only, without asking a registry
    #[argh(switch)]
    offline: bool,
}

/// One broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the top directory on; for crates, the file that lists them.
    file: String,
    /// The line, counted from 1.
    line: usize,
    /// What is wrong and what to do.
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), String> {
    let files = files(crate::top())?;
    let mut findings = of_files(&files);
    let platforms = if arguments.offline {
        crates::Platforms::ThisOne
    } else {
        crates::Platforms::Shipped
    };
    let (count, of_crates) = crates::check(crate::top(), platforms)?;
    findings.extend(of_crates);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files and {count} crates follow the rules", files.len());
            Ok(())
        }
        count => Err(format!(
            "{count} of the house rules are broken; they stand in xtask/src/tidy/"
        )),
    }
}

fn of_files(files: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, content) in files {
        findings.extend(text::check(file, content));
        if file.ends_with(".rs") {
            findings.extend(imports::check(file, &source::Source::of(content)));
        }
    }
    findings
}

/// Directories that are not the project's text: what builds, tools and version control put there.
const NOT_OURS: &[&str] = &["target", "dist", "node_modules", "__pycache__", "corpus", "artifacts"];

/// Every text file with its path from `top` on, in the order of the paths.
fn files(top: &Path) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).map_err(|why| format!("{} cannot be read: {why}", directory.display()))?;
        for entry in entries {
            let entry = entry.map_err(|why| format!("{} cannot be read: {why}", directory.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type().map_err(|why| format!("{}: {why}", path.display()))?;
            if kind.is_dir()
                && !NOT_OURS.contains(&name.as_ref())
                && (!name.starts_with('.') || name == ".ci" || name == ".cargo")
            {
                open.push(path);
            } else if kind.is_file() && !name.ends_with(".lock") {
                // What is not UTF-8 is not text, and no rule here is for it.
                let Ok(content) = fs::read_to_string(&path) else { continue };
                let short = path.strip_prefix(top).unwrap_or(&path);
                found.push((short.to_string_lossy().into_owned(), content));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let files = files(crate::top()).unwrap();
        let (_, mut findings) = crates::check(crate::top(), crates::Platforms::ThisOne).unwrap();
        findings.extend(of_files(&files));
        findings.sort();
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
    }
}
