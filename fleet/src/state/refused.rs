//! Why a command changed nothing. Each refusal knows its stable reason, its class on the wire and the next step.

use loadline_model::{JobId, Priority, shown};

/// The classes of refusals; the edge maps them to gRPC codes, the command line to exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong as it stands.
    InvalidArgument,
    /// What it names does not exist.
    NotFound,
    /// It exists already, and differently.
    AlreadyExists,
    /// Right, but not now.
    FailedPrecondition,
    /// Whoever asks may not.
    PermissionDenied,
    /// No room, no durable answer possible.
    ResourceExhausted,
    /// fleetd is stopping or broken.
    Unavailable,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The same job id came with another specification or from someone else.
    #[error("job {0} was already submitted with another specification")]
    JobConflict(JobId),
    /// No such job.
    #[error("there is no job {}", shown(.0))]
    JobUnknown(String),
    /// It waits for itself.
    #[error("{0}")]
    Dependency(String),
    /// It waits for a job that is not there, or not the submitter's or their team's.
    #[error("you and your team have no job {0} to wait for")]
    DependencyUnknown(String),
    /// Nothing on a node runs tasks.
    #[error("arrays cannot run yet: the program that runs their tasks on the nodes is not there")]
    ArrayNeedsRunner,
    /// The fleet fills it in itself.
    #[error("the fleet sets the label `{0}` of every node itself")]
    LabelReserved(String),
    /// Too many.
    #[error("node {0} would have more than {1} labels or taints")]
    MarksTooMany(String, usize),
    /// No such node.
    #[error("there is no node {}", shown(.0))]
    NodeUnknown(String),
    /// No such person.
    #[error("there is no user {}", shown(.0))]
    UserUnknown(String),
    /// No such team.
    #[error("there is no team {}", shown(.0))]
    TeamUnknown(String),
    /// The team cannot pay for them.
    #[error("{0} is not in team {1}")]
    NotInTeam(String, String),
    /// Others would have to yield to it.
    #[error("{user} may ask for priority {most} at most, not {asked}")]
    PriorityTooHigh {
        /// Who asks.
        user: String,
        /// For what.
        asked: Priority,
        /// And may have.
        most: Priority,
    },
    /// It pays for jobs that are not done.
    #[error("team {0} pays for {1} jobs that are not done")]
    TeamBusy(String, usize),
    /// The name is taken.
    #[error("there is already a user {0}")]
    UserExists(String),
    /// The person is banned.
    #[error("user {0} is banned")]
    UserBanned(String),
    /// No such token, by id.
    #[error("there is no token {}", shown(.0))]
    TokenUnknown(String),
    /// The secret opens nothing, or nothing any more. One answer for all cases, so that guessing teaches nothing.
    #[error("the token is unknown, used, expired, revoked or for another name")]
    TokenInvalid,
    /// Token lives are bounded.
    #[error("a token for a node lives at most {0} minutes")]
    TokenLife(u64),
    /// The last administrator cannot be banned.
    #[error("{0} is the last administrator")]
    LastAdmin(String),
    /// The node is banned.
    #[error("node {0} is banned")]
    NodeBanned(String),
    /// Only a silent node can be given up.
    #[error("node {0} is connected")]
    NodeConnected(String),
    /// The node has not told yet what its owner allows.
    #[error("node {0} has not connected yet, so nobody knows what its owner allows")]
    NodeNeverSeen(String),
    /// Its programs know no ceilings.
    #[error("node {0} runs a version of loadline-node that cannot be told what it may do")]
    NodeTooOld(String),
    /// Local policy is final.
    #[error(
        "the owner of node {0} allows no more than `{1}`: `lend.mode` in /etc/loadline/node.toml there says so"
    )]
    BeyondOwner(String, &'static str),
    /// Its programs know no tests.
    #[error("node {0} runs a version of loadline-node that knows no tests from the fleet")]
    ProveTooOld(String),
    /// Local policy is final.
    #[error(
        "the owner of node {0} lets the fleet run no tests there: `lend.prove` in /etc/loadline/node.toml there is `refuse`"
    )]
    ProveForbidden(String),
    /// One test at a time.
    #[error("a test runs on node {0} already, begun by {1}")]
    ProveRuns(String, String),
    /// There is none to end.
    #[error("no test runs on node {0}")]
    NoProve(String),
    /// A test begins now or not at all.
    #[error("node {0} is not connected, and a test that begins at some other time tells nothing about now")]
    NodeSilent(String),
    /// A newer session of the same node took over.
    #[error("a newer session of this node has taken over")]
    SessionReplaced,
    /// The store did not take it; nothing changed.
    #[error("the change could not be made durable: {0}")]
    StoreFull(String),
    /// The store is broken or fleetd is stopping.
    #[error("the fleet manager is stopping")]
    Stopped,
}

impl Refused {
    /// The class.
    pub const fn code(&self) -> Code {
        match self {
            Self::JobConflict(_) | Self::UserExists(_) => Code::AlreadyExists,
            Self::JobUnknown(_)
            | Self::NodeUnknown(_)
            | Self::UserUnknown(_)
            | Self::TeamUnknown(_)
            | Self::TokenUnknown(_) => Code::NotFound,
            Self::NotInTeam(..)
            | Self::PriorityTooHigh { .. }
            | Self::UserBanned(_)
            | Self::TokenInvalid
            | Self::NodeBanned(_) => Code::PermissionDenied,
            Self::TokenLife(_)
            | Self::Dependency(_)
            | Self::DependencyUnknown(_)
            | Self::LabelReserved(_)
            | Self::MarksTooMany(..) => Code::InvalidArgument,
            Self::LastAdmin(_)
            | Self::ArrayNeedsRunner
            | Self::TeamBusy(..)
            | Self::NodeConnected(_)
            | Self::NodeNeverSeen(_)
            | Self::NodeTooOld(_)
            | Self::BeyondOwner(..)
            | Self::ProveTooOld(_)
            | Self::ProveForbidden(_)
            | Self::ProveRuns(..)
            | Self::NoProve(_)
            | Self::NodeSilent(_)
            | Self::SessionReplaced => Code::FailedPrecondition,
            Self::StoreFull(_) => Code::ResourceExhausted,
            Self::Stopped => Code::Unavailable,
        }
    }

    /// UPPER_SNAKE, stable.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::JobConflict(_) => "JOB_CONFLICT",
            Self::JobUnknown(_) => "JOB_UNKNOWN",
            Self::Dependency(_) => "DEPENDENCY_CIRCLE",
            Self::DependencyUnknown(_) => "DEPENDENCY_UNKNOWN",
            Self::ArrayNeedsRunner => "ARRAY_NEEDS_RUNNER",
            Self::LabelReserved(_) => "LABEL_RESERVED",
            Self::MarksTooMany(..) => "MARKS_TOO_MANY",
            Self::NodeUnknown(_) => "NODE_UNKNOWN",
            Self::UserUnknown(_) => "USER_UNKNOWN",
            Self::TeamUnknown(_) => "TEAM_UNKNOWN",
            Self::NotInTeam(..) => "NOT_IN_TEAM",
            Self::PriorityTooHigh { .. } => "PRIORITY_TOO_HIGH",
            Self::TeamBusy(..) => "TEAM_BUSY",
            Self::UserExists(_) => "USER_EXISTS",
            Self::UserBanned(_) => "USER_BANNED",
            Self::TokenUnknown(_) => "TOKEN_UNKNOWN",
            Self::TokenInvalid => "TOKEN_INVALID",
            Self::TokenLife(_) => "TOKEN_LIFE",
            Self::LastAdmin(_) => "LAST_ADMIN",
            Self::NodeBanned(_) => "NODE_BANNED",
            Self::NodeConnected(_) => "NODE_CONNECTED",
            Self::NodeNeverSeen(_) => "NODE_NEVER_SEEN",
            Self::NodeTooOld(_) => "NODE_TOO_OLD",
            Self::BeyondOwner(..) => "BEYOND_OWNER",
            Self::ProveTooOld(_) => "PROVE_TOO_OLD",
            Self::ProveForbidden(_) => "PROVE_FORBIDDEN",
            Self::ProveRuns(..) => "PROVE_RUNS",
            Self::NoProve(_) => "NO_PROVE",
            Self::NodeSilent(_) => "NODE_SILENT",
            Self::SessionReplaced => "SESSION_REPLACED",
            Self::StoreFull(_) => "STORE_FULL",
            Self::Stopped => "STOPPED",
        }
    }

    /// What to do about it.
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::JobConflict(_) => "submit it under a new id",
            Self::JobUnknown(_) => "list jobs with `fleet jobs --all`",
            Self::Dependency(_) => "leave out that one",
            Self::DependencyUnknown(_) => {
                "submit that one first, jobs never wait for each other in a circle; `fleet jobs --all` lists jobs with their numbers"
            }
            Self::ArrayNeedsRunner => {
                "submit a job for each task, or one with as many workers: each has LOADLINE_WORKER"
            }
            Self::LabelReserved(_) => "choose another key",
            Self::MarksTooMany(..) => "take some away first, with `KEY-`",
            Self::NodeUnknown(_) => "list nodes with `fleet nodes`",
            Self::UserUnknown(_) => "list people with `fleet user list`, add one with `fleet user add`",
            Self::TeamUnknown(_) => "list teams with `fleet team list`, make one with `fleet team set NAME`",
            Self::NotInTeam(..) => {
                "ask an operator to type `fleet team set TEAM --add NAME`; `fleet team list` shows who is in which"
            }
            Self::PriorityTooHigh { .. } => {
                "leave --priority out, or ask an operator; `sharing.priority_most` in fleetd.toml is what all may ask for"
            }
            Self::TeamBusy(..) => "wait for them or cancel them: `fleet jobs` lists them",
            Self::UserExists(_) => "choose another name",
            Self::UserBanned(_) => "ask an administrator",
            Self::TokenUnknown(_) => "list tokens with `fleet token list`",
            Self::TokenInvalid => "ask for a new token: each works once, for a short time, for one name",
            Self::TokenLife(_) => "ask for a shorter life",
            Self::LastAdmin(_) => "make another administrator first",
            Self::NodeBanned(_) => "join it under a new identity if it is to come back",
            Self::NodeConnected(_) => "use `fleet node drain` for a node that answers",
            Self::NodeNeverSeen(_) => "join it first, or wait until it connects",
            Self::NodeTooOld(_) => "upgrade loadline-node there; `fleet node drain` works with every version",
            Self::ProveTooOld(_) => "upgrade loadline-node there",
            Self::ProveRuns(..) => "wait for its end, or end it with `fleet prove NODE --stop`",
            Self::NoProve(_) => "see the last one with `fleet prove NODE --last`",
            Self::NodeSilent(_) => "see `fleet nodes`, and try again when it is back",
            Self::BeyondOwner(..) | Self::ProveForbidden(_) => {
                "ask the owner to change it there and run `systemctl reload loadline-warden`"
            }
            Self::SessionReplaced => "close this stream",
            Self::StoreFull(_) => "make room on the disk of the store; nothing was changed",
            Self::Stopped => "try again in a moment",
        }
    }
}
