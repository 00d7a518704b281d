use super::*;
use crate::check;
use crate::sample;
use alloc::string::ToString;
use alloc::vec::Vec;
use loadline_model::{Bytes, CpuRequest, JobDraft, Tier};
use proptest::prelude::*;

fn spec() -> JobSpec {
    JobSpec::new(JobDraft {
        time: Some(Span::from_secs(60)),
        grace: Some(Span::from_secs(10)),
        ..sample::draft(Tier::Standard, CpuRequest::Exclusive(1), Bytes::from_mib(64))
    })
    .unwrap()
}

fn at(secs: u64) -> Moment {
    Moment {
        boot: Span::from_secs(secs),
        wall: WallTime(i64::try_from(secs).unwrap() * 1_000_000 + 7),
    }
}

fn clock(spent: u64, counted_to: u64) -> RunClock {
    RunClock {
        spent: Span::from_secs(spent),
        counted_to: Span::from_secs(counted_to),
    }
}

fn lives() -> [(&'static str, Life); 6] {
    let ended = Ended {
        reason: EndReason::Exited { code: 0 },
        at: WallTime(1),
        peaks: Peaks::default(),
        detail: String::new(),
    };
    let kill_at = Span::from_secs(130);
    [
        ("accepted", Life::Accepted),
        (
            "starting",
            Life::Starting {
                asked_at: Span::from_secs(90),
            },
        ),
        ("running", Life::Running { clock: clock(0, 100) }),
        ("squeezed", Life::Squeezed { clock: clock(0, 100) }),
        (
            "stopping",
            Life::Stopping {
                why: StopWhy::Cancelled,
                detail: "by alice".into(),
                kill_at,
            },
        ),
        ("ended", Life::Ended { ended }),
    ]
}

fn exit(code: u8) -> Event {
    let result = if code == 0 { "success" } else { "exit-code" };
    let end = UnitEnd {
        result: result.into(),
        main: MainEnd::Exited(code),
    };
    Event::UnitEnded {
        end,
        peaks: Peaks::default(),
        at: WallTime(5),
    }
}

fn events() -> Vec<(&'static str, Event)> {
    let stop = |why| Event::StopOrdered {
        why,
        grace: Span::from_secs(5),
        detail: "x".into(),
    };
    Vec::from([
        (
            "refused",
            Event::Refused {
                for_good: true,
                sentence: "no".into(),
            },
        ),
        ("start_asked", Event::StartAsked),
        ("started", Event::Started),
        (
            "start_failed",
            Event::StartFailed {
                sentence: "no".into(),
            },
        ),
        ("tick", Event::Tick),
        ("squeezed", Event::Squeezed),
        ("released", Event::Released),
        ("cancel", stop(StopWhy::Cancelled)),
        ("evict", stop(StopWhy::Evicted)),
        ("memory", stop(StopWhy::OutOfMemory)),
        ("exit_7", exit(7)),
        ("exit_203", exit(203)),
        ("vanished", Event::UnitVanished),
        ("reboot", Event::RebootSeen),
    ])
}

/// What becomes of it, in a word: `-` nothing, `!` a contradiction, `stop:` asks for a stop.
fn word(outcome: &Outcome) -> String {
    let life = |life: &Life| match life {
        Life::Ended { ended } => ended.reason.word().to_string(),
        other => other.phase().word().to_string(),
    };
    match outcome {
        Outcome::Unchanged => "-".into(),
        Outcome::Contradiction(_) => "!".into(),
        Outcome::Moved(moved) => life(moved),
        Outcome::Stop(stopped) => format!("stop:{}", life(stopped)),
    }
}

#[test]
fn every_state_and_event_has_its_outcome() {
    // One row a state, one column an event, in the order of `lives` and `events`.
    let table = "
        accepted refused  starting running start_failed - -        -        cancelled     evicted       out_of_memory exited    exited       -         node_rebooted
        starting !        -        running start_failed - -        -        stop:stopping stop:stopping stop:stopping exited    start_failed node_lost node_rebooted
        running  !        -        -       !            - squeezed -        stop:stopping stop:stopping stop:stopping exited    exited       node_lost node_rebooted
        squeezed !        -        -       !            - -        running  stop:stopping stop:stopping stop:stopping exited    exited       node_lost node_rebooted
        stopping !        -        -       cancelled    - -        -        -             -             -             cancelled cancelled    cancelled node_rebooted
        ended    -        !        !       -            - -        -        -             -             -             -         -            -         -
    ";
    let rows: Vec<Vec<&str>> = table
        .trim()
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    for ((name, life), row) in lives().iter().zip(&rows) {
        assert_eq!((row[0], row.len()), (*name, events().len() + 1));
        for ((event_name, event), expected) in events().iter().zip(&row[1..]) {
            let outcome = step(life, event, Some(&spec()), at(110));
            assert_eq!(word(&outcome), *expected, "{name} × {event_name}");
        }
    }
}

#[test]
fn the_time_limit_counts_only_time_in_which_it_could_run() {
    let spec = spec();
    let mut life = Life::Running { clock: clock(0, 100) };
    let mut go = |event: Event, secs: u64| {
        let outcome = step(&life, &event, Some(&spec), at(secs));
        if let Outcome::Moved(next) | Outcome::Stop(next) = &outcome {
            life = next.clone();
        }
        outcome
    };
    assert_eq!(go(Event::Tick, 159), Outcome::Unchanged);
    assert!(matches!(
        go(Event::Squeezed, 150),
        Outcome::Moved(Life::Squeezed { .. })
    ));
    assert_eq!(
        go(Event::Tick, 1_000),
        Outcome::Unchanged,
        "squeezed time stands still"
    );
    assert!(matches!(
        go(Event::Released, 1_000),
        Outcome::Moved(Life::Running { .. })
    ));
    assert_eq!(go(Event::Tick, 1_009), Outcome::Unchanged, "50 s and 9 s of 60");
    let Outcome::Stop(Life::Stopping { why, kill_at, detail }) = go(Event::Tick, 1_010) else {
        panic!("the limit is reached");
    };
    assert_eq!((why, kill_at), (StopWhy::TimeLimit, Span::from_secs(1_020)));
    assert_eq!(detail, "it ran for its limit of 1m; ask for more with `time`");
}

#[test]
fn a_stop_order_grants_at_most_the_job_s_own_grace() {
    let running = Life::Running { clock: clock(0, 100) };
    for (grace, kill_at) in [(5, 105), (99, 110)] {
        let event = Event::StopOrdered {
            why: StopWhy::Cancelled,
            grace: Span::from_secs(grace),
            detail: String::new(),
        };
        let Outcome::Stop(Life::Stopping { kill_at: got, .. }) =
            step(&running, &event, Some(&spec()), at(100))
        else {
            panic!("it stops");
        };
        assert_eq!(got, Span::from_secs(kill_at));
    }
}

#[test]
fn an_orphan_can_be_stopped_and_ends_without_a_specification() {
    let running = Life::Running { clock: clock(0, 100) };
    let stop = Event::StopOrdered {
        why: StopWhy::Cancelled,
        grace: Span(u64::MAX),
        detail: String::new(),
    };
    let Outcome::Stop(Life::Stopping { kill_at, .. }) = step(&running, &stop, None, at(100)) else {
        panic!("it stops");
    };
    assert_eq!(kill_at, Span::from_secs(130));
    assert_eq!(word(&step(&running, &exit(0), None, at(100))), "exited");
    assert_eq!(
        word(&step(&running, &Event::Tick, None, at(1_000_000))),
        "-",
        "no limit is known"
    );
}

fn reason(result: &str, main: MainEnd, had_started: bool) -> (EndReason, String) {
    let peaks = Peaks {
        memory: Some(Bytes::from_mib(63)),
        ..Peaks::default()
    };
    end_reason(
        &UnitEnd {
            result: result.into(),
            main,
        },
        &peaks,
        Some(&spec()),
        had_started,
    )
}

/// systemd's result and exit, whether the command had started, and what is made of it.
const ENDS: [(&str, MainEnd, bool, EndReason, &str); 13] = [
    (
        "success",
        MainEnd::Exited(0),
        true,
        EndReason::Exited { code: 0 },
        "",
    ),
    (
        "exit-code",
        MainEnd::Exited(7),
        true,
        EndReason::Exited { code: 7 },
        "",
    ),
    (
        "exit-code",
        MainEnd::Exited(203),
        true,
        EndReason::Exited { code: 203 },
        "",
    ),
    (
        "exit-code",
        MainEnd::Exited(203),
        false,
        EndReason::StartFailed,
        "command not found, or not executable by the account: `work`; give its full path, or a name in PATH",
    ),
    (
        "exit-code",
        MainEnd::Exited(200),
        false,
        EndReason::StartFailed,
        "the working directory `~` does not exist, or the account may not enter it",
    ),
    (
        "exit-code",
        MainEnd::Exited(217),
        false,
        EndReason::StartFailed,
        "the account does not exist on this node",
    ),
    (
        "exit-code",
        MainEnd::Exited(7),
        false,
        EndReason::Exited { code: 7 },
        "",
    ),
    (
        "resources",
        MainEnd::Unknown,
        false,
        EndReason::StartFailed,
        "systemd could not start it: resources; see `journalctl -u` on the node",
    ),
    (
        "signal",
        MainEnd::Killed(9),
        true,
        EndReason::Signalled { signal: 9 },
        "ended by SIGKILL",
    ),
    (
        "core-dump",
        MainEnd::Killed(11),
        true,
        EndReason::Signalled { signal: 11 },
        "ended by SIGSEGV, with a core dump",
    ),
    (
        "signal",
        MainEnd::Killed(40),
        true,
        EndReason::Signalled { signal: 40 },
        "ended by 40",
    ),
    (
        "oom-kill",
        MainEnd::Killed(9),
        true,
        EndReason::OutOfMemory,
        "it reached its memory limit of 64MiB (peak 63MiB); ask for more with `worker.memory`, or use less",
    ),
    (
        "protocol",
        MainEnd::Unknown,
        true,
        EndReason::NodeLost,
        "systemd reports `protocol` and not how its main process ended",
    ),
];

#[test]
fn systemd_s_words_become_ours() {
    for (result, main, had_started, expected, detail) in ENDS {
        assert_eq!(
            reason(result, main, had_started),
            (expected, detail.into()),
            "{result} {main:?}"
        );
    }
}

#[test]
fn every_spawn_failure_of_systemd_has_a_sentence() {
    // 223 and 234 are not assigned.
    for status in (200..=243).filter(|status| ![223, 234].contains(status)) {
        let sentence = start_failure(status, Some(&spec())).unwrap();
        assert!(sentence.len() > 20, "{status}: {sentence}");
        assert_eq!(
            reason("exit-code", MainEnd::Exited(status), false).0,
            EndReason::StartFailed
        );
    }
    for status in [0, 1, 127, 199, 223, 234, 244, 255] {
        assert_eq!(start_failure(status, None), None);
    }
}

proptest! {
    /// Any events in any order: what is over stays as it ended, nothing goes back, and no time is counted twice.
    #[test]
    fn any_history_is_sound(history in prop::collection::vec((0usize..13, 0u64..400), 0..40)) {
        let (events, spec) = (events(), spec());
        let mut life = Life::Accepted;
        for (index, secs) in history {
            match step(&life, &events[index].1, Some(&spec), at(secs)) {
                Outcome::Moved(next) | Outcome::Stop(next) => {
                    prop_assert_eq!(check::succession(&life, &next), Vec::<String>::new());
                    if let Life::Running { clock } | Life::Squeezed { clock } = &next {
                        prop_assert!(clock.spent <= Span::from_secs(400), "{:?}", clock);
                    }
                    life = next;
                }
                Outcome::Unchanged | Outcome::Contradiction(_) => {}
            }
        }
    }
}
