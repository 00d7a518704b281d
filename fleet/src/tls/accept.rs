//! The accept loop of one port.
//!
//! A full bucket of the whole port means back pressure: connections wait in the kernel's queue, so a storm of
//! reconnecting nodes is absorbed at the rate fleetd can do handshakes. A full bucket of one peer (port 7718)
//! means that its connections are closed unanswered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::bucket::{Bucket, PeerBuckets, Rate};
use super::connection::{Closed, Connection, ConnectionLimits};
use super::pki::Pki;
use super::verifier::failure_reason;
use crate::http::Metrics;
use crate::trust::{DirectorySource, PeerCertificate};

/// Out of file descriptors or memory: accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which of the two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 7717: mutual.
    Session,
    /// 7718: join and login; the client has no certificate yet.
    Access,
}

/// How fast connections may come.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// All together.
    pub all: Rate,
    /// Each address.
    pub per_peer: Option<Rate>,
}

impl Port {
    /// 10,000 nodes come back within a minute (promise P7); people try a login a few times.
    pub const fn accept_limits(self) -> AcceptLimits {
        match self {
            Self::Session => AcceptLimits {
                all: Rate {
                    burst: 500,
                    per_second: 500,
                },
                per_peer: None,
            },
            Self::Access => AcceptLimits {
                all: Rate {
                    burst: 100,
                    per_second: 50,
                },
                per_peer: Some(Rate {
                    burst: 30,
                    per_second: 5,
                }),
            },
        }
    }
}

/// A bound port with everything its connections need.
#[derive(Debug)]
pub struct Listener {
    /// Which it is.
    pub port: Port,
    /// The bound socket.
    pub tcp: TcpListener,
    /// The certificates in force.
    pub pki: watch::Receiver<Arc<Pki>>,
    /// Who is known and who is banned.
    pub directory: DirectorySource,
    /// Ages and time-outs.
    pub connections: ConnectionLimits,
    /// Rates.
    pub accepts: AcceptLimits,
    /// Where refusals are counted.
    pub metrics: Arc<Metrics>,
    /// True once fleetd stops.
    pub shutdown: watch::Receiver<bool>,
}

/// Why a port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It is taken, or not ours.
    #[error("listening on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn bind(address: SocketAddr) -> Result<TcpListener, AcceptError> {
        TcpListener::bind(address)
            .await
            .map_err(|source| AcceptError::Bind { address, source })
    }

    /// Accepts until shutdown, then returns once every connection has ended.
    pub async fn serve<S, F>(mut self, service: S)
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<tonic::body::Body>> + Send + 'static,
    {
        let mut all = Bucket::new(self.accepts.all, Instant::now());
        let mut peers = self.accepts.per_peer.map(PeerBuckets::new);
        // Dropped by each connection's task when it ends; closed once all have.
        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.tcp, &mut all) => accepted,
                stop = self.shutdown.wait_for(|stop| *stop) => {
                    drop(stop);
                    break;
                }
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(port = ?self.port, %error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Some(peers) = &mut peers
                && peers.take(address.ip(), Instant::now()).is_err()
            {
                self.metrics.auth_failure("rate_limited");
                continue;
            }
            let handshake = self.handshake(stream, address);
            let (service, alive) = (service.clone(), alive.clone());
            tokio::spawn(async move {
                handshake.run(service).await;
                drop(alive);
            });
        }
        drop(alive);
        drop(self.tcp);
        // Nothing is ever sent: this returns when the last connection has dropped its end.
        ended.recv().await;
    }

    fn handshake(&self, stream: TcpStream, address: SocketAddr) -> Handshake {
        let pki = self.pki.borrow();
        let config = match self.port {
            Port::Session => pki.session.clone(),
            Port::Access => pki.access.clone(),
        };
        Handshake {
            port: self.port,
            stream,
            address,
            config,
            fleet: pki.authority.fleet(),
            limits: self.connections,
            directory: self.directory.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        }
    }
}

async fn accept(tcp: &TcpListener, all: &mut Bucket) -> io::Result<(TcpStream, SocketAddr)> {
    // Cancel-safe: a token is taken only after the wait, and one lost to shutdown is not missed.
    while let Err(wait) = all.take(Instant::now()) {
        sleep(wait).await;
    }
    tcp.accept().await
}

struct Handshake {
    port: Port,
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    fleet: loadline_model::FleetId,
    limits: ConnectionLimits,
    directory: DirectorySource,
    metrics: Arc<Metrics>,
    shutdown: watch::Receiver<bool>,
}

impl Handshake {
    async fn run<S, F>(self, service: S)
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<tonic::body::Body>> + Send + 'static,
    {
        let (port, address, metrics) = (self.port, self.address, self.metrics.clone());
        if let Err(error) = self.stream.set_nodelay(true) {
            debug!(%address, %error, "the connection is gone already");
            return;
        }
        let tls = match timeout(
            self.limits.handshake,
            TlsAcceptor::from(self.config).accept(self.stream),
        )
        .await
        {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                let tls_error = error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>());
                let reason = tls_error.map_or("disconnected", failure_reason);
                metrics.auth_failure(reason);
                info!(?port, %address, reason, %error, "connection refused");
                return;
            }
            Err(_) => {
                metrics.auth_failure("handshake_timeout");
                info!(?port, %address, "connection refused: no handshake in time");
                return;
            }
        };
        let certificate = match port {
            Port::Access => None,
            Port::Session => match peer_certificate(&tls, self.fleet) {
                Some(certificate) => Some(certificate),
                None => {
                    metrics.auth_failure("no_certificate");
                    return;
                }
            },
        };
        let connection = Connection {
            address,
            certificate,
            limits: self.limits,
            directory: self.directory,
            shutdown: self.shutdown,
        };
        let identity = connection
            .certificate
            .as_ref()
            .map(|certificate| certificate.identity.clone());
        if connection.serve(tls, service).await == Closed::Banned {
            info!(%address, ?identity, "connection closed: banned");
        }
    }
}

fn peer_certificate(tls: &TlsStream<TcpStream>, fleet: loadline_model::FleetId) -> Option<PeerCertificate> {
    // The verifier has read the same certificate: this can fail only if it was not asked.
    let der = tls.get_ref().1.peer_certificates()?.first()?;
    PeerCertificate::read(fleet, der).ok()
}
