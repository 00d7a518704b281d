//! When the fleet was last heard of: every byte that arrives counts, so the answers to pings do too. That is the
//! truth behind `loadline_agent_last_contact_timestamp_seconds`.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use loadline_model::WallTime;
use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock::Clock;
use super::tls::tls_cause;

/// The moment of the last byte.
#[derive(Debug, Clone)]
pub(crate) struct LastContact {
    clock: Arc<dyn Clock>,
    at_us: Arc<AtomicI64>,
}

/// No moment is before this one that a node could have heard its fleet at.
const NEVER: i64 = i64::MIN;

impl LastContact {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            at_us: Arc::new(AtomicI64::new(NEVER)),
        }
    }

    pub(crate) fn at(&self) -> Option<WallTime> {
        Some(self.at_us.load(Ordering::Relaxed))
            .filter(|at| *at != NEVER)
            .map(WallTime)
    }

    fn now(&self) {
        self.at_us.store(self.clock.now().0, Ordering::Relaxed);
    }
}

/// The TLS alert that ended a connection, if one did: gRPC's error no longer tells it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastAlert(Arc<OnceLock<AlertDescription>>);

impl LastAlert {
    pub(crate) fn get(&self) -> Option<AlertDescription> {
        self.0.get().copied()
    }
}

/// A connection that notes when it was heard, and why it was refused.
#[derive(Debug)]
pub(crate) struct Heard<T> {
    io: T,
    last: LastContact,
    alert: LastAlert,
}

impl<T> Heard<T> {
    pub(crate) fn new(io: T, last: LastContact) -> (Self, LastAlert) {
        let alert = LastAlert::default();
        (
            Self {
                io,
                last,
                alert: alert.clone(),
            },
            alert,
        )
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.last.now();
        }
        if let Poll::Ready(Err(error)) = &polled
            && let Some(rustls::Error::AlertReceived(alert)) = tls_cause(error)
        {
            // The first one is the reason; what follows is its echo.
            let _ = self.alert.0.set(*alert);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
