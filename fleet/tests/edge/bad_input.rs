//! Input that cannot be: one sentence says what is wrong and another what to do, however long the input is; nothing
//! changes in memory or in the store, and the connection goes on.

use loadline_fleet::state::Change;
use loadline_fleet::wire::ErrorDetails;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::types::v1 as types;
use tonic::{Code, Status};

use crate::jobs::{by_number, joined, submission};
use crate::world::{Person, World};

/// A name of ten kilobytes.
fn long() -> String {
    "a".repeat(10_240)
}

/// What of it is repeated.
fn shown() -> String {
    format!("{}…", "a".repeat(40))
}

/// All that outlives fleetd.
async fn rows(world: &World) -> Vec<Change> {
    let fleet = &world.serving.edge.fleet;
    fleet.read(|state, _| state.rows()).await.unwrap()
}

/// Both memory and the store hold what they held.
async fn unchanged(world: World, before: &[Change]) {
    assert_eq!(rows(&world).await, before);
    assert_eq!(rows(&world.restarted().await).await, before, "in the store");
}

#[track_caller]
fn is(refused: &Status, code: Code, sentence: &str, next: &str) {
    let details = ErrorDetails::of(refused).unwrap_or_else(|| panic!("no details in {refused:?}"));
    assert_eq!(
        (refused.code(), refused.message(), details.next_step.as_str()),
        (code, sentence, next)
    );
}

fn job(id: u8, change: impl FnOnce(&mut types::JobSpec)) -> fleet::SubmitRequest {
    let mut request = submission(id, &["/usr/bin/true"]);
    change(request.spec.as_mut().unwrap());
    request
}

/// The id of [`submission`], as people write it.
fn written(id: u8) -> String {
    let bytes = submission(id, &[]).job_id;
    uuid::Uuid::from_slice(&bytes).unwrap().to_string()
}

fn after(id: u8, other: u8) -> fleet::SubmitRequest {
    job(id, |spec| {
        spec.after = vec![types::AfterJob {
            job: written(other),
            how: "ok".into(),
        }];
    })
}

fn gang(id: u8, workers: u32) -> fleet::SubmitRequest {
    job(id, |spec| {
        (spec.workers_min, spec.workers_max, spec.gang) = (workers, workers, true);
    })
}

const CORRECT: &str = "correct the job and submit it again";
const TRY_AGAIN: &str = "correct it and try again";

/// What a job may not say, with the sentence about it and the next step.
#[expect(clippy::too_many_lines, reason = "a table, one job a row")]
fn wrong_jobs() -> Vec<(fleet::SubmitRequest, String, &'static str)> {
    let key = "1 to 63 letters, digits, `-`, `_`, `.` or `/`, a letter or digit first";
    let value = "at most 253 letters, digits, `-`, `_`, `.`, `/`, `:` or `+`";
    let other = "a job's name, 1 to 63 letters, digits, `-`, `_` or `.`, or its number";
    let shown = shown();
    let mut wrong: Vec<(fleet::SubmitRequest, String, &str)> = Vec::new();
    let mut add = |change: &dyn Fn(&mut types::JobSpec), sentence: String, next| {
        wrong.push((job(1, |spec| change(spec)), sentence, next));
    };
    add(
        &|spec| spec.name = long(),
        "name: 1 to 63 letters, digits, `-`, `_` or `.`".into(),
        CORRECT,
    );
    add(
        &|spec| spec.team = long(),
        "team: a team's name is 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first".into(),
        CORRECT,
    );
    add(
        &|spec| spec.nodes = vec![long()],
        "nodes: a node's name is 1 to 253 characters".into(),
        CORRECT,
    );
    add(
        &|spec| spec.env = [(long() + " ", String::new())].into(),
        format!("env: `{shown}` cannot be a variable's name: letters, digits and `_`"),
        CORRECT,
    );
    add(
        &|spec| spec.require = vec![long()],
        format!("require: `{shown}` cannot be a label's key: {key}"),
        TRY_AGAIN,
    );
    add(
        &|spec| spec.prefer = vec![format!("zone={}", long())],
        format!("prefer: `{shown}` cannot be a label's value: {value}"),
        TRY_AGAIN,
    );
    add(
        &|spec| spec.tolerate = vec![long()],
        format!("tolerate: `{shown}` cannot be a label's key: {key}"),
        TRY_AGAIN,
    );
    add(
        &|spec| spec.spread = long(),
        format!("spread: `{shown}` cannot be a label's key: {key}"),
        CORRECT,
    );
    add(
        &|spec| spec.near = vec![long()],
        format!("near: {other}"),
        CORRECT,
    );
    add(
        &|spec| {
            spec.after = vec![types::AfterJob {
                job: long(),
                how: "ok".into(),
            }];
        },
        format!("after: `{shown}`: a job is named by its number, like 412, or its id"),
        TRY_AGAIN,
    );
    let array = |last| move |spec: &mut types::JobSpec| spec.tasks = Some(types::Tasks { first: 1, last });
    add(
        &array(100_001),
        "array: 100001 tasks are too many: an array has at most 100000; submit several".into(),
        CORRECT,
    );
    add(
        &array(100_000),
        "arrays cannot run yet: the program that runs their tasks on the nodes is not there".into(),
        "submit a job for each task, or one with as many workers: each has LOADLINE_WORKER",
    );
    add(
        &|spec| (spec.workers_min, spec.workers_max, spec.gang) = (10_001, 10_001, true),
        "workers: at most 10000".into(),
        CORRECT,
    );
    add(
        &|spec| spec.team = "vision".into(),
        "bob is not in team vision".into(),
        "ask an operator to type `fleet team set TEAM --add NAME`; `fleet team list` shows who is in which",
    );
    add(
        &|spec| spec.team = "audio".into(),
        "there is no team audio".into(),
        "list teams with `fleet team list`, make one with `fleet team set NAME`",
    );
    wrong
}

#[tokio::test]
async fn jobs_that_cannot_be_are_refused_in_one_sentence() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut bob = world.person(&mut admin, "bob", "user").await;
    let vision = fleet::SetTeamRequest {
        name: "vision".into(),
        ..Default::default()
    };
    admin.sharing.set_team(vision).await.unwrap();
    let before = rows(&world).await;
    for (request, sentence, next) in wrong_jobs() {
        let refused = bob.jobs.submit(request).await.unwrap_err();
        is(&refused, refused.code(), &sentence, next);
        let known = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::PermissionDenied,
            Code::FailedPrecondition,
        ];
        assert!(known.contains(&refused.code()), "{refused:?}");
    }
    // The same connection still serves.
    let jobs = bob.jobs.list(fleet::ListJobsRequest::default()).await.unwrap();
    assert_eq!(jobs.into_inner().jobs, []);
    unchanged(world, &before).await;
}

const FIRST: &str = "submit that one first, jobs never wait for each other in a circle; `fleet jobs --all` lists jobs with their numbers";

#[tokio::test]
async fn jobs_never_wait_for_each_other_in_a_circle() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut bob = world.person(&mut admin, "bob", "user").await;
    let before = rows(&world).await;
    let own = bob.jobs.submit(after(1, 1)).await.unwrap_err();
    let (one, two) = (written(1), written(2));
    is(
        &own,
        Code::InvalidArgument,
        &format!("job {one} waits for itself: leave out one of these dependencies"),
        "leave out that one",
    );
    // Ids are the client's: two may name each other before either is known.
    for (request, missing) in [(after(1, 2), &two), (after(2, 1), &one)] {
        let refused = bob.jobs.submit(request).await.unwrap_err();
        let sentence = format!("you and your team have no job {missing} to wait for");
        is(&refused, Code::InvalidArgument, &sentence, FIRST);
    }
    // Nor in one message, where both come together.
    let both = fleet::SubmitManyRequest {
        jobs: vec![after(1, 2), after(2, 1)],
    };
    let replies = bob.jobs.submit_many(tokio_stream::iter([both])).await.unwrap();
    let jobs = replies.into_inner().message().await.unwrap().unwrap().jobs;
    let told = jobs.into_iter().map(|job| match job.outcome.unwrap() {
        fleet::submitted::Outcome::Number(number) => panic!("job {number} was taken"),
        fleet::submitted::Outcome::Refused(refused) => (refused.message, refused.info.unwrap().next_step),
    });
    let sentence = |missing: &str| format!("you and your team have no job {missing} to wait for");
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (sentence(&two), FIRST.to_owned()),
            (sentence(&one), FIRST.to_owned())
        ]
    );
    assert_eq!(rows(&world).await, before);
    // The first without the other is taken, and cannot be changed into a circle afterwards.
    bob.jobs.submit(submission(2, &["/usr/bin/true"])).await.unwrap();
    bob.jobs.submit(after(1, 2)).await.unwrap();
    let before = rows(&world).await;
    let again = bob.jobs.submit(after(2, 1)).await.unwrap_err();
    is(
        &again,
        Code::AlreadyExists,
        &format!("job {two} was already submitted with another specification"),
        "submit it under a new id",
    );
    unchanged(world, &before).await;
}

async fn explained(person: &mut Person, number: u64) -> (Vec<String>, String) {
    let told = person.jobs.explain(by_number(number)).await.unwrap().into_inner();
    let reasons = told.reasons.into_iter().map(|reason| reason.sentence);
    (reasons.collect(), told.change)
}

fn workers(most: u32) -> fleet::SetQuotaRequest {
    let at_once = types::AtOnce {
        workers: Some(most),
        ..Default::default()
    };
    fleet::SetQuotaRequest {
        team: "vision".into(),
        set: Some(types::Quota {
            team: Some(at_once),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn in_vision(world: &World, admin: &mut Person) -> Person {
    let bob = world.person(admin, "bob", "user").await;
    let vision = fleet::SetTeamRequest {
        name: "vision".into(),
        add: vec!["bob".into()],
        ..Default::default()
    };
    admin.sharing.set_team(vision).await.unwrap();
    bob
}

fn of_vision(mut request: fleet::SubmitRequest) -> fleet::SubmitRequest {
    request.spec.as_mut().unwrap().team = "vision".into();
    request
}

#[tokio::test]
async fn a_gang_that_can_never_start_is_told_so_free_fleet_or_busy() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut bob = in_vision(&world, &mut admin).await;
    let node = joined(&world, &mut admin, "n1").await;
    // It lends three CPUs. The job is taken all the same, as a fleet may grow.
    let mut stream = node.connect(&world).await.unwrap();
    bob.jobs.submit(gang(1, 9)).await.unwrap();
    let beyond = "even with no other work there is room for 3 of the 9 workers that start together";
    let (reasons, change) = explained(&mut bob, 1).await;
    assert_eq!(reasons, [beyond]);
    assert_eq!(
        change,
        "It cannot start as it is. To start it now: start with fewer workers (a minimum of 3)."
    );
    for id in 2..5 {
        bob.jobs.submit(submission(id, &["/usr/bin/true"])).await.unwrap();
        stream.order(&node).await;
    }
    let (reasons, change) = explained(&mut bob, 1).await;
    assert_eq!(reasons[0], beyond, "{reasons:?}");
    assert_eq!(
        change,
        "It cannot start as it is, and no single change would start it now."
    );
    // More than its team may ever hold at once.
    admin.sharing.set_quota(workers(4)).await.unwrap();
    bob.jobs.submit(of_vision(gang(5, 9))).await.unwrap();
    let (reasons, change) = explained(&mut bob, 5).await;
    assert_eq!(
        reasons[0],
        "the team may hold 4 workers at once; 0 workers are held and 9 workers asked for: ask for less, or have an \
         operator raise the quota"
    );
    assert!(change.starts_with("It cannot start as it is."), "{change}");
}

#[tokio::test]
async fn a_quota_below_what_runs_ends_nothing_and_says_so() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut bob = in_vision(&world, &mut admin).await;
    let node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    for id in 1..3 {
        let request = of_vision(submission(id, &["/usr/bin/true"]));
        bob.jobs.submit(request).await.unwrap();
        stream.order(&node).await;
    }
    let team = admin.sharing.set_quota(workers(1)).await.unwrap().into_inner();
    assert_eq!(
        team.note,
        "2 workers are held where 1 workers are allowed: nothing is ended for it, and nothing that needs more of it \
         starts until there is less"
    );
    // Nobody was asked to stop, and the next one waits.
    let request = of_vision(submission(3, &["/usr/bin/true"]));
    bob.jobs.submit(request).await.unwrap();
    let (reasons, change) = explained(&mut bob, 3).await;
    assert_eq!(
        reasons[0],
        "the team may hold 1 workers at once; 2 workers are held and 1 workers asked for: it starts once enough is free \
         again"
    );
    assert_eq!(
        change,
        "It starts by itself once its team may hold or spend more. To start it now: end other work of team vision, or \
         ask an operator to raise its quota (fleet quota set vision)."
    );
    for number in 1..3 {
        let detail = bob.jobs.get(by_number(number)).await.unwrap().into_inner();
        assert_eq!(detail.attempts[0].phase(), types::AttemptPhase::Assigned);
        assert_eq!(detail.receipts, []);
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table, one call a row")]
async fn names_of_ten_kilobytes_are_not_taken_and_not_repeated() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let node = joined(&world, &mut admin, "n1").await;
    drop(node.connect(&world).await.unwrap());
    let before = rows(&world).await;
    let Person {
        nodes,
        admin: people,
        sharing,
        ..
    } = &mut admin.clone();
    let shown = shown();
    let no_node = format!("there is no node {shown}");
    let no_person = format!("there is no user {shown}");
    let of = |name: String| fleet::NodeRef { name };
    let list_nodes = "list nodes with `fleet nodes`";
    let list_people = "list people with `fleet user list`, add one with `fleet user add`";
    let mark = |labels: Vec<String>, taints: Vec<String>| fleet::MarkRequest {
        name: "n1".into(),
        labels,
        taints,
    };
    let person = |name: String, unix_account: String| fleet::AddUserRequest {
        name,
        unix_account,
        role: "user".into(),
        ..Default::default()
    };
    let token = |node: String, pool: String| fleet::CreateNodeTokenRequest {
        node,
        pool,
        ..Default::default()
    };
    let key =
        "cannot be a label's key: 1 to 63 letters, digits, `-`, `_`, `.` or `/`, a letter or digit first";
    let told: Vec<(Status, Code, String, &str)> = vec![
        (
            nodes.get(of(long())).await.unwrap_err(),
            Code::NotFound,
            no_node.clone(),
            list_nodes,
        ),
        (
            nodes.drain(of(long())).await.unwrap_err(),
            Code::NotFound,
            no_node.clone(),
            list_nodes,
        ),
        (
            nodes.mark(mark(vec![long()], vec![])).await.unwrap_err(),
            Code::InvalidArgument,
            format!("labels: `{shown}` {key}"),
            TRY_AGAIN,
        ),
        (
            nodes
                .mark(mark(vec![format!("zone={}", long())], vec![]))
                .await
                .unwrap_err(),
            Code::InvalidArgument,
            format!(
                "labels: `{shown}` cannot be a label's value: at most 253 letters, digits, `-`, `_`, `.`, `/`, `:` or `+`"
            ),
            TRY_AGAIN,
        ),
        (
            nodes.mark(mark(vec![], vec![long()])).await.unwrap_err(),
            Code::InvalidArgument,
            format!("taints: `{shown}` {key}"),
            TRY_AGAIN,
        ),
        (
            people
                .create_node_token(token(long(), String::new()))
                .await
                .unwrap_err(),
            Code::InvalidArgument,
            format!("`{shown}` cannot name a node: 1 to 63 lower-case letters, digits, `-` or `.`"),
            "use the machine's host name",
        ),
        (
            people
                .create_node_token(token("n2".into(), long()))
                .await
                .unwrap_err(),
            Code::InvalidArgument,
            format!("`{shown}` cannot name a pool: 1 to 63 letters, digits, `-`, `_` or `.`"),
            "choose another name; without one the node is in the pool `default`",
        ),
        (
            people.add_user(person(long(), String::new())).await.unwrap_err(),
            Code::InvalidArgument,
            format!(
                "`{shown}` cannot name a person: 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first"
            ),
            "choose another name; the Unix account may be given apart",
        ),
        (
            people.add_user(person("eve".into(), long())).await.unwrap_err(),
            Code::InvalidArgument,
            format!("`{shown}` cannot be the account of someone's jobs"),
            "name an ordinary account, never root",
        ),
        (
            people
                .ban_user(fleet::UserRef { name: long() })
                .await
                .unwrap_err(),
            Code::NotFound,
            no_person.clone(),
            list_people,
        ),
        (
            people
                .create_login_token(fleet::CreateLoginTokenRequest { user: long() })
                .await
                .unwrap_err(),
            Code::NotFound,
            no_person,
            list_people,
        ),
        (
            people
                .revoke_token(fleet::RevokeTokenRequest { token_id: long() })
                .await
                .unwrap_err(),
            Code::NotFound,
            format!("there is no token {shown}"),
            "list tokens with `fleet token list`",
        ),
        (
            sharing
                .set_team(fleet::SetTeamRequest {
                    name: "vision".into(),
                    windows: vec![long()],
                    ..Default::default()
                })
                .await
                .unwrap_err(),
            Code::InvalidArgument,
            format!("windows: `{shown}` is not a time of the week: write it like \"Mon-Fri 19:00-07:00\""),
            TRY_AGAIN,
        ),
        (
            sharing
                .get_team(fleet::TeamRef { name: long() })
                .await
                .unwrap_err(),
            Code::InvalidArgument,
            format!(
                "`{shown}` cannot name a team: 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first"
            ),
            "choose another name",
        ),
    ];
    for (refused, code, sentence, next) in told {
        is(&refused, code, &sentence, next);
    }
    let known = admin.nodes.list(fleet::ListNodesRequest {}).await.unwrap();
    assert_eq!(known.into_inner().nodes.len(), 1);
    unchanged(world, &before).await;
}
