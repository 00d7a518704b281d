//! What tables and JSON look like: the same values through both, compared with `golden/NAME.txt` and `.json`.
//!
//! `LOADLINE_GOLDEN=write cargo test -p loadline-cli --test render` rewrites them; read the diff. JSON may gain
//! fields, and never lose or rename one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io;
use std::path::Path;

use loadline_cli::output::{Json, Note, Output, Table};
use loadline_cli::view::{
    AttemptView, CeilingView, Check, CostView, EndView, Explained, FleetStatus, HeadroomView, Health, JobRow,
    JobView, Me, Moment, NewToken, NodeRow, NodeView, NodeWorkerView, ReasonView, ReceiptRow, ReceiptView,
    RequestView, ResourceView, SpecView, Submitted, TokenRow, TopologyView, UserRow,
};
use loadline_model::WallTime;

const GIB: u64 = 1 << 30;

/// So many seconds after the beginning of these stories.
fn at(seconds: i64) -> Moment {
    Moment(WallTime((1_790_000_000 + seconds) * 1_000_000))
}

fn row(job: u64, state: &'static str) -> JobRow {
    JobRow {
        job,
        job_id: "0192f0c1-2345-7abc-8def-0123456789ab".into(),
        name: "train".into(),
        user: "ada".into(),
        tier: "standard",
        state,
        workers_running: u32::from(state == "running"),
        workers_max: 2,
        submitted_at: at(0),
        started_at: (state != "queued").then_some(at(5)),
        ended_at: matches!(state, "succeeded" | "failed").then_some(at(95)),
        exit_code: match state {
            "succeeded" => Some(0),
            "failed" => Some(137),
            _ => None,
        },
        never_started: None,
        waiting_for: (state == "queued")
            .then(|| "a worker wants 2 CPUs, and n1 has none left to lend".into()),
    }
}

fn attempt(worker: u32, attempt: u32, ended: Option<EndView>) -> AttemptView {
    AttemptView {
        attempt_id: "0192f0c1-2345-7abc-8def-0123456789ac".into(),
        worker,
        attempt,
        node: "n1".into(),
        node_silent: worker == 1 && ended.is_none(),
        state: if ended.is_some() { "ended" } else { "running" },
        assigned_at: at(1),
        running_at: Some(at(5)),
        unit: Some("loadline-w-0192f0c123457abc8def0123456789ac.service".into()),
        cpus: Some(format!("{worker}")),
        exclusive: Some(true),
        numa_nodes: Some("0".into()),
        main_pid: Some(4242),
        unix_account: Some("ada".into()),
        ended,
    }
}

fn out_of_memory() -> EndView {
    EndView {
        reason: "out_of_memory",
        exit_code: None,
        signal: None,
        at: at(35),
        detail: "killed at its limit of 4GiB".into(),
        peak_memory_bytes: Some(4 * GIB),
        cpu_time_us: Some(29_000_000),
        peak_tasks: Some(3),
    }
}

fn job() -> JobView {
    JobView {
        row: row(412, "running"),
        spec: SpecView {
            command: ["python", "train.py", "two words"].map(String::from).into(),
            dir: "~/work".into(),
            env: [("EPOCHS".to_string(), "3".to_string())].into(),
            workers_min: 2,
            workers_max: 2,
            retries: 1,
            time_limit_us: Some(7_200_000_000),
            grace_us: Some(30_000_000),
            on_node_lost: Some("wait"),
            nodes: vec![],
            needs: vec![],
            priority: "high".into(),
            team: "vision".into(),
            worker: RequestView {
                millicpu: 1000,
                exclusive: true,
                memory_bytes: 4 * GIB,
                gpus: 0,
            },
        },
        attempts: vec![
            attempt(0, 1, Some(out_of_memory())),
            attempt(0, 2, None),
            attempt(1, 1, None),
        ],
        receipts: vec![ReceiptView {
            at: at(35),
            action: "out_of_memory".into(),
            subject: "0192f0c1-2345-7abc-8def-0123456789ac".into(),
            sentence: "412.0 was killed at its own limit of 4GiB; ask for more with --memory".into(),
        }],
    }
}

fn node_row(name: &str, state: &'static str) -> NodeRow {
    let known = state != "never_seen";
    NodeRow {
        node: name.into(),
        node_id: "0192f0c1-2345-7abc-8def-0123456789ad".into(),
        pool: "default".into(),
        state,
        last_seen_at: known.then_some(at(93)),
        workers: if known { 2 } else { 0 },
        orphans: u32::from(state == "suspect"),
        assigned_millicpu: if known { 1500 } else { 0 },
        line_millicpu: known.then_some(3000),
        assigned_memory_bytes: if known { 5 * GIB } else { 0 },
        line_memory_bytes: known.then_some(13 * GIB),
        mode: known.then(|| "enforce".into()),
        owner_mode: known.then(|| "enforce".into()),
        ceilings: Vec::new(),
        level: known.then(|| "open".into()),
        reason: known.then(|| "production is calm".into()),
        version: if known { "0.1.0".into() } else { String::new() },
        labels: Default::default(),
        taints: Default::default(),
    }
}

/// A node that operators hold: set where, mode, line, whether it knows.
fn held(name: &str, mode: &str, ceilings: &[(&'static str, &str, u32, bool)]) -> NodeRow {
    let ceiling = |(set, mode, line_per_mille, applied): &(&'static str, &str, u32, bool)| CeilingView {
        set,
        mode: (*mode).into(),
        line_per_mille: *line_per_mille,
        by: if *set == "node" { "root" } else { "ada" }.into(),
        at: at(30),
        applied: *applied,
    };
    NodeRow {
        mode: Some(mode.into()),
        ceilings: ceilings.iter().map(ceiling).collect(),
        level: Some("squeeze".into()),
        reason: Some("production uses 3.2 CPUs".into()),
        ..node_row(name, "ready")
    }
}

fn node() -> NodeView {
    NodeView {
        row: node_row("n1", "ready"),
        os: Some("Debian GNU/Linux 13 (trixie)".into()),
        kernel: Some("6.12.38".into()),
        systemd: Some("257".into()),
        topology: Some(TopologyView {
            sockets: 1,
            numa_nodes: 2,
            l3_domains: 1,
            cores: 4,
            threads: 4,
        }),
        exclusive_cpus: Some(true),
        line_whole_cpus: Some(3),
        line_gpus: Some(0),
        allow_teams: vec!["vision".into()],
        protected: vec![
            "nginx.service: keeps 2GiB; 99 of 100 answers of http://127.0.0.1/ within 20ms".into(),
        ],
        missed: vec!["io.cost is not configured: lent IO is only limited where a device has a model".into()],
        cpu_millicpu: Some(ResourceView {
            capacity: 4000,
            reserve: 1000,
            production: 350,
            lent: 1480,
            line_now: 3000,
            line_firm: 3000,
            headroom: 800,
        }),
        memory_bytes: Some(ResourceView {
            capacity: 16 * GIB,
            reserve: 2 * GIB,
            production: GIB,
            lent: 3 * GIB,
            line_now: 13 * GIB,
            line_firm: 13 * GIB,
            headroom: GIB,
        }),
        measured_at: Some(at(93)),
        running: vec![
            NodeWorkerView {
                label: "412.0".into(),
                user: "ada".into(),
                state: "running",
                cpus: Some("1".into()),
                orphan: false,
                unit: Some("loadline-w-0192f0c123457abc8def0123456789ac.service".into()),
            },
            NodeWorkerView {
                label: "loadline-w-0192f0c123457abc8def0123456789ae.service".into(),
                user: String::new(),
                state: "running",
                cpus: None,
                orphan: true,
                unit: Some("loadline-w-0192f0c123457abc8def0123456789ae.service".into()),
            },
        ],
        receipts: vec![],
    }
}

fn me() -> Me {
    Me {
        user: "ada".into(),
        role: "user".into(),
        unix_account: "ada".into(),
        team: "vision".into(),
        certificate_expires_at: at(43_295),
    }
}

fn token(kind: &'static str, bound_to: &str) -> NewToken {
    NewToken {
        token_id: "a1b2c3".into(),
        token: "LLN1.eyJhIjoi".into(),
        expires_at: at(695),
        command: "sudo loadline-agent join LLN1.eyJhIjoi".into(),
        bound_to: bound_to.into(),
        kind,
    }
}

/// Both renderings of one call: what goes to standard output, and for people what goes to standard error.
fn both(say: impl Fn(&mut dyn Output) -> io::Result<()>) -> (String, String) {
    let mut table = Table::new(Vec::new(), Vec::new(), at(95).0);
    say(&mut table).unwrap();
    let (out, err) = table.into_inner();
    let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
    let mut json = Vec::new();
    say(&mut Json::new(&mut json)).unwrap();
    let text = if err.is_empty() {
        out
    } else {
        format!("{out}--- stderr\n{err}")
    };
    (text, String::from_utf8(json).unwrap())
}

fn golden(name: &str, say: impl Fn(&mut dyn Output) -> io::Result<()>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (text, json) = both(say);
    for (extension, got) in [("txt", text), ("json", json)] {
        let path = folder.join(format!("{name}.{extension}"));
        if std::env::var("LOADLINE_GOLDEN").as_deref() == Ok("write") {
            std::fs::write(&path, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            got == expected,
            "{}: expected\n{expected}\ngot\n{got}",
            path.display()
        );
    }
}

#[test]
fn jobs() {
    let list = [
        row(411, "succeeded"),
        row(412, "running"),
        row(413, "queued"),
        row(414, "failed"),
    ];
    golden("jobs", |out| out.jobs(&list));
    golden("jobs-none", |out| out.jobs(&[]));
    golden("job", |out| out.job(&job()));
    golden("submitted", |out| {
        out.submitted(&Submitted {
            job_id: "0192f0c1-2345-7abc-8def-0123456789ab".into(),
            job: 412,
        })
    });
    golden("job-done", |out| out.done(&row(414, "failed")));
    golden("job-cancelling", |out| out.done(&row(412, "running")));
}

#[test]
fn explanations() {
    let reason = |code: &str, sentence: &str, nodes, examples: &[&str]| ReasonView {
        code: code.into(),
        sentence: sentence.into(),
        nodes,
        examples: examples.iter().map(ToString::to_string).collect(),
    };
    let waiting = Explained {
        row: row(413, "queued"),
        reasons: vec![
            reason(
                "cpus_busy",
                "a worker wants 2 CPUs, and 4 nodes have none left to lend",
                4,
                &["n1", "n2", "n3"],
            ),
            reason("node_draining", "n9 is being drained", 1, &["n9"]),
        ],
        change: Some("It starts by itself as soon as a node has room for it.".into()),
        nodes_considered: 5,
        expected_at: None,
        jobs_before: 2,
    };
    golden("explain", |out| out.explained(&waiting));
    let next = Explained {
        row: row(413, "queued"),
        reasons: vec![],
        change: None,
        nodes_considered: 1,
        expected_at: None,
        jobs_before: 0,
    };
    golden("explain-next", |out| out.explained(&next));
    let over = Explained {
        row: row(411, "succeeded"),
        ..next
    };
    golden("explain-over", |out| out.explained(&over));
}

#[test]
fn nodes_that_operators_hold_and_what_lending_costs() {
    let held = [
        held("n1", "shadow", &[("fleet", "shadow", 1000, true)]),
        held(
            "n2",
            "enforce",
            &[("fleet", "enforce", 500, true), ("node", "enforce", 250, true)],
        ),
        held("n3", "enforce", &[("fleet", "off", 0, false)]),
    ];
    golden("nodes-held", |out| out.nodes(&held));
    let week = CostView {
        stalled_us: 1_234_567,
        squeezed_us: 754_000_000,
        evictions: 3,
        reaping_us: 0,
        lent_cpu_us: 148_000_000_000,
        observed_us: 7 * 86_400_000_000,
    };
    let known = HeadroomView {
        row: held[0].clone(),
        cpu_millicpu: node().cpu_millicpu,
        memory_bytes: node().memory_bytes,
        week,
    };
    let unknown = HeadroomView {
        row: node_row("n4", "never_seen"),
        cpu_millicpu: None,
        memory_bytes: None,
        week: CostView::default(),
    };
    golden("headroom", |out| out.headroom(&[known.clone(), unknown.clone()]));
    golden("headroom-none", |out| out.headroom(&[]));
    let shown = NodeView {
        row: held[1].clone(),
        ..node()
    };
    golden("node-held", |out| out.node(&shown));
}

#[test]
fn nodes() {
    let list = [
        node_row("n1", "ready"),
        node_row("n2", "suspect"),
        node_row("n3", "never_seen"),
    ];
    golden("nodes", |out| out.nodes(&list));
    golden("nodes-none", |out| out.nodes(&[]));
    golden("node", |out| out.node(&node()));
    let receipt = |worker: Option<&str>, action: &str, sentence: &str| ReceiptRow {
        node: "n1".into(),
        worker: worker.map(Into::into),
        receipt: ReceiptView {
            at: at(60),
            action: action.into(),
            subject: "loadline-burst.slice".into(),
            sentence: sentence.into(),
        },
    };
    let receipts = [
        receipt(
            None,
            "squeezed",
            "burst work is held at its floor: production uses 3.2 CPUs",
        ),
        receipt(
            Some("412.0"),
            "limit_repaired",
            "memory.max was 5 GiB and is 4 GiB again",
        ),
    ];
    golden("receipts", |out| out.receipts(&receipts));
    golden("receipts-none", |out| out.receipts(&[]));
    golden("node-changed", |out| {
        out.node_changed(&node_row("n1", "draining"), "is being drained")
    });
}

#[test]
fn tokens_and_people() {
    golden("token-node", |out| out.token(&token("node", "n1")));
    golden("token-login", |out| out.token(&token("login", "bob")));
    let list = [
        TokenRow {
            token_id: "a1b2c3".into(),
            kind: "node".into(),
            bound_to: "n1".into(),
            pool: "default".into(),
            expires_at: at(300),
            state: "open".into(),
        },
        TokenRow {
            token_id: "d4e5f6".into(),
            kind: "login".into(),
            bound_to: "bob".into(),
            pool: String::new(),
            expires_at: at(-5),
            state: "used".into(),
        },
    ];
    golden("tokens", |out| out.tokens(&list));
    golden("revoked", |out| out.revoked("a1b2c3"));
    let bob = UserRow {
        name: "bob".into(),
        role: "operator".into(),
        unix_account: "rob".into(),
        team: "vision".into(),
        banned: true,
    };
    golden("users", |out| out.users(std::slice::from_ref(&bob)));
    golden("user", |out| out.user(&bob, "is shut out"));
    golden("login", |out| out.logged_in(&me(), "fleet:7717"));
}

#[test]
fn health() {
    let check = |name, health, found: &str, next: Option<&str>| Check {
        name,
        health,
        found: found.into(),
        next_step: next.map(String::from),
    };
    let checks = [
        check("identity", Health::Ok, "ada in /home/ada/.config/loadline", None),
        check(
            "certificate",
            Health::Warning,
            "holds for 20m",
            Some("an operator types …"),
        ),
        check(
            "connection",
            Health::Failed,
            "cannot reach the fleet",
            Some("is fleetd running there?"),
        ),
        check(
            "fleet",
            Health::NotChecked,
            "not checked: there is no connection",
            None,
        ),
    ];
    golden("doctor", |out| out.health(&checks, None, None));
    let fleet = FleetStatus {
        version: "0.1.0".into(),
        fleet_id: "0192f0c1-2345-7abc-8def-0123456789af".into(),
        nodes_ready: 2,
        nodes_silent: 0,
        jobs_queued: 1,
        jobs_running: 3,
        store: "SQLite, schema 1".into(),
        now: Some(at(95)),
    };
    golden("doctor-well", |out| {
        out.health(&checks[..1], Some(&me()), Some(&fleet))
    });
}

#[test]
fn what_happens_on_the_way() {
    let squeezed = AttemptView {
        state: "squeezed",
        ..attempt(0, 2, None)
    };
    let (queued, failed) = (row(412, "queued"), row(412, "failed"));
    let (gone, running, ended) = (
        attempt(1, 1, None),
        attempt(0, 2, None),
        attempt(0, 1, Some(out_of_memory())),
    );
    let job = 412;
    golden("notes", |out| {
        for note in [
            Note::Submitted(&queued),
            Note::Waiting(&queued),
            Note::Attempt { job, attempt: &gone },
            Note::Attempt { job, attempt: &ended },
            Note::Attempt {
                job,
                attempt: &running,
            },
            Note::Attempt {
                job,
                attempt: &squeezed,
            },
            Note::Notice {
                job,
                sentence: "n1 cannot be reached",
            },
            Note::Broken {
                job: Some(job),
                sentence: "the connection to the fleet broke",
            },
            Note::Broken {
                job: None,
                sentence: "the connection to the fleet broke",
            },
            Note::Back { job },
            Note::Left { job: Some(job) },
            Note::Left { job: None },
            Note::Ended(&failed),
        ] {
            out.note(&note)?;
        }
        Ok(())
    });
}

#[test]
fn what_others_wrote_cannot_drive_the_terminal() {
    let mut hostile = row(412, "queued");
    hostile.name = "a\x1b[2Jb".into();
    hostile.waiting_for = Some("x\x07\ny".into());
    let (text, json) = both(|out| out.jobs(std::slice::from_ref(&hostile)));
    assert!(
        !text.contains('\x1b') && !text.contains('\x07') && text.lines().count() == 2,
        "{text:?}"
    );
    assert!(
        json.contains("a\\u001b[2Jb"),
        "JSON keeps what was written: {json}"
    );
}
