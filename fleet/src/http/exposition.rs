//! What is read from the state at the moment of a scrape.

use std::collections::BTreeMap;
use std::time::Duration;

use loadline_model::WallTime;
use prometheus::{Counter, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use serde::Serialize;

use crate::api::Edge;
use crate::state::{JobCounts, NodeCondition, NodeSummary, Refused};
use crate::writer::Stats;

/// The port on which agents offer their metrics, where their owners opened it.
const AGENT_METRICS_PORT: u16 = 7719;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    #[error("the state cannot be read: {0}")]
    State(#[from] Refused),
    #[error("a metric is malformed: {0}")]
    Metric(#[from] prometheus::Error),
    #[error("the list cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

const CONDITIONS: [(NodeCondition, &str); 7] = [
    (NodeCondition::Ready, "ready"),
    (NodeCondition::Suspect, "suspect"),
    (NodeCondition::Lost, "lost"),
    (NodeCondition::Draining, "draining"),
    (NodeCondition::Banned, "banned"),
    (NodeCondition::NeverSeen, "never_seen"),
    (NodeCondition::Forgotten, "forgotten"),
];

pub(super) async fn metrics(edge: &Edge) -> Result<String, ScrapeError> {
    let (nodes, jobs) = edge
        .fleet
        .read(|state, now| (state.nodes(now), state.job_counts()))
        .await?;
    let registry = Registry::new();
    show_nodes(&registry, &nodes, edge.sessions.count())?;
    show_amounts(&registry, &nodes)?;
    show_jobs(&registry, &jobs, edge.clock.now())?;
    show_store(&registry, edge.fleet.stats())?;
    Ok(edge.metrics.encode(&registry)?)
}

fn int_gauges(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, ScrapeError> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn gauge(registry: &Registry, name: &str, help: &str, value: f64) -> Result<(), ScrapeError> {
    let gauge = Gauge::new(name, help)?;
    gauge.set(value);
    registry.register(Box::new(gauge))?;
    Ok(())
}

fn show_nodes(registry: &Registry, nodes: &[NodeSummary], sessions: usize) -> Result<(), ScrapeError> {
    let gauges = int_gauges(registry, "loadline_manager_nodes", "Nodes by state.", "state")?;
    for (condition, word) in CONDITIONS {
        let count = nodes.iter().filter(|node| node.condition == condition).count();
        gauges
            .with_label_values(&[word])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let sessions = f64::from(u32::try_from(sessions).unwrap_or(u32::MAX));
    gauge(
        registry,
        "loadline_manager_node_sessions",
        "Open sessions of nodes.",
        sessions,
    )
}

fn show_amounts(registry: &Registry, nodes: &[NodeSummary]) -> Result<(), ScrapeError> {
    let gauges = |name: &str, help: &str| -> Result<GaugeVec, ScrapeError> {
        let gauges = GaugeVec::new(Opts::new(name, help), &["pool", "kind"])?;
        registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    };
    let cpu = gauges(
        "loadline_manager_cpu_cores",
        "CPU of nodes by pool: what their firm lines lend, and what is assigned.",
    )?;
    let memory = gauges(
        "loadline_manager_memory_bytes",
        "Memory of nodes by pool: what their firm lines lend, and what is assigned.",
    )?;
    let gpus = gauges(
        "loadline_manager_gpus",
        "GPUs of nodes by pool: what their firm lines lend, and what is assigned.",
    )?;
    // Gauges are floating point by their nature; 2^53 bytes are 8 PiB.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is floating point")]
    let float = |amount: u64| amount as f64;
    for node in nodes {
        let line = node
            .inventory
            .as_ref()
            .map(|inventory| inventory.line)
            .unwrap_or_default();
        let assigned = node.assigned.total();
        let milli_gpus = line.gpus.saturating_mul(1000);
        for (kind, amounts, milli_gpus) in [
            ("allocatable", line, milli_gpus),
            ("allocated", assigned, node.assigned.milli_gpus()),
        ] {
            let labels = [node.pool.as_str(), kind];
            cpu.with_label_values(&labels).add(float(amounts.cpu.0) / 1000.0);
            memory.with_label_values(&labels).add(float(amounts.memory.0));
            gpus.with_label_values(&labels)
                .add(f64::from(milli_gpus) / 1000.0);
        }
    }
    Ok(())
}

fn show_jobs(registry: &Registry, counts: &JobCounts, now: WallTime) -> Result<(), ScrapeError> {
    let gauges = int_gauges(
        registry,
        "loadline_manager_jobs",
        "Jobs that are not done, by state.",
        "state",
    )?;
    for (word, count) in [("queued", counts.queued), ("running", counts.running)] {
        gauges
            .with_label_values(&[word])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    // Counted in the state, which forgets no job: so it goes on after a restart.
    let finished = IntCounterVec::new(
        Opts::new(
            "loadline_manager_jobs_finished_total",
            "Jobs that are done, by result.",
        ),
        &["result"],
    )?;
    registry.register(Box::new(finished.clone()))?;
    for (word, count) in [
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
    ] {
        finished.with_label_values(&[word]).inc_by(count);
    }
    let oldest = counts.oldest_queued_at.map_or(0, |at| now.since(at).as_secs());
    gauge(
        registry,
        "loadline_manager_queue_oldest_age_seconds",
        "How long the job waits that has waited longest; 0 while none does.",
        f64::from(u32::try_from(oldest).unwrap_or(u32::MAX)),
    )
}

fn show_store(registry: &Registry, stats: &Stats) -> Result<(), ScrapeError> {
    for (name, help, count) in [
        (
            "loadline_manager_store_commits_total",
            "Transactions that became durable.",
            stats.commits(),
        ),
        (
            "loadline_manager_store_commit_failures_total",
            "Transactions that did not; what they held was refused.",
            stats.commits_failed(),
        ),
        (
            "loadline_manager_commands_total",
            "Changes asked of the fleet's state.",
            stats.commands(),
        ),
    ] {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(count);
        registry.register(Box::new(counter))?;
    }
    let seconds = Counter::new(
        "loadline_manager_store_commit_seconds_total",
        "Time spent in commits.",
    )?;
    seconds.inc_by(Duration::from_micros(stats.commit_us()).as_secs_f64());
    registry.register(Box::new(seconds))?;
    Ok(())
}

/// One entry of Prometheus's HTTP service discovery.
#[derive(Serialize)]
struct TargetGroup {
    targets: Vec<String>,
    labels: BTreeMap<&'static str, String>,
}

/// The whole list, every time: nodes by name, banned and forgotten ones left out.
pub(super) async fn targets(edge: &Edge) -> Result<String, ScrapeError> {
    let nodes = edge.fleet.read(|state, now| state.nodes(now)).await?;
    let gone = |node: &NodeSummary| {
        matches!(
            node.condition,
            NodeCondition::Banned | NodeCondition::Forgotten | NodeCondition::NeverSeen
        )
    };
    let groups: Vec<TargetGroup> = nodes
        .into_iter()
        .filter(|node| !gone(node))
        .map(|node| TargetGroup {
            targets: vec![format!("{}:{AGENT_METRICS_PORT}", node.name)],
            labels: BTreeMap::from([
                ("__meta_loadline_node", node.name),
                ("__meta_loadline_pool", node.pool),
            ]),
        })
        .collect();
    Ok(serde_json::to_string(&groups)?)
}
