//! Queues told in text: each `queue/NAME.txt` is played in virtual time and what happens must equal `NAME.out`.
//!
//! `LOADLINE_GOLDEN=write cargo test -p loadline-placement --test queue_stories` rewrites the outputs; read the diff.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "golden/compare.rs"]
mod golden;

use std::collections::BTreeMap;
use std::fmt::Write;

use loadline_model::{MilliCpu, Span, Tier, WallTime, WeekSpan};
use loadline_placement::policy::{AtOnce, Budget, Period, Priority, Quota, Team, Windows};
use loadline_placement::sim::{Load, Ours, OursRules, SimJob, simulate};

struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    fn new(words: &[&'a str]) -> Self {
        Self(words.iter().map(|word| word.split_once('=').unwrap()).collect())
    }

    fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).copied().unwrap_or(default)
    }

    fn span(&self, key: &str, default: &'a str) -> Span {
        self.text(key, default).parse().unwrap()
    }

    /// `Mon-Fri,19:00,07:00`, several with `;` between.
    fn windows(&self) -> Windows {
        let window = |text: &str| {
            let parts: Vec<&str> = text.split(',').collect();
            WeekSpan {
                days: parts[0].parse().unwrap(),
                from: parts[1].parse().unwrap(),
                to: parts[2].parse().unwrap(),
            }
        };
        let all = self.text("windows", "");
        Windows(
            all.split(';')
                .filter(|text| !text.is_empty())
                .map(window)
                .collect(),
        )
    }

    fn cpus(&self, key: &str) -> AtOnce {
        let cpu = self.0.get(key).map(|text| text.parse::<MilliCpu>().unwrap());
        AtOnce {
            cpu,
            ..AtOnce::default()
        }
    }
}

#[derive(Default)]
struct Story {
    load: Load,
    names: BTreeMap<usize, String>,
    teams: Vec<(String, Team)>,
    burst: Windows,
}

impl Story {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["machine", processors] => self.load.processors = processors.parse().unwrap(),
            ["team", name, rest @ ..] => self.team(name, &Words::new(rest)),
            ["burst", rest @ ..] => self.burst = Words::new(rest).windows(),
            ["job", name, rest @ ..] => self.job(name, &Words::new(rest)),
            _ => panic!("not understood: {line}"),
        }
    }

    fn team(&mut self, name: &str, words: &Words<'_>) {
        let budget = words.0.get("cpu-hours-a-day").map(|hours| Budget {
            period: Period::DAY,
            cpu_hours: Some(hours.parse().unwrap()),
            gib_hours: None,
            gpu_hours: None,
        });
        let team = Team {
            weight: words.text("weight", "100").parse().unwrap(),
            quota: Quota {
                team: words.cpus("cpus"),
                user: words.cpus("cpus-a-user"),
                budget,
            },
            windows: words.windows(),
        };
        self.teams.push((name.into(), team));
    }

    fn job(&mut self, name: &str, words: &Words<'_>) {
        let runs = words.span("runs", "1h");
        for number in 0..words.text("times", "1").parse::<u32>().unwrap() {
            let full = if number == 0 {
                name.to_owned()
            } else {
                format!("{name}{}", number + 1)
            };
            self.names.insert(self.load.jobs.len(), full);
            self.load.jobs.push(SimJob {
                submitted: WallTime(0).plus(words.span("at", "0s")),
                runs,
                asked: words.0.get("asked").map_or(runs, |text| text.parse().unwrap()),
                processors: words.text("cpus", "1").parse().unwrap(),
                user: words.text("user", "ada").into(),
                team: words.text("team", "vision").into(),
                tier: if words.text("tier", "standard") == "burst" {
                    Tier::Burst
                } else {
                    Tier::Standard
                },
                priority: Priority(words.text("priority", "0").parse().unwrap()),
            });
        }
    }

    /// Starts in order of time, with how long each waited; then who never started.
    fn play(self) -> String {
        let rules = OursRules::default();
        let mut ours = Ours::new(self.load.processors, rules).with_burst(self.burst);
        for (name, team) in self.teams {
            ours = ours.with_team(&name, team);
        }
        let outcome = simulate(&self.load, &mut ours);
        let mut lines: Vec<(Option<WallTime>, usize)> = outcome
            .started
            .iter()
            .enumerate()
            .map(|(place, at)| (*at, place))
            .collect();
        lines.sort_by_key(|(at, place)| (at.is_none(), *at, *place));
        let mut out = String::new();
        for (at, place) in lines {
            let (name, job) = (&self.names[&place], &self.load.jobs[place]);
            let who = format!("{name} of {} ({})", job.user, job.team);
            match at {
                None => writeln!(out, "never      {who}").unwrap(),
                Some(at) => {
                    let waited = at.since(job.submitted);
                    let waited = if waited.0 == 0 {
                        "at once".into()
                    } else {
                        format!("after {waited}")
                    };
                    writeln!(out, "{} {who} starts on {}, {waited}", clock(at), job.processors).unwrap();
                }
            }
        }
        out
    }
}

fn clock(at: WallTime) -> String {
    let minutes = at.0 / 60_000_000;
    let day = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][usize::try_from(minutes / 1440 % 7).unwrap()];
    format!("{day} {:02}:{:02} ", minutes / 60 % 24, minutes % 60)
}

fn play(text: &str) -> String {
    let mut story = Story::default();
    for line in golden::lines(text) {
        story.line(line);
    }
    story.play()
}

#[test]
fn every_queue_goes_as_its_golden_file_says() {
    golden::compare("queue", 7, play);
}
