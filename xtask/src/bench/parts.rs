//! The parts of the benchmark, each a question to all systems in turn.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::load::{End, Load, Outcome, Request};
use super::process::{self, Running};
use super::report::Report;
use super::{System, Tempo};

/// A small answer, in bytes.
pub(crate) const SMALL: u64 = 1024;

/// A large body, in bytes.
const LARGE: u64 = 200_000_000;

/// What is started before measuring and not counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// Concurrent small requests beside bulk transfers.
const BESIDE: usize = 4;

/// Answers that are cut off: long enough that none is complete when its connection ends.
const ABORTED_SIZE: u64 = 50_000_000;

/// Systems in the order of a round: each round starts with another.
fn turn(systems: &[System], round: usize) -> impl Iterator<Item = &System> {
    let start = round % systems.len().max(1);
    systems[start..].iter().chain(&systems[..start])
}

fn load(system: &System, connections: usize, request: Request, end: End) -> Load {
    Load {
        address: system.edge,
        tag: system.tag.clone(),
        connections,
        request,
        end,
    }
}

/// What both ends used, in seconds of processor time, and what came of the load.
fn with_cpu(system: &System, load: &Load) -> Result<(f64, Outcome), String> {
    let pids = [&system.bastion[..], &system.laptop[..]].concat();
    let before = process::cpu(&pids);
    let outcome = load.run()?;
    Ok((process::cpu(&pids) - before, outcome))
}

/// Small requests at three concurrencies: rate, latency, processor time.
pub(crate) fn requests(systems: &[System], direct: &System, tempo: &Tempo, report: &mut Report) -> Result<(), String> {
    for connections in [1, 16, 64] {
        for round in 0..tempo.rounds {
            for system in turn(systems, round).chain([direct]) {
                load(system, connections, Request::Download(SMALL), End::After(WARM_UP)).run()?;
                let (cpu, outcome) = with_cpu(
                    system,
                    &load(system, connections, Request::Download(SMALL), End::After(tempo.slice)),
                )?;
                report.add(&format!("req/s c={connections}"), system.name, outcome.rate());
                report.add(&format!("p50 ms c={connections}"), system.name, outcome.latency.quantile(0.5));
                report.add(
                    &format!("p99 ms c={connections}"),
                    system.name,
                    outcome.latency.quantile(0.99),
                );
                let micros = cpu * 1e6 / outcome.requests as f64;
                report.add(&format!("cpu us/req c={connections}"), system.name, micros);
            }
        }
    }
    Ok(())
}

/// One large body each way.
pub(crate) fn bulk(systems: &[System], direct: &System, tempo: &Tempo, report: &mut Report) -> Result<(), String> {
    for (name, request) in [("download", Request::Download(LARGE)), ("upload", Request::Upload(LARGE))] {
        for round in 0..tempo.rounds {
            for system in turn(systems, round).chain([direct]) {
                let (cpu, outcome) = with_cpu(system, &load(system, 1, request.clone(), End::Count(1)))?;
                report.add(
                    &format!("{name} MB/s"),
                    system.name,
                    LARGE as f64 / 1e6 / outcome.elapsed.as_secs_f64(),
                );
                report.add(&format!("{name} cpu s/GB"), system.name, cpu / (LARGE as f64 / 1e9));
            }
        }
    }
    Ok(())
}

/// Small requests beside two bulk downloads through the same tunnel.
pub(crate) fn beside_bulk(systems: &[System], tempo: &Tempo, report: &mut Report) -> Result<(), String> {
    for round in 0..tempo.rounds {
        for system in turn(systems, round) {
            let over = Arc::new(AtomicBool::new(false));
            let bulk = load(system, 2, Request::Download(LARGE), End::Raised(over.clone()));
            let transfers = std::thread::spawn(move || bulk.run());
            process::pause(WARM_UP);
            let small = load(system, BESIDE, Request::Download(SMALL), End::After(tempo.slice)).run();
            over.store(true, Ordering::Relaxed);
            transfers
                .join()
                .map_err(|_| "the bulk transfers' thread ended".to_owned())??;
            let latency = small?.latency;
            report.add("p50 ms beside 2 downloads", system.name, latency.quantile(0.5));
            report.add("p99 ms beside 2 downloads", system.name, latency.quantile(0.99));
        }
    }
    Ok(())
}

/// System calls of both ends for a small request, counted by strace.
pub(crate) fn syscalls(
    systems: &[System],
    tempo: &Tempo,
    directory: &std::path::Path,
    report: &mut Report,
) -> Result<(), String> {
    if Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        report.skip("system calls: not installed: apt-get install strace");
        return Ok(());
    }
    let count = tempo.traced;
    for system in systems {
        load(system, 1, Request::Download(SMALL), End::Count(100)).run()?;
        let mut tracers = Vec::new();
        for (end, roots) in [("bastion", &system.bastion), ("laptop", &system.laptop)] {
            let file = directory.join(format!("strace-{end}"));
            let mut strace = Command::new("strace");
            strace.args(["-c", "-f", "-o"]).arg(&file).stderr(Stdio::piped());
            let pids: Vec<u32> = roots.iter().flat_map(|root| process::tree(*root)).collect();
            for pid in &pids {
                strace.args(["-p", &pid.to_string()]);
            }
            let mut tracer = Running::start("strace", &mut strace)?;
            let mut attached = 0;
            tracer.stderr_until(|line| {
                attached += usize::from(line.contains("attached"));
                attached == pids.len()
            })?;
            tracers.push((end, file, tracer));
        }
        let outcome = load(system, 1, Request::Download(SMALL), End::Count(count)).run()?;
        for (end, file, tracer) in tracers {
            tracer.interrupt()?;
            let text = std::fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
            let calls = total(&text).ok_or_else(|| format!("strace's table has no total:\n{text}"))?;
            report.add(&format!("syscalls/req {end}"), system.name, calls / outcome.requests as f64);
        }
    }
    Ok(())
}

/// The calls in the last line of `strace -c`: `100.00 0.1 2 4242 7 total`, with or without the errors' column.
fn total(text: &str) -> Option<f64> {
    let line = text.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Memory before and after many requests, and after many that their client cut off.
pub(crate) fn flat(system: &System, tempo: &Tempo, report: &mut Report) -> Result<(), String> {
    let both = || (process::memory(&system.bastion).rss, process::memory(&system.laptop).rss);
    let mut add = |what: &str, before: (f64, f64), after: (f64, f64)| {
        report.add(&format!("bastion MiB grown, {what}"), system.name, after.0 - before.0);
        report.add(&format!("laptop MiB grown, {what}"), system.name, after.1 - before.1);
    };
    load(system, 64, Request::Download(SMALL), End::Count(tempo.many / 10)).run()?;
    let before = both();
    load(system, 64, Request::Download(SMALL), End::Count(tempo.many)).run()?;
    add("requests", before, both());
    // The first aborted ones fill buffers that are then kept and used again.
    abort(system, tempo.aborted / 10)?;
    let before = both();
    abort(system, tempo.aborted)?;
    load(system, 1, Request::Download(SMALL), End::Count(10)).run()?;
    add("aborted", before, both());
    Ok(())
}

/// Ends connections in the middle of an answer, eight at a time.
fn abort(system: &System, count: u64) -> Result<(), String> {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (address, tag) = (system.edge, system.tag.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut space = vec![0; 16 * 1024];
                for _ in 0..count / 8 {
                    let mut stream = TcpStream::connect(address)?;
                    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                    let request = format!("GET /bytes/{ABORTED_SIZE} HTTP/1.1\r\nHost: bench\r\nX-Ephemwork: {tag}\r\n\r\n");
                    stream.write_all(request.as_bytes())?;
                    // Closed with data unread: the peer gets a reset.
                    stream.read_exact(&mut space)?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        let result = thread.join().map_err(|_| "an aborting thread ended".to_owned())?;
        result.map_err(|why| format!("aborting: {why}"))?;
    }
    Ok(())
}

/// The bastion's memory with more and more idle tunnels: `open` opens so many
/// beside so many held already, and what it returns holds them.
pub(crate) fn idle<T>(
    name: &str,
    roots: &[u32],
    counts: &[usize],
    report: &mut Report,
    mut open: impl FnMut(usize, usize) -> Result<T, String>,
) -> Result<(), String> {
    let mut held = Vec::new();
    let mut opened = 0;
    let empty = process::settled(roots);
    for &count in counts {
        let started = Instant::now();
        held.push(open(count - opened, opened)?);
        let seconds = started.elapsed().as_secs_f64();
        let memory = process::settled(roots);
        let tunnels = if count == 1 { "tunnel" } else { "tunnels" };
        report.add(&format!("bastion MiB, {count} idle {tunnels}"), name, memory.pss);
        report.add(&format!("bastion MiB RSS, {count} idle {tunnels}"), name, memory.rss);
        report.add(&format!("bastion MiB of data, {count} idle {tunnels}"), name, memory.data);
        if count > 1 {
            report.add(
                &format!("bastion MiB more than with none, {count} idle"),
                name,
                memory.pss - empty.pss,
            );
            report.add(
                &format!("KiB each of {count} idle"),
                name,
                (memory.pss - empty.pss) * 1024.0 / count as f64,
            );
            report.add(&format!("s to open {} more", count - opened), name, seconds);
        }
        opened = count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_strace() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(total(text), expected, "{text:?}");
        check("100.00    0.000000           0        29         1 total", Some(29.0));
        check(
            "% time\n 99.0 0.1 2 7 read\n100.00    0.01    3    1234           total\n",
            Some(1234.0),
        );
        check("", None);
    }
}
