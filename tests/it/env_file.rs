//! `env_file`: what reaches the commands, and what is refused before anything starts.

use crate::support::{Workshop, lasting_address};

/// A service whose build prints variables and then fails, so that `up` ends.
fn workshop(names: &[&str], more: &str) -> Workshop {
    let shown: Vec<String> = names.iter().map(|name| format!("{name}=[${{{name}-unset}}]")).collect();
    let services = format!(
        "[service.api]\nport = {}\nenv_file = \"dev.env\"\nbuild_command = 'printf \"%s\\n\" \"{}\"; exit 1'\nrun_command = \"true\"\n{more}",
        lasting_address().port(),
        shown.join("\" \"")
    );
    Workshop::new("alice", &services)
}

#[test]
fn every_way_to_write_a_value_reaches_the_command() {
    let names = [
        "PLAIN", "SINGLE", "DOUBLE", "EXPORTED", "COMMENT", "HASH", "EMPTY", "TWICE", "TABLE", "LATER", "URL",
    ];
    let workshop = workshop(&names, "env = { TABLE = \"table\" }\n");
    for end in ["\n", "\r\n"] {
        let lines = [
            "# a comment",
            "",
            "PLAIN = two words  ",
            "SINGLE='as $it \\n is # here'",
            "DOUBLE=\"a \\\"b\\\" \\$c\"",
            "export EXPORTED=yes",
            "COMMENT=value # not this",
            "HASH=a#b",
            "EMPTY=",
            "TWICE=first",
            "TABLE=file",
            "TWICE=last",
            "URL=postgres://u:p@h/db?a=b&c=d",
            "LATER=$PLAIN",
        ];
        std::fs::write(workshop.project().join("dev.env"), lines.join(end) + end).unwrap();
        let done = workshop.run(&["up", "api"]);
        assert_eq!(done.code(), 7, "{done:?}");
        for expected in [
            "PLAIN=[two words]",
            "SINGLE=[as $it \\n is # here]",
            "DOUBLE=[a \"b\" $c]",
            "EXPORTED=[yes]",
            "COMMENT=[value]",
            "HASH=[a#b]",
            "EMPTY=[]",
            "TWICE=[last]",
            "TABLE=[table]",
            "URL=[postgres://u:p@h/db?a=b&c=d]",
            "LATER=[$PLAIN]",
        ] {
            assert!(
                done.out.contains(&format!("api | {expected}\n")),
                "{end:?} {expected}: {}",
                done.out
            );
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_before_anything_starts() {
    let workshop = workshop(&["A"], "");
    let file = workshop.project().join("dev.env");
    let check = |parts: &[&str]| {
        let done = workshop.run(&["up", "api"]);
        assert_eq!(done.code(), 3, "{done:?}");
        let named = [file.to_str().unwrap(), "env_file of service api"];
        for part in named.iter().chain(parts) {
            assert!(done.err.contains(part), "{part:?} is missing: {done:?}");
        }
        assert!(!done.out.contains("api | "), "a command ran: {done:?}");
        // Who only tunnels needs no environment.
        let no_run = workshop.run(&["up", "nothing", "--no-run"]);
        assert_eq!(no_run.code(), 2, "{no_run:?}");
    };
    check(&["No such file"]);
    std::fs::write(&file, b"A=1\nB=caf\xe9\n").unwrap();
    check(&["not UTF-8", "line 2", "0xe9"]);
    std::fs::write(&file, "A=1\nnot a line\n").unwrap();
    check(&["line 2", "NAME=value"]);
    std::fs::write(&file, "A=\"never closed\n").unwrap();
    check(&["line 1", "is not closed"]);
    // The limit is a mebibyte, and one byte more is too much.
    let filled = |len: usize| format!("A=1\n#{}\n", "x".repeat(len - 6));
    std::fs::write(&file, filled((1 << 20) + 1)).unwrap();
    check(&["longer than 1048576 bytes"]);
    std::fs::write(&file, filled(1 << 20)).unwrap();
    let done = workshop.run(&["up", "api"]);
    assert!(done.code() == 7 && done.out.contains("A=[1]"), "{done:?}");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    check(&["not a regular file"]);
}
