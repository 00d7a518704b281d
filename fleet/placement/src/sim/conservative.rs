//! Conservative backfill, as published; to be held against.
//!
//! Every job that waits has a reservation, in order of submission, by what users ask for (Mu'alem and Feitelson, IEEE
//! TPDS 2001). Whenever one ends early, the plan is made anew in the same order, so nobody's start moves back.

use alloc::vec::Vec;

use loadline_model::WallTime;

use crate::sim::driver::{Running, Scheduler};
use crate::sim::easy::left;
use crate::sim::load::Load;

/// Nobody delays anybody who came before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conservative;

/// From each of these times on so many processors are free; ascending.
struct Profile(Vec<(WallTime, u32)>);

impl Profile {
    /// The first time at which `needed` are free for long enough, as an index.
    fn find(&self, needed: u32, micros: u64) -> Option<(usize, WallTime)> {
        let mut from = 0;
        while from < self.0.len() {
            let (begin, _) = self.0[from];
            let end = begin.plus(loadline_model::Span(micros));
            let blocked = self.0[from..]
                .iter()
                .take_while(|(at, _)| *at < end)
                .position(|(_, free)| *free < needed);
            match blocked {
                None => return Some((from, begin)),
                Some(offset) => from += offset + 1,
            }
        }
        None
    }

    /// An entry at that time, splitting the one that covers it.
    fn split(&mut self, at: WallTime) -> usize {
        let place = self.0.partition_point(|(time, _)| *time < at);
        if self.0.get(place).is_none_or(|(time, _)| *time != at) {
            let free = self.0[place.saturating_sub(1)].1;
            self.0.insert(place, (at, free));
        }
        place
    }

    fn take(&mut self, begin: WallTime, end: WallTime, needed: u32) {
        let (from, until) = (self.split(begin), self.split(end));
        for (_, free) in &mut self.0[from..until] {
            *free = free.saturating_sub(needed);
        }
    }
}

impl Scheduler for Conservative {
    fn decide(&mut self, load: &Load, waiting: &[usize], running: &[Running], now: WallTime) -> Vec<usize> {
        let mut profile = Profile(alloc::vec![(now, load.processors)]);
        for run in running {
            let job = &load.jobs[run.job];
            let end = now.plus(left(job.asked, run.since, now));
            profile.take(now, end, job.processors);
        }
        let mut started = Vec::new();
        for place in waiting {
            let job = &load.jobs[*place];
            // Nothing is free now: whatever comes later cannot start now either.
            if profile.0[0].1 == 0 {
                break;
            }
            let Some((_, begin)) = profile.find(job.processors, job.asked.0) else {
                continue;
            };
            profile.take(begin, begin.plus(job.asked), job.processors);
            if begin == now {
                started.push(*place);
            }
        }
        started
    }
}
