//! Nodes as views.

use loadline_model::{NodeId, NumaNode, Thread, Topology, WallTime};
use loadline_proto::fleet::v1 as pb;
use loadline_proto::types::v1 as types;

use super::failure::CallError;
use super::job::{phase_word, receipt};
use crate::view::{
    CeilingView, CostView, HeadroomView, Moment, NodeRow, NodeView, NodeWorkerView, ReceiptRow, ResourceView,
    TopologyView,
};

pub(super) fn row(node: &pb::NodeSummary) -> NodeRow {
    let state = match node.state() {
        pb::NodeState::Unspecified => "unknown",
        pb::NodeState::Ready => "ready",
        pb::NodeState::Suspect => "suspect",
        pb::NodeState::Lost => "lost",
        pb::NodeState::Draining => "draining",
        pb::NodeState::Banned => "banned",
        pb::NodeState::NeverSeen => "never_seen",
        pb::NodeState::Forgotten => "forgotten",
    };
    let inventory = node.inventory.as_ref();
    NodeRow {
        node: node.name.clone(),
        node_id: NodeId::from_slice(&node.node_id).map_or_else(|_| String::new(), |id| id.to_string()),
        pool: node.pool.clone(),
        state,
        last_seen_at: (node.last_seen_us > 0).then_some(Moment(WallTime(node.last_seen_us))),
        workers: node.workers,
        orphans: node.orphans,
        assigned_millicpu: node.assigned_millicpu,
        line_millicpu: inventory.map(|inventory| inventory.line_millicpu),
        assigned_memory_bytes: node.assigned_memory_bytes,
        line_memory_bytes: inventory.map(|inventory| inventory.line_memory_bytes),
        mode: inventory
            .map(|inventory| inventory.mode.clone())
            .filter(|mode| !mode.is_empty()),
        owner_mode: inventory
            .map(|inventory| inventory.owner_mode.clone())
            .filter(|mode| !mode.is_empty()),
        ceilings: ceilings(node),
        level: said(node, |sample| &sample.level),
        reason: said(node, |sample| &sample.reason),
        version: node.version.clone(),
        labels: node.labels.clone().into_iter().collect(),
        taints: node.taints.clone().into_iter().collect(),
    }
}

fn said(node: &pb::NodeSummary, pick: fn(&types::NodeSample) -> &String) -> Option<String> {
    let said = node.sample.as_ref().map(pick);
    said.filter(|text| !text.is_empty()).cloned()
}

/// What the fleet has said, then what the node holds beside it.
fn ceilings(node: &pb::NodeSummary) -> Vec<CeilingView> {
    let said = node.ceiling.iter().map(|set| CeilingView {
        set: "fleet",
        mode: set.mode.clone(),
        line_per_mille: set.line_per_mille,
        by: set.by.clone(),
        at: Moment(WallTime(set.at_us)),
        applied: set.applied,
    });
    let held = node.inventory.iter().flat_map(|inventory| &inventory.ceilings);
    // What the fleet said stands above; what it does not know any more is shown as the node has it.
    let held = held.filter(|held| held.here || node.ceiling.is_none());
    let held = held.map(|held| CeilingView {
        set: if held.here { "node" } else { "fleet" },
        mode: held.mode.clone(),
        line_per_mille: held.line_per_mille,
        by: held.by.clone(),
        at: Moment(WallTime(held.at_us)),
        applied: true,
    });
    said.chain(held).collect()
}

pub(super) fn headroom(told: pb::NodeHeadroom) -> Result<HeadroomView, CallError> {
    let summary = told
        .summary
        .ok_or_else(|| CallError::strange("a node is missing"))?;
    let week = told.week.unwrap_or_default();
    let sample = summary.sample.as_ref();
    Ok(HeadroomView {
        row: row(&summary),
        cpu_millicpu: sample.and_then(|sample| sample.cpu).map(resource),
        memory_bytes: sample.and_then(|sample| sample.memory).map(resource),
        week: CostView {
            stalled_us: week.stalled_us,
            squeezed_us: week.squeezed_us,
            evictions: week.evictions,
            reaping_us: week.reaping_us,
            lent_cpu_us: week.lent_cpu_us,
            observed_us: week.observed_us,
        },
    })
}

pub(super) fn receipt_row(told: pb::NodeReceipt) -> Result<ReceiptRow, CallError> {
    let written = told
        .receipt
        .ok_or_else(|| CallError::strange("a receipt is missing"))?;
    Ok(ReceiptRow {
        node: told.node,
        worker: (!told.worker.is_empty()).then_some(told.worker),
        receipt: receipt(written),
    })
}

pub(super) fn detail(detail: pb::NodeDetail) -> Result<NodeView, CallError> {
    let summary = detail
        .summary
        .ok_or_else(|| CallError::strange("a node is missing"))?;
    let row = row(&summary);
    let inventory = summary.inventory.as_ref();
    let told =
        |pick: fn(&types::Inventory) -> &String| inventory.map(pick).filter(|text| !text.is_empty()).cloned();
    Ok(NodeView {
        row,
        os: told(|inventory| &inventory.os),
        kernel: told(|inventory| &inventory.kernel),
        systemd: told(|inventory| &inventory.systemd),
        topology: inventory.and_then(|inventory| topology(inventory.topology.as_ref()?)),
        exclusive_cpus: inventory.map(|inventory| inventory.exclusive_cpus),
        line_whole_cpus: inventory.map(|inventory| inventory.line_whole_cpus),
        line_gpus: inventory.map(|inventory| inventory.line_gpus),
        allow_teams: inventory
            .map(|inventory| inventory.allow_teams.clone())
            .unwrap_or_default(),
        protected: inventory
            .map(|inventory| inventory.protected.clone())
            .unwrap_or_default(),
        missed: inventory
            .map(|inventory| inventory.missed.clone())
            .unwrap_or_default(),
        cpu_millicpu: summary
            .sample
            .as_ref()
            .and_then(|sample| sample.cpu)
            .map(resource),
        memory_bytes: summary
            .sample
            .as_ref()
            .and_then(|sample| sample.memory)
            .map(resource),
        measured_at: summary
            .sample
            .as_ref()
            .map(|sample| Moment(WallTime(sample.at_us))),
        running: detail.workers.into_iter().map(worker).collect(),
        receipts: detail.receipts.into_iter().map(receipt).collect(),
    })
}

const fn resource(sample: types::ResourceSample) -> ResourceView {
    ResourceView {
        capacity: sample.capacity,
        reserve: sample.reserve,
        production: sample.production,
        lent: sample.lent,
        line_now: sample.now,
        line_firm: sample.firm,
        headroom: sample.headroom,
    }
}

fn topology(wire: &types::Topology) -> Option<TopologyView> {
    let thread = |thread: &types::Thread| Thread {
        cpu: thread.cpu,
        core: thread.core,
        l3: thread.l3,
        numa: thread.numa,
        socket: thread.socket,
    };
    let numa = |node: &types::NumaNode| NumaNode {
        id: node.id,
        memory: loadline_model::Bytes(node.memory_bytes),
    };
    let threads = wire.threads.iter().map(thread).collect();
    // One that does not hang together is not shown rather than shown wrongly.
    let topology = Topology::new(threads, wire.numa_nodes.iter().map(numa).collect()).ok()?;
    let (sockets, l3_domains, cores) = topology.counts();
    Some(TopologyView {
        sockets,
        numa_nodes: u32::try_from(topology.numa_nodes().len()).unwrap_or(u32::MAX),
        l3_domains,
        cores,
        threads: topology.cpus().len(),
    })
}

fn worker(worker: pb::NodeWorker) -> NodeWorkerView {
    let state = worker.state.unwrap_or_default();
    let phase = phase_word(state.phase());
    let place = state.placement.unwrap_or_default();
    NodeWorkerView {
        label: worker.label,
        user: worker.user,
        state: phase,
        cpus: (!place.cpus.is_empty()).then_some(place.cpus),
        orphan: state.orphan,
        unit: (!place.unit.is_empty()).then_some(place.unit),
    }
}
