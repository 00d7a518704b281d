//! The exit codes of design §7.

use std::process::ExitCode;

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed.
    Failed,
    /// 2: it was not asked rightly.
    Usage,
    /// 3: what was named does not exist.
    NotFound,
    /// 4: not allowed, or not known who asks.
    Denied,
    /// 5: the fleet cannot be reached.
    Unreachable,
    /// 130: Ctrl-C, as shells have it.
    Interrupted,
    /// The job's own code, passed on by `run` and `wait`.
    Job(u8),
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::Unreachable => 5,
            Self::Interrupted => 130,
            Self::Job(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
