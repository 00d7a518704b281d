//! A network in memory, with cuts: refused dials, and partitions in which bytes simply do not arrive.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use loadline_node::agent::{Io, Network, Pending};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

/// What the network does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    /// Dials are refused at once.
    Refusing,
    /// Dials hang and open connections are silent.
    Partitioned,
}

/// The dialling end.
#[derive(Debug)]
pub struct MemoryNetwork {
    weather: watch::Sender<Weather>,
    server: mpsc::UnboundedSender<DuplexStream>,
    dials: Mutex<Vec<Instant>>,
}

impl MemoryNetwork {
    /// The network and what arrives at the other end.
    pub fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<DuplexStream>) {
        let (server, accepted) = mpsc::unbounded_channel();
        let network = Self {
            weather: watch::Sender::new(Weather::Fine),
            server,
            dials: Mutex::default(),
        };
        (Arc::new(network), accepted)
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// When each dial happened.
    pub fn dials(&self) -> Vec<Instant> {
        self.dials.lock().unwrap().clone()
    }
}

impl Network for MemoryNetwork {
    fn dial<'a>(&'a self, _address: &'a str) -> Pending<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            self.dials.lock().unwrap().push(Instant::now());
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

/// A connection that hears and says nothing while the network is partitioned.
struct Cuttable {
    io: DuplexStream,
    weather: watch::Receiver<Weather>,
    watching: WatchStream<Weather>,
}

impl Cuttable {
    fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        // Polled to the end, so that the next change wakes this task.
        while let Poll::Ready(Some(_)) = Pin::new(&mut self.watching).poll_next(context) {}
        *self.weather.borrow() == Weather::Partitioned
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut(context) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut(context) {
            // The kernel takes them, and they get nowhere: this connection never recovers in the tests.
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
