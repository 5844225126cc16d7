//! What grows: memory, descriptors, threads and database of the bastion, memory and descriptors of laptops, each second.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::daemon::Metrics;
use crate::bench::process::{self, pause};

/// Between two looks at the bastion.
const EVERY: Duration = Duration::from_secs(1);

/// The laptops are looked at each so many times: there are a dozen.
const LAPTOPS_EVERY: usize = 5;

/// What the watched processes are at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    pub(super) bastion: u32,
    pub(super) laptops: Vec<u32>,
}

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Seconds since the beginning.
    pub(super) at: f64,
    pub(super) pid: u32,
    /// MiB.
    pub(super) memory: f64,
    pub(super) descriptors: f64,
    pub(super) threads: f64,
    /// Bytes.
    pub(super) database: f64,
    pub(super) in_flight: f64,
    pub(super) http_connections: f64,
    pub(super) lanes: f64,
    pub(super) held: f64,
}

/// All laptops that live throughout, in one look: seconds, and the mean of their MiB and of their descriptors.
#[derive(Clone, Debug)]
pub(super) struct LaptopSample {
    pub(super) at: f64,
    pub(super) mean: f64,
    pub(super) descriptors: f64,
}

#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) bastion: Vec<Sample>,
    pub(super) laptops: Vec<LaptopSample>,
}

pub(super) struct Watch {
    began: Instant,
    watched: Arc<Mutex<Watched>>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Series>,
}

/// How something changed over a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// The median of the first and of the last fifth.
    pub(super) first: f64,
    pub(super) last: f64,
    pub(super) most: f64,
    /// What a straight line through all values rises over the whole time (least squares).
    pub(super) trend: f64,
    pub(super) seconds: f64,
}

impl Growth {
    /// Of pairs of seconds and values; `None` of fewer than ten.
    pub(super) fn of(values: &[(f64, f64)]) -> Option<Growth> {
        if values.len() < 10 {
            return None;
        }
        let fifth = values.len() / 5;
        let median = |part: &[(f64, f64)]| {
            let mut part: Vec<f64> = part.iter().map(|(_, value)| *value).collect();
            part.sort_by(f64::total_cmp);
            part[part.len() / 2]
        };
        let count = values.len() as f64;
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / count;
        let (at, value) = (mean(&|pair| pair.0), mean(&|pair| pair.1));
        let both: f64 = values.iter().map(|pair| (pair.0 - at) * (pair.1 - value)).sum();
        let own: f64 = values.iter().map(|pair| (pair.0 - at).powi(2)).sum();
        let seconds = values[values.len() - 1].0 - values[0].0;
        Some(Growth {
            first: median(&values[..fifth]),
            last: median(&values[values.len() - fifth..]),
            most: values.iter().map(|(_, value)| *value).fold(f64::MIN, f64::max),
            trend: if own > 0.0 { both / own * seconds } else { 0.0 },
            seconds,
        })
    }

    /// It has grown only as far as both say so: the medians are blind to a trend within noise, the line to a single peak at an end.
    pub(super) fn grown(self) -> f64 {
        (self.last - self.first).min(self.trend)
    }

    pub(super) fn json(self) -> Value {
        json!({"first": self.first, "last": self.last, "most": self.most, "trend": self.trend, "seconds": self.seconds})
    }
}

impl Watch {
    pub(super) fn start(state: PathBuf, watched: Watched) -> Watch {
        let began = Instant::now();
        let watched = Arc::new(Mutex::new(watched));
        let over = Arc::new(AtomicBool::new(false));
        let (list, stop) = (Arc::clone(&watched), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut series = Series::default();
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let now = list.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let at = began.elapsed().as_secs_f64();
                series.bastion.extend(look(&state, now.bastion, at));
                if round % LAPTOPS_EVERY == 0 {
                    series.laptops.extend(look_at_laptops(&now.laptops, at));
                }
                pause(EVERY);
            }
            series
        });
        Watch {
            began,
            watched,
            over,
            thread,
        }
    }

    pub(super) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// What is watched from now on.
    pub(super) fn is(&self, watched: Watched) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = watched;
    }

    pub(super) fn end(self) -> Result<Series, String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watching thread ended".to_owned())
    }
}

/// Nothing while the bastion is away.
fn look(state: &std::path::Path, pid: u32, at: f64) -> Option<Sample> {
    let metrics = Metrics::of(state).ok()?;
    let database = std::fs::read_dir(state).ok()?.flatten();
    let database: u64 = database
        .filter(|entry| entry.path().extension().is_some_and(|its| its == "redb"))
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum();
    Some(Sample {
        at,
        pid,
        memory: process::own_memory(pid)?,
        descriptors: process::descriptors(pid)? as f64,
        threads: process::threads(pid)? as f64,
        database: database as f64,
        in_flight: metrics.value("requests_in_flight"),
        http_connections: metrics.value("http_connections"),
        lanes: metrics.value("lanes"),
        held: metrics.value("held_requests"),
    })
}

fn look_at_laptops(pids: &[u32], at: f64) -> Option<LaptopSample> {
    let memory: Vec<f64> = pids.iter().filter_map(|pid| process::own_memory(*pid)).collect();
    let descriptors: Vec<usize> = pids.iter().filter_map(|pid| process::descriptors(*pid)).collect();
    (!memory.is_empty()).then(|| LaptopSample {
        at,
        mean: memory.iter().sum::<f64>() / memory.len() as f64,
        descriptors: descriptors.iter().sum::<usize>() as f64 / memory.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth() {
        let flat: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), 50.0 + f64::from(at % 7))).collect();
        let grown = Growth::of(&flat).unwrap().grown();
        assert!(grown.abs() < 1.5, "{grown}");
        let rising: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), f64::from(at))).collect();
        let growth = Growth::of(&rising).unwrap();
        assert!((growth.trend - 99.0).abs() < 0.01 && (growth.last - growth.first - 80.0).abs() < 0.01);
        assert!(growth.grown() > 79.0);
        assert!(Growth::of(&flat[..9]).is_none());
    }
}
