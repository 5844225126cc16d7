//! Several lanes of one session, over connections as slow as Session Manager's agent makes them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Bastion, Process, Service, Wire, Workshop, fetch, get, heavy, relay::Relay, service::ok, until};

/// A developer's `up` behind a slow way.
struct Far {
    relay: Relay,
    _up: Process,
    workshop: Workshop,
    bastion: Bastion,
    _service: Service,
}

impl Far {
    /// With `tunnel.lanes` as the file writes it.
    #[track_caller]
    fn start(lanes: &str) -> Far {
        let service = Service::replying(|head, body| match head.target() {
            "/sum" => ok(&format!(
                "{} {}",
                body.len(),
                body.iter().map(|&byte| u64::from(byte)).sum::<u64>()
            )),
            _ => ok("yes"),
        });
        let bastion = Bastion::local(&[]);
        let relay = Relay::before(&bastion);
        let workshop = Workshop::beside(&bastion, "alice", "");
        workshop.write(
            &format!("lanes = {lanes}"),
            &format!("[service.api]\nport = {}\n", service.port),
        );
        let up = workshop.up(&["api"], &["--no-run"]);
        Far {
            relay,
            _up: up,
            workshop,
            bastion,
            _service: service,
        }
    }

    #[track_caller]
    fn wait_for(&self, lanes: usize) {
        until(&format!("{lanes} lanes"), || {
            let session = self.bastion.session("alice:api")?;
            (session["lanes"].as_array()?.len() == lanes && self.relay.open() == lanes).then_some(())
        });
    }

    /// Uploads of this many bytes at once; the time in which all were answered.
    #[track_caller]
    fn uploads(&self, count: usize, bytes: usize) -> Duration {
        let begun = Instant::now();
        let all: Vec<JoinHandle<u16>> = (0..count).map(|_| upload(self.bastion.http, bytes)).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), 200);
        }
        begun.elapsed()
    }

    /// How long so many small requests take, one after the other, sorted.
    #[track_caller]
    fn small(&self, count: usize) -> Vec<Duration> {
        let mut wire = Wire::to(self.bastion.http);
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                let begun = Instant::now();
                wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Ephemwork: alice:api\r\n\r\n");
                assert_eq!(wire.answer("GET").status(), 200);
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        times
    }
}

/// Sends a body and gives the status of the answer, which says that all of it came; 0 when there was no answer.
fn upload(edge: SocketAddr, bytes: usize) -> JoinHandle<u16> {
    std::thread::spawn(move || {
        // Not compressible, so that the pace counts and nothing else.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let body: Vec<u8> = (0..bytes)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        let sum: u64 = body.iter().map(|&byte| u64::from(byte)).sum();
        let mut request =
            format!("POST /sum HTTP/1.1\r\nHost: a\r\nX-Ephemwork: alice:api\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
        request.extend(body);
        let answer = fetch(edge, request);
        if answer.status() == 200 {
            assert_eq!(answer.text(), format!("{bytes} {sum}"));
        }
        answer.status()
    })
}

#[test]
fn four_lanes_carry_what_one_does_not() {
    const BYTES: usize = 300_000;
    let _heavy = heavy();
    let one = Far::start("1");
    one.wait_for(1);
    let alone = one.uploads(4, BYTES);
    drop(one);
    let four = Far::start("4");
    four.wait_for(4);
    let together = four.uploads(16, BYTES);
    let ratio = 4.0 * alone.as_secs_f64() / together.as_secs_f64();
    eprintln!("one lane {alone:?}, four lanes with four times as much {together:?}: {ratio:.2} times");
    // A machine that is busy with other tests cannot pace four connections as well as one; the benchmark asks for 3.8.
    assert!(ratio > 2.8, "{ratio}");
}

/// One large body brings a second lane, on which small requests do not wait; it goes when nobody needs it, and no request fails.
#[test]
fn a_lane_comes_with_bulk_and_goes_without() {
    let _heavy = heavy();
    let far = Far::start("\"auto\"");
    far.wait_for(1);
    let before = far.small(40);
    let bulk = upload(far.bastion.http, 4_000_000);
    far.wait_for(2);
    let during = far.small(40);
    assert!(!bulk.is_finished(), "the body was over before anything was measured");
    let (before, during) = (before[20], during[20]);
    eprintln!("small requests: median {before:?}, beside a large body {during:?}");
    assert!(during < before + Duration::from_millis(30), "{before:?}, {during:?}");
    let most = |lanes: &Value, key: &str| lanes.as_array().unwrap().iter().map(|lane| lane[key].as_u64().unwrap()).max();
    until("both ends to tell of the body", || {
        let status: Value = serde_json::from_str(&far.workshop.run(&["status", "--json"]).out).unwrap();
        let here = &status["here"][0]["lanes"];
        let there = &status["bastions"][0]["sessions"][0]["lanes"];
        let rates = most(here, "in_per_second").min(most(there, "in_per_second"));
        (rates > Some(100_000) && most(there, "outstanding") > Some(100_000)).then_some(())
    });
    let page = far.bastion.admin("GET", "/metrics").text();
    for lane in [0, 1] {
        let series = format!("ephemwork_lane_bytes_per_second{{tag=\"alice:api\",lane=\"{lane}\",direction=\"in\"}}");
        assert!(page.contains(&series), "{series} in {page}");
    }
    assert_eq!(bulk.join().unwrap(), 200);
    // Requests go on all the time while the lane leaves.
    let failed = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (counts, stops, edge) = (Arc::clone(&failed), Arc::clone(&stop), far.bastion.http);
    let asking = std::thread::spawn(move || {
        while !stops.load(Ordering::SeqCst) {
            if get(edge, "alice:api", "/").status() != 200 {
                counts.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    far.wait_for(1);
    stop.store(true, Ordering::SeqCst);
    asking.join().unwrap();
    assert_eq!(failed.load(Ordering::SeqCst), 0);
}

#[test]
fn a_lane_that_is_cut_costs_its_own_requests_only() {
    let _heavy = heavy();
    let far = Far::start("4");
    far.wait_for(4);
    let all: Vec<JoinHandle<u16>> = (0..8).map(|_| upload(far.bastion.http, 400_000)).collect();
    until("every upload to be on its way", || {
        let session = far.bastion.session("alice:api")?;
        (session["in_flight"] == 8).then_some(())
    });
    let ids = || -> Option<Vec<u64>> {
        let session = far.bastion.session("alice:api")?;
        Some(
            session["lanes"]
                .as_array()?
                .iter()
                .filter_map(|lane| lane["id"].as_u64())
                .collect(),
        )
    };
    let before = ids().unwrap();
    let victim = far.relay.lanes()[2];
    far.relay.cut(victim);
    until("the bastion to notice", || {
        ids().filter(|now| before.iter().any(|id| !now.contains(id)))
    });
    // Nothing that comes now is lost.
    for _ in 0..20 {
        assert_eq!(get(far.bastion.http, "alice:api", "/").status(), 200);
    }
    let statuses: Vec<u16> = all.into_iter().map(|one| one.join().unwrap()).collect();
    let lost = statuses.iter().filter(|&&status| status != 200).count();
    assert!((1..=2).contains(&lost), "{statuses:?}");
    far.wait_for(4);
    let said = far._up.said();
    assert!(!said.contains("lost"), "{said}");
}

/// Somebody whose connections all died at once, and who is back before the bastion has noticed, has only the new ones: no request waits
/// for a dead one.
#[test]
fn the_dead_lanes_of_a_killed_up_get_no_requests() {
    let _heavy = heavy();
    let mut far = Far::start("4");
    far.wait_for(4);
    far.relay.swallow();
    far._up.kill();
    far.workshop
        .write("lanes = 1", &format!("[service.api]\nport = {}\n", far._service.port));
    far._up = far.workshop.up(&["api"], &["--no-run"]);
    let session = far.bastion.session("alice:api").unwrap();
    assert_eq!(session["lanes"].as_array().unwrap().len(), 1, "{session:#}");
    let bulk = upload(far.bastion.http, 500_000);
    until("the body to be on its way", || {
        let session = far.bastion.session("alice:api")?;
        (session["lanes"][0]["bytes_in"].as_u64()? > 50_000).then_some(())
    });
    for _ in 0..10 {
        assert_eq!(get(far.bastion.http, "alice:api", "/").status(), 200);
    }
    assert_eq!(bulk.join().unwrap(), 200);
}

/// Even with one lane a small request does not wait for all that a large body could put before it.
#[test]
fn small_requests_pass_bulk_on_one_lane() {
    let _heavy = heavy();
    let far = Far::start("1");
    far.wait_for(1);
    let before = far.small(20)[10];
    let bulk = upload(far.bastion.http, 3_000_000);
    until("the body to be on its way", || {
        let session = far.bastion.session("alice:api")?;
        (session["lanes"][0]["bytes_in"].as_u64()? > 300_000).then_some(())
    });
    let during = far.small(20)[10];
    eprintln!("small requests: median {before:?}, beside a large body on the only lane {during:?}");
    assert!(!bulk.is_finished(), "the body was over before anything was measured");
    assert!(during < before + Duration::from_millis(60), "{before:?}, {during:?}");
    assert_eq!(bulk.join().unwrap(), 200);
}
