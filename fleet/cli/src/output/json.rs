//! JSON for programs: one document, or one object a line where things happen one by one.

use std::io::{self, Write};

use serde::Serialize;

use super::{Note, Output};
use crate::view::{
    Check, Explained, FleetStatus, HeadroomView, JobRow, JobView, LogLine, Me, NewToken, NodeRow, NodeView,
    ProveLast, ProveRun, ReceiptRow, Submitted, TeamRow, TokenRow, UserRow, UserView,
};

/// Prints JSON.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
}

#[derive(Serialize)]
struct LoggedIn<'a> {
    #[serde(flatten)]
    me: &'a Me,
    session_address: &'a str,
}

#[derive(Serialize)]
struct Revoked<'a> {
    token_id: &'a str,
    state: &'static str,
}

#[derive(Serialize)]
struct Removed<'a> {
    team: &'a str,
    state: &'static str,
}

#[derive(Serialize)]
struct Stands<'a> {
    node: &'a str,
    #[serde(flatten)]
    run: &'a ProveRun,
}

#[derive(Serialize)]
struct Diagnosis<'a> {
    checks: &'a [Check],
    me: Option<&'a Me>,
    fleet: Option<&'a FleetStatus>,
}

#[derive(Serialize)]
struct LogEvent<'a> {
    event: &'static str,
    #[serde(flatten)]
    line: &'a LogLine,
}

impl<W: Write> Json<W> {
    /// Onto this.
    pub const fn new(out: W) -> Self {
        Self { out }
    }

    fn document(&mut self, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        writeln!(self.out)?;
        self.out.flush()
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}

impl<W: Write> Output for Json<W> {
    fn jobs(&mut self, jobs: &[JobRow]) -> io::Result<()> {
        self.document(jobs)
    }

    fn job(&mut self, job: &JobView) -> io::Result<()> {
        self.document(job)
    }

    fn submitted(&mut self, job: &Submitted) -> io::Result<()> {
        self.document(job)
    }

    fn done(&mut self, job: &JobRow) -> io::Result<()> {
        self.document(job)
    }

    fn explained(&mut self, why: &Explained) -> io::Result<()> {
        self.document(why)
    }

    fn nodes(&mut self, nodes: &[NodeRow]) -> io::Result<()> {
        self.document(nodes)
    }

    fn headroom(&mut self, nodes: &[HeadroomView]) -> io::Result<()> {
        self.document(nodes)
    }

    fn node(&mut self, node: &NodeView) -> io::Result<()> {
        self.document(node)
    }

    fn prove(&mut self, last: &ProveLast, _when: bool) -> io::Result<()> {
        // As it was signed: `loadline-warden prove --verify` reads it.
        writeln!(self.out, "{}", last.json.trim_end())?;
        self.out.flush()
    }

    fn prove_stands(&mut self, node: &str, run: &ProveRun) -> io::Result<()> {
        self.document(&Stands { node, run })
    }

    fn progress(&mut self, _line: &str) -> io::Result<()> {
        Ok(())
    }

    fn receipts(&mut self, receipts: &[ReceiptRow]) -> io::Result<()> {
        self.document(receipts)
    }

    fn node_changed(&mut self, node: &NodeRow, _what: &str) -> io::Result<()> {
        self.document(node)
    }

    fn token(&mut self, token: &NewToken) -> io::Result<()> {
        self.document(token)
    }

    fn tokens(&mut self, tokens: &[TokenRow]) -> io::Result<()> {
        self.document(tokens)
    }

    fn revoked(&mut self, token_id: &str) -> io::Result<()> {
        self.document(&Revoked {
            token_id,
            state: "revoked",
        })
    }

    fn user(&mut self, user: &UserRow, _what: &str) -> io::Result<()> {
        self.document(user)
    }

    fn users(&mut self, users: &[UserRow]) -> io::Result<()> {
        self.document(users)
    }

    fn user_shown(&mut self, user: &UserView) -> io::Result<()> {
        self.document(user)
    }

    fn user_changed(&mut self, user: &UserRow) -> io::Result<()> {
        self.document(user)
    }

    fn teams(&mut self, teams: &[TeamRow]) -> io::Result<()> {
        self.document(teams)
    }

    fn team(&mut self, team: &TeamRow) -> io::Result<()> {
        self.document(team)
    }

    fn team_changed(&mut self, team: &TeamRow) -> io::Result<()> {
        self.document(team)
    }

    fn team_removed(&mut self, team: &str) -> io::Result<()> {
        self.document(&Removed {
            team,
            state: "removed",
        })
    }

    fn quota(&mut self, team: &TeamRow) -> io::Result<()> {
        self.document(team)
    }

    fn logged_in(&mut self, me: &Me, address: &str) -> io::Result<()> {
        self.document(&LoggedIn {
            me,
            session_address: address,
        })
    }

    fn health(&mut self, checks: &[Check], me: Option<&Me>, fleet: Option<&FleetStatus>) -> io::Result<()> {
        self.document(&Diagnosis { checks, me, fleet })
    }

    fn log(&mut self, line: &LogLine, _many: bool) -> io::Result<()> {
        self.line(&LogEvent { event: "log", line })
    }

    fn note(&mut self, note: &Note<'_>) -> io::Result<()> {
        self.line(note)
    }
}
