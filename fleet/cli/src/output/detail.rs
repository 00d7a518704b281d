//! One job, one node, one explanation: more than a row.

use std::fmt::Write as _;

use loadline_model::{Bytes, Labels, MilliCpu, Span, WallTime, labels_text};

use super::headroom;
use super::note::{end_words, peaks};
use super::table::{columns, typed};
use crate::text::{ago, count, cpus, printable, rfc3339, short};
use crate::view::{
    AttemptView, Explained, JobRow, JobView, NodeView, NodeWorkerView, ReceiptView, RequestView, ResourceView,
};

/// Lines of `key  value`.
struct Sheet(String);

impl Sheet {
    fn line(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() {
            self.0.push_str(&format!("  {key:<14}{}\n", printable(value)));
        }
    }

    fn table(&mut self, table: &str) {
        self.0.push('\n');
        self.0.push_str(table);
        self.0.push('\n');
    }
}

fn request(request: &RequestView) -> String {
    let cpu = match request.exclusive {
        true => format!("{} of its own", count(request.millicpu / 1000, "CPU")),
        false => format!("{} of CPU, shared", cpus(MilliCpu(request.millicpu))),
    };
    let gpus = if request.gpus == 0 {
        String::new()
    } else {
        format!(", {}", count(request.gpus, "GPU"))
    };
    format!("{cpu}, {} of memory{gpus}", Bytes(request.memory_bytes))
}

fn state(job: &JobRow, now: WallTime) -> String {
    let mut text = job.state.to_string();
    if !job.is_done() {
        let _ = write!(
            text,
            ", {} of {} workers run",
            job.workers_running, job.workers_max
        );
    } else if let Some(code) = job.exit_code {
        let _ = write!(text, ", exit code {code}");
    }
    let _ = write!(text, "; submitted {}", ago(job.submitted_at.0, now));
    if let Some(started) = job.started_at {
        let _ = write!(text, ", started {}", ago(started.0, now));
    }
    if let Some(ended) = job.ended_at {
        let _ = write!(text, ", ended {}", ago(ended.0, now));
    }
    text
}

pub(super) fn job(job: &JobView, now: WallTime) -> String {
    let JobView {
        row,
        spec,
        attempts,
        receipts,
    } = job;
    let mut sheet = Sheet(format!(
        "job {} ({}) of {}\n",
        row.job,
        printable(&row.name),
        printable(&row.user)
    ));
    sheet.line("state", state(row, now));
    sheet.line("waits for", row.waiting_for.as_deref().unwrap_or_default());
    sheet.line("not started", row.never_started.as_deref().unwrap_or_default());
    sheet.line("command", typed(&spec.command));
    sheet.line("in", &spec.dir);
    let env: Vec<String> = spec
        .env
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    sheet.line("with", typed(&env));
    sheet.line(
        "workers",
        match (spec.workers_min, spec.workers_max) {
            (min, max) if min == max => max.to_string(),
            (min, max) => format!("{min} to {max}"),
        },
    );
    sheet.line("each", request(&spec.worker));
    sheet.line("tier", row.tier);
    sheet.line("nodes", spec.nodes.join(", "));
    sheet.line("needs", spec.needs.join(" "));
    if spec.priority != "normal" {
        sheet.line("priority", spec.priority.clone());
    }
    sheet.line("team", spec.team.clone());
    let limit = spec
        .time_limit_us
        .map_or_else(|| "none".into(), |limit| Span(limit).to_string());
    let grace = spec
        .grace_us
        .map_or_else(String::new, |grace| format!(", grace {}", Span(grace)));
    sheet.line("time limit", format!("{limit}{grace}"));
    sheet.line("retries", spec.retries.to_string());
    sheet.line("node lost", spec.on_node_lost.unwrap_or_default());
    sheet.line("id", &row.job_id);
    if !attempts.is_empty() {
        let header = ["WORKER", "TRY", "NODE", "STATE", "CPUS", "TIME", "USED", "END"];
        let rows = attempts.iter().map(|attempt| attempt_row(row.job, attempt, now));
        sheet.table(&columns(header, rows));
    }
    receipts_below(&mut sheet, receipts);
    sheet.0
}

fn attempt_row(job: u64, attempt: &AttemptView, now: WallTime) -> [String; 8] {
    let ended = attempt.ended.as_ref();
    let until = ended.map_or(now, |ended| ended.at.0);
    let silent = if attempt.node_silent { " (silent)" } else { "" };
    [
        format!("{job}.{}", attempt.worker),
        attempt.attempt.to_string(),
        format!("{}{silent}", attempt.node),
        attempt.state.into(),
        attempt.cpus.clone().unwrap_or_default(),
        attempt
            .running_at
            .map_or_else(String::new, |since| short(until.since(since.0))),
        ended.map_or_else(String::new, peaks),
        ended.map_or_else(String::new, end_words),
    ]
}

fn receipts_below(sheet: &mut Sheet, receipts: &[ReceiptView]) {
    if receipts.is_empty() {
        return;
    }
    let row = |receipt: &ReceiptView| {
        [
            rfc3339(receipt.at.0),
            receipt.action.replace('_', " "),
            receipt.sentence.clone(),
        ]
    };
    sheet.table(&columns(["RECEIPT", "WHAT", "WHY"], receipts.iter().map(row)));
}

pub(super) fn explained(why: &Explained) -> String {
    let Explained {
        row,
        reasons,
        change,
        nodes_considered,
        expected_at,
        jobs_before: _,
    } = why;
    let mut text = String::new();
    let nodes = count(*nodes_considered, "node");
    if row.is_done() {
        let _ = writeln!(text, "job {} is over: {}", row.job, row.state);
        return text;
    }
    if reasons.is_empty() {
        let _ = match row.state {
            "queued" => writeln!(text, "job {} is next in line", row.job),
            _ => writeln!(
                text,
                "job {} waits for nothing: {} of {} workers run",
                row.job, row.workers_running, row.workers_max
            ),
        };
    } else {
        let looked = if *nodes_considered == 0 {
            String::new()
        } else {
            format!("; {nodes} looked at")
        };
        let _ = writeln!(text, "job {} waits{looked}:", row.job);
    }
    for reason in reasons {
        let names = match (reason.examples.as_slice(), reason.nodes) {
            ([], _) => String::new(),
            // One node is usually named by the sentence itself.
            ([only], _) if reason.sentence.contains(only.as_str()) => String::new(),
            (names, all) => {
                let more = if u64::from(all) > u64::try_from(names.len()).unwrap_or(0) {
                    ", …"
                } else {
                    ""
                };
                format!(" ({}{more})", names.join(", "))
            }
        };
        let _ = writeln!(text, "  - {}{}", printable(&reason.sentence), printable(&names));
    }
    if let Some(at) = expected_at {
        let _ = writeln!(
            text,
            "room is kept for it; it is expected to start at {}",
            rfc3339(at.0)
        );
    }
    if let Some(change) = change {
        let _ = writeln!(text, "{}", printable(change));
    }
    text
}

fn resource(resource: &ResourceView, show: impl Fn(u64) -> String) -> String {
    let ResourceView {
        capacity,
        reserve,
        production,
        lent,
        line_now,
        line_firm,
        headroom: _,
    } = *resource;
    format!(
        "{} in all: {} reserved, {} used by production, {} by workers; lends {} (firm), {} (now)",
        show(capacity),
        show(reserve),
        show(production),
        show(lent),
        show(line_firm),
        show(line_now)
    )
}

pub(super) fn node(node: &NodeView, now: WallTime) -> String {
    let row = &node.row;
    let mut sheet = Sheet(format!(
        "node {} in pool {}\n",
        printable(&row.node),
        printable(&row.pool)
    ));
    let seen = row.last_seen_at.map_or_else(
        || "never seen".into(),
        |seen| format!("seen {}", ago(seen.0, now)),
    );
    sheet.line("state", format!("{}, {seen}", row.state.replace('_', " ")));
    sheet.line("mode", headroom::mode(row));
    for ceiling in &row.ceilings {
        let since = ago(ceiling.at.0, now);
        sheet.line("ceiling", format!("{}, {since}", headroom::sentence(ceiling)));
    }
    sheet.line("level", headroom::level(row));
    let system: Vec<&str> = [&node.os, &node.kernel]
        .into_iter()
        .filter_map(|text| text.as_deref())
        .collect();
    let systemd = node
        .systemd
        .as_deref()
        .map_or_else(String::new, |version| format!(", systemd {version}"));
    sheet.line("system", format!("{}{systemd}", system.join(", kernel ")));
    if let Some(topology) = node.topology {
        let parts = [
            count(topology.sockets, "socket"),
            count(topology.numa_nodes, "NUMA node"),
            count(topology.l3_domains, "L3 domain"),
            count(topology.cores, "core"),
            count(topology.threads, "thread"),
        ];
        sheet.line("hardware", parts.join(", "));
    }
    amounts(&mut sheet, node);
    let marks = |labels: &Labels| labels_text(labels).replace(',', " ");
    sheet.line("labels", marks(&row.labels));
    sheet.line("taints", marks(&row.taints));
    sheet.line("teams", node.allow_teams.join(", "));
    sheet.line("version", &row.version);
    sheet.line("id", &row.node_id);
    for protected in &node.protected {
        sheet.line("protects", protected);
    }
    for missed in &node.missed {
        sheet.line("lacks", missed);
    }
    if !node.running.is_empty() {
        sheet.table(&columns(
            ["WORKER", "USER", "STATE", "CPUS", "UNIT"],
            node.running.iter().map(worker_row),
        ));
    }
    receipts_below(&mut sheet, &node.receipts);
    sheet.0
}

/// What the node has, lends and promised.
fn amounts(sheet: &mut Sheet, node: &NodeView) {
    let row = &node.row;
    let cpu = |millis| cpus(MilliCpu(millis));
    sheet.line(
        "cpus",
        node.cpu_millicpu
            .as_ref()
            .map_or_else(String::new, |sample| resource(sample, cpu)),
    );
    let bytes = |bytes| Bytes(bytes).to_string();
    sheet.line(
        "memory",
        node.memory_bytes
            .as_ref()
            .map_or_else(String::new, |memory| resource(memory, bytes)),
    );
    let assigned = format!(
        "{} CPU, {} of memory",
        cpu(row.assigned_millicpu),
        bytes(row.assigned_memory_bytes)
    );
    sheet.line("promised", assigned);
    sheet.line(
        "own CPUs",
        match (node.exclusive_cpus, node.line_whole_cpus) {
            (Some(true), Some(whole)) => format!("{whole} can be given for exclusive use"),
            (Some(false), _) => "none: weights only, exclusive requests are refused".into(),
            _ => String::new(),
        },
    );
}

fn worker_row(worker: &NodeWorkerView) -> [String; 5] {
    let orphan = if worker.orphan { " (orphan)" } else { "" };
    [
        worker.label.clone(),
        worker.user.clone(),
        format!("{}{orphan}", worker.state),
        worker.cpus.clone().unwrap_or_default(),
        worker.unit.clone().unwrap_or_default(),
    ]
}
