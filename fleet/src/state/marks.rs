//! What operators say of nodes: labels and taints, and what the fleet adds to them by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use loadline_model::{Bytes, Gpu, Labels, Mark, MilliCpu, OWN_KEYS, Topology, as_label_value, taints_of};
use loadline_placement::{NumaRoom, Traits};

use super::Node;
use super::command::{Marks, Reply};
use super::node_types::Inventory;
use super::refused::Refused;
use super::rows::NodeRow;
use super::tx::Tx;

/// More are a mistake: each is looked at for each requirement.
const MARKS_MAX: usize = 64;

impl Tx<'_> {
    /// Sets labels and taints of a node and takes them away. Idempotent.
    pub(crate) fn mark(&mut self, by: &str, name: &str, marks: &Marks) -> Result<Reply, Refused> {
        let Marks { labels, taints } = marks;
        let id = self.state.node_named(name)?;
        if let Some(own) = labels.iter().find(|mark| OWN_KEYS.contains(&mark.key.as_str())) {
            return Err(Refused::LabelReserved(own.key.clone()));
        }
        let row = Arc::clone(&self.node(id)?.row);
        let next = NodeRow {
            labels: marked(&row.labels, labels),
            taints: marked(&row.taints, taints),
            ..(*row).clone()
        };
        if next.labels.len() > MARKS_MAX || next.taints.len() > MARKS_MAX {
            return Err(Refused::MarksTooMany(row.name.clone(), MARKS_MAX));
        }
        if next != *row {
            let all = |marks: &[Mark]| {
                marks
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            for (kind, marks) in [("node_labelled", labels), ("node_tainted", taints)] {
                if !marks.is_empty() {
                    self.log(kind, by, &row.name, all(marks));
                }
            }
            self.put_node(next);
        }
        self.shown(id)
    }
}

fn marked(before: &Labels, marks: &[Mark]) -> Labels {
    let mut labels = before.clone();
    for mark in marks {
        match &mark.value {
            Some(value) => {
                labels.insert(mark.key.clone(), value.clone());
            }
            None => {
                labels.remove(&mark.key);
            }
        }
    }
    labels
}

/// All labels of a node, those that the fleet fills in itself among them.
pub(crate) fn labels(row: &NodeRow) -> Labels {
    let mut labels = row.labels.clone();
    labels.insert("node".into(), as_label_value(&row.name));
    labels.insert("pool".into(), as_label_value(&row.pool));
    let gpus = row
        .inventory
        .as_deref()
        .map_or(&[][..], |inventory| &inventory.gpus);
    if let Some(model) = one_model(gpus) {
        labels.insert("gpu-model".into(), as_label_value(model));
    }
    labels
}

/// The model of all GPUs. Of a node with several kinds nobody knows which a worker will get.
fn one_model(gpus: &[Gpu]) -> Option<&str> {
    let models: BTreeSet<&str> = gpus.iter().map(|gpu| gpu.model.as_str()).collect();
    models.first().copied().filter(|_| models.len() == 1)
}

impl Node {
    /// Keeps what placement is told of it, which seldom changes with the row.
    pub(crate) fn describe(&mut self, row: &NodeRow) {
        let traits = traits(row);
        if traits != *self.traits {
            self.traits = Arc::new(traits);
        }
    }
}

/// What a node is, in placement's words.
pub(crate) fn traits(row: &NodeRow) -> Traits {
    let inventory = row.inventory.as_deref();
    let gpus = inventory.map_or(&[][..], |inventory| &inventory.gpus);
    Traits {
        labels: Arc::new(labels(row)),
        taints: taints_of(&row.taints),
        gpu_memory: gpus.iter().map(|gpu| gpu.memory).min().unwrap_or(Bytes::ZERO),
        numa: inventory.and_then(numa).unwrap_or_default().into(),
    }
}

fn numa(inventory: &Inventory) -> Option<Vec<NumaRoom>> {
    let topology: &Topology = inventory.topology.as_ref()?;
    let room = |node: &loadline_model::NumaNode| NumaRoom {
        cpu: MilliCpu::from_cpus(topology.cpus_of_numa(node.id).len()),
        memory: node.memory,
    };
    Some(topology.numa_nodes().iter().map(room).collect())
}
