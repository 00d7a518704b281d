//! The open-loop probe of production: requests go out when they were meant to, whatever the answers do, and a latency
//! counts from that moment. It records its own lateness, so that a round it was too late for can be discarded.

mod answer;
mod channel;
mod generator;
mod target;

use loadline_model::{PerMille, Span};
use loadline_policy::prove::estimate::quantile;
use tokio::sync::mpsc;

pub use generator::LiveProber;
pub use target::{Target, TargetError};

/// One round.
#[derive(Debug, Clone)]
pub struct RoundAsk {
    /// What is probed.
    pub target: Target,
    /// Requests a second.
    pub rate: u32,
    /// Of the instants.
    pub seed: u64,
    /// Requests of this first time are watched, and not counted.
    pub warm_up: Span,
    /// How long requests are counted after it.
    pub length: Span,
}

/// What is heard of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Every second.
    Second(SecondSeen),
    /// At its end.
    Done(Measured),
    /// It could not be made.
    Failed(String),
}

/// One second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondSeen {
    /// Of what was answered in it and of how long the unanswered have waited.
    pub p99: Option<Span>,
    /// Requests of the round until now.
    pub requests: u64,
    /// Failures of the round until now.
    pub errors: u64,
}

/// A whole round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// All that counts, ascending.
    pub latencies: Vec<Span>,
    /// The generator's own lateness.
    pub lateness_p99: Span,
    /// Latency without that lateness.
    pub served_p99: Span,
    /// Requests that count.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
}

impl Measured {
    /// A quantile of the latencies; none without an answer.
    pub fn quantile(&self, share: u16) -> Option<Span> {
        quantile(&self.latencies, PerMille(share))
    }
}

/// Probes a round. Who no longer listens ends it.
pub trait Prober: Send + 'static {
    /// Begins.
    fn begin(&mut self, ask: RoundAsk) -> mpsc::UnboundedReceiver<Heard>;
}
