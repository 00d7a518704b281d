//! Placement's own books are the state's: after a commit that failed, after a restart, and when only time passes.

use crate::world::{Script, World, draft, report, spec};
use loadline_fleet::state::Refused;
use loadline_model::{AttemptPhase, CpuRequest, EndReason, JobDraft, JobSpec, Span, Workers};

fn wants(cpus: u32) -> JobSpec {
    let mut draft = draft();
    draft.worker.cpus = CpuRequest::Exclusive(cpus);
    spec(draft)
}

fn is_placed(world: &World, job: u128) -> bool {
    !world.detail(job).attempts.is_empty()
}

#[test]
fn a_plan_that_could_not_be_committed_gives_its_room_back() {
    let mut world = World::new();
    let node = Script::join(&mut world, "n1", 2);
    for _ in 0..3 {
        world.disk_full = true;
        assert_eq!(world.submit(1, wants(2)), Err(Refused::StoreFull("full".into())));
    }
    world.submit(2, wants(2)).unwrap();
    assert!(is_placed(&world, 2), "{:?}", world.detail(2));
    assert_eq!(world.orders(node.id).len(), 1);
}

#[test]
fn a_job_that_waited_while_commits_failed_is_placed_with_the_next() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 1);
    world.submit(1, wants(1)).unwrap();
    world.submit(2, wants(1)).unwrap();
    assert!(!is_placed(&world, 2));
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    // Its end makes room, but neither the end nor the plan that follows is kept.
    let end = node.event(
        &world,
        crate::world::report_end(attempt, EndReason::Exited { code: 0 }),
    );
    world.disk_full = true;
    assert!(node.send(&mut world, vec![end.clone()]).is_err());
    assert!(!is_placed(&world, 2));
    node.send(&mut world, vec![end]).unwrap();
    assert!(is_placed(&world, 2));
}

#[test]
fn after_a_restart_what_runs_still_takes_its_room() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 3);
    world.submit(1, wants(2)).unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    world.restart();
    node.hello(&mut world, 1, vec![report(attempt, AttemptPhase::Running)]);
    world.submit(2, wants(2)).unwrap();
    world.submit(3, wants(1)).unwrap();
    assert_eq!([is_placed(&world, 2), is_placed(&world, 3)], [false, true]);
    node.end(&mut world, attempt, EndReason::Exited { code: 0 });
    assert!(is_placed(&world, 2), "{}", world.detail(2).summary.waiting_for);
}

#[test]
fn a_node_falls_silent_between_two_ticks_and_gets_nothing() {
    let mut world = World::new();
    let node = Script::join(&mut world, "n1", 2);
    world.now.mono = world.now.mono.plus(Span::from_millis(14_900));
    world.submit(1, wants(1)).unwrap();
    assert!(is_placed(&world, 1));
    world.now.mono = world.now.mono.plus(Span::from_millis(100));
    world.submit(2, wants(1)).unwrap();
    assert!(!is_placed(&world, 2), "15 s of silence");
    node.alive(&mut world);
    assert!(is_placed(&world, 2), "a word is enough");
}

#[test]
fn a_plan_ends_at_its_limit_and_goes_on() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 400);
    let many = JobDraft {
        workers: Workers::Fixed(300),
        ..draft()
    };
    world.submit(1, spec(many)).unwrap();
    assert_eq!(world.detail(1).attempts.len(), 256);
    assert!(world.state.is_unplanned(), "there is more to place");
    world.pass(1);
    assert_eq!(world.detail(1).attempts.len(), 300);
    assert!(!world.state.is_unplanned());
}
