//! A TLS stream that says why the other side hung up.
//!
//! With TLS 1.3 the server judges our certificate after we have begun to send. It tells its verdict in an alert and
//! closes; whoever is writing at that moment sees only a broken pipe. Here the alert, which has arrived by then,
//! is read and becomes the error.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Passes everything on; a failed write is explained if it can be.
#[derive(Debug)]
pub struct Frank<S>(S);

impl<S: AsyncRead + Unpin> Frank<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self(stream)
    }

    /// The error that reading gives, if there is one waiting; else the one of the write.
    fn explained(&mut self, cx: &mut Context<'_>, written: io::Error) -> io::Error {
        let mut scratch = [0; 1024];
        loop {
            let mut rest = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.0).poll_read(cx, &mut rest) {
                // The connection is lost either way: what else arrived has no reader any more.
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {}
                Poll::Ready(Err(read)) if read.kind() == io::ErrorKind::InvalidData => return read,
                Poll::Ready(_) | Poll::Pending => return written,
            }
        }
    }

    fn tell<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Err(written)) => Poll::Ready(Err(self.explained(cx, written))),
            done => done,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frank<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frank<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.0).poll_write(cx, buf);
        self.tell(cx, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.0).poll_flush(cx);
        self.tell(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.0).poll_shutdown(cx);
        self.tell(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.0).poll_write_vectored(cx, bufs);
        self.tell(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
