//! Words in, words out: usage, exit codes, what operators ask for.

use loadline_proto::fleet::v1 as pb;
use tonic::Code;

use crate::World;
use crate::wire::{Script, refusal};

#[tokio::test]
async fn what_the_fleet_refuses_becomes_an_exit_code() {
    for (code, exit) in [
        (Code::InvalidArgument, 2),
        (Code::NotFound, 3),
        (Code::PermissionDenied, 4),
        (Code::Unauthenticated, 4),
        (Code::Unavailable, 5),
        (Code::AlreadyExists, 1),
        (Code::FailedPrecondition, 1),
        (Code::ResourceExhausted, 1),
        (Code::Internal, 1),
    ] {
        let refuse = Some(refusal(code, "it cannot be", "do this"));
        let world = World::new(Script {
            refuse,
            ..Script::default()
        })
        .await;
        let ran = world.fleet("job 412").await;
        assert_eq!((ran.code, ran.out.as_str()), (exit, ""), "{code:?}");
        let request = if matches!(exit, 1 | 5) {
            "  request r-1\n"
        } else {
            ""
        };
        assert_eq!(
            ran.err,
            format!("fleet: it cannot be\n  next: do this\n{request}"),
            "{code:?}"
        );
        let ran = world.fleet("job 412 -o json").await;
        let json: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(json["error"]["sentence"], "it cannot be");
        assert_eq!(
            (&json["error"]["exit_code"], &json["error"]["reason"]),
            (&exit.into(), &"TEST".into())
        );
    }
}

#[tokio::test]
async fn usage_is_told_without_asking_the_fleet() {
    let world = World::new(Script::default()).await;
    for (words, part) in [
        ("job train", "`train` is not a job's number like 412"),
        ("run", "nothing was said to run"),
        ("run --cpus 2x -- true", "--cpus: `2x` is not an amount of CPU"),
        ("wait 412 --timeout 3", "--timeout: `3` is not a length of time"),
        (
            "token node n1 --life soon",
            "--life: `soon` is not a length of time",
        ),
        ("login hello", "this is not a login token"),
        ("login LLN1.abc", "this token lets a node join"),
        ("nodes --colour", "unexpected argument '--colour'"),
        ("node line n1 101", "101 is not in 0..=100"),
        ("node line n1 half", "invalid digit"),
        ("run echo hi", "unexpected argument 'hi'"),
        ("gibberish", "unrecognized subcommand 'gibberish'"),
    ] {
        let ran = world.fleet(words).await;
        assert_eq!(ran.code, 2, "{words}: {ran:?}");
        assert!(ran.err.contains(part), "{words}: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{words}: {ran:?}");
    }
    assert!(world.fake.script(|script| script.asked.is_empty()));
    assert_eq!(world.fleet("--help").await.code, 0);
    assert_eq!(world.fleet("--version").await.code, 0);
    let bare = world.fleet("").await;
    assert!(
        bare.code == 2 && bare.out.contains("Usage: fleet") && !bare.out.contains("generate"),
        "{bare:?}"
    );
}

#[tokio::test]
async fn what_a_job_cannot_say_is_told_without_asking_and_not_repeated_at_length() {
    let world = World::new(Script::default()).await;
    let long = "a".repeat(10_240);
    let shown = format!("{}…", "a".repeat(40));
    for (flags, sentence) in [
        (
            format!("--name {long}"),
            "--name: 1 to 63 letters, digits, `-`, `_` or `.`".to_owned(),
        ),
        (
            format!("--team {long}"),
            "--team: a team's name is 1 to 32 lower-case letters, digits, `-`, `_` or `.`, a letter first"
                .into(),
        ),
        (
            format!("--node {long}"),
            "--node: a node's name is 1 to 253 characters".into(),
        ),
        (
            format!("--require {long}"),
            format!("--require: `{shown}` cannot be a label's key: 1 to 63 "),
        ),
        (
            format!("--require zone={long}"),
            format!("--require: `{shown}` cannot be a label's value: at most 253 "),
        ),
        (
            format!("--tolerate {long}"),
            format!("--tolerate: `{shown}` cannot be a label's key: 1 to 63 "),
        ),
        (
            "--array 1-100001".into(),
            "--array: 100001 tasks are too many: an array has at most 100000; submit several".into(),
        ),
        ("--gang --workers 10001".into(), "--workers: at most 10000".into()),
    ] {
        let ran = world.fleet(&format!("run {flags} -- true")).await;
        let told = &flags[..flags.len().min(60)];
        assert_eq!(ran.code, 2, "{told}: {ran:?}");
        assert!(ran.err.contains(&sentence), "{told}: {ran:?}");
        assert!(
            ran.err.contains("next:") && ran.err.len() < 600,
            "{told}: {ran:?}"
        );
    }
    assert!(world.fake.script(|script| script.asked.is_empty()));
}

#[tokio::test]
async fn operators_ask_for_what_they_typed() {
    let node = pb::NodeSummary {
        name: "n1".into(),
        state: pb::NodeState::Draining.into(),
        workers: 2,
        ..Default::default()
    };
    let world = World::new(Script {
        nodes: vec![node],
        ..Script::default()
    })
    .await;
    for (words, asked) in [
        (
            "jobs --all --user ada",
            "jobs ListJobsRequest { all: true, user: \"ada\" }",
        ),
        ("cancel 412", "cancel 412"),
        ("explain 412", "explain 412"),
        ("node show n1", "node n1"),
        ("node resume n1", "resume n1"),
        ("node forget n1", "forget n1"),
        ("node ban n1", "ban n1"),
        ("node label n1 zone=eu old-", "mark n1 [\"zone=eu\", \"old-\"] []"),
        ("node taint n1 only=gpu", "mark n1 [] [\"only=gpu\"]"),
        (
            "token node n2 --pool gpu --life 5m",
            "node token n2 gpu 300000000",
        ),
        ("token login bob", "login token bob"),
        ("token list", "tokens"),
        ("token revoke t1", "revoke t1"),
        (
            "user add bob --role operator --account rob --team vision",
            "add bob operator rob vision",
        ),
        ("user list", "users"),
        ("user ban bob", "ban bob"),
        ("user unban bob", "unban bob"),
    ] {
        world.fake.script(|script| script.asked.clear());
        world
            .fake
            .script(|script| script.explanation.summary = Some(crate::wire::summary(pb::JobPhase::Running)));
        let ran = world.fleet(words).await;
        assert_eq!(ran.code, 0, "{words}: {ran:?}");
        assert_eq!(
            world.fake.script(|script| script.asked.clone()),
            [asked],
            "{words}"
        );
    }
    let ran = world.fleet("node drain n1").await;
    assert_eq!(
        ran.out,
        "n1 is being drained: it gets nothing new, what runs goes on (now draining, 2 workers there)\n"
    );
    let ran = world.fleet("token node n2").await;
    assert_eq!(
        ran.out, "sudo loadline-agent join LLN1.abc\n",
        "the command alone is on standard output"
    );
    assert!(
        ran.err
            .starts_with("On the machine that becomes n2, type as root within "),
        "{ran:?}"
    );
}

#[tokio::test]
async fn completions_need_neither_home_nor_fleet() {
    let home = tempfile::tempdir().unwrap();
    let ran = crate::fleet(home.path(), ["completions", "bash"]).await;
    assert!(ran.code == 0 && ran.out.contains("_fleet()"), "{ran:?}");
    let dir = home.path().join("man");
    let ran = crate::fleet(home.path(), ["generate", "man", dir.to_str().unwrap()]).await;
    assert!(ran.code == 0 && dir.join("fleet-run.1").exists(), "{ran:?}");
}

#[tokio::test]
async fn receipts_are_asked_of_nodes_or_of_a_job() {
    let world = World::new(Script::default()).await;
    for words in ["receipts", "receipts web --last 5", "receipts 412"] {
        let ran = world.fleet(words).await;
        assert_eq!(
            (ran.code, ran.err.as_str()),
            (0, "No receipt so far: nothing had to be done.\n"),
            "{words}"
        );
    }
    let asked = world.fake.script(|script| script.asked.clone());
    assert_eq!(
        asked,
        ["receipts of \"\", 50", "receipts of \"web\", 5", "get 412"]
    );
}

#[tokio::test]
async fn operators_say_what_a_node_may_do() {
    let node = pb::NodeSummary {
        name: "n1".into(),
        state: pb::NodeState::Draining.into(),
        workers: 2,
        ..Default::default()
    };
    let world = World::new(Script {
        nodes: vec![node],
        ..Script::default()
    })
    .await;
    for (words, asked) in [
        ("node shadow n1", "ceiling n1 Some(\"shadow\") None"),
        ("node enforce n1", "ceiling n1 Some(\"enforce\") None"),
        ("node off n1", "ceiling n1 Some(\"off\") None"),
        ("node line n1 0", "ceiling n1 None Some(0)"),
        ("node line n1 100", "ceiling n1 None Some(1000)"),
        ("headroom", "headroom \"\""),
        ("headroom n1", "headroom \"n1\""),
    ] {
        world.fake.script(|script| script.asked.clear());
        let ran = world.fleet(words).await;
        assert_eq!(ran.code, 0, "{words}: {ran:?}");
        let told = world.fake.script(|script| script.asked.clone());
        assert_eq!(told, [asked], "{words}");
    }
    let ran = world.fleet("node line n1 40").await;
    assert_eq!(
        ran.out,
        "n1 lends 40 % of its line from now on (now draining, 2 workers there)\n"
    );
    let ran = world.fleet("node line n1 0").await;
    assert!(
        ran.out.contains("is closed to lent work: burst ends at once"),
        "{ran:?}"
    );
}
