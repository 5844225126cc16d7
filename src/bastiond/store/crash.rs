//! The process is killed at every step of its disk, and the disk keeps of what was not synced all, nothing, or any sectors of it.
//!
//! What must hold: the file opens without repair by hand, shows the state after some beginning of the history that has all that was
//! acknowledged, and takes what comes next.

use std::fmt;
use std::path::PathBuf;

use super::*;
use crate::bastiond::audit::{self, Actor};
use crate::bastiond::principal::Principal;
use crate::bastiond::registry::Token;
use crate::protocol::audit::{Happened, Used};

/// Rounds of chance for each place of the crash: few here; `EPHEMWORK_CRASHES=50` when the tests are compiled makes the long form.
const ROUNDS: Option<&str> = option_env!("EPHEMWORK_CRASHES");

/// So small that old entries go while the history runs.
const KEEP: Keep = Keep { age: 1000, bytes: 1500 };

/// What a disk writes at once: an old one, and a usual one.
const SECTORS: [usize; 2] = [512, 4096];

#[derive(Clone)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Clone, Default)]
struct Platter {
    /// What survives whatever happens.
    synced: Vec<u8>,
    /// What was asked for since, in order.
    since: Vec<Write>,
    /// What the process sees: all of it.
    seen: Vec<u8>,
    /// Steps until the end; a step is a write, a change of the length or a sync.
    left: Option<u64>,
    steps: u64,
    /// It says that it synced, and did not.
    lies: bool,
}

#[derive(Clone)]
enum Write {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Write {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Write::Length(length) => image.resize(*length, 0),
            Write::Bytes(at, bytes) => {
                let end = at + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*at..end].copy_from_slice(bytes);
            }
        }
    }

    /// The sectors of it that `reaches` names.
    fn torn(&self, sector: usize, image: &mut Vec<u8>, mut reaches: impl FnMut() -> bool) {
        let Write::Bytes(at, bytes) = self else {
            return if reaches() {
                self.apply(image)
            };
        };
        let mut at = *at;
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((sector - at % sector).min(bytes.len()));
            if reaches() {
                Write::Bytes(at, piece.to_vec()).apply(image);
            }
            at += piece.len();
            bytes = rest;
        }
    }
}

impl Disk {
    fn of(image: Vec<u8>, left: Option<u64>) -> Disk {
        Disk(Arc::new(Mutex::new(Platter {
            synced: image.clone(),
            seen: image,
            left,
            ..Platter::default()
        })))
    }

    fn platter(&self) -> std::sync::MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// One step, in the middle of which the process may end: the last write is on its way then.
    fn step(&self, write: Option<Write>) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.left == Some(0) {
            return Err(io::Error::other("the process is dead"));
        }
        platter.steps += 1;
        if let Some(left) = &mut platter.left {
            *left -= 1;
        }
        let dies = platter.left == Some(0);
        match write {
            Some(write) => {
                write.apply(&mut platter.seen);
                platter.since.push(write);
            }
            // Whether a sync that nobody lives to see was done is chance.
            None if dies || platter.lies => {}
            None => {
                platter.since.clear();
                platter.synced = platter.seen.clone();
            }
        }
        if dies {
            return Err(io::Error::other("the process dies"));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        let at = usize::try_from(offset).unwrap();
        let found = platter.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.step(Some(Write::Length(usize::try_from(length).unwrap())))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step(None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(Some(Write::Bytes(usize::try_from(offset).unwrap(), data.to_vec())))
    }
}

/// What the store holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    records: Vec<Record>,
    owners: Vec<Owner>,
    audit: Vec<Entry>,
}

fn open(disk: Disk) -> Result<(Store, Held), String> {
    let mut warnings = Vec::new();
    let (open, kept) = match read(disk, &mut warnings) {
        Ok(found) => found,
        Err(Failure::Damaged(why) | Failure::System(why)) => return Err(why),
        Err(Failure::Taken) => return Err("taken".to_owned()),
    };
    assert_eq!(warnings, Vec::<String>::new());
    let page = {
        let transaction = open.database.begin_read().unwrap();
        super::audit::page(&transaction, &Query::default()).unwrap()
    };
    let held = Held {
        records: kept.records,
        owners: kept.owners,
        audit: page.entries,
    };
    let store = Store {
        file: PathBuf::new(),
        keep: KEEP,
        open: Arc::new(Mutex::new(Some(open))),
    };
    Ok((store, held))
}

#[derive(Clone)]
enum Step {
    Commit(Vec<Change>),
    Compact,
}

/// Claims, returns, takeovers and ends of sessions, names given and freed, as a daemon commits them.
fn history() -> Vec<Step> {
    let record = |tag: &str, host: &str, seen: u64| Record {
        tag: Tag::parse(tag).unwrap(),
        token: Token::new(format!("{host}-{seen}")),
        host: host.to_owned(),
        version: "1".to_owned(),
        created: 1,
        held_since: seen,
        last_seen: seen,
        used: Used::default(),
    };
    let note = |event, user: &str, now| Change::Note(audit::entry(event, user, Some("api"), Actor::default(), now));
    let owner = |user: &str| Owner {
        user: User::parse(user).unwrap(),
        principal: Principal::parse("arn:aws:iam::123456789012:user/alice").unwrap(),
        since: 5,
    };
    let mut steps = Vec::new();
    for round in 0..4 {
        let now = 10 * round;
        let (alice, bob) = (format!("alice:s{round}"), format!("bob:s{round}"));
        steps.extend([
            Step::Commit(vec![Change::Own(owner("alice")), note(Happened::NameGiven, "alice", now)]),
            Step::Commit(vec![
                Change::Put(record(&alice, "desk", now)),
                note(Happened::Claimed, "alice", now),
            ]),
            Step::Commit(vec![
                Change::Put(record(&bob, "sofa", now)),
                note(Happened::Claimed, "bob", now),
            ]),
            Step::Commit(vec![
                Change::Put(record(&alice, "sofa", now + 1)),
                note(Happened::TookOver, "alice", now + 1),
            ]),
            Step::Commit(vec![note(Happened::Refused, "bob", now + 2)]),
            Step::Commit(vec![
                Change::Forget(Tag::parse(&bob).unwrap()),
                note(Happened::Released, "bob", now + 3),
                Change::Free(User::parse("alice").unwrap()),
                note(Happened::NameFreed, "alice", now + 3),
            ]),
            Step::Compact,
        ]);
    }
    steps
}

fn take(store: &Store, step: &Step) -> Result<(), String> {
    match step {
        Step::Commit(changes) => store.commit_now(changes.clone(), 50).map(drop),
        Step::Compact => store.with(|open| match open.database.compact() {
            Ok(_) => Ok(()),
            Err(CompactionError::Storage(why)) => Err(why.into()),
            Err(other) => panic!("{other}"),
        }),
    }
}

/// The state after each beginning of the history, and the steps of the disk that all of it takes.
fn healthy(steps: &[Step]) -> (Vec<Held>, u64) {
    let disk = Disk::of(Vec::new(), None);
    let (store, first) = open(disk.clone()).unwrap();
    let mut states = vec![first];
    for step in steps {
        take(&store, step).unwrap();
        let image = disk.platter().seen.clone();
        states.push(open(Disk::of(image, None)).unwrap().1);
    }
    let taken = disk.platter().steps;
    (states, taken)
}

/// A fixed walk that stands for chance (xorshift, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What may be on the disk after the process died.
fn images(platter: &Platter, rounds: u64, seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut images = vec![
        ("nothing unsynced".to_owned(), platter.synced.clone()),
        ("all".to_owned(), platter.seen.clone()),
    ];
    for sector in SECTORS {
        // The last write broke off in its middle, all before it arrived.
        if let Some((last, before)) = platter.since.split_last() {
            let mut image = platter.synced.clone();
            before.iter().for_each(|write| write.apply(&mut image));
            let mut first = true;
            last.torn(sector, &mut image, || std::mem::replace(&mut first, false));
            images.push((format!("the last write torn at {sector}"), image));
        }
        for round in 0..rounds {
            let mut chance = Chance(seed * 7919 + round * 104_729 + sector as u64 + 1);
            let mut image = platter.synced.clone();
            for write in &platter.since {
                write.torn(sector, &mut image, || chance.next().is_multiple_of(2));
            }
            images.push((format!("some sectors of {sector}, round {round}"), image));
        }
    }
    images
}

/// Kills the process at one step of its disk; the images that were looked at, or what was wrong with one of them.
fn killed(steps: &[Step], states: &[Held], disk: Disk, crash: u64, rounds: u64) -> Result<u64, String> {
    let mut acknowledged = None;
    if let Ok((store, _)) = open(disk.clone()) {
        acknowledged = Some(0);
        for step in steps {
            if take(&store, step).is_err() {
                break;
            }
            acknowledged = acknowledged.map(|count| count + 1);
        }
        // What a daemon's end writes does not reach the disk any more.
        drop(store);
    }
    let platter = disk.platter().clone();
    assert_eq!(platter.left, Some(0), "the process outlived step {crash}");
    let mut reopened = 0;
    for (what, image) in images(&platter, rounds, crash) {
        let about = format!("killed at step {crash} after {acknowledged:?} changes; on the disk: {what}");
        let disk = Disk::of(image, None);
        let (store, found) = match (open(disk.clone()), acknowledged) {
            (Ok(opened), _) => opened,
            // It was being made: there is nothing in it that anybody was told of, and it is set aside.
            (Err(_), None) => continue,
            (Err(why), Some(_)) => return Err(format!("{about}: {why}")),
        };
        let least = acknowledged.unwrap_or(0);
        let place = (least..=least + 1).find(|&count| states.get(count) == Some(&found));
        let place = place.ok_or_else(|| format!("{about}: {found:#?}"))?;
        // And it goes on where it was.
        if let Some(step) = steps.get(place) {
            take(&store, step).map_err(|why| format!("{about}: {why}"))?;
            drop(store);
            let image = disk.platter().seen.clone();
            let (_, after) = open(Disk::of(image, None)).map_err(|why| format!("{about}: {why}"))?;
            if after != states[place + 1] {
                return Err(format!("{about}: and then {after:#?}"));
            }
        }
        reopened += 1;
    }
    Ok(reopened)
}

#[test]
fn killed_at_every_step_nothing_acknowledged_is_lost() {
    // Each place of the crash by itself is some milliseconds; there are hundreds.
    let rounds = ROUNDS.and_then(|text| text.parse().ok()).unwrap_or(1);
    let steps = history();
    let (states, all) = healthy(&steps);
    assert!(all > 100, "{all} steps");
    let mut reopened = 0;
    for crash in 1..=all {
        let disk = Disk::of(Vec::new(), Some(crash));
        reopened += killed(&steps, &states, disk, crash, rounds).unwrap_or_else(|why| panic!("{why}"));
    }
    assert!(reopened > all, "{reopened} images of {all} steps");
    println!("{all} steps, {reopened} images");
}

/// The test can fail: on a disk that says that it synced and did not, something that was acknowledged is lost.
#[test]
fn a_disk_that_lies_is_found_out() {
    let steps = history();
    let (states, all) = healthy(&steps);
    let lying = |crash: u64| {
        let disk = Disk::of(Vec::new(), Some(crash));
        disk.platter().lies = true;
        disk
    };
    let lost = (1..=all)
        .rev()
        .find_map(|crash| killed(&steps, &states, lying(crash), crash, 0).err());
    assert!(lost.is_some_and(|why| why.contains("nothing unsynced")));
}
