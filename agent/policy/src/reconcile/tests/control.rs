//! What operators and windows withdraw, and what a node that only watches would do.

use loadline_model::{AttemptId, MilliCpu, PerMille, ReceiptAction, Span, Tier, WallTime};

use super::world::World;
use super::{HALF, own, sentences};
use crate::attempt::{Life, StopWhy};
use crate::ceiling::{Ceiling, Setter};
use crate::node_policy::{Mode, Weekday, Window, WindowZone};
use crate::reconcile::{Action, Plan, Stage};
use crate::sample::attempt;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl World {
    /// An operator lends this part of the line.
    pub(super) fn set_line(&mut self, share: u16) {
        let (mode, line, by, at) = (Mode::Enforce, PerMille(share), "ada".into(), WallTime(1));
        self.ceilings.set(Setter::Fleet, Ceiling { mode, line, by, at });
    }

    fn ceiling(&mut self, mode: Mode, line: u16) {
        let ceiling = Ceiling {
            mode,
            line: PerMille(line),
            by: "ada".into(),
            at: WallTime(1),
        };
        self.ceilings.set(Setter::Fleet, ceiling);
        self.policy.lend.mode = Mode::Enforce;
        self.policy.lend.mode_held_by = None;
        self.policy = self.ceilings.policy(&self.policy);
    }
}

/// Who is asked to end, and why; without a reason: who is killed.
fn stops(plan: &Plan) -> Vec<(u128, Option<StopWhy>)> {
    let number = |id: AttemptId| (1..9).find(|number| attempt(*number) == id);
    let of = |planned: &super::Planned| {
        let why = match &planned.action {
            Action::Stop(Life::Stopping { why, .. }) => Some(*why),
            _ => None,
        };
        Some((number(planned.attempt?)?, why))
    };
    let stopping = plan.actions.iter().filter(|planned| planned.stage == Stage::Stop);
    stopping.filter_map(of).collect()
}

#[test]
fn a_closed_line_ends_burst_without_grace_and_standard_with_its_own() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.order(2, Tier::Burst, HALF);
    world.order(3, Tier::Burst, HALF);
    world.quiet();
    // Asked to end already, with a grace of 20 s: an operator does not wait for that.
    world.cancel(3);
    world.pass(|_| false);
    world.ceiling(Mode::Enforce, 0);
    let plan = world.pass(|_| false);
    let evicted = Some(StopWhy::Evicted);
    assert_eq!(stops(&plan), [(1, evicted), (2, evicted), (3, None)]);
    let kill_at = |number| match world.ledger[&attempt(number)].life {
        Life::Stopping { kill_at, .. } => kill_at,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(kill_at(2), world.now.boot, "at once");
    assert_eq!(kill_at(1), world.now.boot.plus(Span::from_secs(30)));
    // The unit of 2 does not go by itself: it is killed in the very next pass.
    let plan = world.pass(|_| false);
    assert_eq!(stops(&plan), [(2, None)], "3 was killed before");
    world.quiet();
    assert_eq!(
        [1, 2, 3].map(|n| world.reason(n)),
        ["evicted", "evicted", "cancelled"]
    );
    let why = "evicted: ada (fleet) has closed this node to lent work: its line is at 0 %";
    assert_eq!(sentences(&world, ReceiptAction::Evicted), [why, why]);
    // Nothing new, for now and by name; and as before once the line is given back.
    world.order(4, Tier::Burst, HALF);
    world.quiet();
    assert_eq!(world.reason(4), "refused");
    assert_eq!(
        world.ended[&attempt(4)].reason,
        loadline_model::EndReason::Refused { for_good: false }
    );
    assert_eq!(
        sentences(&world, ReceiptAction::Refused),
        ["ada (fleet) has closed this node to lent work: its line is at 0 %"]
    );
    world.ceiling(Mode::Enforce, 1000);
    world.order(5, Tier::Standard, own(7));
    world.quiet();
    assert_eq!(world.reason(5), "-");
}

#[test]
fn a_lower_line_evicts_the_surplus_burst_and_newest_first() {
    let mut world = World::new();
    world.order(1, Tier::Burst, own(2));
    world.order(2, Tier::Standard, own(2));
    world.order(3, Tier::Standard, own(2));
    world.quiet();
    // The line is 7 CPUs; half of it leaves room for one of the three.
    world.ceiling(Mode::Enforce, 500);
    world.quiet();
    assert_eq!([1, 2, 3].map(|n| world.reason(n)), ["evicted", "-", "evicted"]);
    let told = sentences(&world, ReceiptAction::Evicted);
    let why = "evicted: workers hold 6 CPUs and this node now lends 3500m at most, since ada (fleet) holds its line at 50 %";
    assert!(told.contains(&String::from(why)), "{told:?}");
    // What fits under the owner's line but not under this one is refused for now only.
    for (number, asked) in [(4, own(5)), (5, own(8))] {
        world.order(number, Tier::Standard, asked);
        world.quiet();
    }
    let for_good = |number| world.ended[&attempt(number)].reason;
    use loadline_model::EndReason::Refused;
    assert_eq!(for_good(4), Refused { for_good: false });
    assert_eq!(for_good(5), Refused { for_good: true });
    assert_eq!(
        sentences(&world, ReceiptAction::Refused)[0],
        "it asks for 5 CPUs of its own and this node lends 3 at most while ada (fleet) holds its line at 50 %"
    );
}

/// What production used in its last week keeps standard work from starting, and takes nothing from who runs.
#[test]
fn a_week_that_needed_more_ends_nobody_and_lets_no_more_standard_work_start() {
    let mut world = World::new();
    for number in 1..=3 {
        world.order(number, Tier::Standard, own(2));
    }
    world.quiet();
    let before = world.slices.clone();
    // 8000 - 1.15 × 5000 leaves 2250m of 7 CPUs, and 6 are held.
    world.week.cpu = Some(MilliCpu(5000));
    world.quiet();
    assert_eq!([1, 2, 3].map(|n| world.reason(n)), ["-"; 3]);
    assert_eq!(world.slices, before, "no limit of theirs moves");
    world.order(4, Tier::Standard, HALF);
    world.order(5, Tier::Standard, own(3));
    world.order(6, Tier::Burst, HALF);
    world.quiet();
    use loadline_model::EndReason::Refused;
    for number in [4, 5] {
        assert_eq!(world.ended[&attempt(number)].reason, Refused { for_good: false });
    }
    assert_eq!(world.reason(6), "-", "burst goes by what is free now");
    let since = "99 % of the time production used up to 5 CPUs in its last week";
    let most = format!(
        "it asks for 3 CPUs of its own and this node lends 2 at most to standard work: {since}; burst work goes by what is \
         free at the moment"
    );
    let free =
        format!("it asks for 500m CPUs and this node lends 0 now (the free part of its firm line: {since})");
    assert_eq!(sentences(&world, ReceiptAction::Refused), [free, most]);
    // Its next week needs less.
    world.week.cpu = Some(MilliCpu(500));
    world.order(7, Tier::Standard, HALF);
    world.quiet();
    assert_eq!(world.reason(7), "-");
}

#[test]
fn a_node_that_only_watches_says_whom_it_would_evict() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(2));
    world.order(2, Tier::Burst, HALF);
    world.quiet();
    world.ceiling(Mode::Shadow, 1000);
    world.evict = Some("only 90 MiB of memory can still be had");
    let plan = world.pass(|_| false);
    assert_eq!(stops(&plan), []);
    let [(who, why)] = &plan.would_evict[..] else {
        panic!("{:?}", plan.would_evict)
    };
    assert_eq!(*who, attempt(2), "burst first");
    assert!(why == "only 90 MiB of memory can still be had", "{why}");
    // A reserve that leaves no room would evict as well, and does not.
    world.reserve("0-7");
    let plan = world.pass(|_| false);
    assert_eq!((stops(&plan).len(), plan.would_evict.len()), (0, 2));
    // An operator who closes the node means it in any mode.
    world.ceiling(Mode::Shadow, 0);
    world.quiet();
    assert_eq!([1, 2].map(|n| world.reason(n)), ["evicted", "evicted"]);
}

#[test]
fn a_held_mode_names_who_holds_it() {
    let mut world = World::new();
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    world.ceiling(Mode::Off, 1000);
    world.quiet();
    assert_eq!(
        sentences(&world, ReceiptAction::Evicted),
        ["evicted: this node lends nothing: its mode is `off`, set by ada (fleet)"]
    );
}

#[test]
fn windows_open_and_close_with_receipts() {
    let mut world = World::new();
    world.policy.lend.windows = [Window {
        days: "Mon-Fri".parse().unwrap(),
        from: "19:00".parse().unwrap(),
        to: "07:00".parse().unwrap(),
        zone: WindowZone::Node,
    }]
    .into();
    let minutes = |hour: u16| hour * 60;
    world.local.minute = minutes(18);
    world.order(1, Tier::Standard, own(1));
    world.quiet();
    assert_eq!(world.reason(1), "refused");
    world.local.minute = minutes(19);
    world.order(2, Tier::Standard, own(1));
    world.order(3, Tier::Burst, HALF);
    world.quiet();
    // Over midnight it is still open, and shuts on the minute.
    (world.local.day, world.local.minute) = (Weekday::Tue, minutes(7) - 1);
    world.quiet();
    assert_eq!([2, 3].map(|n| world.reason(n)), ["-", "-"]);
    world.local.minute = minutes(7);
    world.quiet();
    assert_eq!([2, 3].map(|n| world.reason(n)), ["evicted", "evicted"]);
    let why = "evicted: this node lends only in its windows, and none is open now";
    assert_eq!(sentences(&world, ReceiptAction::Evicted), [why, why]);
}
