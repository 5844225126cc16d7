//! The mark of what a service's commands start: a variable that every descendant inherits, also one that leaves its process
//! group, its session and its parent (`setsid`, a daemon that forks twice).
//!
//! It says by itself whose it is, so that the next `ephemwork` finds what a killed `up` left running without any record. A program
//! that clears its environment, or overwrites it to change its title, is found by its process group only.

use std::path::Path;

use super::home::{Home, hash};
use super::note::Stage;
use super::system::{self, Marked, Process};
use crate::name::Service;

/// The variable.
pub(crate) const NAME: &str = "EPHEMWORK_GROUP";

/// The form of the value; another version's marks are left alone.
const FORM: &str = "1";

/// Which commands of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `bootstrap_command` and `build_command`. What leaves their group (a database) stays as long as the service.
    Prepare,
    /// `run_command`. Nothing of it stays when it has ended.
    Run,
}

impl Part {
    pub(crate) fn of(stage: Stage) -> Part {
        match stage {
            Stage::Bootstrap | Stage::Build => Part::Prepare,
            Stage::Run => Part::Run,
        }
    }
}

/// One service in one run of `up`: its value but for the part.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    place: u64,
    owner: Process,
    run: String,
    service: Service,
}

impl Marks {
    /// For a service of this process. No other ever has the same.
    pub(crate) fn new(home: &Home, service: &Service) -> Marks {
        let mut run = [0u8; 8];
        // Without randomness the process and the service still tell it apart.
        getrandom::fill(&mut run).ok();
        Marks {
            place: place(home),
            owner: Process::own(),
            run: run.iter().map(|byte| format!("{byte:02x}")).collect(),
            service: service.clone(),
        }
    }

    /// The variable's value for a part's commands.
    pub(crate) fn value(&self, part: Part) -> String {
        let part = match part {
            Part::Prepare => "prepare",
            Part::Run => "run",
        };
        let Marks {
            place,
            owner,
            run,
            service,
        } = self;
        let birth = hash(owner.birth.as_bytes());
        format!("{FORM}/{place:016x}/{}/{birth:016x}/{run}/{part}/{service}", owner.pid)
    }
}

/// A mark as it is found on a process.
#[derive(Debug, PartialEq, Eq)]
struct Found<'a> {
    place: u64,
    pid: u32,
    birth: u64,
    service: &'a str,
}

fn parse(value: &str) -> Option<Found<'_>> {
    let mut parts = value.splitn(7, '/');
    let form = parts.next()?;
    let place = u64::from_str_radix(parts.next()?, 16).ok()?;
    let pid = parts.next()?.parse().ok()?;
    let birth = u64::from_str_radix(parts.next()?, 16).ok()?;
    let (_run, _part, service) = (parts.next()?, parts.next()?, parts.next()?);
    (form == FORM && Service::parse(service).is_ok()).then_some(Found {
        place,
        pid,
        birth,
        service,
    })
}

/// Everything that carries exactly this value. Blocks for some milliseconds.
pub(crate) fn carriers(value: &str) -> Vec<Marked> {
    system::marked(NAME, &|found| found == value)
}

/// Everything that an `up` of this home started that lives no more, with the names of the services. Blocks for some milliseconds.
pub(crate) fn orphans(home: &Home) -> Vec<(Marked, String)> {
    let place = place(home);
    let orphaned = |value: &str| {
        let Some(found) = parse(value) else { return false };
        let same = |owner: Process| hash(owner.birth.as_bytes()) == found.birth;
        found.place == place && !Process::of(found.pid).is_some_and(same)
    };
    let found = system::marked(NAME, &orphaned).into_iter();
    let named = |marked: Marked| {
        let service = parse(&marked.value)?.service.to_owned();
        Some((marked, service))
    };
    found.filter_map(named).collect()
}

/// This home as this system counts its processes: in a container the same number is another process.
fn place(home: &Home) -> u64 {
    let root = std::fs::canonicalize(home.root()).unwrap_or_else(|_| home.root().to_owned());
    let numbers = std::fs::read_link(Path::new("/proc/self/ns/pid")).unwrap_or_default();
    hash(
        [root.as_os_str().as_encoded_bytes(), numbers.as_os_str().as_encoded_bytes()]
            .join(&0)
            .as_slice(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |value: &str, expected: Option<(u64, u32, u64, &str)>| {
            let found = parse(value).map(|found| (found.place, found.pid, found.birth, found.service));
            assert_eq!(found, expected, "{value}");
        };
        let owner = Process {
            pid: 7,
            birth: "boot/1".into(),
        };
        let marks = Marks {
            place: 0xab,
            owner: owner.clone(),
            run: "00ff".into(),
            service: Service::parse("front-end.v2").unwrap(),
        };
        let birth = hash(b"boot/1");
        check(&marks.value(Part::Run), Some((0xab, 7, birth, "front-end.v2")));
        assert_ne!(marks.value(Part::Run), marks.value(Part::Prepare));
        check("", None);
        check("00112233445566778899aabb", None);
        check("2/ab/7/1/00/run/api", None);
        check("1/ab/7/1/00/run/", None);
        check("1/ab/7/1/00/run/a b", None);
        check("1/ab/seven/1/00/run/api", None);
    }
}
