//! Several `up`s that want the same thing at once.

use rustix::process::Signal;

use crate::support::{Process, Workshop, get, lasting_address, need, until};

/// A loser started its service, and ended with 7 because the winner's had the port.
#[test]
fn of_eight_ups_at_once_one_serves_and_the_others_name_it() {
    let Some(python) = need("python3") else { return };
    let port = lasting_address().port();
    let services = format!(
        "[service.api]\nport = {port}\nbuild_command = \"echo built >> built\"\n\
         run_command = \"echo begun >> begun; exec '{}' -u -m http.server --bind 127.0.0.1 {port}\"\n",
        python.display()
    );
    let workshop = Workshop::new("alice", &services);
    for round in 0..3 {
        let mut ups: Vec<Process> = (0..8).map(|_| workshop.start(&["up", "api"])).collect();
        let mut losers = Vec::new();
        until("seven of eight to end", || {
            while let Some(at) = ups.iter_mut().position(|up| up.ended().is_some()) {
                losers.push(ups.remove(at));
            }
            (ups.len() == 1).then_some(())
        });
        let mut winner = ups.remove(0);
        winner.wait_for("X-Ephemwork: alice:api");
        for loser in losers {
            let done = loser.finish();
            assert_eq!(done.code(), 6, "{done:?}");
            let named = format!("process {} of this machine serves it", winner.pid());
            assert!(done.err.contains(&named), "{done:?}");
            assert!(done.err.contains("ephemwork down api"), "{done:?}");
        }
        for file in ["built", "begun"] {
            let lines = std::fs::read_to_string(workshop.project().join(file)).unwrap();
            assert_eq!(lines.lines().count(), round + 1, "{file}: a loser ran its commands");
        }
        assert_eq!(get(workshop.edge, "alice:api", "/ephemwork.toml").status(), 200);
        winner.signal(Signal::INT);
        assert_eq!(winner.wait().code(), Some(130), "{}", winner.said());
    }
    workshop.wait_no_orphan();
}
