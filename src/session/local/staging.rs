//! Where requests without the header go, when several projects share a local bastion: to the `staging_url` of the running `up` that
//! began last among those that have one. A project without one changes nothing for the others.

use std::net::SocketAddr;
use std::path::Path;

use http::Method;

use super::{Ready, serving};
use crate::config::StagingUrl;
use crate::error::{Error, Exit, Result};
use crate::rt;
use crate::session::records::{Records, Up};
use crate::session::socket;

/// Tells the daemon.
pub(super) async fn stage(ready: &Ready, listen: SocketAddr, records: &Records) -> Result<()> {
    let deciding = deciding(running(listen, records).await?);
    let body = serde_json::json!({ "staging_url": deciding.and_then(|up| up.staging) });
    let told = socket::call(&ready.control, Method::POST, "/v1/staging", Some(body)).await;
    let why = match told {
        Ok((status, _)) if status.is_success() => return Ok(()),
        Ok((status, body)) => format!("it answered {status}: {}", String::from_utf8_lossy(&body)),
        Err(why) => why,
    };
    Err(
        Error::new(Exit::Unreachable, "the local bastion does not take tunnel.staging_url")
            .because(why)
            .hint(format!("end it, and `up` starts another: kill {}", ready.pid)),
    )
}

/// A sentence when an `up` with this URL takes the requests from another.
pub(super) async fn taken(listen: SocketAddr, own: Option<&StagingUrl>, records: &Records) -> Result<Option<String>> {
    let Some(own) = own.map(ToString::to_string) else {
        return Ok(None);
    };
    let mut others = running(listen, records).await?;
    others.retain(|up| up.process.pid != std::process::id() && up.staging.as_ref().is_some_and(|url| *url != own));
    let tell = |other: Up| {
        format!(
            "requests without the header go to {own} from now on, as long as this runs; process {} had them go to {}",
            other.process.pid,
            other.staging.unwrap_or_default()
        )
    };
    Ok(deciding(others).map(tell))
}

/// Tells the daemon what the others want, if there are any.
pub(super) async fn for_others(directory: &Path, listen: SocketAddr, records: &Records) {
    let Some(ready) = serving(directory).await else { return };
    match running(listen, records).await {
        Ok(others) if others.is_empty() => {}
        Ok(_) => {
            if let Err(why) = stage(&ready, listen, records).await {
                // The next of them that connects says it again.
                tracing::debug!("{why}");
            }
        }
        Err(why) => tracing::debug!("{why}"),
    }
}

/// The `up`s that live and share the address.
async fn running(listen: SocketAddr, records: &Records) -> Result<Vec<Up>> {
    let mut ups = records.ups().await?;
    ups.retain(|up| up.listen == Some(listen));
    let living = rt::unblock(move || {
        ups.retain(|up| up.process.lives());
        ups
    });
    Ok(living.await)
}

fn deciding(ups: Vec<Up>) -> Option<Up> {
    let with = ups.into_iter().filter(|up| up.staging.is_some());
    with.max_by_key(|up| (up.since, up.process.pid))
}
