//! One accepted connection, from its handshake to its end.
//!
//! Four things end it: the peer, its age, fleetd's shutdown, a ban. Age and shutdown say goodbye first (GOAWAY,
//! and [`Peer::drain`] for streams that would never end by themselves) and close after a grace; a ban closes at
//! once.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::trust::{DirectorySource, PeerCertificate};

/// A dead peer is noticed when it has sent nothing for `keepalive_interval` and then does not answer a ping
/// within `keepalive_timeout`: together under the 15 s after which a node counts as suspect.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// How long a handshake may take.
    pub handshake: Duration,
    /// The most a connection lives; the exact age is between 90 % and 110 % of it, so that a fleet that
    /// connected together does not reconnect together.
    pub age: Duration,
    /// How long a connection may go on after goodbye.
    pub grace: Duration,
    /// Silence after which a ping is sent.
    pub keepalive_interval: Duration,
    /// How long its answer may take.
    pub keepalive_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            age: Duration::from_secs(3600),
            grace: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(8),
            keepalive_timeout: Duration::from_secs(6),
        }
    }
}

/// Who is at the other end; every request carries it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address the connection came from.
    pub address: SocketAddr,
    /// What its certificate says; none on port 7718.
    pub certificate: Option<PeerCertificate>,
    /// True once the connection is about to be closed: endless streams end then.
    pub drain: watch::Receiver<bool>,
}

/// Why a connection ended, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    ByPeer,
    Banned,
    OutOfGrace,
}

pub(crate) struct Connection {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<PeerCertificate>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) directory: DirectorySource,
    pub(crate) shutdown: watch::Receiver<bool>,
}

impl Connection {
    /// Serves until the connection ends. `service` answers; it never fails.
    pub(crate) async fn serve<IO, S, F>(mut self, io: IO, service: S) -> Closed
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<tonic::body::Body>> + Send + 'static,
    {
        let (drain, draining) = watch::channel(false);
        let peer = Peer {
            address: self.address,
            certificate: self.certificate.clone(),
            drain: draining,
        };
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let answer = service(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(self.limits.keepalive_interval)
            .keep_alive_timeout(self.limits.keepalive_timeout);
        let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
        let mut age = pin!(sleep_until(Instant::now() + jittered(self.limits.age)));
        let mut leaving = false;
        loop {
            // All arms are cancel-safe: polling the connection again goes on where it was, the others only wait.
            tokio::select! {
                _ = &mut connection => return Closed::ByPeer,
                () = banned(&mut self.directory, self.certificate.as_ref()) => return Closed::Banned,
                () = &mut age => {
                    if leaving {
                        return Closed::OutOfGrace;
                    }
                }
                () = stopped(&mut self.shutdown), if !leaving => {}
            }
            leaving = true;
            drain.send_replace(true);
            connection.as_mut().graceful_shutdown();
            age.as_mut().reset(Instant::now() + self.limits.grace);
        }
    }
}

fn jittered(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.9..1.1))
}

async fn banned(directory: &mut DirectorySource, certificate: Option<&PeerCertificate>) {
    if let Some(certificate) = certificate {
        let found = directory
            .wait_for(|directory| directory.is_banned(&certificate.identity))
            .await;
        if found.is_ok() {
            return;
        }
    }
    // No certificate, or no directory any more (fleetd ends): nobody can be banned.
    std::future::pending().await
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        // The sender is gone only when fleetd ends: that is a stop as well.
    }
}
