//! `fleetd run`: everything together, from the configuration to the last connection.
//!
//! Order of start: keys, store and writer, certificates, audit log, ports, then ready. Order of end: no new
//! connections, streams say goodbye, connections end, the writer and the audit log finish what they hold.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::init::{AUDIT, STORE};
use super::{account, notify, pki};
use crate::api::{Edge, VERSION, access_service, session_service};
use crate::audit::{AuditError, AuditLog};
use crate::ca::{FleetKeys, KeysError, KeysLayout};
use crate::clock::Clock;
use crate::config::{Config, ReachableName};
use crate::http::{self, Metrics};
use crate::session::Sessions;
use crate::store::{CommitError, Sqlite, StoreError};
use crate::tls::{AcceptError, ConnectionLimits, Listener, PkiError, Port};
use crate::writer::{self, Fleet, StartError, WriterThread};

/// How long connections may take to end; systemd waits longer.
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// Joining is one call: whoever stays longer on port 7718 only holds a place.
const NEWCOMER_AGE: Duration = Duration::from_secs(60);
/// How long tasks may take that have lost their connections.
const TASKS_WAIT: Duration = Duration::from_secs(2);

/// Why fleetd does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There are no keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state cannot be loaded.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A port cannot be had.
    #[error(transparent)]
    Port(#[from] AcceptError),
    /// The counters could not be made.
    #[error("making the counters")]
    Metrics(#[from] prometheus::Error),
    /// No name to be reached by.
    #[error("nobody knows how to reach this fleet: set `names` in the configuration")]
    NoName,
    /// The machine gives no runtime or signals.
    #[error("starting the runtime")]
    Runtime(#[source] std::io::Error),
    /// The writer gave up.
    #[error("the store broke; fleetd ends, and is started again with what is durable")]
    Writer(#[from] CommitError),
}

/// The addresses in use, with the ports that were given if 0 was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Mutual TLS.
    pub session: SocketAddr,
    /// Join and login.
    pub access: SocketAddr,
    /// Metrics and health.
    pub http: SocketAddr,
}

/// A running fleetd.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens.
    pub addresses: Addresses,
    /// What its calls share.
    pub edge: Arc<Edge>,
    shutdown: watch::Sender<bool>,
    tasks: JoinSet<()>,
    background: JoinSet<()>,
    writer: WriterThread,
    audit: JoinHandle<()>,
}

/// What has to end after the runtime.
#[derive(Debug)]
pub struct Threads {
    writer: WriterThread,
    audit: JoinHandle<()>,
}

pub(super) fn command(path: &Path) -> Result<(), super::Failure> {
    let config = Config::load(path)?;
    account::become_owner(&config.state_dir)?;
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let threads = runtime.block_on(async {
        let serving = start(&config, Clock::system(), ConnectionLimits::default()).await?;
        info!(version = VERSION, addresses = ?serving.addresses, "fleetd is ready");
        notify::ready();
        serving.until_told().await
    })?;
    // Whatever still runs holds handles of the writer, which ends only without them.
    runtime.shutdown_timeout(TASKS_WAIT);
    threads.finish()?;
    info!("fleetd has ended");
    Ok(())
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // The journal has its own times.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}

/// Starts everything; answers once all ports are open.
///
/// # Errors
/// What is missing. The store is free again then.
pub async fn start(config: &Config, clock: Clock, limits: ConnectionLimits) -> Result<Serving, ServeError> {
    let keys = KeysLayout::of(&config.state_dir).read()?;
    let ports = Ports::open(config).await?;
    let store = Sqlite::open(&config.state_dir.join(STORE))?;
    let (fleet, writer) = writer::start_with(Box::new(store), clock.clone(), config.sharing.clone())?;
    match Inside::build(config, keys, ports.addresses, fleet, clock) {
        Ok(inside) => Ok(inside.serve(ports, limits, writer)),
        Err(error) => {
            // Every handle of the writer is dropped, so it ends at once.
            writer.join()?;
            Err(error)
        }
    }
}

/// The bound sockets.
struct Ports {
    session: TcpListener,
    access: TcpListener,
    http: TcpListener,
    addresses: Addresses,
}

impl Ports {
    async fn open(config: &Config) -> Result<Self, ServeError> {
        let session = Listener::bind(config.session).await?;
        let access = Listener::bind(config.access).await?;
        let http = Listener::bind(config.http).await?;
        let addresses = Addresses {
            session: local(&session, config.session)?,
            access: local(&access, config.access)?,
            http: local(&http, config.http)?,
        };
        Ok(Self {
            session,
            access,
            http,
            addresses,
        })
    }
}

/// Everything but sockets and the writer's thread.
struct Inside {
    edge: Arc<Edge>,
    background: JoinSet<()>,
    audit: JoinHandle<()>,
}

impl Inside {
    fn build(
        config: &Config,
        keys: FleetKeys,
        addresses: Addresses,
        fleet: Fleet,
        clock: Clock,
    ) -> Result<Self, ServeError> {
        let metrics = Arc::new(Metrics::new(VERSION)?);
        let directory = fleet.directory();
        let source = pki::source(config, &keys, clock.clone(), directory.clone());
        let first = source.load()?;
        pki::show(&first, &metrics);
        let (in_force, newest) = watch::channel(Arc::new(first));
        let name = reachable(config, &keys, addresses)?;
        let reload = on(SignalKind::hangup())?;
        let (audit, audit_thread) = AuditLog::open(&config.state_dir.join(AUDIT), metrics.clone())?;
        let edge = Arc::new(Edge {
            fleet_id: keys.fleet,
            fleet,
            sessions: Sessions::default(),
            order_key: keys.order,
            pki: newest,
            audit,
            directory,
            clock,
            metrics: metrics.clone(),
            session_address: name.with_port(addresses.session.port()),
            access_address: name,
        });
        let mut background = JoinSet::new();
        background.spawn(pki::keep(source, in_force, metrics, reload));
        background.spawn(edge.fleet.clone().tick());
        if let Some(interval) = notify::watchdog_interval() {
            background.spawn(watchdog(edge.clone(), interval));
        }
        Ok(Self {
            edge,
            background,
            audit: audit_thread,
        })
    }

    fn serve(self, ports: Ports, limits: ConnectionLimits, writer: WriterThread) -> Serving {
        let Self {
            edge,
            background,
            audit,
        } = self;
        let (shutdown, stopping) = watch::channel(false);
        let listener = |port: Port, tcp: TcpListener| Listener {
            port,
            tcp,
            pki: edge.pki.clone(),
            directory: edge.directory.clone(),
            connections: match port {
                Port::Session => limits,
                Port::Access => ConnectionLimits {
                    age: limits.age.min(NEWCOMER_AGE),
                    ..limits
                },
            },
            accepts: port.accept_limits(),
            metrics: edge.metrics.clone(),
            shutdown: stopping.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(listener(Port::Session, ports.session).serve(session_service(edge.clone())));
        tasks.spawn(listener(Port::Access, ports.access).serve(access_service(edge.clone())));
        tasks.spawn(http::serve(ports.http, edge.clone(), stopping.clone()));
        let addresses = ports.addresses;
        Serving {
            addresses,
            edge,
            shutdown,
            tasks,
            background,
            writer,
            audit,
        }
    }
}

async fn watchdog(edge: Arc<Edge>, interval: Duration) {
    loop {
        match http::healthy(&edge).await {
            Ok(()) => notify::alive(),
            Err(problem) => warn!(%problem, "systemd is not told that fleetd lives"),
        }
        sleep(interval).await;
    }
}

fn local(tcp: &TcpListener, address: SocketAddr) -> Result<SocketAddr, ServeError> {
    tcp.local_addr()
        .map_err(|source| ServeError::Port(AcceptError::Bind { address, source }))
}

/// The first name; with the port that is really open, where the configuration left it to the system.
fn reachable(config: &Config, keys: &FleetKeys, addresses: Addresses) -> Result<ReachableName, ServeError> {
    let name = pki::names(config, keys)
        .into_iter()
        .next()
        .ok_or(ServeError::NoName)?;
    if config.access.port() == 0 {
        let text = name.with_port(addresses.access.port());
        return text.parse().map_err(|_| ServeError::NoName);
    }
    Ok(name)
}

fn on(kind: SignalKind) -> Result<Signal, ServeError> {
    signal(kind).map_err(ServeError::Runtime)
}

impl Serving {
    async fn until_told(self) -> Result<Threads, ServeError> {
        let mut terminate = on(SignalKind::terminate())?;
        let mut interrupt = on(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => info!("told to stop"),
            _ = interrupt.recv() => info!("told to stop"),
            () = self.edge.fleet.ended() => warn!("the writer has ended: fleetd ends too"),
        }
        notify::stopping();
        Ok(self.stop().await)
    }

    /// Says goodbye to everyone and closes everything.
    pub async fn stop(mut self) -> Threads {
        self.shutdown.send_replace(true);
        let drained = timeout(DRAIN_WAIT, async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        if drained.is_err() {
            warn!("some connections did not end in time and are cut");
        }
        self.background.shutdown().await;
        Threads {
            writer: self.writer,
            audit: self.audit,
        }
    }
}

impl Threads {
    /// Waits for the writer and the audit log. Blocks, and only ends once the runtime's tasks have.
    ///
    /// # Errors
    /// Why the writer gave up.
    pub fn finish(self) -> Result<(), ServeError> {
        let written = self.writer.join();
        // A panic there has been printed; everything that was acknowledged is durable.
        self.audit.join().ok();
        Ok(written?)
    }
}
