//! Nodes: sessions, silence, reboots, lost ledgers, older stores, operators.

use crate::world::{Script, World, draft, ledger, replaceable, report, spec};
use loadline_fleet::state::{
    Command, Event, Happening, NodeCondition, NodeVerb, OrderKind, Receipt, Refused, Reply, SessionId,
    StopReason,
};
use loadline_model::{
    AttemptId, AttemptPhase, EndReason, Generation, JobOutcome, JobPhase, Sequence, WallTime,
};

fn condition(world: &World, node: &str) -> NodeCondition {
    world.state.node(node, world.now).unwrap().summary.condition
}

fn operate(world: &mut World, node: &str, verb: NodeVerb) -> Result<Reply, Refused> {
    world.step(Command::Operate {
        by: "ada".into(),
        node: node.into(),
        verb,
    })
}

fn stops(world: &World, node: &Script) -> Vec<(AttemptId, StopReason)> {
    let orders = world.orders(node.id);
    let stop = |order: &loadline_fleet::state::Order| match order.what {
        OrderKind::Stop(stop) => Some((order.attempt?, stop.why)),
        OrderKind::Start(_) | OrderKind::Ceiling(_) | OrderKind::Prove(_) => None,
    };
    orders.iter().filter_map(stop).collect()
}

#[test]
fn silence_makes_suspect_then_lost_and_a_word_makes_ready() {
    let mut world = World::new();
    world.join("never");
    assert_eq!(condition(&world, "never"), NodeCondition::NeverSeen);
    let mut node = Script::join(&mut world, "n1", 1);
    assert_eq!(condition(&world, "n1"), NodeCondition::Ready);
    world.pass(14);
    assert_eq!(condition(&world, "n1"), NodeCondition::Ready);
    world.pass(1);
    assert_eq!(condition(&world, "n1"), NodeCondition::Suspect);
    world.pass(44);
    assert_eq!(condition(&world, "n1"), NodeCondition::Suspect);
    world.pass(1);
    assert_eq!(condition(&world, "n1"), NodeCondition::Lost);
    node.hello(&mut world, 0, Vec::new());
    assert_eq!(condition(&world, "n1"), NodeCondition::Ready);
}

#[test]
fn nothing_is_placed_on_a_silent_or_drained_node() {
    let mut world = World::new();
    let node = Script::join(&mut world, "n1", 1);
    operate(&mut world, "n1", NodeVerb::Drain).unwrap();
    world.submit(1, spec(draft())).unwrap();
    assert!(world.detail(1).attempts.is_empty());
    operate(&mut world, "n1", NodeVerb::Resume).unwrap();
    assert_eq!(world.detail(1).attempts.len(), 1);
    world.submit(2, spec(draft())).unwrap();
    node.bye(&mut world);
    operate(&mut world, "n1", NodeVerb::Drain).unwrap();
    assert!(world.detail(2).attempts.is_empty());
}

#[test]
fn wait_keeps_the_attempt_of_a_lost_node() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    let other = Script::join(&mut world, "n2", 1);
    world.submit(1, spec(draft())).unwrap();
    let attempt = world.attempt(1);
    assert_eq!(world.detail(1).attempts[0].node, node.id);
    node.run(&mut world, attempt);
    node.bye(&mut world);
    other.live(&mut world, 300);
    let detail = world.detail(1);
    assert_eq!((detail.attempts.len(), detail.attempts[0].node_silent), (1, true));
    node.hello(&mut world, 1, vec![report(attempt, AttemptPhase::Running)]);
    assert!(world.orders(node.id).is_empty(), "the same one goes on");
    node.end(&mut world, attempt, EndReason::Exited { code: 0 });
    assert_eq!(
        world.detail(1).summary.phase,
        JobPhase::Done(JobOutcome::Succeeded)
    );
}

#[test]
fn replace_starts_elsewhere_stops_the_old_one_and_counts_one() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    let mut other = Script::join(&mut world, "n2", 1);
    world.submit(1, replaceable()).unwrap();
    let old = world.attempt(1);
    node.run(&mut world, old);
    node.bye(&mut world);
    other.live(&mut world, 55);
    assert_eq!(world.detail(1).attempts.len(), 1);
    other.live(&mut world, 10);
    let attempts = world.detail(1).attempts;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].ended.as_ref().unwrap().reason, EndReason::NodeLost);
    let new = attempts[1].id;
    assert_eq!(attempts[1].node, other.id);
    other.run(&mut world, new);

    node.hello(&mut world, 1, vec![report(old, AttemptPhase::Running)]);
    assert_eq!(stops(&world, &node), [(old, StopReason::NodeLost)]);
    world.submit(2, spec(draft())).unwrap();
    assert!(
        world.detail(2).attempts.is_empty(),
        "the old one still holds its room"
    );
    node.apply(&mut world);
    node.end(&mut world, old, EndReason::Exited { code: 0 });
    let summary = world.detail(1).summary;
    assert_eq!(
        summary.phase,
        JobPhase::Running,
        "the end of the old one counts for nothing"
    );
    assert_eq!(world.detail(2).attempts.len(), 1, "its room is free");
    other.end(&mut world, new, EndReason::Exited { code: 4 });
    let summary = world.detail(1).summary;
    assert_eq!(
        (summary.phase, summary.exit_code),
        (JobPhase::Done(JobOutcome::Failed), Some(4))
    );
}

#[test]
fn a_replaced_attempt_that_never_started_is_taken_back() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, replaceable()).unwrap();
    let old = world.attempt(1);
    node.bye(&mut world);
    world.pass(61);
    assert_eq!(world.detail(1).attempts[0].phase, AttemptPhase::Ended);
    // The order never reached the node: it says so, and gets neither the start nor the stop.
    node.hello(&mut world, 0, Vec::new());
    let orders = world.orders(node.id);
    assert!(
        orders.iter().all(|order| order.attempt != Some(old)),
        "{orders:?}"
    );
    let [order] = orders.as_slice() else {
        panic!("{orders:?}")
    };
    assert_eq!(
        order.generation,
        Generation(3),
        "numbers of orders taken back are not given again"
    );
    assert_eq!(world.detail(1).attempts.len(), 2);
}

#[test]
fn a_cancelled_job_on_a_silent_node_ends_when_the_node_is_back_or_forgotten() {
    for forgotten in [false, true] {
        let mut world = World::new();
        let mut node = Script::join(&mut world, "n1", 1);
        world.submit(1, spec(draft())).unwrap();
        let attempt = world.attempt(1);
        node.run(&mut world, attempt);
        node.bye(&mut world);
        world.pass(100);
        let job = loadline_fleet::state::JobRef::Number(1);
        world
            .step(Command::Cancel {
                by: "ada".into(),
                job,
            })
            .unwrap();
        assert_eq!(world.detail(1).summary.phase, JobPhase::Running);
        if forgotten {
            operate(&mut world, "n1", NodeVerb::Forget).unwrap();
        } else {
            node.hello(&mut world, 1, vec![report(attempt, AttemptPhase::Running)]);
            assert_eq!(stops(&world, &node), [(attempt, StopReason::Cancelled)]);
            node.end(&mut world, attempt, EndReason::Cancelled);
        }
        assert_eq!(
            world.detail(1).summary.phase,
            JobPhase::Done(JobOutcome::Cancelled)
        );
    }
}

#[test]
fn forgetting_a_lost_node_lets_its_jobs_go_on_and_it_may_come_back() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let old = world.attempt(1);
    node.run(&mut world, old);
    assert_eq!(
        operate(&mut world, "n1", NodeVerb::Forget),
        Err(Refused::NodeConnected("n1".into()))
    );
    node.bye(&mut world);
    world.pass(61);
    operate(&mut world, "n1", NodeVerb::Forget).unwrap();
    assert_eq!(condition(&world, "n1"), NodeCondition::Forgotten);
    let other = Script::join(&mut world, "n2", 1);
    assert_eq!(world.detail(1).attempts.last().unwrap().node, other.id);
    node.hello(&mut world, 1, vec![report(old, AttemptPhase::Running)]);
    assert_eq!(condition(&world, "n1"), NodeCondition::Ready);
    assert_eq!(stops(&world, &node), [(old, StopReason::NodeLost)]);
}

#[test]
fn a_banned_node_is_out_and_its_name_is_free() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let old = world.attempt(1);
    node.run(&mut world, old);
    operate(&mut world, "n1", NodeVerb::Ban).unwrap();
    assert!(world.state.directory().banned_nodes.contains(&node.id));
    assert_eq!(world.state.session(node.id), None);
    let hello = Command::Hello(Box::new(node.greeting(1, Vec::new())));
    assert_eq!(world.step(hello), Err(Refused::NodeBanned("n1".into())));
    let alive = Command::Alive {
        node: node.id,
        session: node.session,
        sample: None,
        word: None,
        inventory: None,
    };
    assert_eq!(world.step(alive), Err(Refused::SessionReplaced));
    let fresh = Script::join(&mut world, "n1", 1);
    assert_ne!(fresh.id, node.id);
    assert_eq!(world.detail(1).attempts.last().unwrap().node, fresh.id);
}

#[test]
fn fleetd_down_for_long_loses_no_node() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, replaceable()).unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    world.restart();
    world.now.wall = WallTime(world.now.wall.0 + 300_000_000);
    assert_eq!(
        condition(&world, "n1"),
        NodeCondition::Suspect,
        "not heard of since the start"
    );
    world.pass(30);
    node.hello(&mut world, 1, vec![report(attempt, AttemptPhase::Running)]);
    node.live(&mut world, 100);
    let detail = world.detail(1);
    assert_eq!(
        (detail.attempts.len(), detail.summary.phase),
        (1, JobPhase::Running)
    );
}

#[test]
fn when_many_nodes_fall_silent_at_once_none_is_lost() {
    let mut world = World::new();
    let mut nodes: Vec<Script> = (1..=4)
        .map(|number| Script::join(&mut world, &format!("n{number}"), 1))
        .collect();
    for id in 1..=4 {
        world.submit(id, replaceable()).unwrap();
        let attempt = world.attempt(id);
        let on = world.detail(id).attempts[0].node;
        nodes
            .iter_mut()
            .find(|node| node.id == on)
            .unwrap()
            .run(&mut world, attempt);
    }
    // Two of four are silent: the fleet's own network, so nobody is replaced however long it takes.
    for _ in 0..60 {
        world.pass(5);
        nodes[0].alive(&mut world);
        nodes[1].alive(&mut world);
    }
    assert_eq!(condition(&world, "n3"), NodeCondition::Suspect);
    assert!((1..=4).all(|id| world.detail(id).attempts.len() == 1));
    // One comes back: the other alone is lost after the rest of its 60 s.
    for _ in 0..12 {
        world.pass(5);
        nodes[0].alive(&mut world);
        nodes[1].alive(&mut world);
        if nodes[2].session == SessionId(3) {
            nodes[2].hello(&mut world, 1, vec![]);
        }
        nodes[2].alive(&mut world);
    }
    assert_eq!(condition(&world, "n4"), NodeCondition::Lost);
}

#[test]
fn events_are_counted_once_and_gaps_are_recorded() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let attempt = world.attempt(1);
    node.apply(&mut world);
    let starting = node.event(&world, report(attempt, AttemptPhase::Starting));
    let running = node.event(&world, report(attempt, AttemptPhase::Running));
    let end = node.event(&world, crate::world::report_end(attempt, EndReason::NodeRebooted));
    let batch = vec![starting, running, end];
    let acked = |sequence| {
        Ok(Reply::Acked {
            ledger: ledger(1 << 64 | 1),
            sequence: Sequence(sequence),
        })
    };
    assert_eq!(node.send(&mut world, batch.clone()), acked(3));
    assert_eq!(world.detail(1).attempts.len(), 2);
    let log = world.log.len();
    assert_eq!(
        node.send(&mut world, batch),
        acked(3),
        "acknowledged again, counted once"
    );
    assert_eq!(world.log.len(), log);
    assert_eq!(node.hello(&mut world, 1, Vec::new()), Sequence(3));
    node.sequence = 9;
    let late = node.event(&world, report(attempt, AttemptPhase::Running));
    assert_eq!(node.send(&mut world, vec![late]), acked(10));
    let gap = |change: &loadline_fleet::state::Change| match change {
        loadline_fleet::state::Change::Log(row) => row.kind == "events_missing" && row.detail == "4-9",
        _ => false,
    };
    assert!(world.log.iter().any(gap));
}

#[test]
fn an_event_that_cannot_be_understood_is_counted_and_shown() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    let event = Event {
        what: Happening::Unreadable("`phase` cannot be `77`".into()),
        ..node.event(
            &world,
            report(AttemptId::from_slice(&[9; 16]).unwrap(), AttemptPhase::Running),
        )
    };
    node.send(&mut world, vec![event]).unwrap();
    let receipts = world.state.node("n1", world.now).unwrap().receipts;
    assert_eq!(receipts.len(), 1);
    assert!(receipts[0].sentence.contains("`phase` cannot be `77`"));
}

#[test]
fn receipts_are_kept_with_their_node_and_job() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    let receipt = Receipt {
        at: world.now.wall,
        action: "out_of_memory".into(),
        attempt: Some(attempt),
        subject: String::new(),
        sentence: "It used 64MiB of 64MiB.".into(),
    };
    let mut event = node.event(&world, report(attempt, AttemptPhase::Running));
    event.what = Happening::Receipt(receipt.clone());
    node.send(&mut world, vec![event]).unwrap();
    world.restart();
    assert_eq!(world.detail(1).receipts, std::slice::from_ref(&receipt));
    assert_eq!(
        world.state.node("n1", world.now).unwrap().receipts,
        std::slice::from_ref(&receipt)
    );
    let told = world.state.receipts(None, 10).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].node.as_str(), told[0].worker.as_str(), &told[0].receipt),
        ("n1", "1.0", &receipt)
    );
}

#[test]
fn receipts_are_listed_newest_last_of_one_node_or_all() {
    let mut world = World::new();
    let mut nodes = [
        Script::join(&mut world, "n1", 1),
        Script::join(&mut world, "n2", 1),
    ];
    // n2 wrote between n1's two, and is heard of first.
    for (node, seconds) in [(1, 2), (0, 1), (0, 3)] {
        let receipt = Receipt {
            at: WallTime(world.now.wall.0 + seconds * 1_000_000),
            action: "squeezed".into(),
            attempt: None,
            subject: "loadline-burst.slice".into(),
            sentence: format!("at {seconds}"),
        };
        let mut event = nodes[node].event(
            &world,
            report(AttemptId::from_slice(&[9; 16]).unwrap(), AttemptPhase::Running),
        );
        event.what = Happening::Receipt(receipt);
        nodes[node].send(&mut world, vec![event]).unwrap();
    }
    let told = |node, last| -> Vec<String> {
        let receipts = world.state.receipts(node, last).unwrap();
        receipts
            .into_iter()
            .map(|told| format!("{} {}", told.node, told.receipt.sentence))
            .collect()
    };
    assert_eq!(told(None, 10), ["n1 at 1", "n2 at 2", "n1 at 3"]);
    assert_eq!(told(None, 2), ["n2 at 2", "n1 at 3"]);
    assert_eq!(told(Some("n1"), 10), ["n1 at 1", "n1 at 3"]);
    assert!(told(None, 0).is_empty());
    assert!(world.state.receipts(Some("n3"), 10).is_err());
}

#[test]
fn an_empty_store_knows_returning_nodes_as_strangers_and_stops_nothing() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    world.submit(1, spec(draft())).unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    node.sequence = 40;

    let mut empty = World::new();
    let acked = node.hello(&mut empty, 17, vec![report(attempt, AttemptPhase::Running)]);
    assert_eq!(acked, Sequence(0));
    node.alive(&mut empty);
    let shown = empty.state.node("n", empty.now).unwrap();
    assert_eq!(
        (shown.summary.id, shown.summary.orphans, shown.summary.workers),
        (node.id, 1, 0)
    );
    assert_eq!(shown.workers[0].label, attempt.unit_name());
    assert!(
        shown.workers[0].state.orphan,
        "marked, though the node has a record of it"
    );
    assert!(empty.orders(node.id).is_empty(), "nothing is stopped");
    empty.submit(5, spec(draft())).unwrap();
    assert_eq!(
        empty.orders(node.id)[0].generation,
        Generation(18),
        "above what the node has applied"
    );
    node.tell(
        &mut empty,
        crate::world::report_end(attempt, EndReason::Exited { code: 0 }),
    );
    assert_eq!(empty.state.node("n", empty.now).unwrap().summary.orphans, 0);
}

#[test]
fn on_an_older_store_what_the_node_does_not_know_any_more_is_retried() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    world.submit(1, spec(draft())).unwrap();
    let old = world.attempt(1);
    node.run(&mut world, old);
    let backup = world.log.len();
    node.end(&mut world, old, EndReason::Exited { code: 0 });
    world.submit(2, spec(draft())).unwrap();
    let newer = world.attempt(2);
    node.run(&mut world, newer);

    world.restart_on(backup);
    let acked = node.hello(&mut world, 2, vec![report(newer, AttemptPhase::Running)]);
    assert_eq!(acked, Sequence(2), "the older store has seen less");
    assert_eq!(world.detail(1).attempts.len(), 1, "its end may still be told");
    assert_eq!(
        world.state.node("n1", world.now).unwrap().summary.orphans,
        1,
        "the newer job's"
    );
    // The agent has nothing left to tell. The next event that comes shows that.
    node.tell(&mut world, report(newer, AttemptPhase::Running));
    let attempts = world.detail(1).attempts;
    assert_eq!(attempts[0].ended.as_ref().unwrap().reason, EndReason::NodeLost);
    assert_eq!(attempts.len(), 2);
}

#[test]
fn on_an_older_store_a_node_with_nothing_left_to_tell_is_believed() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    world.submit(1, spec(draft())).unwrap();
    let old = world.attempt(1);
    node.run(&mut world, old);
    let backup = world.log.len();
    node.end(&mut world, old, EndReason::Exited { code: 0 });
    world.restart_on(backup);
    let mut hello = node.greeting(1, Vec::new());
    hello.first_sequence = Some(Sequence(4));
    world.step(Command::Hello(Box::new(hello))).unwrap();
    assert_eq!(world.detail(1).attempts.len(), 2, "its end will not be told");
}

#[test]
fn a_hello_made_some_time_ago_ends_nothing_that_came_later() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    world.submit(1, spec(draft())).unwrap();
    let attempt = world.attempt(1);
    let mut early = node.greeting(0, Vec::new());
    early.first_sequence = Some(Sequence(1));
    node.run(&mut world, attempt);
    world.step(Command::Hello(Box::new(early))).unwrap();
    assert_eq!(world.detail(1).attempts.len(), 1);
    assert_eq!(world.detail(1).attempts[0].phase, AttemptPhase::Running);
}

#[test]
fn a_node_that_lost_its_ledger_ends_what_it_does_not_name_and_keeps_what_it_adopted() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 3);
    for id in 1..=3 {
        world.submit(id, spec(draft())).unwrap();
    }
    let attempts: Vec<AttemptId> = (1..=3).map(|id| world.attempt(id)).collect();
    node.run(&mut world, attempts[0]);
    node.run(&mut world, attempts[1]);
    node.ledger = ledger(77);
    node.sequence = 0;
    node.hello(&mut world, 0, vec![report(attempts[0], AttemptPhase::Running)]);
    assert_eq!(world.detail(1).attempts.len(), 1, "adopted by its unit's name");
    for id in 2..=3 {
        let detail = world.detail(id);
        assert_eq!(
            detail.attempts[0].ended.as_ref().unwrap().reason,
            EndReason::NodeLost,
            "job {id}"
        );
        assert_eq!(detail.attempts.len(), 2);
    }
    let sent: Vec<u64> = world
        .orders(node.id)
        .iter()
        .map(|order| order.generation.0)
        .collect();
    assert_eq!(sent, [4, 5], "new attempts only");
    node.end(&mut world, attempts[0], EndReason::Exited { code: 0 });
    assert_eq!(
        world.detail(1).summary.phase,
        JobPhase::Done(JobOutcome::Succeeded)
    );
}

#[test]
fn orders_resume_after_a_break_where_the_node_left_off() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 3);
    for id in 1..=3 {
        world.submit(id, spec(draft())).unwrap();
    }
    let generations = |world: &World| {
        world
            .orders(node.id)
            .iter()
            .map(|order| order.generation.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(generations(&world), [1, 2, 3]);
    let mut again = node.clone();
    let first = world.attempt(1);
    again.hello(&mut world, 1, vec![report(first, AttemptPhase::Starting)]);
    assert_eq!(generations(&world), [2, 3]);
    world.restart();
    assert_eq!(generations(&world), [2, 3]);
    let stale = Command::Applied {
        node: node.id,
        session: node.session,
        generation: Generation(3),
    };
    assert_eq!(world.step(stale), Err(Refused::SessionReplaced));
    let all = (1..=3)
        .map(|id| report(world.attempt(id), AttemptPhase::Running))
        .collect();
    node.hello(&mut world, 3, all);
    assert!(world.orders(node.id).is_empty());
}

#[test]
fn five_minutes_of_samples_become_one_row() {
    let mut world = World::new();
    let node = Script::join(&mut world, "n1", 2);
    node.live(&mut world, 700);
    let buckets = world.log.iter().filter_map(|change| match change {
        loadline_fleet::state::Change::Bucket(id, start, row) => {
            Some((*id, start.0, row.samples, row.cpu.capacity))
        }
        _ => None,
    });
    let buckets: Vec<_> = buckets.collect();
    // The world begins 100 s into its first five minutes: 40 samples of them, 60 of the next.
    assert_eq!(buckets.len(), 2);
    assert!(
        buckets
            .iter()
            .all(|(id, start, _, cpu)| *id == node.id && start % 300_000_000 == 0 && *cpu == 2000)
    );
    assert_eq!(buckets[1].2, 60);
}
