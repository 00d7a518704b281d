//! Durable placements: how many workers a second go from a job's submission to their order in the hands of the session
//! of the node's agent, everything committed in between.
//!
//! One measurement a call, printed as JSON. `api` is fleetd as it runs, with its store and its audit log, in this
//! process; 64 people stream messages of a hundred jobs over TLS and gRPC, each with one message on its way. `writer`
//! is the same without the door: jobs enter fleetd's writer as the services hand them on, and nothing is audited. Agents
//! are played: each takes what is queued for its session and says every 5 s that it lives, without TLS of its own.
//! What fleetd and what the players take of the CPUs is told apart by their threads.

mod door;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use door::{Client, Door};
use loadline_fleet::Fleet;
use loadline_fleet::state::{Command, Hello, Inventory, LendMode, OrderKind, SessionId};
use loadline_fleet::writer::{NodeLink, Outgoing};
use loadline_model::{
    Amounts, Bytes, CpuRequest, Generation, JobDraft, JobSpec, LedgerId, MilliCpu, NodeId, NodeSample,
    Pressure, ResourceSample, Sequence, Tier, WallTime, WorkerRequest, Workers,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// As many as submit at once in the figure that is promised.
const CLIENTS: u64 = 64;
/// Jobs in one message of a client.
const MESSAGE: u64 = 100;
/// Placed before the clock starts.
const WARM: u64 = 4000;
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// The threads of the players; all others are fleetd's.
const PLAYERS: &str = "player";

/// Where jobs come in.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Through {
    Api,
    Writer,
}

#[derive(Debug, Parser)]
struct Arguments {
    /// Where the database is made; it decides which disk is measured
    folder: PathBuf,
    through: Through,
    /// How many nodes the fleet has
    nodes: u64,
    /// How many workers are placed while the clock runs
    #[arg(long, default_value_t = 20_000)]
    workers: u64,
    /// `cargo bench` says it
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the agents have been handed.
#[derive(Debug, Default)]
struct Handed {
    starts: AtomicU64,
    more: Notify,
}

fn runtime(name: &str) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(2).thread_name(name).enable_all().build()?)
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir_in(&arguments.folder)
        .with_context(|| format!("make a folder in {}", arguments.folder.display()))?;
    let (fleetd, players) = (runtime("fleetd")?, runtime(PLAYERS)?);
    let door = match arguments.through {
        Through::Api => Door::api(&fleetd, folder.path())?,
        Through::Writer => Door::writer(folder.path())?,
    };
    let printed = players.block_on(async {
        let clients = door.clients(CLIENTS).await?;
        measure(door.fleet(), clients, &arguments).await
    })?;
    println!("{printed}");
    // Sessions and streams are still open; they end with the process, once its files are gone.
    drop(folder);
    std::process::exit(0)
}

async fn measure(
    fleet: &Fleet,
    clients: Vec<Client>,
    arguments: &Arguments,
) -> anyhow::Result<serde_json::Value> {
    let workers = arguments.workers;
    let handed = Arc::new(Handed::default());
    let sessions = agents(fleet, arguments.nodes, &handed).await?;
    tokio::spawn(live(fleet.clone(), sessions));
    let clients = place(clients, 0, WARM, &handed).await?;
    let (before, commits_before) = (
        cpu_seconds(Path::new("/proc/self/task"))?,
        fleet.stats().commits(),
    );
    let begun = Instant::now();
    place(clients, WARM, WARM + workers, &handed).await?;
    let took = begun.elapsed().as_secs_f64();
    let after = cpu_seconds(Path::new("/proc/self/task"))?;
    let commits = fleet.stats().commits() - commits_before;
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let printed = serde_json::json!({
        "per_s": workers as f64 / took,
        "per_commit": workers as f64 / commits.max(1) as f64,
        "writer_cores": (after.writer - before.writer) / took,
        "fleetd_cores": (after.fleetd - before.fleetd) / took,
        "player_cores": (after.players - before.players) / took,
    });
    Ok(printed)
}

/// All clients together submit the jobs of these numbers; done once the order of each has been handed over.
async fn place(clients: Vec<Client>, from: u64, until: u64, handed: &Handed) -> anyhow::Result<Vec<Client>> {
    let next = Arc::new(AtomicU64::new(from));
    let mut running = Vec::new();
    for mut client in clients {
        let next = Arc::clone(&next);
        running.push(tokio::spawn(async move {
            loop {
                let from = next.fetch_add(MESSAGE, Ordering::Relaxed);
                if from >= until {
                    return anyhow::Ok(client);
                }
                client.submit(from..until.min(from + MESSAGE)).await?;
            }
        }));
    }
    let mut clients = Vec::new();
    for client in running {
        clients.push(client.await??);
    }
    while handed.starts.load(Ordering::Acquire) < until {
        tokio::time::timeout(Duration::from_secs(30), handed.more.notified())
            .await
            .with_context(|| {
                let starts = handed.starts.load(Ordering::Acquire);
                format!("{starts} of {until} orders were handed over, and then none for 30 s")
            })?;
    }
    Ok(clients)
}

/// Nodes in session, each with an agent that takes its orders.
async fn agents(fleet: &Fleet, nodes: u64, handed: &Arc<Handed>) -> anyhow::Result<Vec<(NodeId, SessionId)>> {
    let mut sessions = Vec::new();
    let mut opening = Vec::new();
    for number in 0..nodes {
        let (fleet, hello) = (fleet.clone(), hello(number)?);
        opening.push(tokio::spawn(async move { fleet.open_session(hello).await }));
    }
    for link in opening {
        let link = link.await??;
        sessions.push((link.node, link.session));
        tokio::spawn(agent(link, Arc::clone(handed)));
    }
    Ok(sessions)
}

async fn agent(mut link: NodeLink, handed: Arc<Handed>) {
    while let Some(Outgoing::Orders(orders)) = link.outgoing.recv().await {
        let starts = orders
            .iter()
            .filter(|order| matches!(order.what, OrderKind::Start(_)))
            .count();
        handed.starts.fetch_add(starts as u64, Ordering::Release);
        handed.more.notify_one();
    }
}

/// Every node says every 5 s that it lives, one after the other.
async fn live(fleet: Fleet, sessions: Vec<(NodeId, SessionId)>) -> anyhow::Result<()> {
    loop {
        let begun = Instant::now();
        for (index, (node, session)) in (0u32..).zip(&sessions) {
            let share = f64::from(index) / f64::from(u32::try_from(sessions.len())?);
            tokio::time::sleep_until(begun + ALIVE_EVERY.mul_f64(share)).await;
            let alive = Command::Alive {
                node: *node,
                session: *session,
                sample: Some(sample()),
                word: None,
                inventory: None,
            };
            // Nobody waits for the answer, and it says nothing.
            fleet.enqueue(alive).await?;
        }
        tokio::time::sleep_until(begun + ALIVE_EVERY).await;
    }
}

/// Sixteen bytes that ascend, as the time-ordered ids of jobs and nodes do: version 7, variant 1.
fn id(number: u64) -> [u8; 16] {
    let bytes = number.to_be_bytes();
    let mut id = [1; 16];
    id[..6].copy_from_slice(&bytes[2..]);
    id[6] = 0x70;
    id[8] = 0x80;
    id
}

/// Every fourth node has eight GPUs.
fn lent(number: u64) -> Amounts {
    Amounts {
        cpu: MilliCpu::from_cpus(64),
        memory: Bytes::from_gib(512),
        gpus: if number.is_multiple_of(4) { 8 } else { 0 },
    }
}

fn hello(number: u64) -> anyhow::Result<Hello> {
    Ok(Hello {
        node: NodeId::from_slice(&id(number))?,
        name: format!("node{number}"),
        version: "0.1.0".into(),
        boot_id: "c1bceb1f-6d8e-4f03-bba5-3291cf25d6a8".into(),
        ledger: LedgerId::from_slice(&id(number))?,
        applied: Generation(0),
        last_sequence: Sequence(0),
        first_sequence: None,
        inventory: Some(Inventory {
            topology: None,
            gpus: Vec::new(),
            kernel: "6.12.0".into(),
            systemd: "257".into(),
            os: "Debian 13".into(),
            mode: LendMode::Enforce,
            exclusive_cpus: true,
            missed: Vec::new(),
            line: lent(number),
            line_whole_cpus: 64,
            allow_teams: Vec::new(),
            owner_mode: None,
            ceilings: Vec::new(),
            protected: Vec::new(),
            prove: None,
        }),
        attempts: Vec::new(),
        complete: true,
    })
}

fn sample() -> NodeSample {
    let all = lent(1);
    NodeSample {
        at: WallTime(0),
        cpu: ResourceSample {
            capacity: all.cpu,
            now: all.cpu,
            firm: all.cpu,
            ..ResourceSample::default()
        },
        memory: ResourceSample {
            capacity: all.memory,
            now: all.memory,
            firm: all.memory,
            ..ResourceSample::default()
        },
        pressure: Pressure::default(),
    }
}

/// Of twenty jobs twelve want one CPU, seven two, and one four and a GPU.
fn spec(number: u64) -> anyhow::Result<JobSpec> {
    let (cpus, gpus) = match number % 20 {
        0..12 => (1, 0),
        12..19 => (2, 0),
        _ => (4, 1),
    };
    Ok(JobSpec::new(JobDraft {
        name: None,
        command: vec!["true".into()],
        dir: None,
        env: std::collections::BTreeMap::new(),
        workers: Workers::Fixed(1),
        tier: Tier::Standard,
        retries: 0,
        time: None,
        grace: None,
        on_node_lost: None,
        worker: WorkerRequest {
            cpus: CpuRequest::Exclusive(cpus),
            memory: Bytes::from_gib(u64::from(cpus) * 4),
            gpus,
        },
        nodes: Vec::new(),
        needs: loadline_model::Needs::default(),
        waits: loadline_model::Waits::default(),
        gang: false,
        tasks: None,
    })?)
}

/// CPU time of this process so far, in seconds.
#[derive(Debug, Default)]
struct CpuSeconds {
    /// The writer's thread.
    writer: f64,
    /// All of fleetd's threads, the writer's among them.
    fleetd: f64,
    players: f64,
}

fn cpu_seconds(tasks: &Path) -> anyhow::Result<CpuSeconds> {
    /// Of `utime` and `stime` in proc(5), on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut sums = CpuSeconds::default();
    for task in std::fs::read_dir(tasks)? {
        // A thread may end while it is looked at.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else {
            continue;
        };
        let (head, rest) = stat.rsplit_once(')').context("a stat without a name")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
        let seconds = (ticks(11).context("no utime")? + ticks(12).context("no stime")?) / TICKS_PER_SECOND;
        let name = head.rsplit('(').next().unwrap_or_default();
        if name == PLAYERS {
            sums.players += seconds;
        } else {
            sums.fleetd += seconds;
        }
        if name == "writer" {
            sums.writer += seconds;
        }
    }
    Ok(sums)
}
