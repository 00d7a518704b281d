//! How much an antagonist may use: within the line, within what is free, and never more than tells anything.

use alloc::format;
use alloc::string::String;

use loadline_model::{Bytes, MilliCpu, PerMille};

use super::Resource;

/// The program itself, its threads and its buffers for files.
const OVERHEAD: Bytes = Bytes::from_mib(32);
/// So much of the headroom stays free on top of it: production's own use wanders, and a test that takes all up to the
/// very mark at which it is stopped would be stopped by any of it.
const SLACK: PerMille = PerMille(250);
/// Less than this says nothing about memory.
const MEMORY_LEAST: Bytes = Bytes::from_mib(64);
/// More than this says nothing more: it is far beyond any cache, and its pages only take longer to touch.
const MEMORY_MOST: Bytes = Bytes::from_gib(16);
/// Where the size of the last-level cache is not known.
const CACHE_USUAL: Bytes = Bytes::from_mib(32);
/// The antagonist's file.
pub const FILE: Bytes = Bytes::from_mib(256);
/// Only where so much is free on the file system.
pub const DISK_FREE_LEAST: Bytes = Bytes::from_gib(1);
/// Page cache is charged to who fills it: this is all that the antagonist gets of it.
const PAGE_CACHE: Bytes = Bytes::from_mib(512);

/// What the line leaves now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// CPU that may be lent now.
    pub cpu: MilliCpu,
    /// How many CPUs lent work may run on.
    pub cpus: u32,
    /// Memory that may be lent now, less what is lent already.
    pub memory: Bytes,
    /// Memory that can be had without swapping.
    pub memory_available: Option<Bytes>,
    /// Of it, what is kept for production.
    pub memory_headroom: Bytes,
    /// The last-level cache.
    pub cache: Option<Bytes>,
    /// Free on the file system of temporary files; none: it lies in memory, or is not known.
    pub disk_free: Option<Bytes>,
}

/// What one antagonist gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Threads.
    pub threads: u32,
    /// Bytes that all threads together work on.
    pub amount: Bytes,
    /// The limit of its unit.
    pub memory_max: Bytes,
}

/// What an antagonist may use.
///
/// # Errors
/// Why this resource cannot be tried here, for the report.
pub fn allowance(resource: Resource, room: &Room) -> Result<Allowance, String> {
    let kept = room.memory_headroom.plus(room.memory_headroom.share(SLACK));
    let free = room.memory_available.unwrap_or_default().minus(kept);
    let within = room.memory.min(free);
    if room.cpu.is_zero() || room.cpus == 0 {
        return Err("the line leaves no CPU at this moment".into());
    }
    if within < OVERHEAD.plus(MEMORY_LEAST) {
        let least = OVERHEAD.plus(MEMORY_LEAST);
        return Err(format!(
            "the line leaves {within} of memory at this moment, and the test takes at least {least}"
        ));
    }
    match resource {
        Resource::Cpu => Ok(Allowance {
            threads: room.cpus,
            amount: Bytes::ZERO,
            memory_max: OVERHEAD.plus(MEMORY_LEAST),
        }),
        Resource::Memory => {
            let amount = within.minus(OVERHEAD).min(MEMORY_MOST);
            Ok(Allowance {
                threads: 1,
                amount,
                memory_max: amount.plus(OVERHEAD),
            })
        }
        Resource::Cache => Ok(cache(room, within)),
        Resource::Disk => disk(room, within),
    }
}

/// Each thread walks over one cache's worth, as far as memory allows; together they press it out.
fn cache(room: &Room, within: Bytes) -> Allowance {
    let each = room.cache.unwrap_or(CACHE_USUAL).max(Bytes::from_mib(1));
    let usable = within.minus(OVERHEAD);
    let fitting = u32::try_from(usable.0 / each.0).unwrap_or(u32::MAX);
    let threads = fitting.clamp(1, room.cpus);
    let amount = each.times(u64::from(threads)).min(usable);
    Allowance {
        threads,
        amount,
        memory_max: amount.plus(OVERHEAD),
    }
}

fn disk(room: &Room, within: Bytes) -> Result<Allowance, String> {
    match room.disk_free {
        None => {
            Err("temporary files lie in memory here, or their file system does not say what is free".into())
        }
        Some(free) if free < DISK_FREE_LEAST => Err(format!(
            "{free} are free where temporary files lie, and {DISK_FREE_LEAST} are asked for"
        )),
        Some(_) => Ok(Allowance {
            threads: 2,
            amount: FILE,
            memory_max: within.min(PAGE_CACHE),
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn room() -> Room {
        Room {
            cpu: MilliCpu(2500),
            cpus: 3,
            memory: Bytes::from_mib(1024),
            memory_available: Some(Bytes::from_mib(1500)),
            memory_headroom: Bytes::from_mib(400),
            cache: Some(Bytes::from_mib(16)),
            disk_free: Some(Bytes::from_gib(4)),
        }
    }

    #[test]
    fn a_worked_example() {
        // Within: min(1024, 1500 − 400 − 100) = 1000 MiB; 32 of them for the program itself.
        let memory = allowance(Resource::Memory, &room()).unwrap();
        assert_eq!(
            (memory.threads, memory.amount, memory.memory_max),
            (1, Bytes::from_mib(968), Bytes::from_mib(1000))
        );
        let cpu = allowance(Resource::Cpu, &room()).unwrap();
        assert_eq!((cpu.threads, cpu.memory_max), (3, Bytes::from_mib(96)));
        // Three threads over 16 MiB each.
        let cache = allowance(Resource::Cache, &room()).unwrap();
        assert_eq!((cache.threads, cache.amount), (3, Bytes::from_mib(48)));
        let disk = allowance(Resource::Disk, &room()).unwrap();
        assert_eq!((disk.amount, disk.memory_max), (FILE, Bytes::from_mib(512)));
    }

    #[test]
    fn where_there_is_no_room_it_says_why() {
        let mut small = room();
        small.disk_free = Some(Bytes(DISK_FREE_LEAST.0 - 1));
        assert!(allowance(Resource::Disk, &small).is_err());
        assert!(allowance(Resource::Cpu, &small).is_ok());
        small.disk_free = None;
        assert!(allowance(Resource::Disk, &small).is_err());
        small.memory_available = Some(Bytes::from_mib(595));
        let why = allowance(Resource::Memory, &small).unwrap_err();
        assert!(why.contains("95MiB") && why.contains("96MiB"), "{why}");
        small.memory_available = None;
        assert!(allowance(Resource::Cpu, &small).is_err());
        let mut idle = room();
        idle.cpu = MilliCpu::ZERO;
        assert!(allowance(Resource::Cpu, &idle).is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_ever_granted_beyond_the_line(
            line in 0u64..40_000, available in 0u64..40_000, headroom in 0u64..5_000,
            cpus in 0u32..300, cache in 0u64..2_000, free in 0u64..4_000,
        ) {
            let room = Room {
                cpu: MilliCpu::from_cpus(cpus),
                cpus,
                memory: Bytes::from_mib(line),
                memory_available: Some(Bytes::from_mib(available)),
                memory_headroom: Bytes::from_mib(headroom),
                cache: Some(Bytes::from_mib(cache)),
                disk_free: Some(Bytes::from_mib(free)),
            };
            for resource in Resource::ALL {
                if let Ok(given) = allowance(resource, &room) {
                    prop_assert!(given.memory_max <= room.memory);
                    prop_assert!(given.memory_max.plus(room.memory_headroom) <= Bytes::from_mib(available));
                    prop_assert!((1..=cpus.max(2)).contains(&given.threads));
                    if resource != Resource::Disk {
                        prop_assert!(given.amount <= given.memory_max, "it would be killed by its own limit");
                    } else {
                        prop_assert!(given.amount <= FILE && free >= 1024);
                    }
                }
            }
        }
    }
}
