use loadline_model::{ProveAsk, ProveId};
use loadline_policy::attempt::MainEnd;
use tempfile::TempDir;

use super::*;
use crate::host::systemd::fake::{FakeSystemd, Fault};
use crate::prove::handover::Outcome;

/// Longer than a look, and than a unit without a process is believed.
const PATIENCE: Duration = Duration::from_secs(120);

fn standing(stopped_by: Option<&str>) -> Standing {
    Standing {
        run: ProveId::from_slice(&[1; 16]).unwrap(),
        by: "ada".into(),
        ask: ProveAsk::default(),
        stopped_by: stopped_by.map(Into::into),
    }
}

struct Bench {
    _dir: TempDir,
    handover: Handover,
    systemd: FakeSystemd,
    heard: mpsc::Receiver<Command>,
    tell: mpsc::Sender<Command>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (systemd, _) = FakeSystemd::new(dir.path(), "0-1");
        let (tell, heard) = mpsc::channel(8);
        Self {
            handover: Handover::new(dir.path().join("prove")),
            _dir: dir,
            systemd,
            heard,
            tell,
        }
    }

    fn keeper(&self) -> Keeper {
        Keeper::start(
            self.handover.clone(),
            Arc::new(self.systemd.clone()),
            self.tell.clone(),
        )
    }

    /// A test that was begun by this keeper, as far as that goes.
    fn begun(&self) -> Keeper {
        let keeper = self.keeper();
        let begin = Doing::Begin(standing(None));
        keeper.note(&begin);
        keeper.go(begin);
        keeper
    }

    async fn running(&self) -> Keeper {
        let keeper = self.begun();
        let running = async {
            while self.systemd.running() != [UNIT] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, running)
            .await
            .expect("it does not start");
        keeper
    }

    /// What is told next; `durable`: whether it is taken.
    async fn hear(&mut self, durable: bool) -> Seen {
        let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        match heard.expect("nothing is told").unwrap() {
            Command::Proved(ProveSeen { run, seen, reply }) => {
                assert_eq!(run, standing(None).run);
                if durable {
                    reply.send(()).unwrap();
                }
                seen
            }
            other => panic!("{other:?}"),
        }
    }

    async fn cleared(&self) {
        let cleared = async {
            while self.handover.noted().unwrap().is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, cleared)
            .await
            .expect("its files stay");
    }
}

#[tokio::test(start_paused = true)]
async fn progress_and_report_are_told_and_only_what_was_taken_is_forgotten() {
    let mut bench = Bench::new();
    let _keeper = bench.running().await;
    assert!(bench.handover.noted().unwrap().unwrap().started);
    bench.handover.say("cpu alone").unwrap();
    assert_eq!(bench.hear(true).await, Seen::Running("cpu alone".into()));
    let texts = Texts {
        text: "protected".into(),
        whole: true,
        ..Texts::default()
    };
    let outcome = Outcome::report(standing(None).run, texts.clone());
    bench.handover.conclude(&outcome).unwrap();
    tokio::time::sleep(LOOK_EVERY * 4).await;
    assert!(bench.heard.try_recv().is_err(), "its program has not ended");
    bench.systemd.end_unheard(UNIT, "success", MainEnd::Exited(0));
    let over = Seen::Over(Ended::Report, Some(texts));
    assert_eq!(bench.hear(false).await, over);
    assert_eq!(bench.hear(true).await, over, "not taken is told again");
    bench.cleared().await;
}

#[tokio::test(start_paused = true)]
async fn a_test_that_dies_by_force_is_told_and_what_it_left_is_ended() {
    let mut bench = Bench::new();
    let _keeper = bench.running().await;
    bench.systemd.end_unheard(UNIT, "oom-kill", MainEnd::Killed(9));
    assert_eq!(
        bench.hear(true).await,
        Seen::Over(Ended::Failed(SILENT.into()), None)
    );
    let calls = bench.systemd.calls();
    for unit in Resource::ALL
        .map(unit_of)
        .iter()
        .map(String::as_str)
        .chain([STAND_IN])
    {
        assert!(calls.contains(&format!("kill {unit}")), "{unit}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_does_not_start_is_told() {
    let mut bench = Bench::new();
    bench.systemd.fail(Fault::StartRefused);
    let _keeper = bench.begun();
    let Seen::Over(Ended::Failed(why), None) = bench.hear(true).await else {
        panic!("not a failure")
    };
    assert!(why.contains("systemd did not start"), "{why}");
    bench.cleared().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_of_another_test_is_not_taken_for_this_one() {
    let mut bench = Bench::new();
    let _keeper = bench.running().await;
    let other = ProveId::from_slice(&[9; 16]).unwrap();
    bench
        .handover
        .conclude(&Outcome::report(other, Texts::default()))
        .unwrap();
    bench.systemd.end_unheard(UNIT, "success", MainEnd::Exited(0));
    let Seen::Over(Ended::Failed(why), None) = bench.hear(true).await else {
        panic!("not a failure")
    };
    assert!(why.contains("cannot be used"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_word_to_stop_stops_the_unit() {
    let bench = Bench::new();
    let keeper = bench.running().await;
    let stop = Doing::Stop(standing(Some("bea")));
    keeper.note(&stop);
    keeper.go(stop);
    let stopped = async {
        while !bench.systemd.calls().contains(&format!("stop {UNIT}")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped)
        .await
        .expect("it is not stopped");
    let noted = bench.handover.noted().unwrap().unwrap();
    assert_eq!((noted.started, noted.standing), (true, standing(Some("bea"))));
}

#[tokio::test(start_paused = true)]
async fn the_next_warden_goes_on_where_this_one_was() {
    for (started, stopped_by, wanted) in [
        (false, None, Some("start")),
        (true, Some("bea"), Some("stop")),
        (true, None, None),
    ] {
        let mut bench = Bench::new();
        let noted = |started| Noted::new(standing(stopped_by), started);
        bench.handover.note(&noted(false)).unwrap();
        bench.handover.note(&noted(started)).unwrap();
        let keeper = bench.keeper();
        assert_eq!(keeper.standing(), Some(standing(stopped_by)));
        // Nothing runs here, so whatever was asked, its end is told at last.
        if !started {
            tokio::time::sleep(LOOK_EVERY).await;
            bench.systemd.end_unheard(UNIT, "oom-kill", MainEnd::Killed(9));
        }
        let over = bench.hear(true).await;
        assert!(matches!(over, Seen::Over(Ended::Failed(_), None)), "{over:?}");
        let calls = bench.systemd.calls();
        for operation in ["start", "stop"] {
            let asked = calls.iter().any(|call| *call == format!("{operation} {UNIT}"));
            assert_eq!(asked, wanted == Some(operation), "{operation}: {calls:?}");
        }
        bench.cleared().await;
    }
}
