//! The warden on its socket, as the agent hears it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use loadline_model::{
    AttemptId, Bytes, Generation, LedgerId, MilliCpu, NodeSample, ParseIdError, Pressure, ResourceSample,
    Sequence, WallTime,
};
use loadline_proto::types::v1 as types;
use loadline_proto::warden::v1 as warden;
use loadline_proto::warden::v1::warden_client::WardenClient as Client;
use prost::Message;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::WireError;
use super::slo::{self, Protected, SloFound, SloTarget};

/// The warden does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WardenError {
    #[error("the warden does not answer ({what}): {}", said(status))]
    Call {
        what: &'static str,
        status: Box<tonic::Status>,
    },
    #[error("the warden did not answer within {}s ({what})", after.as_secs())]
    TimedOut { what: &'static str, after: Duration },
    #[error("the warden speaks another version ({what})")]
    Wire {
        what: &'static str,
        #[source]
        source: WireError,
    },
}

/// tonic says "transport error" and keeps what happened below it.
fn said(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

/// Orders of the fleet, signed for the warden; the agent only carries them.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) generation: Generation,
    pub(super) signed: Vec<types::SignedOrder>,
}

/// An event of the warden, and the little of it that the agent acts on.
#[derive(Debug, Clone)]
pub(crate) struct NodeEvent {
    pub(crate) ledger: LedgerId,
    pub(crate) sequence: Sequence,
    /// The attempt it is about, and whether that has ended.
    pub(crate) attempt: Option<(AttemptId, bool)>,
    /// As it travels.
    pub(crate) body: Vec<u8>,
}

impl TryFrom<types::Event> for NodeEvent {
    type Error = WireError;

    fn try_from(event: types::Event) -> Result<Self, Self::Error> {
        let attempt = match &event.what {
            Some(types::event::What::Attempt(state)) => {
                let ended = state.phase == i32::from(types::AttemptPhase::Ended);
                Some((AttemptId::from_slice(&state.attempt_id)?, ended))
            }
            _ => None,
        };
        Ok(Self {
            ledger: LedgerId::from_slice(&event.ledger_id)?,
            sequence: Sequence(event.sequence),
            attempt,
            body: event.encode_to_vec(),
        })
    }
}

/// One limit, meant and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) cgroup: String,
    pub(crate) limit: String,
    pub(crate) verified: bool,
}

/// What a slice uses; absent where the warden could not read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) name: String,
    pub(crate) cpu_usage_us: Option<u64>,
    pub(crate) cpu_throttled_us: Option<u64>,
    pub(crate) memory_current: Option<u64>,
    pub(crate) memory_max: Option<u64>,
    pub(crate) cpus: Option<u32>,
    pub(crate) memory_events: BTreeMap<String, u64>,
    pub(crate) waiting_us: BTreeMap<String, u64>,
    pub(crate) stalled_us: BTreeMap<String, u64>,
}

/// What the warden's headroom loop says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headroom {
    pub(crate) level: String,
    pub(crate) reason: String,
    /// Absent: the firm line.
    pub(crate) cpu: Option<MilliCpu>,
    pub(crate) production: MilliCpu,
    pub(crate) squeezed: String,
    /// Absent: the firm line.
    pub(crate) memory_high: Option<Bytes>,
    /// Bytes a second, each way, of each disk; absent: no limit.
    pub(crate) io_rate: Option<u64>,
    /// Absent: all of it.
    pub(crate) burst: Option<MilliCpu>,
    /// Taken back at this look.
    pub(crate) reclaim: Bytes,
}

/// What the warden counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) limit_repairs: u64,
    pub(crate) starts_ok: u64,
    pub(crate) starts_failed: u64,
    pub(crate) orders_refused: u64,
    pub(crate) end_records_disagreeing: u64,
    pub(crate) records_set_aside: u64,
    pub(crate) config_reload_failures: u64,
    pub(crate) protection_actions: BTreeMap<String, u64>,
    /// CPU time granted to those who were ended while lent work starved.
    pub(crate) reaping_ms: u64,
}

/// The warden's status.
#[derive(Debug, Clone)]
pub(crate) struct WardenStatus {
    pub(crate) version: String,
    pub(crate) boot_id: String,
    pub(crate) ledger: LedgerId,
    pub(crate) applied: Generation,
    pub(crate) last_sequence: Sequence,
    pub(crate) sample: Option<NodeSample>,
    /// Attempts that have not ended.
    pub(crate) open: BTreeSet<AttemptId>,
    /// How many of them stand where.
    pub(crate) phases: BTreeMap<&'static str, u64>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) slices: Vec<Slice>,
    /// Absent before its loop's first look.
    pub(crate) headroom: Option<Headroom>,
    /// What the loop needs of the host, and whether it works there.
    pub(crate) capabilities: BTreeMap<String, bool>,
    /// Absent: the warden gave none.
    pub(crate) counters: Option<Counters>,
    /// What the agent is to probe.
    pub(crate) slo_targets: Vec<SloTarget>,
    /// Production's units that the owner names.
    pub(crate) protect: Vec<Protected>,
    pub(super) raw_sample: Option<types::NodeSample>,
    pub(super) inventory: Option<types::Inventory>,
    pub(super) attempts: Vec<types::AttemptState>,
}

#[cfg(test)]
impl WardenStatus {
    /// Of a warden that has nothing to say.
    pub(crate) fn empty(ledger: LedgerId) -> Self {
        let reply = warden::StatusReply {
            ledger_id: ledger.as_bytes().to_vec(),
            ..Default::default()
        };
        Self::try_from(reply).unwrap()
    }
}

impl TryFrom<warden::StatusReply> for WardenStatus {
    type Error = WireError;

    fn try_from(reply: warden::StatusReply) -> Result<Self, Self::Error> {
        let warden::StatusReply {
            version,
            boot_id,
            ledger_id,
            applied_generation,
            last_sequence,
            inventory,
            sample,
            attempts,
            limits,
            counters,
            slices,
            headroom,
            capabilities,
            slo_targets,
            protect,
        } = reply;
        let mut phases = BTreeMap::new();
        for state in &attempts {
            *phases.entry(word(state.phase())).or_default() += 1;
        }
        let open = attempts
            .iter()
            .map(|state| AttemptId::from_slice(&state.attempt_id))
            .collect::<Result<_, ParseIdError>>()?;
        Ok(Self {
            version,
            boot_id,
            ledger: LedgerId::from_slice(&ledger_id)?,
            applied: Generation(applied_generation),
            last_sequence: Sequence(last_sequence),
            sample: sample.as_ref().and_then(read_sample),
            open,
            phases,
            limits: limits.into_iter().map(read_limit).collect(),
            slices: slices.into_iter().map(read_slice).collect(),
            headroom: headroom.map(read_headroom),
            capabilities: capabilities
                .into_iter()
                .map(|one| (one.name, one.works))
                .collect(),
            counters: counters.map(read_counters),
            slo_targets: slo_targets.into_iter().filter_map(slo::target).collect(),
            protect: protect.into_iter().map(slo::protected).collect(),
            raw_sample: sample,
            inventory,
            attempts,
        })
    }
}

fn read_headroom(headroom: warden::Headroom) -> Headroom {
    let warden::Headroom {
        level,
        reason,
        cpu_millicpu,
        production_millicpu,
        squeezed,
        memory_high_bytes,
        io_bytes_per_s,
        burst_millicpu,
        reclaim_bytes,
    } = headroom;
    Headroom {
        level,
        reason,
        cpu: cpu_millicpu.map(MilliCpu),
        production: MilliCpu(production_millicpu),
        squeezed,
        memory_high: memory_high_bytes.map(Bytes),
        io_rate: io_bytes_per_s,
        burst: burst_millicpu.map(MilliCpu),
        reclaim: Bytes(reclaim_bytes.unwrap_or(0)),
    }
}

fn word(phase: types::AttemptPhase) -> &'static str {
    match phase {
        types::AttemptPhase::Unspecified => "unknown",
        types::AttemptPhase::Assigned => "assigned",
        types::AttemptPhase::Starting => "starting",
        types::AttemptPhase::Running => "running",
        types::AttemptPhase::Squeezed => "squeezed",
        types::AttemptPhase::Stopping => "stopping",
        types::AttemptPhase::Ended => "ended",
    }
}

fn read_counters(counters: warden::WardenCounters) -> Counters {
    let warden::WardenCounters {
        limit_repairs,
        starts_ok,
        starts_failed,
        orders_refused,
        end_records_disagreeing,
        records_set_aside,
        config_reload_failures,
        protection_actions,
        reaping_ms,
    } = counters;
    Counters {
        limit_repairs,
        starts_ok,
        starts_failed,
        orders_refused,
        end_records_disagreeing,
        records_set_aside,
        config_reload_failures,
        protection_actions: protection_actions.into_iter().collect(),
        reaping_ms,
    }
}

fn read_limit(limit: warden::LimitState) -> Limit {
    let warden::LimitState {
        cgroup,
        limit,
        intended: _,
        actual: _,
        verified,
    } = limit;
    Limit {
        cgroup,
        limit,
        verified,
    }
}

fn read_slice(usage: warden::SliceUsage) -> Slice {
    let warden::SliceUsage {
        slice,
        cpu_usage_us,
        cpu_throttled_us,
        memory_current_bytes,
        memory_max_bytes,
        cpus_effective,
        memory_events,
        pressure_waiting_us,
        pressure_stalled_us,
    } = usage;
    Slice {
        name: slice,
        cpu_usage_us,
        cpu_throttled_us,
        memory_current: memory_current_bytes,
        memory_max: memory_max_bytes,
        cpus: cpus_effective,
        memory_events: memory_events.into_iter().collect(),
        waiting_us: pressure_waiting_us.into_iter().collect(),
        stalled_us: pressure_stalled_us.into_iter().collect(),
    }
}

fn read_sample(sample: &types::NodeSample) -> Option<NodeSample> {
    fn resource<Q>(raw: types::ResourceSample, unit: fn(u64) -> Q) -> ResourceSample<Q> {
        let types::ResourceSample {
            capacity,
            reserve,
            production,
            lent,
            now,
            firm,
            headroom,
        } = raw;
        ResourceSample {
            capacity: unit(capacity),
            reserve: unit(reserve),
            production: unit(production),
            lent: unit(lent),
            now: unit(now),
            firm: unit(firm),
            headroom: unit(headroom),
        }
    }
    Some(NodeSample {
        at: WallTime(sample.at_us),
        cpu: resource(sample.cpu?, MilliCpu),
        memory: resource(sample.memory?, Bytes),
        pressure: Pressure {
            cpu_some_us: sample.cpu_some_us,
            memory_full_us: sample.memory_full_us,
            io_full_us: sample.io_full_us,
        },
    })
}

/// The warden's events as they happen.
pub(crate) struct EventStream(tonic::Streaming<types::Event>);

impl EventStream {
    /// The next; none when the warden ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<NodeEvent>, WardenError> {
        let failed = |status| WardenError::Call {
            what: "events",
            status: Box::new(status),
        };
        let event = self.0.message().await.map_err(failed)?;
        event
            .map(NodeEvent::try_from)
            .transpose()
            .map_err(|source| WardenError::Wire {
                what: "events",
                source,
            })
    }
}

/// A connection that is made again whenever it is gone.
#[derive(Debug, Clone)]
pub(crate) struct WardenClient {
    client: Client<Channel>,
    patience: Duration,
}

/// Orders are durable only after a commit, which may wait for a slow disk.
const APPLY_PATIENCE: Duration = Duration::from_secs(30);

impl WardenClient {
    pub(crate) fn new(socket: PathBuf, patience: Duration) -> Self {
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let named =
                    |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", socket.display()));
                UnixStream::connect(&socket)
                    .await
                    .map(TokioIo::new)
                    .map_err(named)
            }
        });
        let channel = Endpoint::from_static("http://warden.loadline")
            .connect_timeout(patience)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(256 * 1024)
            .connect_with_connector_lazy(connector);
        Self {
            client: Client::new(channel),
            patience,
        }
    }

    async fn call<T>(
        &self,
        what: &'static str,
        patience: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, WardenError> {
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(WardenError::Call {
                what,
                status: Box::new(status),
            }),
            Err(_) => Err(WardenError::TimedOut {
                what,
                after: patience,
            }),
        }
    }

    pub(crate) async fn status(&self) -> Result<WardenStatus, WardenError> {
        let mut client = self.client.clone();
        let reply = self
            .call("status", self.patience, client.status(warden::StatusRequest {}))
            .await?;
        WardenStatus::try_from(reply).map_err(|source| WardenError::Wire {
            what: "status",
            source,
        })
    }

    /// Answers when every order is durable in the warden's ledger.
    pub(crate) async fn apply(&self, orders: &Orders) -> Result<Generation, WardenError> {
        let mut client = self.client.clone();
        let request = warden::ApplyRequest {
            orders: orders.signed.clone(),
        };
        let reply = self.call("apply", APPLY_PATIENCE, client.apply(request)).await?;
        Ok(Generation(reply.applied_generation))
    }

    pub(crate) async fn events(&self, after: Sequence) -> Result<EventStream, WardenError> {
        let mut client = self.client.clone();
        let request = warden::EventsRequest {
            after_sequence: after.0,
        };
        self.call("events", self.patience, client.events(request))
            .await
            .map(EventStream)
    }

    pub(crate) async fn observe(&self, found: Vec<SloFound>) -> Result<(), WardenError> {
        let mut client = self.client.clone();
        let readings = found.into_iter().map(slo::reading).collect();
        let request = warden::ObserveRequest { readings };
        self.call("observe", self.patience, client.observe(request))
            .await
            .map(drop)
    }

    pub(crate) async fn acknowledge(&self, ledger: LedgerId, through: Sequence) -> Result<(), WardenError> {
        let mut client = self.client.clone();
        let request = warden::AcknowledgeRequest {
            ledger_id: ledger.as_bytes().to_vec(),
            through_sequence: through.0,
        };
        self.call("acknowledge", APPLY_PATIENCE, client.acknowledge(request))
            .await
            .map(|_| ())
    }
}
