//! Years of changes: the file stays small, and holds what it should.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Change, Keep, Store};
use crate::bastiond::principal::Principal;
use crate::bastiond::registry::{Record, Token};
use crate::bastiond::users::Owner;
use crate::name::{Tag, User};
use crate::protocol::audit::{Entry, Happened, Used};

/// How many changes are made, unless the variable says more: `EPHEMWORK_TEST_CHANGES=1000000 cargo test a_million_changes`.
const CHANGES: u64 = 20_000;
const VARIABLE: &str = "EPHEMWORK_TEST_CHANGES";

/// Sessions at a time, at most: a thousand laptops with one service, or 250 with four.
const SESSIONS: u64 = 1000;

/// Names that belong to somebody, at most.
const OWNERS: u64 = 250;

/// What the audit keeps.
const KEEP: Keep = Keep {
    age: 90 * 24 * 3600,
    bytes: 2 * 1024 * 1024,
};

/// What the file may have at any time, in bytes: a thousand sessions and their owners, 300 KiB of keys and values, and the audit; redb
/// has pages of two generations.
const MOST: u64 = 1024 * 1024 + 3 * KEEP.bytes;

/// How often the size is looked at, and how often the file is opened anew, in changes.
const LOOK_EVERY: u64 = 500;
const OPEN_EVERY: u64 = 100_000;

fn open(file: &Path) -> super::Opened {
    Store::open(file, KEEP, 0).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long a test runs is said from outside")]
fn a_million_changes_leave_a_small_file() {
    let changes = std::env::var(VARIABLE).map_or(CHANGES, |text| text.parse().unwrap());
    // What is measured is the size, and each change waits for its disk: one of memory makes the million possible.
    let memory = Path::new("/dev/shm");
    let directory = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let file = directory.path().join("sessions.redb");
    let mut opened = open(&file);
    let (mut sessions, mut owners) = (BTreeMap::new(), BTreeMap::new());
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance >> 16) % end
    };
    let mut largest = 0;
    for number in 0..changes {
        let who = below(SESSIONS);
        let tag = Tag::parse(&format!("user{}:service-{}", who / 4, who % 4)).unwrap();
        let user = User::parse(&format!("user{}", below(OWNERS))).unwrap();
        let change = match below(20) {
            0..=2 => {
                sessions.remove(&tag.to_string());
                Change::Forget(tag)
            }
            3 => {
                owners.remove(user.as_str());
                Change::Free(user)
            }
            4 => {
                let arn = format!(
                    "arn:aws:sts::123456789012:assumed-role/Developer/{}@example.com",
                    user.as_str()
                );
                let owner = Owner {
                    user,
                    principal: Principal::parse(&arn).unwrap(),
                    since: number,
                };
                owners.insert(owner.user.as_str().to_owned(), owner.clone());
                Change::Own(owner)
            }
            // A claim, or that its laptop was seen.
            _ => {
                let record = Record {
                    token: Token::new(format!("{number:032x}")),
                    host: "laptop-".repeat(1 + below(8) as usize),
                    version: "ephemwork 0.1.0 (0123456789ab)".to_owned(),
                    created: number / 2,
                    held_since: number / 2,
                    last_seen: number,
                    used: Used::default(),
                    tag,
                };
                sessions.insert(record.tag.to_string(), record.clone());
                Change::Put(record)
            }
        };
        let entry = Entry {
            number: 0,
            time: number,
            event: Happened::Claimed,
            user: format!("user{}", who / 4),
            service: Some(format!("service-{}", who % 4)),
            principal: Some("arn:aws:sts::123456789012:assumed-role/Developer/user@example.com".to_owned()),
            host: Some("laptop".to_owned()),
            transport: Some("ssm".to_owned()),
            address: Some("10.0.0.1:40000".to_owned()),
            from: None,
            used: None,
            why: None,
            times: 1,
        };
        opened.store.commit_now(vec![change, Change::Note(entry)], number).unwrap();
        if number % LOOK_EVERY == 0 {
            largest = largest.max(std::fs::metadata(&file).unwrap().len());
            assert!(largest <= MOST, "{largest} bytes after {number} changes");
        }
        if number % OPEN_EVERY == OPEN_EVERY - 1 || number == changes - 1 {
            // As the daemon is started again.
            drop(opened);
            opened = open(&file);
            assert_eq!(opened.warnings, Vec::<String>::new());
            let kept: BTreeMap<_, _> = opened.records.iter().map(|one| (one.tag.to_string(), one.clone())).collect();
            assert_eq!(kept, sessions, "after {number} changes");
            let kept: BTreeMap<_, _> = opened
                .owners
                .iter()
                .map(|one| (one.user.as_str().to_owned(), one.clone()))
                .collect();
            assert_eq!(kept, owners, "after {number} changes");
        }
    }
    let size = std::fs::metadata(&file).unwrap().len();
    println!(
        "{changes} changes: {size} bytes at the end, {largest} at most, {} sessions",
        sessions.len()
    );
}
