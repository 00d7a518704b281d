//! The other end of the local socket, for the warden's own commands.

use std::io;
use std::path::Path;

use loadline_model::{AttemptId, Bytes, MilliCpu, PerMille, Span};
use loadline_policy::node_policy::Mode;
use loadline_proto::types::v1::{AttemptState, ErrorInfo};
use loadline_proto::warden::v1::warden_client::WardenClient;
use loadline_proto::warden::v1::{DrainRequest, SetCeilingRequest, StatusRequest};
use prost::Message;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// One operator's word, as this node holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LocalCeiling {
    /// Set on this node; false: by the fleet.
    pub here: bool,
    /// No more than this.
    pub mode: String,
    /// At most this part of the line.
    pub line_per_mille: u32,
    /// Who set it.
    pub by: String,
}

impl LocalCeiling {
    /// One sentence.
    pub fn sentence(&self) -> String {
        let place = if self.here { "on this node" } else { "fleet" };
        let mode = match self.mode.as_str() {
            "enforce" => String::new(),
            mode => format!("no more than `{mode}`, "),
        };
        format!(
            "{mode}{} % of the line, set by {} ({place})",
            self.line_per_mille / 10,
            self.by
        )
    }
}

/// What the headroom loop lets lent work have below the static line; none: nothing below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct LocalSetpoints {
    /// CPU for all of it.
    pub cpu: Option<MilliCpu>,
    /// CPU for burst.
    pub burst: Option<MilliCpu>,
    /// Memory before the kernel takes it back.
    pub memory_high: Option<Bytes>,
    /// What it may read, and write, of each disk.
    pub io_bytes_per_s: Option<u64>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
}

impl LocalSetpoints {
    /// One clause for each that is lower.
    pub fn clauses(&self) -> String {
        let parts = [
            self.cpu.map(|cpu| format!("{cpu} CPUs")),
            self.burst.map(|cpu| format!("{cpu} of them for burst")),
            self.memory_high.map(|high| format!("{high} of memory")),
            self.io_bytes_per_s
                .map(|rate| format!("{}/s of each disk", Bytes(rate))),
            self.tasks_max.map(|most| format!("{most} processes and threads")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// What was watched of production's last week.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct LocalWeek {
    /// 99th percentile of production's CPU; none: not known yet.
    pub production_cpu_p99: Option<MilliCpu>,
    /// 99th percentile of production's memory; none: not known yet.
    pub production_memory_p99: Option<Bytes>,
    /// How much of it was watched.
    pub watched: Span,
    /// Why that is not on the disk; empty: it is.
    pub unsaved: String,
    /// The static line: what all lent work may have.
    pub most_cpu: MilliCpu,
    /// The same.
    pub most_memory: Bytes,
}

fn local_week(week: &loadline_proto::warden::v1::Week) -> LocalWeek {
    LocalWeek {
        production_cpu_p99: week.cpu_millicpu.map(MilliCpu),
        production_memory_p99: week.memory_bytes.map(Bytes),
        watched: Span(week.watched_us),
        unsaved: week.unsaved.clone(),
        most_cpu: MilliCpu(week.most_millicpu),
        most_memory: Bytes(week.most_memory_bytes),
    }
}

/// How this node is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LocalStatus {
    /// In force.
    pub mode: String,
    /// What node.toml says.
    pub owner_mode: String,
    /// What operators say.
    pub ceilings: Vec<LocalCeiling>,
    /// The firm line in force: of the standard tier.
    pub line_cpu: MilliCpu,
    /// The same.
    pub line_memory: Bytes,
    /// What it goes by, and the static line.
    pub week: LocalWeek,
    /// How far the headroom loop has gone; empty: it has not looked yet.
    pub level: String,
    /// Why.
    pub reason: String,
    /// The windows of the pressure triggers that wake it, in microseconds; none: only its tick looks.
    pub psi_window_us: Option<u64>,
    /// What lent work may have now, where that is less than the static line.
    pub setpoints: LocalSetpoints,
    /// Disks that node.toml wants to go by weight: name, and why it does not; empty: it does. Not those left alone.
    pub io_costs: Vec<(String, String)>,
    /// What it does without on this host: name and why.
    pub lacks: Vec<(String, String)>,
    /// Who runs: unit and phase.
    pub workers: Vec<(String, String)>,
}

impl LocalStatus {
    /// True if an operator lets it lend nothing.
    pub fn is_closed(&self) -> bool {
        self.ceilings.iter().any(|set| set.line_per_mille == 0)
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

/// What was refused, and the next step.
fn refusal(status: &tonic::Status) -> (String, String) {
    let info = ErrorInfo::decode(status.details()).unwrap_or_default();
    let next = match info.next_step.as_str() {
        "" => "see `journalctl -u loadline-warden`".to_owned(),
        next => next.to_owned(),
    };
    (status.message().to_owned(), next)
}

/// A running warden.
#[derive(Debug)]
pub struct LocalWarden(WardenClient<Channel>);

impl LocalWarden {
    /// Connects; none if no warden listens there.
    pub async fn connect(socket: &Path) -> Option<Self> {
        let socket = socket.to_owned();
        let dial = move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(socket).await?)) }
        };
        // The address is a formality: the connector dials the socket.
        let endpoint = Endpoint::from_static("http://warden");
        let channel = endpoint.connect_with_connector(tower::service_fn(dial)).await;
        channel.ok().map(|channel| Self(WardenClient::new(channel)))
    }

    /// Asks it to end all workers.
    ///
    /// # Errors
    /// When it refuses or is gone.
    pub async fn drain(&mut self) -> Result<(), tonic::Status> {
        self.0.drain(DrainRequest {}).await.map(drop)
    }

    /// Lets this node do no more than this.
    ///
    /// # Errors
    /// When it refuses or is gone: why, and the next step.
    pub async fn set_ceiling(
        &mut self,
        mode: Option<Mode>,
        line: Option<PerMille>,
        by: String,
    ) -> Result<(), (String, String)> {
        let request = SetCeilingRequest {
            mode: mode.map(|mode| mode.word().to_owned()),
            line_per_mille: line.map(|line| line.0.into()),
            by,
        };
        let done = self.0.set_ceiling(request).await;
        done.map(drop).map_err(|status| refusal(&status))
    }

    /// How this node is.
    ///
    /// # Errors
    /// When it does not answer: why, and the next step.
    pub async fn local_status(&mut self) -> Result<LocalStatus, (String, String)> {
        let status = self.0.status(StatusRequest {}).await;
        let status = status.map_err(|status| refusal(&status))?.into_inner();
        let inventory = status.inventory.unwrap_or_default();
        let headroom = status.headroom.unwrap_or_default();
        let worker = |state: &AttemptState| {
            let name = AttemptId::from_slice(&state.attempt_id);
            let name = name.map_or_else(|_| "?".into(), |id| id.unit_name());
            let phase = state.phase().as_str_name().trim_start_matches("ATTEMPT_PHASE_");
            (name, phase.to_lowercase())
        };
        Ok(LocalStatus {
            mode: inventory.mode,
            owner_mode: inventory.owner_mode,
            ceilings: inventory
                .ceilings
                .into_iter()
                .map(|set| LocalCeiling {
                    here: set.here,
                    mode: set.mode,
                    line_per_mille: set.line_per_mille,
                    by: set.by,
                })
                .collect(),
            line_cpu: MilliCpu(inventory.line_millicpu),
            line_memory: Bytes(inventory.line_memory_bytes),
            week: local_week(&status.week.unwrap_or_default()),
            level: headroom.level,
            reason: headroom.reason,
            psi_window_us: headroom.psi_window_us,
            setpoints: LocalSetpoints {
                cpu: headroom.cpu_millicpu.map(MilliCpu),
                burst: headroom.burst_millicpu.map(MilliCpu),
                memory_high: headroom.memory_high_bytes.map(Bytes),
                io_bytes_per_s: headroom.io_bytes_per_s,
                tasks_max: headroom.tasks_max,
            },
            io_costs: status
                .io_costs
                .into_iter()
                .filter(|cost| cost.held || !cost.problem.is_empty())
                .map(|cost| (cost.disk, cost.problem))
                .collect(),
            lacks: status
                .capabilities
                .into_iter()
                .filter(|one| !one.works)
                .map(|one| (one.name, one.problem))
                .collect(),
            workers: status.attempts.iter().map(worker).collect(),
        })
    }

    /// The units of workers that have not ended.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn workers(&mut self) -> Result<Vec<String>, tonic::Status> {
        let status = self.0.status(StatusRequest {}).await?.into_inner();
        let name = |id: &[u8]| AttemptId::from_slice(id).map_or_else(|_| "?".into(), |id| id.unit_name());
        Ok(status
            .attempts
            .iter()
            .map(|state| name(&state.attempt_id))
            .collect())
    }
}
