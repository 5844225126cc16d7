//! A new websocket for a session whose last one broke.

use std::time::Duration;

use super::Over;
use crate::aws::{Aws, ssm as api};
use crate::rt::{self, Dialer};
use crate::tunnel::websocket::{self, WebSocket};

/// How long ResumeSession may take; a pooled connection may be dead, and the next attempt has another.
const RESUME: Duration = Duration::from_secs(4);

/// The waits between attempts to resume: doubled from the first to the last, each times a chance from a half to one.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(2);

/// A new websocket and its token.
pub(super) async fn resume(aws: &Aws, dialer: &Dialer, session: &str) -> Result<(WebSocket, String), Over> {
    let mut wait = FIRST_WAIT;
    loop {
        let call = api::ResumeSession {
            session_id: session.to_owned(),
        };
        match rt::timeout(RESUME, aws.call(&call)).await {
            Some(Ok(Some(started))) => match websocket::open(dialer, &started.stream_url).await {
                Ok(socket) => return Ok((socket, started.token)),
                Err(why) => tracing::debug!("session {session}: not resumed: {why}"),
            },
            Some(Ok(None)) => return Err(Over::Gone("AWS gives no token for it any more".to_owned())),
            Some(Err(failure)) if failure.code() == Some("DoesNotExistException") => {
                return Err(Over::Gone("AWS knows it no more".to_owned()));
            }
            Some(Err(failure)) if failure.is_denied() => return Err(Over::Gone(failure.to_string())),
            Some(Err(failure)) => tracing::debug!("session {session}: not resumed: {failure}"),
            None => tracing::debug!("session {session}: ResumeSession takes too long"),
        }
        rt::sleep(wait.mul_f64(0.5 + chance() / 2.0)).await;
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}
