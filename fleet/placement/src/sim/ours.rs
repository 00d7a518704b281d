//! Our queue on a machine of equal processors: the parts of [`crate::policy`] put together for figures of the policy
//! alone. The planner takes turns by the same order, gate and accounts on nodes, where room is kept otherwise
//! (ARCHITECTURE 40); `tests/planning.rs` plays days with it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use loadline_model::{Amounts, Bytes, JobId, LocalTime, MilliCpu, Span, WallTime, Weekday};

use crate::policy::estimate::outlived;
use crate::policy::{
    Accounts, Asked, Backfill, BackfillRules, Claim, End, EstimateRules, Estimates, Gate, Gated, Offer,
    OrderRules, OverQuota, Ready, ShareRules, Shut, Shutter, Starting, Tab, Team, Windows, gate, order,
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
    /// When burst work may start.
    burst: Windows,
    /// When a window or a period that holds something up turns.
    turns: Option<WallTime>,
    /// Who has a reservation, by their places in the load.
    reserved: Vec<usize>,
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
            burst: Windows::default(),
            turns: None,
            reserved: Vec::new(),
        }
    }

    /// Says when burst work may start; virtual time begins on a Monday at midnight.
    #[must_use]
    pub fn with_burst(mut self, windows: Windows) -> Self {
        self.burst = windows;
        self
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

    /// Lets a job pass the gate; if it may not, notes when that may change.
    fn passes(&mut self, job: &Gate<'_>, tab: &Tab, shutter: &Shutter, now: WallTime) -> bool {
        let turns = match gate(job, &self.accounts, tab, shutter, now) {
            Ok(()) => return true,
            Err(Gated::TeamWindow(shut) | Gated::BurstWindow(shut)) => match shut {
                Shut::Closed { opens_in } => opens_in.map(|span| now.plus(span)),
                Shut::TooLong { closes_in, .. } => Some(now.plus(closes_in)),
            },
            Err(Gated::Quota(OverQuota::Spent { next, .. })) => Some(next),
            Err(Gated::Quota(_) | Gated::Prerequisite(_)) => None,
        };
        self.turns = [self.turns, turns].into_iter().flatten().min();
        false
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

/// Virtual time begins on a Monday at midnight.
fn local(now: WallTime) -> LocalTime {
    let minutes = now.0.div_euclid(60_000_000);
    let day = usize::try_from(minutes.div_euclid(24 * 60).rem_euclid(7)).unwrap_or(0);
    LocalTime {
        day: Weekday::ALL[day],
        minute: u16::try_from(minutes.rem_euclid(24 * 60)).unwrap_or(0),
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

    fn wake(&self, _: WallTime) -> Option<WallTime> {
        self.turns
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
                    extra: false,
                    amounts: amounts(job.processors),
                    estimate: self.estimates.of(&job.user, Some(job.asked)),
                    reserved: self.reserved.contains(place),
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
        let mut tab = Tab::default();
        let shutter = Shutter {
            local: local(now),
            burst: self.burst.clone(),
        };
        self.turns = None;
        self.reserved.clear();
        for index in order(&claims, &self.accounts, &self.rules.order, now) {
            let (place, claim) = (waiting[index], &claims[index]);
            let job = &load.jobs[place];
            let asked = Asked {
                team: claim.team,
                user: claim.user,
                amounts: claim.amounts,
                workers: 1,
                limit: Some(job.asked),
            };
            let at_gate = Gate {
                asked,
                tier: job.tier,
                estimate: claim.estimate,
                ready: Ready::Now,
            };
            if !self.passes(&at_gate, &tab, &shutter, now) {
                continue;
            }
            match pass.offer(&job.processors, claim.estimate) {
                Offer::Starts(_) => {
                    tab.add(&asked);
                    started.push((place, claim.estimate));
                }
                Offer::Reserved(_) => self.reserved.push(place),
                Offer::InTheWay | Offer::NoRoom | Offer::Never => {}
            }
        }
        for (place, estimate) in &started {
            self.start(*place, &load.jobs[*place], *estimate, now);
        }
        started.into_iter().map(|(place, _)| place).collect()
    }
}
