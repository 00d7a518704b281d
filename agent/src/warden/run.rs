//! `loadline-warden run`: puts the parts together, in the order in which they need each other, and ends without
//! touching a worker.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loadline_model::{Bytes, Sequence};
use loadline_policy::attempt::BootId;
use loadline_policy::ceiling::Ceilings;
use loadline_policy::node_policy::{LocalTime, LocalTimes, Mode, NodePolicy, Weekday};
use loadline_policy::settings::{Place, Setpoints, slice_settings};
use loadline_policy::week::Week;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::headroom::Headroom;
use super::keeper::Keeper;
use super::logins::Logins;
use super::machine::{self, Machine, MachineError};
use super::notify::{self, Pulse};
use super::reconciler::{Command, LocalClock, Node, Outside, Reconciler, SharedLedger, lock};
use super::sample::Sampler;
use super::socket::{self, Access, SocketError, WardenService};
use super::trust::{Trust, TrustError};
use super::week::{self, Watch, Watching};
use super::{slices, watch as watching};
use crate::config::local_times;
use crate::host::cgroup::CgroupFs;
use crate::host::clock::{Clock, SystemClock, boot_id};
use crate::host::ended::EndFolder;
use crate::host::io_cost::KernelCosts;
use crate::host::journal_send::JournalSender;
use crate::host::priority;
use crate::host::root::HostRoot;
use crate::host::systemd::{LiveSystemd, Signal, Systemd, SystemdError};
use crate::host::users::{NameService, gid_of, uid_of};
use crate::ledger::{Ledger, LedgerError, SetAside};
use crate::preflight::{Bus, PreflightPassed};
use crate::prove::handover::Handover;

/// The agent's user and group.
const AGENT: &str = "loadline-agent";
/// Requests that the reconciler has not taken yet.
const COMMANDS_QUEUED: usize = 64;

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What join pinned.
    pub trust: PathBuf,
    /// The owner's policy.
    pub node_toml: PathBuf,
    /// The ledger's folder.
    pub state: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    /// The reserve's drop-in.
    pub drop_in: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            trust: "/etc/loadline/trust".into(),
            node_toml: crate::config::NODE_TOML.into(),
            state: "/var/lib/loadline/warden".into(),
            socket: "/run/loadline/warden.sock".into(),
            drop_in: slices::DROP_IN.into(),
        }
    }
}

impl Paths {
    /// End records.
    pub fn ended(&self) -> PathBuf {
        self.state.join("ended")
    }

    /// Production's history.
    fn week(&self) -> PathBuf {
        self.state.join("week.json")
    }

    fn good(&self) -> PathBuf {
        self.state.join("node.toml.good")
    }
}

/// Why the warden does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It belongs to no fleet.
    #[error("this node's trust cannot be used")]
    Trust(#[from] TrustError),
    /// The machine is not fit.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// No ledger, no warden.
    #[error("the ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// systemd cannot be reached.
    #[error("systemd cannot be reached")]
    Systemd(#[from] SystemdError),
    /// The socket cannot be opened.
    #[error("the local socket cannot be used")]
    Socket(#[from] SocketError),
    /// The kernel does not give what is needed.
    #[error("{what} failed")]
    Kernel {
        /// What was wanted.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The headroom loop is gone: started anew, the warden follows production again.
    #[error("the headroom loop ended by itself")]
    Headroom,
    /// The reconciler is gone.
    #[error("the reconciler ended by itself")]
    Reconciler,
}

fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Kernel { what, source }
}

/// A reconciler at work.
pub(super) struct Running {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) systemd: Arc<LiveSystemd>,
    pub(super) task: JoinHandle<Result<(), LedgerError>>,
    pub(super) ledger: SharedLedger,
    headroom: Headroom,
    week: Watching,
    /// Ends with it.
    _logins: Logins,
    sequence: watch::Receiver<Sequence>,
    stop: oneshot::Sender<()>,
}

impl Running {
    /// What operators let this node do.
    async fn ceilings(&self) -> Result<Ceilings, RunError> {
        let (reply, answer) = oneshot::channel();
        let gone = || RunError::Reconciler;
        self.commands
            .send(Command::Status { reply })
            .await
            .map_err(|_| gone())?;
        Ok(answer.await.map_err(|_| gone())?.node.ceilings)
    }

    /// Another policy, or another machine, in force from now on.
    async fn replace(&self, node: &Node) -> Result<(), RunError> {
        let (reply, answer) = oneshot::channel();
        let replace = Command::Replace(Box::new(node.clone()), reply);
        let gone = || RunError::Reconciler;
        self.commands.send(replace).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Ends it in order; workers go on.
    pub(super) async fn end(self) -> Result<(), RunError> {
        // It may have ended by itself; its result says so.
        let _ = self.stop.send(());
        let ended = self.task.await;
        self.week.end().await;
        ended.map_err(|_| RunError::Reconciler)?.map_err(Into::into)
    }
}

/// Looks at the machine over the given connection.
pub(super) async fn look(paths: &Paths, systemd: Result<&LiveSystemd, String>) -> Machine {
    let version = match systemd {
        Ok(systemd) => systemd.version().await.map_err(|problem| problem.to_string()),
        Err(error) => Err(error),
    };
    let bus = match version {
        Ok(systemd) => Bus::Reached { systemd },
        Err(error) => Bus::Unreachable { error },
    };
    Machine::look(HostRoot::default(), bus, paths.node_toml.clone(), paths.good())
}

/// Starts the reconciler and waits until it has taken over what runs.
pub(super) async fn start(
    paths: &Paths,
    systemd: LiveSystemd,
    signals: mpsc::Receiver<Signal>,
    mut node: Node,
    _: PreflightPassed,
) -> Result<Running, RunError> {
    std::fs::create_dir_all(&paths.state).map_err(kernel("making the state folder"))?;
    let clock = SystemClock;
    let recalled = recall(paths, clock, &mut node)?;
    let last = recalled.ledger.last_sequence();
    let ledger: SharedLedger = Arc::new(std::sync::Mutex::new(recalled.ledger));
    let systemd = Arc::new(systemd);
    write_reserve(paths, &recalled.ruled);
    let (commands, requests) = mpsc::channel(COMMANDS_QUEUED);
    let (sequence, sequences) = watch::channel(last);
    let (stop, stopped) = oneshot::channel::<()>();
    let (settled, is_settled) = oneshot::channel();
    let [pulse, looking] = [Pulse::reconciler, Pulse::headroom].map(|of| of(clock.monotonic()));
    tokio::spawn(notify::pass_on([pulse.clone(), looking.clone()], clock));
    let headroom = start_loop(&recalled.ruled, clock, looking)?;
    let week = watch_week(paths, &node, recalled.week, &commands);
    let logins = Logins::start(HostRoot::default(), systemd.clone(), &recalled.ruled);
    let outside = Outside {
        systemd: systemd.clone(),
        signals,
        clock,
        local: local_clock(clock),
        accounts: Arc::new(NameService),
        cgroups: CgroupFs::default(),
        folder: EndFolder::new(paths.ended()),
        journal: JournalSender::default(),
        floors: paths.state.join("floors.json"),
        costs: Arc::new(KernelCosts::default()),
        costs_kept: paths.state.join("io-cost.json"),
        records: watching::folder(&paths.ended()).map_err(kernel("watching the folder of end records"))?,
        ledger: ledger.clone(),
        boot: BootId(boot_id().map_err(kernel("reading the boot id"))?),
        alive: Box::new({
            let pulse = pulse.clone();
            move || pulse.beat(clock.monotonic())
        }),
        headroom: headroom.decisions(),
        ruled: hearers(&headroom, &logins),
        prover: Box::new(Keeper::start(
            Handover::default(),
            systemd.clone(),
            commands.clone(),
        )),
        settled: Some(settled),
    };
    let run = Reconciler::run(outside, node, requests, sequence, recalled.found, async {
        // The sender is gone: the same as its word.
        let _ = stopped.await;
    });
    let task = tokio::spawn(run);
    if is_settled.await.is_err() {
        return Err(match task.await {
            Ok(Err(problem)) => problem.into(),
            _ => RunError::Reconciler,
        });
    }
    Ok(Running {
        commands,
        systemd,
        task,
        ledger,
        headroom,
        week,
        _logins: logins,
        sequence: sequences,
        stop,
    })
}

/// What earlier runs of the warden have left.
struct Recalled {
    ledger: Ledger,
    found: SetAside,
    week: Week,
    /// The node under what operators said.
    ruled: Node,
}

fn recall(paths: &Paths, clock: SystemClock, node: &mut Node) -> Result<Recalled, RunError> {
    let (mut ledger, mut found) = Ledger::open(&paths.state.join("ledger.db"), clock.wall())?;
    let (ceilings, torn) = ledger.ceilings(clock.wall())?;
    let (week, broken) = week::file::load(&paths.week(), clock.wall());
    found.sentences.extend(torn.sentences);
    found.sentences.extend(broken);
    node.set_week(week.known());
    Ok(Recalled {
        ledger,
        found,
        week,
        ruled: node.under(&ceilings),
    })
}

fn start_loop(node: &Node, clock: SystemClock, pulse: Pulse) -> Result<Headroom, RunError> {
    let alive = Box::new(move |now| pulse.beat(now));
    Headroom::start(HostRoot::default(), clock, node, Box::new(place), alive)
        .map_err(kernel("starting the headroom loop"))
}

/// The line is held also if it fails: what is missing then is a courtesy to production.
fn place(place: Place) {
    if let Err(error) = priority::place_others(place) {
        warn!(%error, ?place, "the warden's other threads keep their priority");
    }
}

fn watch_week(paths: &Paths, node: &Node, week: Week, commands: &mpsc::Sender<Command>) -> Watching {
    Watching::start(Watch {
        root: HostRoot::default(),
        clock: SystemClock,
        path: paths.week(),
        capacity: week::capacity(node),
        week,
        commands: commands.clone(),
    })
}

/// Who hears at once of what the node may do.
fn hearers(headroom: &Headroom, logins: &Logins) -> Box<dyn Fn(&Node) + Send> {
    let (loops, logins) = (headroom.teller(), logins.teller());
    Box::new(move |node| {
        loops(node);
        logins(node);
    })
}

/// Windows go by the node's clock. A moment that is no date keeps windows shut, since no zone is known then.
fn local_clock(clock: SystemClock) -> LocalClock {
    Box::new(move |policy: &NodePolicy| {
        local_times(policy, clock.wall()).unwrap_or_else(|problem| {
            error!(error = &problem as &dyn std::error::Error, "local time");
            let (day, minute) = (Weekday::Mon, 0);
            LocalTimes {
                node: LocalTime { day, minute },
                zones: Default::default(),
            }
        })
    })
}

/// Renders the reserve, for the next boot: what holds now is set at run time. So systemd need not load its units anew
/// for it, in which it would serve no one for as long as its generators take.
fn write_reserve(paths: &Paths, node: &Node) {
    if node.policy.lend.mode == Mode::Shadow {
        return;
    }
    // The owner's line: what an operator says is set at run time, and nothing lent survives a boot.
    let line = node.line.owners();
    let [root, ..] = slice_settings(line, &node.pinning, &Setpoints::default(), Bytes::ZERO);
    match slices::write(&paths.drop_in, &slices::render(&root)) {
        Ok(false) => {}
        Ok(true) => info!(path = %paths.drop_in.display(), "the reserve changed"),
        // Run-time properties hold the line all the same.
        Err(problem) => error!(error = &problem as &dyn std::error::Error, "reserve"),
    }
}

/// Runs until SIGTERM. Workers go on after that.
///
/// # Errors
/// When something is missing that it cannot do without.
pub async fn run(paths: Paths) -> Result<(), RunError> {
    let trust = Trust::load(&paths.trust)?;
    let (systemd, signals) = LiveSystemd::connect().await?;
    let machine = look(&paths, Ok(&systemd)).await;
    let (node, facts, passed) = machine.start()?;
    let access = Access {
        gid: gid_of(AGENT).unwrap_or_default(),
        uids: [Some(0), uid_of(AGENT).unwrap_or_default()]
            .into_iter()
            .flatten()
            .collect(),
    };
    let running = start(&paths, systemd, signals, node.clone(), passed).await?;
    let reload_failures = Arc::new(AtomicU64::new(0));
    let service = WardenService {
        commands: running.commands.clone(),
        ledger: running.ledger.clone(),
        sequence: running.sequence.clone(),
        trust,
        accounts: Arc::new(NameService),
        facts,
        sampler: Sampler::new(HostRoot::default(), SystemClock),
        headroom: running.headroom.decisions().latest,
        cost: running.headroom.cost(),
        window: running.headroom.window(),
        week: running.week.watched(),
        started: uuid::Uuid::new_v4().to_string(),
        promises: running.headroom.promises(),
        clock: SystemClock,
        reload_failures: reload_failures.clone(),
        not_genuine: AtomicU64::new(0),
    };
    let listener = socket::open(&paths.socket, &access)?;
    let incoming = socket::incoming(listener, access);
    let server = tokio::spawn(socket::serve(service, incoming));
    let workers = lock(&running.ledger).generation();
    notify::ready(&format!("orders known up to generation {workers}"));
    let ended = serve(&paths, &running, node, &reload_failures).await;
    notify::stopping();
    server.abort();
    running.end().await?;
    ended
}

/// Another policy in force: whoever has to go for it is told first.
async fn renew(paths: &Paths, running: &Running, mut node: Node) -> Result<Node, RunError> {
    running.replace(&node).await?;
    if machine::must_repin(&node) {
        let pinning = look(paths, Ok(&running.systemd)).await.repin(&node.policy);
        if pinning != node.pinning {
            node.pinning = pinning;
            running.replace(&node).await?;
        }
    }
    let ceilings = running.ceilings().await?;
    write_reserve(paths, &node.under(&ceilings));
    Ok(node)
}

/// Waits for what the service manager has to say.
async fn serve(
    paths: &Paths,
    running: &Running,
    mut node: Node,
    reload_failures: &AtomicU64,
) -> Result<(), RunError> {
    let listen = |kind| signal(kind).map_err(kernel("listening for signals"));
    let (mut terminate, mut interrupt, mut hang_up) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
        listen(SignalKind::hangup())?,
    );
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = running.commands.closed() => return Err(RunError::Reconciler),
            () = running.headroom.ended() => return Err(RunError::Headroom),
            _ = hang_up.recv() => {
                notify::reloading(SystemClock.monotonic());
                match machine::reload(&paths.node_toml, &paths.good(), &node) {
                    Ok(fresh) => {
                        node = renew(paths, running, fresh).await?;
                        info!("node.toml is in force");
                    }
                    Err(problem) => {
                        reload_failures.fetch_add(1, Ordering::Relaxed);
                        error!(error = &problem as &dyn std::error::Error, "node.toml: the last good one stays");
                    }
                }
                notify::ready("");
            }
        }
    }
}
