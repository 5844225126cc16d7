//! The faults, and how each is put on a world.

mod way;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::client::now;
use crate::process;
use crate::report::{Goal, Row, Struck};
use crate::space::{ELSEWHERE, Host, LAPTOP};
use crate::world::{self, READY, World};
use crate::{pause, until};
use way::{alone, blackhole, blackhole_amid_downloads, far, firewall, lasting_mtu, mtu, slow};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// In each run of the tests.
    Short,
    /// By `cargo xtask bench faults`.
    Full,
    /// With EPHEMWORK_NET_LONG=1: minutes each.
    Long,
}

/// One of them.
pub struct Fault {
    /// As in the table.
    pub name: &'static str,
    /// It is part of this form and longer ones.
    pub form: Form,
    pub goal: Goal,
    /// Both programs' clocks must be able to differ from the machine's.
    pub clock: bool,
    strike: fn(&mut World) -> Result<Struck, String>,
}

const NO_GOAL: Goal = Goal {
    next: None,
    failed: None,
    found: None,
    surely: None,
    tries: None,
};

const fn goal(next_ms: u64, failed: usize) -> Goal {
    Goal {
        next: Some(Duration::from_millis(next_ms)),
        failed: Some(failed),
        ..NO_GOAL
    }
}

const NONE_FAILED: Goal = Goal {
    failed: Some(0),
    ..NO_GOAL
};

const FOUND: Goal = Goal {
    found: Some(Duration::from_secs(10)),
    ..NO_GOAL
};

/// The laptop must not have waited for its next sign of life, which is 3 s after what it heard last.
const FORGOTTEN: Goal = Goal {
    surely: Some(Duration::from_secs(2)),
    ..goal(300, 0)
};

/// It is found by silence, and then must be no obstacle any more.
const MENDED: Goal = Goal {
    next: Some(Duration::from_secs(10)),
    surely: Some(Duration::from_secs(15)),
    ..NO_GOAL
};

/// Besides, it must not matter how long it took: who is away goes on trying, at a pace.
const SOON_BACK: Goal = Goal {
    next: Some(Duration::from_secs(2)),
    surely: Some(Duration::from_secs(4)),
    tries: Some(Duration::from_millis(1500)),
    ..FOUND
};

const ALONE: Goal = Goal {
    next: Some(Duration::from_secs(3)),
    ..FOUND
};

const AWAKE: Goal = Goal {
    next: Some(Duration::from_secs(2)),
    ..NO_GOAL
};

const SOON: Goal = Goal {
    next: Some(Duration::from_secs(1)),
    ..NO_GOAL
};

const fn fault(name: &'static str, form: Form, goal: Goal, strike: fn(&mut World) -> Result<Struck, String>) -> Fault {
    Fault {
        name,
        form,
        goal,
        clock: false,
        strike,
    }
}

const fn clock(name: &'static str, strike: fn(&mut World) -> Result<Struck, String>) -> Fault {
    Fault {
        clock: true,
        ..fault(name, Form::Short, NONE_FAILED, strike)
    }
}

/// All of them, in the order in which they are put on.
pub const FAULTS: &[Fault] = &[
    fault("bastiond killed (-9), started again", Form::Short, goal(1000, 0), |world| {
        let daemon = world.daemon()?;
        once(|| {
            process::signal_to(daemon, Signal::KILL);
            Ok(())
        })
    }),
    fault(
        "bastiond drained (SIGTERM), started again",
        Form::Short,
        goal(1000, 0),
        |world| {
            let daemon = world.daemon()?;
            once(|| {
                process::signal_to(daemon, Signal::TERM);
                Ok(())
            })
        },
    ),
    fault("the laptop's connection reset", Form::Short, goal(300, 0), |world| {
        once(|| reset(world, Host::Laptop))
    }),
    fault("the bastion's connection reset", Form::Short, goal(300, 0), |world| {
        once(|| reset(world, Host::Bastion))
    }),
    fault("a firewall forgets the connection", Form::Short, FORGOTTEN, firewall),
    fault("5 s without packets to the bastion", Form::Full, NONE_FAILED, |world| {
        blackhole(world, "to-laptop", 5)
    }),
    fault("5 s without packets to the laptop", Form::Short, NONE_FAILED, |world| {
        blackhole(world, "to-bastion", 5)
    }),
    fault("15 s without packets to the laptop", Form::Short, FOUND, |world| {
        blackhole(world, "to-bastion", 15)
    }),
    fault(
        "15 s without packets to the laptop, amid downloads",
        Form::Short,
        FOUND,
        |world| blackhole_amid_downloads(world, 15),
    ),
    fault("30 s without packets to the bastion", Form::Full, SOON_BACK, |world| {
        blackhole(world, "to-laptop", 30)
    }),
    fault("30 s without packets to the laptop", Form::Full, SOON_BACK, |world| {
        blackhole(world, "to-bastion", 30)
    }),
    fault("35 s without packets to the laptop", Form::Short, SOON_BACK, |world| {
        blackhole(world, "to-bastion", 35)
    }),
    fault("5 min without packets to the bastion", Form::Long, SOON_BACK, |world| {
        blackhole(world, "to-laptop", 300)
    }),
    fault("5 min without packets to the laptop", Form::Long, SOON_BACK, |world| {
        blackhole(world, "to-bastion", 300)
    }),
    fault("30 s without any network for the laptop", Form::Full, ALONE, |world| {
        alone(world, 30)
    }),
    fault("the laptop has another address", Form::Short, NONE_FAILED, |world| {
        once(|| move_laptop(world))
    }),
    fault("the laptop suspended for 10 s", Form::Short, AWAKE, |world| {
        suspend(world, 10)
    }),
    fault("the laptop suspended for 10 min", Form::Long, AWAKE, |world| {
        suspend(world, 600)
    }),
    fault("2 % loss, 80 ms round trip", Form::Short, NONE_FAILED, |world| {
        slow(world, 40, 2)
    }),
    fault("160 ms round trip", Form::Full, NONE_FAILED, |world| slow(world, 80, 0)),
    fault("2 s round trip, and a reset", Form::Short, NO_GOAL, |world| far(world, 1000)),
    fault("an MTU black hole (1,300 bytes) for 8 s", Form::Full, NO_GOAL, mtu),
    fault(
        "an MTU black hole (1,300 bytes) from now on",
        Form::Short,
        MENDED,
        lasting_mtu,
    ),
    fault("no DNS for 5 s", Form::Full, NONE_FAILED, |world| without_names(world, false)),
    fault("no DNS for 5 s, and a reset", Form::Full, NONE_FAILED, |world| {
        without_names(world, true)
    }),
    fault("the state's disk full, and a reset", Form::Short, goal(1000, 0), full),
    fault(
        "the state's disk read-only at a start, for 2 s",
        Form::Short,
        NONE_FAILED,
        read_only,
    ),
    fault("no file descriptors for 2 s", Form::Short, NONE_FAILED, descriptors),
    fault("no more memory for bastiond", Form::Short, SOON, memory),
    clock("the clocks an hour ahead, and a reset", |world| jump(world, 3600)),
    clock("the clocks an hour back, and a reset", |world| jump(world, -3600)),
];

impl Fault {
    /// Puts it on a world in which all is well, and waits until all is well again. What came in the last moment before is not counted.
    ///
    /// # Errors
    /// It cannot be put on, or all is never well.
    pub fn measure(&self, world: &mut World) -> Result<Row, String> {
        well(world, now())?;
        let struck = (self.strike)(world)?;
        let until = well(world, struck.healed)?;
        let mut all = world.record.since(struck.from);
        all.retain(|asked| asked.sent < until);
        Ok(Row::of(self.name, self.goal, &struck, &all))
    }
}

/// How long all must have been well, and how long that is waited for: twice what a request may be held, and the longest pause of a laptop.
const WELL: Duration = Duration::from_millis(1500);
const UNWELL: Duration = Duration::from_secs(60);

/// Waits until everything since a moment, at least for a while, is answered well; up to when that is so.
fn well(world: &World, moment: u64) -> Result<u64, String> {
    let calm = u64::try_from(WELL.as_micros()).unwrap_or(0);
    let enough = (WELL.as_millis() * u128::from(world::RATE) / 2000) as usize;
    until(UNWELL, "all to be well", || {
        let from = moment.max(now().saturating_sub(calm));
        let under_way = world.record.since(moment);
        // Of the last moment some are always under way.
        let late = now().saturating_sub(calm / 5);
        let old = under_way.iter().any(|asked| asked.done.is_none() && asked.sent < late);
        let done: Vec<_> = under_way
            .iter()
            .filter(|asked| asked.done.is_some_and(|done| done >= from))
            .collect();
        (!old && done.len() >= enough && done.iter().all(|asked| asked.is_good())).then_some(late)
    })
    .map_err(|why| format!("{why}\n{}", world.logs()))
}

/// What takes no time.
fn once(act: impl FnOnce() -> Result<(), String>) -> Result<Struck, String> {
    let from = now();
    act()?;
    Ok(Struck {
        from,
        healed: from,
        found: None,
        tries: None,
    })
}

/// What lasts until `act` ends.
fn lasting(act: impl FnOnce() -> Result<Option<Duration>, String>) -> Result<Struck, String> {
    let from = now();
    let found = act()?;
    Ok(Struck {
        from,
        healed: now(),
        found,
        tries: None,
    })
}

/// Ends the tunnel's socket of one host; the other one hears of it by a reset.
fn reset(world: &World, host: Host) -> Result<(), String> {
    let port = if host == Host::Bastion { "sport" } else { "dport" };
    world
        .space
        .exec(host, &["ss", "-K", "-t", "state", "established", port, "=", "2222"])?;
    Ok(())
}

/// The address that the laptop has goes, and it gets the other one, as in another network.
fn move_laptop(world: &World) -> Result<(), String> {
    let all = world.space.exec(Host::Laptop, &["ip", "-4", "addr", "show", "dev", "eth0"])?;
    let [old, new] = if all.contains(LAPTOP[0]) {
        LAPTOP
    } else {
        [LAPTOP[1], LAPTOP[0]]
    };
    let of = |address: &str| format!("{address}/24");
    for line in [
        &["ip", "addr", "del", &of(old), "dev", "eth0"][..],
        &["ip", "addr", "add", &of(new), "dev", "eth0"],
        &["ip", "route", "replace", "default", "via", ELSEWHERE],
    ] {
        world.space.exec(Host::Laptop, line)?;
    }
    Ok(())
}

/// A lid that is closed: nothing runs on the laptop, and nothing reaches it.
fn suspend(world: &mut World, seconds: u64) -> Result<Struck, String> {
    lasting(|| {
        world.up.signal(Signal::STOP);
        world.space.rule("ip saddr 10.77.1.0/24 drop")?;
        world.space.rule("ip daddr 10.77.1.0/24 drop")?;
        pause(Duration::from_secs(seconds));
        world.space.clear()?;
        world.up.signal(Signal::CONT);
        Ok(None)
    })
}

/// Nobody answers the laptop's questions for names.
fn without_names(world: &mut World, reset: bool) -> Result<Struck, String> {
    let rules = |verb: &str| -> Result<(), String> {
        let table = "table inet names";
        match verb {
            "add" => {
                world.space.nft(&format!(
                    "add {table}; add chain inet names in {{ type filter hook input priority 0; }}; add rule inet names in udp dport 53 drop"
                ))
            }
            _ => world.space.nft(&format!("delete {table}")),
        }
    };
    lasting(|| {
        rules("add")?;
        if reset {
            self::reset(world, Host::Laptop)?;
        }
        pause(Duration::from_secs(5));
        rules("delete")?;
        Ok(None)
    })
}

/// Nothing more can be written of the state while a laptop comes back.
fn full(world: &mut World) -> Result<Struck, String> {
    let file = format!("{}/filler", world.state());
    let fill = || {
        let piece = vec![0; 64 * 1024];
        let mut file = fs::File::create(&file).map_err(|why| why.to_string())?;
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
        Ok::<_, String>(())
    };
    fill()?;
    let struck = once(|| reset(world, Host::Laptop));
    well(world, now())?;
    fs::remove_file(&file).map_err(|why| why.to_string())?;
    struck
}

/// A bastion that begins finds its disk read-only, until somebody repairs it.
fn read_only(world: &mut World) -> Result<Struck, String> {
    let (daemon, state) = (world.daemon()?, world.state());
    lasting(|| {
        process::signal_to(daemon, Signal::KILL);
        // As long as somebody has a file open for writing it cannot be made so.
        until(READY, "the file system to be made read-only", || {
            process::run("mount", &["-o", "remount,ro", &state]).ok()
        })?;
        pause(Duration::from_secs(2));
        process::run("mount", &["-o", "remount,rw", &state])?;
        Ok(None)
    })
}

/// The bastion may open nothing more, and others take what it has left.
fn descriptors(world: &mut World) -> Result<Struck, String> {
    let daemon = world.daemon()?;
    lasting(|| {
        let open = fs::read_dir(format!("/proc/{daemon}/fd"))
            .map_err(|why| why.to_string())?
            .count();
        world::limits(daemon, &format!("--nofile={open}:"))?;
        pause(Duration::from_secs(2));
        world::limits(daemon, "--nofile=1024:")?;
        Ok(None)
    })
}

/// The bastion has little memory left and its clients ask for more: the system ends it, and it is started again.
fn memory(world: &mut World) -> Result<Struck, String> {
    let daemon = world.daemon()?;
    let group = Group::make(&world.space.label(), MEMORY)?;
    group.enter(daemon)?;
    let from = now();
    let hog = world.hog()?;
    until(READY, "the daemon to be ended", || {
        let lives = Path::new("/proc").join(daemon.to_string()).exists();
        (!lives).then_some(())
    })?;
    let healed = now();
    drop(hog);
    Ok(Struck {
        from,
        healed,
        found: None,
        tries: None,
    })
}

/// What the bastion may use more than it has, in bytes.
const MEMORY: u64 = 8 * 1024 * 1024;

/// A control group with a limit of memory, of either version; it goes when it is empty and dropped.
struct Group(PathBuf);

impl Group {
    fn make(name: &str, bytes: u64) -> Result<Group, String> {
        let old = Path::new("/sys/fs/cgroup/memory");
        let (place, limit) = match old.exists() {
            true => (old, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let group = Group(place.join(name));
        let made = fs::create_dir(&group.0).and_then(|()| fs::write(group.0.join(limit), bytes.to_string()));
        made.map_err(|why| format!("no control group with a limit of memory: {why}"))?;
        Ok(group)
    }

    fn enter(&self, pid: u32) -> Result<(), String> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).map_err(|why| why.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The process that was in it has just ended.
        until(READY, "the group to be empty", || fs::remove_dir(&self.0).ok()).ok();
    }
}

/// Both programs' clocks jump, and the laptop's connection is made anew under the new time.
fn jump(world: &mut World, seconds: i64) -> Result<Struck, String> {
    let Some(clock) = world.clock.clone() else {
        return Err("the clocks of this world cannot be set".to_owned());
    };
    let struck = once(|| {
        world::set_clock(&clock, seconds)?;
        pause(Duration::from_secs(2));
        reset(world, Host::Laptop)
    });
    well(world, now())?;
    world::set_clock(&clock, 0)?;
    struck
}
