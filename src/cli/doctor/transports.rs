//! `doctor --transport`: each way to the bastion opened, measured and closed again.

use super::{Grade, Report};
use crate::cli::say::{self, Form};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::rt::Instant;
use crate::session::bastion::Ec2;
use crate::session::home::Home;
use crate::session::identity;
use crate::session::records::Records;

/// A line for each way that is configured.
pub(super) async fn measure(host: &Host, config: &Config, profile: Option<&str>, report: &mut Report) {
    let opened = open(host, config, profile);
    let (bastion, records) = match opened {
        Ok(opened) => opened,
        Err(error) => return report.fail("transport", &error),
    };
    let form = report.form;
    let say = move |text: String| {
        if form == Form::Human {
            say::warn(&format!("{text}\n"));
        }
    };
    let mut works = false;
    let mut failed: Option<Error> = None;
    for kind in bastion.ways() {
        let begun = Instant::now();
        let reached = match bastion.connect_by(kind, &records, &say).await {
            Ok(reached) => reached,
            Err(error) => {
                // One way is enough; only when none works is it a failure. What stops all of them is said in full once.
                if failed.as_ref() == Some(&error) {
                    report.add(kind.as_str(), Grade::Warn, "the same".to_owned(), None);
                    continue;
                }
                let why = error.why.as_ref().map(|why| format!(": {}", why.trim())).unwrap_or_default();
                report.add(kind.as_str(), Grade::Warn, format!("{}{why}", error.what), error.hint.clone());
                failed.get_or_insert(error);
                continue;
            }
        };
        let connected = begun.elapsed();
        say(format!("measuring {}, which takes some seconds", kind.as_str()));
        let measured = reached.link.measure().await;
        reached.link.close().await;
        reached.rest.end().await;
        works = true;
        match measured {
            Ok(measured) => {
                let mb = |rate: f64| format!("{:.2} MB/s", rate / 1e6);
                let what = format!(
                    "connected in {}, round trip {:.1} ms, {} down, {} up",
                    say::time(connected),
                    measured.round_trip.as_secs_f64() * 1e3,
                    mb(measured.down),
                    mb(measured.up)
                );
                report.ok(kind.as_str(), what);
            }
            Err(error) => {
                let why = error.why.unwrap_or_default();
                let what = format!("connected in {}; {}: {why}", say::time(connected), error.what);
                report.add(kind.as_str(), Grade::Warn, what, error.hint);
            }
        }
    }
    bastion.leave().await;
    if let (false, Some(error)) = (works, failed) {
        report.fail("transport", &error);
    }
}

fn open(host: &Host, config: &Config, profile: Option<&str>) -> Result<(Ec2, Records)> {
    let home = Home::open(host)?;
    let user = identity::user(host)?;
    Ok((Ec2::new(host, &home, &user, config, profile)?, Records::of(&home)))
}
