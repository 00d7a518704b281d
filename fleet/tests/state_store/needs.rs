//! What jobs need of their nodes and wait for: labels, taints, other jobs' places, other jobs' ends, a time.

use crate::world::{Script, World, draft, job_id, spec};
use loadline_fleet::state::{Command, JobRef, Marks, Refused, Reply, State};
use loadline_fleet::store::{Sqlite, Store};
use loadline_model::{
    After, AfterJob, Arrange, Domain, EndReason, JobDraft, JobName, JobOutcome, JobPhase, JobSpec, Labels,
    Mark, Span, Tasks, WallTime, Workers, labels_text,
};

fn mark(world: &mut World, node: &str, labels: &[&str], taints: &[&str]) -> Result<Reply, Refused> {
    let marks = |texts: &[&str]| texts.iter().map(|text| text.parse::<Mark>().unwrap()).collect();
    world.step(Command::Mark {
        by: "ada".into(),
        node: node.into(),
        marks: Marks {
            labels: marks(labels),
            taints: marks(taints),
        },
    })
}

fn requiring(requirement: &str) -> JobSpec {
    let mut draft = draft();
    draft.needs.require = vec![requirement.parse().unwrap()];
    spec(draft)
}

fn named(name: &str, change: impl FnOnce(&mut JobDraft)) -> JobSpec {
    let mut draft = JobDraft {
        name: Some(name.into()),
        ..draft()
    };
    change(&mut draft);
    spec(draft)
}

fn after(job: u64, after: After) -> JobSpec {
    let mut draft = draft();
    let job = JobName::Number(job);
    draft.waits.after = vec![AfterJob { job, after }];
    spec(draft)
}

/// The names of the nodes where a job's attempts are.
fn places(world: &World, job: u128) -> Vec<String> {
    let mut names: Vec<String> = world
        .detail(job)
        .attempts
        .iter()
        .filter(|attempt| attempt.ended.is_none())
        .map(|attempt| attempt.node_name.clone())
        .collect();
    names.sort_unstable();
    names
}

fn reason(world: &World, job: u128) -> (String, String) {
    let why = world.state.explain(JobRef::Id(job_id(job)), world.now).unwrap();
    let first = why.reasons.first().expect("it has a reason");
    (first.code.clone(), first.sentence.clone())
}

#[test]
fn a_label_leads_a_job_to_its_node_and_outlives_a_restart() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    let mut n2 = Script::join(&mut world, "n2", 2);
    world.submit(1, requiring("zone=eu")).unwrap();
    assert_eq!(
        reason(&world, 1),
        (
            "labels_unmet".into(),
            "the job requires `zone=eu`, and no node's labels say so".into()
        )
    );
    mark(&mut world, "n2", &["zone=eu", "ssd"], &[]).unwrap();
    assert_eq!(
        places(&world, 1),
        ["n2"],
        "a label is enough, nothing else happened"
    );
    world.restart();
    n2.hello(&mut world, 1, vec![]);
    world.submit(2, requiring("ssd")).unwrap();
    assert_eq!(places(&world, 2), ["n2"]);
    mark(&mut world, "n2", &["zone-"], &[]).unwrap();
    world.submit(3, requiring("zone")).unwrap();
    assert!(places(&world, 3).is_empty());
}

#[test]
fn labels_that_the_fleet_sets_itself_are_there_and_its_own() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    Script::join(&mut world, "n2", 2);
    world.submit(1, requiring("node!=n1")).unwrap();
    world.submit(2, requiring("pool=default")).unwrap();
    assert_eq!(places(&world, 1), ["n2"]);
    assert_eq!(places(&world, 2).len(), 1);
    let refused = mark(&mut world, "n1", &["pool=gpu"], &[]).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().as_str()),
        (
            "LABEL_RESERVED",
            "the fleet sets the label `pool` of every node itself"
        )
    );
    assert_eq!(
        mark(&mut world, "n9", &["a=b"], &[]),
        Err(Refused::NodeUnknown("n9".into()))
    );
}

#[test]
fn a_tainted_node_is_for_those_that_tolerate_it() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 3);
    world.submit(1, spec(draft())).unwrap();
    mark(&mut world, "n1", &[], &["only=gpu"]).unwrap();
    assert_eq!(places(&world, 1), ["n1"], "what runs goes on");
    world.submit(2, spec(draft())).unwrap();
    assert_eq!(
        reason(&world, 2),
        (
            "taint_not_tolerated".into(),
            "every node is kept for work that tolerates `only=gpu`".into()
        )
    );
    world
        .submit(
            3,
            named("t", |draft| draft.needs.tolerate = vec!["only".parse().unwrap()]),
        )
        .unwrap();
    assert_eq!(places(&world, 3), ["n1"]);
    world.restart();
    node.hello(&mut world, 1, vec![]);
    assert!(places(&world, 2).is_empty(), "a taint is durable");
    mark(&mut world, "n1", &[], &["only-"]).unwrap();
    assert_eq!(places(&world, 2), ["n1"]);
}

#[test]
fn marks_and_needs_survive_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    mark(&mut world, "n1", &["zone=eu", "ssd"], &["only=gpu", "spot"]).unwrap();
    world.submit(1, requiring("zone in (eu,us)")).unwrap();
    world.submit(2, after(1, After::NotOk)).unwrap();
    let mut store = Sqlite::open(&path).unwrap();
    store.load().unwrap();
    store.commit(&world.log).unwrap();
    drop(store);
    let loaded = Sqlite::open(&path).unwrap().load().unwrap();
    assert!(loaded.set_aside.is_empty(), "{:?}", loaded.set_aside);
    let (state, dangling) = State::load(loaded);
    assert!(dangling.is_empty());
    let node = state.node("n1", world.now).unwrap().summary;
    let marks = |labels: &Labels| labels_text(labels);
    assert_eq!(
        (marks(&node.labels).as_str(), marks(&node.taints).as_str()),
        ("node=n1,pool=default,ssd=,zone=eu", "only=gpu,spot=")
    );
    let job = |number| state.job(JobRef::Number(number), world.now).unwrap();
    assert_eq!(job(1).spec.needs.require[0].to_string(), "zone in (eu,us)");
    assert_eq!(job(2).summary.waiting_for, "it waits for job 1 to fail");
}

#[test]
fn marks_that_could_not_be_committed_mean_nothing() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    world.submit(1, requiring("zone=eu")).unwrap();
    world.disk_full = true;
    assert!(mark(&mut world, "n1", &["zone=eu"], &[]).is_err());
    assert!(places(&world, 1).is_empty());
    world.pass(1);
    assert!(places(&world, 1).is_empty());
    mark(&mut world, "n1", &["zone=eu"], &[]).unwrap();
    assert_eq!(places(&world, 1), ["n1"]);
}

#[test]
fn workers_are_spread_over_nodes() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 8);
    Script::join(&mut world, "n2", 8);
    let spread = |workers| {
        named("s", |draft| {
            draft.workers = Workers::Fixed(workers);
            draft.needs.arrange = Arrange::Spread(Domain::Node);
        })
    };
    world.submit(1, spread(4)).unwrap();
    assert_eq!(places(&world, 1), ["n1", "n1", "n2", "n2"]);
    world
        .submit(
            2,
            named("p", |draft| {
                draft.workers = Workers::Fixed(3);
                draft.needs.arrange = Arrange::Pack(Domain::Node);
            }),
        )
        .unwrap();
    let packed = places(&world, 2);
    assert!(packed.iter().all(|place| *place == packed[0]), "{packed:?}");
}

#[test]
fn jobs_are_kept_apart_or_together_both_ways() {
    let mut world = World::new();
    let mut n1 = Script::join(&mut world, "n1", 8);
    Script::join(&mut world, "n2", 8);
    let near = named("cache", |draft| draft.needs.near = vec!["db".into()]);
    world.submit(1, near).unwrap();
    assert_eq!(
        reason(&world, 1),
        ("not_near".into(), "2 nodes have no worker of db".into())
    );
    let on_n1 = named("db", |draft| draft.nodes = vec!["n1".into()]);
    world.submit(2, on_n1).unwrap();
    world.pass(1);
    assert_eq!(places(&world, 1), ["n1"], "it follows at once");
    let away = named("batch", |draft| {
        draft.workers = Workers::Fixed(2);
        draft.needs.away_from = vec!["db".into()];
    });
    world.submit(3, away).unwrap();
    assert_eq!(places(&world, 3), ["n2", "n2"]);
    // Who is kept away from keeps away in turn.
    let second = named("db", |draft| draft.nodes = vec!["n2".into()]);
    world.submit(4, second).unwrap();
    world.pass(1);
    assert!(places(&world, 4).is_empty());
    assert_eq!(
        world.detail(4).summary.waiting_for,
        "n2 has a worker of a job that is to be kept away from this one"
    );
    let attempt = world.attempt(2);
    n1.run(&mut world, attempt);
    n1.end(&mut world, attempt, EndReason::Exited { code: 0 });
    world
        .submit(5, named("cache", |draft| draft.needs.near = vec!["2".into()]))
        .unwrap();
    assert!(places(&world, 5).is_empty(), "job 2 has ended");
}

#[test]
fn a_chain_runs_in_its_order_also_over_a_restart() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 8);
    world.submit(1, spec(draft())).unwrap();
    world.submit(2, after(1, After::Ok)).unwrap();
    world.submit(3, after(2, After::Any)).unwrap();
    assert!(places(&world, 2).is_empty() && places(&world, 3).is_empty());
    assert_eq!(
        reason(&world, 2),
        ("after_job".into(), "it waits for job 1 to end well".into())
    );
    assert_eq!(world.detail(3).summary.waiting_for, "it waits for job 2 to end");
    let first = world.attempt(1);
    node.run(&mut world, first);
    world.restart();
    node.hello(
        &mut world,
        1,
        vec![crate::world::report(first, loadline_model::AttemptPhase::Running)],
    );
    assert!(places(&world, 2).is_empty(), "it waits still");
    node.end(&mut world, first, EndReason::Exited { code: 0 });
    assert_eq!(places(&world, 2), ["n1"]);
    let second = world.attempt(2);
    node.run(&mut world, second);
    node.end(&mut world, second, EndReason::Exited { code: 3 });
    assert_eq!(places(&world, 3), ["n1"], "in any way");
}

#[test]
fn who_can_never_start_ends_with_its_reason_and_so_do_those_behind() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 8);
    world.submit(1, spec(draft())).unwrap();
    world.submit(2, after(1, After::Ok)).unwrap();
    world.submit(3, after(2, After::Ok)).unwrap();
    world.submit(4, after(1, After::NotOk)).unwrap();
    world.submit(5, after(1, After::Ok)).unwrap();
    let first = world.attempt(1);
    node.run(&mut world, first);
    node.end(&mut world, first, EndReason::Exited { code: 3 });
    let ended = |job| {
        let summary = world.detail(job).summary;
        (summary.phase, summary.exit_code, summary.never_started)
    };
    let failed = JobPhase::Done(JobOutcome::Failed);
    let why = |after: u64| format!("it was to start once job {after} has ended well, and job {after} failed");
    assert_eq!(ended(2), (failed, Some(1), why(1)));
    assert_eq!(ended(3), (failed, Some(1), why(2)));
    assert_eq!(ended(5), (failed, Some(1), why(1)));
    assert_eq!(places(&world, 4), ["n1"]);
    // Someone who comes too late is told at once.
    world.submit(6, after(1, After::Ok)).unwrap();
    assert_eq!(world.detail(6).summary.phase, failed);
    world.restart();
    assert_eq!(world.detail(2).summary.never_started, why(1));
}

#[test]
fn an_end_that_could_not_be_committed_ends_nobody_else() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 8);
    world.submit(1, spec(draft())).unwrap();
    world.submit(2, after(1, After::Ok)).unwrap();
    let first = world.attempt(1);
    node.run(&mut world, first);
    let end = node.event(
        &world,
        crate::world::report_end(first, EndReason::Exited { code: 3 }),
    );
    world.disk_full = true;
    assert!(node.send(&mut world, vec![end.clone()]).is_err());
    assert_eq!(world.detail(2).summary.phase, JobPhase::Queued);
    node.send(&mut world, vec![end]).unwrap();
    assert_eq!(world.detail(2).summary.phase, JobPhase::Done(JobOutcome::Failed));
}

#[test]
fn a_job_waits_for_known_jobs_of_its_own_people_only() {
    let mut world = World::new();
    let refused = world.submit(1, after(7, After::Ok)).unwrap_err();
    assert_eq!(
        (refused.to_string().as_str(), refused.next_step()),
        (
            "you and your team have no job 7 to wait for",
            "submit that one first, jobs never wait for each other in a circle; `fleet jobs --all` lists jobs with their numbers"
        )
    );
    let mut itself = draft();
    itself.waits.after = vec![AfterJob {
        job: JobName::Id(job_id(2)),
        after: After::Any,
    }];
    let refused = world.submit(2, spec(itself)).unwrap_err();
    assert_eq!(refused.reason(), "DEPENDENCY_CIRCLE");
    assert!(refused.to_string().contains("waits for itself"), "{refused}");
    world.submit(3, spec(draft())).unwrap();
    world
        .step(Command::AddUser {
            by: "ada".into(),
            name: "bob".into(),
            role: loadline_fleet::trust::Role::User,
            unix_account: String::new(),
            team: String::new(),
        })
        .unwrap();
    let theirs = world.step(Command::Submit {
        by: "bob".into(),
        job: job_id(4),
        spec: after(1, After::Ok),
    });
    assert_eq!(theirs, Err(Refused::DependencyUnknown("1".into())));
}

#[test]
fn a_job_starts_when_its_time_has_come_and_no_clock_takes_it_back() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 1);
    let at = world.now.wall.plus(Span::from_secs(5));
    let later = named("later", |draft| draft.waits.start_after = Some(at));
    world.submit(1, later.clone()).unwrap();
    assert_eq!(
        reason(&world, 1),
        (
            "start_after".into(),
            "it is not to start before 1970-01-12T13:46:45.000000Z".into()
        )
    );
    world.pass(4);
    assert!(places(&world, 1).is_empty());
    world.pass(1);
    assert_eq!(places(&world, 1), ["n1"]);
    world.submit(2, later).unwrap();
    assert!(
        world.detail(2).summary.waiting_for.contains("CPU"),
        "its time has come"
    );
    world.now.wall = WallTime(0);
    world.step(Command::Tick).unwrap();
    assert!(world.detail(2).summary.waiting_for.contains("CPU"));
}

#[test]
fn a_gang_starts_as_one_or_not_at_all() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 2);
    let gang = |workers| {
        named("g", |draft| {
            draft.workers = Workers::Fixed(workers);
            draft.gang = true;
        })
    };
    world.submit(1, gang(3)).unwrap();
    assert!(places(&world, 1).is_empty());
    assert_eq!(
        reason(&world, 1),
        (
            "gang_beyond_fleet".into(),
            "even with no other work there is room for 2 of the 3 workers that start together".into()
        )
    );
    Script::join(&mut world, "n2", 2);
    world.pass(1);
    assert_eq!(places(&world, 1).len(), 3);
}

#[test]
fn an_array_is_refused_as_long_as_nothing_runs_its_tasks() {
    let mut world = World::new();
    let array = named("a", |draft| {
        draft.tasks = Some(Tasks {
            first: 1,
            last: 100_000,
        })
    });
    let refused = world.submit(1, array).unwrap_err();
    assert_eq!(
        (refused.reason(), refused.to_string().as_str()),
        (
            "ARRAY_NEEDS_RUNNER",
            "arrays cannot run yet: the program that runs their tasks on the nodes is not there"
        )
    );
}
