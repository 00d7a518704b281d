//! `fleet run`, `wait` and `logs`: staying with a job to its end.

use loadline_proto::fleet::v1::{self as pb, JobPhase};
use loadline_proto::types::v1::{self as types, AttemptPhase};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tonic::Code;

use crate::wire::{Episode, Script, Step, attempt, event, lines, refusal, remark, summary};
use crate::{World, ended, start};

fn done(phase: JobPhase, code: u32) -> pb::JobSummary {
    pb::JobSummary {
        ended_at_us: Some(1_700_000_013_000_000),
        exit_code: Some(code),
        ..summary(phase)
    }
}

fn ending(reason: types::EndReason, code: u32, detail: &str) -> pb::Attempt {
    pb::Attempt {
        ended: Some(types::Ended {
            reason: reason.into(),
            code,
            detail: detail.into(),
            ..Default::default()
        }),
        ..attempt(AttemptPhase::Ended)
    }
}

fn life(reason: types::EndReason, code: u32, passed_on: u32, detail: &str) -> Episode<pb::JobEvent> {
    let phase = if passed_on == 0 {
        JobPhase::Succeeded
    } else {
        JobPhase::Failed
    };
    vec![
        event(summary(JobPhase::Queued), vec![]),
        event(summary(JobPhase::Running), vec![attempt(AttemptPhase::Starting)]),
        event(summary(JobPhase::Running), vec![attempt(AttemptPhase::Running)]),
        event(done(phase, passed_on), vec![ending(reason, code, detail)]),
    ]
}

fn waiting(why: &str) -> pb::JobSummary {
    pb::JobSummary {
        waiting_for: why.into(),
        ..summary(JobPhase::Queued)
    }
}

fn one_life(events: Episode<pb::JobEvent>, logs: Episode<pb::LogsReply>) -> Script {
    Script {
        events: [events].into(),
        logs: [logs].into(),
        ..Script::default()
    }
}

#[tokio::test]
async fn output_goes_where_the_job_wrote_it_and_progress_to_stderr() {
    let logs = vec![lines(&[(1, false, "hello"), (2, true, "careful")])];
    let world = World::new(one_life(life(types::EndReason::Exited, 0, 0, ""), logs)).await;
    let ran = world.fleet("run --cpus 2 -- echo hello").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "hello\n"), "{ran:?}");
    let told: Vec<&str> = ran.err.lines().collect();
    assert_eq!(told.first(), Some(&"fleet: job 412 (train) submitted"));
    assert_eq!(told.last(), Some(&"fleet: job 412 succeeded after 12s"));
    for line in [
        "careful",
        "fleet: 412.0 runs on n1, with CPUs 0-1 of its own",
        "fleet: 412.0 on n1 finished",
    ] {
        assert!(told.contains(&line), "{line} is not in {told:?}");
    }
    let submitted = world.fake.script(|script| script.submitted.clone());
    let spec = submitted[0].spec.clone().unwrap();
    assert_eq!(spec.command, ["echo", "hello"]);
    assert_eq!(
        spec.worker.unwrap().cpu,
        Some(types::worker_request::Cpu::ExclusiveCpus(2))
    );
    // A version 7 id, chosen here.
    assert_eq!((submitted[0].job_id.len(), submitted[0].job_id[6] >> 4), (16, 7));
}

#[tokio::test]
async fn the_jobs_own_code_is_passed_on() {
    for (reason, code, passed_on, detail, words) in [
        (
            types::EndReason::Exited,
            3,
            3,
            "",
            "fleet: 412.0 on n1 exited with code 3",
        ),
        (
            types::EndReason::Signalled,
            11,
            139,
            "",
            "fleet: 412.0 on n1 was ended by signal 11",
        ),
        (
            types::EndReason::OutOfMemory,
            0,
            137,
            "used 64MiB, its limit",
            "fleet: 412.0 on n1 ran out of memory: used 64MiB, its limit",
        ),
    ] {
        let script = one_life(life(reason, code, passed_on, detail), vec![]);
        let world = World::new(script).await;
        let ran = world.fleet("run -- ./train").await;
        assert_eq!(ran.code, i32::try_from(passed_on).unwrap(), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
        let end =
            format!("fleet: job 412 failed after 12s (exit code {passed_on}); `fleet job 412` says more\n");
        assert!(ran.err.ends_with(&end), "{ran:?}");
    }
}

#[tokio::test]
async fn quiet_says_only_what_the_job_says() {
    let logs = vec![lines(&[(1, false, "hello")])];
    let world = World::new(one_life(life(types::EndReason::Exited, 3, 3, ""), logs)).await;
    let ran = world.fleet("run -q -- echo hello").await;
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (3, "hello\n", ""));
}

#[tokio::test]
async fn a_job_that_waits_is_explained_once() {
    let why = "a worker wants 2 CPUs, and n1 has none left to lend";
    let explanation = pb::Explanation {
        summary: Some(waiting(why)),
        change: "It starts by itself as soon as a node has room for it.".into(),
        ..Default::default()
    };
    let events = vec![
        event(waiting(why), vec![]),
        event(waiting(why), vec![]),
        Step::Hang,
    ];
    let world = World::new(Script {
        explanation,
        ..one_life(events, vec![])
    })
    .await;
    let mut child = start(world.home.path(), ["run", "--", "true"]);
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    for expected in [
        "fleet: job 412 (train) submitted".to_string(),
        format!("fleet: job 412 waits: {why}"),
        "fleet: job 412: It starts by itself as soon as a node has room for it.".to_string(),
    ] {
        assert_eq!(told.next_line().await.unwrap(), Some(expected));
    }
    kill(
        Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let last = "fleet: job 412 goes on. Follow it: `fleet logs -f 412`, wait for it: `fleet wait 412`, end it: `fleet cancel 412`";
    assert_eq!(told.next_line().await.unwrap().as_deref(), Some(last));
    assert_eq!(ended(child).await.code, 130);
    let asked = world.fake.script(|script| script.asked.clone());
    assert_eq!(asked, ["run", "explain 412"]);
}

#[tokio::test]
async fn a_broken_connection_is_tried_again_and_no_line_comes_twice() {
    let running = || event(summary(JobPhase::Running), vec![attempt(AttemptPhase::Running)]);
    let script = Script {
        events: [
            vec![running(), Step::Hang],
            vec![
                running(),
                event(
                    done(JobPhase::Succeeded, 0),
                    vec![ending(types::EndReason::Exited, 0, "")],
                ),
            ],
        ]
        .into(),
        logs: [
            vec![lines(&[(1, false, "one"), (2, false, "two")]), Step::Cut],
            vec![lines(&[
                (1, false, "one"),
                (2, false, "two"),
                (2, false, "again"),
                (3, false, "three"),
            ])],
        ]
        .into(),
        ..Script::default()
    };
    let world = World::new(script).await;
    let ran = world.fleet("run -- ./train").await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "one\ntwo\nagain\nthree\n"),
        "{ran:?}"
    );
    assert!(
        ran.err
            .contains("fleet: job 412 goes on, but the connection to the fleet broke"),
        "{ran:?}"
    );
    assert!(
        ran.err
            .contains("fleet: the fleet is back, watching job 412 again"),
        "{ran:?}"
    );
    let (asked, submitted) = world
        .fake
        .script(|script| (script.asked.clone(), script.submitted.len()));
    assert_eq!(submitted, 1, "{asked:?}");
    assert!(asked.contains(&"watch id 16".to_string()), "{asked:?}");
}

#[tokio::test]
async fn until_the_fleet_confirms_a_job_it_is_submitted_again_with_the_same_id() {
    let script = Script {
        events: [vec![Step::Cut], life(types::EndReason::Exited, 0, 0, "")].into(),
        ..Script::default()
    };
    let world = World::new(script).await;
    let ran = world.fleet("run -- true").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.err
            .contains("fleet: whether the fleet has the job is not known yet"),
        "{ran:?}"
    );
    let ids = world.fake.script(|script| {
        script
            .submitted
            .iter()
            .map(|request| request.job_id.clone())
            .collect::<Vec<_>>()
    });
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_told_and_the_job_is_still_followed() {
    let notice = Step::Say(pb::LogsReply {
        notice: "n1 cannot be reached; its lines come when it is back".into(),
        ..Default::default()
    });
    let logs = vec![
        notice,
        Step::Fail(refusal(Code::FailedPrecondition, "n1 has been forgotten", "")),
    ];
    let world = World::new(one_life(life(types::EndReason::Exited, 0, 0, ""), logs)).await;
    let ran = world.fleet("run -- true").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.err.contains("fleet: job 412: n1 cannot be reached"),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("fleet: job 412: n1 has been forgotten"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn whose_output_nobody_reads_is_left_and_goes_on() {
    let events = vec![
        event(summary(JobPhase::Running), vec![attempt(AttemptPhase::Running)]),
        Step::Hang,
    ];
    let world = World::new(one_life(events, vec![lines(&[(1, false, "hello")])])).await;
    let mut child = start(world.home.path(), ["run", "--", "yes"]);
    drop(child.stdout.take());
    let ran = ended(child).await;
    assert_eq!(ran.code, 141, "{ran:?}");
    assert!(ran.err.contains("fleet: job 412 goes on. Follow it: "), "{ran:?}");
}

#[tokio::test]
async fn detached_prints_the_number_and_leaves() {
    let world = World::new(Script::default()).await;
    let ran = world.fleet("run --detach -- true").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "412\n"), "{ran:?}");
    let ran = world.fleet("run --detach -o json -- true").await;
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["job"], 412);
    assert_eq!(json["job_id"].as_str().unwrap().len(), 36);
}

#[tokio::test]
async fn with_json_every_event_is_a_line() {
    let logs = vec![lines(&[(1, false, "hello")])];
    let world = World::new(one_life(life(types::EndReason::Exited, 0, 0, ""), logs)).await;
    let ran = world.fleet("run -o json -- echo hello").await;
    let mut events: Vec<serde_json::Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let log = events.iter().position(|event| event["event"] == "log").unwrap();
    let log = events.remove(log);
    assert_eq!(
        (&log["text"], &log["stream"], &log["worker"]),
        (&"hello".into(), &"stdout".into(), &0.into())
    );
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["submitted", "attempt", "attempt", "ended"], "{ran:?}");
    assert_eq!(
        (ran.err.as_str(), &events[3]["exit_code"], &events[3]["state"]),
        ("", &0.into(), &"succeeded".into())
    );
}

#[tokio::test]
async fn wait_passes_the_code_on_and_may_give_up() {
    let script = Script {
        events: [
            life(types::EndReason::Exited, 3, 3, ""),
            vec![event(summary(JobPhase::Running), vec![]), Step::Hang],
        ]
        .into(),
        ..Script::default()
    };
    let world = World::new(script).await;
    let ran = world.fleet("wait 412").await;
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(
        ran.out,
        "job 412 failed after 12s (exit code 3); `fleet job 412` says more\n"
    );
    let ran = world.fleet("wait 412 --timeout 200ms").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(
        ran.err,
        "fleet: job 412 is not done after 200ms\n  next: `fleet job 412` says where it stands\n"
    );
}

#[tokio::test]
async fn what_was_done_to_a_worker_stands_between_its_lines_and_is_not_its_own() {
    let said = || {
        vec![
            lines(&[(1, false, "begun")]),
            remark(2, "burst work is held at its floor: production uses 3.2 CPUs"),
            lines(&[(3, false, "loadline: forged")]),
        ]
    };
    let script = Script {
        logs: [said(), said()].into(),
        ..Script::default()
    };
    let world = World::new(script).await;
    let ran = world.fleet("logs 412").await;
    assert_eq!(
        ran.out, "begun\nloadline: forged\n",
        "results are the worker's alone"
    );
    assert_eq!(
        ran.err,
        "loadline: burst work is held at its floor: production uses 3.2 CPUs\n"
    );
    let ran = world.fleet("logs 412 -o json").await;
    let streams: Vec<String> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["stream"].to_string())
        .collect();
    assert_eq!(streams, ["\"stdout\"", "\"loadline\"", "\"stdout\""]);
}

#[tokio::test]
async fn logs_of_one_worker_and_of_many() {
    let many = pb::JobSummary {
        workers_max: 4,
        ..summary(JobPhase::Running)
    };
    let script = Script {
        logs: [vec![lines(&[(1, false, "a")])], vec![lines(&[(1, false, "a")])]].into(),
        explanation: pb::Explanation {
            summary: Some(many),
            ..Default::default()
        },
        ..Script::default()
    };
    let world = World::new(script).await;
    assert_eq!(world.fleet("logs 412").await.out, "[0] a\n");
    assert_eq!(world.fleet("logs 412.0 --tail 3").await.out, "a\n");
    let asked = world.fake.script(|script| script.asked.clone());
    assert_eq!(
        asked,
        ["get 412", "logs worker None", "get 412", "logs worker Some(0)"]
    );
}
