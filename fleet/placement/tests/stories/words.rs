//! `key=value` words of a line, and what they say of nodes, teams and jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use loadline_model::{
    Amounts, CpuRequest, Elastic, MilliCpu, Needs, NodeId, Priority, Span, Tier, WallTime, WeekSpan,
    WorkerRequest, Workers, labels_from_text,
};
use loadline_placement::policy::{AtOnce, Budget, Period, Quota, Team, Windows};
use loadline_placement::sim::Work;
use loadline_placement::{HeldByTier, Line, Node, NodeState, Refusal, Traits};

/// A worker that runs until the story ends it.
const FOR_EVER: Span = Span(u64::MAX);

pub(crate) struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Words<'a> {
    pub(crate) fn new(words: &[&'a str]) -> Self {
        let pairs = words
            .iter()
            .map(|word| word.split_once('=').unwrap_or((word, "")));
        Self(pairs.collect())
    }

    pub(crate) fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).copied().unwrap_or(default)
    }

    pub(crate) fn span(&self, key: &str) -> Option<Span> {
        self.0.get(key).map(|text| text.parse().unwrap())
    }

    /// With `,` between.
    fn list<T>(&self, key: &str, item: impl Fn(&str) -> T) -> Vec<T> {
        let items = self.text(key, "").split(',');
        items.filter(|text| !text.is_empty()).map(item).collect()
    }

    /// `Mon-Fri,19:00,07:00`, several with `;` between.
    pub(crate) fn windows(&self) -> Windows {
        let window = |text: &str| {
            let parts: Vec<&str> = text.split(',').collect();
            WeekSpan {
                days: parts[0].parse().unwrap(),
                from: parts[1].parse().unwrap(),
                to: parts[2].parse().unwrap(),
            }
        };
        let all = self.text("windows", "").split(';');
        Windows(all.filter(|text| !text.is_empty()).map(window).collect())
    }

    fn cpus(&self, key: &str) -> AtOnce {
        let cpu = self.0.get(key).map(|text| text.parse::<MilliCpu>().unwrap());
        AtOnce {
            cpu,
            ..AtOnce::default()
        }
    }

    pub(crate) fn team(&self) -> Team {
        let budget = self.0.get("cpu-hours-a-day").map(|hours| Budget {
            period: Period::DAY,
            cpu_hours: Some(hours.parse().unwrap()),
            gib_hours: None,
            gpu_hours: None,
        });
        Team {
            weight: self.text("weight", "100").parse().unwrap(),
            quota: Quota {
                team: self.cpus("cpus"),
                user: self.cpus("cpus-a-user"),
                budget,
            },
            windows: self.windows(),
        }
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        let firm = amounts(self.text("line", "2,4GiB"));
        let whole = u32::try_from(firm.cpu.whole_cpus()).unwrap();
        let mut node = Node {
            id: node_id(name),
            name: name.into(),
            pool: "default".into(),
            state: NodeState::Ready,
            lending: self.text("lending", "yes") == "yes",
            line: Line {
                firm,
                now: firm,
                whole_cpus: self.0.get("whole").map_or(whole, |text| text.parse().unwrap()),
                scratch: self.text("scratch", "0GiB").parse().unwrap(),
            },
            traits: Arc::new(Traits {
                labels: Arc::new(labels_from_text(self.text("labels", "")).unwrap()),
                taints: self
                    .list("taints", |taint| taint.parse().unwrap())
                    .into_iter()
                    .collect(),
                gpu_memory: self.text("gpu-memory", "0GiB").parse().unwrap(),
                numa: Arc::default(),
            }),
            exclusive_cpus: self.text("exclusive", "yes") == "yes",
            allow_teams: self.list("teams", str::to_owned),
            held: HeldByTier::default(),
        };
        self.change(&mut node);
        node
    }

    /// What may change of a node.
    pub(crate) fn change(&self, node: &mut Node) {
        node.state = self.0.get("state").map_or(node.state, |word| state(word));
        node.line.firm = self.0.get("line").map_or(node.line.firm, |text| amounts(text));
        node.line.now = self.0.get("now").map_or(node.line.now, |text| amounts(text));
    }

    pub(crate) fn work(&self, number: u64, begin: WallTime) -> Work {
        let all = self.text("workers", "1");
        let workers = match all.split_once('-') {
            None => Workers::Fixed(all.parse().unwrap()),
            Some((min, max)) => Workers::Elastic(Elastic {
                min: min.parse().unwrap(),
                max: max.parse().unwrap(),
            }),
        };
        let refusal = |item: &str| {
            let (node, until) = item
                .split_once('@')
                .map_or((item, None), |(node, at)| (node, Some(at)));
            Refusal {
                node: node_id(node),
                until: until.map(|after| begin.plus(after.parse().unwrap())),
                why: "its owner says so".into(),
            }
        };
        let request = WorkerRequest {
            cpus: cpus(self.text("cpus", "1")),
            memory: self.text("memory", "1GiB").parse().unwrap(),
            gpus: self.text("gpus", "0").parse().unwrap(),
        };
        let runs = self.span("runs");
        Work {
            workers,
            gang: self.0.contains_key("gang"),
            needs: Arc::new(self.needs()),
            time: self.span("asked").or(runs),
            grace: self.span("grace").unwrap_or_default(),
            tier: if self.text("tier", "standard") == "burst" {
                Tier::Burst
            } else {
                Tier::Standard
            },
            priority: Priority(self.text("priority", "0").parse().unwrap()),
            user: self.text("user", "ada").into(),
            team: self.text("team", "").into(),
            nodes: self.list("nodes", str::to_owned),
            refusals: self.list("refused", refusal),
            ..Work::new(number, request, runs.unwrap_or(FOR_EVER))
        }
    }

    fn needs(&self) -> Needs {
        Needs {
            require: self.list("require", |it| it.parse().unwrap()),
            prefer: self.list("prefer", |it| it.parse().unwrap()),
            tolerate: self.list("tolerate", |it| it.parse().unwrap()),
            gpu_memory: self.text("gpu-memory", "0GiB").parse().unwrap(),
            scratch: self.text("scratch", "0GiB").parse().unwrap(),
            ..Needs::default()
        }
    }
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
