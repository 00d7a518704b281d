//! Our queue on a machine of equal processors: the parts of [`crate::policy`], called as the planner calls them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use loadline_model::{Amounts, Bytes, JobId, MilliCpu, Span, WallTime};

use crate::policy::estimate::outlived;
use crate::policy::{
    Accounts, Backfill, BackfillRules, Claim, End, EstimateRules, Estimates, Offer, OrderRules, ShareRules,
    Starting, Team, order,
};
use crate::sim::driver::{Load, Running, Scheduler, SimJob};
use crate::sim::processors::Processors;

/// The rules of all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OursRules {
    /// Of shares: how fast what was spent is forgiven.
    pub half_life: Span,
    /// Of the order.
    pub order: OrderRules,
    /// Of backfill.
    pub backfill: BackfillRules,
    /// Of estimates.
    pub estimates: EstimateRules,
    /// Whether teams and users have shares; false: everyone is one user, as for policies that know of none.
    pub shares: bool,
}

impl Default for OursRules {
    fn default() -> Self {
        Self {
            half_life: ShareRules::HALF_LIFE,
            order: OrderRules::default(),
            backfill: BackfillRules::default(),
            estimates: EstimateRules::default(),
            shares: true,
        }
    }
}

/// Our queue.
#[derive(Debug, Clone)]
pub struct Ours {
    rules: OursRules,
    accounts: Accounts,
    estimates: Estimates,
    /// The last estimate of what runs, by its place in the load.
    expected: BTreeMap<usize, Span>,
}

impl Ours {
    /// For a machine of so many processors.
    #[must_use]
    pub fn new(processors: u32, rules: OursRules) -> Self {
        let share = ShareRules {
            half_life: rules.half_life,
            capacity: amounts(processors),
        };
        Self {
            rules,
            accounts: Accounts::new(share),
            estimates: Estimates::new(rules.estimates),
            expected: BTreeMap::new(),
        }
    }

    /// Gives a team its weight, quota and windows.
    #[must_use]
    pub fn with_team(mut self, name: &str, team: Team) -> Self {
        self.accounts.set_team(name, team, WallTime(0));
        self
    }

    /// When what runs is expected to end; an estimate that was outlived is made anew.
    fn end_of(&mut self, load: &Load, run: &Running, now: WallTime) -> End {
        let job = &load.jobs[run.job];
        let expected = self.expected.entry(run.job).or_insert(job.asked);
        let ran = now.since(run.since);
        if ran >= *expected {
            *expected = outlived(ran, Some(job.asked)).max(Span(ran.0 + 1));
        }
        End::At(run.since.plus(*expected))
    }

    fn shared<'l>(&self, name: &'l str) -> &'l str {
        if self.rules.shares { name } else { "everyone" }
    }

    fn start(&mut self, place: usize, job: &SimJob, estimate: Option<Span>, now: WallTime) {
        self.expected.insert(place, estimate.unwrap_or(job.asked));
        let starting = Starting {
            job: id(place),
            worker: 0,
            team: self.shared(&job.team),
            user: self.shared(&job.user),
            amounts: amounts(job.processors),
            estimate,
            limit: Some(job.asked),
        };
        self.accounts.start(&starting, now);
    }
}

/// A processor stands for one CPU.
fn amounts(processors: u32) -> Amounts {
    Amounts {
        cpu: MilliCpu::from_cpus(processors),
        memory: Bytes::ZERO,
        gpus: 0,
    }
}

/// Any identity will do that is the same in every run and orders as the load does.
fn id(place: usize) -> JobId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&(place as u64).to_be_bytes());
    JobId::from_slice(&bytes).unwrap_or_else(|_| unreachable!("sixteen bytes are an identity"))
}

impl Scheduler for Ours {
    fn ended(&mut self, load: &Load, job: usize, ran: Span, now: WallTime) {
        let SimJob { user, asked, .. } = &load.jobs[job];
        self.accounts.end(id(job), 0, now);
        self.estimates.learn(user, Some(*asked), ran);
        self.expected.remove(&job);
    }

    fn decide(&mut self, load: &Load, waiting: &[usize], running: &[Running], now: WallTime) -> Vec<usize> {
        self.accounts.advance(now);
        let claims: Vec<Claim<'_>> = waiting
            .iter()
            .map(|place| {
                let job = &load.jobs[*place];
                Claim {
                    job: id(*place),
                    tier: job.tier,
                    priority: job.priority,
                    submitted_at: job.submitted,
                    team: self.shared(&job.team),
                    user: self.shared(&job.user),
                    amounts: amounts(job.processors),
                    estimate: self.estimates.of(&job.user, Some(job.asked)),
                }
            })
            .collect();
        let mut held = Vec::new();
        for run in running {
            held.push((self.end_of(load, run, now), load.jobs[run.job].processors));
        }
        let used: u32 = held.iter().map(|(_, processors)| processors).sum();
        let room = Processors(load.processors.saturating_sub(used));
        let mut pass = Backfill::new(room, held, self.rules.backfill, now);
        let mut started = Vec::new();
        for index in order(&claims, &self.accounts, &self.rules.order, now) {
            let (place, estimate) = (waiting[index], claims[index].estimate);
            if let Offer::Starts(_) = pass.offer(&load.jobs[place].processors, estimate) {
                started.push((place, estimate));
            }
        }
        for (place, estimate) in &started {
            self.start(*place, &load.jobs[*place], *estimate, now);
        }
        started.into_iter().map(|(place, _)| place).collect()
    }
}
