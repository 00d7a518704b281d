//! First come first served, and EASY backfill, as published; to be held against.

use alloc::vec::Vec;

use loadline_model::{Span, WallTime};

use crate::sim::driver::{Running, Scheduler};
use crate::sim::load::Load;

/// First come, first served: nobody passes anybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fcfs;

/// What is free beside what runs.
fn free(load: &Load, running: &[Running]) -> u32 {
    let used: u32 = running.iter().map(|run| load.jobs[run.job].processors).sum();
    load.processors.saturating_sub(used)
}

impl Scheduler for Fcfs {
    fn decide(&mut self, load: &Load, waiting: &[usize], running: &[Running], _: WallTime) -> Vec<usize> {
        let mut free = free(load, running);
        let fits = |job: &&usize| {
            let left = free.checked_sub(load.jobs[**job].processors);
            free = left.unwrap_or(free);
            left.is_some()
        };
        waiting.iter().take_while(fits).copied().collect()
    }
}

/// EASY: the first that waits has a reservation by what users ask for; whoever does not delay it may pass (Lifka, JSSPP
/// 1995; Mu'alem and Feitelson, IEEE TPDS 2001).
#[derive(Debug, Clone, Copy, Default)]
pub struct Easy;

impl Scheduler for Easy {
    fn decide(&mut self, load: &Load, waiting: &[usize], running: &[Running], now: WallTime) -> Vec<usize> {
        let mut free = free(load, running);
        let mut ends: Vec<(WallTime, u32)> = running
            .iter()
            .map(|run| {
                let job = &load.jobs[run.job];
                (run.since.plus(job.asked), job.processors)
            })
            .collect();
        let mut started = Vec::new();
        let mut rest = waiting.iter().copied();
        let mut head = None;
        for place in rest.by_ref() {
            let job = &load.jobs[place];
            if job.processors > free {
                head = Some(place);
                break;
            }
            free -= job.processors;
            ends.push((now.plus(job.asked), job.processors));
            started.push(place);
        }
        let Some(head) = head else { return started };
        let (shadow, mut extra) = shadow(&mut ends, free, load.jobs[head].processors);
        for place in rest {
            let job = &load.jobs[place];
            if job.processors > free {
                continue;
            }
            let in_time = shadow.is_none_or(|shadow| now.plus(job.asked) <= shadow);
            if in_time || job.processors <= extra {
                free -= job.processors;
                if !in_time {
                    extra -= job.processors;
                }
                started.push(place);
            }
        }
        started
    }
}

/// When the head will have its processors, and how many are left over then: all that end at that moment count.
fn shadow(ends: &mut [(WallTime, u32)], free: u32, needed: u32) -> (Option<WallTime>, u32) {
    ends.sort_unstable();
    let mut free = free;
    for together in ends.chunk_by(|one, next| one.0 == next.0) {
        free += together.iter().map(|(_, processors)| processors).sum::<u32>();
        if free >= needed {
            return (Some(together[0].0), free - needed);
        }
    }
    (None, free)
}

/// How much of the time a user asks for is certain to be over at `now`; at least a moment is left.
pub(crate) fn left(asked: Span, since: WallTime, now: WallTime) -> Span {
    Span(asked.0.saturating_sub(now.since(since).0).max(1))
}
