//! Stories told in text: each `FOLDER/NAME.txt` is played by the real planner in virtual time, and what happens must
//! equal `NAME.out` beside it.
//!
//! A story with `plan` lines says when to plan, and what placement says of who waits is told each time; one without is
//! played to its end. `LOADLINE_GOLDEN=write cargo test -p loadline-placement --test stories` rewrites the outputs; read
//! the diff.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "stories/golden.rs"]
mod golden;
#[path = "stories/words.rs"]
mod words;

use std::collections::BTreeMap;
use std::fmt::Write;

use loadline_model::{LocalTime, NodeId, Span, WallTime};
use loadline_placement::sim::{Fleet, Happened, Planned, What, Work, play};
use loadline_placement::{Node, Policy, Report, check};

use words::Words;

/// 1970 began on a Thursday; stories begin on a Monday.
const MONDAY: WallTime = WallTime(4 * 86_400_000_000);

struct Story {
    fleet: Fleet,
    /// By name.
    nodes: BTreeMap<String, Node>,
    /// By number.
    names: BTreeMap<u64, String>,
    jobs: Vec<(WallTime, Work)>,
    planned: bool,
    out: String,
}

impl Story {
    fn new() -> Self {
        let mut fleet = Fleet::new(Policy::default());
        fleet.go_to(MONDAY);
        Self {
            fleet,
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            jobs: Vec::new(),
            planned: false,
            out: String::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["machine", cpus] => self.node("machine", &Words::new(&[&format!("line={cpus},1000GiB")])),
            ["node", name, rest @ ..] => self.node(name, &Words::new(rest)),
            ["set", name, rest @ ..] => {
                let node = self.nodes.get_mut(*name).unwrap();
                Words::new(rest).change(node);
                self.fleet.put_node(node.clone()).unwrap();
            }
            ["team", name, rest @ ..] => self.fleet.set_team(name, Words::new(rest).team()),
            ["burst", rest @ ..] => self.fleet.set_burst(Words::new(rest).windows()),
            ["job", name, rest @ ..] => self.job(name, &Words::new(rest)),
            ["end", worker] => {
                let (job, worker) = worker.split_once('.').unwrap();
                let number = self.number(job);
                assert!(
                    self.fleet.finish(number, worker.parse().unwrap()),
                    "{line}: it does not run"
                );
            }
            ["now", after] => self.fleet.go_to(MONDAY.plus(after.parse().unwrap())),
            ["plan"] => self.plan(),
            _ => panic!("not understood: {line}"),
        }
    }

    fn node(&mut self, name: &str, words: &Words<'_>) {
        let node = words.node(name);
        self.fleet.put_node(node.clone()).unwrap();
        self.nodes.insert(name.into(), node);
    }

    fn number(&self, name: &str) -> u64 {
        let mut names = self.names.iter();
        *names.find(|(_, known)| *known == name).unwrap().0
    }

    /// A job, or `times` of them. One without a number for a name gets the next.
    fn job(&mut self, name: &str, words: &Words<'_>) {
        for time in 1..=words.text("times", "1").parse::<u32>().unwrap() {
            let full = if time == 1 {
                name.to_owned()
            } else {
                format!("{name}{time}")
            };
            let next = self.names.keys().last().map_or(1, |last| last + 1);
            let number = full.parse().unwrap_or(next);
            self.names.insert(number, full);
            let at = MONDAY.plus(words.span("at").unwrap_or_default());
            self.jobs.push((at, words.work(number, MONDAY)));
        }
    }

    fn plan(&mut self) {
        self.planned = true;
        for (at, work) in self.jobs.drain(..) {
            self.fleet.submit_at(work, at);
        }
        let mut judge = |planned: &Planned<'_>| {
            let Planned {
                snapshot,
                queue,
                sharing,
                plan,
                now,
            } = planned;
            assert_eq!(check::violations(snapshot, queue, plan, *now), []);
            assert_eq!(check::unfair(snapshot, queue, sharing, plan), []);
        };
        let happened = self.fleet.step_judged(Some(&mut judge));
        writeln!(self.out, "plan at {}", self.fleet.now().since(MONDAY).as_secs()).unwrap();
        for it in happened {
            let worker = format!("{}.{}", self.names[&it.number], it.worker);
            let node = self.node_name(it.node).to_owned();
            match it.what {
                What::Started => writeln!(self.out, "  {worker} -> {node}").unwrap(),
                What::Asked { to } => {
                    writeln!(self.out, "  {worker} on {node} yields to {}", self.names[&to]).unwrap();
                }
                What::Gone => writeln!(self.out, "  {worker} is gone from {node}").unwrap(),
                What::Ended => {}
            }
        }
        let report = self.fleet.planner().report(self.fleet.now());
        self.render(&report);
    }

    fn node_name(&self, id: NodeId) -> &str {
        let mut nodes = self.nodes.values();
        &nodes.find(|node| node.id == id).unwrap().name
    }

    fn render(&mut self, report: &Report) {
        for waiting in &report.waiting {
            let mut names = self.names.iter();
            let (_, name) = names
                .find(|(number, _)| Work::id(**number) == waiting.job)
                .unwrap();
            let why = &waiting.why;
            writeln!(
                self.out,
                "  {name} waits with {}: {}",
                waiting.workers,
                why.phrase()
            )
            .unwrap();
            for reason in &why.reasons {
                let examples = reason.examples.join(" ");
                let word = reason.code.word();
                writeln!(
                    self.out,
                    "    {word} {} [{examples}] {}",
                    reason.nodes, reason.sentence
                )
                .unwrap();
            }
            writeln!(
                self.out,
                "    {} nodes considered. {}",
                why.considered,
                why.advice()
            )
            .unwrap();
        }
    }

    /// Plays it to its end: starts in order of time, with how long each waited; who yields; then who never started.
    fn play(mut self) -> String {
        if self.planned {
            return self.out;
        }
        let jobs = std::mem::take(&mut self.jobs);
        let workers = |(at, work): &(WallTime, Work)| {
            let (number, at) = (work.number, *at);
            (0..work.workers.max()).map(move |worker| ((number, worker), at))
        };
        let mut waits: Waits = jobs.iter().flat_map(workers).collect();
        let (mut out, names) = (String::new(), &self.names);
        let mut ascending = jobs.clone();
        ascending.sort_by_key(|(at, _)| *at);
        play(&mut self.fleet, &ascending, &mut |fleet, happened| {
            if let Some(it) = happened {
                tell(&mut out, fleet, it, names, &mut waits);
            }
        });
        for (number, worker) in waits.into_keys() {
            let work = self.fleet.work(number).unwrap();
            writeln!(out, "never      {}", who(work, worker, names)).unwrap();
        }
        out
    }
}

/// The workers that never started, each with when it was submitted.
type Waits = BTreeMap<(u64, u32), WallTime>;

fn who(work: &Work, worker: u32, names: &BTreeMap<u64, String>) -> String {
    let team = if work.team.is_empty() {
        String::new()
    } else {
        format!(" ({})", work.team)
    };
    let worker = if work.workers.max() > 1 {
        format!(".{worker}")
    } else {
        String::new()
    };
    format!("{}{worker} of {}{team}", names[&work.number], work.user)
}

fn tell(out: &mut String, fleet: &Fleet, it: &Happened, names: &BTreeMap<u64, String>, waits: &mut Waits) {
    let work = fleet.work(it.number).unwrap();
    let what = match it.what {
        What::Started => {
            let cpus = work.request.cpus.amount().whole_cpus();
            match waits
                .remove(&(it.number, it.worker))
                .map(|since| it.at.since(since))
            {
                Some(Span::ZERO) => format!("starts on {cpus}, at once"),
                Some(waited) => format!("starts on {cpus}, after {waited}"),
                None => format!("starts on {cpus} once more"),
            }
        }
        What::Asked { to } => format!("is asked to make room for {}", names[&to]),
        What::Gone => "has made room".into(),
        What::Ended => return,
    };
    writeln!(out, "{} {} {what}", clock(it.at), who(work, it.worker, names)).unwrap();
}

fn clock(at: WallTime) -> String {
    let LocalTime { day, minute } = LocalTime::utc(at);
    format!("{day:?} {:02}:{:02} ", minute / 60, minute % 60)
}

fn told(text: &str) -> String {
    let mut story = Story::new();
    for line in golden::lines(text) {
        story.line(line);
    }
    story.play()
}

#[test]
fn every_scenario_says_what_its_golden_file_says() {
    golden::compare("scenarios", 15, told);
}

#[test]
fn every_queue_goes_as_its_golden_file_says() {
    golden::compare("queue", 8, told);
}
