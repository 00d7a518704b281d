//! What comes out of a test: the report from its parts, signed, printed and kept.

use std::fs;
use std::path::Path;

use loadline_model::Span;
use loadline_policy::line::Line;
use loadline_policy::prove::Resource;
use loadline_policy::prove::estimate::Verdict;
use loadline_policy::prove::plan::Asked;

use super::{KEY, Machine, ProveError};
use crate::agent::durable::stage;
use crate::prove::cli::{Arguments, Output};
use crate::prove::flow::{Outcome, Task};
use crate::prove::handover::Texts;
use crate::prove::report::{
    AskedFacts, FORMAT, LineFacts, NodeFacts, NodeKey, Report, SignError, Signed, VERSION, page, screen,
};
use crate::prove::summary::summarise;
use crate::sentence::say;

/// All that a report is made of beside the outcome.
pub(super) struct Made<'a> {
    pub(super) machine: &'a Machine,
    pub(super) asked: &'a Asked,
    pub(super) task: &'a Task,
    pub(super) line: &'a Line,
    pub(super) workers: usize,
    pub(super) begun_us: i64,
    pub(super) took: Span,
}

impl Made<'_> {
    pub(super) fn report(&self, outcome: &Outcome) -> Report {
        let Self {
            machine,
            asked,
            task,
            line,
            ..
        } = *self;
        Report {
            format: FORMAT.into(),
            version: VERSION,
            begun_us: self.begun_us,
            begun: date(self.begun_us, "%Y-%m-%d %H:%M %Z"),
            took_us: self.took.0,
            program: format!("loadline-warden {}", env!("CARGO_PKG_VERSION")),
            node: node_facts(machine),
            line: LineFacts {
                cpu_millicpu: line.cpu.now.0,
                memory_bytes: line.memory.now.0,
                held_by: held_by(task.hold_line).into(),
            },
            asked: AskedFacts {
                probe: task.target.to_string(),
                rate_per_s: task.rate,
                rounds: asked.rounds,
                round_us: asked.round.0,
                limit_us: asked.limit.0,
                seed: task.seed,
                workers: self.workers as u64,
            },
            aborted: outcome.aborted.clone(),
            left_behind: outcome.left_behind.clone(),
            resources: named_resources(asked)
                .map(|resource| summarise(outcome, resource, task.seed))
                .collect(),
        }
    }
}

fn named_resources(asked: &Asked) -> impl Iterator<Item = Resource> {
    Resource::ALL
        .into_iter()
        .filter(|resource| asked.resources.contains(resource))
}

const fn held_by(hold_line: bool) -> &'static str {
    if hold_line {
        "the test itself: a CPU quota of the line at the start of each round"
    } else {
        "the running warden"
    }
}

fn node_facts(machine: &Machine) -> NodeFacts {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    NodeFacts {
        name: name.unwrap_or_else(|_| "this machine".into()),
        cpus: machine.topology.cpus().len(),
        memory_bytes: machine.topology.memory().0,
        kernel: machine.facts.kernel.clone(),
        os: machine.facts.os.clone(),
        systemd: machine.version.clone(),
        mode: machine.policy.lend.mode.word().into(),
    }
}

/// In the machine's own time zone; microseconds where that cannot be said.
fn date(micros: i64, form: &str) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(moment) => moment
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime(form)
            .to_string(),
        Err(_) => micros.to_string(),
    }
}

/// Signs, and gives all forms of it.
pub(in crate::prove) fn texts(report: Report) -> Result<Texts, ProveError> {
    let (text, whole) = (screen(&report), report.is_whole());
    let cost = report
        .resources
        .iter()
        .any(|resource| resource.verdict == Verdict::Cost);
    let signed = match NodeKey::of(Path::new(KEY)).and_then(|key| key.sign(report)) {
        Ok(signed) => signed,
        Err(problem) => {
            // What was measured must not be lost with the signature: the journal keeps it.
            say(text.trim_end());
            return Err(problem.into());
        }
    };
    let json = signed.json().map_err(SignError::from)?;
    let html = page(&signed, &json);
    Ok(Texts {
        text,
        json,
        html,
        whole,
        cost,
    })
}

/// Signs, keeps and prints.
pub(super) fn deliver(arguments: &Arguments, report: Report) -> Result<(), ProveError> {
    let text = screen(&report);
    let signed = match NodeKey::of(Path::new(KEY)).and_then(|key| key.sign(report)) {
        Ok(signed) => signed,
        Err(problem) => {
            // What was measured must not be lost with the signature.
            say(text.trim_end());
            return Err(problem.into());
        }
    };
    let json = signed.json().map_err(SignError::from)?;
    match arguments.output {
        Output::Text => say(text.trim_end()),
        Output::Json => say(&json),
        Output::Html => say(page(&signed, &json)),
    }
    match &arguments.report {
        Some(folder) => keep(folder, &signed, &text, &json),
        None => Ok(()),
    }
}

fn keep(folder: &Path, signed: &Signed, text: &str, json: &str) -> Result<(), ProveError> {
    let readable_by_all = 0o644;
    fs::create_dir_all(folder).map_err(|source| ProveError::Folder {
        path: folder.into(),
        source,
    })?;
    let stem = format!("prove-{}", date(signed.report.begun_us, "%Y%m%d-%H%M%S"));
    let page = page(signed, json);
    for (ending, content) in [("txt", text), ("json", json), ("html", &page)] {
        let path = folder.join(format!("{stem}.{ending}"));
        stage(&path, content.as_bytes(), readable_by_all, None)?.commit()?;
        eprintln!("{}", path.display());
    }
    Ok(())
}
