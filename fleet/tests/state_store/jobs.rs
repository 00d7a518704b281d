//! The life of jobs: submission, retries, cancellation, what each end of an attempt means.

use crate::world::{Script, World, draft, job_id, report, spec};
use loadline_fleet::state::{Command, JobRef, OrderKind, Refused, Reply, StopReason};
use loadline_model::{
    AttemptPhase, CpuRequest, Elastic, EndReason, Generation, JobDraft, JobOutcome, JobPhase, MilliCpu, Span,
    Workers,
};

fn done(outcome: JobOutcome) -> JobPhase {
    JobPhase::Done(outcome)
}

#[test]
fn a_job_goes_from_submission_to_its_exit_code() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    assert_eq!(
        world.submit(1, spec(draft())),
        Ok(Reply::Submitted {
            number: 1,
            fresh: true
        })
    );
    assert_eq!(
        world.detail(1).summary.phase,
        JobPhase::Queued,
        "its worker has not started"
    );
    let orders = world.orders(node.id);
    let [order] = orders.as_slice() else {
        panic!("{orders:?}")
    };
    assert_eq!(order.generation, Generation(1));
    let OrderKind::Start(start) = &order.what else {
        panic!("{order:?}")
    };
    assert_eq!((start.job_number, start.worker, start.attempt_number), (1, 0, 1));
    assert_eq!((start.user.as_str(), start.unix_account.as_str()), ("ada", "ada"));

    let attempt = order.attempt.unwrap();
    node.run(&mut world, attempt);
    assert!(
        world.orders(node.id).is_empty(),
        "applied orders are not sent again"
    );
    let summary = world.detail(1).summary;
    assert_eq!((summary.phase, summary.workers_running), (JobPhase::Running, 1));
    assert!(summary.started_at.is_some());
    node.end(&mut world, attempt, EndReason::Exited { code: 0 });
    let summary = world.detail(1).summary;
    assert_eq!(
        (summary.phase, summary.exit_code),
        (done(JobOutcome::Succeeded), Some(0))
    );
    assert!(summary.ended_at.is_some());
}

#[test]
fn submission_is_idempotent_and_conflicts_are_refused() {
    let mut world = World::new();
    world.submit(1, spec(draft())).unwrap();
    assert_eq!(
        world.submit(1, spec(draft())),
        Ok(Reply::Submitted {
            number: 1,
            fresh: false
        })
    );
    let other = spec(JobDraft {
        retries: 1,
        ..draft()
    });
    assert_eq!(world.submit(1, other), Err(Refused::JobConflict(job_id(1))));
    let stranger = Command::Submit {
        by: "eve".into(),
        job: job_id(2),
        spec: spec(draft()),
    };
    assert_eq!(world.step(stranger), Err(Refused::UserUnknown("eve".into())));
    assert_eq!(
        world.submit(3, spec(draft())),
        Ok(Reply::Submitted {
            number: 2,
            fresh: true
        })
    );
    assert_eq!(
        world.step(Command::Cancel {
            by: "ada".into(),
            job: JobRef::Number(9)
        }),
        Err(Refused::JobUnknown("9".into()))
    );
}

#[test]
fn failures_use_up_retries_and_then_the_job_fails_with_the_commands_code() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    world
        .submit(
            1,
            spec(JobDraft {
                retries: 2,
                ..draft()
            }),
        )
        .unwrap();
    for number in 1..=3 {
        let detail = world.detail(1);
        assert_eq!(detail.attempts.len(), number, "attempt {number}");
        let attempt = world.attempt(1);
        node.run(&mut world, attempt);
        node.end(&mut world, attempt, EndReason::Exited { code: 7 });
    }
    let detail = world.detail(1);
    assert_eq!(detail.attempts.len(), 3);
    assert_eq!(
        (detail.summary.phase, detail.summary.exit_code),
        (done(JobOutcome::Failed), Some(7))
    );
}

#[test]
fn a_reboot_is_retried_without_using_up_a_retry() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    world.submit(1, spec(draft())).unwrap();
    for number in 2..=4 {
        let attempt = world.attempt(1);
        node.run(&mut world, attempt);
        node.end(&mut world, attempt, EndReason::NodeRebooted);
        assert_eq!(world.detail(1).attempts.len(), number);
    }
    assert_eq!(world.detail(1).summary.phase, JobPhase::Running);
}

#[test]
fn refused_for_now_goes_elsewhere_and_comes_back_after_a_while() {
    let mut world = World::new();
    let mut one = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let first = world.attempt(1);
    one.apply(&mut world);
    one.end(&mut world, first, EndReason::Refused { for_good: false });
    let detail = world.detail(1);
    assert_eq!(detail.attempts.len(), 1, "not on the same node at once");
    assert_eq!(
        detail.summary.phase,
        JobPhase::Queued,
        "a refused worker never started"
    );
    assert!(!detail.summary.waiting_for.is_empty());
    let two = Script::join(&mut world, "n2", 1);
    let second = world.detail(1).attempts.last().unwrap().clone();
    assert_eq!((second.node, second.number), (two.id, 2), "elsewhere at once");

    let mut world = World::new();
    let mut one = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let first = world.attempt(1);
    one.apply(&mut world);
    one.end(&mut world, first, EndReason::Refused { for_good: false });
    one.live(&mut world, 15);
    assert_eq!(
        world.detail(1).attempts.len(),
        2,
        "the only node is asked again after a while"
    );
}

#[test]
fn refused_for_good_never_goes_to_that_node_again() {
    let mut world = World::new();
    let mut one = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let first = world.attempt(1);
    one.apply(&mut world);
    one.end(&mut world, first, EndReason::Refused { for_good: true });
    one.live(&mut world, 120);
    assert_eq!(world.detail(1).attempts.len(), 1);
    let why = world.state.explain(JobRef::Id(job_id(1)), world.now).unwrap();
    assert_eq!(why.reasons[0].code, "node_refused");
    world.restart();
    one.hello(&mut world, 1, Vec::new());
    one.alive(&mut world);
    one.live(&mut world, 20);
    assert_eq!(
        world.detail(1).attempts.len(),
        1,
        "also after a restart of fleetd"
    );
    world.submit(2, spec(draft())).unwrap();
    assert_eq!(world.detail(2).attempts.len(), 1, "another job may");
}

#[test]
fn cancelling_stops_what_runs_with_its_grace_and_drops_what_waits() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    let two = JobDraft {
        workers: Workers::Fixed(2),
        grace: Some(Span::from_secs(5)),
        ..draft()
    };
    world.submit(1, spec(two)).unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    let cancel = Command::Cancel {
        by: "ada".into(),
        job: JobRef::Number(1),
    };
    world.step(cancel.clone()).unwrap();
    let orders = world.orders(node.id);
    let [order] = orders.as_slice() else {
        panic!("{orders:?}")
    };
    let OrderKind::Stop(stop) = order.what else {
        panic!("{order:?}")
    };
    assert_eq!(
        (order.attempt.unwrap(), stop.why, stop.grace),
        (attempt, StopReason::Cancelled, Span::from_secs(5))
    );
    world.step(cancel.clone()).unwrap();
    assert_eq!(world.orders(node.id).len(), 1, "stopped once");
    assert_eq!(
        world.detail(1).summary.phase,
        JobPhase::Running,
        "until the node says that it is over"
    );
    node.end(&mut world, attempt, EndReason::Cancelled);
    let summary = world.detail(1).summary;
    assert_eq!(
        (summary.phase, summary.exit_code),
        (done(JobOutcome::Cancelled), Some(1))
    );
    world.step(cancel).unwrap();
    assert_eq!(
        world.detail(1).summary,
        summary,
        "a job that is done stays as it is"
    );
}

#[test]
fn a_queued_job_is_cancelled_at_once() {
    let mut world = World::new();
    world.submit(1, spec(draft())).unwrap();
    let reply = world.step(Command::Cancel {
        by: "ada".into(),
        job: JobRef::Id(job_id(1)),
    });
    let Ok(Reply::Job(summary)) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(summary.phase, done(JobOutcome::Cancelled));
}

#[test]
fn one_failed_worker_ends_the_others() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 3);
    world
        .submit(
            1,
            spec(JobDraft {
                workers: Workers::Fixed(3),
                ..draft()
            }),
        )
        .unwrap();
    let attempts: Vec<_> = world
        .detail(1)
        .attempts
        .iter()
        .map(|attempt| attempt.id)
        .collect();
    for attempt in &attempts {
        node.run(&mut world, *attempt);
    }
    node.end(&mut world, attempts[1], EndReason::OutOfMemory);
    let stops: Vec<_> = world
        .orders(node.id)
        .iter()
        .filter_map(|order| order.attempt)
        .collect();
    assert_eq!(stops, [attempts[0], attempts[2]]);
    node.end(&mut world, attempts[0], EndReason::Cancelled);
    node.end(&mut world, attempts[2], EndReason::Exited { code: 0 });
    let summary = world.detail(1).summary;
    assert_eq!(
        (summary.phase, summary.exit_code),
        (done(JobOutcome::Failed), Some(137))
    );
}

#[test]
fn a_third_exclusive_worker_waits_and_explain_says_why() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 2);
    for id in 1..=3 {
        world.submit(id, spec(draft())).unwrap();
    }
    assert!(world.detail(3).attempts.is_empty());
    let why = world.state.explain(JobRef::Number(3), world.now).unwrap();
    assert_eq!(
        (why.reasons[0].code.as_str(), why.nodes_considered),
        ("cpus_busy", 1)
    );
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    node.end(&mut world, attempt, EndReason::Exited { code: 0 });
    assert_eq!(world.detail(3).attempts.len(), 1, "room is used at once");
    let running = world.state.explain(JobRef::Number(3), world.now).unwrap();
    assert!(running.reasons.is_empty());
}

#[test]
fn what_no_node_can_ever_hold_names_the_largest() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    let mut large = draft();
    large.worker.cpus = CpuRequest::Exclusive(64);
    world.submit(1, spec(large)).unwrap();
    let why = world.state.explain(JobRef::Number(1), world.now).unwrap();
    assert_eq!(why.reasons[0].code, "cpus_beyond_line");
    assert_eq!(why.reasons[0].examples, ["n1"]);
}

#[test]
fn an_elastic_job_starts_with_its_least_and_is_done_when_its_work_is() {
    let mut world = World::new();
    let elastic = JobDraft {
        workers: Workers::Elastic(Elastic { min: 2, max: 4 }),
        ..draft()
    };
    let mut one = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(elastic)).unwrap();
    assert!(
        world.detail(1).attempts.is_empty(),
        "one worker is less than its least"
    );
    let mut two = Script::join(&mut world, "n2", 2);
    let attempts = world.detail(1).attempts;
    assert_eq!(attempts.len(), 3, "as many as fit");
    for attempt in &attempts {
        let node = if attempt.node == one.id {
            &mut one
        } else {
            &mut two
        };
        node.run(&mut world, attempt.id);
        node.end(&mut world, attempt.id, EndReason::Exited { code: 0 });
    }
    let detail = world.detail(1);
    assert_eq!(
        detail.attempts.len(),
        3,
        "workers that never started are not needed any more"
    );
    assert_eq!(detail.summary.phase, done(JobOutcome::Succeeded));
}

#[test]
fn someone_on_the_node_who_stops_a_worker_fails_the_job() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world
        .submit(
            1,
            spec(JobDraft {
                retries: 3,
                ..draft()
            }),
        )
        .unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    node.end(&mut world, attempt, EndReason::Cancelled);
    assert_eq!(world.detail(1).summary.phase, done(JobOutcome::Failed));
}

#[test]
fn squeezing_comes_and_goes_and_late_reports_change_nothing() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, spec(draft())).unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    let phase = |world: &World| world.detail(1).attempts[0].phase;
    node.tell(&mut world, report(attempt, AttemptPhase::Squeezed));
    assert_eq!(phase(&world), AttemptPhase::Squeezed);
    node.tell(&mut world, report(attempt, AttemptPhase::Running));
    assert_eq!(phase(&world), AttemptPhase::Running);
    node.tell(&mut world, report(attempt, AttemptPhase::Starting));
    assert_eq!(phase(&world), AttemptPhase::Running);
}

#[test]
fn shares_fit_beside_each_other() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 1);
    let mut share = draft();
    share.worker.cpus = CpuRequest::Shared(MilliCpu(400));
    for id in 1..=3 {
        world.submit(id, spec(share.clone())).unwrap();
    }
    let placed = (1..=3)
        .filter(|id| !world.detail(*id).attempts.is_empty())
        .count();
    assert_eq!(placed, 2);
}

#[test]
fn a_full_disk_refuses_and_changes_nothing_and_the_next_submit_works() {
    let mut world = World::new();
    let node = Script::join(&mut world, "n1", 2);
    world.disk_full = true;
    assert!(matches!(
        world.submit(1, spec(draft())),
        Err(Refused::StoreFull(_))
    ));
    assert!(world.orders(node.id).is_empty(), "nothing may be acted on");
    assert_eq!(
        world.submit(1, spec(draft())),
        Ok(Reply::Submitted {
            number: 1,
            fresh: true
        })
    );
    assert_eq!(world.orders(node.id).len(), 1);
}
