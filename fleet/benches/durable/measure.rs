//! One measurement: everyone plays until every order was handed over, and the CPUs are read before and after.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use loadline_fleet::Fleet;
use loadline_fleet::clock::Clock;
use loadline_fleet::state::{Command, Order, OrderKind, SessionId};
use loadline_fleet::writer::{NodeLink, Outgoing};
use loadline_model::NodeId;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::door::Client;
use crate::nodes_and_jobs::{hello, runs, sample};
use crate::{Arguments, PLAYERS};

/// Jobs in one message of a client.
const MESSAGE: u64 = 100;
/// Placed before the clock starts.
const WARM: u64 = 4000;
/// Nobody got anything for so long: the nodes are full.
const FULL: Duration = Duration::from_secs(10);
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// What the agents have been handed.
#[derive(Debug, Default)]
struct Handed {
    starts: AtomicU64,
    more: Notify,
}

/// All of it.
pub(crate) async fn measure(
    fleet: &Fleet,
    clients: Vec<Client>,
    arguments: &Arguments,
) -> anyhow::Result<serde_json::Value> {
    let workers = arguments.workers;
    let handed = Arc::new(Handed::default());
    let links = links(fleet, arguments.nodes).await?;
    tokio::spawn(live(fleet.clone(), sessions(&links)));
    for link in links {
        tokio::spawn(agent(link, None, Arc::clone(&handed)));
    }
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

/// How much memory this process takes once so many jobs are known, the nodes are full, and what was started is said
/// to run. The players are in it, and told apart: all they have is a task for each node, since orders that wait for a
/// session are fleetd's own.
pub(crate) async fn known(
    fleet: &Fleet,
    clients: Vec<Client>,
    arguments: &Arguments,
) -> anyhow::Result<serde_json::Value> {
    let handed = Arc::new(Handed::default());
    let links = links(fleet, arguments.nodes).await?;
    tokio::spawn(live(fleet.clone(), sessions(&links)));
    let before = resident_kib()?;
    let agents = links.into_iter();
    let agents = agents.map(|link| tokio::spawn(agent(link, Some(fleet.clone()), Arc::clone(&handed))));
    let agents: Vec<_> = agents.collect();
    let players = resident_kib()?.saturating_sub(before);
    drop(submit(clients, 0, arguments.workers).await?);
    // Full is whoever gets nothing for so long.
    while tokio::time::timeout(FULL, handed.more.notified()).await.is_ok() {}
    // One that has ended took no orders any more, and what it was given is not said to run.
    if let Some(ended) = agents.into_iter().find(JoinHandle::is_finished) {
        ended.await??;
        anyhow::bail!("an agent's session has ended");
    }
    let placed = handed.starts.load(Ordering::Acquire);
    Ok(serde_json::json!({
        "rss_mb": resident_kib()? / 1024,
        "players_mb": players / 1024,
        "jobs": arguments.workers,
        "placed": placed,
    }))
}

fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = kib.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kib.context("no VmRSS in /proc/self/status")
}

/// All clients together submit the jobs of these numbers; done once the order of each has been handed over.
async fn place(clients: Vec<Client>, from: u64, until: u64, handed: &Handed) -> anyhow::Result<Vec<Client>> {
    let clients = submit(clients, from, until).await?;
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

/// All clients together submit the jobs of these numbers.
async fn submit(clients: Vec<Client>, from: u64, until: u64) -> anyhow::Result<Vec<Client>> {
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
    Ok(clients)
}

/// Nodes in session.
async fn links(fleet: &Fleet, nodes: u64) -> anyhow::Result<Vec<NodeLink>> {
    let mut links = Vec::new();
    let mut opening = Vec::new();
    for number in 0..nodes {
        let (fleet, hello) = (fleet.clone(), hello(number)?);
        opening.push(tokio::spawn(async move { fleet.open_session(hello).await }));
    }
    for link in opening {
        links.push(link.await??);
    }
    Ok(links)
}

fn sessions(links: &[NodeLink]) -> Vec<(NodeId, SessionId)> {
    links.iter().map(|link| (link.node, link.session)).collect()
}

/// Takes the orders of one node; says to `fleet`, if it is given, that what it is to start runs.
async fn agent(mut link: NodeLink, fleet: Option<Fleet>, handed: Arc<Handed>) -> anyhow::Result<()> {
    let mut told = 0;
    while let Some(Outgoing::Orders(orders)) = link.outgoing.recv().await {
        if let Some(fleet) = &fleet {
            tell(fleet, &link, &orders, &mut told).await?;
        }
        let starts = orders
            .iter()
            .filter(|order| matches!(order.what, OrderKind::Start(_)))
            .count();
        handed.starts.fetch_add(starts as u64, Ordering::Release);
        handed.more.notify_one();
    }
    Ok(())
}

async fn tell(fleet: &Fleet, link: &NodeLink, orders: &[Order], told: &mut u64) -> anyhow::Result<()> {
    let (node, session) = (link.node, link.session);
    if let Some(last) = orders.last() {
        let generation = last.generation;
        fleet
            .enqueue(Command::Applied {
                node,
                session,
                generation,
            })
            .await?;
    }
    let mut events = Vec::new();
    for order in orders {
        *told += 1;
        events.extend(runs(order, *told, Clock::system().now())?);
    }
    fleet
        .enqueue(Command::Events {
            node,
            session,
            events,
        })
        .await?;
    Ok(())
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
                sample: Some(sample(Clock::system().now())),
                word: None,
                inventory: None,
            };
            // Nobody waits for the answer, and it says nothing.
            fleet.enqueue(alive).await?;
        }
        tokio::time::sleep_until(begun + ALIVE_EVERY).await;
    }
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
