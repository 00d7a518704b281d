//! One plan: whose turn it is, whether they may start, whether there is room; until nothing fits or the plan is full.
//!
//! Of each line the first job is tried. What a plan grants counts against quotas at once (the *tab*), and is charged
//! when it is said that it runs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use loadline_model::{Demand, LocalTime, Span, WallTime};

use crate::engine::{Grant, ShapeIx};
use crate::planner::keeps::{Comer, LOOK_AGAIN};
use crate::planner::lines::{Kind, Phase, Turn};
use crate::planner::{Assignment, Plan, Planner, Policy, SHAPES_FEW};
use crate::policy::order::{Claim, Turns};
use crate::policy::{
    Asked, Counted, End, Gate, Gated, OverQuota, Ready, ShareRules, Shut, Shutter, Tab, gate,
};
use crate::queue::{QueueEntry, Wanted};

/// How trying a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It has what it wants.
    Placed,
    /// There is no room for more of it.
    NoRoom,
    /// Another has moved that it is tied to: the next plan knows where.
    Later,
    /// It may not have more.
    Gated,
    /// The plan has no room for more of it.
    Full,
}

/// What one plan knows while it is made.
pub(crate) struct Making<'p> {
    pub(crate) policy: &'p Policy,
    pub(crate) now: WallTime,
    pub(crate) plan: Plan,
    /// What it has granted.
    tab: Tab,
    shutter: Shutter,
    /// The fewest workers of a shape that are known to find no room together, by what they may not be in the way of.
    hopeless: BTreeMap<(ShapeIx, u64), u32>,
}

impl Planner {
    /// Decides who goes where now, and who makes room. What it books counts at once: say what became of it before
    /// planning again.
    pub fn plan(&mut self, policy: &Policy, now: WallTime) -> Plan {
        self.forget_shapes();
        self.moved.clear();
        self.open_books(policy, now);
        let turned = self.turned;
        let mut making = Making {
            policy,
            now,
            plan: Plan::default(),
            tab: Tab::default(),
            shutter: self.shutter(now),
            hopeless: BTreeMap::new(),
        };
        let mut turns = Turns::new(self.accounts.rules().capacity, policy.order, now);
        for phase in Phase::ALL {
            let mark = (
                self.nodes.engine.freed(phase.tier),
                self.nodes.epoch(),
                self.turned,
            );
            for number in self.lines.ready(phase, mark) {
                self.enter(number, &mut turns);
            }
        }
        let mut rested = Vec::new();
        while let Some(number) = turns.next() {
            let full = making.left() == 0;
            let tried = if full {
                Tried::Full
            } else {
                self.try_line(number, &mut making)
            };
            match tried {
                Tried::Placed => self.enter(number, &mut turns),
                Tried::Gated => {
                    self.keep_nothing(number);
                    rested.push(number);
                }
                Tried::NoRoom => {
                    self.blocked(number, &mut making);
                    rested.push(number);
                }
                Tried::Later => making.plan.more = true,
                Tried::Full => {
                    making.plan.more = true;
                    break;
                }
            }
            turns.done(tried == Tried::Placed);
            for number in core::mem::take(&mut self.wishes) {
                self.enter(number, &mut turns);
            }
        }
        self.lines.rest(rested);
        // What was kept is free again: those who came before would start now.
        making.plan.more |= self.turned != turned;
        self.settled = self.turned;
        if !making.plan.assignments.is_empty() || !making.plan.evictions.is_empty() {
            self.version += 1;
        }
        making.plan
    }

    /// Brings accounts and what is kept up to the moment.
    fn open_books(&mut self, policy: &Policy, now: WallTime) {
        self.accounts.set_rules(ShareRules {
            half_life: policy.half_life,
            capacity: self.nodes.capacity(),
        });
        self.accounts.advance(now);
        let lately = |since: WallTime| since <= now && now.since(since) < LOOK_AGAIN;
        if !self.looks.0.is_some_and(lately) {
            self.looks = (Some(now), policy.looks_max);
        }
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            self.turned += 1;
        }
        self.drop_stale_keeps(now);
    }

    /// Enters the first job of a line.
    fn enter(&self, number: u64, turns: &mut Turns) {
        if let Some((turn, kind, _)) = self.lines.head(number) {
            let claim = self.claim(turn, kind);
            turns.enter(&claim, number, &self.accounts);
        }
    }

    /// A job's wish to start workers.
    pub(crate) fn claim<'k>(&self, turn: Turn, kind: &'k Kind) -> Claim<'k, Counted> {
        Claim {
            job: turn.job,
            tier: kind.phase.tier,
            priority: kind.priority,
            submitted_at: turn.submitted_at,
            team: &kind.team,
            user: &kind.user,
            extra: kind.phase.extra,
            amounts: Counted::of(&kind.request, &kind.needs).times(kind.together),
            estimate: self.estimate(kind),
            reserved: self.keeps.of(turn.job).is_some(),
        }
    }

    fn estimate(&self, kind: &Kind) -> Option<Span> {
        self.estimates.of(&kind.user, kind.limit())
    }

    /// Forgets shapes once they have doubled: what that costs is spread over as many new ones.
    fn forget_shapes(&mut self) {
        let known = self.nodes.engine.shapes();
        if known < self.shapes_max.max(SHAPES_FEW) {
            return;
        }
        let used = self.lines.shapes();
        self.nodes.engine.forget_shapes(|shape| used.contains(&shape));
        self.shapes_max = self.nodes.engine.shapes().saturating_mul(2);
    }

    /// Tries to start one more worker of the first job of a line, or all that start together: then others have their
    /// turn, so a job of many workers does not take what several teams wait for.
    fn try_line(&mut self, number: u64, making: &mut Making<'_>) -> Tried {
        let Some((turn, kind, wanted)) = self.lines.head(number) else {
            return Tried::NoRoom;
        };
        if self.moved.is_tied(kind, turn.job) {
            return Tried::Later;
        }
        let (wants, together) = group(kind, wanted);
        let workers = if together { wants } else { 1 };
        let estimate = self.estimate(kind);
        if let Err(gated) = self.gate(kind, workers, estimate, making) {
            self.note_turn(&gated, making.now);
            return Tried::Gated;
        }
        let end = self.would_end(&kind.user, kind.limit(), making.now);
        let named = kind.ties.is_some()
            || !kind.nodes.is_empty()
            || kind.refusals.iter().any(|it| it.holds(making.now));
        let Some(shape) = self.shape(number) else {
            return Tried::NoRoom;
        };
        let key = (shape, self.keeps.outlasted(turn.job, end));
        if !named
            && making
                .hopeless
                .get(&key)
                .is_some_and(|few| workers >= *few as usize)
        {
            return Tried::NoRoom;
        }
        let Some(entry) = self.lines.entry(turn.job) else {
            return Tried::NoRoom;
        };
        let place = self.place(&entry, shape, end, making.now);
        let grants = self.book(&entry, &place, workers, making.now);
        match grants {
            Some(grants) => {
                self.granted(number, turn, &entry, end, &grants, making);
                Tried::Placed
            }
            None => making.give_up(key, named, workers),
        }
    }

    /// Whether so many workers of a kind may start, with what the plan has granted.
    fn gate(
        &self,
        kind: &Kind,
        workers: usize,
        estimate: Option<Span>,
        making: &Making<'_>,
    ) -> Result<(), Gated> {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let job = Gate {
            asked: Asked {
                team: &kind.team,
                user: &kind.user,
                amounts: Counted::of(&kind.request, &kind.needs).times(workers),
                workers,
                limit: kind.limit(),
            },
            tier: kind.phase.tier,
            estimate,
            // Who waits for other jobs or for a time is not told of.
            ready: Ready::Now,
        };
        gate(&job, &self.accounts, &making.tab, &making.shutter, making.now)
    }

    /// What time it is, and when burst may start.
    pub(crate) fn shutter(&self, now: WallTime) -> Shutter {
        Shutter {
            local: LocalTime::utc(now),
            burst: self.burst.clone(),
        }
    }

    /// Keeps no room for a job that may not start at all.
    fn keep_nothing(&mut self, number: u64) {
        let job = self.lines.head(number).map(|(turn, ..)| turn.job);
        if job.is_some_and(|job| self.keeps.drop(job)) {
            self.turned += 1;
        }
    }

    /// Notes when what keeps a job away may turn by time alone.
    fn note_turn(&mut self, gated: &Gated, now: WallTime) {
        let turns = match gated {
            Gated::TeamWindow(shut) | Gated::BurstWindow(shut) => match shut {
                Shut::Closed { opens_in } => opens_in.map(|span| now.plus(span)),
                Shut::TooLong { closes_in, .. } => Some(now.plus(*closes_in)),
                Shut::NeverLongEnough { .. } => None,
            },
            Gated::Quota(OverQuota::Spent { next, .. }) => Some(*next),
            Gated::Quota(_) | Gated::Prerequisite(_) => None,
        };
        self.wake_at(turns);
    }

    pub(crate) fn wake_at(&mut self, at: Option<WallTime>) {
        self.wake = [self.wake, at].into_iter().flatten().min();
    }

    /// The engine's number of what a line asks for; none: no node could ever be asked for it.
    fn shape(&mut self, number: u64) -> Option<ShapeIx> {
        let epoch = self.nodes.epoch();
        let line = self.lines.line(number)?;
        let shape = match line.shape {
            Some((shape, known)) if known == epoch => shape,
            _ => {
                let Kind {
                    phase,
                    request,
                    needs,
                    team,
                    ..
                } = &*line.kind;
                let team = self.nodes.team(team);
                let demand = Demand::new(*request, needs);
                let shape = self.nodes.engine.shape_of(&demand, phase.tier, team).ok()?;
                line.shape = Some((shape, epoch));
                shape
            }
        };
        self.nodes
            .engine
            .learn(shape, core::mem::take(&mut line.unlearnt));
        Some(shape)
    }

    /// What was booked becomes part of the plan.
    fn granted(
        &mut self,
        number: u64,
        turn: Turn,
        entry: &QueueEntry,
        end: End,
        grants: &[Grant],
        making: &mut Making<'_>,
    ) {
        let extra = self.lines.is_extra(number);
        let workers = self.lines.take(number, turn, grants.len());
        let count = u32::try_from(grants.len()).unwrap_or(u32::MAX);
        making.tab.add(&asked(entry, count));
        for (grant, worker) in grants.iter().zip(workers) {
            let held = self
                .nodes
                .hold(grant.node, entry.tier, &entry.request, &entry.needs);
            let Some(node) = held else { continue };
            self.moved.note(entry, node);
            self.keeps.started(node, &Comer { entry, end });
            making.plan.assignments.push(Assignment {
                job: turn.job,
                worker,
                node,
            });
        }
        // What was kept for it has served; a job that goes on one by one has the room it kept until it has all.
        let wish = self.lines.line_of(turn.job);
        if wish != Some(number) && self.keeps.drop(turn.job) {
            self.turned += 1;
        }
        if let Some(wish) = wish.filter(|wish| *wish != number && !extra)
            && self.lines.is_ready(wish)
            && self.lines.head(wish).is_some_and(|(head, ..)| head == turn)
        {
            self.wishes.push(wish);
        }
    }
}

impl Making<'_> {
    fn left(&self) -> usize {
        let most = self.policy.assignments_max;
        most.saturating_sub(self.plan.assignments.len())
    }

    /// No room: nor for others of the shape that may not be in the way of the same.
    fn give_up(&mut self, key: (ShapeIx, u64), named: bool, workers: usize) -> Tried {
        if !named {
            let few = self.hopeless.entry(key).or_insert(u32::MAX);
            *few = (*few).min(u32::try_from(workers).unwrap_or(u32::MAX));
        }
        Tried::NoRoom
    }
}

/// How many a job wants now, and whether all of them or none.
pub(crate) fn group(kind: &Kind, wanted: &Wanted) -> (usize, bool) {
    let needed = usize::try_from(wanted.needed).unwrap_or(usize::MAX);
    if kind.phase.extra {
        (wanted.missing.len(), false)
    } else {
        let together = wanted.start == crate::queue::Start::Together;
        (needed.min(wanted.missing.len()), together)
    }
}

pub(crate) fn asked(entry: &QueueEntry, workers: u32) -> Asked<'_, Counted> {
    Asked {
        team: &entry.team,
        user: &entry.user,
        amounts: Counted::of(&entry.request, &entry.needs).times(workers),
        workers,
        limit: entry.limit(),
    }
}

/// Whether so many workers of a job may start.
pub(crate) fn gate_of(
    entry: &QueueEntry,
    workers: u32,
    estimate: Option<Span>,
    accounts: &crate::policy::Accounts,
    tab: &Tab,
    shutter: &Shutter,
    now: WallTime,
) -> Result<(), Gated> {
    let job = Gate {
        asked: asked(entry, workers),
        tier: entry.tier,
        estimate,
        ready: Ready::Now,
    };
    gate(&job, accounts, tab, shutter, now)
}

#[cfg(test)]
mod tests;
