//! Stories told in text: each `scenarios/NAME.txt` is played and what placement says must equal `NAME.out`.
//!
//! `LOADLINE_GOLDEN=write cargo test -p loadline-placement --test scenarios` rewrites the outputs; read the diff.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "golden/compare.rs"]
mod golden;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use loadline_model::{
    Amounts, CpuRequest, Elastic, JobId, MilliCpu, Needs, NodeId, Tier, WallTime, WorkerRequest, Workers,
    labels_from_text,
};
use loadline_placement::{
    HeldByTier, Line, Node, NodeState, Policy, QueueEntry, Refusal, Report, Snapshot, Traits, Wanted, check,
    plan,
};

#[derive(Default)]
struct Story {
    snapshot: Snapshot,
    queue: Vec<QueueEntry>,
    placed: BTreeMap<(u8, u32), usize>,
    now: i64,
    out: String,
}

/// `key=value` words after the verb and the name.
struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    fn new(words: &[&'a str]) -> Self {
        Self(
            words
                .iter()
                .map(|word| word.split_once('=').unwrap_or((word, "")))
                .collect(),
        )
    }

    fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).copied().unwrap_or(default)
    }

    fn list(&self, key: &str) -> Vec<String> {
        self.text(key, "")
            .split(',')
            .filter(|item| !item.is_empty())
            .map(String::from)
            .collect()
    }
}

fn job_id(number: u8) -> JobId {
    JobId::from_slice(&[number; 16]).unwrap()
}

fn node_id(name: &str) -> NodeId {
    let mut bytes = [0; 16];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    NodeId::from_slice(&bytes).unwrap()
}

/// `2,3GiB` or `2,3GiB,1` with GPUs.
fn amounts(text: &str) -> Amounts {
    let mut parts = text.split(',');
    Amounts {
        cpu: parts.next().unwrap().parse().unwrap(),
        memory: parts.next().unwrap().parse().unwrap(),
        gpus: parts.next().map_or(0, |gpus| gpus.parse().unwrap()),
    }
}

fn state(word: &str) -> NodeState {
    match word {
        "ready" => NodeState::Ready,
        "suspect" => NodeState::Suspect,
        "lost" => NodeState::Lost,
        "unattended" => NodeState::Unattended,
        "draining" => NodeState::Draining,
        "never_seen" => NodeState::NeverSeen,
        "banned" => NodeState::Banned,
        other => panic!("no such state: {other}"),
    }
}

fn cpus(text: &str) -> CpuRequest {
    let amount: MilliCpu = text.parse().unwrap();
    if text.ends_with('m') {
        CpuRequest::Shared(amount)
    } else {
        CpuRequest::Exclusive(u32::try_from(amount.whole_cpus()).unwrap())
    }
}

impl Story {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["node", name, rest @ ..] => self.node(name, &Words::new(rest)),
            ["job", number, rest @ ..] => self.job(number.parse().unwrap(), &Words::new(rest)),
            ["set", name, rest @ ..] => self.set(name, &Words::new(rest)),
            ["end", worker] => self.end(worker),
            ["now", at] => self.now = at.parse().unwrap(),
            ["plan"] => self.plan(),
            _ => panic!("not understood: {line}"),
        }
    }

    fn node(&mut self, name: &str, words: &Words<'_>) {
        let firm = amounts(words.text("line", "2,4GiB"));
        let now = words.0.get("now").map_or(firm, |text| amounts(text));
        let whole = u32::try_from(firm.cpu.whole_cpus()).unwrap();
        self.snapshot.nodes.push(Node {
            id: node_id(name),
            name: name.into(),
            pool: "default".into(),
            state: state(words.text("state", "ready")),
            lending: words.text("lending", "yes") == "yes",
            line: Line {
                firm,
                now,
                whole_cpus: words.0.get("whole").map_or(whole, |text| text.parse().unwrap()),
                scratch: words.text("scratch", "0GiB").parse().unwrap(),
            },
            traits: Arc::new(Traits {
                labels: Arc::new(labels_from_text(words.text("labels", "")).unwrap()),
                taints: words
                    .list("taints")
                    .iter()
                    .map(|taint| taint.parse().unwrap())
                    .collect(),
                gpu_memory: words.text("gpu-memory", "0GiB").parse().unwrap(),
                numa: Arc::default(),
            }),
            exclusive_cpus: words.text("exclusive", "yes") == "yes",
            allow_teams: words.list("teams"),
            held: HeldByTier::default(),
        });
    }

    fn job(&mut self, number: u8, words: &Words<'_>) {
        let workers = match words.text("workers", "1").split_once('-') {
            None => Workers::Fixed(words.text("workers", "1").parse().unwrap()),
            Some((min, max)) => Workers::Elastic(Elastic {
                min: min.parse().unwrap(),
                max: max.parse().unwrap(),
            }),
        };
        let refusal = |item: &String| {
            let (node, until) = item
                .split_once('@')
                .map_or((item.as_str(), None), |(node, at)| (node, Some(at)));
            Refusal {
                node: node_id(node),
                until: until.map(|at| WallTime(at.parse().unwrap())),
                why: "its owner says so".into(),
            }
        };
        self.queue.push(QueueEntry {
            job: job_id(number),
            tier: if words.text("tier", "standard") == "burst" {
                Tier::Burst
            } else {
                Tier::Standard
            },
            number: 0,
            priority: loadline_model::Priority::NORMAL,
            time: None,
            grace: loadline_model::Span::ZERO,
            submitted_at: WallTime(words.text("at", "0").parse().unwrap()),
            request: WorkerRequest {
                cpus: cpus(words.text("cpus", "1")),
                memory: words.text("memory", "1GiB").parse().unwrap(),
                gpus: words.text("gpus", "0").parse().unwrap(),
            },
            wanted: if words.0.contains_key("gang") {
                Wanted::new(workers, 0, (0..workers.max()).collect()).gang()
            } else {
                Wanted::new(workers, 0, (0..workers.max()).collect())
            },
            needs: Arc::new(Needs {
                require: words
                    .list("require")
                    .iter()
                    .map(|it| it.parse().unwrap())
                    .collect(),
                prefer: words
                    .list("prefer")
                    .iter()
                    .map(|it| it.parse().unwrap())
                    .collect(),
                tolerate: words
                    .list("tolerate")
                    .iter()
                    .map(|it| it.parse().unwrap())
                    .collect(),
                gpu_memory: words.text("gpu-memory", "0GiB").parse().unwrap(),
                scratch: words.text("scratch", "0GiB").parse().unwrap(),
                ..Needs::default()
            }),
            ties: None,
            user: "ada".into(),
            team: words.text("team", "").into(),
            nodes: words.list("nodes"),
            refusals: words.list("refused").iter().map(refusal).collect(),
        });
    }

    fn set(&mut self, name: &str, words: &Words<'_>) {
        let node = self
            .snapshot
            .nodes
            .iter_mut()
            .find(|node| node.name == name)
            .unwrap();
        node.state = words.0.get("state").map_or(node.state, |word| state(word));
        node.line.firm = words.0.get("line").map_or(node.line.firm, |text| amounts(text));
        node.line.now = words.0.get("now").map_or(node.line.now, |text| amounts(text));
    }

    fn end(&mut self, worker: &str) {
        let (job, worker) = worker.split_once('.').unwrap();
        let (job, worker) = (job.parse().unwrap(), worker.parse().unwrap());
        let index = self.placed.remove(&(job, worker)).unwrap();
        let entry = self.queue.iter().find(|entry| entry.job == job_id(job)).unwrap();
        self.snapshot.nodes[index]
            .held
            .remove(entry.tier, &entry.request, &entry.needs);
    }

    fn plan(&mut self) {
        let now = WallTime(self.now);
        let (decided, report) = plan(&self.snapshot, &self.queue, &Policy::default(), now);
        assert_eq!(check::violations(&self.snapshot, &self.queue, &decided, now), []);
        writeln!(self.out, "plan at {}", self.now).unwrap();
        for assignment in &decided.assignments {
            let index = self
                .snapshot
                .nodes
                .iter()
                .position(|node| node.id == assignment.node)
                .unwrap();
            let entry = self
                .queue
                .iter_mut()
                .find(|entry| entry.job == assignment.job)
                .unwrap();
            self.snapshot.nodes[index]
                .held
                .add(entry.tier, &entry.request, &entry.needs);
            entry.wanted.missing.retain(|worker| *worker != assignment.worker);
            entry.wanted.needed = entry.wanted.needed.saturating_sub(1);
            let number = assignment.job.as_bytes()[0];
            self.placed.insert((number, assignment.worker), index);
            let name = &self.snapshot.nodes[index].name;
            writeln!(self.out, "  {number}.{} -> {name}", assignment.worker).unwrap();
        }
        render(&mut self.out, &report);
    }
}

fn render(out: &mut String, report: &Report) {
    for waiting in &report.waiting {
        let number = waiting.job.as_bytes()[0];
        let why = &waiting.why;
        writeln!(out, "  {number} waits with {}: {}", waiting.workers, why.phrase()).unwrap();
        for reason in &why.reasons {
            let examples = reason.examples.join(" ");
            let word = reason.code.word();
            writeln!(
                out,
                "    {word} {} [{examples}] {}",
                reason.nodes, reason.sentence
            )
            .unwrap();
        }
        writeln!(out, "    {} nodes considered. {}", why.considered, why.advice()).unwrap();
    }
}

fn play(text: &str) -> String {
    let mut story = Story::default();
    for line in golden::lines(text) {
        story.line(line);
    }
    story.out
}

#[test]
fn every_scenario_says_what_its_golden_file_says() {
    golden::compare("scenarios", 10, play);
}
