//! One plan: each phase in turn, of each line the first job, until nothing fits or the plan is full.

use loadline_model::{Demand, WallTime};

use crate::engine::ShapeIx;
use crate::planner::lines::{Kind, Phase, Turn};
use crate::planner::{Assignment, Plan, Planner, Policy, SHAPES_FEW};

/// How trying a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It has what it wants.
    Placed,
    /// There is no room for more of it.
    NoRoom,
    /// Another has moved that it is tied to: the next plan knows where.
    Later,
    /// The plan has no room for more of it.
    Full,
}

impl Planner {
    /// Decides who goes where now. What it books counts at once: say what became of it before planning again.
    pub fn plan(&mut self, policy: &Policy, now: WallTime) -> Plan {
        let mut plan = Plan::default();
        self.forget_shapes();
        self.moved.clear();
        for phase in Phase::ALL {
            self.phase(phase, policy.assignments_max, now, &mut plan);
        }
        if !plan.assignments.is_empty() {
            self.version += 1;
        }
        plan
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

    fn phase(&mut self, phase: Phase, most: usize, now: WallTime, plan: &mut Plan) {
        let mark = (self.nodes.engine.freed(phase.tier), self.nodes.epoch());
        let mut heads = self.lines.heads(phase, mark);
        while let Some((turn, number)) = heads.pop_first() {
            let left = most.saturating_sub(plan.assignments.len());
            if left == 0 {
                plan.more = true;
                return;
            }
            match self.try_job(number, turn, left, now, plan) {
                Tried::Placed => heads.extend(self.lines.head(number)),
                Tried::NoRoom => self.lines.rest(number),
                Tried::Later => plan.more = true,
                Tried::Full => {
                    plan.more = true;
                    return;
                }
            }
        }
    }

    fn try_job(&mut self, number: u64, turn: Turn, left: usize, now: WallTime, plan: &mut Plan) -> Tried {
        let Some((kind, (wants, together))) = self.lines.wants(number, turn) else {
            return Tried::NoRoom;
        };
        if self.moved.is_tied(&kind) {
            return Tried::Later;
        }
        let Some(shape) = self.shape(number) else {
            return Tried::NoRoom;
        };
        let grants = self.grants(shape, (&kind, turn.1), (wants, together), left, now);
        let workers = self.lines.take(number, turn, grants.len());
        for (grant, worker) in grants.iter().zip(workers) {
            let held = self
                .nodes
                .hold(grant.node, kind.phase.tier, &kind.request, &kind.needs);
            self.moved.note(&kind, turn.1, held);
            plan.assignments.extend(held.map(|node| Assignment {
                job: turn.1,
                worker,
                node,
            }));
        }
        match grants.len() {
            got if got >= wants => Tried::Placed,
            got if got >= left && !together => Tried::Full,
            _ => Tried::NoRoom,
        }
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
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use loadline_model::{Amounts, Bytes, CpuRequest, JobId, MilliCpu, NodeId, Tier, WorkerRequest, Workers};

    use super::*;
    use crate::queue::{QueueEntry, Wanted};
    use crate::snapshot::{HeldByTier, Line, Node, NodeState};

    fn node() -> Node {
        let amounts = Amounts {
            cpu: MilliCpu::from_cpus(4),
            memory: Bytes::from_gib(200),
            gpus: 0,
        };
        Node {
            id: NodeId::from_slice(&[1; 16]).unwrap(),
            name: "n1".into(),
            pool: "default".into(),
            state: NodeState::Ready,
            lending: true,
            traits: Arc::default(),
            line: Line {
                firm: amounts,
                now: amounts,
                whole_cpus: 4,
                scratch: Bytes::ZERO,
            },
            exclusive_cpus: true,
            allow_teams: Vec::new(),
            held: HeldByTier::default(),
        }
    }

    fn job(number: u32) -> QueueEntry {
        QueueEntry {
            job: JobId::from_slice(&u128::from(number).to_be_bytes()).unwrap(),
            tier: Tier::Standard,
            submitted_at: WallTime(number.into()),
            request: WorkerRequest {
                cpus: CpuRequest::Exclusive(1),
                memory: Bytes::from_mib(number.into()),
                gpus: 0,
            },
            wanted: Wanted::new(Workers::Fixed(1), 0, [0].into()),
            user: "ada".into(),
            team: String::new(),
            needs: Arc::default(),
            ties: None,
            nodes: Vec::new(),
            refusals: Vec::new(),
        }
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        let mut planner = Planner::default();
        let mut most = 0;
        // Twice as many as the mix of what is asked for remembers.
        for number in 1..=140_000 {
            planner.put_node(node()).unwrap();
            planner.put_job(&job(number));
            let plan = planner.plan(&Policy::default(), WallTime(0));
            assert_eq!(plan.assignments.len(), 1, "job {number}");
            most = most.max(planner.nodes.engine.shapes());
        }
        assert!(most <= 131_072, "{most} shapes were known at once");
        let known = planner.nodes.engine.shapes();
        // Those of the last 65,536 workers may be asked for again soon.
        assert!(known < 75_000, "{known} shapes are known still");
        // They still mean what they meant.
        planner.put_node(node()).unwrap();
        for number in [3, 1, 2, 250_000, 5, 6, 7] {
            planner.put_job(&job(number));
        }
        let plan = planner.plan(&Policy::default(), WallTime(0));
        let placed: Vec<u8> = plan.assignments.iter().map(|it| it.job.as_bytes()[15]).collect();
        assert_eq!(
            placed,
            [1, 2, 3, 5],
            "the first in turn, four CPUs, and none for who wants too much memory"
        );
    }

    #[test]
    fn a_queue_that_stands_still_is_not_looked_at_again() {
        let mut planner = Planner::default();
        planner.put_node(node()).unwrap();
        for number in 1..=5 {
            let request = job(1).request;
            planner.put_job(&QueueEntry {
                request,
                ..job(number)
            });
        }
        let plan = planner.plan(&Policy::default(), WallTime(0));
        assert_eq!(plan.assignments.len(), 4);
        let phase = Phase::ALL[0];
        let heads = |planner: &mut Planner| {
            let mark = (planner.nodes.engine.freed(Tier::Standard), planner.nodes.epoch());
            planner.lines.heads(phase, mark).len()
        };
        planner.plan(&Policy::default(), WallTime(0));
        assert_eq!(heads(&mut planner), 0, "nothing was freed");
        planner.put_node(node()).unwrap();
        assert_eq!(
            heads(&mut planner),
            1,
            "the plan was not carried out: there is room again"
        );
    }
}
