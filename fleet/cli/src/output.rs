//! Everything that is printed, in one trait with two implementations: tables for people, JSON for programs. Both
//! render the same values of [`crate::view`].

mod detail;
mod headroom;
mod json;
mod note;
mod sharing;
mod table;

use std::io;

use crate::args::Format;
use crate::view::{
    Check, Explained, FleetStatus, HeadroomView, JobRow, JobView, LogLine, Me, NewToken, NodeRow, NodeView,
    ProveLast, ProveRun, ReceiptRow, Submitted, TeamRow, TokenRow, UserRow, UserView,
};

pub use json::Json;
pub use note::Note;
pub use table::Table;

/// What a command can say.
pub trait Output {
    /// A list of jobs.
    ///
    /// # Errors
    /// When it cannot be written; so for all of these.
    fn jobs(&mut self, jobs: &[JobRow]) -> io::Result<()>;
    /// One job.
    fn job(&mut self, job: &JobView) -> io::Result<()>;
    /// A job that was accepted and left alone.
    fn submitted(&mut self, job: &Submitted) -> io::Result<()>;
    /// A job that is done, or is asked to be.
    fn done(&mut self, job: &JobRow) -> io::Result<()>;
    /// Why a job waits.
    fn explained(&mut self, why: &Explained) -> io::Result<()>;
    /// A list of nodes.
    fn nodes(&mut self, nodes: &[NodeRow]) -> io::Result<()>;
    /// What nodes keep, lend and have cost.
    fn headroom(&mut self, nodes: &[HeadroomView]) -> io::Result<()>;
    /// One node.
    fn node(&mut self, node: &NodeView) -> io::Result<()>;
    /// What a test came to; `when`: its age is worth a word.
    fn prove(&mut self, last: &ProveLast, when: bool) -> io::Result<()>;
    /// A test that was begun, or asked to end, and left alone.
    fn prove_stands(&mut self, node: &str, run: &ProveRun) -> io::Result<()>;
    /// What happens meanwhile; not for programs, whose one document is the report.
    fn progress(&mut self, line: &str) -> io::Result<()>;
    /// A list of receipts.
    fn receipts(&mut self, receipts: &[ReceiptRow]) -> io::Result<()>;
    /// A node after something was done to it.
    fn node_changed(&mut self, node: &NodeRow, what: &str) -> io::Result<()>;
    /// A new token.
    fn token(&mut self, token: &NewToken) -> io::Result<()>;
    /// A list of tokens.
    fn tokens(&mut self, tokens: &[TokenRow]) -> io::Result<()>;
    /// A token that was made useless.
    fn revoked(&mut self, token_id: &str) -> io::Result<()>;
    /// A person after something was done.
    fn user(&mut self, user: &UserRow, what: &str) -> io::Result<()>;
    /// A list of people.
    fn users(&mut self, users: &[UserRow]) -> io::Result<()>;
    /// One person with their teams.
    fn user_shown(&mut self, user: &UserView) -> io::Result<()>;
    /// A person in another team, or with another role.
    fn user_changed(&mut self, user: &UserRow) -> io::Result<()>;
    /// A list of teams.
    fn teams(&mut self, teams: &[TeamRow]) -> io::Result<()>;
    /// One team.
    fn team(&mut self, team: &TeamRow) -> io::Result<()>;
    /// A team after it was made or changed.
    fn team_changed(&mut self, team: &TeamRow) -> io::Result<()>;
    /// A team that is no more.
    fn team_removed(&mut self, team: &str) -> io::Result<()>;
    /// What a team may, and what is used of it.
    fn quota(&mut self, team: &TeamRow) -> io::Result<()>;
    /// After a login.
    fn logged_in(&mut self, me: &Me, address: &str) -> io::Result<()>;
    /// What `fleet doctor` found.
    fn health(&mut self, checks: &[Check], me: Option<&Me>, fleet: Option<&FleetStatus>) -> io::Result<()>;
    /// A line of a worker; `many`: its worker is to be told.
    fn log(&mut self, line: &LogLine, many: bool) -> io::Result<()>;
    /// Something that happened while a job is watched.
    fn note(&mut self, note: &Note<'_>) -> io::Result<()>;
}

/// The output that was asked for, on standard output and standard error.
pub fn on_standard(format: Format) -> Box<dyn Output> {
    match format {
        Format::Table => Box::new(Table::new(io::stdout(), io::stderr(), crate::clock::now())),
        Format::Json => Box::new(Json::new(io::stdout())),
    }
}
