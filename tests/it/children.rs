//! What an `up` does with the processes of its services.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Service, Workshop, get, lasting_address, need, until};

/// A service by its commands, on a port that nobody uses.
fn workshop(lines: &str) -> Workshop {
    let port = lasting_address().port();
    Workshop::new("alice", &format!("[service.api]\nport = {port}\n{lines}\n"))
}

/// A service that answers on its port, which `{serve}` in `lines` starts.
fn serving(lines: &str) -> Option<Workshop> {
    let serve = format!("'{}' -u -m http.server --bind 127.0.0.1 $PORT", need("python3")?.display());
    Some(workshop(&lines.replace("{serve}", &serve)))
}

/// The last process that the command said is its own.
fn said_pid(text: &str, mark: &str) -> Option<i32> {
    text.lines()
        .rev()
        .find_map(|line| line.split_once(mark)?.1.trim().parse().ok())
}

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn output_is_shown_to_its_last_byte_and_nobody_waits_for_a_grandchild() {
    let up = workshop(r#"run_command = "sleep 600 & printf 'one\\ntwo \\377\\r\\n'; echo error >&2; printf 'no end'; exit 3""#);
    let begun = Instant::now();
    let done = up.run(&["up", "api"]);
    assert_eq!(done.code(), 7, "{done:?}");
    for line in ["api | one\n", "api | two \u{fffd}\n", "api | error\n", "api | no end\n"] {
        assert!(done.out.contains(line), "{line:?} is missing in {done:?}");
    }
    assert!(done.err.contains("exit status 3"), "{done:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    up.wait_no_orphan();
}

#[test]
fn commands_see_their_port_tag_and_environment() {
    let up = workshop(
        r#"
        build_command = "echo $PORT $EPHEMWORK_TAG $FROM_FILE $BOTH $INHERITED; pwd"
        run_command = "exit 5"
        env = { BOTH = "table" }
        env_file = "dev.env"
        working_directory = "sub"
        "#,
    );
    std::fs::create_dir(up.project().join("sub")).unwrap();
    let file = "# a comment\nexport FROM_FILE='from file'\nBOTH=file\nPORT=1\n";
    std::fs::write(up.project().join("dev.env"), file).unwrap();
    std::fs::write(up.project().join("sub/dev.env"), file).unwrap();
    let mut command = up.command(&["up", "api"]);
    let done = crate::support::Process::run("up", command.env("INHERITED", "inherited"));
    let expected = "alice:api from file table inherited";
    assert!(done.out.contains(expected) && !done.out.contains("api | 1 alice"), "{done:?}");
    assert!(done.out.contains("/project/sub\n"), "{done:?}");
}

#[test]
fn a_service_that_ignores_term_is_killed_after_its_time() {
    let Some(up) = serving("stop_timeout_seconds = 1\nrun_command = \"trap '' TERM; {serve}\"") else {
        return;
    };
    let mut running = up.up(&["api"], &[]);
    let begun = Instant::now();
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0), "{}", running.said());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    up.wait_no_orphan();
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let Some(up) = serving("stop_timeout_seconds = 600\nrun_command = \"trap '' TERM; {serve}\"") else {
        return;
    };
    let mut running = up.up(&["api"], &[]);
    running.signal(Signal::INT);
    running.wait_for("stopping");
    // What comes within a tenth of a second counts as the first one twice, so it is pressed until it counts.
    let status = until("the end after a second Ctrl-C", || {
        running.signal(Signal::INT);
        running.ended()
    });
    assert_eq!(status.code(), Some(130), "{}", running.said());
    up.wait_no_orphan();
}

#[test]
fn what_a_killed_up_left_is_ended_also_when_its_first_process_is_gone() {
    for verb in [&["status"][..], &["down"]] {
        let up = workshop(
            "build_command = \"sh -c 'echo child $$; trap \\\"\\\" TERM; exec sleep 600' & echo leader $$; exec sleep 601\"\nrun_command = \"true\"",
        );
        let mut running = up.start(&["up", "api"]);
        running.wait_for("child ");
        running.wait_for("leader ");
        let (leader, child) = (
            said_pid(&running.out(), "leader ").unwrap(),
            said_pid(&running.out(), "child ").unwrap(),
        );
        running.kill();
        kill_process(Pid::from_raw(leader).unwrap(), Signal::KILL).unwrap();
        until("the leader to be gone", || (!lives(leader)).then_some(()));
        assert!(lives(child));
        let done = up.run(verb);
        assert_eq!(done.code(), 0, "{done:?}");
        assert!(!lives(child), "{done:?}");
        assert!((done.out + &done.err).contains("ended what a killed up had left running of api"));
        up.wait_no_orphan();
    }
}

#[test]
fn a_service_that_is_killed_is_said_and_restarted_only_when_asked() {
    let Some(up) = serving("run_command = \"echo pid $$; exec {serve}\"") else {
        return;
    };
    let mut running = up.up(&["api"], &[]);
    let kill = |pid| kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    kill(said_pid(&running.out(), "pid ").unwrap());
    assert_eq!(running.wait().code(), Some(7));
    assert!(running.err().contains("killed by signal 9 (SIGKILL)"), "{}", running.said());

    let mut running = up.up(&["api"], &["--restart", "on-failure"]);
    for _ in 0..2 {
        let pid = said_pid(&running.out(), "pid ").unwrap();
        kill(pid);
        until("the service to be back", || {
            assert!(running.ended().is_none(), "{}", running.said());
            said_pid(&running.out(), "pid ").filter(|&now| now != pid)?;
            (get(up.edge, "alice:api", "/").status() == 200).then_some(())
        });
    }
    running.signal(Signal::INT);
    assert_eq!(running.wait().code(), Some(130));
    up.wait_no_orphan();
}

#[test]
fn progress_is_said_while_a_service_is_awaited() {
    let up = workshop("run_command = \"sleep 600\"\nhealth_timeout_seconds = 3");
    let done = up.run(&["up", "api"]);
    assert_eq!(done.code(), 7, "{done:?}");
    assert!(
        done.out.contains("api: waiting for it to be healthy, 1.0 s: port"),
        "{done:?}"
    );
    assert!(done.err.contains("was not healthy within 3 s"), "{done:?}");
}

#[test]
fn a_build_that_says_nothing_is_told_of() {
    let up = workshop("build_command = \"sleep 600\"\nrun_command = \"sleep 600\"");
    let mut running = up.start(&["up", "api"]);
    running.wait_for("api: build_command is running, 1.0 s");
    running.wait_for("api: build_command is running, 2.0 s");
    running.signal(Signal::INT);
    assert_eq!(running.wait().code(), Some(130), "{}", running.said());
    up.wait_no_orphan();
}

/// A wrong path is not made right by more time, and each question may be a line in the service's log.
#[test]
fn a_service_that_answers_something_else_is_not_flooded() {
    let service = Service::replying(|_, _| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
    let up = Workshop::new(
        "alice",
        &format!(
            "[service.api]\nport = {}\nhealth_check_path = \"/nothere\"\nhealth_timeout_seconds = 4\n",
            service.port
        ),
    );
    let done = up.run(&["up", "api", "--no-run"]);
    assert_eq!(done.code(), 7, "{done:?}");
    for part in ["was not healthy within 4 s: GET /nothere answered 404", "health_check_path"] {
        assert!(done.err.contains(part), "{part:?} is missing in {done:?}");
    }
    // After 0, 0.2, 0.6, 1.4, 2.4 and 3.4 s; a laden machine asks less often.
    assert!(service.heads().len() <= 6, "{}", service.heads().len());
}
