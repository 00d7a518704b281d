//! Everything that can be asked of the state machine, and what it answers.
//!
//! A [`Command`] enters, a [`Reply`] or a [`Refused`](super::Refused) comes back once whatever it changed is
//! durable. Who may ask is decided before (`trust`); `by` is the authenticated name, for the record.

use loadline_model::{
    Generation, JobId, JobSpec, LedgerId, Mark, NodeId, NodeSample, PerMille, ProveAsk, Sequence, Span,
    WallTime,
};

use super::node_types::{Event, Hello, Inventory, LendMode, Word};
use super::teams::{QuotaChange, TeamChange};
use super::view::{JobSummary, NodeSummary, ProveView, TeamView, TokenView, UserView};
use crate::trust::Role;

/// The SHA-256 of a token's secret. The secret itself never reaches the state.
pub type Sha256 = [u8; 32];

/// Names a token in lists; no secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub String);

/// One connection of a node; a newer one takes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A job, by either of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRef {
    /// The client's id.
    Id(JobId),
    /// The short number.
    Number(u64),
}

/// What an operator does to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeVerb {
    /// Nothing new is placed there.
    Drain,
    /// Undo a drain.
    Resume,
    /// Give up a silent node: what waits for it goes on elsewhere.
    Forget,
    /// Refuse it for ever: its workers are given up, its session is closed, its name is free.
    Ban,
}

/// What is asked about teams and those in them.
#[derive(Debug, Clone)]
pub enum SharingCommand {
    /// Make a team, or change it.
    SetTeam {
        /// Who asks.
        by: String,
        /// Which.
        team: String,
        /// How.
        change: TeamChange,
    },
    /// Remove a team that has no open jobs.
    RemoveTeam {
        /// Who asks.
        by: String,
        /// Which.
        team: String,
    },
    /// Change what a team may hold and spend.
    SetQuota {
        /// Who asks.
        by: String,
        /// Whose.
        team: String,
        /// How.
        change: QuotaChange,
    },
    /// Change a person.
    SetUser {
        /// Who asks.
        by: String,
        /// Whom.
        name: String,
        /// The team that pays from now on; empty: none.
        team: Option<String>,
        /// What they may do from now on.
        role: Option<Role>,
    },
}

/// Changes of a node's labels and taints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Of its labels.
    pub labels: Vec<Mark>,
    /// Of its taints.
    pub taints: Vec<Mark>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Command {
    /// Run a job as `by`. Idempotent by id.
    Submit {
        /// The authenticated person; the job runs as their Unix account.
        by: String,
        /// Chosen by the client.
        job: JobId,
        /// What to run.
        spec: JobSpec,
    },
    /// End a job. Idempotent; a job that is done stays as it is.
    Cancel {
        /// Who asks.
        by: String,
        /// Which.
        job: JobRef,
    },
    /// Operate a node.
    Operate {
        /// Who asks.
        by: String,
        /// The node's name.
        node: String,
        /// What to do.
        verb: NodeVerb,
    },
    /// Let a node do no more than this. What is not said stays as it is.
    SetCeiling {
        /// Who asks.
        by: String,
        /// The node's name.
        node: String,
        /// Another mode.
        mode: Option<LendMode>,
        /// Another part of its line.
        line: Option<PerMille>,
    },
    /// Set and take away labels and taints of a node.
    Mark {
        /// Who asks.
        by: String,
        /// The node's name.
        node: String,
        /// Which.
        marks: Marks,
    },
    /// Have a node tested.
    BeginProve {
        /// Who asks.
        by: String,
        /// The node's name.
        node: String,
        /// What and how; within what may be asked.
        ask: ProveAsk,
    },
    /// End the test of a node at once. Idempotent.
    StopProve {
        /// Who asks.
        by: String,
        /// The node's name.
        node: String,
    },
    /// Let one node join.
    CreateNodeToken {
        /// Who asks.
        by: String,
        /// Its public name.
        token: TokenId,
        /// Of its secret.
        secret: Sha256,
        /// The node's name.
        node: String,
        /// The node's pool; empty: `default`.
        pool: String,
        /// How long it is good; zero: 10 minutes, which is also the most.
        life: Span,
    },
    /// Let one person log in.
    CreateLoginToken {
        /// Who asks.
        by: String,
        /// Its public name.
        token: TokenId,
        /// Of its secret.
        secret: Sha256,
        /// Whom.
        user: String,
        /// How long it is good.
        life: Span,
    },
    /// Take a token back.
    RevokeToken {
        /// Who asks.
        by: String,
        /// Which.
        token: TokenId,
    },
    /// A machine joins: uses its token up and makes (or finds, by name) its node.
    RedeemNodeToken {
        /// Of the secret it showed.
        secret: Sha256,
        /// The name it gave.
        node: String,
    },
    /// A person logs in: uses their token up.
    RedeemLoginToken {
        /// Of the secret they showed.
        secret: Sha256,
    },
    /// Add a person.
    AddUser {
        /// Who asks.
        by: String,
        /// The name in the fleet.
        name: String,
        /// What they may do.
        role: Role,
        /// The account their jobs run as; empty: the same as the name.
        unix_account: String,
        /// Whose quota they use; empty: nobody's.
        team: String,
    },
    /// Ban or unban a person.
    BanUser {
        /// Who asks.
        by: String,
        /// Whom.
        name: String,
        /// True to ban.
        banned: bool,
    },
    /// Something about teams and those in them.
    Sharing(SharingCommand),
    /// A node connected. Use [`Fleet::open_session`](crate::Fleet::open_session), which also subscribes to its orders.
    Hello(Box<Hello>),
    /// A node's stream ended.
    Bye {
        /// Which node.
        node: NodeId,
        /// Which of its sessions.
        session: SessionId,
    },
    /// A node lives.
    Alive {
        /// Which node.
        node: NodeId,
        /// Which of its sessions.
        session: SessionId,
        /// What it measured.
        sample: Option<NodeSample>,
        /// What its headroom loop says.
        word: Option<Box<Word>>,
        /// What it is, when that changed.
        inventory: Option<Box<Inventory>>,
    },
    /// A node's warden stopped or began to answer its agent. Meanwhile nothing is placed there.
    Warden {
        /// Which node.
        node: NodeId,
        /// Which of its sessions.
        session: SessionId,
        /// One sentence while it does not answer.
        problem: Option<String>,
    },
    /// Things happened on a node. The reply says what may be acknowledged.
    Events {
        /// Which node.
        node: NodeId,
        /// Which of its sessions.
        session: SessionId,
        /// What happened, all of one ledger, ascending.
        events: Vec<Event>,
    },
    /// Orders are in the node's ledger.
    Applied {
        /// Which node.
        node: NodeId,
        /// Which of its sessions.
        session: SessionId,
        /// All up to here.
        generation: Generation,
    },
    /// Time passed. The writer sends it itself.
    Tick,
}

/// What is answered, once durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To `Submit`.
    Submitted {
        /// The short number.
        number: u64,
        /// False: the same submission was here before.
        fresh: bool,
    },
    /// To `Cancel`.
    Job(Box<JobSummary>),
    /// To `Operate`.
    Node(Box<NodeSummary>),
    /// To `BeginProve` and `StopProve`.
    Prove(Box<ProveView>),
    /// To the commands that make or revoke a token.
    Token(TokenView),
    /// To `RedeemNodeToken`.
    Joined {
        /// Its identity.
        node: NodeId,
        /// Its pool.
        pool: String,
    },
    /// To `SetTeam` and `SetQuota`.
    Team(Box<TeamView>),
    /// To `AddUser`, `BanUser`, `SetUser`, `RedeemLoginToken`.
    User(UserView),
    /// To `Hello`.
    Welcome {
        /// Name of this connection; goes into everything the node says on it.
        session: SessionId,
        /// The leader's term.
        epoch: u64,
        /// Events of this ledger up to here are durable.
        acked: Sequence,
    },
    /// To `Events`: all up to here are durable.
    Acked {
        /// Of which ledger.
        ledger: LedgerId,
        /// Up to where.
        sequence: Sequence,
    },
    /// To everything that has no other answer.
    Done,
}

/// The two clocks at one moment: the wall's for people and records, the monotonic one for lengths of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall time.
    pub wall: WallTime,
    /// Since the program began.
    pub mono: Span,
}
