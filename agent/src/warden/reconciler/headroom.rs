//! What the headroom loop wants, given to systemd and verified; and what it would want, where the node only watches.
//!
//! The brake has made anything lower take effect already, and given of that back (see `warden/headroom.rs`); what is
//! higher than systemd was told can wait. So systemd is told every few seconds only: on an emulated machine it needs 30 ms
//! of CPU for each call, which are production's.

use loadline_model::{Bytes, MilliCpu, Receipt, ReceiptAction, ReceiptSubject, Span, Tier};
use loadline_policy::headroom::{Decision, Level, Reason};
use loadline_policy::node_policy::Mode;
use loadline_policy::reconcile::AtOnce;
use loadline_policy::settings::{
    BytesPerSecond, CpuMax, Limit, Observed, Setpoints, Slice, SliceSettings, TasksLimit, cpu_quota,
    slice_settings,
};
use tracing::{debug, warn};

use super::{Node, Reconciler};
use crate::host::clock::Clock;
use crate::host::systemd::{Setting, Systemd};
use crate::host::users::Accounts;
use crate::warden::brakes::Taken;

/// So long at least between two values for systemd …
const TELL_EVERY: Span = Span::from_secs(5);
/// … longer if it is nearly the same value: calls of ours are work of production's, and a quota that follows each breath
/// of production costs it more than the last twentieth of the machine is worth to lent work …
const TELL_SELDOM: Span = Span::from_secs(30);
/// … which is within a part of the capacity, one in so many.
const NEARLY: u64 = 20;
/// … unless a tier is squeezed or let go: then nothing must start in it, or may again.
const TELL_SOON: Span = Span::from_millis(500);
/// One that was evicted needs some time to be gone and to be missed; then production's need is judged anew.
const EVICT_EVERY: Span = Span::from_secs(4);

/// Memory is taken ten times a second while it is short; it is told at its beginning, and then once in a minute.
const TELL_TAKEN_EVERY: Span = Span::from_secs(60);

/// Which memory that was taken back has been told, and when.
#[derive(Debug, Default)]
pub(super) struct TakenTold {
    told: Taken,
    at: Option<Span>,
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// True if systemd has had time enough for the last value, and anybody is there to hold.
    pub(super) fn may_follow(&self) -> bool {
        if self.is_idle() && self.setpoints == Setpoints::default() {
            return false;
        }
        let wanted = self.headroom.wanted.borrow().map(|decision| decision.setpoints);
        // These limits have no brake: a lower one is systemd's to write.
        let falls = |to: Option<BytesPerSecond>, from: Option<BytesPerSecond>| {
            to.is_some_and(|to| from.is_none_or(|from| to < from))
        };
        let tasks = |setpoints: &Setpoints| setpoints.tasks.map_or(u64::MAX, |held| held.most);
        let soon = wanted.is_some_and(|wanted| {
            wanted.squeezed != self.yields.squeezed
                || falls(wanted.io, self.yields.io)
                || tasks(&wanted) < tasks(&self.yields)
        });
        let far = wanted.is_none_or(|wanted| self.is_far(&wanted));
        let wait = match (soon, far) {
            (true, _) => TELL_SOON,
            (false, true) => TELL_EVERY,
            (false, false) => TELL_SELDOM,
        };
        self.clock.monotonic().minus(self.told_at) >= wait
    }

    /// True if what is wanted is worth a call: far from what the kernel does, the brake included.
    fn is_far(&self, wanted: &Setpoints) -> bool {
        let most = self.node.line.most().cpu;
        let far = |slice: Slice| {
            let Limit::At(wanted) = cpu_quota(slice, most, wanted) else {
                return cpu_quota(slice, most, &self.yields) != Limit::Max;
            };
            match self.cgroups.cpu_max(&self.slice_cgroup(slice)) {
                Some(Limit::At(now)) => {
                    now.cpu().0.abs_diff(wanted.0) >= self.node.line.cpu.capacity.0 / NEARLY
                }
                Some(Limit::Max) | None => true,
            }
        };
        let same_but_cpu = Setpoints {
            cpu: self.yields.cpu,
            burst: self.yields.burst,
            ..*wanted
        };
        // Burst's share follows standard's use also while there is nobody to have it.
        let has_burst = self
            .state
            .attempts
            .keys()
            .any(|attempt| self.tier(*attempt) == Tier::Burst);
        same_but_cpu != self.yields || far(Slice::Root) || (has_burst && far(Slice::Burst))
    }

    /// True if the loop wants something that systemd has not been told.
    pub(super) fn is_behind(&self) -> bool {
        self.headroom.wanted.has_changed().unwrap_or(false)
    }

    /// Takes over what the loop wants, if that is something else.
    pub(super) async fn follow(&mut self) {
        if self.is_idle() {
            return self.let_all_go().await;
        }
        let Some(decision) = *self.headroom.wanted.borrow_and_update() else {
            return;
        };
        self.told_at = self.clock.monotonic();
        let told = std::mem::replace(&mut self.yields, decision.setpoints);
        self.tell_of(&told, &decision);
        self.tell_of_tasks(told.tasks, decision.setpoints.tasks);
        if self.node.policy.lend.mode == Mode::Shadow {
            return;
        }
        let before = self.tell_setpoints(decision.setpoints);
        let (before, after) = (self.slices_under(&before), self.slices_under(&decision.setpoints));
        for (before, after) in before.iter().zip(&after) {
            (self.alive)();
            self.set_moved(before, after).await;
        }
        self.read_slices();
    }

    /// What systemd is about to be told, and the brake may let go to; returns what it was before.
    fn tell_setpoints(&mut self, setpoints: Setpoints) -> Setpoints {
        self.headroom
            .within
            .send_modify(|within| within.setpoints = setpoints);
        std::mem::replace(&mut self.setpoints, setpoints)
    }

    /// Nothing is lent, and nothing is only thought through: then nobody needs to hear what the loop wants. It stays
    /// untaken, and is taken up with the first order.
    fn is_idle(&self) -> bool {
        self.state.attempts.is_empty() && self.node.policy.lend.mode != Mode::Shadow
    }

    /// Who was held is gone: the slices are as they are without the loop, and the brake sees to the rest.
    async fn let_all_go(&mut self) {
        let told = std::mem::take(&mut self.yields);
        let before = self.tell_setpoints(Setpoints::default());
        if before == Setpoints::default() {
            return;
        }
        self.told_at = self.clock.monotonic();
        self.headroom.wanted.mark_changed();
        for tier in [Tier::Burst, Tier::Standard] {
            if told.squeezed.holds(tier) {
                let sentence = format!("{} work is let go: nothing is lent here any more", tier.word());
                self.tell_of_tier(tier, ReceiptAction::Released, sentence);
            }
        }
        let (before, after) = (
            self.slices_under(&before),
            self.slices_under(&Setpoints::default()),
        );
        for (before, after) in before.iter().zip(&after) {
            (self.alive)();
            self.set_moved(before, after).await;
        }
        self.read_slices();
    }

    /// The node's mode is another one: what the loop wants is told anew, and held or let go accordingly.
    pub(super) fn begin_mode(&mut self) {
        self.yields = Setpoints::default();
        if self.node.policy.lend.mode == Mode::Shadow {
            self.tell_setpoints(Setpoints::default());
        }
        self.headroom.wanted.mark_changed();
    }

    /// At the top of the ladder somebody has to go, one after the other.
    pub(super) fn look_for_need(&mut self) {
        let now = self.clock.monotonic();
        let top = self
            .headroom
            .latest
            .borrow()
            .filter(|decision| decision.level == Level::Evict);
        let recently = self.evicted_at.is_some_and(|last| now.minus(last) < EVICT_EVERY);
        self.forget_what_would_be();
        if let (Some(decision), false) = (top, recently) {
            self.evicted_at = Some(now);
            self.evict = Some(decision.reason.to_string());
        }
    }

    /// A receipt for each tier from which memory was taken back since the last one.
    pub(super) fn tell_of_taken(&mut self) {
        let (taken, now) = (*self.headroom.taken.borrow(), self.clock.monotonic());
        let recently = self.taken.at.is_some_and(|at| now.minus(at) < TELL_TAKEN_EVERY);
        if recently || taken == self.taken.told {
            return;
        }
        if self.state.attempts.is_empty() {
            // Nobody misses it.
            self.taken.told = taken;
            return;
        }
        let told = std::mem::replace(&mut self.taken.told, taken);
        self.taken.at = Some(now);
        for tier in [Tier::Burst, Tier::Standard] {
            let more = taken.from(tier).minus(told.from(tier));
            if more > Bytes::ZERO {
                let sentence = format!(
                    "{more} of memory was taken back from {} work, pages of files first, since too little was left to \
                     production: what is needed of them is read from the disk again",
                    tier.word()
                );
                self.tell_of_tier(tier, ReceiptAction::MemoryTaken, sentence);
            }
        }
    }

    /// What the loop lets lent work have by now; systemd hears of it later. `pressed_for` says why.
    pub(super) fn at_once(&mut self) -> AtOnce<'static> {
        let latest = *self.headroom.latest.borrow();
        let Some(decision) = latest.filter(|_| self.node.policy.lend.mode == Mode::Enforce) else {
            return AtOnce::default();
        };
        // While it grows again production is calm: why it had to shrink says more.
        if decision.reason != Reason::Calm || self.pressed_for.is_empty() {
            self.pressed_for = decision.reason.to_string();
        }
        AtOnce {
            cpu: decision.setpoints.cpu,
            squeezed: decision.setpoints.squeezed,
            why: "",
        }
    }

    /// What was read of a slice, for comparison with what systemd was told. A quota that the brake has lowered
    /// meanwhile is no stranger's: it counts as held.
    pub(super) fn forgive_the_brake(&self, slice: Slice, observed: &mut Observed) {
        let all = self.slices_under(&self.setpoints);
        let told = all.iter().find(|settings| settings.slice == slice);
        if let Some(told) = told
            && is_lower(observed.cpu_max, told.cpu_quota)
            && self.is_behind()
        {
            observed.cpu_max = Some(as_max(told.cpu_quota));
        }
        let [root, ..] = all;
        if slice == Slice::Root && is_less(observed.memory_high, root.memory_high) && self.is_behind() {
            observed.memory_high = Some(root.memory_high);
        }
    }

    /// The brake writes beside systemd: a limit that somebody else has raised in systemd is not to be seen in the kernel,
    /// and would come into force once the brake is gone. So systemd is asked too, while something is lent. While the loop
    /// moves, its own next word takes a stranger's place. A systemd that is busy is asked again later.
    pub(super) async fn look_what_systemd_was_told(&mut self) {
        if self.state.attempts.is_empty() {
            return;
        }
        for (slice, observed) in &mut self.slices {
            (self.alive)();
            match self.systemd.told(slice.unit()).await {
                Ok(told) => observed.told = told,
                Err(problem) => debug!(error = &problem as &dyn std::error::Error, "not asked"),
            }
        }
    }

    /// What the slices should have under these setpoints, and with what was granted to those who are being ended.
    pub(super) fn slices_under(&self, setpoints: &Setpoints) -> [SliceSettings; 3] {
        let Node { line, pinning, .. } = &self.node;
        let all = slice_settings(line, pinning, setpoints, self.memory_held());
        match self.reap {
            Some(budget) => all.map(|settings| budget.over(settings)),
            None => all,
        }
    }

    /// Gives systemd what the loop moves, where it is another value.
    async fn set_moved(&mut self, before: &SliceSettings, after: &SliceSettings) {
        let slice = after.slice;
        let cgroup = self.slice_cgroup(slice);
        if !self.cgroups.exists(&cgroup) {
            return;
        }
        // Lower and higher again since systemd was told: then the brake's value still stands.
        let is = self.cgroups.limits(&cgroup);
        let mut moved = Vec::new();
        if after.cpu_quota != before.cpu_quota || is_lower(is.cpu_max, after.cpu_quota) {
            moved.push(Setting::CpuQuota(after.cpu_quota));
        }
        let braked = slice == Slice::Root && is_less(is.memory_high, after.memory_high);
        if after.memory_high != before.memory_high || braked {
            moved.push(Setting::MemoryHigh(after.memory_high));
        }
        if after.tasks_max != before.tasks_max {
            moved.push(Setting::TasksMax(after.tasks_max));
        }
        if after.io_bandwidth != before.io_bandwidth {
            moved.push(Setting::IoBandwidth(after.io_bandwidth));
        }
        if moved.is_empty() {
            return;
        }
        if let Err(problem) = self.systemd.set(slice.unit(), &moved).await {
            // Read back below, found to differ, and set again like any other limit.
            warn!(
                error = &problem as &dyn std::error::Error,
                slice = slice.unit(),
                "setpoints"
            );
        }
    }

    /// A receipt for each step of the ladder that holds a tier at its floor, or lets it go.
    fn tell_of(&mut self, before: &Setpoints, decision: &Decision) {
        let after = decision.setpoints.squeezed;
        if after == before.squeezed {
            return;
        }
        let shadow = self.node.policy.lend.mode == Mode::Shadow;
        let tighter = after > before.squeezed;
        if tighter {
            self.squeezed_for = decision.reason.to_string();
        }
        let turned = |tier: &Tier| before.squeezed.holds(*tier) != after.holds(*tier);
        for tier in [Tier::Burst, Tier::Standard].into_iter().filter(turned) {
            let action = match (shadow, tighter) {
                (false, true) => ReceiptAction::Squeezed,
                (false, false) => ReceiptAction::Released,
                (true, true) => ReceiptAction::WouldSqueeze,
                (true, false) => ReceiptAction::WouldRelease,
            };
            self.tell_of_tier(tier, action, sentence(shadow, tighter, tier, decision));
        }
    }

    /// A receipt when lent work's processes and threads are held, and when they are not any more. What a node that only
    /// watches would do here is no news to anyone.
    fn tell_of_tasks(&mut self, before: Option<TasksLimit>, after: Option<TasksLimit>) {
        if self.node.policy.lend.mode == Mode::Shadow {
            return;
        }
        let (action, sentence) = match (before, after) {
            (None, Some(TasksLimit { most, why })) => (
                ReceiptAction::TasksHeld,
                format!(
                    "lent work may have no more than {most} processes and threads for now, and a fork beyond that \
                     fails: {why}; it gets more once that is over"
                ),
            ),
            (Some(_), None) => (
                ReceiptAction::TasksReleased,
                "lent work may have as many processes and threads as ever".to_owned(),
            ),
            _ => return,
        };
        self.tell_of_node(action, Slice::Root.unit(), sentence);
    }

    fn tell_of_tier(&mut self, tier: Tier, action: ReceiptAction, sentence: String) {
        let now = self.now();
        let receipt = Receipt {
            at: now.wall,
            action,
            subject: ReceiptSubject::Node(Slice::of(tier).unit().into()),
            sentence,
        };
        self.count(&receipt);
        self.state.receipt(receipt, now);
    }
}

fn as_max(quota: Limit<MilliCpu>) -> Limit<CpuMax> {
    match quota {
        Limit::At(cpu) => Limit::At(CpuMax::of(cpu)),
        Limit::Max => Limit::Max,
    }
}

/// True if the kernel has less than this.
fn is_lower(is: Option<Limit<CpuMax>>, quota: Limit<MilliCpu>) -> bool {
    match (is, as_max(quota)) {
        (Some(Limit::At(is)), Limit::At(quota)) => quota.exceeds(is),
        (Some(Limit::At(_)), Limit::Max) => true,
        _ => false,
    }
}

/// The kernel rounds down to pages; this is the largest.
const PAGE_MAX: Bytes = Bytes(64 << 10);

/// True if the kernel has less memory than this, by more than it rounds.
fn is_less(is: Option<Limit<Bytes>>, meant: Limit<Bytes>) -> bool {
    match (is, meant) {
        (Some(Limit::At(is)), Limit::At(meant)) => is.plus(PAGE_MAX) <= meant,
        (Some(Limit::At(_)), Limit::Max) => true,
        _ => false,
    }
}

fn sentence(shadow: bool, tighter: bool, tier: Tier, decision: &Decision) -> String {
    let tier = tier.word();
    let is = if shadow { "would be" } else { "is" };
    if tighter {
        format!(
            "{tier} work {is} held at its floor: {}; it gets more once production has been calm for some time",
            decision.reason
        )
    } else {
        format!("{tier} work {is} let go: production has been calm for some time")
    }
}
