//! What a node's rest is worth: how much of its GPUs will be used by what is asked for next.
//!
//! Problem: a GPU is of no use once no CPU is left beside it, a rest of a GPU is of no use if nobody asks for so
//! little, and a node of eight GPUs is gone for those who want eight as soon as one worker sits there.
//!
//! Approach: `worth = filled − waste`, and a worker goes where worth falls least beyond what it uses itself.
//! - *filled*: the mean over [`STREAMS`] streams of [`STREAM_LEN`] workers, drawn from the mix of what was asked
//!   for, of how much of the GPUs the node gives away if the stream is offered to it alone. It prices CPU against
//!   GPUs and sees which shares complete a GPU, without a weight that someone had to choose.
//! - *waste*: the fragmentation of Weng et al. (*Beware of Fragmentation*, USENIX ATC 2023), GPU rests that a shape
//!   cannot use, weighted by how often the shape is asked for; here also by how scarce what it can use has
//!   become in the whole fleet, `left ÷ usable`. Rare needs (eight GPUs, one model) are thereby dear in
//!   time, and cost nothing while there is plenty.
//!
//! Properties: integers, no clock, streams from a fixed seed: the same history gives the same plan.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::engine::class::Classes;
use crate::engine::mix::Common;
use crate::engine::node::{Asked, GPUS};
use crate::engine::slots::{GPU_UNIT, Grain, Rest, Slots};

/// Streams that are offered. Four are enough to beat the fragmentation alone; more than eight change little.
const STREAMS: u16 = 8;
/// Workers in a stream. Less does not fill a node of eight GPUs; much more fills any node with the smallest.
const STREAM_LEN: usize = 60;
/// Values that are remembered before all are forgotten.
const KNOWN_MAX: usize = 1 << 17;
/// The most that scarcity weighs. A shape for which hardly anything is left would else outweigh all others together,
/// for the sake of the little that can still be done for it.
const SCARCE_MAX: u64 = 32;
/// One in the fixed-point weights of shapes.
const ONE: u64 = 1 << 16;

/// Thousandths of a GPU, times [`STREAMS`]: no division is needed to compare.
pub(crate) type Value = i64;

/// One shape of the mix, reduced to what worth depends on.
#[derive(Debug, Clone, Copy)]
struct Likely {
    shape: u32,
    cpu: u64,
    gpus: u32,
    /// Of each GPU, in units, rounded up.
    share: u8,
    common: bool,
    /// Of all that is asked for, of [`ONE`].
    weight: u64,
}

/// Worth of rests under the present mix.
#[derive(Debug, Clone, Default)]
pub(crate) struct Worth {
    mix: Vec<Likely>,
    /// Indices into `mix`, one stream after the other.
    streams: Vec<u16>,
    /// By class of node and index into `mix`.
    allowed: Vec<Vec<bool>>,
    /// By class, CPUs and GPU rests.
    known: BTreeMap<(u16, u32, [u8; GPUS]), Value>,
    /// Goes up whenever values change.
    pub(crate) epoch: u32,
}

impl Worth {
    /// True if something asks for GPUs: else no rest is worth more than another.
    pub(crate) fn is_informed(&self) -> bool {
        self.mix.iter().any(|likely| likely.gpus > 0)
    }

    /// True if there are kinds of nodes that it does not know.
    pub(crate) fn is_behind(&self, classes: &Classes) -> bool {
        !self.mix.is_empty() && self.allowed.len() != classes.count()
    }

    /// Classes are numbered anew: it is behind until it has weighed again.
    pub(crate) fn forget_classes(&mut self) {
        self.allowed.clear();
        self.known.clear();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// What a worker itself uses, as a value.
    pub(crate) fn used(asked: &Asked) -> Value {
        Value::from(asked.gpu_total()) * Value::from(STREAMS)
    }

    /// Takes over a mix.
    pub(crate) fn learn(&mut self, shapes: &[Common], classes: &Classes) {
        self.mix = shapes
            .iter()
            .map(|common| {
                let Asked { cpu, gpus, share, .. } = classes.shapes[common.shape.0 as usize].asked;
                Likely {
                    shape: common.shape.0,
                    cpu,
                    gpus,
                    share: u8::try_from(share.div_ceil(GPU_UNIT)).unwrap_or(u8::MAX),
                    common: common.common,
                    weight: 0,
                }
            })
            .collect();
        self.streams = draw(shapes);
        self.allow(classes);
    }

    fn allow(&mut self, classes: &Classes) {
        let of = |class: usize| {
            let shapes = self.mix.iter();
            shapes
                .map(|likely| classes.shapes[likely.shape as usize].allowed[class])
                .collect()
        };
        self.allowed = (0..classes.count()).map(of).collect();
    }

    /// Weighs the shapes by how scarce the GPUs are that they can use, all nodes of `slots` together.
    pub(crate) fn weigh(&mut self, shapes: &[Common], classes: &Classes, slots: &Slots) {
        let grain = slots.grain();
        self.allow(classes);
        let groups = || {
            let members = slots.members.iter().map(|members| members.len() as u64);
            slots.rests.iter().zip(members).filter(|(_, count)| *count > 0)
        };
        let left: u64 = groups().map(|(rest, count)| total(&rest.gpus) * count).sum();
        let mut raw: Vec<u64> = Vec::with_capacity(self.mix.len());
        for (index, (likely, common)) in self.mix.iter().zip(shapes).enumerate() {
            let usable: u64 = if likely.gpus == 0 || !likely.common {
                left
            } else {
                groups()
                    .map(|(rest, count)| self.usable(index, rest, grain) * count)
                    .sum()
            };
            let scarce = (left.saturating_mul(ONE) / usable.max(1)).clamp(ONE, SCARCE_MAX * ONE);
            raw.push(if likely.common {
                common.count.saturating_mul(scarce)
            } else {
                0
            });
        }
        let all: u64 = raw.iter().sum();
        for (likely, weight) in self.mix.iter_mut().zip(raw) {
            let part = u128::from(weight) * u128::from(ONE) / u128::from(all.max(1));
            likely.weight = u64::try_from(part).unwrap_or(ONE);
        }
        self.known.clear();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// GPU units of a rest that the shape could use.
    fn usable(&self, index: usize, rest: &Rest, grain: Grain) -> u64 {
        let likely = &self.mix[index];
        if !self.allowed[rest.class as usize][index] || rest.cpu_floor(grain) < likely.cpu {
            return 0;
        }
        let (mut count, mut sum) = (0, 0);
        for left in rest.gpus.iter().take_while(|left| **left >= likely.share) {
            count += 1;
            sum += u64::from(*left);
        }
        if count >= likely.gpus { sum } else { 0 }
    }

    /// What a rest is worth.
    pub(crate) fn of(&mut self, rest: &Rest, grain: Grain) -> Value {
        if rest.gpus[0] == 0 || self.mix.is_empty() {
            return 0;
        }
        let cpus = u32::try_from(rest.cpu_floor(grain) / 1000).unwrap_or(u32::MAX);
        let key = (rest.class, cpus, rest.gpus);
        if let Some(value) = self.known.get(&key) {
            return *value;
        }
        let value = self.filled(rest, grain) - self.waste(rest, grain);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, value);
        value
    }

    fn waste(&self, rest: &Rest, grain: Grain) -> Value {
        let left = total(&rest.gpus);
        let mut waste = 0u64;
        for (index, likely) in self.mix.iter().enumerate() {
            if likely.weight > 0 && likely.gpus > 0 {
                waste += likely.weight * (left - self.usable(index, rest, grain));
            }
        }
        let units = waste * u64::from(STREAMS) * u64::from(GPU_UNIT) / ONE;
        Value::try_from(units).unwrap_or(Value::MAX)
    }

    fn filled(&self, rest: &Rest, grain: Grain) -> Value {
        let allowed = &self.allowed[rest.class as usize];
        let live = rest.gpus.iter().take_while(|left| **left > 0).count();
        let left: u32 = rest.gpus.iter().map(|left| u32::from(*left)).sum();
        let mut used = 0u32;
        for stream in self.streams.chunks(STREAM_LEN) {
            let mut node = Node {
                cpu: rest.cpu_floor(grain),
                gpus: rest.gpus,
                live,
                left,
            };
            for index in stream {
                let index = usize::from(*index);
                if allowed[index] {
                    node.offer(&self.mix[index]);
                    if node.left == 0 {
                        break;
                    }
                }
            }
            used += left - node.left;
        }
        Value::from(used) * Value::from(GPU_UNIT)
    }
}

/// A node that is being filled.
struct Node {
    cpu: u64,
    gpus: [u8; GPUS],
    live: usize,
    left: u32,
}

impl Node {
    /// Takes the worker if it fits; a share from the GPU with the least that suffices.
    fn offer(&mut self, likely: &Likely) {
        if self.cpu < likely.cpu {
            return;
        }
        let gpus = &mut self.gpus[..self.live];
        if likely.gpus == 1 {
            let fitting = gpus.iter_mut().filter(|left| **left >= likely.share);
            let Some(tightest) = fitting.min_by_key(|left| **left) else {
                return;
            };
            *tightest -= likely.share;
        } else if likely.gpus > 1 {
            let whole = gpus.iter().filter(|left| **left >= likely.share).count();
            if (whole as u64) < u64::from(likely.gpus) {
                return;
            }
            let fitting = gpus.iter_mut().filter(|left| **left >= likely.share);
            for left in fitting.take(likely.gpus as usize) {
                *left -= likely.share;
            }
        }
        self.cpu -= likely.cpu;
        self.left -= likely.gpus * u32::from(likely.share);
    }
}

fn total(gpus: &[u8; GPUS]) -> u64 {
    gpus.iter().map(|left| u64::from(*left)).sum()
}

/// Streams of indices, each shape as often as it was asked for.
fn draw(shapes: &[Common]) -> Vec<u16> {
    let mut sums: Vec<u64> = Vec::with_capacity(shapes.len());
    let mut sum = 0u64;
    for shape in shapes {
        sum += shape.count;
        sums.push(sum);
    }
    if sum == 0 {
        return Vec::new();
    }
    let mut random = SplitMix(7);
    (0..usize::from(STREAMS) * STREAM_LEN)
        .map(|_| {
            let at = random.next() % sum;
            u16::try_from(sums.partition_point(|until| *until <= at)).unwrap_or(0)
        })
        .collect()
}

/// Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014: small and good enough to
/// draw from a mix.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
