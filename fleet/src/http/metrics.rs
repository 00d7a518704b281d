//! fleetd's own metrics: what happened at its doors, counted as it happens.
//!
//! Whatever can be read from the fleet's state (nodes, jobs, amounts) is read at the moment of the scrape
//! instead, see [`super::exposition`]. No label carries a person's name, and none grows without bound.

use std::time::Duration;

use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// RPCs are answered after one commit (a few ms); beyond a second something is wrong.
const RPC_BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Every reason for which someone is refused; from the start at zero, so that the first one shows as an increase.
const REFUSALS: [&str; 19] = [
    "no_certificate",
    "unknown_issuer",
    "expired",
    "not_valid_yet",
    "wrong_name",
    "banned",
    "bad_certificate",
    "tls_version",
    "not_tls",
    "refused_by_peer",
    "handshake",
    "handshake_timeout",
    "disconnected",
    "rate_limited",
    "denied",
    "unknown_person",
    "token_invalid",
    "not_a_client",
    "no_peer",
];

/// The counters of one fleetd.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    auth_failures: IntCounterVec,
    audit_write_failures: IntCounter,
    rpc_duration: HistogramVec,
    certificate_expiry: Gauge,
    session_messages: IntCounterVec,
    wire_problems: IntCounterVec,
}

impl Metrics {
    /// All of them, at zero.
    ///
    /// # Errors
    /// When two have the same name, which is a mistake in this file.
    pub fn new(version: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = IntGaugeVec::new(
            Opts::new(
                "loadline_manager_build_info",
                "The running version of fleetd; always 1.",
            ),
            &["version"],
        )?;
        build.with_label_values(&[version]).set(1);
        let auth_failures = IntCounterVec::new(
            Opts::new(
                "loadline_manager_auth_failures_total",
                "Connections and calls refused because of who asked, by reason.",
            ),
            &["reason"],
        )?;
        let audit_write_failures = IntCounter::new(
            "loadline_manager_audit_write_failures_total",
            "Lines of the audit log that could not be made durable; their calls were refused.",
        )?;
        let rpc_duration = HistogramVec::new(
            HistogramOpts::new(
                "loadline_manager_rpc_duration_seconds",
                "Time from a call's arrival to its answer, or to the first byte of a streamed one.",
            )
            .buckets(RPC_BUCKETS.to_vec()),
            &["method", "code"],
        )?;
        let certificate_expiry = Gauge::new(
            "loadline_manager_certificate_expiry_timestamp_seconds",
            "When the certificate that fleetd shows ends.",
        )?;
        let session_messages = IntCounterVec::new(
            Opts::new(
                "loadline_manager_session_messages_total",
                "Messages from nodes, by kind.",
            ),
            &["kind"],
        )?;
        let wire_problems = IntCounterVec::new(
            Opts::new(
                "loadline_manager_wire_problems_total",
                "Messages from nodes that could not be understood in part or whole, by kind.",
            ),
            &["kind"],
        )?;
        for reason in REFUSALS {
            auth_failures.with_label_values(&[reason]);
        }
        registry.register(Box::new(build))?;
        registry.register(Box::new(auth_failures.clone()))?;
        registry.register(Box::new(audit_write_failures.clone()))?;
        registry.register(Box::new(rpc_duration.clone()))?;
        registry.register(Box::new(certificate_expiry.clone()))?;
        registry.register(Box::new(session_messages.clone()))?;
        registry.register(Box::new(wire_problems.clone()))?;
        Ok(Self {
            registry,
            auth_failures,
            audit_write_failures,
            rpc_duration,
            certificate_expiry,
            session_messages,
            wire_problems,
        })
    }

    /// Someone was refused because of who they are.
    pub fn auth_failure(&self, reason: &str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    /// How often someone was refused for this reason.
    pub fn auth_failures(&self, reason: &str) -> u64 {
        self.auth_failures.with_label_values(&[reason]).get()
    }

    /// A line of the audit log could not be written.
    pub fn audit_write_failed(&self) {
        self.audit_write_failures.inc();
    }

    /// A call was answered. `method` is one of ours, so the label is bounded.
    pub fn rpc(&self, method: &str, code: &str, took: Duration) {
        self.rpc_duration
            .with_label_values(&[method, code])
            .observe(took.as_secs_f64());
    }

    /// fleetd shows another certificate now.
    pub fn certificate_expires(&self, seconds: f64) {
        self.certificate_expiry.set(seconds);
    }

    /// A node said something.
    pub fn session_message(&self, kind: &str) {
        self.session_messages.with_label_values(&[kind]).inc();
    }

    /// A node said something that was not understood.
    pub fn wire_problem(&self, kind: &str) {
        self.wire_problems.with_label_values(&[kind]).inc();
    }

    /// The text format, together with `more` that was gathered at this moment.
    ///
    /// # Errors
    /// When a metric is malformed.
    pub fn encode(&self, more: &Registry) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        encoder.encode(&self.registry.gather(), &mut text)?;
        encoder.encode(&more.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}
