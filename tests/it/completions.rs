//! `ephemwork completions`: the scripts do their work in the real shells; a shell that is not installed is named and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ephemwork::cli::completions::{Completions, run};
use ephemwork::error::{Error, Exit};
use ephemwork::host::Host;

fn completions(directory: &Path, shell: &str) -> Result<String, Error> {
    let host = Host {
        executable: PathBuf::from("ephemwork"),
        program: "ephemwork".to_owned(),
        arguments: Vec::new(),
        environment: BTreeMap::new(),
        directory: directory.to_owned(),
        stdout_is_terminal: false,
        stderr_is_terminal: false,
    };
    let shell = shell.to_owned();
    run(&host, &Completions { shell })
}

const FILE: &str = "[service.api]\nport = 8000\n[service.front-end]\nport = 8001\n[service.\"v2.x\"]\nport = 8002\n";

#[test]
fn services_of_the_file_above() {
    let root = tempfile::tempdir().unwrap();
    let below = root.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    assert_eq!(completions(&below, "services").unwrap(), "");
    fs::write(root.path().join("ephemwork.toml"), FILE).unwrap();
    assert_eq!(completions(&below, "services").unwrap(), "api\nfront-end\nv2.x\n");
    fs::write(root.path().join("ephemwork.toml"), "[service.api]\nport = 0").unwrap();
    assert_eq!(completions(&below, "services").unwrap(), "");
    assert_eq!(completions(&below, "csh").unwrap_err().exit, Exit::Usage);
}

/// Runs `script` in a shell whose `ephemwork` answers `completions services`; the lines that it prints, sorted. `None` without
/// the shell.
fn in_shell(shell: &str, arguments: &[&str], script: &str, environment: &[(&str, &str)]) -> Option<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let stand_in = directory.path().join("ephemwork");
    fs::write(
        &stand_in,
        "#!/bin/sh\n[ \"$1 $2\" = 'completions services' ] && printf 'api\\nfront-end\\n'\n",
    )
    .unwrap();
    fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    let completion = directory.path().join("completion");
    fs::write(&completion, completions(directory.path(), shell).unwrap()).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(shell)
        .args(arguments)
        .arg(script)
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("COMPLETION", &completion)
        .env("TERM", "dumb")
        .envs(environment.iter().copied())
        .env("HOME", directory.path())
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(why) => {
            eprintln!("left out: {shell} is not installed ({why})");
            return None;
        }
    };
    assert!(
        output.stderr.is_empty(),
        "{shell}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    // fish prints a tab and a description behind each.
    let mut lines: Vec<String> = text
        .lines()
        .filter_map(|line| line.split('\t').next())
        .map(str::to_owned)
        .collect();
    lines.sort();
    Some(lines)
}

#[test]
fn in_bash() {
    let check = |words: &str, expected: &[&str]| {
        let script = format!(
            "source \"$COMPLETION\"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _ephemwork; \
             [[ ${{#COMPREPLY[@]}} == 0 ]] || printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p ephemwork >/dev/null"
        );
        if let Some(found) = in_shell("bash", &["--norc", "-c"], &script, &[]) {
            assert_eq!(found, expected, "{words}");
        }
    };
    check("ephemwork s", &["status"]);
    check("ephemwork d", &["demo", "doctor", "down"]);
    check("ephemwork bastion s", &["snippet", "status"]);
    check("ephemwork bastion policy d", &["developer"]);
    check("ephemwork up ''", &["api", "front-end"]);
    check("ephemwork up --takeover f", &["front-end"]);
    check("ephemwork up --t", &["--takeover"]);
    check("ephemwork up --restart ''", &["never", "on-failure"]);
    check("ephemwork logs api f", &["front-end"]);
    check("ephemwork completions z", &["zsh"]);
    check("ephemwork status x", &[]);
    check("ephemwork bastion s", &["snippet", "status"]);
    check("ephemwork bastion policy d", &["developer"]);
}

#[test]
fn in_fish() {
    let check = |line: &str, expected: &[&str]| {
        let script = format!("source $COMPLETION; complete -C '{line}'");
        if let Some(found) = in_shell("fish", &["--no-config", "-c"], &script, &[]) {
            assert_eq!(found, expected, "{line}");
        }
    };
    check("ephemwork s", &["status"]);
    check("ephemwork d", &["demo", "doctor", "down"]);
    check("ephemwork bastion s", &["snippet", "status"]);
    check("ephemwork bastion policy d", &["developer"]);
    check("ephemwork up ", &["api", "front-end"]);
    check("ephemwork up --t", &["--takeover"]);
    check("ephemwork logs f", &["front-end"]);
    check("ephemwork completions z", &["zsh"]);
    check("ephemwork bastion s", &["snippet", "status"]);
    check("ephemwork bastion init --st", &[]);
}

#[test]
fn in_zsh() {
    // zsh completes only in its line editor, so completion.zsh types into a second one.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/completion.zsh");
    let check = |line: &str, expected: &str| {
        if let Some(found) = in_shell("zsh", &["-f"], script, &[("LINE", line), ("EXPECTED", expected)]) {
            assert_eq!(found, ["found"], "{line}");
        }
    };
    check("ephemwork stat", "ephemwork status");
    check("ephemwork up fr", "front-end");
    check("ephemwork up --take", "--takeover");
    check("ephemwork completions z", "zsh");
}

/// What `ephemwork WORDS --help` prints.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
    let output = command.args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of a section of a help, each with its first words; what goes over several lines is indented further.
fn section(help: &str, name: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != name).skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let entry = |line: &str| {
        line.strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))
            .map(str::to_owned)
    };
    lines.filter_map(entry).collect()
}

fn subcommands(help: &str) -> Vec<String> {
    let entries = section(help, "Commands:").into_iter();
    let names = entries.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.filter(|name| !name.starts_with('-') && name != "help").collect()
}

/// A verb, or a verb below a verb, with its long options.
type Options = Vec<(Vec<String>, BTreeSet<String>)>;

/// Of everything that the help lists below these words, by the helps.
fn options(words: &[&str]) -> Options {
    let help = help(words);
    let entries = section(&help, "Options:").into_iter();
    let long = |line: String| line.split([' ', ',']).find(|word| word.starts_with("--")).map(str::to_owned);
    let own: BTreeSet<String> = entries.filter_map(long).collect();
    let mut found = vec![(words.iter().map(|&word| word.to_owned()).collect(), own)];
    for below in subcommands(&help) {
        let words: Vec<&str> = words.iter().copied().chain([below.as_str()]).collect();
        found.extend(options(&words));
    }
    found
}

/// An option was added, and no shell knew it.
#[test]
fn every_shell_knows_exactly_the_options_of_every_verb() {
    let zsh = completions(Path::new("/"), "zsh").unwrap();
    let mut checked = 0;
    for verb in subcommands(&help(&[])) {
        let mut all = options(&[&verb]);
        if verb == "bastiond" {
            // It is no option of its parser, and not in its help.
            all[0].1.insert("--version".to_owned());
        }
        for (words, expected) in &all {
            let expected = Vec::from_iter(expected.clone());
            let line = words.join(" ");
            checked += 1;
            let at = words.len() + 1;
            let script = format!(
                "source \"$COMPLETION\"; COMP_WORDS=(ephemwork {line} --); COMP_CWORD={at}; _ephemwork; printf '%s\\n' \"${{COMPREPLY[@]}}\""
            );
            if let Some(found) = in_shell("bash", &["--norc", "-c"], &script, &[]) {
                assert_eq!(found, expected, "{line} in assets/completions/ephemwork.bash");
            }
            let script = format!("source $COMPLETION; complete -C 'ephemwork {line} --'");
            if let Some(found) = in_shell("fish", &["--no-config", "-c"], &script, &[]) {
                assert_eq!(found, expected, "{line} in assets/completions/ephemwork.fish");
            }
        }
        // zsh asks its own editor; the script itself has a case for each verb, with what is below it.
        let begin = format!("                {verb})");
        let case = zsh.lines().skip_while(|line| !line.starts_with(&begin));
        let inside = |line: &&str| line.starts_with("                 ");
        let case = case.enumerate().take_while(|(number, line)| *number == 0 || inside(line));
        let found: BTreeSet<String> = case.flat_map(|(_, line)| long_options(line)).collect();
        let expected: BTreeSet<String> = all.into_iter().flat_map(|(_, options)| options).collect();
        assert_eq!(found, expected, "{verb} in assets/completions/ephemwork.zsh");
    }
    assert!(checked >= 10, "the help lists {checked} verbs");
}

/// `--name` wherever a specification of zsh's `_arguments` begins with it.
fn long_options(line: &str) -> Vec<String> {
    let parts = line.match_indices("--").map(|(at, _)| &line[at..]);
    let name = |part: &str| {
        let end = part
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(part.len());
        let specification = part[end..].starts_with('[') || part[end..].starts_with("}'[");
        specification.then(|| part[..end].to_owned())
    };
    parts.filter_map(name).collect()
}
