//! `/metrics`: what only this node knows, in Prometheus' text form. A value that was not read is absent, never 0.
//!
//! No user, job or attempt stands in a label: limits of workers are folded into one series a limit, which is 1
//! only if every worker's is held.

mod setpoints;
mod week;

use std::collections::BTreeMap;

use loadline_model::{Bytes, MilliCpu, NodeSample, WallTime};
use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::renewal::Validity;
use super::warden_link::WardenView;
use super::wire::{Counters, Headroom, Limit, Protected, Slice, WardenStatus};
use crate::spool::SpoolView;

/// Everything a scrape shows, as values.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) connected: bool,
    pub(crate) last_contact: Option<WallTime>,
    pub(crate) certificate: Validity,
    pub(crate) spool: SpoolView,
    pub(crate) spool_ok: bool,
    pub(crate) warden: WardenView,
}

/// The label under which workers' limits are folded.
const WORKERS: &str = "workers";

/// Renders a scrape.
///
/// # Errors
/// When two metrics would have one name: a mistake of this module.
pub(crate) fn render(snapshot: &Snapshot) -> prometheus::Result<String> {
    let page = Page {
        registry: Registry::new(),
    };
    agent(&page, snapshot)?;
    // A silent warden's last values are old: they go, and the series say so by their absence.
    if snapshot.warden.problem.is_none()
        && let Some(status) = &snapshot.warden.status
    {
        warden(&page, status)?;
    }
    TextEncoder::new().encode_to_string(&page.registry.gather())
}

struct Page {
    registry: Registry,
}

/// Label values and the value.
type Rows<'a, V> = Vec<(Vec<&'a str>, V)>;

impl Page {
    fn add(&self, family: impl Collector + 'static) -> prometheus::Result<()> {
        self.registry.register(Box::new(family))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str], rows: Rows<'_, f64>) -> prometheus::Result<()> {
        let family = GaugeVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.with_label_values(&values).set(value);
        }
        self.add(family)
    }

    fn flags(&self, name: &str, help: &str, labels: &[&str], rows: Rows<'_, bool>) -> prometheus::Result<()> {
        let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.with_label_values(&values).set(i64::from(value));
        }
        self.add(family)
    }

    fn counts(&self, name: &str, help: &str, labels: &[&str], rows: Rows<'_, u64>) -> prometheus::Result<()> {
        let family = IntCounterVec::new(Opts::new(name, help), labels)?;
        for (values, value) in rows {
            family.with_label_values(&values).inc_by(value);
        }
        self.add(family)
    }

    /// Counters of seconds, from microseconds.
    fn seconds(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: Rows<'_, u64>,
    ) -> prometheus::Result<()> {
        let family = CounterVec::new(Opts::new(name, help), labels)?;
        for (values, micros) in rows {
            family.with_label_values(&values).inc_by(float(micros) / 1e6);
        }
        self.add(family)
    }
}

/// Prometheus counts in floating point: exact up to 2^53, far beyond any byte or microsecond here.
#[expect(
    clippy::cast_precision_loss,
    reason = "the exposition format has only floating point"
)]
fn float(value: u64) -> f64 {
    value as f64
}

fn unix(time: WallTime) -> f64 {
    float(u64::try_from(time.0).unwrap_or(0)) / 1e6
}

fn agent(page: &Page, snapshot: &Snapshot) -> prometheus::Result<()> {
    let Snapshot {
        connected,
        last_contact,
        certificate,
        spool,
        spool_ok,
        warden,
    } = snapshot;
    let version = env!("CARGO_PKG_VERSION");
    page.gauges(
        "loadline_agent_build_info",
        "Always 1; the version is a label.",
        &["version"],
        vec![(vec![version], 1.0)],
    )?;
    page.flags(
        "loadline_agent_fleet_connected",
        "1 while in session with the fleet.",
        &[],
        vec![(vec![], *connected)],
    )?;
    page.gauges(
        "loadline_agent_last_contact_timestamp_seconds",
        "When the fleet was last heard of.",
        &[],
        last_contact.iter().map(|at| (vec![], unix(*at))).collect(),
    )?;
    page.gauges(
        "loadline_agent_certificate_expiry_timestamp_seconds",
        "When this node's certificate ends.",
        &["use"],
        vec![(vec!["session"], unix(certificate.until))],
    )?;
    page.flags(
        "loadline_agent_collector_success",
        "1 if this part could be asked at this scrape.",
        &["collector"],
        vec![
            (
                vec!["warden"],
                warden.status.is_some() && warden.problem.is_none(),
            ),
            (vec!["spool"], *spool_ok),
        ],
    )?;
    page.gauges(
        "loadline_agent_spool_events",
        "Events that the fleet has not acknowledged.",
        &[],
        vec![(vec![], float(spool.events))],
    )?;
    page.counts(
        "loadline_agent_spool_records_set_aside_total",
        "Unreadable spool records kept aside.",
        &[],
        vec![(vec![], spool.set_aside)],
    )
}

fn warden(page: &Page, status: &WardenStatus) -> prometheus::Result<()> {
    limits(page, &status.limits)?;
    if let Some(counters) = &status.counters {
        counted(page, counters)?;
    }
    page.gauges(
        "loadline_agent_jobs",
        "Workers on this node by state.",
        &["state"],
        status
            .phases
            .iter()
            .map(|(state, count)| (vec![*state], float(*count)))
            .collect(),
    )?;
    protect(page, &status.protect)?;
    slices(page, &status.slices)?;
    if let Some(sample) = &status.sample {
        headroom(page, sample)?;
    }
    if let Some(said) = &status.headroom {
        headroom_loop(page, said, status)?;
        setpoints::setpoints(page, said)?;
    }
    if let Some(watched) = &status.week {
        week::week(page, watched)?;
    }
    setpoints::capabilities(page, &status.capabilities)
}

fn limits(page: &Page, limits: &[Limit]) -> prometheus::Result<()> {
    let mut held: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    for Limit {
        cgroup,
        limit,
        verified,
    } in limits
    {
        let slice = if cgroup.ends_with(".slice") {
            cgroup.as_str()
        } else {
            WORKERS
        };
        *held.entry((slice, limit)).or_insert(true) &= verified;
    }
    page.flags(
        "loadline_agent_limit_verified",
        "1 if what the kernel does equals what was meant.",
        &["slice", "limit"],
        held.into_iter()
            .map(|((slice, limit), ok)| (vec![slice, limit], ok))
            .collect(),
    )
}

fn counted(page: &Page, counters: &Counters) -> prometheus::Result<()> {
    let Counters {
        limit_repairs,
        starts_ok,
        starts_failed,
        orders_refused,
        end_records_disagreeing,
        records_set_aside,
        config_reload_failures,
        protection_actions,
        reaping_ms,
        receipts_not_logged,
    } = counters;
    for (name, help, value) in [
        (
            "loadline_agent_limit_repairs_total",
            "Limits put back after something changed them.",
            limit_repairs,
        ),
        (
            "loadline_agent_end_records_disagreeing_total",
            "Ends whose signal and record told different stories.",
            end_records_disagreeing,
        ),
        (
            "loadline_agent_ledger_records_set_aside_total",
            "Unreadable ledger records kept aside.",
            records_set_aside,
        ),
        (
            "loadline_agent_config_reload_failures_total",
            "Reloads of node.toml that left the last good one in force.",
            config_reload_failures,
        ),
        (
            "loadline_agent_reaping_milliseconds_total",
            "CPU time granted to workers that were ended while lent work starved.",
            reaping_ms,
        ),
        (
            "loadline_agent_receipts_not_logged_total",
            "Receipts that did not get into the log of the worker that they are about.",
            receipts_not_logged,
        ),
    ] {
        page.counts(name, help, &[], vec![(vec![], *value)])?;
    }
    page.counts(
        "loadline_agent_job_starts_total",
        "Starts of workers.",
        &["result"],
        vec![
            (vec!["ok"], *starts_ok),
            (vec!["failed"], *starts_failed),
            (vec!["refused"], *orders_refused),
        ],
    )?;
    page.counts(
        "loadline_agent_protection_actions_total",
        "What was done to protect production.",
        &["action"],
        protection_actions
            .iter()
            .map(|(action, count)| (vec![action.as_str()], *count))
            .collect(),
    )
}

fn floats(rows: Rows<'_, u64>) -> Rows<'_, f64> {
    rows.into_iter()
        .map(|(labels, value)| (labels, float(value)))
        .collect()
}

fn slices(page: &Page, slices: &[Slice]) -> prometheus::Result<()> {
    fn rows(slices: &[Slice], value: fn(&Slice) -> Option<u64>) -> Rows<'_, u64> {
        slices
            .iter()
            .filter_map(|slice| Some((vec![slice.name.as_str()], value(slice)?)))
            .collect()
    }
    fn named(slices: &[Slice], values: fn(&Slice) -> &BTreeMap<String, u64>) -> Rows<'_, u64> {
        let each = |slice: &'_ Slice| values(slice).len();
        let mut found = Vec::with_capacity(slices.iter().map(each).sum());
        for slice in slices {
            found.extend(
                values(slice)
                    .iter()
                    .map(|(name, value)| (vec![slice.name.as_str(), name.as_str()], *value)),
            );
        }
        found
    }
    let of = &["slice"];
    page.seconds(
        "loadline_slice_cpu_usage_seconds_total",
        "CPU used.",
        of,
        rows(slices, |s| s.cpu_usage_us),
    )?;
    page.seconds(
        "loadline_slice_cpu_throttled_seconds_total",
        "Time held back by a CPU quota.",
        of,
        rows(slices, |s| s.cpu_throttled_us),
    )?;
    page.gauges(
        "loadline_slice_cpus_allowed",
        "CPUs in effect.",
        of,
        floats(rows(slices, |s| s.cpus.map(u64::from))),
    )?;
    page.gauges(
        "loadline_slice_memory_current_bytes",
        "Memory used.",
        of,
        floats(rows(slices, |s| s.memory_current)),
    )?;
    page.gauges(
        "loadline_slice_memory_limit_bytes",
        "Memory allowed; absent: no limit.",
        of,
        floats(rows(slices, |s| s.memory_max)),
    )?;
    page.counts(
        "loadline_slice_memory_events_total",
        "memory.events of the kernel.",
        &["slice", "event"],
        named(slices, |s| &s.memory_events),
    )?;
    let by_resource = &["slice", "resource"];
    page.seconds(
        "loadline_slice_pressure_waiting_seconds_total",
        "Time in which some task waited.",
        by_resource,
        named(slices, |s| &s.waiting_us),
    )?;
    page.seconds(
        "loadline_slice_pressure_stalled_seconds_total",
        "Time in which all tasks waited.",
        by_resource,
        named(slices, |s| &s.stalled_us),
    )
}

fn headroom(page: &Page, sample: &NodeSample) -> prometheus::Result<()> {
    let cores = |amount: MilliCpu| float(amount.0) / 1e3;
    let bytes = |amount: Bytes| float(amount.0);
    let (cpu, memory) = (&sample.cpu, &sample.memory);
    page.gauges(
        "loadline_headroom_cpu_cores",
        "CPU that is reserved, and CPU that nobody uses.",
        &["kind"],
        vec![
            (vec!["reserved"], cores(cpu.reserve)),
            (
                vec!["free"],
                cores(cpu.capacity.minus(cpu.production).minus(cpu.lent)),
            ),
        ],
    )?;
    page.gauges(
        "loadline_headroom_memory_bytes",
        "Memory that is reserved, and memory that nobody uses.",
        &["kind"],
        vec![
            (vec!["reserved"], bytes(memory.reserve)),
            (
                vec!["free"],
                bytes(memory.capacity.minus(memory.production).minus(memory.lent)),
            ),
        ],
    )?;
    page.gauges(
        "loadline_line_cpu_cores",
        "How much CPU may be lent.",
        &["line"],
        vec![(vec!["now"], cores(cpu.now)), (vec!["firm"], cores(cpu.firm))],
    )?;
    page.gauges(
        "loadline_line_memory_bytes",
        "How much memory may be lent.",
        &["line"],
        vec![
            (vec!["now"], bytes(memory.now)),
            (vec!["firm"], bytes(memory.firm)),
        ],
    )
}

/// Production's floors and promises; what is not known is absent.
fn protect(page: &Page, protect: &[Protected]) -> prometheus::Result<()> {
    let held = protect
        .iter()
        .filter_map(|entry| Some((vec![entry.unit.as_str()], entry.held?)));
    page.flags(
        "loadline_protect_verified",
        "1 if the unit and every slice above it have the memory floor that node.toml asks for, as read back.",
        &["unit"],
        held.collect(),
    )?;
    let slack = protect
        .iter()
        .filter_map(|entry| Some((vec![entry.unit.as_str()], entry.slack?)));
    page.gauges(
        "loadline_slo_slack_ratio",
        "How far the unit is from missing its SLO, as a part of the target; negative: missed.",
        &["unit"],
        slack
            .map(|(unit, slack)| (unit, f64::from(slack) / 1e3))
            .collect(),
    )
}

/// The loop's word at this moment. What it did is counted in `loadline_agent_protection_actions_total`.
fn headroom_loop(page: &Page, said: &Headroom, status: &WardenStatus) -> prometheus::Result<()> {
    let levels = ["open", "hold", "shrink", "squeeze", "evict"];
    page.flags(
        "loadline_headroom_level",
        "1 at the step of the ladder on which the headroom loop stands.",
        &["level"],
        levels
            .iter()
            .map(|level| (vec![*level], *level == said.level))
            .collect(),
    )?;
    // An older warden says nothing of the static line, and its firm one is the same.
    let firm = || status.sample.as_ref().map(|sample| sample.cpu.firm);
    let most = status.week.as_ref().map(|week| week.most);
    let limit = said.cpu.or(most).or_else(firm);
    page.gauges(
        "loadline_headroom_lent_cpu_limit_cores",
        "How much CPU lent work may use at this moment.",
        &[],
        limit.iter().map(|cpu| (vec![], float(cpu.0) / 1e3)).collect(),
    )?;
    page.gauges(
        "loadline_headroom_production_cpu_cores",
        "What production uses, as the headroom loop smooths it.",
        &[],
        vec![(vec![], float(said.production.0) / 1e3)],
    )
}

#[cfg(test)]
mod tests;
