//! From the command line to the report: looks at the machine, refuses where no test may begin, brings the stand-in up,
//! runs the rounds, takes everything away again, signs what came out.

mod deliver;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use loadline_model::{Span, Topology};
use loadline_policy::headroom::Level;
use loadline_policy::node_policy::{Mode, NodePolicy, ProveConsent};
use loadline_policy::prove::Resource;
use loadline_policy::prove::ordered::NoTest;
use loadline_policy::prove::plan::{Asked, PlanProblem, schedule};
use loadline_policy::prove::start::{Ground, Refusal, may_start};
use loadline_policy::reconcile::UnitActive;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::cli::Arguments;
use super::flow::{self, Outcome, Outside, Task, Watcher, unit_of};
use super::handover::HandoverError;
use super::probe::{LiveProber, Target, TargetError};
use super::report::{NodeKey, Report, SignError, VerifyError, verify};
use super::watcher::LiveWatcher;
use super::{ordered, stand_in};
use crate::agent::durable::WriteError;
use crate::config::{self, ConfigError, NODE_TOML};
use crate::host::cgroup::CgroupFs;
use crate::host::clock::{Clock, SystemClock};
use crate::host::facts::{HostFacts, gather};
use crate::host::root::HostRoot;
use crate::host::systemd::aside::{Aside, AsideUnit, Place};
use crate::host::systemd::{LiveSystemd, Signal, Systemd, SystemdError};
use crate::preflight::{self, Bus, PreflightFailed};
use crate::sentence::{chain, say};
use crate::warden::run::Paths;
use crate::warden::wire::client::LocalWarden;
use deliver::{Made, deliver};

pub(super) use deliver::texts;

/// The node's key for reports.
const KEY: &str = "/var/lib/loadline/warden/prove.key";
/// Two tests at once would measure each other.
const LOCK: &str = "/run/loadline/prove.lock";
/// The unit of the stand-in.
pub const STAND_IN: &str = "loadline-prove-standin.service";
/// How long the stand-in may take until it answers.
const STAND_IN_LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Production's use is a difference of two readings.
const READING: Duration = Duration::from_secs(1);
/// What the stand-in lives longer than the test at most.
const SPARE_LIFE: Span = Span::from_secs(120);
const SIGKILL: i32 = 9;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProveError {
    #[error(
        "a test needs root, to start lent work and to keep it within the line: run `sudo loadline-warden prove`"
    )]
    NotRoot,
    #[error(transparent)]
    Plan(#[from] PlanProblem),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Preflight(#[from] PreflightFailed),
    #[error("another test runs on this machine, and two would measure each other: wait for its end")]
    Locked,
    #[error("the lock {LOCK} cannot be had")]
    Lock(#[source] io::Error),
    #[error("the machine's CPUs and memory cannot be read: {0}")]
    Topology(String),
    #[error("the local policy cannot be used: mend it, and try `loadline-warden check`")]
    Config(#[from] ConfigError),
    #[error("systemd cannot be asked")]
    Systemd(#[from] SystemdError),
    #[error("the running warden does not say how production stands: {0}")]
    Warden(String),
    #[error("this program does not know where it lies")]
    Program(#[source] io::Error),
    #[error(
        "the stand-in for production did not begin to answer: see `journalctl -u {STAND_IN}`, or name a service with --probe"
    )]
    StandIn,
    #[error("no port for the stand-in")]
    Port(#[source] io::Error),
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("the report cannot be signed")]
    Sign(#[from] SignError),
    #[error("reading {} failed", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("the report cannot be kept")]
    Keep(#[from] WriteError),
    #[error("what the fleet ordered cannot be read")]
    Order(#[from] HandoverError),
    #[error("the fleet has ordered no test here: run `loadline-warden prove` for one of your own")]
    NoOrder,
    #[error(transparent)]
    Unasked(#[from] NoTest),
    #[error("making {} failed", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl ProveError {
    /// 2 for what was typed wrongly, 1 for what did not work.
    fn code(&self) -> ExitCode {
        match self {
            Self::Plan(_) | Self::Target(TargetError::Form(_) | TargetError::Tls(_)) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// True if nothing was wrong but the moment, the place, or what was asked.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Plan(_)
                | Self::Target(_)
                | Self::Refused(_)
                | Self::Preflight(_)
                | Self::Locked
                | Self::Unasked(_)
        )
    }
}

/// What the test does just now goes there.
pub(super) type Tell = fn(&str);

/// Runs it and says how it went: 0 for a whole report, whatever its verdicts; 1 for one that was stopped, or none.
pub async fn main(arguments: Arguments) -> ExitCode {
    let ended = match &arguments.verify {
        Some(path) => check(path).map(|()| true),
        None if arguments.ordered => ordered::run().await,
        None => by_hand(&arguments).await,
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("loadline-warden: {}", chain(&problem));
            problem.code()
        }
    }
}

fn check(path: &Path) -> Result<(), ProveError> {
    let text = fs::read_to_string(path).map_err(|source| ProveError::Read {
        path: path.into(),
        source,
    })?;
    let signed = verify(&text)?;
    let (report, key) = (&signed.report, &signed.signature.public_key);
    // Made here only by a test: a check must not make a key.
    let own = Path::new(KEY).exists().then(|| NodeKey::of(Path::new(KEY)));
    let whose = match own {
        Some(Ok(own)) if own.public() == *key => "this node's own key",
        Some(Ok(_)) => "the key of another node: compare it with what that node's owner tells you",
        Some(Err(_)) | None => {
            "a key that this machine does not know: compare it with what that node's owner tells you"
        }
    };
    say(format_args!(
        "genuine: unchanged since it was signed on {} at {}, with key {key} ({whose})",
        report.node.name, report.begun
    ));
    Ok(())
}

/// What was found out before anything is touched.
struct Machine {
    facts: HostFacts,
    topology: Topology,
    policy: NodePolicy,
    systemd: LiveSystemd,
    version: String,
    /// Nobody reads them, but a bus that is lost is found again only for someone who might.
    _signals: mpsc::Receiver<Signal>,
}

async fn by_hand(arguments: &Arguments) -> Result<bool, ProveError> {
    let report = test(arguments, |line| eprintln!("{line}")).await?;
    let whole = report.is_whole();
    deliver(arguments, report)?;
    Ok(whole)
}

pub(super) async fn test(arguments: &Arguments, tell: Tell) -> Result<Report, ProveError> {
    let asked = Asked {
        resources: arguments.resource.clone(),
        rounds: arguments.rounds,
        round: arguments.round,
        limit: arguments.limit,
    };
    let steps = schedule(&asked)?;
    let named = arguments.probe.as_deref().map(str::parse::<Target>).transpose()?;
    if !nix::unistd::geteuid().is_root() {
        return Err(ProveError::NotRoot);
    }
    let _lock = lock(Path::new(LOCK))?;
    let machine = look().await?;
    if arguments.ordered && machine.policy.lend.prove == ProveConsent::Refuse {
        return Err(NoTest::Owner.into());
    }
    let target = match named {
        Some(target) => target,
        None => of_policy(&machine.policy)?,
    };
    // Of a test that was killed: nobody else holds the lock, so nobody uses them.
    sweep(&machine.systemd).await?;
    let root = HostRoot::default();
    let mut watcher = LiveWatcher::new(root.clone(), machine.topology.clone(), machine.policy.clone());
    tokio::time::sleep(READING).await;
    let ground = ground(&machine, &mut watcher, arguments.with_workers).await?;
    may_start(&ground)?;
    let line = watcher.line();
    let program = std::env::current_exe().map_err(ProveError::Program)?;
    let program = program.to_string_lossy().into_owned();
    let begun = SystemClock.wall();
    let seed = u64::try_from(begun.0).unwrap_or(0);
    let hold_line = ground.level.is_none() || ground.mode != Mode::Enforce;
    let task = Task {
        steps,
        round: asked.round,
        limit: asked.limit,
        target: target.clone(),
        rate: arguments.rate,
        seed,
        hold_line,
        program: program.clone(),
    };
    let stop = signals()?;
    let started = SystemClock.monotonic();
    let outcome = with_stand_in(&machine.systemd, &task, watcher, root, stop, tell).await?;
    Ok(Made {
        machine: &machine,
        asked: &asked,
        task: &task,
        line: &line,
        workers: ground.workers,
        begun_us: begun.0,
        took: SystemClock.monotonic().minus(started),
    }
    .report(&outcome))
}

fn lock(path: &Path) -> Result<Flock<File>, ProveError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(ProveError::Lock)?;
    }
    let file = File::create(path).map_err(ProveError::Lock)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => ProveError::Locked,
        other => ProveError::Lock(other.into()),
    })
}

async fn look() -> Result<Machine, ProveError> {
    let facts = gather(&HostRoot::default());
    let topology = facts.topology.clone().map_err(ProveError::Topology)?;
    let policy = config::load(Path::new(NODE_TOML), &topology)?.policy;
    let (systemd, signals) = LiveSystemd::connect().await?;
    let version = systemd.version().await?;
    let bus = Bus::Reached {
        systemd: version.clone(),
    };
    preflight::check(&facts, &bus, Ok(&policy)).passed()?;
    Ok(Machine {
        facts,
        topology,
        policy,
        systemd,
        version,
        _signals: signals,
    })
}

/// The first promise of the policy that can be probed, else the stand-in.
fn of_policy(policy: &NodePolicy) -> Result<Target, TargetError> {
    let mut promises = policy.protect.iter().filter_map(|protect| protect.slo.as_ref());
    promises
        .find_map(|slo| Target::of_slo(&slo.probe))
        .unwrap_or(Ok(Target::StandIn))
}

async fn sweep(systemd: &LiveSystemd) -> Result<(), SystemdError> {
    for unit in Resource::ALL
        .map(unit_of)
        .iter()
        .map(String::as_str)
        .chain([STAND_IN])
    {
        if systemd.observe(unit).await?.is_some() {
            end(systemd, unit).await;
        }
    }
    Ok(())
}

/// Ends a unit; gone already is what was wanted.
async fn end(systemd: &LiveSystemd, unit: &str) {
    for asked in [systemd.kill(unit, SIGKILL).await, systemd.stop(unit).await] {
        match asked {
            Ok(()) | Err(SystemdError::NoSuchUnit { .. }) => {}
            Err(problem) => tracing::warn!(%unit, error = &problem as &dyn std::error::Error, "ending"),
        }
    }
}

async fn ground(
    machine: &Machine,
    watcher: &mut LiveWatcher,
    with_workers: bool,
) -> Result<Ground, ProveError> {
    let owners = machine.policy.lend.mode;
    let (level, mode, closed) = match LocalWarden::connect(&Paths::default().socket).await {
        None => (None, owners, false),
        Some(mut warden) => {
            let status = warden.local_status().await;
            let status = status.map_err(|(problem, _)| ProveError::Warden(problem))?;
            let level = Level::ALL.into_iter().find(|level| level.word() == status.level);
            let unknown =
                || ProveError::Warden("its ladder stands nowhere yet; try again in a moment".into());
            // What operators say counts as well: they may have closed what the owner leaves open.
            let mode = Mode::from_word(&status.mode).unwrap_or(owners);
            (Some(level.ok_or_else(unknown)?), mode, status.is_closed())
        }
    };
    let workers = machine.systemd.workers().await?;
    Ok(Ground {
        mode,
        owner_mode: owners,
        closed,
        level,
        workers: workers
            .iter()
            .filter(|(_, active)| *active != UnitActive::Over)
            .count(),
        with_workers,
        room: watcher.look().room,
    })
}

/// Says why to stop, once a signal came.
fn signals() -> Result<watch::Receiver<Option<&'static str>>, ProveError> {
    let (tell, told) = watch::channel(None);
    for (kind, name) in [
        (SignalKind::interrupt(), "interrupted by SIGINT"),
        (SignalKind::terminate(), "interrupted by SIGTERM"),
        (SignalKind::hangup(), "interrupted by SIGHUP"),
    ] {
        let mut listener = signal(kind).map_err(ProveError::Signals)?;
        let tell = tell.clone();
        tokio::spawn(async move {
            listener.recv().await;
            tell.send_replace(Some(name));
        });
    }
    Ok(told)
}

/// Brings the stand-in up if it is needed, runs the test, and takes it away whatever happened.
async fn with_stand_in(
    systemd: &LiveSystemd,
    task: &Task,
    watcher: LiveWatcher,
    root: HostRoot,
    stop: watch::Receiver<Option<&'static str>>,
    tell: Tell,
) -> Result<Outcome, ProveError> {
    let mut prober = LiveProber::default();
    if task.target == Target::StandIn {
        match bring_up(systemd, task).await {
            Ok(address) => prober.stand_in = Some(address),
            Err(problem) => {
                end(systemd, STAND_IN).await;
                return Err(problem);
            }
        }
    }
    let outside = Outside {
        systemd,
        prober,
        watcher,
        clock: SystemClock,
        cgroups: CgroupFs::default(),
        root,
        stop,
        tell,
    };
    let outcome = flow::run(outside, task).await;
    if task.target == Target::StandIn {
        end(systemd, STAND_IN).await;
    }
    Ok(outcome)
}

async fn bring_up(systemd: &LiveSystemd, task: &Task) -> Result<SocketAddr, ProveError> {
    let port = stand_in::free_port().map_err(ProveError::Port)?;
    let words = [&task.program, "prove-stand-in", "--port", &port.to_string()].map(ToOwned::to_owned);
    let unit = AsideUnit {
        name: STAND_IN.into(),
        description: "Stand-in for production in an interference test of Loadline".into(),
        argv: words.to_vec(),
        place: Place::Production,
        life: task.limit.plus(SPARE_LIFE),
    };
    if !systemd.start_aside(&unit).await? {
        return Err(ProveError::StandIn);
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answers = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(STAND_IN_LIMIT, answers).await {
        Ok(()) => Ok(address),
        Err(_) => Err(ProveError::StandIn),
    }
}

#[cfg(test)]
mod tests;
