//! The state with a real store and lanes that go nowhere.

use std::path::Path;

use super::*;
use crate::bastiond::end::End;
use crate::bastiond::lane::{Carrier, Peer};
use crate::bastiond::registry::Releaser;
use crate::bastiond::settings::Texts;
use crate::bastiond::ssh::Requests;
use crate::name::User;
use crate::protocol::{self, Claim, Event, SessionState};
use crate::rt;

/// The daemon's clock stands still; leases are tested in the registry.
const NOW: u64 = 1000;

fn daemon(directory: &Path) -> Arc<Daemon> {
    let mut texts = Texts::default();
    for (key, value) in [("http", "127.0.0.1:0"), ("ssh", "127.0.0.1:0"), ("state", "/nowhere")] {
        texts.flag(key, [value.to_owned()], directory);
    }
    let settings = texts.settings().unwrap();
    let opened = Store::open(&directory.join("sessions.redb"), settings.keep, NOW).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(opened.warnings, Vec::<String>::new());
    Daemon::new(Beginning {
        settings,
        addresses: Addresses::default(),
        store: opened.store,
        records: opened.records,
        owners: opened.owners,
        authorized: Authorized::default(),
        clock: || NOW,
    })
}

/// A laptop that is connected and never answers.
fn lane(daemon: &Daemon, user: &str) -> Arc<Lane> {
    let peer = Peer {
        id: daemon.next_lane_id(),
        user: User::parse(user).unwrap(),
        principal: None,
        address: "192.0.2.1:5".to_owned(),
        client: "test".to_owned(),
        since: NOW,
        pace: daemon.paces.of(&User::parse(user).unwrap()),
    };
    // Nobody ends the connection when the lane asks for it: there is none.
    let lane = Arc::new(Lane::new(peer, Carrier::Laptop(Requests::default()), End::default()));
    lane.keep_events();
    daemon.lane_up(lane.clone());
    lane
}

fn wish(service: &str, host: &str) -> Claim {
    Claim {
        protocol: protocol::VERSION,
        service: service.to_owned(),
        host: host.to_owned(),
        version: "1".to_owned(),
        token: None,
        takeover: false,
        lane: 0,
        only: false,
    }
}

fn tag(text: &str) -> Tag {
    Tag::parse(text).unwrap()
}

fn way(daemon: &Daemon, text: &str) -> &'static str {
    match daemon.route(&tag(text)) {
        Route::Unknown => "unknown",
        Route::Unclaimed { .. } => "unclaimed",
        Route::Away { .. } => "away",
        Route::Lane(..) => "lane",
    }
}

/// Runs one test's future. The executor is the process's own, so tests of other threads may drive each other's tasks.
fn run(test: impl Future<Output = ()>) {
    rt::block_on(test).unwrap();
}

#[test]
fn a_session_comes_goes_and_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let first = daemon(directory.path());
        assert_eq!(way(&first, "alice:api"), "unknown");
        let one = lane(&first, "alice");
        let claimed = first.claim(&one.user, &wish("api", "desk"), &one).await.unwrap();
        assert!(!claimed.resumed && claimed.token.len() == 32);
        assert_eq!(way(&first, "alice:api"), "lane");
        assert_eq!(first.only_session(), Some(tag("alice:api")));
        assert_eq!(first.sessions(None).sessions[0].state, SessionState::Live);

        // Restart without any goodbye: the image of the store is what a kill leaves.
        let image = directory.path().join("image");
        std::fs::create_dir(&image).unwrap();
        std::fs::copy(directory.path().join("sessions.redb"), image.join("sessions.redb")).unwrap();
        let second = daemon(&image);
        assert_eq!(way(&second, "alice:api"), "away");
        let two = lane(&second, "alice");
        let stranger = second.claim(&two.user, &wish("api", "sofa"), &two).await.unwrap_err();
        assert_eq!(
            (stranger.status, stranger.refusal.holder.unwrap().host.as_str()),
            (409, "desk")
        );
        let mut back = wish("api", "desk");
        back.token = Some(claimed.token.clone());
        let back = second.claim(&two.user, &back, &two).await.unwrap();
        assert!(back.resumed && back.token == claimed.token && back.created == claimed.created);
        assert_eq!(way(&second, "alice:api"), "lane");
        second.lane_down(two.id).await;
        assert_eq!(way(&second, "alice:api"), "away");
        assert!(
            second
                .release(&tag("alice:api"), None, Releaser::Admin)
                .await
                .unwrap()
                .released
        );
        assert_eq!(way(&second, "alice:api"), "unknown");
        assert!(second.idle());
        second.close_store().await;
        assert!(daemon(&image).idle(), "a released session must not come back");
    });
}

#[test]
fn whoever_loses_a_tag_is_told() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let daemon = daemon(directory.path());
        let old = lane(&daemon, "alice");
        let new = lane(&daemon, "alice");
        daemon.claim(&old.user, &wish("api", "desk"), &old).await.unwrap();
        let refused = daemon.claim(&new.user, &wish("api", "sofa"), &new).await.unwrap_err();
        assert_eq!(refused.refusal.holder.unwrap().address.as_deref(), Some("192.0.2.1:5"));
        let takeover = Claim {
            takeover: true,
            ..wish("api", "sofa")
        };
        daemon.claim(&new.user, &takeover, &new).await.unwrap();
        let told = old.next_event();
        assert!(matches!(&told, Some(Event::Displaced { by, .. }) if by == "sofa"), "{told:?}");
        // The old connection's end takes nothing from the new one.
        daemon.lane_down(old.id).await;
        assert_eq!(way(&daemon, "alice:api"), "lane");
        daemon.release(&tag("alice:api"), None, Releaser::Admin).await.unwrap();
        assert!(matches!(new.next_event(), Some(Event::Released { .. })));
        daemon.begin_drain();
        daemon.drain_begins().await;
        assert!(matches!(new.next_event(), Some(Event::Draining)));
        let late = daemon.claim(&new.user, &wish("web", "sofa"), &new).await.unwrap_err();
        assert_eq!(late.status, 503);
    });
}

#[test]
fn a_hold_ends_with_the_first_change() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let daemon = daemon(directory.path());
        let one = lane(&daemon, "alice");
        // Nothing to wait for: an unknown tag, a live one.
        daemon.hold(&tag("alice:api")).await;
        daemon.claim(&one.user, &wish("api", "desk"), &one).await.unwrap();
        daemon.hold(&tag("alice:api")).await;
        daemon.lane_down(one.id).await;
        // Made before the change and polled after it: no wakeup is lost.
        let (held, other) = (daemon.hold(&tag("alice:api")), daemon.hold(&tag("alice:api")));
        let two = lane(&daemon, "alice");
        assert!(
            rt::timeout(Duration::from_millis(20), other).await.is_none(),
            "another lane's coming is no change of this tag"
        );
        daemon.claim(&two.user, &wish("api", "desk"), &two).await.unwrap();
        held.await;
        daemon.lane_down(two.id).await;
        let held = daemon.hold(&tag("alice:api"));
        daemon.release(&tag("alice:api"), None, Releaser::Admin).await.unwrap();
        held.await;
    });
}

/// Its connection is about to end, and whoever has a request for it waits for the next one.
#[test]
fn a_lane_that_failed_is_as_good_as_away() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let daemon = daemon(directory.path());
        let one = lane(&daemon, "alice");
        daemon.claim(&one.user, &wish("api", "desk"), &one).await.unwrap();
        one.failed();
        assert_eq!(way(&daemon, "alice:api"), "away");
        let held = daemon.hold(&tag("alice:api"));
        smol::pin!(held);
        assert!(smol::future::poll_once(&mut held).await.is_none());
        let two = lane(&daemon, "alice");
        let again = Claim {
            only: true,
            ..wish("api", "desk")
        };
        daemon.claim(&two.user, &again, &two).await.unwrap_err();
        daemon.lane_down(one.id).await;
        held.await;
        assert_eq!(way(&daemon, "alice:api"), "away");
        daemon.claim(&two.user, &again, &two).await.unwrap();
        assert_eq!(way(&daemon, "alice:api"), "lane");
    });
}

#[test]
fn a_claim_is_not_cut_in_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let daemon = daemon(directory.path());
        let one = lane(&daemon, "alice");
        let changed = daemon.changed();
        {
            let wish = wish("api", "desk");
            let claim = daemon.claim(&one.user, &wish, &one);
            smol::pin!(claim);
            // Polled once, then given up.
            assert!(smol::future::poll_once(&mut claim).await.is_none());
        }
        changed.await;
        assert_eq!(way(&daemon, "alice:api"), "lane");
        // A lane that is gone claims nothing.
        daemon.lane_down(one.id).await;
        assert_eq!(
            daemon.claim(&one.user, &wish("web", "desk"), &one).await.unwrap_err().status,
            410
        );
    });
}

#[test]
fn the_emptiest_lane_is_picked() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let daemon = daemon(directory.path());
        let lanes = [lane(&daemon, "alice"), lane(&daemon, "alice")];
        let token = daemon
            .claim(&lanes[0].user, &wish("api", "desk"), &lanes[0])
            .await
            .unwrap()
            .token;
        let second = Claim {
            token: Some(token),
            lane: 1,
            ..wish("api", "desk")
        };
        daemon.claim(&lanes[1].user, &second, &lanes[1]).await.unwrap();
        let check = |outstanding: [u64; 2], expected: usize| {
            for (lane, bytes) in lanes.iter().zip(outstanding) {
                lane.outstanding.store(bytes, Ordering::Relaxed);
            }
            let Route::Lane(found, _) = daemon.route(&tag("alice:api")) else {
                panic!("no lane");
            };
            assert_eq!(found.id, lanes[expected].id, "{outstanding:?}");
        };
        check([5, 4], 1);
        check([4, 5], 0);
        check([0, 0], 0);
    });
}
