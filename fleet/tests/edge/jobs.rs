//! A job from its submission to its end, and what people may do with it.

use loadline_fleet::audit::verify_file;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::job_ref::Ref;
use loadline_proto::node::v1::{self as node, node_message};
use loadline_proto::types::v1 as types;
use tonic::Code;

use crate::node::{FakeNode, Stream, exited, join, message, spec};
use crate::world::{Person, World, reason};

pub(crate) fn submission(id: u8, command: &[&str]) -> fleet::SubmitRequest {
    let mut job_id = vec![id; 16];
    // Version 7, variant 1.
    job_id[6] = 0x70;
    job_id[8] = 0x80;
    fleet::SubmitRequest {
        job_id,
        spec: Some(spec(command)),
    }
}

pub(crate) fn by_number(number: u64) -> fleet::JobRef {
    fleet::JobRef {
        r#ref: Some(Ref::Number(number)),
    }
}

pub(crate) async fn joined(world: &World, admin: &mut Person, name: &str) -> FakeNode {
    let token = admin.node_token(name).await;
    join(world, &token, name).await.unwrap()
}

/// Does what an order says, successfully.
pub(crate) async fn carry_out(node: &mut FakeNode, stream: &mut Stream, order: &types::Order) {
    let generation = order.generation;
    node.applied = generation;
    stream
        .say(message(node_message::What::Applied(node::OrdersApplied {
            generation,
        })))
        .await;
    for phase in [types::AttemptPhase::Starting, types::AttemptPhase::Running] {
        stream.say(node.attempt(order, phase, None)).await;
    }
    stream
        .say(node.attempt(order, types::AttemptPhase::Ended, Some(exited(0))))
        .await;
    stream.acked(node.sequence).await;
}

#[tokio::test]
async fn from_submission_to_done() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    let mut events = admin
        .jobs
        .run(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap()
        .into_inner();
    let first = events.message().await.unwrap().unwrap();
    assert_eq!(first.summary.as_ref().unwrap().number, 1);
    let order = stream.order(&node).await;
    let Some(types::order::What::Start(start)) = &order.what else {
        panic!("{order:?}")
    };
    assert_eq!(start.user, "admin");
    carry_out(&mut node, &mut stream, &order).await;
    let mut last = first;
    while let Some(event) = events.message().await.unwrap() {
        last = event;
    }
    let summary = last.summary.unwrap();
    assert_eq!(summary.phase(), fleet::JobPhase::Succeeded);
    assert_eq!(summary.exit_code, Some(0));
    let detail = admin.jobs.get(by_number(1)).await.unwrap().into_inner();
    assert_eq!(detail.attempts[0].node, "n1");
    assert_eq!(detail.attempts[0].placement.as_ref().unwrap().main_pid, 77);
    drop(events);
    let log = world.state("audit.log");
    let text = std::fs::read_to_string(&log).unwrap();
    for action in ["person.login", "token.create_node", "node.join", "job.submit"] {
        assert!(
            text.contains(&format!("\"action\":\"{action}\"")),
            "{action} is not in {text}"
        );
    }
    verify_file(&log).unwrap();
}

#[tokio::test]
async fn a_resubmission_is_the_same_job_and_another_spec_a_conflict() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let first = admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap()
        .into_inner();
    let again = admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first.number, again.number);
    let conflict = admin
        .jobs
        .submit(submission(1, &["/usr/bin/false"]))
        .await
        .unwrap_err();
    assert_eq!(
        (conflict.code(), reason(&conflict).as_str()),
        (Code::AlreadyExists, "JOB_CONFLICT")
    );
}

#[tokio::test]
async fn mistakes_are_named_all_at_once() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut wrong = submission(1, &[]);
    wrong.spec.as_mut().unwrap().worker.as_mut().unwrap().memory_bytes = 1;
    let refused = admin.jobs.submit(wrong).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "SPEC_INVALID")
    );
    assert!(refused.message().contains("command:"), "{}", refused.message());
    assert!(
        refused.message().contains("worker.memory:"),
        "{}",
        refused.message()
    );
    let nobody = admin.jobs.get(by_number(9)).await.unwrap_err();
    assert_eq!(
        (nobody.code(), reason(&nobody).as_str()),
        (Code::NotFound, "JOB_UNKNOWN")
    );
}

#[tokio::test]
async fn people_see_and_end_their_own_jobs_and_operators_all() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut ada = world.person(&mut admin, "ada", "user").await;
    let mut bob = world.person(&mut admin, "bob", "user").await;
    let mut olga = world.person(&mut admin, "olga", "operator").await;
    let mut vera = world.person(&mut admin, "vera", "viewer").await;
    ada.jobs.submit(submission(1, &["/usr/bin/true"])).await.unwrap();
    let list = fleet::ListJobsRequest::default();
    for (person, sees) in [(&mut ada, 1), (&mut bob, 0), (&mut olga, 1), (&mut vera, 1)] {
        assert_eq!(
            person
                .jobs
                .list(list.clone())
                .await
                .unwrap()
                .into_inner()
                .jobs
                .len(),
            sees
        );
    }
    for person in [&mut bob, &mut vera] {
        let denied = person.jobs.cancel(by_number(1)).await.unwrap_err();
        assert_eq!(
            (denied.code(), reason(&denied).as_str()),
            (Code::PermissionDenied, "DENIED")
        );
    }
    assert_eq!(
        bob.jobs.get(by_number(1)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        bob.jobs.watch(by_number(1)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        vera.jobs.submit(submission(2, &["x"])).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let logs = fleet::LogsRequest {
        job: Some(by_number(1)),
        ..Default::default()
    };
    assert_eq!(
        vera.jobs.logs(logs).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let ended = olga
        .jobs
        .cancel(by_number(1))
        .await
        .unwrap()
        .into_inner()
        .summary
        .unwrap();
    assert_eq!(ended.phase(), fleet::JobPhase::Cancelled);
    let text = std::fs::read_to_string(world.state("audit.log")).unwrap();
    assert!(
        text.contains("\"actor\":\"person/bob\"") && text.contains("\"decision\":\"denied\""),
        "{text}"
    );
}

#[tokio::test]
async fn operators_do_not_make_administrators() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut olga = world.person(&mut admin, "olga", "operator").await;
    let add = fleet::AddUserRequest {
        name: "eve".into(),
        role: "admin".into(),
        ..Default::default()
    };
    let refused = olga.admin.add_user(add).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let login = fleet::CreateLoginTokenRequest { user: "admin".into() };
    let refused = olga.admin.create_login_token(login).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn jobs_survive_a_restart_and_run_after_it() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut node = joined(&world, &mut admin, "n1").await;
    admin
        .jobs
        .submit(submission(1, &["/usr/bin/true"]))
        .await
        .unwrap();
    let identity = world.identity(&mut admin, "olga", "operator").await;
    drop(admin);
    let world = world.restarted().await;
    let mut olga = Person::new(&world, &identity).await;
    let job = olga.jobs.get(by_number(1)).await.unwrap().into_inner();
    assert_eq!(job.summary.unwrap().phase(), fleet::JobPhase::Queued);
    let mut stream = node.connect(&world).await.unwrap();
    let order = stream.order(&node).await;
    carry_out(&mut node, &mut stream, &order).await;
    let job = olga.jobs.get(by_number(1)).await.unwrap().into_inner();
    assert_eq!(job.summary.unwrap().phase(), fleet::JobPhase::Succeeded);
}

#[tokio::test]
async fn many_jobs_in_one_message_are_each_taken_or_refused() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let node = joined(&world, &mut admin, "n1").await;
    let mut stream = node.connect(&world).await.unwrap();
    let (say, messages) = tokio::sync::mpsc::channel(4);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut replies = admin.jobs.submit_many(messages).await.unwrap().into_inner();
    let nameless = fleet::SubmitRequest {
        job_id: vec![1, 2, 3],
        ..submission(9, &["/usr/bin/true"])
    };
    let other = submission(1, &["/usr/bin/false"]);
    let first = vec![
        submission(1, &["/usr/bin/true"]),
        nameless,
        submission(2, &["/usr/bin/true"]),
    ];
    say.send(fleet::SubmitManyRequest { jobs: first }).await.unwrap();
    let jobs = replies.message().await.unwrap().unwrap().jobs;
    let outcomes: Vec<Result<u64, String>> = jobs.into_iter().map(outcome).collect();
    assert_eq!(
        outcomes,
        [Ok(1), Err("MALFORMED".to_owned()), Ok(2)],
        "in their order"
    );
    // The same again is the same; another job under a known id is a conflict.
    let again = vec![submission(2, &["/usr/bin/true"]), other];
    say.send(fleet::SubmitManyRequest { jobs: again }).await.unwrap();
    let jobs = replies.message().await.unwrap().unwrap().jobs;
    let outcomes: Vec<Result<u64, String>> = jobs.into_iter().map(outcome).collect();
    assert_eq!(outcomes, [Ok(2), Err("JOB_CONFLICT".to_owned())]);
    let order = stream.order(&node).await;
    assert!(
        matches!(order.what, Some(types::order::What::Start(_))),
        "{order:?}"
    );

    let jobs = (0..101)
        .map(|id| submission(id + 50, &["/usr/bin/true"]))
        .collect();
    say.send(fleet::SubmitManyRequest { jobs }).await.unwrap();
    let status = replies.message().await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
    let listed = admin
        .jobs
        .list(fleet::ListJobsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        listed.jobs.len(),
        2,
        "nothing of a message that is too long is taken"
    );
    let lines = std::fs::read_to_string(world.state("audit.log")).unwrap();
    assert_eq!(
        lines.matches("job.submit").count(),
        5,
        "each is recorded: {lines}"
    );
}

fn outcome(job: fleet::Submitted) -> Result<u64, String> {
    match job.outcome.unwrap() {
        fleet::submitted::Outcome::Number(number) => Ok(number),
        fleet::submitted::Outcome::Refused(refused) => {
            let info = refused.info.unwrap();
            assert!(
                !refused.message.is_empty() && !info.next_step.is_empty(),
                "{info:?}"
            );
            Err(info.reason)
        }
    }
}
