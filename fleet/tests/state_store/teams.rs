//! Teams, quotas and who yields: durable, in force without a restart, and the same after one.

use loadline_fleet::state::{
    Command, JobRef, Limit, OrderKind, QuotaChange, Refused, Reply, SharingCommand, StopReason, TeamChange,
    TeamView,
};
use loadline_fleet::trust::Role;
use loadline_model::{
    AttemptPhase, CpuRequest, Elastic, EndReason, JobDraft, JobSpec, Priority, Span, Tier, Workers,
};
use loadline_placement::policy::{Period, Resource};

use crate::world::{Script, World, draft, job_id, report, spec};

fn person(world: &mut World, name: &str, team: &str) {
    world
        .step(Command::AddUser {
            by: "ada".into(),
            name: name.into(),
            role: Role::User,
            unix_account: String::new(),
            team: team.into(),
        })
        .unwrap();
}

fn change_team(world: &mut World, team: &str, change: TeamChange) -> Result<Reply, Refused> {
    world.step(Command::Sharing(SharingCommand::SetTeam {
        by: "ada".into(),
        team: team.into(),
        change,
    }))
}

fn limit(world: &mut World, team: &str, set: &[(Limit, u64)], period: Option<Period>) -> TeamView {
    let change = QuotaChange {
        set: set.to_vec(),
        period,
        ..QuotaChange::default()
    };
    let command = Command::Sharing(SharingCommand::SetQuota {
        by: "ada".into(),
        team: team.into(),
        change,
    });
    match world.step(command) {
        Ok(Reply::Team(team)) => *team,
        other => panic!("{other:?}"),
    }
}

fn submit(world: &mut World, by: &str, job: u128, spec: JobSpec) -> Result<Reply, Refused> {
    world.step(Command::Submit {
        by: by.into(),
        job: job_id(job),
        spec,
    })
}

fn wants(cpus: u32, change: impl FnOnce(&mut JobDraft)) -> JobSpec {
    let mut draft = draft();
    draft.worker.cpus = CpuRequest::Exclusive(cpus);
    change(&mut draft);
    spec(draft)
}

fn for_team(team: &str) -> impl FnOnce(&mut JobDraft) {
    move |draft| draft.team = Some(team.into())
}

fn placed(world: &World, job: u128) -> usize {
    world.detail(job).attempts.len()
}

fn why(world: &World, job: u128) -> (Vec<String>, String) {
    let explained = world.state.explain(JobRef::Id(job_id(job)), world.now).unwrap();
    let codes = explained.reasons.into_iter().map(|reason| reason.code);
    (codes.collect(), explained.change)
}

const CPUS: Limit = Limit::Team(Resource::Cpu);

#[test]
fn a_job_is_paid_for_by_a_team_of_its_submitter() {
    let mut world = World::new();
    Script::join(&mut world, "n1", 8);
    person(&mut world, "bob", "vision");
    // The word behind --team made the team.
    let team = world.state.team("vision", world.now).unwrap();
    assert_eq!((team.row.weight, team.members), (100, vec!["bob".to_owned()]));
    submit(&mut world, "bob", 1, wants(1, |_| {})).unwrap();
    assert_eq!(world.detail(1).summary.team, "vision");
    let refused = submit(&mut world, "bob", 2, wants(1, for_team("audio")));
    assert_eq!(refused, Err(Refused::TeamUnknown("audio".into())));
    change_team(&mut world, "audio", TeamChange::default()).unwrap();
    let refused = submit(&mut world, "bob", 2, wants(1, for_team("audio"))).unwrap_err();
    assert_eq!(refused.to_string(), "bob is not in team audio");
    let join = TeamChange {
        add: vec!["bob".into()],
        ..TeamChange::default()
    };
    change_team(&mut world, "audio", join).unwrap();
    submit(&mut world, "bob", 2, wants(1, for_team("audio"))).unwrap();
    assert_eq!(world.detail(2).summary.team, "audio");
    // What pays unless a job says otherwise.
    let set = Command::Sharing(SharingCommand::SetUser {
        by: "ada".into(),
        name: "bob".into(),
        team: Some("audio".into()),
        role: None,
    });
    world.step(set).unwrap();
    submit(&mut world, "bob", 3, wants(1, |_| {})).unwrap();
    assert_eq!(world.detail(3).summary.team, "audio");
    let detail = world.state.user("bob").unwrap();
    assert_eq!(detail.teams, ["audio", "vision"]);
    assert_eq!(
        (detail.jobs_running + detail.jobs_queued, detail.held.workers),
        (3, 3)
    );
    world.restart();
    let detail = world.state.user("bob").unwrap();
    assert_eq!((detail.teams.len(), detail.user.team.as_str()), (2, "audio"));
}

#[test]
fn a_team_with_open_jobs_stays_and_one_without_leaves_nobody_behind() {
    let mut world = World::new();
    person(&mut world, "bob", "vision");
    submit(&mut world, "bob", 1, wants(1, |_| {})).unwrap();
    let remove = || {
        Command::Sharing(SharingCommand::RemoveTeam {
            by: "ada".into(),
            team: "vision".into(),
        })
    };
    assert_eq!(world.step(remove()), Err(Refused::TeamBusy("vision".into(), 1)));
    world
        .step(Command::Cancel {
            by: "ada".into(),
            job: JobRef::Id(job_id(1)),
        })
        .unwrap();
    world.step(remove()).unwrap();
    let detail = world.state.user("bob").unwrap();
    assert_eq!((detail.teams.len(), detail.user.team.as_str()), (0, ""));
    assert_eq!(world.step(remove()), Err(Refused::TeamUnknown("vision".into())));
    world.restart();
    assert!(world.state.teams(world.now).is_empty());
    let unknown = TeamChange {
        add: vec!["eve".into()],
        ..TeamChange::default()
    };
    let refused = change_team(&mut world, "audio", unknown);
    assert_eq!(refused, Err(Refused::UserUnknown("eve".into())));
    assert!(world.state.teams(world.now).is_empty(), "half a change was kept");
}

#[test]
fn the_last_administrator_keeps_the_role() {
    let mut world = World::new();
    let set = |name: &str, role| {
        Command::Sharing(SharingCommand::SetUser {
            by: "ada".into(),
            name: name.into(),
            team: None,
            role: Some(role),
        })
    };
    assert_eq!(
        world.step(set("ada", Role::User)),
        Err(Refused::LastAdmin("ada".into()))
    );
    person(&mut world, "bob", "");
    world.step(set("bob", Role::Admin)).unwrap();
    world.step(set("ada", Role::User)).unwrap();
}

#[test]
fn a_quota_holds_from_the_next_plan_on_and_lowering_it_ends_nothing() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 8);
    person(&mut world, "bob", "vision");
    let team = limit(&mut world, "vision", &[(CPUS, 4000)], None);
    assert_eq!(team.note, "");
    let many = wants(1, |draft| draft.workers = Workers::Fixed(6));
    submit(&mut world, "bob", 1, many).unwrap();
    assert_eq!(placed(&world, 1), 4);
    let (codes, change) = why(&world, 1);
    assert_eq!(codes, ["quota_reached"]);
    assert!(change.contains("fleet quota set vision"), "{change}");
    // Others are not kept away by it.
    submit(&mut world, "ada", 2, wants(2, |_| {})).unwrap();
    assert_eq!(placed(&world, 2), 1);
    let team = limit(&mut world, "vision", &[(CPUS, 2000)], None);
    assert!(
        team.note
            .starts_with("4 CPUs are held where 2 CPUs are allowed: nothing is ended"),
        "{}",
        team.note
    );
    world.pass(2);
    assert_eq!(placed(&world, 1), 4);
    assert!(
        world
            .orders(node.id)
            .iter()
            .all(|order| matches!(order.what, OrderKind::Start(_)))
    );
    // Raised, it lets the rest start at once; a restart changes nothing of it.
    world.restart();
    let running: Vec<_> = world
        .detail(1)
        .attempts
        .iter()
        .map(|attempt| attempt.id)
        .collect();
    let reports = running
        .iter()
        .map(|id| report(*id, AttemptPhase::Running))
        .collect();
    node.hello(&mut world, 100, reports);
    node.alive(&mut world);
    assert_eq!(placed(&world, 1), 4, "two CPUs are allowed, four held");
    limit(&mut world, "vision", &[(CPUS, 5000)], None);
    assert_eq!(placed(&world, 1), 5);
    let lift = Command::Sharing(SharingCommand::SetQuota {
        by: "ada".into(),
        team: "vision".into(),
        change: QuotaChange {
            lift_all: true,
            ..QuotaChange::default()
        },
    });
    world.step(lift).unwrap();
    assert_eq!(placed(&world, 1), 6);
}

#[test]
fn a_budget_counts_what_was_spent_before_it_and_before_a_restart() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 8);
    person(&mut world, "bob", "vision");
    let hour = |draft: &mut JobDraft| {
        draft.time = Some(Span::from_secs(3600));
        draft.grace = Some(Span::ZERO);
    };
    submit(&mut world, "bob", 1, wants(2, hour)).unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    node.live(&mut world, 1800);
    // Two CPUs for half an hour.
    let mut end = crate::world::report_end(attempt, EndReason::Exited { code: 0 });
    end.ended.as_mut().unwrap().at = world.now.wall;
    node.tell(&mut world, end);
    let team = limit(
        &mut world,
        "vision",
        &[(Limit::Budget(Resource::Cpu), 3)],
        Some(Period::DAY),
    );
    assert_eq!(team.note, "");
    let paid = |world: &World| world.state.team("vision", world.now).unwrap().paid.cpu_hours();
    world.pass(1);
    assert_eq!(paid(&world), 1);
    // One hour of two CPUs would be 3 of 3; of three CPUs 4.
    submit(&mut world, "bob", 2, wants(3, hour)).unwrap();
    submit(&mut world, "bob", 3, wants(2, hour)).unwrap();
    submit(&mut world, "bob", 4, wants(1, |_| {})).unwrap();
    assert_eq!(
        [placed(&world, 2), placed(&world, 3), placed(&world, 4)],
        [0, 1, 0]
    );
    assert_eq!(why(&world, 2).0[0], "quota_reached");
    assert!(why(&world, 4).1.contains("--time"), "{:?}", why(&world, 4));
    let before = world.state.team("vision", world.now).unwrap();
    world.restart();
    world.pass(1);
    let after = world.state.team("vision", world.now).unwrap();
    assert_eq!((before.paid, before.held), (after.paid, after.held));
    assert_eq!(before.share, after.share);
    assert_eq!(paid(&world), 3);
}

#[test]
fn shares_go_to_who_had_less() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 4);
    person(&mut world, "bob", "left");
    person(&mut world, "eve", "right");
    // bob fills the node first; then both want more than there is.
    submit(
        &mut world,
        "bob",
        1,
        wants(1, |draft| draft.workers = Workers::Fixed(4)),
    )
    .unwrap();
    submit(
        &mut world,
        "bob",
        2,
        wants(1, |draft| draft.workers = Workers::Fixed(4)),
    )
    .unwrap();
    submit(
        &mut world,
        "eve",
        3,
        wants(1, |draft| draft.workers = Workers::Fixed(4)),
    )
    .unwrap();
    let first: Vec<_> = world
        .detail(1)
        .attempts
        .iter()
        .map(|attempt| attempt.id)
        .collect();
    for attempt in &first {
        node.run(&mut world, *attempt);
    }
    world.pass(60);
    node.alive(&mut world);
    for attempt in &first[..2] {
        let mut end = crate::world::report_end(*attempt, EndReason::Exited { code: 0 });
        end.ended.as_mut().unwrap().at = world.now.wall;
        node.tell(&mut world, end);
    }
    assert_eq!(
        [placed(&world, 2), placed(&world, 3)],
        [0, 2],
        "eve had nothing yet"
    );
}

/// A burst job on a node, and a standard one that needs the room.
fn pressed(world: &mut World, change: impl FnOnce(&mut JobDraft)) -> Script {
    let mut node = Script::join(world, "n1", 4);
    let burst = wants(4, |draft| {
        draft.tier = Tier::Burst;
        draft.retries = 0;
    });
    submit(world, "ada", 1, burst).unwrap();
    let attempt = world.attempt(1);
    node.run(world, attempt);
    submit(world, "ada", 2, wants(3, change)).unwrap();
    node
}

fn stops(world: &World, node: &Script) -> Vec<StopReason> {
    let orders = world.orders(node.id);
    let stops = orders.iter().filter_map(|order| match &order.what {
        OrderKind::Stop(stop) => Some(stop.why),
        _ => None,
    });
    stops.collect()
}

#[test]
fn burst_yields_to_standard_with_a_receipt_and_comes_back() {
    let mut world = World::new();
    let mut node = pressed(&mut world, |_| {});
    assert_eq!(stops(&world, &node), [], "who has just started is left alone");
    node.live(&mut world, 65);
    assert_eq!(stops(&world, &node), [StopReason::Yielded]);
    let (_, change) = why(&world, 2);
    assert!(
        change.starts_with("Others have been asked to make room for it"),
        "{change}"
    );
    let receipt = world.detail(1).receipts.pop().unwrap();
    assert_eq!(receipt.action, "yield");
    assert!(
        receipt
            .sentence
            .contains("made room for job 2 of ada (burst yields to standard)"),
        "{}",
        receipt.sentence
    );
    // Nothing of it is lost by a restart, and the order is given once.
    world.restart();
    let attempt = world.attempt(1);
    node.hello(&mut world, 100, vec![report(attempt, AttemptPhase::Stopping)]);
    node.alive(&mut world);
    node.live(&mut world, 10);
    node.end(&mut world, attempt, EndReason::Cancelled);
    let ended = world.detail(1).attempts.pop().unwrap().ended.unwrap();
    assert_eq!(
        ended.reason,
        EndReason::Evicted,
        "as it was ordered, whatever an older node calls it"
    );
    assert!(ended.detail.contains("job 2"), "{}", ended.detail);
    assert_eq!([placed(&world, 1), placed(&world, 2)], [1, 1]);
    let done = world.attempt(2);
    node.run(&mut world, done);
    node.live(&mut world, 100);
    assert_eq!(placed(&world, 1), 1, "burst does not push standard out");
    node.end(&mut world, done, EndReason::Exited { code: 0 });
    assert_eq!(
        placed(&world, 1),
        2,
        "it comes back by itself, and without a retry"
    );
}

#[test]
fn lower_priority_yields_and_equals_never_do() {
    let mut world = World::new();
    let mut node = Script::join(&mut world, "n1", 4);
    submit(
        &mut world,
        "ada",
        1,
        wants(4, |draft| draft.priority = Priority::LOW),
    )
    .unwrap();
    let attempt = world.attempt(1);
    node.run(&mut world, attempt);
    submit(
        &mut world,
        "ada",
        2,
        wants(4, |draft| draft.priority = Priority::LOW),
    )
    .unwrap();
    node.live(&mut world, 200);
    assert_eq!(stops(&world, &node), []);
    submit(&mut world, "ada", 3, wants(4, |_| {})).unwrap();
    node.live(&mut world, 5);
    assert_eq!(stops(&world, &node), [StopReason::Yielded]);
    node.end(&mut world, attempt, EndReason::Evicted);
    assert_eq!(
        [placed(&world, 1), placed(&world, 2), placed(&world, 3)],
        [1, 0, 1]
    );
    let reason = world.detail(1).receipts.pop().unwrap().sentence;
    assert!(reason.contains("priority low yields to normal"), "{reason}");
}

#[test]
fn an_elastic_job_gives_back_to_equals_what_it_has_beyond_its_least() {
    let mut world = World::new();
    person(&mut world, "bob", "vision");
    let mut node = Script::join(&mut world, "n1", 4);
    let elastic = wants(1, |draft| {
        draft.workers = Workers::Elastic(Elastic { min: 1, max: 4 })
    });
    submit(&mut world, "ada", 1, elastic).unwrap();
    let attempts: Vec<_> = world
        .detail(1)
        .attempts
        .iter()
        .map(|attempt| attempt.id)
        .collect();
    assert_eq!(attempts.len(), 4, "it grows into what is free");
    for attempt in &attempts {
        node.run(&mut world, *attempt);
    }
    submit(&mut world, "bob", 2, wants(2, for_team("vision"))).unwrap();
    assert_eq!(stops(&world, &node), [], "who has just started is left alone");
    node.live(&mut world, 65);
    assert_eq!(stops(&world, &node), [StopReason::Yielded; 2]);
    let going: Vec<_> = world
        .orders(node.id)
        .iter()
        .filter_map(|order| order.attempt)
        .collect();
    for attempt in &going {
        node.end(&mut world, *attempt, EndReason::Evicted);
    }
    assert_eq!(
        [placed(&world, 1), placed(&world, 2)],
        [4, 1],
        "it does not grow back into it"
    );
    let receipt = world.detail(1).receipts.pop().unwrap();
    let sentence =
        "made room for job 2 of bob (job 1 has more than its least, 1 workers, and the other has too few)";
    assert!(receipt.sentence.contains(sentence), "{}", receipt.sentence);
    let explained = world.state.explain(JobRef::Number(1), world.now).unwrap();
    let beyond = explained.reasons.last().unwrap();
    assert_eq!(
        (beyond.code.as_str(), beyond.sentence.as_str()),
        (
            "beyond_least",
            "it needs 1 of its workers and has 2: those beyond come after what other jobs need; \
             2 times a worker of it made room for another job"
        )
    );
    // One more can go, and nobody goes for who needs more than that.
    submit(&mut world, "bob", 3, wants(2, for_team("vision"))).unwrap();
    node.live(&mut world, 100);
    assert_eq!(stops(&world, &node).len(), 0);
    world.restart();
    let attempts = [1, 2].map(|job| world.detail(job).attempts).concat();
    let live = attempts.iter().filter(|it| it.ended.is_none());
    let reports = live.map(|it| report(it.id, AttemptPhase::Running)).collect();
    node.hello(&mut world, 100, reports);
    node.alive(&mut world);
    node.live(&mut world, 100);
    let by = "bob".into();
    let job = JobRef::Number(3);
    world.step(Command::Cancel { by, job }).unwrap();
    submit(&mut world, "bob", 4, wants(1, for_team("vision"))).unwrap();
    node.live(&mut world, 5);
    assert_eq!(stops(&world, &node).len(), 1);
    submit(&mut world, "bob", 5, wants(1, for_team("vision"))).unwrap();
    node.live(&mut world, 300);
    assert_eq!(stops(&world, &node).len(), 1, "it keeps its least");
}

#[test]
fn a_plan_with_someone_who_yields_can_fail_to_commit() {
    let mut world = World::new();
    let node = pressed(&mut world, |_| {});
    node.live(&mut world, 55);
    world.now.mono = world.now.mono.plus(Span::from_secs(10));
    world.now.wall = world.now.wall.plus(Span::from_secs(10));
    world.disk_full = true;
    // The order to yield is in this batch.
    let refused = world.step(Command::Tick);
    assert_eq!(refused, Err(Refused::StoreFull("full".into())));
    assert_eq!(stops(&world, &node), []);
    world.pass(2);
    assert_eq!(stops(&world, &node), [StopReason::Yielded]);
}
