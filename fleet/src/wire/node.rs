//! What nodes say: hello, inventory, samples, events; and what is shown of it.
//!
//! A node may be a minor version ahead. A part that is not understood is named and left out where the rest
//! stands without it (an attempt in Hello, an event), and refuses the message where it does not.

use loadline_model::{
    Amounts, Bytes, Generation, Gpu, MilliCpu, NodeId, NodeSample, NumaNode, PerMille, Pressure,
    ResourceSample, Sequence, Span, Thread, Topology, WallTime,
};
use loadline_proto::node::v1 as node;
use loadline_proto::types::v1 as types;

use super::phase::{read_receipt, read_reported};
use super::prove::{read_consent, read_news};
use super::{WireError, read_ledger_id, read_node_id};
use crate::state::{Cost, CostCounts, Event, Happening, HeldCeiling, Hello, Inventory, LendMode, Word};

/// A hello, and what in it was not understood.
#[derive(Debug)]
pub struct ReadHello {
    /// What was.
    pub hello: Hello,
    /// One sentence for each attempt that was left out.
    pub left_out: Vec<String>,
}

/// Reads a hello. `speaker` is the node of the certificate.
///
/// # Errors
/// When it speaks for another node or lacks what a session needs.
pub fn read_hello(speaker: NodeId, hello: node::Hello) -> Result<ReadHello, WireError> {
    let node = read_node_id("node_id", &hello.node_id)?;
    if node != speaker {
        return Err(WireError::Value {
            field: "node_id",
            value: node.to_string(),
        });
    }
    let mut left_out = Vec::new();
    let mut attempts = Vec::with_capacity(hello.attempts.len());
    for attempt in hello.attempts {
        match read_reported(attempt) {
            Ok(reported) => attempts.push(reported),
            Err(problem) => left_out.push(problem.to_string()),
        }
    }
    let hello = Hello {
        node,
        name: hello.name,
        version: hello.version,
        boot_id: hello.boot_id,
        ledger: read_ledger_id("ledger_id", &hello.ledger_id)?,
        applied: Generation(hello.applied_generation),
        last_sequence: Sequence(hello.last_sequence),
        first_sequence: Some(Sequence(hello.first_sequence)).filter(|first| first.0 > 0),
        inventory: hello.inventory.map(read_inventory).transpose()?,
        attempts,
        complete: left_out.is_empty(),
    };
    Ok(ReadHello { hello, left_out })
}

/// Reads an inventory.
///
/// # Errors
/// When the mode is not one of ours or the topology contradicts itself.
pub fn read_inventory(inventory: types::Inventory) -> Result<Inventory, WireError> {
    let mode = LendMode::from_word(&inventory.mode).ok_or_else(|| WireError::Value {
        field: "inventory.mode",
        value: inventory.mode.clone(),
    })?;
    let line_whole_cpus = u32::try_from(inventory.line_whole_cpus).map_err(|_| WireError::Value {
        field: "inventory.line_whole_cpus",
        value: inventory.line_whole_cpus.to_string(),
    })?;
    Ok(Inventory {
        topology: inventory.topology.map(read_topology).transpose()?,
        gpus: inventory
            .gpus
            .into_iter()
            .map(read_gpu)
            .collect::<Result<_, _>>()?,
        kernel: inventory.kernel,
        systemd: inventory.systemd,
        os: inventory.os,
        mode,
        exclusive_cpus: inventory.exclusive_cpus,
        missed: inventory.missed,
        line: Amounts {
            cpu: MilliCpu(inventory.line_millicpu),
            memory: Bytes(inventory.line_memory_bytes),
            gpus: inventory.line_gpus,
        },
        line_whole_cpus,
        allow_teams: inventory.allow_teams,
        owner_mode: match inventory.owner_mode.as_str() {
            "" => None,
            word => Some(read_mode("inventory.owner_mode", word)?),
        },
        ceilings: inventory
            .ceilings
            .into_iter()
            .map(read_held)
            .collect::<Result<_, _>>()?,
        protected: inventory.protected,
        prove: read_consent(&inventory.prove),
    })
}

fn read_mode(field: &'static str, word: &str) -> Result<LendMode, WireError> {
    LendMode::from_word(word).ok_or_else(|| WireError::Value {
        field,
        value: word.to_owned(),
    })
}

/// A part of a line.
pub fn read_share(share: u32) -> Result<PerMille, WireError> {
    u16::try_from(share)
        .map(PerMille)
        .ok()
        .filter(|share| *share <= PerMille::ONE)
        .ok_or_else(|| WireError::Value {
            field: "line_per_mille",
            value: share.to_string(),
        })
}

fn read_held(held: types::CeilingState) -> Result<HeldCeiling, WireError> {
    Ok(HeldCeiling {
        here: held.here,
        mode: read_mode("ceiling.mode", &held.mode)?,
        line: read_share(held.line_per_mille)?,
        by: held.by,
        at: WallTime(held.at_us),
    })
}

/// What the headroom loop says, in a sample; none from a node that does not tell.
pub fn read_word(sample: &types::NodeSample) -> Option<Word> {
    let counts = sample.cost.as_ref().map(|cost| CostCounts {
        since: cost.since.clone(),
        cost: Cost {
            stalled: Span(cost.stalled_us),
            squeezed: Span(cost.squeezed_us),
            evictions: cost.evictions,
            reaping: Span(cost.reaping_us),
        },
    });
    let word = Word {
        level: sample.level.clone(),
        reason: sample.reason.clone(),
        counts,
    };
    (word != Word::default()).then_some(word)
}

pub(super) fn write_inventory(inventory: &Inventory) -> types::Inventory {
    let Inventory {
        topology,
        gpus,
        kernel,
        systemd,
        os,
        mode,
        exclusive_cpus,
        missed,
        line,
        line_whole_cpus,
        allow_teams,
        owner_mode,
        ceilings,
        protected,
        prove,
    } = inventory;
    types::Inventory {
        topology: topology.as_ref().map(write_topology),
        gpus: gpus.iter().map(write_gpu).collect(),
        kernel: kernel.clone(),
        systemd: systemd.clone(),
        os: os.clone(),
        mode: mode.word().to_owned(),
        exclusive_cpus: *exclusive_cpus,
        missed: missed.clone(),
        line_millicpu: line.cpu.0,
        line_memory_bytes: line.memory.0,
        line_gpus: line.gpus,
        line_whole_cpus: (*line_whole_cpus).into(),
        allow_teams: allow_teams.clone(),
        owner_mode: owner_mode.map_or_else(String::new, |mode| mode.word().to_owned()),
        ceilings: ceilings
            .iter()
            .map(|held| types::CeilingState {
                here: held.here,
                mode: held.mode.word().to_owned(),
                line_per_mille: held.line.0.into(),
                by: held.by.clone(),
                at_us: held.at.0,
            })
            .collect(),
        protected: protected.clone(),
        prove: prove.map_or_else(String::new, |consent| consent.word().to_owned()),
    }
}

fn read_topology(topology: types::Topology) -> Result<Topology, WireError> {
    let thread = |t: types::Thread| Thread {
        cpu: t.cpu,
        core: t.core,
        l3: t.l3,
        numa: t.numa,
        socket: t.socket,
    };
    let threads = topology.threads.into_iter().map(thread).collect();
    let numa = |n: types::NumaNode| NumaNode {
        id: n.id,
        memory: Bytes(n.memory_bytes),
    };
    let numa_nodes = topology.numa_nodes.into_iter().map(numa).collect();
    Topology::new(threads, numa_nodes).map_err(|problem| WireError::Value {
        field: "inventory.topology",
        value: problem.to_string(),
    })
}

fn write_topology(topology: &Topology) -> types::Topology {
    let thread = |t: &Thread| types::Thread {
        cpu: t.cpu,
        core: t.core,
        l3: t.l3,
        numa: t.numa,
        socket: t.socket,
    };
    let numa = |n: &NumaNode| types::NumaNode {
        id: n.id,
        memory_bytes: n.memory.0,
    };
    types::Topology {
        threads: topology.threads().iter().map(thread).collect(),
        numa_nodes: topology.numa_nodes().iter().map(numa).collect(),
    }
}

fn read_gpu(gpu: types::Gpu) -> Result<Gpu, WireError> {
    let value = gpu.share_per_mille;
    let share = u16::try_from(value)
        .ok()
        .filter(|share| *share <= PerMille::ONE.0)
        .ok_or_else(|| WireError::Value {
            field: "gpu.share_per_mille",
            value: value.to_string(),
        })?;
    Ok(Gpu {
        uuid: gpu.uuid,
        model: gpu.model,
        memory: Bytes(gpu.memory_bytes),
        share: PerMille(share),
        mig_profile: gpu.mig_profile,
    })
}

fn write_gpu(gpu: &Gpu) -> types::Gpu {
    types::Gpu {
        uuid: gpu.uuid.clone(),
        model: gpu.model.clone(),
        memory_bytes: gpu.memory.0,
        share_per_mille: gpu.share.0.into(),
        mig_profile: gpu.mig_profile.clone(),
    }
}

/// Reads a sample.
///
/// # Errors
/// When CPU or memory is missing.
pub fn read_sample(sample: types::NodeSample) -> Result<NodeSample, WireError> {
    fn amounts<Q>(sample: types::ResourceSample, unit: fn(u64) -> Q) -> ResourceSample<Q> {
        ResourceSample {
            capacity: unit(sample.capacity),
            reserve: unit(sample.reserve),
            production: unit(sample.production),
            lent: unit(sample.lent),
            now: unit(sample.now),
            firm: unit(sample.firm),
            headroom: unit(sample.headroom),
        }
    }
    Ok(NodeSample {
        at: WallTime(sample.at_us),
        cpu: amounts(sample.cpu.ok_or(WireError::Missing("sample.cpu"))?, MilliCpu),
        memory: amounts(sample.memory.ok_or(WireError::Missing("sample.memory"))?, Bytes),
        pressure: Pressure {
            cpu_some_us: sample.cpu_some_us,
            memory_full_us: sample.memory_full_us,
            io_full_us: sample.io_full_us,
        },
    })
}

pub(super) fn write_sample(sample: &NodeSample) -> types::NodeSample {
    fn amounts<Q: Copy>(sample: &ResourceSample<Q>, number: fn(Q) -> u64) -> types::ResourceSample {
        types::ResourceSample {
            capacity: number(sample.capacity),
            reserve: number(sample.reserve),
            production: number(sample.production),
            lent: number(sample.lent),
            now: number(sample.now),
            firm: number(sample.firm),
            headroom: number(sample.headroom),
        }
    }
    types::NodeSample {
        at_us: sample.at.0,
        cpu: Some(amounts(&sample.cpu, |cpu| cpu.0)),
        memory: Some(amounts(&sample.memory, |memory| memory.0)),
        cpu_some_us: sample.pressure.cpu_some_us,
        memory_full_us: sample.pressure.memory_full_us,
        io_full_us: sample.pressure.io_full_us,
        ..types::NodeSample::default()
    }
}

/// Reads a batch of events. What happened may be unreadable; that it happened, and its number, may not.
///
/// # Errors
/// When an event lacks ledger or number.
pub fn read_events(batch: node::EventBatch) -> Result<Vec<Event>, WireError> {
    batch.events.into_iter().map(read_event).collect()
}

fn read_event(event: types::Event) -> Result<Event, WireError> {
    let what = match event.what {
        Some(types::event::What::Attempt(state)) => {
            read_reported(state).map(|reported| Happening::Attempt(Box::new(reported)))
        }
        Some(types::event::What::Receipt(receipt)) => read_receipt(receipt).map(Happening::Receipt),
        Some(types::event::What::Prove(state)) => read_news(state).map(Happening::Prove),
        None => Err(WireError::Missing("what")),
    };
    Ok(Event {
        ledger: read_ledger_id("ledger_id", &event.ledger_id)?,
        sequence: Sequence(event.sequence),
        boot_id: event.boot_id,
        at: WallTime(event.at_us),
        what: what.unwrap_or_else(|problem| Happening::Unreadable(problem.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ProveConsent;

    fn inventory() -> Inventory {
        let thread = |cpu| Thread {
            cpu,
            core: cpu,
            l3: 0,
            numa: 0,
            socket: 0,
        };
        Inventory {
            topology: Some(
                Topology::new(
                    vec![thread(0), thread(1)],
                    vec![NumaNode {
                        id: 0,
                        memory: Bytes(9),
                    }],
                )
                .unwrap(),
            ),
            gpus: vec![Gpu {
                uuid: "GPU-1".into(),
                model: "m".into(),
                memory: Bytes(1),
                share: PerMille(500),
                mig_profile: None,
            }],
            kernel: "6.1".into(),
            systemd: "252".into(),
            os: "debian 12".into(),
            mode: LendMode::Enforce,
            exclusive_cpus: true,
            missed: vec!["m".into()],
            line: Amounts {
                cpu: MilliCpu(1000),
                memory: Bytes(5),
                gpus: 1,
            },
            line_whole_cpus: 1,
            allow_teams: vec!["t".into()],
            owner_mode: Some(LendMode::Enforce),
            ceilings: vec![HeldCeiling {
                here: true,
                mode: LendMode::Shadow,
                line: PerMille(500),
                by: "root".into(),
                at: WallTime(3),
            }],
            protected: vec!["p".into()],
            prove: Some(ProveConsent::Refuse),
        }
    }

    #[test]
    fn an_inventory_survives_the_wire() {
        assert_eq!(read_inventory(write_inventory(&inventory())), Ok(inventory()));
        let mut strange = write_inventory(&inventory());
        strange.mode = "maybe".into();
        assert_eq!(
            read_inventory(strange).unwrap_err().to_string(),
            "`inventory.mode` cannot be `maybe`"
        );
    }

    #[test]
    fn a_node_speaks_for_itself_only() {
        let own: NodeId = "00000000-0000-0000-0000-00000000000a".parse().unwrap();
        let hello = node::Hello {
            node_id: vec![7; 16],
            ledger_id: vec![1; 16],
            ..Default::default()
        };
        assert!(matches!(
            read_hello(own, hello.clone()),
            Err(WireError::Value { field: "node_id", .. })
        ));
        let hello = node::Hello {
            node_id: own.as_bytes().to_vec(),
            ..hello
        };
        assert!(read_hello(own, hello).is_ok());
    }

    #[test]
    fn an_attempt_of_a_newer_version_is_left_out_of_hello_by_name() {
        let own: NodeId = "00000000-0000-0000-0000-00000000000a".parse().unwrap();
        let hello = node::Hello {
            node_id: own.as_bytes().to_vec(),
            ledger_id: vec![1; 16],
            attempts: vec![types::AttemptState {
                phase: 99,
                attempt_id: vec![1; 16],
                ..Default::default()
            }],
            ..Default::default()
        };
        let read = read_hello(own, hello).unwrap();
        assert!(read.hello.attempts.is_empty());
        assert_eq!(read.left_out, ["`phase` cannot be `99`"]);
    }

    #[test]
    fn an_unreadable_event_keeps_its_number() {
        let event = types::Event {
            ledger_id: vec![1; 16],
            sequence: 7,
            ..Default::default()
        };
        let events = read_events(node::EventBatch {
            events: vec![event.clone()],
        })
        .unwrap();
        assert_eq!(events[0].sequence, Sequence(7));
        assert!(matches!(&events[0].what, Happening::Unreadable(why) if why == "`what` is missing"));
        let nameless = types::Event {
            ledger_id: Vec::new(),
            ..event
        };
        assert!(
            read_events(node::EventBatch {
                events: vec![nameless]
            })
            .is_err()
        );
    }
}
