//! Whole sessions in virtual time; the streams are compared byte for byte.

use std::panic::catch_unwind;
use std::time::Duration;

use super::agent::Habits;
use super::settings;
use super::world::{Cut, Random, Way, World};
use crate::ssm::{Event, Settings};

const MS: Duration = Duration::from_millis(1);
/// In virtual time. The agent recovers ten messages a second.
const LIMIT: Duration = Duration::from_secs(900);

fn bytes(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.next() as u8).collect()
}

/// One session to its end. Both streams arrive whole, and the session ends as one that the client ended.
fn session(seed: u64, settings: Settings, habits: Habits, way: Way, up: usize, down: usize) -> World {
    let mut random = Random(!seed);
    let (up, down) = (bytes(&mut random, up), bytes(&mut random, down));
    let mut world = World::new(seed, settings, habits, way, &up, &down);
    if let Err(why) = world.run(LIMIT) {
        panic!("seed {seed}: {why}");
    }
    assert!(world.agent.input == up, "seed {seed}: what the agent got differs: {world:?}");
    assert!(world.received == down, "seed {seed}: what the client got differs: {world:?}");
    let end = Event::Closed { output: String::new() };
    assert_eq!(world.events.last(), Some(&end), "seed {seed}: {world:?}");
    let ready = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::Ready { .. }))
        .count();
    assert_eq!(ready, 1, "seed {seed}: {world:?}");
    world
}

/// A schedule of everything that can happen, from a seed.
fn schedule(seed: u64) {
    let mut random = Random(seed);
    let (lossy, doubling, damaging, jittery) = (random.one_of(2), random.one_of(3), random.one_of(3), random.one_of(2));
    let (tells, cutting, limited) = (!random.one_of(4), random.one_of(2), random.one_of(6));
    let (unread, slow) = (random.one_of(8), random.one_of(6));
    let mut settings = settings(128 + random.below(256) as usize);
    settings.window_messages = 1 + random.below(32) as usize;
    settings.staged_bytes = 1 + random.below(2048) as usize;
    settings.ahead_messages = 2 + random.below(64) as usize;
    settings.first_ack = LIMIT;
    settings.handshake = LIMIT;
    let mut way = Way {
        latency: MS * random.below(50) as u32,
        jitter: MS * if jittery { random.below(80) as u32 } else { 0 },
        lost: if lossy { random.below(250) } else { 0 },
        doubled: if doubling { random.below(300) } else { 0 },
        damaged: if damaging { random.below(150) } else { 0 },
        tells,
        ..Way::default()
    };
    if cutting {
        way.cuts = (0..1 + random.below(5)).map(|_| cut(&mut random)).collect();
    }
    if limited {
        // In order and on one way: that is how the gateway finds what is too large.
        settings.payload = 2048;
        (way.limit, way.jitter) = (Some(1024 + random.below(1200) as usize), Duration::ZERO);
    }
    if unread {
        way.unread_until = MS * random.below(3000) as u32;
        settings.inbox_bytes = 1 + random.below(1000) as usize;
    }
    let habits = Habits {
        chunk: 1 + random.below(300) as usize,
        dial: MS * random.below(120) as u32,
        writing: if slow { MS * random.below(40) as u32 } else { Duration::ZERO },
        ..Habits::default()
    };
    let (up, down) = (
        random.below(3000) as usize,
        random.below(8 * habits.chunk as u64 + 1) as usize,
    );
    session(seed, settings, habits, way, up, down);
}

fn cut(random: &mut Random) -> Cut {
    let (client, agent) = [(true, false), (false, true), (true, true)][random.below(3) as usize];
    Cut {
        message: random.below(60),
        client,
        agent,
        gone: MS * random.below(6000) as u32,
    }
}

#[test]
fn ten_thousand_schedules() {
    for seed in 0..10_000 {
        if catch_unwind(|| schedule(seed)).is_err() {
            panic!("the schedule of seed {seed} fails, see above");
        }
    }
}

/// Nothing goes wrong; `messages` is how many came to either side.
fn quiet(latency: Duration) -> (Way, World) {
    let way = Way {
        latency,
        tells: true,
        ..Way::default()
    };
    let world = session(1, settings(256), Habits::default(), way.clone(), 3000, 3000);
    (way, world)
}

#[test]
fn without_faults_nothing_is_sent_twice() {
    for latency in [0, 20, 45] {
        let habits = Habits {
            dial: Duration::ZERO,
            ..Habits::default()
        };
        let way = Way {
            latency: latency * MS,
            tells: true,
            ..Way::default()
        };
        // The first data is sent again early when the way is long; all other messages once.
        let world = session(1, settings(256), habits, way, 300_000, 30_000);
        let counters = world.client.counters();
        assert!(
            counters.retransmitted <= if latency > 15 { 300 } else { 0 },
            "{latency}: {counters:?}"
        );
        assert_eq!(
            (counters.duplicates, counters.dropped, counters.damaged),
            (0, 0, 0),
            "{counters:?}"
        );
        assert_eq!(world.agent.resent, 0);
    }
}

#[test]
fn cut_at_every_message_of_a_session() {
    let (way, whole) = quiet(20 * MS);
    let count = whole.delivered();
    assert!(count >= 40, "{count}");
    for message in 0..count {
        for (client, agent) in [(true, false), (false, true), (true, true)] {
            for tells in [true, false] {
                let cut = Cut {
                    message,
                    client,
                    agent,
                    gone: 100 * MS,
                };
                let way = Way {
                    cuts: vec![cut],
                    tells,
                    ..way.clone()
                };
                session(message, settings(256), Habits::default(), way, 3000, 3000);
            }
        }
    }
}

#[test]
fn the_first_data_does_not_wait_for_a_timeout_when_the_port_is_slow() {
    for dial in [5, 25, 45, 100] {
        let habits = Habits {
            dial: dial * MS,
            ..Habits::default()
        };
        let way = Way {
            latency: MS,
            ..Way::default()
        };
        let mut world = World::new(1, settings(1024), habits, way, b"SSH-2.0", b"");
        world.ends = false;
        world.run(LIMIT).unwrap();
        // The handshake takes two round trips and the agent's arrival; at most as long as connecting took it waits once more.
        assert!(world.now <= MS * (12 + 2 * dial + 30), "{dial}: {:?}", world.now);
    }
}

#[test]
fn what_a_cut_lost_is_sent_again_at_once() {
    // 200 messages are on their way when the agent's side is cut off for 300 ms: not the 20 s that one in 100 ms would take.
    let cut = Cut {
        message: 300,
        client: false,
        agent: true,
        gone: 300 * MS,
    };
    for tells in [true, false] {
        let way = Way {
            latency: 20 * MS,
            cuts: vec![cut.clone()],
            tells,
            ..Way::default()
        };
        let mut world = World::new(1, settings(256), Habits::default(), way, &[b'x'; 200_000], b"");
        world.ends = false;
        world.run(Duration::from_secs(3)).unwrap();
        assert!(world.client.counters().retransmitted >= 100, "{:?}", world.client.counters());
    }
}

#[test]
fn as_fast_as_the_way_and_not_more() {
    let run = |payload: usize, uplink: u64, megabytes: usize| {
        let way = Way {
            latency: 20 * MS,
            uplink,
            tells: true,
            ..Way::default()
        };
        let sent = vec![b'x'; megabytes * 1_000_000];
        let mut world = World::new(1, settings(payload), Habits::default(), way, &sent, b"");
        world.ends = false;
        world.run(LIMIT).unwrap();
        assert_eq!(world.agent.input.len(), sent.len());
        (sent.len() as f64 / 1e6 / world.now.as_secs_f64(), world)
    };
    let (fast, _) = run(1024, 0, 8);
    assert!(fast >= 12.0, "{fast} MB/s with payloads of 1 KiB and a round trip of 40 ms");
    let (fast, _) = run(16 * 1024, 0, 30);
    assert!(fast >= 30.0, "{fast} MB/s with payloads of 16 KiB");
    // 8 Mbit/s, which is 1 MB/s with the headers: it is used, and what is behind it waits for little more than a tenth of a second.
    let (slow, world) = run(1024, 1_000_000, 3);
    assert!((0.8..0.9).contains(&slow), "{slow} MB/s");
    assert!(world.queued < 150 * MS, "{:?}", world.queued);
    let retransmitted = world.client.counters().retransmitted;
    assert!(retransmitted < 70, "{retransmitted}");
}

#[test]
fn an_agent_that_writes_slowly_is_not_flooded() {
    let habits = Habits {
        writing: 20 * MS,
        ..Habits::default()
    };
    let way = Way {
        latency: 5 * MS,
        ..Way::default()
    };
    let world = session(3, settings(256), habits, way, 50_000, 5_000);
    let counters = world.client.counters();
    assert!(counters.retransmitted < counters.sent / 2, "{counters:?}");
}
