//! A byte stream to port 22 of an instance through an EC2 Instance Connect Endpoint: raw bytes in the messages of one websocket.
//!
//! Nothing can be resumed: a cut ends the connection, and the endpoint cuts each after its longest duration, an hour at most.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::websocket::{self, Received, Unopened, WebSocket};
use crate::rt::{AsyncRead, AsyncWrite, Dialer, ReadBuf};

/// The longest time that an endpoint keeps a connection ("EC2 Instance Connect Endpoint" in the EC2 User Guide).
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// The largest message, in bytes; AWS's own client sends up to 65,000.
const MESSAGE: usize = 32 * 1024;

/// The stream.
pub(crate) struct EiceStream {
    socket: WebSocket,
    /// What of the last message was not read yet.
    rest: Bytes,
    /// Why nothing more comes.
    over: Option<String>,
}

impl fmt::Debug for EiceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EiceStream")
    }
}

impl EiceStream {
    /// Opens the tunnel of a URL that is signed.
    pub(crate) async fn open(dialer: &Dialer, url: &str) -> Result<EiceStream, Unopened> {
        Ok(EiceStream {
            socket: websocket::open(dialer, url).await?,
            rest: Bytes::new(),
            over: None,
        })
    }
}

impl AsyncRead for EiceStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            if let Some(why) = &this.over {
                return Poll::Ready(Err(io::Error::other(why.clone())));
            }
            match ready!(this.socket.poll_receive(cx)) {
                Ok(Received::Binary(bytes)) => this.rest = bytes,
                Ok(Received::Text(_)) => this.over = Some("the endpoint sent text, which is not its protocol".to_owned()),
                // 1000 is how a connection ends that the instance closed.
                Ok(Received::Closed(Some(1000) | None, reason)) if reason.is_empty() => return Poll::Ready(Ok(())),
                Ok(Received::Closed(code, reason)) => {
                    let code = code.map_or_else(String::new, |code| format!(" ({code})"));
                    this.over = Some(format!("the endpoint closed the connection{code}: {reason}"));
                }
                Err(why) => this.over = Some(why),
            }
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..count]);
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EiceStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.socket.poll_ready(cx)).map_err(io::Error::other)?;
        let count = data.len().min(MESSAGE);
        this.socket
            .give(Bytes::copy_from_slice(&data[..count]))
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection goes with the stream.
        self.poll_flush(cx)
    }
}
