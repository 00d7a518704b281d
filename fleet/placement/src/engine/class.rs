//! Equivalence classes: nodes that are the same but for their amounts, and demands that are the same altogether.
//!
//! Whether a demand may use a node at all (labels, taints, model and memory of the GPUs) depends on the two classes
//! alone, so it is decided once per pair and not once per node.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{Bytes, Demand, Tier};

use crate::engine::node::{Asked, NodeSpec};

/// Which shape: a demand in a tier, known to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeIx(pub u32);

/// What nodes of one class have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeClass {
    labels: BTreeMap<String, String>,
    taints: BTreeSet<String>,
    teams: BTreeSet<String>,
    model: String,
    gpu_memory: Bytes,
    /// Whether it gives CPUs for exclusive use at all.
    exclusive: bool,
}

impl NodeClass {
    pub(crate) fn of(spec: &NodeSpec) -> Self {
        Self {
            labels: spec.labels.clone(),
            taints: spec.taints.clone(),
            teams: spec.teams.clone(),
            model: spec.gpus.model.clone(),
            gpu_memory: spec.gpus.memory,
            exclusive: spec.whole_cpus > 0,
        }
    }
}

/// A demand in a tier, of a team.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) demand: Demand,
    pub(crate) tier: Tier,
    team: String,
    pub(crate) asked: Asked,
    /// By class of node.
    pub(crate) allowed: Vec<bool>,
}

impl Shape {
    fn allows(demand: &Demand, asked: &Asked, team: &str, class: &NodeClass) -> bool {
        let gpus = &demand.gpus;
        let labels = &demand.labels;
        let has = |(key, value): (&String, &String)| class.labels.get(key) == Some(value);
        labels.iter().all(has)
            && class.taints.is_subset(&demand.tolerates)
            && (class.teams.is_empty() || class.teams.contains(team))
            && (asked.whole == 0 || class.exclusive)
            && (gpus.count == 0
                || (gpus.memory <= class.gpu_memory
                    && (gpus.models.is_empty() || gpus.models.contains(&class.model))))
    }
}

/// All classes of nodes and all shapes, numbered as they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Classes {
    nodes: Vec<NodeClass>,
    node_numbers: BTreeMap<NodeClass, u16>,
    pub(crate) shapes: Vec<Shape>,
    shape_numbers: BTreeMap<(Tier, Demand, String), u32>,
    /// Numbers of shapes that were forgotten.
    shapes_free: Vec<u32>,
}

impl Classes {
    /// The class's number, a new one if need be; none once all numbers are used.
    pub(crate) fn node(&mut self, class: NodeClass) -> Option<u16> {
        if let Some(number) = self.node_numbers.get(&class) {
            return Some(*number);
        }
        let number = u16::try_from(self.nodes.len()).ok()?;
        for shape in &mut self.shapes {
            let allowed = Shape::allows(&shape.demand, &shape.asked, &shape.team, &class);
            shape.allowed.push(allowed);
        }
        self.nodes.push(class.clone());
        self.node_numbers.insert(class, number);
        Some(number)
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The shape's number, a new one if need be.
    pub(crate) fn shape(&mut self, demand: &Demand, tier: Tier, team: &str) -> ShapeIx {
        let key = (tier, demand.clone(), String::from(team));
        if let Some(number) = self.shape_numbers.get(&key) {
            return ShapeIx(*number);
        }
        let asked = Asked::of(demand, tier);
        let allowed = self
            .nodes
            .iter()
            .map(|class| Shape::allows(demand, &asked, team, class));
        let shape = Shape {
            demand: demand.clone(),
            tier,
            team: team.into(),
            asked,
            allowed: allowed.collect(),
        };
        let next = u32::try_from(self.shapes.len()).unwrap_or(u32::MAX);
        let number = self.shapes_free.pop().unwrap_or(next);
        match self.shapes.get_mut(number as usize) {
            Some(free) => *free = shape,
            None => self.shapes.push(shape),
        }
        self.shape_numbers.insert(key, number);
        ShapeIx(number)
    }

    /// How many shapes are known.
    pub(crate) fn shapes_known(&self) -> usize {
        self.shape_numbers.len()
    }

    /// Forgets the shapes that are not kept, and says which; their numbers are given again.
    pub(crate) fn forget_shapes(&mut self, keep: impl Fn(ShapeIx) -> bool) -> Vec<ShapeIx> {
        let mut forgotten = Vec::new();
        self.shape_numbers.retain(|_, number| {
            let kept = keep(ShapeIx(*number));
            if !kept {
                forgotten.push(ShapeIx(*number));
            }
            kept
        });
        self.shapes_free.extend(forgotten.iter().map(|shape| shape.0));
        forgotten
    }
}
