//! What a node says of itself and of what happened on it, in the state machine's own words.

use std::sync::Arc;

use loadline_model::{
    Amounts, AttemptId, AttemptPhase, CpuSet, Ended, Generation, Gpu, JobId, LedgerId, NodeId, PerMille,
    ProveId, Sequence, Span, Topology, WallTime,
};

/// What the node's owner lets Loadline do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LendMode {
    /// Nothing.
    Off,
    /// Decide and record, touch nothing.
    Shadow,
    /// Lend.
    Enforce,
}

impl LendMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Shadow, Self::Enforce];

    /// The word used in files and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }

    /// The mode behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// Whether a node's owner lets the fleet test it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProveConsent {
    /// Operators may.
    Allow,
    /// Only root there may.
    Refuse,
}

impl ProveConsent {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Refuse];

    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
        }
    }
}

/// Where a test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProveStage {
    /// On its way to the node.
    Ordered,
    /// It runs.
    Running,
    /// There is a report.
    Reported,
    /// The node would not begin it.
    Refused,
    /// Someone ended it.
    Stopped,
    /// It came to nothing.
    Failed,
    /// The node never said.
    Lost,
}

impl ProveStage {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ordered,
        Self::Running,
        Self::Reported,
        Self::Refused,
        Self::Stopped,
        Self::Failed,
        Self::Lost,
    ];

    /// The word used in the store and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Running => "running",
            Self::Reported => "reported",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    /// The stage behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.word() == word)
    }

    /// True if nothing more is expected.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Ordered | Self::Running)
    }
}

/// What a test came to, in the words of the node's own program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProveReport {
    /// For a screen.
    pub text: String,
    /// Signed by the node.
    pub json: String,
    /// A page; empty: it was too large.
    pub html: String,
    /// It came to its end and left nothing behind.
    pub whole: bool,
    /// Lent work cost production something.
    pub cost: bool,
}

impl ProveReport {
    /// Bytes of all its texts.
    pub const fn len(&self) -> usize {
        self.text.len() + self.json.len() + self.html.len()
    }

    /// True if it says nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A node says how its test goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProveNews {
    /// Which test.
    pub run: ProveId,
    /// Where it stands.
    pub stage: ProveStage,
    /// What it does just now, or why it came to nothing.
    pub sentence: String,
    /// What it came to.
    pub report: Option<Box<ProveReport>>,
}

/// What a node is and what its owner lends of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Its hardware threads and memory; none if the node could not read them.
    pub topology: Option<Topology>,
    /// Its GPUs.
    pub gpus: Vec<Gpu>,
    /// The kernel's release.
    pub kernel: String,
    /// systemd's version.
    pub systemd: String,
    /// The distribution.
    pub os: String,
    /// What the owner lets Loadline do.
    pub mode: LendMode,
    /// False: weights only, exclusive requests are refused for good.
    pub exclusive_cpus: bool,
    /// Requirements that are not met, one sentence each.
    pub missed: Vec<String>,
    /// The firm line.
    pub line: Amounts,
    /// How many threads can be given for exclusive use.
    pub line_whole_cpus: u32,
    /// The teams it lends to; empty: all.
    pub allow_teams: Vec<String>,
    /// What the owner wants, where `mode` may be lower; none: its warden knows no ceilings.
    pub owner_mode: Option<LendMode>,
    /// The ceilings in force there.
    pub ceilings: Vec<HeldCeiling>,
    /// Production's units that its owner names: what each keeps and promises, one sentence each.
    pub protected: Vec<String>,
    /// Whether the fleet may test there; none: its programs know no tests.
    pub prove: Option<ProveConsent>,
}

/// A ceiling as a node holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCeiling {
    /// Set on the node itself; false: by the fleet.
    pub here: bool,
    /// No more than this.
    pub mode: LendMode,
    /// At most this part of its static line.
    pub line: PerMille,
    /// Who set it.
    pub by: String,
    /// When, by the node's clock.
    pub at: WallTime,
}

/// What a node's headroom loop says, with what lending has cost since the node's warden started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// How far it has gone; empty: it has not looked yet.
    pub level: String,
    /// Why, with what was measured.
    pub reason: String,
    /// What lending has cost.
    pub counts: Option<CostCounts>,
}

/// Cost, counted since the start of a warden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostCounts {
    /// Which start.
    pub since: String,
    /// How much.
    pub cost: Cost,
}

/// What lending has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Production waited, and lent work may have been why.
    pub stalled: Span,
    /// Lent work was held at its floor.
    pub squeezed: Span,
    /// Lent work that had to go.
    pub evictions: u64,
    /// CPU that was given to those who were being ended.
    pub reaping: Span,
}

impl Cost {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            stalled: self.stalled.plus(other.stalled),
            squeezed: self.squeezed.plus(other.squeezed),
            evictions: self.evictions.saturating_add(other.evictions),
            reaping: self.reaping.plus(other.reaping),
        }
    }

    /// What it has grown by.
    #[must_use]
    pub const fn minus(self, before: Self) -> Self {
        Self {
            stalled: self.stalled.minus(before.stalled),
            squeezed: self.squeezed.minus(before.squeezed),
            evictions: self.evictions.saturating_sub(before.evictions),
            reaping: self.reaping.minus(before.reaping),
        }
    }
}

/// Where on its node an attempt runs; known from `running` on. Its unit's name follows from the attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Its CPUs.
    pub cpus: CpuSet,
    /// Its NUMA nodes.
    pub numa_nodes: CpuSet,
    /// Whether the CPUs are its own.
    pub exclusive: bool,
    /// The main process.
    pub main_pid: u32,
    /// The Unix account.
    pub user: Arc<str>,
}

const _: () = assert!(size_of::<Site>() <= 72, "there are hundreds of thousands");

/// An attempt as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Which.
    pub attempt: AttemptId,
    /// Of which job; none for an orphan without a ledger record.
    pub job: Option<JobId>,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// Where it runs.
    pub site: Option<Site>,
    /// How it ended, with the phase `Ended`.
    pub ended: Option<Ended>,
    /// It runs without a ledger record.
    pub orphan: bool,
}

/// A receipt as a node sends it. The action is a word: a newer node may know more of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// When, by the node's wall clock.
    pub at: WallTime,
    /// What was done.
    pub action: String,
    /// To which attempt; none: to the node.
    pub attempt: Option<AttemptId>,
    /// For the node: which slice or file.
    pub subject: String,
    /// One sentence.
    pub sentence: String,
}

/// Something that happened on a node. (ledger, sequence) names it for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The incarnation of the node's ledger.
    pub ledger: LedgerId,
    /// The number within it.
    pub sequence: Sequence,
    /// The node's boot.
    pub boot_id: String,
    /// When, by the node's wall clock.
    pub at: WallTime,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// An attempt changed.
    Attempt(Box<Reported>),
    /// A receipt was written.
    Receipt(Receipt),
    /// A test moved on.
    Prove(ProveNews),
    /// The event could not be understood. It is counted and named all the same: otherwise one bad record would
    /// block every later one of its node.
    Unreadable(String),
}

/// A node's first words in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// From its certificate.
    pub node: NodeId,
    /// What it calls itself; used only when the store does not know the node.
    pub name: String,
    /// The agent's version.
    pub version: String,
    /// The machine's boot.
    pub boot_id: String,
    /// The incarnation of its ledger.
    pub ledger: LedgerId,
    /// Every order up to here is in the ledger.
    pub applied: Generation,
    /// The newest event of the ledger.
    pub last_sequence: Sequence,
    /// The oldest event that it can still send, after `last_sequence` if there is none; `None`: it does not say.
    pub first_sequence: Option<Sequence>,
    /// What it is and lends; none if the agent has not heard from its warden yet.
    pub inventory: Option<Inventory>,
    /// All attempts that are not ended.
    pub attempts: Vec<Reported>,
    /// False: some attempts could not be understood and are left out above, so that nothing follows from what is
    /// not there.
    pub complete: bool,
}
