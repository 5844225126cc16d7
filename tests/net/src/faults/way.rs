//! Faults of the way between laptop and bastion: packets that vanish or come late, and a firewall that forgets.

use std::time::{Duration, Instant};

use super::{lasting, reset, well};
use crate::client::now;
use crate::report::Struck;
use crate::space::Host;
use crate::world::{READY, World};
use crate::{pause, until};

/// A firewall that has forgotten the connection: it answers each of its packets with a reset, and lets new ones through.
pub(super) fn firewall(world: &mut World) -> Result<Struck, String> {
    let lanes = lanes(world);
    let known = world
        .space
        .exec(Host::Laptop, &["ss", "-Htn", "state", "established", "dport", "=", "2222"])?;
    // Receive queue, send queue, local address, peer.
    let local = known.lines().filter_map(|line| line.split_whitespace().nth(2));
    let ports: Vec<&str> = local.filter_map(|address| Some(address.rsplit_once(':')?.1)).collect();
    if ports.is_empty() {
        return Err(format!("no connection that could be forgotten: {known:?}"));
    }
    let ports = ports.join(", ");
    lasting(|| {
        // At one moment: otherwise the laptop's answer to what still came through would be what is rejected first.
        let rule =
            |laptop, bastion| format!("add rule inet f way tcp {laptop} {{ {ports} }} tcp {bastion} 2222 reject with tcp reset");
        world
            .space
            .nft(&format!("{}; {}", rule("sport", "dport"), rule("dport", "sport")))?;
        // The client's requests are packets of the tunnel, so this is at once.
        until(READY, "the lane to be gone", || (lanes != self::lanes(world)).then_some(()))?;
        world.space.clear()?;
        Ok(None)
    })
}

/// The numbers of the lanes that the bastion has.
fn lanes(world: &World) -> Vec<u64> {
    let session = world.session().unwrap_or_default();
    let lanes = session["lanes"].as_array().into_iter().flatten();
    lanes.filter_map(|lane| lane["id"].as_u64()).collect()
}

/// Nothing of the tunnel that comes over a link of the router goes on.
pub(super) fn blackhole(world: &mut World, link: &str, seconds: u64) -> Result<Struck, String> {
    hole(world, seconds, |world| {
        world.space.rule(&format!("iifname {link} tcp dport 2222 drop"))?;
        world.space.rule(&format!("iifname {link} tcp sport 2222 drop"))
    })
}

/// The same while downloads fill every buffer of the laptop, which hears no acknowledgement any more.
pub(super) fn blackhole_amid_downloads(world: &mut World, seconds: u64) -> Result<Struck, String> {
    let mut downloads = (0..DOWNLOADS)
        .map(|_| world.bulk("down", ENDLESS))
        .collect::<Result<Vec<_>, String>>()?;
    downloads.iter_mut().try_for_each(|one| one.wait_for("begun"))?;
    blackhole(world, "to-bastion", seconds)
}

/// The laptop has no network at all: no bastion, no name server, no AWS.
pub(super) fn alone(world: &mut World, seconds: u64) -> Result<Struck, String> {
    let struck = hole(world, seconds, |world| {
        world.space.rule("iifname to-laptop drop")?;
        world.space.rule("oifname to-laptop drop")?;
        world.space.nft(
            "add table inet alone; add chain inet alone in { type filter hook input priority 0; }; \
             add rule inet alone in iifname to-laptop drop",
        )
    });
    world.space.nft("delete table inet alone")?;
    // Who cannot ask AWS does not get so far as to try.
    struck.map(|struck| Struck {
        healed: now(),
        tries: None,
        ..struck
    })
}

/// What `begin` does to the router's rules lasts so long.
fn hole(world: &mut World, seconds: u64, begin: impl FnOnce(&World) -> Result<(), String>) -> Result<Struck, String> {
    let said = world.up.said().len();
    let lanes = lanes(world);
    let mut tries = None;
    let struck = lasting(|| {
        let begun = Instant::now();
        let (mut here, mut there) = (None, None);
        begin(world)?;
        while begun.elapsed() < Duration::from_secs(seconds) {
            if here.is_none() && world.up_said(said).contains("lost") {
                here = Some(begun.elapsed());
                tries = Some(Tries::new(world.space.attempts()?));
            }
            if there.is_none() && self::lanes(world) != lanes {
                there = Some(begun.elapsed());
            }
            if let Some(tries) = &mut tries {
                tries.look(world.space.attempts()?);
            }
            pause(Duration::from_millis(50));
        }
        world.space.clear()?;
        Ok(here.zip(there).map(|(here, there)| here.max(there)))
    })?;
    Ok(Struck {
        tries: tries.map(|tries| tries.longest.max(tries.last.elapsed())),
        ..struck
    })
}

/// How long no packet tried to connect.
struct Tries {
    count: u64,
    last: Instant,
    longest: Duration,
}

impl Tries {
    fn new(count: u64) -> Tries {
        Tries {
            count,
            last: Instant::now(),
            longest: Duration::ZERO,
        }
    }

    fn look(&mut self, count: u64) {
        if count > self.count {
            self.longest = self.longest.max(self.last.elapsed());
            (self.count, self.last) = (count, Instant::now());
        }
    }
}

/// A longer, worse way for a while.
pub(super) fn slow(world: &mut World, delay_ms: u32, loss: u32) -> Result<Struck, String> {
    lasting(|| {
        world.slow(delay_ms, loss)?;
        pause(Duration::from_secs(4));
        world.quick()?;
        Ok(None)
    })
}

/// The laptop must come back over a way so long that TCP sends everything twice before it is answered.
pub(super) fn far(world: &mut World, delay_ms: u32) -> Result<Struck, String> {
    let lanes = lanes(world);
    lasting(|| {
        world.slow(delay_ms, 0)?;
        reset(world, Host::Laptop)?;
        let back = until(READY, "the laptop to be back over the long way", || {
            let now = self::lanes(world);
            (!now.is_empty() && now != lanes).then_some(())
        });
        world.quick()?;
        back.map(|()| None).map_err(|why| format!("{why}\n{}", world.logs()))
    })
}

/// Packets over 1,300 bytes vanish, and nobody says so.
pub(super) fn mtu(world: &mut World) -> Result<Struck, String> {
    lasting(|| {
        world.space.narrow()?;
        pause(Duration::from_secs(8));
        world.space.wide()?;
        Ok(None)
    })
}

/// The same for good: all must be well on such a way, small and large, both ways.
pub(super) fn lasting_mtu(world: &mut World) -> Result<Struck, String> {
    let from = now();
    world.space.narrow()?;
    let good = well(world, now()).and_then(|_| {
        for way in ["down", "up"] {
            let mut bulk = world.bulk(way, BULK)?;
            bulk.wait_for("done")
                .map_err(|why| format!("{way}: {why}\n{}", world.logs()))?;
        }
        Ok(())
    });
    world.space.wide()?;
    good.map(|()| Struck {
        from,
        healed: from,
        found: None,
        tries: None,
    })
}

/// More at once than there are connections, and on one of these more than the socket of a laptop holds.
const DOWNLOADS: usize = 12;

/// A body that takes longer than any fault, in bytes.
const ENDLESS: u64 = 1 << 40;

/// The body that must get through, in bytes: many times what a window begins with.
const BULK: u64 = 4 << 20;
