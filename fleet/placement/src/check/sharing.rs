//! The invariants of sharing, stated again from what runs and what is planned, without accounts, order or books: no
//! quota is exceeded, nobody starts while a window is shut, what is kept for someone is not given away, who yields is
//! outranked, or more than its job needs.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{
    Amounts, AttemptId, CpuRequest, JobId, LocalTime, Needs, NodeId, Span, Tier, WallTime, WorkerRequest,
};

use crate::planner::{Kept, Plan, Planner, Policy, Running};
use crate::policy::{AtOnce, End, Spent, Team, Windows};
use crate::queue::QueueEntry;
use crate::snapshot::{Held, Node, Snapshot};

/// What the rules of sharing are about, before a plan.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    /// Everything that holds room.
    pub running: Vec<Running>,
    /// What each team may, by name.
    pub teams: Vec<(String, Team)>,
    /// When burst work of all teams may start.
    pub burst: Windows,
    /// What time it is to windows.
    pub local: Option<LocalTime>,
    /// What is paid of each team's budget in the period at hand.
    pub paid: BTreeMap<String, Spent>,
    /// What is kept for whom.
    pub kept: Vec<Kept>,
    /// When what runs will probably end.
    pub ends: BTreeMap<AttemptId, End>,
    /// When a worker of each job that waits would probably end if it started now.
    pub would_end: BTreeMap<JobId, End>,
    /// Who had waited for longer when it began is outranked by nobody of its tier.
    pub patience: Span,
}

/// A plan that breaks a rule of sharing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfair {
    /// A team or one of its users would hold more than it may.
    #[error("{who} would hold {held} of {what} and may hold {limit}")]
    OverQuota {
        /// The team, or the team and its user.
        who: String,
        /// Of what.
        what: &'static str,
        /// With the plan.
        held: u64,
        /// The limit.
        limit: u64,
    },
    /// A team would spend more than its budget, or nobody can say how much.
    #[error("team {team} would spend more {what} than its budget")]
    OverBudget {
        /// Which.
        team: String,
        /// Of what.
        what: &'static str,
    },
    /// Work starts while its team's window, or that of burst, is shut.
    #[error("job {job} starts while no window of {whose} is open")]
    OutOfHours {
        /// Which.
        job: JobId,
        /// The team, or the tier.
        whose: String,
    },
    /// Room that is kept for a job is given to others that outlast its start.
    #[error("room on {node} is kept for job {job}, and others get it")]
    GivenAway {
        /// Where.
        node: NodeId,
        /// For whom.
        job: JobId,
    },
    /// Someone yields to a job that does not outrank it, and its own needs it.
    #[error(
        "worker {worker} of job {job} yields to {to}, which does not outrank it, and its job has none to spare"
    )]
    NotOutranked {
        /// Whose worker.
        job: JobId,
        /// Which.
        worker: u32,
        /// To whom.
        to: JobId,
    },
    /// A part of a job yields, and the rest, too few, runs on for nothing.
    #[error("a part of job {job} yields, and with the rest it has fewer workers than it needs")]
    TornGang {
        /// Which.
        job: JobId,
    },
}

impl Sharing {
    /// What the planner says of itself; whoever knows better replaces it.
    pub fn of(planner: &Planner, policy: &Policy, now: WallTime) -> Self {
        let queue = planner.queue();
        let would_end = queue
            .iter()
            .map(|entry| (entry.job, planner.expected_end(entry, now)));
        let expected: Vec<(Running, End)> = planner
            .expected(now)
            .map(|(running, end)| (running.clone(), end))
            .collect();
        let teams: BTreeSet<&String> = queue.iter().map(|entry| &entry.team).collect();
        let paid = teams
            .into_iter()
            .map(|team| (team.clone(), planner.accounts().paid(team, now)));
        Self {
            paid: paid.collect(),
            would_end: would_end.collect(),
            ends: expected
                .iter()
                .map(|(running, end)| (running.attempt, *end))
                .collect(),
            running: expected.into_iter().map(|(running, _)| running).collect(),
            teams: Vec::new(),
            burst: planner.burst().clone(),
            local: Some(LocalTime::utc(now)),
            kept: planner.kept().cloned().collect(),
            patience: policy.order.patience,
        }
    }

    /// Leaves what is still kept after the plan: what was given up in it may be given away.
    pub fn still_kept(&mut self, planner: &Planner) {
        let after: Vec<&Kept> = planner.kept().collect();
        let same = |kept: &Kept, other: &Kept| {
            (other.job, other.at) == (kept.job, kept.at) && other.nodes.keys().eq(kept.nodes.keys())
        };
        self.kept
            .retain(|kept| after.iter().any(|other| same(kept, other)));
    }
}

/// A worker that the plan starts.
struct New<'a> {
    entry: &'a QueueEntry,
    node: NodeId,
}

/// Every rule of sharing that the plan breaks; empty: it may be carried out.
pub fn unfair(snapshot: &Snapshot, queue: &[QueueEntry], sharing: &Sharing, plan: &Plan) -> Vec<Unfair> {
    let mut found = Vec::new();
    let of_plan = plan.assignments.iter().filter_map(|given| {
        let entry = queue.iter().find(|entry| entry.job == given.job)?;
        let node = given.node;
        Some(New { entry, node })
    });
    let new: Vec<New<'_>> = of_plan.collect();
    for (name, team) in &sharing.teams {
        quota(name, team, sharing, &new, &mut found);
        budget(name, team, sharing, &new, &mut found);
    }
    out_of_hours(sharing, &new, &mut found);
    for kept in &sharing.kept {
        given_away(snapshot, sharing, kept, &new, &mut found);
    }
    evictions(queue, sharing, plan, &mut found);
    found
}

fn out_of_hours(sharing: &Sharing, new: &[New<'_>], found: &mut Vec<Unfair>) {
    let Some(local) = sharing.local else { return };
    let shut = |windows: &Windows| {
        let windows = windows.0.as_slice();
        !windows.is_empty() && windows.iter().all(|window| !window.contains(local))
    };
    for new in new {
        let team = sharing.teams.iter().find(|(name, _)| *name == new.entry.team);
        let of_team = team.filter(|(_, team)| shut(&team.windows));
        let of_burst = new.entry.tier == Tier::Burst && shut(&sharing.burst);
        let whose = of_team
            .map(|(name, _)| name.as_str())
            .or(of_burst.then_some("burst"));
        if let Some(whose) = whose {
            let (job, whose) = (new.entry.job, whose.into());
            found.push(Unfair::OutOfHours { job, whose });
        }
    }
}

/// Of each resource: what it is called, what is held, what is given on top.
fn sums(held: impl Iterator<Item = Part>, new: impl Iterator<Item = Part>) -> [(&'static str, u64, u64); 4] {
    let sum = |parts: Vec<Part>| {
        let add = |sum: Part, part: &Part| sum.with(*part, u64::saturating_add);
        (parts.iter().fold(Part::default(), add), parts.len() as u64)
    };
    let (held, holders) = sum(held.collect());
    let (given, starters) = sum(new.collect());
    [
        ("CPU", held.cpu, given.cpu),
        ("memory", held.memory, given.memory),
        ("thousandths of GPUs", held.gpus, given.gpus),
        ("workers", holders, starters),
    ]
}

fn quota(name: &str, team: &Team, sharing: &Sharing, new: &[New<'_>], found: &mut Vec<Unfair>) {
    let running = || {
        let running = sharing.running.iter();
        running.filter(|running| *running.team == *name && running.given_up.is_none())
    };
    let new = || new.iter().filter(|new| new.entry.team == name);
    let of_running = |it: &Running| Part::of(it.tier, &it.request, &it.needs);
    let of_new = |it: &New<'_>| Part::of(it.entry.tier, &it.entry.request, &it.entry.needs);
    let mut judge = |who: String, limits: &AtOnce, sums: [(&'static str, u64, u64); 4]| {
        let limits = [
            limits.cpu.map(|cpu| cpu.0),
            limits.memory.map(|memory| memory.0),
            limits.gpus.map(|gpus| u64::from(gpus) * 1000),
            limits.workers.map(u64::from),
        ];
        for ((what, held, given), limit) in sums.into_iter().zip(limits) {
            // What is held already may be above a limit that was lowered.
            if let Some(limit) = limit.filter(|limit| given > 0 && held.saturating_add(given) > *limit) {
                let (who, held) = (who.clone(), held + given);
                found.push(Unfair::OverQuota {
                    who,
                    what,
                    held,
                    limit,
                });
            }
        }
    };
    let all = sums(running().map(of_running), new().map(of_new));
    judge(name.into(), &team.quota.team, all);
    let users: BTreeSet<&str> = new().map(|new| new.entry.user.as_str()).collect();
    for user in users {
        let of_user = sums(
            running().filter(|running| *running.user == *user).map(of_running),
            new().filter(|new| new.entry.user == user).map(of_new),
        );
        judge(alloc::format!("{name}/{user}"), &team.quota.user, of_user);
    }
}

fn budget(name: &str, team: &Team, sharing: &Sharing, new: &[New<'_>], found: &mut Vec<Unfair>) {
    const HOUR: u128 = 3_600_000_000;
    let Some(budget) = team.quota.budget else { return };
    let mut paid = sharing.paid.get(name).copied().unwrap_or_default();
    let before = paid;
    for new in new.iter().filter(|new| new.entry.team == name) {
        let Some(time) = new.entry.time else {
            let team = name.into();
            found.push(Unfair::OverBudget { team, what: "hours" });
            continue;
        };
        let part = Part::of(new.entry.tier, &new.entry.request, &new.entry.needs);
        let span = u128::from(time.plus(new.entry.grace).0);
        paid = paid.plus(Spent {
            cpu: u128::from(part.cpu) * span,
            memory: u128::from(part.memory) * span,
            gpus: u128::from(part.gpus) * span,
        });
    }
    let limits = [
        ("CPU-hours", budget.cpu_hours, before.cpu, paid.cpu, 1000 * HOUR),
        (
            "GiB-hours",
            budget.gib_hours,
            before.memory,
            paid.memory,
            HOUR << 30,
        ),
        ("GPU-hours", budget.gpu_hours, before.gpus, paid.gpus, 1000 * HOUR),
    ];
    for (what, limit, before, paid, hour) in limits {
        if limit.is_some_and(|limit| paid > before && paid > u128::from(limit) * hour) {
            let team = name.into();
            found.push(Unfair::OverBudget { team, what });
        }
    }
}

/// What workers hold, as sums of its own: thousandths of CPUs and GPUs, bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    cpu: u64,
    memory: u64,
    gpus: u64,
    scratch: u64,
    whole: u64,
}

impl Part {
    fn of_held(held: &Held) -> Self {
        Self {
            cpu: held.amounts.cpu.0,
            memory: held.amounts.memory.0,
            gpus: u64::from(held.amounts.gpus) * 1000 + u64::from(held.gpu_shares),
            scratch: held.scratch.0,
            whole: held.whole_cpus.into(),
        }
    }

    fn of(tier: Tier, request: &WorkerRequest, needs: &Needs) -> Self {
        let gpus = u64::from(request.gpus);
        Self {
            cpu: request.cpus.amount().0,
            memory: request.memory.0,
            gpus: needs
                .gpu_share
                .map_or(gpus * 1000, |share| u64::from(share.0) * gpus.min(1)),
            scratch: needs.scratch.0,
            whole: match (tier, request.cpus) {
                (Tier::Standard, CpuRequest::Exclusive(cpus)) => cpus.into(),
                _ => 0,
            },
        }
    }

    fn with(self, other: Self, sum: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            cpu: sum(self.cpu, other.cpu),
            memory: sum(self.memory, other.memory),
            gpus: sum(self.gpus, other.gpus),
            scratch: sum(self.scratch, other.scratch),
            whole: sum(self.whole, other.whole),
        }
    }

    fn lent(amounts: Amounts) -> Self {
        Self {
            cpu: amounts.cpu.0,
            memory: amounts.memory.0,
            gpus: u64::from(amounts.gpus) * 1000,
            ..Self::default()
        }
    }
}

/// What a node holds, by tier.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    standard: Part,
    burst: Part,
}

impl Sum {
    fn tier(&mut self, tier: Tier) -> &mut Part {
        match tier {
            Tier::Standard => &mut self.standard,
            Tier::Burst => &mut self.burst,
        }
    }

    fn add(&mut self, tier: Tier, request: &WorkerRequest, needs: &Needs) {
        let part = self.tier(tier);
        *part = part.with(Part::of(tier, request, needs), u64::saturating_add);
    }

    fn less(&mut self, tier: Tier, request: &WorkerRequest, needs: &Needs) {
        let part = self.tier(tier);
        *part = part.with(Part::of(tier, request, needs), u64::saturating_sub);
    }

    /// True if a worker of the tier may be among what is held.
    fn fits(&self, node: &Node, tier: Tier, request: &WorkerRequest, needs: &Needs) -> bool {
        let within = |held: Part, line: Part| {
            held.cpu <= line.cpu
                && held.memory <= line.memory
                && (request.gpus == 0 || held.gpus <= line.gpus)
        };
        let (firm, now) = (Part::lent(node.line.firm), Part::lent(node.line.now));
        let all = self.standard.with(self.burst, u64::saturating_add);
        if needs.scratch.0 > 0 && all.scratch > node.line.scratch.0 {
            return false;
        }
        if tier == Tier::Burst {
            return within(all, now);
        }
        let exclusive = matches!(request.cpus, CpuRequest::Exclusive(_));
        within(self.standard, firm)
            && within(all, firm.with(now, u64::max))
            && (!exclusive || all.whole <= node.line.whole_cpus.into())
    }
}

fn given_away(snapshot: &Snapshot, sharing: &Sharing, kept: &Kept, new: &[New<'_>], found: &mut Vec<Unfair>) {
    // One that gets something has its room, and what it kept beside is free.
    if new.iter().any(|new| new.entry.job == kept.job) {
        return;
    }
    for (id, count) in &kept.nodes {
        let Some(node) = snapshot.nodes.iter().find(|node| node.id == *id) else {
            continue;
        };
        let mut then = Sum {
            standard: Part::of_held(&node.held.standard),
            burst: Part::of_held(&node.held.burst),
        };
        for running in sharing.running.iter().filter(|running| running.node == *id) {
            let end = sharing
                .ends
                .get(&running.attempt)
                .copied()
                .unwrap_or(End::Unknown);
            if running.stopping || end <= kept.at {
                then.less(running.tier, &running.request, &running.needs);
            }
        }
        for _ in 0..*count {
            then.add(kept.tier, &kept.request, &kept.needs);
        }
        // A line that sank, or a job that runs longer, takes it away without anybody's doing.
        if !then.fits(node, kept.tier, &kept.request, &kept.needs) {
            continue;
        }
        for new in new.iter().filter(|new| new.node == *id) {
            let end = sharing
                .would_end
                .get(&new.entry.job)
                .copied()
                .unwrap_or(End::Unknown);
            if end > kept.at || end == End::Unknown {
                then.add(new.entry.tier, &new.entry.request, &new.entry.needs);
            }
        }
        if !then.fits(node, kept.tier, &kept.request, &kept.needs) {
            let (node, job) = (*id, kept.job);
            found.push(Unfair::GivenAway { node, job });
        }
    }
}

fn evictions(queue: &[QueueEntry], sharing: &Sharing, plan: &Plan, found: &mut Vec<Unfair>) {
    let going: BTreeSet<AttemptId> = plan.evictions.iter().map(|eviction| eviction.attempt).collect();
    // How many of a job run on after the plan.
    let stay = |job: JobId| {
        let of_job = sharing.running.iter().filter(|it| it.job == job);
        let stays = |it: &&Running| it.given_up.is_none() && !it.stopping && !going.contains(&it.attempt);
        of_job.filter(stays).count()
    };
    for eviction in &plan.evictions {
        let running = sharing.running.iter().find(|it| it.attempt == eviction.attempt);
        let claimant = queue.iter().find(|entry| entry.job == eviction.to);
        let least = running.and_then(|running| running.least);
        let enough = least.is_some_and(|least| stay(eviction.job) >= least as usize);
        let outranked =
            running
                .zip(claimant)
                .is_some_and(|(running, claimant)| match (running.tier, claimant.tier) {
                    (Tier::Burst, Tier::Standard) => true,
                    (Tier::Standard, Tier::Burst) => false,
                    _ if running.priority == claimant.priority => enough && claimant.wanted.needed > 0,
                    _ if running.started.since(running.submitted_at) > sharing.patience => {
                        enough && running.priority < claimant.priority
                    }
                    _ => running.priority < claimant.priority,
                });
        if !outranked {
            let (job, worker, to) = (eviction.job, eviction.worker, eviction.to);
            found.push(Unfair::NotOutranked { job, worker, to });
        }
        if least.is_some() && !enough && stay(eviction.job) > 0 {
            found.push(Unfair::TornGang { job: eviction.job });
        }
    }
}
