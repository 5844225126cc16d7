//! The codec against bytes written by hand, single rules of the channel, what its window follows, and whole sessions in virtual time.

mod agent;
mod codec;
mod rate;
mod rules;
mod schedules;
mod world;

use super::Settings;

fn settings(payload: usize) -> Settings {
    Settings::new(payload, 1_700_000_000_000, [7; 32])
}
