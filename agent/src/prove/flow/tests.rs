//! The whole test against a systemd in memory, a probe that tells what it was given, and a machine made of values.

use loadline_model::WallTime;
use loadline_policy::attempt::MainEnd;
use loadline_policy::prove::plan::{Asked, schedule};
use tokio::sync::mpsc;

use super::*;
use crate::host::systemd::fake::{FakeSystemd, Fault};
use crate::prove::probe::SecondSeen;

/// What a round of the probe does.
type Script = Box<dyn FnMut(usize) -> Vec<Heard> + Send>;

struct Scripted {
    script: Script,
    begun: usize,
    /// A round that never ends is kept open here.
    open: Vec<mpsc::UnboundedSender<Heard>>,
}

impl Prober for Scripted {
    fn begin(&mut self, ask: RoundAsk) -> mpsc::UnboundedReceiver<Heard> {
        assert_eq!(ask.warm_up, WARM_UP);
        let (tell, heard) = mpsc::unbounded_channel();
        let all = (self.script)(self.begun);
        self.begun += 1;
        let ends = matches!(all.last(), Some(Heard::Done(_) | Heard::Failed(_)));
        all.into_iter().for_each(|one| tell.send(one).unwrap());
        if !ends {
            self.open.push(tell);
        }
        heard
    }
}

struct Calm(Option<u64>);

impl Watcher for Calm {
    fn look(&mut self) -> Look {
        Look {
            room: Room {
                cpu: MilliCpu(1500),
                cpus: 2,
                memory: Bytes::from_mib(1024),
                memory_available: self.0.map(Bytes::from_mib),
                memory_headroom: Bytes::from_mib(200),
                cache: None,
                disk_free: None,
            },
            memory_full: Some(Span::ZERO),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Still;

impl Clock for Still {
    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn monotonic(&self) -> Span {
        Span::from_secs(1000)
    }
}

fn second(p99_ms: u64) -> Heard {
    Heard::Second(SecondSeen {
        p99: Some(Span::from_millis(p99_ms)),
        requests: 100,
        errors: 0,
    })
}

fn done(p99_ms: u64) -> Heard {
    Heard::Done(Measured {
        latencies: vec![Span::from_millis(p99_ms); 100],
        lateness_p99: Span(50),
        served_p99: Span::from_millis(p99_ms),
        requests: 100,
        errors: 0,
    })
}

struct Bench {
    _folder: tempfile::TempDir,
    cgroups: CgroupFs,
    root: HostRoot,
    systemd: FakeSystemd,
    stop: watch::Sender<Option<&'static str>>,
    task: Task,
    memory: Option<u64>,
}

impl Bench {
    fn new(resources: &[Resource], rounds: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let asked = Asked {
            resources: resources.to_vec(),
            rounds,
            round: Span::from_secs(10),
            limit: Span::from_secs(600),
        };
        let mount = folder.path().join("sys/fs/cgroup");
        std::fs::create_dir_all(&mount).unwrap();
        Self {
            cgroups: CgroupFs::new(&mount),
            root: HostRoot::new(folder.path()),
            systemd: FakeSystemd::new(&mount, "0-3").0,
            stop: watch::channel(None).0,
            task: Task {
                steps: schedule(&asked).unwrap(),
                round: asked.round,
                limit: asked.limit,
                target: Target::StandIn,
                rate: 100,
                seed: 1,
                hold_line: true,
                program: "/usr/bin/loadline-warden".into(),
            },
            memory: Some(2048),
            _folder: folder,
        }
    }

    async fn run(&self, script: impl FnMut(usize) -> Vec<Heard> + Send + 'static) -> Outcome {
        let outside = Outside {
            systemd: &self.systemd,
            prober: Scripted {
                script: Box::new(script),
                begun: 0,
                open: Vec::new(),
            },
            watcher: Calm(self.memory),
            clock: Still,
            cgroups: self.cgroups.clone(),
            root: self.root.clone(),
            stop: self.stop.subscribe(),
            tell: |_| (),
        };
        run(outside, &self.task).await
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.systemd.running(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_take_turns_and_each_antagonist_is_gone_before_the_next_round() {
    let bench = Bench::new(&[Resource::Cpu, Resource::Memory], 2);
    let outcome = bench.run(|_| vec![second(4), done(4)]).await;
    assert_eq!(outcome.aborted, None);
    assert_eq!(outcome.rounds.len(), 8);
    assert!(
        outcome.rounds.iter().all(|round| round.discarded.is_none()),
        "{outcome:?}"
    );
    bench.nothing_is_left();
    let of = |resource| {
        let unit = unit_of(resource);
        ["start-aside", "kill", "stop"].map(|word| format!("{word} {unit}"))
    };
    let expected: Vec<String> = [Resource::Cpu, Resource::Cpu, Resource::Memory, Resource::Memory]
        .into_iter()
        .flat_map(of)
        .collect();
    assert_eq!(
        bench.systemd.calls(),
        expected,
        "a start only after the end of the one before"
    );
}

#[tokio::test(start_paused = true)]
async fn danger_stops_it_at_once_and_is_laid_at_the_door_of_what_was_lent() {
    let bench = Bench::new(&[Resource::Cpu, Resource::Memory], 4);
    // Alone 4 ms; with lent work 40 ms for two seconds: the second one ends it, and nothing after it is begun.
    let outcome = bench
        .run(|round| match round {
            0 => vec![second(4), done(4)],
            1 => vec![second(40), second(40), second(4), done(40)],
            _ => panic!("a round after danger"),
        })
        .await;
    assert!(
        outcome
            .aborted
            .as_deref()
            .is_some_and(|why| why.contains("40.00 ms")),
        "{outcome:?}"
    );
    assert_eq!(outcome.harmful, Some(Resource::Cpu));
    assert_eq!(outcome.rounds.len(), 1);
    assert_eq!(outcome.left_behind, Vec::<String>::new());
    bench.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn production_in_trouble_by_itself_stops_it_too_and_blames_nobody() {
    let mut bench = Bench::new(&[Resource::Cpu], 4);
    bench.memory = Some(100);
    let outcome = bench.run(|_| vec![second(4), done(4)]).await;
    assert!(
        outcome
            .aborted
            .as_deref()
            .is_some_and(|why| why.contains("100MiB")),
        "{outcome:?}"
    );
    assert_eq!(outcome.harmful, None);
    assert_eq!(
        bench.systemd.calls(),
        Vec::<String>::new(),
        "nothing was ever started"
    );
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_a_round_that_would_not_end() {
    let bench = Bench::new(&[Resource::Cpu], 4);
    let stop = bench.stop.clone();
    let outcome = bench
        .run(move |round| {
            if round == 0 {
                return vec![done(4)];
            }
            stop.send(Some("interrupted by SIGTERM")).unwrap();
            vec![second(4)]
        })
        .await;
    assert_eq!(outcome.aborted.as_deref(), Some("interrupted by SIGTERM"));
    assert_eq!(outcome.harmful, None);
    assert!(bench.systemd.calls().iter().any(|call| call.starts_with("kill")));
    bench.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_or_falls_silent_ends_it() {
    for last in [Some(Heard::Failed("no route".into())), None] {
        let bench = Bench::new(&[Resource::Cpu], 1);
        let silent = last.is_none();
        let outcome = bench
            .run(move |round| match round {
                0 => vec![done(4)],
                _ => last.clone().into_iter().collect(),
            })
            .await;
        let why = outcome.aborted.unwrap();
        assert!(why.contains(if silent { "silent" } else { "no route" }), "{why}");
        bench.nothing_is_left();
    }
}

#[tokio::test(start_paused = true)]
async fn an_antagonist_that_cannot_start_leaves_the_others_to_be_tried() {
    for (fault, word) in [
        (Fault::StartRefused, "refuses"),
        (Fault::StartFails(203), "did not start"),
    ] {
        let bench = Bench::new(&[Resource::Cpu, Resource::Memory, Resource::Disk], 1);
        bench.systemd.fail(fault);
        let outcome = bench.run(|_| vec![done(4)]).await;
        assert_eq!(outcome.aborted, None);
        assert!(outcome.not_measured[&Resource::Cpu].contains(word), "{outcome:?}");
        assert!(
            outcome.not_measured[&Resource::Disk].contains("in memory"),
            "{outcome:?}"
        );
        let lent = |round: &&Round| round.step.side == Side::Lent;
        let tried: Vec<Resource> = outcome
            .rounds
            .iter()
            .filter(lent)
            .map(|round| round.step.resource)
            .collect();
        assert_eq!(tried, [Resource::Memory]);
        bench.nothing_is_left();
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_that_say_nothing_are_discarded_and_said() {
    let bench = Bench::new(&[Resource::Cpu], 3);
    let systemd = bench.systemd.clone();
    let outcome = bench
        .run(move |round| match round {
            1 => {
                systemd.end_unheard(&unit_of(Resource::Cpu), "oom-kill", MainEnd::Killed(9));
                vec![done(4)]
            }
            2 => vec![Heard::Done(Measured {
                lateness_p99: Span::from_millis(2),
                latencies: vec![Span::from_millis(4); 100],
                ..Measured::default()
            })],
            3 => vec![Heard::Done(Measured::default())],
            _ => vec![done(4)],
        })
        .await;
    let discarded: Vec<&str> = outcome
        .rounds
        .iter()
        .map(|round| round.discarded.as_deref().unwrap_or_default())
        .collect();
    assert_eq!(discarded.len(), 6);
    assert!(discarded[1].contains("ended by itself"), "{discarded:?}");
    assert!(discarded[2].contains("too late"), "{discarded:?}");
    assert!(discarded[3].contains("no request"), "{discarded:?}");
    assert!(
        [0, 4, 5].iter().all(|place| discarded[*place].is_empty()),
        "{discarded:?}"
    );
    bench.nothing_is_left();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lent_without_a_mark_to_stop_at() {
    let bench = Bench::new(&[Resource::Cpu], 4);
    let outcome = bench.run(|_| vec![Heard::Done(Measured::default())]).await;
    assert!(outcome.aborted.is_some_and(|why| why.contains("mark")));
    assert_eq!(bench.systemd.calls(), Vec::<String>::new());
}
