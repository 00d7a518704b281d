//! A TLS stream that keeps why the other side hung up.
//!
//! With TLS 1.3 the server judges our certificate after we have begun to send. It tells its verdict in an alert and
//! closes. Whoever is writing at that moment sees only a broken pipe, and HTTP/2 tells its callers of neither. Here
//! the alert, which has arrived by then, is read and kept beside the stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The alert with which the other side ended the connection, once it has.
#[derive(Debug, Clone, Default)]
pub struct Verdict(Arc<OnceLock<AlertDescription>>);

impl Verdict {
    /// What it was.
    pub fn get(&self) -> Option<AlertDescription> {
        self.0.get().copied()
    }

    fn note(&self, error: &io::Error) {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner {
            self.0.get_or_init(|| *alert);
        }
    }
}

/// Passes everything on and keeps the verdict.
#[derive(Debug)]
pub struct Frank<S> {
    stream: S,
    verdict: Verdict,
    failed: Option<io::Error>,
}

impl<S: AsyncRead + Unpin> Frank<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            verdict: Verdict::default(),
            failed: None,
        }
    }

    /// Where the verdict will stand.
    pub fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }

    /// A write that failed waits until what the other side said last has been read: it is on its way, since the
    /// connection could not have broken otherwise.
    fn look<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(written)) = done else {
            return done;
        };
        let mut scratch = [0; 1024];
        loop {
            let mut rest = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *self).poll_read(cx, &mut rest) {
                // What else arrived has no reader any more.
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Err(written)),
                Poll::Pending => {
                    self.failed = Some(written);
                    return Poll::Pending;
                }
            }
        }
    }

    /// The failure of an earlier write, if one is still to be told.
    fn earlier<T>(&mut self) -> Option<Poll<io::Result<T>>> {
        self.failed.take().map(|error| Poll::Ready(Err(error)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frank<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &done {
            self.verdict.note(error);
        }
        done
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frank<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = self
            .earlier()
            .unwrap_or_else(|| Pin::new(&mut self.stream).poll_write(cx, buf));
        self.look(cx, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = self
            .earlier()
            .unwrap_or_else(|| Pin::new(&mut self.stream).poll_flush(cx));
        self.look(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = self
            .earlier()
            .unwrap_or_else(|| Pin::new(&mut self.stream).poll_shutdown(cx));
        self.look(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = self
            .earlier()
            .unwrap_or_else(|| Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        self.look(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
