//! A network in memory, with cuts: refused dials, and partitions in which bytes simply do not arrive.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use loadline_node::agent::{Io, Network, Pending};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

/// What the network does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    /// Dials are refused at once.
    Refusing,
    /// Dials hang and open connections are silent.
    Partitioned,
    /// The other end was killed: open connections end.
    Severed,
}

/// The dialling end.
#[derive(Debug)]
pub(crate) struct MemoryNetwork {
    weather: watch::Sender<Weather>,
    server: mpsc::UnboundedSender<DuplexStream>,
    dials: watch::Sender<Vec<Instant>>,
}

impl MemoryNetwork {
    /// The network and what arrives at the other end.
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<DuplexStream>) {
        let (server, accepted) = mpsc::unbounded_channel();
        let network = Self {
            weather: watch::Sender::new(Weather::Fine),
            server,
            dials: watch::Sender::default(),
        };
        (Arc::new(network), accepted)
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// When each dial happened.
    pub(crate) fn dials(&self) -> Vec<Instant> {
        self.dials.borrow().clone()
    }

    /// Waits for so many dials in all.
    pub(crate) async fn until_dialled(&self, times: usize) {
        let mut dials = self.dials.subscribe();
        let waited = tokio::time::timeout(
            std::time::Duration::from_secs(30),
            dials.wait_for(|dials| dials.len() >= times),
        );
        let seen = waited.await.is_ok();
        assert!(seen, "{} dials instead of {times}", self.dials.borrow().len());
    }
}

impl Network for MemoryNetwork {
    fn dial<'a>(&'a self, _address: &'a str) -> Pending<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            self.dials.send_modify(|dials| dials.push(Instant::now()));
            let mut weather = self.weather.subscribe();
            if *weather.borrow() == Weather::Refusing {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            // A partition swallows the request to connect.
            weather
                .wait_for(|now| *now != Weather::Partitioned)
                .await
                .unwrap();
            let (here, there) = tokio::io::duplex(64 * 1024);
            self.server
                .send(there)
                .map_err(|_| io::ErrorKind::ConnectionRefused)?;
            let watching = WatchStream::new(self.weather.subscribe());
            Ok(Box::new(Cuttable {
                io: here,
                weather: self.weather.subscribe(),
                watching,
            }) as Box<dyn Io>)
        })
    }
}

/// A connection in this weather.
pub(crate) struct Cuttable<T> {
    io: T,
    weather: watch::Receiver<Weather>,
    watching: WatchStream<Weather>,
}

impl<T> Cuttable<T> {
    pub(crate) fn new(io: T, weather: &watch::Sender<Weather>) -> Self {
        Self {
            io,
            weather: weather.subscribe(),
            watching: WatchStream::new(weather.subscribe()),
        }
    }

    fn now(&mut self, context: &mut Context<'_>) -> Weather {
        // Polled to the end, so that the next change wakes this task.
        while let Poll::Ready(Some(_)) = Pin::new(&mut self.watching).poll_next(context) {}
        *self.weather.borrow()
    }
}

impl<T> tonic::transport::server::Connected for Cuttable<T> {
    type ConnectInfo = ();
    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl<T: AsyncRead + Unpin> AsyncRead for Cuttable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.now(context) {
            Weather::Partitioned => Poll::Pending,
            Weather::Severed => Poll::Ready(Ok(())),
            Weather::Fine | Weather::Refusing => Pin::new(&mut self.io).poll_read(context, buffer),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cuttable<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.now(context) {
            // The kernel takes them, and they get nowhere: this connection never recovers in the tests.
            Weather::Partitioned => Poll::Ready(Ok(bytes.len())),
            Weather::Severed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Weather::Fine | Weather::Refusing => Pin::new(&mut self.io).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
