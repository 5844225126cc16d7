//! The store on real files.

use std::os::unix::fs::PermissionsExt;

use super::rows::stored;
use super::*;
use crate::bastiond::principal::Principal;
use crate::bastiond::registry::Token;
use crate::protocol::audit::Used;

pub(super) const KEEP: Keep = Keep {
    age: 1000,
    bytes: 100_000,
};

fn sample(tag: &str, last_seen: u64) -> Record {
    Record {
        tag: Tag::parse(tag).unwrap(),
        token: Token::new("0123456789abcdef"),
        host: "laptop".to_owned(),
        version: "0.1.0".to_owned(),
        created: 1,
        held_since: 2,
        last_seen,
        used: Used::default(),
    }
}

fn open(file: &Path) -> Opened {
    Store::open(file, KEEP, 77).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn what_was_committed_is_there_after_an_abrupt_end() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sessions.redb");
    let first = open(&file);
    assert_eq!(first.records, []);
    let put = |tag, seen| Change::Put(sample(tag, seen));
    first
        .store
        .commit_now(vec![put("alice:api", 1), put("bob:web", 1)], 0)
        .unwrap();
    first.store.commit_now(vec![put("alice:api", 9)], 0).unwrap();
    first
        .store
        .commit_now(vec![Change::Forget(sample("bob:web", 0).tag)], 0)
        .unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // The image as `kill -9` leaves it: nothing is closed, nothing is flushed any more.
    let image = directory.path().join("image.redb");
    std::fs::copy(&file, &image).unwrap();
    let second = open(&image);
    assert_eq!(second.warnings, Vec::<String>::new());
    assert_eq!(second.records, [sample("alice:api", 9)]);
}

#[test]
fn names_and_files_of_older_daemons() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sessions.redb");
    // As a daemon wrote it that knew of sessions only.
    let old = create(file_backend(&file).unwrap_or_else(|_| panic!("no file"))).unwrap();
    let transaction = old.begin_write().unwrap();
    let record = sample("alice:api", 1);
    transaction
        .open_table(SESSIONS)
        .unwrap()
        .insert("alice:api", stored(&record).as_slice())
        .unwrap();
    transaction.commit().unwrap();
    drop(old);
    let first = open(&file);
    assert_eq!(
        (first.records, first.owners, first.warnings),
        (vec![record], Vec::new(), Vec::new())
    );
    let own = |user: &str| Owner {
        user: User::parse(user).unwrap(),
        principal: Principal::parse("arn:aws:iam::123456789012:user/alice").unwrap(),
        since: 5,
    };
    let both = vec![Change::Own(own("alice")), Change::Own(own("bob"))];
    first.store.commit_now(both, 0).unwrap();
    first.store.commit_now(vec![Change::Free(own("bob").user)], 0).unwrap();
    drop(first.store);
    assert_eq!(open(&file).owners, [own("alice")]);
}

#[test]
fn two_daemons_cannot_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sessions.redb");
    let first = open(&file);
    let second = Store::open(&file, KEEP, 0).err().map(|error| error.exit);
    assert_eq!(second, Some(Exit::Conflict));
    drop(first);
    open(&file);
}

#[test]
fn a_damaged_file_is_set_aside() {
    let check = |name: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sessions.redb");
        let first = open(&file);
        first.store.commit_now(vec![Change::Put(sample("alice:api", 1))], 0).unwrap();
        drop(first);
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        let second = open(&file);
        assert_eq!(second.records, [], "{name}");
        assert_eq!(second.warnings.len(), 1, "{name}: {:?}", second.warnings);
        let aside = directory.path().join("sessions.redb.damaged-77");
        assert_eq!(std::fs::read(aside).unwrap(), bytes, "{name}");
        second.store.commit_now(vec![Change::Put(sample("bob:web", 2))], 0).unwrap();
        drop(second);
        assert_eq!(open(&file).records, [sample("bob:web", 2)], "{name}");
    };
    check("another kind of file", &|bytes| *bytes = vec![b'x'; 5000]);
    check("a cut file", &|bytes| bytes.truncate(bytes.len() / 3));
    check("zeros behind the head", &|bytes| bytes[512..].fill(0));
    check("a few flipped bytes", &|bytes| {
        for byte in bytes[4096..].iter_mut().step_by(97) {
            *byte ^= 0x55;
        }
    });
}

#[test]
fn no_damage_ends_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sessions.redb");
    let first = open(&file);
    for number in 0..40 {
        let record = sample(&format!("alice:s{number}"), number);
        first.store.commit_now(vec![Change::Put(record)], 0).unwrap();
    }
    drop(first);
    let whole = std::fs::read(&file).unwrap();
    // A fixed walk over the file stands for chance: each round spoils one other place in another way.
    for round in 0..60_usize {
        let mut bytes = whole.clone();
        let place = (round * 7919) % 40_000 % bytes.len();
        bytes[place] ^= u8::try_from(round % 255 + 1).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        // Opening works, with or without what was there; it must not panic.
        drop(open(&file));
    }
}

fn note(user: &str, time: u64) -> Change {
    let entry = crate::bastiond::audit::entry(
        crate::protocol::audit::Happened::Claimed,
        user,
        None,
        crate::bastiond::audit::Actor::default(),
        time,
    );
    Change::Note(entry)
}

fn page(store: &Store, query: &Query) -> AuditPage {
    let slot = store.open.lock().unwrap();
    let transaction = slot.as_ref().unwrap().database.begin_read().unwrap();
    audit::page(&transaction, query).unwrap()
}

#[test]
fn the_audit_is_kept_within_its_limits_and_its_numbers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sessions.redb");
    let first = open(&file).store;
    for time in 0..3000 {
        first.commit_now(vec![note("alice", time), note("bob", time)], time).unwrap();
    }
    let all = page(&first, &Query::default());
    let numbers: Vec<u64> = all.entries.iter().map(|entry| entry.number).collect();
    assert!(numbers.is_sorted() && numbers.last() == Some(&6000), "{:?}", numbers.last());
    let bytes: usize = all
        .entries
        .iter()
        .map(|entry| serde_json::to_vec(entry).unwrap().len() + 32)
        .sum();
    assert!((90_000..=100_000).contains(&bytes), "{bytes}");
    assert!(all.entries.iter().all(|entry| entry.time + 1000 >= 2999), "too old");
    let since = page(
        &first,
        &Query {
            since: 2998,
            user: Some("bob".to_owned()),
            after: 0,
        },
    );
    assert_eq!(
        since.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(),
        [5998, 6000]
    );
    drop(first);
    let length = std::fs::metadata(&file).unwrap().len();
    assert!(length < 4 * 1024 * 1024, "{length} bytes for 100,000 of entries");
    // Nothing happens for long: all but the last go, and its number is not given again.
    let second = open(&file).store;
    let emptied = second.commit_now(vec![note("carol", 9000)], 9000).unwrap();
    assert_eq!(emptied[0].number, 6001);
    while rt::block_on(second.trim(9000)).unwrap().unwrap() {}
    assert_eq!(page(&second, &Query::default()).entries, emptied);
    drop(second);
    let third = open(&file).store;
    while rt::block_on(third.trim(90_000)).unwrap().unwrap() {}
    assert_eq!(third.commit_now(vec![note("carol", 90_000)], 90_000).unwrap()[0].number, 6002);
}

#[test]
fn the_audit_comes_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(
        &directory.path().join("s.redb"),
        Keep {
            age: 1000,
            bytes: 1 << 20,
        },
        0,
    )
    .unwrap_or_else(|why| panic!("{why}"))
    .store;
    store.commit_now((0..4001).map(|_| note("alice", 1)).collect(), 1).unwrap();
    let mut query = Query::default();
    let mut sizes = Vec::new();
    loop {
        let found = page(&store, &query);
        sizes.push(found.entries.len());
        match found.next {
            Some(next) => query.after = next,
            None => break,
        }
    }
    assert_eq!(sizes, [2000, 2000, 1]);
}
