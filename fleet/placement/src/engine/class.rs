//! Equivalence classes: nodes that are the same but for their amounts, and demands that are the same altogether.
//!
//! Whether a demand may use a node at all (labels, taints, model and memory of the GPUs) depends on the two classes
//! alone, so it is decided once per pair and not once per node.
//!
//! Labels themselves tell no classes apart: with a label of its own on each node there would be as many classes as
//! nodes. What shapes ask of them does: each [`Condition`] is judged once per node when a shape first asks for it, and
//! again when the node's labels change.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{Bytes, Demand, Labels, Numa, Requirement, Tier};

use crate::engine::node::{Asked, NodeSpec, NumaRoom};

/// Which shape: a demand in a tier, known to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeIx(pub u32);

/// Something that a shape asks of what a node is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// Of its labels.
    Label(Requirement),
    /// One of its NUMA nodes has so much CPU and memory.
    Numa(NumaRoom),
}

/// What conditions are judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    labels: Arc<Labels>,
    numa: Arc<[NumaRoom]>,
}

impl Facts {
    pub(crate) fn of(spec: &NodeSpec) -> Self {
        Self {
            labels: Arc::clone(&spec.labels),
            numa: Arc::clone(&spec.numa),
        }
    }
}

impl Condition {
    pub(crate) fn holds(&self, facts: &Facts) -> bool {
        match self {
            Self::Label(requirement) => requirement.holds(&facts.labels),
            Self::Numa(wanted) => facts.numa.iter().any(|room| wanted.fits_in(room)),
        }
    }

    fn required(demand: &Demand) -> Vec<Self> {
        let labels = demand.require.iter().cloned().map(Self::Label);
        let numa = (demand.numa == Numa::Single).then(|| {
            Self::Numa(NumaRoom {
                cpu: demand.cpus.amount(),
                memory: demand.memory,
            })
        });
        labels.chain(numa).collect()
    }

    fn preferred(demand: &Demand) -> Vec<Self> {
        demand.prefer.iter().cloned().map(Self::Label).collect()
    }
}

/// What nodes of one class have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeClass {
    /// The conditions that hold, by number, ascending.
    meets: Vec<u32>,
    taints: BTreeSet<String>,
    teams: BTreeSet<String>,
    model: String,
    gpu_memory: Bytes,
    /// Whether it gives CPUs for exclusive use at all.
    exclusive: bool,
}

impl NodeClass {
    pub(crate) fn of(spec: &NodeSpec, meets: Vec<u32>) -> Self {
        Self {
            meets,
            taints: spec.taints.clone(),
            teams: spec.teams.clone(),
            model: spec.gpus.model.clone(),
            gpu_memory: spec.gpus.memory,
            exclusive: spec.whole_cpus > 0,
        }
    }

    fn meets(&self, condition: &u32) -> bool {
        self.meets.binary_search(condition).is_ok()
    }
}

/// A demand in a tier, of a team.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) demand: Demand,
    pub(crate) tier: Tier,
    team: String,
    pub(crate) asked: Asked,
    /// Conditions, by number.
    requires: Vec<u32>,
    prefers: Vec<u32>,
    /// By class of node.
    pub(crate) allowed: Vec<bool>,
    /// By class of node, how many preferences do not hold; empty: there are none.
    pub(crate) missed: Vec<u8>,
}

impl Shape {
    /// Judges one more class.
    fn judge(&mut self, class: &NodeClass) {
        self.allowed.push(self.allows(class));
        if !self.prefers.is_empty() {
            let missed = self.prefers.iter().filter(|number| !class.meets(number));
            self.missed.push(u8::try_from(missed.count()).unwrap_or(u8::MAX));
        }
    }

    fn allows(&self, class: &NodeClass) -> bool {
        let Demand { gpus, tolerates, .. } = &self.demand;
        let tolerated = |taint: &String| {
            let key = taint.split_once('=').map(|(key, _)| key);
            tolerates.contains(taint) || key.is_some_and(|key| tolerates.contains(key))
        };
        self.requires.iter().all(|number| class.meets(number))
            && class.taints.iter().all(tolerated)
            && (class.teams.is_empty() || class.teams.contains(&self.team))
            && (self.asked.whole == 0 || class.exclusive)
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
    conditions: Vec<Condition>,
    condition_numbers: BTreeMap<Condition, u32>,
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
            shape.judge(&class);
        }
        self.nodes.push(class.clone());
        self.node_numbers.insert(class, number);
        Some(number)
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The conditions that hold for a node.
    pub(crate) fn met(&self, facts: &Facts) -> Vec<u32> {
        let holding = (0..)
            .zip(&self.conditions)
            .filter(|(_, condition)| condition.holds(facts));
        holding.map(|(number, _)| number).collect()
    }

    /// The conditions that hold for the nodes of a class.
    pub(crate) fn met_by(&self, class: u16) -> Vec<u32> {
        let class = self.nodes.get(usize::from(class));
        class.map(|class| class.meets.clone()).unwrap_or_default()
    }

    /// The conditions of a demand that no shape has asked for yet, each now with a number; no node is judged by them.
    pub(crate) fn admit(&mut self, demand: &Demand) -> Vec<(u32, Condition)> {
        let asked = Condition::required(demand)
            .into_iter()
            .chain(Condition::preferred(demand));
        let mut new = Vec::new();
        for condition in asked {
            if self.condition_numbers.contains_key(&condition) {
                continue;
            }
            let number = u32::try_from(self.conditions.len()).unwrap_or(u32::MAX);
            self.conditions.push(condition.clone());
            self.condition_numbers.insert(condition.clone(), number);
            new.push((number, condition));
        }
        new
    }

    /// The class of nodes that are like those of `class` and meet one more condition, the newest.
    pub(crate) fn meeting(&mut self, class: u16, condition: u32) -> Option<u16> {
        let mut class = self.nodes.get(usize::from(class))?.clone();
        class.meets.push(condition);
        self.node(class)
    }

    /// The shape's number, a new one if need be.
    pub(crate) fn shape(&mut self, demand: &Demand, tier: Tier, team: &str) -> ShapeIx {
        let key = (tier, demand.clone(), String::from(team));
        if let Some(number) = self.shape_numbers.get(&key) {
            return ShapeIx(*number);
        }
        let mut shape = Shape {
            demand: demand.clone(),
            tier,
            team: team.into(),
            asked: Asked::of(demand, tier),
            requires: self.numbers(Condition::required(demand)),
            prefers: self.numbers(Condition::preferred(demand)),
            allowed: Vec::new(),
            missed: Vec::new(),
        };
        self.nodes.iter().for_each(|class| shape.judge(class));
        let next = u32::try_from(self.shapes.len()).unwrap_or(u32::MAX);
        let number = self.shapes_free.pop().unwrap_or(next);
        match self.shapes.get_mut(number as usize) {
            Some(free) => *free = shape,
            None => self.shapes.push(shape),
        }
        self.shape_numbers.insert(key, number);
        ShapeIx(number)
    }

    fn numbers(&self, conditions: Vec<Condition>) -> Vec<u32> {
        let known = conditions
            .iter()
            .filter_map(|condition| self.condition_numbers.get(condition));
        known.copied().collect()
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

    /// Forgets the conditions that no known shape asks for and the classes without nodes, and numbers both anew:
    /// `columns` of classes are put right.
    pub(crate) fn tidy(&mut self, columns: &mut [u16]) {
        let old = core::mem::take(&mut self.nodes);
        self.node_numbers.clear();
        let known: Vec<u32> = self.shape_numbers.values().copied().collect();
        let shapes = known
            .iter()
            .filter_map(|number| self.shapes.get(*number as usize));
        let used: BTreeSet<u32> = shapes
            .flat_map(|shape| shape.requires.iter().chain(&shape.prefers).copied())
            .collect();
        let conditions = core::mem::take(&mut self.conditions);
        self.conditions = (0..)
            .zip(conditions)
            .filter_map(|(number, condition)| used.contains(&number).then_some(condition))
            .collect();
        self.condition_numbers = self.conditions.iter().cloned().zip(0..).collect();
        // As the used ones keep their order, a number becomes its place among them.
        let renamed: BTreeMap<u32, u32> = used.into_iter().zip(0..).collect();
        let rename = |numbers: &mut Vec<u32>| {
            let new = numbers.iter().filter_map(|number| renamed.get(number).copied());
            *numbers = new.collect();
        };
        for shape in &mut self.shapes {
            rename(&mut shape.requires);
            rename(&mut shape.prefers);
            shape.allowed.clear();
            shape.missed.clear();
        }
        for class in columns {
            let Some(mut node) = old.get(usize::from(*class)).cloned() else {
                continue;
            };
            rename(&mut node.meets);
            // There are no more of them than there were.
            *class = self.node(node).unwrap_or(*class);
        }
    }
}
