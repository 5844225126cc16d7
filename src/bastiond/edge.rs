//! Accepts HTTP connections (a place for the real edge).

use std::sync::Arc;

use crate::bastiond::state::Daemon;

pub(crate) async fn serve(listener: crate::rt::TcpListener, daemon: Arc<Daemon>) {
    while !daemon.draining() {
        if listener.accept().await.is_err() {
            return;
        }
    }
}
