//! `ephemwork logs`, and what a detached `up` writes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{LIMIT, Process, Workshop, lasting_address, until};

/// A project in a directory of its own whose `api` prints `word` and ends.
fn project(workshop: &Workshop, name: &str, word: &str) -> PathBuf {
    let directory = workshop.project().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!(
        "[tunnel]\nlisten = \"{}\"\n[service.api]\nport = {}\nrun_command = \"echo {word}; exit 1\"\n",
        workshop.edge,
        lasting_address().port()
    );
    std::fs::write(directory.join("ephemwork.toml"), text).unwrap();
    directory
}

fn run(workshop: &Workshop, directory: &Path, arguments: &[&str]) -> crate::support::process::Finished {
    let name = arguments.join(" ");
    Process::run(&name, workshop.command(arguments).current_dir(directory))
}

/// The files of this name below the logs' directory.
fn files(workshop: &Workshop, name: &str) -> Vec<PathBuf> {
    let projects = std::fs::read_dir(workshop.home().join("logs")).unwrap().flatten();
    let paths = projects.map(|project| project.path().join(name));
    paths.filter(|path| path.exists()).collect()
}

/// A project whose service has said "begun", and its log.
#[track_caller]
fn begun(workshop: &Workshop) -> (PathBuf, PathBuf) {
    let shop = project(workshop, "shop", "begun");
    assert_eq!(run(workshop, &shop, &["up", "api"]).code(), 7);
    let [log] = &files(workshop, "api.log")[..] else { panic!() };
    (shop, log.clone())
}

/// They wrote into one file, and each showed the other's lines.
#[test]
fn two_projects_with_a_service_of_one_name_have_a_log_each() {
    let workshop = Workshop::new("alice", "");
    let (shop, desk) = (
        project(&workshop, "a/shop", "selling"),
        project(&workshop, "b/shop", "writing"),
    );
    assert_eq!(run(&workshop, &shop, &["up", "api"]).code(), 7);
    // From elsewhere the only one there is.
    let only = run(&workshop, &workshop.home(), &["logs", "api"]);
    assert_eq!((only.code(), only.out.as_str()), (0, "selling\n"), "{only:?}");
    let none = run(&workshop, &desk, &["logs", "api"]);
    assert_eq!(none.code(), 2, "{none:?}");
    assert!(none.err.contains(&format!("cd {}", shop.display())), "{none:?}");

    assert_eq!(run(&workshop, &desk, &["up", "api"]).code(), 7);
    std::fs::create_dir_all(shop.join("deep/er")).unwrap();
    for (directory, expected) in [
        (&shop, "selling\n"),
        (&shop.join("deep/er"), "selling\n"),
        (&desk, "writing\n"),
    ] {
        let logs = run(&workshop, directory, &["logs", "api"]);
        assert_eq!((logs.code(), logs.out.as_str()), (0, expected), "{logs:?}");
    }
    let both = run(&workshop, &workshop.home(), &["logs", "api"]);
    assert_eq!(both.code(), 2, "{both:?}");
    for directory in [&shop, &desk] {
        assert!(both.err.contains(&directory.display().to_string()), "{both:?}");
    }
}

#[test]
fn what_a_detached_up_writes_begins_anew_each_time() {
    let workshop = Workshop::new("alice", "");
    for word in ["first", "second", "third"] {
        let shop = project(&workshop, "shop", word);
        let done = run(&workshop, &shop, &["up", "api", "-d"]);
        assert_eq!(done.code(), 7, "{done:?}");
    }
    let [now] = &files(&workshop, "up.detached")[..] else {
        panic!()
    };
    let [before] = &files(&workshop, "up.detached.1")[..] else {
        panic!()
    };
    for (path, word, not) in [(now, "third", "second"), (before, "second", "first")] {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(word) && !text.contains(not), "{}: {text}", path.display());
        let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{mode:o}");
    }
}

fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn following_goes_on_when_the_log_moves_or_is_emptied_and_ctrl_c_ends_it() {
    let workshop = Workshop::new("alice", "");
    let (shop, log) = begun(&workshop);
    let mut follow = Process::start("logs -f", workshop.command(&["logs", "api", "-f"]).current_dir(&shop));
    follow.wait_for("begun");
    write(&log, "one\n");
    follow.wait_for("one");
    // It is full: the service's last line before, and its first one after.
    write(&log, "last of the old\n");
    std::fs::rename(&log, log.with_extension("log.1")).unwrap();
    write(&log, "first of the new\n");
    follow.wait_for("first of the new");
    assert!(
        follow.out().contains("last of the old\nfirst of the new\n"),
        "{}",
        follow.out()
    );
    std::fs::File::create(&log).unwrap();
    write(&log, "empty\n");
    follow.wait_for("empty");
    follow.signal(Signal::INT);
    assert_eq!(follow.wait().code(), Some(130), "{}", follow.said());
}

/// A terminal that was stopped with Ctrl-S took nothing, and Ctrl-C did not count.
#[test]
fn ctrl_c_counts_while_nobody_reads() {
    let workshop = Workshop::new("alice", "");
    let (shop, log) = begun(&workshop);
    // More than a pipe holds.
    write(&log, &"a line of the log\n".repeat(20_000));
    let mut command: Command = workshop.command(&["logs", "api", "-f"]);
    let mut child = command
        .current_dir(&shop)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the pipe to be full", || {
        // In the middle of a write: the thread waits in the kernel's pipe_write.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).ok()?.flatten();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("wchan")).ok())
            .any(|place| place.contains("pipe"))
            .then_some(())
    });
    let begun = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = until("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert!(begun.elapsed() < LIMIT / 4, "{:?}", begun.elapsed());
}

/// `logs -f | head` stayed for ever.
#[test]
fn following_ends_when_nobody_reads_any_more() {
    let workshop = Workshop::new("alice", "");
    let (shop, log) = begun(&workshop);
    let mut child = workshop
        .command(&["logs", "api", "-f"])
        .current_dir(&shop)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut read = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
    assert_eq!(&read, b"begun\n");
    drop(child.stdout.take());
    write(&log, "one more\n");
    let status = until("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// A full disk ended the log for good, in the middle of a line, and nobody was told.
#[test]
#[cfg(target_os = "linux")]
fn a_log_goes_on_when_the_disk_has_room_again() {
    let workshop = Workshop::new("alice", "");
    let shop = project(&workshop, "shop", "earlier");
    assert_eq!(run(&workshop, &shop, &["up", "api"]).code(), 7);
    let [log] = &files(&workshop, "api.log")[..] else { panic!() };
    let earlier = std::fs::read(log).unwrap();
    std::fs::remove_file(log).unwrap();
    std::os::unix::fs::symlink("/dev/full", log).unwrap();
    let text = format!(
        "[tunnel]\nlisten = \"{}\"\n[service.api]\nport = {}\n\
         run_command = \"echo lost; echo lost; until [ -e room ]; do sleep 0.05; done; echo kept; exit 1\"\n",
        workshop.edge,
        lasting_address().port()
    );
    std::fs::write(shop.join("ephemwork.toml"), text).unwrap();
    let mut up = Process::start("up", workshop.command(&["up", "api"]).current_dir(&shop));
    up.wait_for("api: what it prints is not logged for now: ");
    until("both lines", || (up.out().matches("| lost").count() == 2).then_some(()));
    std::fs::remove_file(log).unwrap();
    std::fs::write(log, earlier).unwrap();
    std::fs::write(shop.join("room"), "").unwrap();
    let up = up.finish();
    assert_eq!((up.code(), up.err.matches("is not logged").count()), (7, 1), "{up:?}");
    let logs = run(&workshop, &shop, &["logs", "api"]);
    let missing = "\nephemwork: 2 lines are missing here: No space left on device (os error 28)\nkept\n";
    assert_eq!(logs.out, format!("earlier\n{missing}"), "{logs:?}");
}
