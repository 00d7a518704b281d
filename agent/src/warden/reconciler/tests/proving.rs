//! Tests that the fleet orders: each order is answered, durable before it is done, and nothing is lost in between.

use loadline_model::{ProveAsk, ProveId};
use loadline_policy::node_policy::{Mode, ProveConsent};
use loadline_policy::prove::ordered::{Ended, Standing};
use loadline_proto::types::v1 as proto;
use tokio::sync::oneshot;

use super::rig::{Rig, node};
use crate::prove::handover::Texts;
use crate::warden::reconciler::{Command, Doing, Node, ProveSeen, Seen, lock};
use crate::warden::wire::forge::Wanted;

fn id(byte: u8) -> ProveId {
    ProveId::from_slice(&[byte; 16]).unwrap()
}

fn standing(run: u8, stopped_by: Option<&str>) -> Standing {
    Standing {
        run: id(run),
        by: "ada".into(),
        ask: ProveAsk::default(),
        stopped_by: stopped_by.map(Into::into),
    }
}

fn texts() -> Texts {
    Texts {
        text: "protected".into(),
        json: "{}".into(),
        html: "<p>".into(),
        whole: true,
        cost: false,
    }
}

impl Rig {
    async fn order(&mut self, run: u8, stop: bool) {
        let order = self.forge.prove(id(run), stop, proto::ProveAsk::default());
        self.try_apply(vec![order]).await.unwrap();
    }

    /// Says what a test does, and waits until that is durable.
    async fn seen(&self, run: u8, seen: Seen) {
        let (reply, answer) = oneshot::channel();
        let run = id(run);
        self.command(Command::Proved(ProveSeen { run, seen, reply }))
            .await;
        answer.await.unwrap();
    }

    fn told_of(&self, run: u8) -> Vec<(String, String, bool)> {
        let told = self.events().into_iter().filter_map(|event| match event.what {
            Some(proto::event::What::Prove(state)) if state.run_id == id(run).as_bytes() => {
                Some((state.stage, state.sentence, state.report.is_some()))
            }
            _ => None,
        });
        told.collect()
    }
}

fn words(stage: &str, sentence: &str, report: bool) -> (String, String, bool) {
    (stage.into(), sentence.into(), report)
}

#[tokio::test(start_paused = true)]
async fn a_test_begins_once_moves_on_and_ends_with_its_report() {
    let mut rig = Rig::new().await;
    rig.order(1, false).await;
    rig.order(1, false).await;
    let begun = [Doing::Begin(standing(1, None))];
    assert_eq!(
        (rig.prover.noted(), rig.prover.done()),
        (begun.to_vec(), begun.to_vec())
    );
    rig.seen(1, Seen::Running("cpu alone".into())).await;
    rig.order(2, false).await;
    let busy = rig.told_of(2);
    assert_eq!(busy.len(), 1, "{busy:?}");
    assert!(
        busy[0].0 == "refused" && busy[0].1.contains("asked for by ada"),
        "{busy:?}"
    );
    rig.seen(1, Seen::Over(Ended::Report, Some(texts()))).await;
    let told = [words("running", "cpu alone", false), words("reported", "", true)];
    assert_eq!(rig.told_of(1), told);
    // It is over: late news of it, and of a test that never was, tell nothing.
    rig.seen(1, Seen::Running("cpu again".into())).await;
    rig.seen(7, Seen::Over(Ended::Report, Some(texts()))).await;
    assert_eq!((rig.told_of(1).len(), rig.told_of(7).len()), (2, 0));
    rig.order(3, false).await;
    assert_eq!(rig.prover.done().last(), Some(&Doing::Begin(standing(3, None))));
}

#[tokio::test(start_paused = true)]
async fn a_word_to_stop_is_obeyed_and_answered_whether_a_test_runs_or_not() {
    let mut rig = Rig::new().await;
    rig.order(1, true).await;
    assert_eq!(rig.told_of(1), [words("stopped", "stopped by ada", false)]);
    assert_eq!(rig.prover.done(), []);
    rig.order(2, false).await;
    rig.order(2, true).await;
    rig.order(2, true).await;
    let stop = Doing::Stop(standing(2, Some("ada")));
    assert_eq!(rig.prover.done(), [Doing::Begin(standing(2, None)), stop]);
    rig.seen(2, Seen::Over(Ended::Report, Some(texts()))).await;
    assert_eq!(rig.told_of(2), [words("stopped", "stopped by ada", true)]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_who_refuses_is_obeyed_and_so_is_a_node_that_lends_nothing() {
    let with = |change: fn(&mut Node)| {
        let mut node = node();
        change(&mut node);
        node
    };
    for (node, why) in [
        (
            with(|node| node.policy.lend.prove = ProveConsent::Refuse),
            "lend.prove",
        ),
        (with(|node| node.policy.lend.mode = Mode::Off), "lends nothing"),
        (with(|node| node.policy.lend.mode = Mode::Shadow), "only watches"),
    ] {
        let mut rig = Rig::with(node).await;
        rig.order(1, false).await;
        let told = rig.told_of(1);
        assert!(told[0].0 == "refused" && told[0].1.contains(why), "{told:?}");
        assert_eq!(rig.prover.noted(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn the_brake_ends_a_test_and_keeps_the_next_one_from_beginning() {
    let mut rig = Rig::new().await;
    rig.order(1, false).await;
    let brake = rig.forge.ceiling("enforce", 0, "bea");
    rig.try_apply(vec![brake]).await.unwrap();
    let prover = rig.prover.clone();
    let stop = rig.eventually("a stop", || prover.done().get(1).cloned()).await;
    let Doing::Stop(stopped) = stop else {
        panic!("{stop:?}")
    };
    let by = stopped.stopped_by.unwrap();
    assert!(
        by.contains("the node itself") && by.contains("closed (0 %)"),
        "{by}"
    );
    rig.seen(1, Seen::Over(Ended::Report, None)).await;
    rig.order(2, false).await;
    assert_eq!(rig.told_of(2)[0].0, "refused");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_durable_is_noted_but_neither_done_nor_told() {
    let mut rig = Rig::new().await;
    lock(&rig.ledger).fill_up();
    let attempt = rig.attempt();
    let large = Wanted {
        command: vec!["x".repeat(100_000)],
        ..Wanted::default()
    };
    let orders = vec![
        rig.forge.start(attempt, &large),
        rig.forge.prove(id(1), false, proto::ProveAsk::default()),
    ];
    rig.try_apply(orders.clone()).await.unwrap_err();
    assert_eq!(rig.prover.noted(), [Doing::Begin(standing(1, None))]);
    assert_eq!(rig.prover.done(), []);
    lock(&rig.ledger).make_room();
    rig.try_apply(orders).await.unwrap();
    assert_eq!(rig.prover.done(), [Doing::Begin(standing(1, None))]);
    lock(&rig.ledger).fill_up();
    let large = Texts {
        html: "x".repeat(4 << 20),
        ..texts()
    };
    let (reply, answer) = oneshot::channel();
    let (run, seen) = (id(1), Seen::Over(Ended::Report, Some(large.clone())));
    rig.command(Command::Proved(ProveSeen { run, seen, reply })).await;
    answer.await.unwrap_err();
    lock(&rig.ledger).make_room();
    // Who saw it says it again, and it is news.
    rig.seen(1, Seen::Over(Ended::Report, Some(large))).await;
    assert_eq!(rig.told_of(1), [words("reported", "", true)]);
}

#[tokio::test(start_paused = true)]
async fn a_warden_that_is_started_anew_knows_the_test_that_runs() {
    let mut rig = Rig::new().await;
    rig.order(1, false).await;
    rig.prover.find(standing(1, None));
    rig.kill_and_restart().await;
    rig.order(2, false).await;
    assert_eq!(rig.told_of(2)[0].0, "refused");
    rig.seen(1, Seen::Over(Ended::Failed("why".into()), None)).await;
    assert_eq!(rig.told_of(1), [words("failed", "why", false)]);
}
