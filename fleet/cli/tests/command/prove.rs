//! `fleet prove`: what is asked, what is shown, which exit code.

use loadline_proto::fleet::v1 as pb;
use loadline_proto::types::v1 as types;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::wire::Script;
use crate::{World, ended, start};

const RUN: [u8; 16] = [7; 16];

fn seen(stage: &str, sentence: &str, last: Option<pb::ProveLast>) -> pb::ProveReply {
    pb::ProveReply {
        run: Some(pb::ProveRun {
            run_id: RUN.to_vec(),
            by: "ada".into(),
            begun_us: 1,
            stage: stage.into(),
            sentence: sentence.into(),
            changed_us: 2,
            node_silent_us: 1,
        }),
        last,
    }
}

fn last(whole: bool, cost: bool) -> Option<pb::ProveLast> {
    Some(pb::ProveLast {
        run_id: RUN.to_vec(),
        by: "ada".into(),
        at_us: 3,
        report: Some(types::ProveReport {
            text: "cpu protected\n".into(),
            json: "{\"signed\":true}".into(),
            html: "<!doctype html>".into(),
            whole,
            cost,
        }),
    })
}

async fn world(proves: impl IntoIterator<Item = pb::ProveReply>) -> World {
    World::new(Script {
        proves: proves.into_iter().collect(),
        ..Script::default()
    })
    .await
}

#[tokio::test]
async fn a_test_is_asked_for_watched_and_its_report_shown() {
    let world = world([
        seen("ordered", "", None),
        seen("running", "cpu alone of pair 1", None),
        seen("reported", "", last(true, false)),
    ])
    .await;
    let page = world.home.path().join("page.html");
    let words = format!(
        "prove n1 --stand-in --rate 50 --resource cpu,disk --rounds 4 --round 2s --limit 1m --with-workers --html {}",
        page.display()
    );
    let ran = world.fleet(&words).await;
    assert_eq!((ran.code, &*ran.out), (0, "cpu protected\n"), "{}", ran.err);
    let said = "testing n1; Ctrl-C ends the test\ncpu alone of pair 1\n";
    assert_eq!(ran.err, said);
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "<!doctype html>");
    let asked = world.fake.script(|script| script.asked.clone());
    assert_eq!(
        asked[0],
        "prove n1 true 50/s [\"cpu\", \"disk\"] 4x2000000us of 60000000us true"
    );
    // The texts once, at the end.
    assert_eq!(asked[1], "see prove n1 false");
    assert_eq!(asked.last().unwrap(), "see prove n1 true");
}

#[tokio::test]
async fn with_json_the_one_document_is_the_signed_report() {
    let world = world([seen("reported", "", last(true, false))]).await;
    let ran = world.fleet("prove n1 -o json").await;
    assert_eq!((ran.code, &*ran.out, &*ran.err), (0, "{\"signed\":true}\n", ""));
    let asked = world.fake.script(|script| script.asked.clone());
    let usual =
        "prove n1 false 100/s [\"cpu\", \"memory\", \"cache\", \"disk\"] 5x10000000us of 600000000us false";
    assert_eq!(asked[0], usual);
}

#[tokio::test]
async fn a_node_that_falls_silent_is_said_once() {
    let silent = |seconds: u64| {
        let mut reply = seen("running", "cpu", None);
        if let Some(run) = &mut reply.run {
            run.node_silent_us = seconds * 1_000_000;
        }
        reply
    };
    let world = world([
        seen("ordered", "", None),
        silent(1),
        silent(16),
        silent(17),
        seen("lost", "why", None),
    ])
    .await;
    let ran = world.fleet("prove n1").await;
    let said =
        "testing n1; Ctrl-C ends the test\ncpu\nn1 has not been heard of; the test there has its own limit\n";
    assert!(ran.err.starts_with(&format!("{said}fleet: ")), "{ran:?}");
}

#[tokio::test]
async fn how_it_ended_is_the_exit_code() {
    for (stage, sentence, report, code, said) in [
        ("reported", "", last(true, false), 0, ""),
        ("reported", "", last(true, true), 1, ""),
        ("reported", "", last(false, false), 1, ""),
        (
            "refused",
            "production is in need",
            None,
            1,
            "fleet: the test on n1 did not begin: production is in need\n",
        ),
        ("failed", "", None, 1, "fleet: the test on n1 came to nothing\n"),
        (
            "stopped",
            "stopped by bea",
            last(false, false),
            1,
            "fleet: the test on n1 was ended: stopped by bea\n",
        ),
        ("lost", "why", None, 1, "fleet: the test on n1 is given up: why\n"),
    ] {
        let world = world([seen(stage, sentence, report.clone())]).await;
        let ran = world.fleet("prove n1").await;
        assert_eq!(ran.code, code, "{stage}: {ran:?}");
        assert!(ran.err.contains(said), "{stage}: {ran:?}");
        let shown = if report.is_some() { "cpu protected\n" } else { "" };
        assert_eq!(ran.out, shown, "{stage}");
    }
}

#[tokio::test]
async fn the_last_report_is_shown_with_its_age() {
    // Of a test after it, which has another id.
    let newer = |stage, sentence, last: Option<pb::ProveLast>| {
        let last = last.map(|last| pb::ProveLast {
            run_id: vec![6; 16],
            ..last
        });
        seen(stage, sentence, last)
    };
    let world = world([seen("reported", "", last(true, false))]).await;
    for (reply, code, out, said) in [
        (seen("reported", "", last(true, false)), 0, true, ""),
        (
            newer("running", "cpu", last(true, true)),
            1,
            true,
            "a test asked for by ada runs just now\n",
        ),
        (
            newer("refused", "why", last(true, false)),
            0,
            true,
            "after this report, the test on n1 did not begin: why\n",
        ),
        (
            newer("refused", "why", None),
            1,
            false,
            "fleet: the test on n1 did not begin: why\n",
        ),
        (
            pb::ProveReply::default(),
            3,
            false,
            "fleet: no report of a test of n1 is kept\n",
        ),
    ] {
        world.fake.script(|script| script.proves = [reply].into());
        let ran = world.fleet("prove n1 --last").await;
        assert_eq!((ran.code, ran.out.is_empty()), (code, !out), "{ran:?}");
        assert!(ran.err.starts_with(said), "{ran:?}");
        if out {
            let age = "The last test, asked for by ada, came to this ";
            assert!(ran.out.starts_with(age), "{ran:?}");
            assert!(ran.out.ends_with(" ago:\n\ncpu protected\n"), "{ran:?}");
        }
    }
}

#[tokio::test]
async fn a_test_can_be_left_and_ended() {
    let world = world([seen("ordered", "", None)]).await;
    let ran = world.fleet("prove n1 --detach").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = "the test on n1 has begun; `fleet prove n1 --last` shows what it came to\n";
    assert_eq!(ran.out, said);
    let ran = world.fleet("prove n1 --detach -o json").await;
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&told["node"], &told["stage"]), (&"n1".into(), &"ordered".into()));
    world.fake.script(|script| {
        script.proves = [
            seen("stopping", "", None),
            seen("stopped", "stopped by ada", None),
        ]
        .into();
        script.asked.clear();
    });
    let ran = world.fleet("prove n1 --stop").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("the test on n1 has ended"), "{ran:?}");
    let asked = world.fake.script(|script| script.asked.clone());
    assert_eq!(asked[0], "stop prove n1");
}

#[tokio::test]
async fn ctrl_c_ends_the_test_and_waits_for_its_end() {
    let world = world([seen("ordered", "", None), seen("running", "cpu", None)]).await;
    let mut child = start(world.home.path(), ["prove", "n1"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while lines.next_line().await.unwrap().unwrap() != "cpu" {}
    world.fake.script(|script| {
        script.proves = [
            seen("stopping", "", None),
            seen("stopped", "stopped by ada", last(false, false)),
        ]
        .into();
    });
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
    let ran = ended(child).await;
    assert_eq!((ran.code, &*ran.out), (130, "cpu protected\n"));
    let asked = world.fake.script(|script| script.asked.clone());
    assert!(asked.contains(&"stop prove n1".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_usage() {
    let world = world([]).await;
    for words in [
        "prove n1 --rate 101",
        "prove n1 --limit 31m",
        "prove n1 --resource gpu",
        "prove n1 --round soon",
        "prove n1 --last --stop",
        "prove n1 --detach --html x",
        "prove",
    ] {
        let ran = world.fleet(words).await;
        assert_eq!(ran.code, 2, "{words}: {ran:?}");
    }
    assert!(world.fake.script(|script| script.asked.is_empty()));
}
