//! What is done for a job that finds no room: others yield to it, or the first such job has room kept.
//!
//! Both look at the whole fleet, which costs milliseconds on a large one. So it is done a few times a second at most, and
//! a line that came to nothing is left alone for a while.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use loadline_model::{AttemptId, JobId, NodeId, Span, WallTime};
use serde::{Deserialize, Serialize};

use crate::planner::keeps::{Kept, KeptFor, LOOK_AGAIN};
use crate::planner::pass::{Making, group};
use crate::planner::scene::Scene;
use crate::planner::{Planner, together};
use crate::policy::order::{Class, class_of};
use crate::policy::yielding::Claimant;
use crate::policy::{End, choose};
use crate::queue::QueueEntry;

/// A worker has to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// Which attempt of it.
    pub attempt: AttemptId,
    /// Whose worker.
    pub job: JobId,
    /// Which of it.
    pub worker: u32,
    /// Where.
    pub node: NodeId,
    /// The job that gets the room.
    pub to: JobId,
}

/// Of a job whose workers start one by one so many get room at once at most.
const AT_ONCE_MAX: u32 = 16;
/// Who yields has its grace to go; so much longer its node may take to say so.
const SLACK: Span = Span::from_secs(60);

impl Planner {
    /// A line's first job has found no room.
    pub(crate) fn blocked(&mut self, number: u64, making: &mut Making<'_>) {
        let now = making.now;
        if self.looks.1 == 0 {
            self.wake_at(Some(now.plus(LOOK_AGAIN)));
            return;
        }
        let Some((turn, kind, wanted)) = self.lines.head(number) else {
            return;
        };
        let (wants, gang) = group(kind, wanted);
        if kind.phase.extra {
            return;
        }
        let (kept, fresh) = match self.keeps.of(turn.job) {
            None => (false, false),
            Some(keep) => (
                true,
                keep.is.why != KeptFor::Turn || now.since(keep.made) < LOOK_AGAIN,
            ),
        };
        let looked = self
            .looked
            .get(&number)
            .is_some_and(|at| now.since(*at) < LOOK_AGAIN);
        if fresh || looked {
            // Time alone lets it look again, also where nothing happens.
            self.wake_at(Some(now.plus(LOOK_AGAIN)));
            return;
        }
        let rank = (kind.phase.tier, kind.phase.extra, kind.priority);
        let below = making.policy.yielding.is_some() && self.runs.any_to_ask(rank.0, rank.2);
        let mine = class_of(rank, turn.submitted_at, kept, &making.policy.order, now);
        // Of a long queue most are done with here.
        if !below && !kept && !self.may_reserve(&mine, making) {
            return;
        }
        let Some(entry) = self.lines.entry(turn.job) else {
            return;
        };
        let wants = u32::try_from(wants).unwrap_or(u32::MAX);
        let wants = if gang { wants } else { wants.min(AT_ONCE_MAX) };
        if below {
            self.looks.1 -= 1;
            if self.others_yield(&entry, wants, gang, making) {
                // With those gone, what is kept for others may leave room for it at once.
                self.turned += 1;
                return;
            }
        }
        if !kept && !self.make_reservation(&mine, making) {
            self.looked.insert(number, now);
            return;
        }
        self.reserve(number, &entry, now);
        let waited = now.since(turn.submitted_at);
        self.keeps
            .set_waited(entry.job, waited, making.policy.order.patience);
        self.wake_at(Some(now.plus(LOOK_AGAIN)));
    }

    /// Keeps room for a job, where it is expected first.
    fn reserve(&mut self, number: u64, entry: &QueueEntry, now: WallTime) {
        self.looks.1 = self.looks.1.saturating_sub(1);
        let (resolved, caps) = self.spread_so_far(entry, now);
        let job = (&resolved, caps.as_ref());
        let found = self
            .keeps
            .foreseen(&self.nodes, &self.runs, job, together(entry), now);
        let before = self.keeps.of(entry.job).map(|keep| keep.is.clone());
        self.keeps.drop(entry.job);
        let after = match found {
            Some(foreseen) => {
                let kept = kept_for(entry, foreseen.at, KeptFor::Turn, foreseen.nodes);
                self.keeps.keep(kept.clone(), foreseen.held, now);
                self.keeps.refresh(&self.nodes, &self.runs, now);
                Some(kept)
            }
            None => {
                self.looked.insert(number, now);
                None
            }
        };
        if before.is_some() && before != after {
            // Elsewhere there is room again.
            self.turned += 1;
        }
    }

    /// True if a job of this class may have room kept: there is a reservation left, or one comes later in the order.
    fn may_reserve(&self, mine: &Class, making: &Making<'_>) -> bool {
        let most = making.policy.backfill.reservations;
        most > 0 && (self.keeps.reservations() < most || self.later(mine, making).is_some())
    }

    /// The same; the one that comes later gives way.
    fn make_reservation(&mut self, mine: &Class, making: &Making<'_>) -> bool {
        let most = making.policy.backfill.reservations;
        if most == 0 || self.keeps.reservations() < most {
            return most > 0;
        }
        let given = self.later(mine, making).is_some_and(|job| self.keeps.drop(job));
        if given {
            self.turned += 1;
        }
        given
    }

    /// Who has room kept and comes later in the order.
    fn later(&self, mine: &Class, making: &Making<'_>) -> Option<JobId> {
        let turns = self.keeps.all.iter().filter(|keep| keep.is.why == KeptFor::Turn);
        turns.map(|keep| keep.is.job).find(|job| {
            let Some((turn, kind)) = self.lines.turn_of(*job) else {
                return true;
            };
            let rank = (kind.phase.tier, kind.phase.extra, kind.priority);
            let other = class_of(rank, turn.submitted_at, false, &making.policy.order, making.now);
            other > *mine
        })
    }

    /// Keeps nothing for jobs that are gone or want something else, on nodes that take nothing, or for whom nobody
    /// made room in time.
    pub(crate) fn drop_stale_keeps(&mut self, now: WallTime) {
        let Self {
            keeps, lines, nodes, ..
        } = self;
        let before = keeps.all.len();
        keeps.all.retain(|keep| {
            let Kept {
                job,
                tier,
                request,
                needs,
                why,
                nodes: on,
                ..
            } = &keep.is;
            let wants = lines.turn_of(*job).is_some_and(|(_, kind)| {
                kind.request == *request
                    && kind.needs == *needs
                    && kind.phase.tier == *tier
                    && !kind.phase.extra
            });
            let in_time = !matches!(why, KeptFor::Yielded { until } if *until <= now);
            let open = on
                .keys()
                .all(|id| nodes.by_id(*id).is_some_and(|(_, node)| node.takes_work()));
            wants && in_time && open
        });
        if keeps.all.len() != before {
            self.turned += 1;
        }
        self.keeps.refresh(&self.nodes, &self.runs, now);
        let until = self.keeps.all.iter().filter_map(|keep| match keep.is.why {
            KeptFor::Yielded { until } => Some(until),
            KeptFor::Turn => None,
        });
        let until = until.min();
        self.wake_at(until);
        if self.looked.len() > 4096 {
            self.looked.retain(|_, at| now.since(*at) < LOOK_AGAIN);
        }
    }

    /// Finds who has to go for the job, as many of its workers as that helps; true if someone does.
    fn others_yield(&mut self, entry: &QueueEntry, wants: u32, gang: bool, making: &mut Making<'_>) -> bool {
        let Some(rules) = making.policy.yielding else {
            return false;
        };
        let now = making.now;
        let Some(scene) = self.scene(entry, (&rules, making.policy.order.patience), now) else {
            return false;
        };
        let mut workers = wants;
        while workers > 0 {
            let claimant = Claimant {
                tier: entry.tier,
                priority: entry.priority,
                workers,
            };
            let chosen = choose(&claimant, &scene.rooms, &scene.victims, &rules, now);
            match chosen.filter(|chosen| !chosen.victims.is_empty()) {
                Some(chosen) => {
                    let (victims, nodes) = (chosen.victims, chosen.nodes);
                    self.let_yield(entry, &scene, &victims, &nodes, making);
                    return true;
                }
                // All or none; of those that start one by one, fewer.
                None if gang => return false,
                None => workers /= 2,
            }
        }
        false
    }

    fn let_yield(
        &mut self,
        entry: &QueueEntry,
        scene: &Scene,
        victims: &[usize],
        nodes: &[usize],
        making: &mut Making<'_>,
    ) {
        let now = making.now;
        let mut longest = Span::ZERO;
        for place in victims {
            let (Some(attempt), Some(victim)) = (scene.attempts.get(*place), scene.victims.get(*place))
            else {
                continue;
            };
            let Some(run) = self.runs.stop(*attempt) else {
                continue;
            };
            longest = longest.max(run.grace);
            making.plan.evictions.push(Eviction {
                attempt: *attempt,
                job: victim.job,
                worker: victim.worker,
                node: run.node,
                to: entry.job,
            });
        }
        let mut on: BTreeMap<NodeId, u32> = BTreeMap::new();
        for place in nodes {
            if let Some(id) = scene.ids.get(*place) {
                *on.entry(*id).or_default() += 1;
            }
        }
        // Whose turn is below the claimant's has room kept again, where there is some then.
        for job in self.no_claim(entry) {
            if self
                .keeps
                .of(job)
                .is_some_and(|keep| on.keys().any(|id| keep.is.nodes.contains_key(id)))
            {
                self.keeps.drop(job);
            }
        }
        let held = on.keys().filter_map(|id| {
            let (_, node) = self.nodes.by_id(*id)?;
            Some((*id, self.will_hold(node, &[entry.job])))
        });
        let held = held.collect();
        let until = now.plus(longest).plus(SLACK);
        let kept = kept_for(entry, End::At(now.plus(longest)), KeptFor::Yielded { until }, on);
        self.keeps.drop(entry.job);
        self.keeps.keep(kept, held, now);
        self.keeps.refresh(&self.nodes, &self.runs, now);
        self.wake_at(Some(until));
    }
}

fn kept_for(entry: &QueueEntry, at: End, why: KeptFor, nodes: BTreeMap<NodeId, u32>) -> Kept {
    Kept {
        job: entry.job,
        number: entry.number,
        tier: entry.tier,
        request: entry.request,
        needs: Arc::clone(&entry.needs),
        at,
        why,
        nodes,
    }
}
