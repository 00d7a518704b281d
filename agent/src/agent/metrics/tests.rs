//! What a scrape shows.

use std::sync::Arc;

use super::super::warden_link::Problem;
use super::super::wire::Week;
use super::*;
use loadline_model::{Generation, LedgerId, Pressure, ResourceSample, Sequence, Span};

fn status() -> WardenStatus {
    let mut status = WardenStatus::empty(LedgerId::from_slice(&[1; 16]).unwrap());
    (status.applied, status.last_sequence) = (Generation(1), Sequence(1));
    status
}

fn snapshot(status: Option<WardenStatus>) -> Snapshot {
    Snapshot {
        connected: true,
        last_contact: Some(WallTime(1_500_000)),
        certificate: Validity {
            from: WallTime(0),
            until: WallTime(86_400_000_000),
        },
        spool: SpoolView {
            events: 4,
            bytes: 100,
            set_aside: 1,
        },
        spool_ok: true,
        warden: WardenView {
            status: status.map(Arc::new),
            problem: None,
        },
    }
}

fn shows(page: &str, line: &str) -> bool {
    page.lines().any(|found| found == line)
}

#[test]
fn the_agents_own_rows_are_always_there() {
    let page = render(&snapshot(None)).unwrap();
    for line in [
        concat!(
            "loadline_agent_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
        "loadline_agent_fleet_connected 1",
        "loadline_agent_last_contact_timestamp_seconds 1.5",
        "loadline_agent_certificate_expiry_timestamp_seconds{use=\"session\"} 86400",
        "loadline_agent_collector_success{collector=\"warden\"} 0",
        "loadline_agent_collector_success{collector=\"spool\"} 1",
        "loadline_agent_spool_events 4",
        "loadline_agent_spool_records_set_aside_total 1",
    ] {
        assert!(shows(&page, line), "{line}\n{page}");
    }
    assert!(
        !page.contains("loadline_slice") && !page.contains("loadline_headroom"),
        "{page}"
    );
    let never = render(&Snapshot {
        last_contact: None,
        ..snapshot(None)
    })
    .unwrap();
    assert!(
        !never.contains("last_contact_timestamp_seconds "),
        "never heard is absent, not 1970: {never}"
    );
}

#[test]
fn a_workers_limit_counts_only_if_every_workers_is_held() {
    let limit = |cgroup: &str, verified| Limit {
        cgroup: cgroup.into(),
        limit: "memory.max".into(),
        verified,
    };
    let limits = vec![
        limit("loadline.slice", true),
        limit("loadline-w-1.service", true),
        limit("loadline-w-2.service", false),
    ];
    let mut known = status();
    known.limits = limits;
    let page = render(&snapshot(Some(known))).unwrap();
    assert!(
        shows(
            &page,
            "loadline_agent_limit_verified{limit=\"memory.max\",slice=\"loadline.slice\"} 1"
        ),
        "{page}"
    );
    assert!(
        shows(
            &page,
            "loadline_agent_limit_verified{limit=\"memory.max\",slice=\"workers\"} 0"
        ),
        "{page}"
    );
    assert!(!page.contains("loadline-w-"), "no attempt in a label");
}

fn counted() -> Counters {
    Counters {
        limit_repairs: 7,
        starts_ok: 5,
        starts_failed: 1,
        protection_actions: [("shrink".to_owned(), 9)].into(),
        reaping_ms: 4_000,
        receipts_not_logged: 3,
        ..Counters::default()
    }
}

#[test]
fn counters_slices_and_headroom_have_base_units() {
    let sample = NodeSample {
        at: WallTime(0),
        cpu: ResourceSample {
            capacity: MilliCpu(4000),
            reserve: MilliCpu(1000),
            production: MilliCpu(500),
            lent: MilliCpu(250),
            now: MilliCpu(2250),
            firm: MilliCpu(2000),
            headroom: MilliCpu(800),
        },
        memory: ResourceSample {
            capacity: Bytes(100),
            production: Bytes(60),
            lent: Bytes(50),
            ..Default::default()
        },
        pressure: Pressure::default(),
    };
    let slice = Slice {
        name: "loadline.slice".into(),
        cpu_usage_us: Some(1_250_000),
        cpu_throttled_us: None,
        memory_current: Some(4096),
        memory_max: None,
        cpus: Some(3),
        memory_events: [("oom_kill".to_owned(), 2)].into(),
        waiting_us: [("cpu".to_owned(), 500_000)].into(),
        stalled_us: BTreeMap::new(),
    };
    let mut full = status();
    full.sample = Some(sample);
    full.slices = vec![slice];
    full.counters = Some(counted());
    full.phases = [("running", 2)].into();
    let page = render(&snapshot(Some(full))).unwrap();
    for line in [
        "loadline_agent_limit_repairs_total 7",
        "loadline_agent_job_starts_total{result=\"ok\"} 5",
        "loadline_agent_job_starts_total{result=\"refused\"} 0",
        "loadline_agent_protection_actions_total{action=\"shrink\"} 9",
        "loadline_agent_reaping_milliseconds_total 4000",
        "loadline_agent_receipts_not_logged_total 3",
        "loadline_agent_jobs{state=\"running\"} 2",
        "loadline_slice_cpu_usage_seconds_total{slice=\"loadline.slice\"} 1.25",
        "loadline_slice_cpus_allowed{slice=\"loadline.slice\"} 3",
        "loadline_slice_memory_current_bytes{slice=\"loadline.slice\"} 4096",
        "loadline_slice_memory_events_total{event=\"oom_kill\",slice=\"loadline.slice\"} 2",
        "loadline_slice_pressure_waiting_seconds_total{resource=\"cpu\",slice=\"loadline.slice\"} 0.5",
        "loadline_headroom_cpu_cores{kind=\"reserved\"} 1",
        "loadline_headroom_cpu_cores{kind=\"free\"} 3.25",
        "loadline_headroom_memory_bytes{kind=\"free\"} 0",
        "loadline_line_cpu_cores{line=\"firm\"} 2",
    ] {
        assert!(shows(&page, line), "{line}\n{page}");
    }
    for absent in [
        "cpu_throttled_seconds_total{",
        "memory_limit_bytes{",
        "pressure_stalled_seconds_total{",
    ] {
        assert!(!page.contains(absent), "{absent} was not read\n{page}");
    }
}

#[test]
fn a_silent_wardens_values_are_gone() {
    let mut silent = snapshot(Some(status()));
    silent.warden.problem = Some(Problem {
        since: WallTime(0),
        why: "gone".into(),
    });
    let page = render(&silent).unwrap();
    assert!(
        shows(&page, "loadline_agent_collector_success{collector=\"warden\"} 0"),
        "{page}"
    );
    assert!(!page.contains("limit_verified{"), "{page}");
}

#[test]
fn the_headroom_loop_says_where_it_stands_and_what_is_left() {
    let mut status = status();
    status.headroom = Some(Headroom {
        level: "shrink".into(),
        reason: "production uses 1500m CPUs".into(),
        cpu: Some(MilliCpu(610)),
        production: MilliCpu(1500),
        squeezed: "none".into(),
        memory_high: Some(Bytes(4096)),
        io_rate: Some(1 << 20),
        burst: Some(MilliCpu(250)),
        reclaim: Bytes(0),
        psi_window: Some(Span::from_millis(500)),
        tasks_max: Some(1_088),
    });
    status.week = Some(Week {
        cpu: Some(MilliCpu(1200)),
        memory: None,
        watched: Span::from_secs(90_000),
        saved: false,
        most: MilliCpu(2200),
    });
    status.capabilities = [("io.max".to_owned(), false), ("psi.cpu".to_owned(), true)].into();
    let page = render(&snapshot(Some(status))).unwrap();
    for line in [
        "loadline_headroom_level{level=\"shrink\"} 1",
        "loadline_headroom_level{level=\"open\"} 0",
        "loadline_headroom_lent_cpu_limit_cores 0.61",
        "loadline_headroom_production_cpu_cores 1.5",
        "loadline_headroom_burst_cpu_limit_cores 0.25",
        "loadline_headroom_lent_memory_limit_bytes 4096",
        "loadline_headroom_lent_io_limit_bytes_per_second 1048576",
        "loadline_headroom_memory_reclaim_bytes 0",
        "loadline_headroom_psi_window_seconds 0.5",
        "loadline_headroom_lent_tasks_limit 1088",
        "loadline_production_p99_cpu_cores 1.2",
        "loadline_production_watched_seconds 90000",
        "loadline_production_history_saved 0",
        "loadline_capability{capability=\"io.max\"} 0",
        "loadline_capability{capability=\"psi.cpu\"} 1",
    ] {
        assert!(shows(&page, line), "{line}\n{page}");
    }
    assert!(
        !page.contains("production_p99_memory_bytes "),
        "not known yet\n{page}"
    );
}

#[test]
fn with_nothing_lower_lent_work_may_have_the_static_line() {
    let mut status = status();
    status.headroom = Some(Headroom::default());
    status.week = Some(Week {
        most: MilliCpu(2200),
        ..Week::default()
    });
    let page = render(&snapshot(Some(status))).unwrap();
    assert!(
        shows(&page, "loadline_headroom_lent_cpu_limit_cores 2.2"),
        "{page}"
    );
}
