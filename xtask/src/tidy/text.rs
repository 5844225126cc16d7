//! What every file of the project must be, whatever its language: a bounded size, a sentence on top, and nothing in it
//! that is true on one machine only.

use super::Finding;

/// The longest Rust file in lines. Past it a file holds more than one noun or verb.
const MAX_LINES: usize = 500;

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

/// Holds `mod` lines only; each file it names says what it is for.
const LIST_OF_TESTS: &str = "tests/it/main.rs";

/// Texts that point outside the project, in two halves so that this file does not break its own rule.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("/root", "/.", "a path of one machine"),
    ("/home", "/runner", "a path of one machine"),
];

pub(crate) fn check(file: &str, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = content.lines().count();
    if file.ends_with(".rs") {
        if lines > MAX_LINES && !LONGER.iter().any(|(name, _)| *name == file) {
            let what =
                format!("{lines} lines; at most {MAX_LINES}. Split it by what it says, or name it in LONGER with a reason");
            findings.push(Finding::new(file, lines, what));
        }
        if file != LIST_OF_TESTS && !documented(content) {
            let what = "the first line says what the file is for: //! ...";
            findings.push(Finding::new(file, 1, what));
        }
    }
    for (number, line) in content.lines().enumerate() {
        for (first, second, why) in FORBIDDEN {
            let forbidden = format!("{first}{second}");
            if line.contains(&forbidden) {
                findings.push(Finding::new(file, number + 1, format!("{forbidden:?}: {why}")));
            }
        }
    }
    findings
}

/// Whether `//!` is the first thing, inner attributes (which may stand on several lines) aside.
fn documented(content: &str) -> bool {
    let mut lines = content.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#![") {
            let mut line = Some(line);
            while line.is_some_and(|line| !line.ends_with(']')) {
                line = lines.next();
            }
        } else {
            return line.starts_with("//! ");
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |file: &str, content: &str, expected: &[usize]| {
            let lines: Vec<usize> = check(file, content).iter().map(|finding| finding.line).collect();
            assert_eq!(lines, expected, "{content:.60}");
        };
        let outside = format!("see {}{}cargo/bin", "/root", "/.");
        check("src/a.rs", "fn main() {}\n", &[1]);
        check("src/a.rs", &"//! A\n".repeat(501), &[501]);
        check("README.md", &format!("fine\n{outside}\n"), &[2]);
        check("src/a.rs", &"//! A\n".repeat(500), &[]);
        check("fuzz/fuzz_targets/a.rs", "#![no_main]\n//! A\n", &[]);
        check("tests/it/main.rs", "#![allow(\n    some::lint,\n)]\n//! A\n", &[]);
        check("README.md", "no sentence needed\n", &[]);
    }
}
