//! The two channels of an ephemwork laptop.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::bastiond::control::{self, Caller};
use crate::bastiond::lane::{Carrier, Lane};
use crate::bastiond::state::Daemon;
use crate::rt;
use crate::tunnel::ssh::channel::ChannelIo;
use crate::tunnel::stream;
use crate::tunnel::window::{self, Windows};

/// Calls of the control API at once on one connection.
const MAX_CALLS: u32 = 32;

/// HTTP/2 to the laptop, until its channel ends.
pub(super) async fn carry(channel: ChannelIo, lane: Arc<Lane>) {
    let handshake = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(window::ALONE)
        .initial_connection_window_size(window::CONNECTION)
        .initial_max_send_streams(window::MAX_STREAMS as usize)
        .max_frame_size(stream::FRAME)
        .max_header_list_size(stream::MAX_HEAD)
        .max_send_buffer_size(stream::SEND_BUFFER)
        // Frames of answers that nobody wants any more are still on their way; h2 ends a connection after 1024 of them in its
        // whole life, and a lane lives for days.
        .max_local_error_reset_streams(None)
        .handshake(channel);
    let result = match handshake.await {
        Ok((sender, mut driver)) => {
            if let Carrier::Laptop(requests) = &lane.carrier
                && requests.set(sender).is_err()
            {
                lane.close("it opened the requests channel twice");
                return;
            }
            let mut windows = Windows::new();
            let drive = poll_fn(|cx| {
                let open = lane.streams.load(Relaxed);
                if let Some(window) = windows.change(open, Instant::now)
                    && driver.set_initial_window_size(window).is_ok()
                {
                    windows.offered(window);
                }
                Pin::new(&mut driver).poll(cx)
            });
            drive.await
        }
        Err(why) => Err(why),
    };
    match result {
        Ok(()) => lane.close("its requests channel was closed"),
        Err(why) => lane.close(&format!("its requests channel failed: {why}")),
    }
}

/// The control API for one laptop, until its channel ends.
pub(super) async fn control(channel: ChannelIo, lane: Arc<Lane>, daemon: Arc<Daemon>) {
    let service = hyper::service::service_fn(|request| {
        let answer = control::answer(Arc::clone(&daemon), Caller::Lane(Arc::clone(&lane)), request);
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let serving = hyper::server::conn::http2::Builder::new(rt::HyperExecutor)
        .timer(rt::HyperTimer)
        .max_concurrent_streams(MAX_CALLS)
        .serve_connection(rt::io(channel), service);
    if let Err(why) = serving.await {
        tracing::debug!(user = %lane.user, "control channel ended: {why}");
    }
}
