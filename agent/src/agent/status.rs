//! `loadline-agent status`: what the running agent says of itself, asked over its own metrics port.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use loadline_model::{FleetId, NodeId, Span, WallTime};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::clock::shown;
use super::link::LinkState;

/// How the agent stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Of the agent.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// Its id.
    pub node_id: NodeId,
    /// Its fleet.
    pub fleet_id: FleetId,
    /// Where that is.
    pub fleet_address: String,
    fleet: LinkState,
    /// When the fleet was last heard of.
    pub last_contact: Option<WallTime>,
    /// The certificate's last moment.
    pub certificate_until: WallTime,
    /// It is over.
    pub certificate_expired: bool,
    /// What is left of it.
    pub certificate_left_s: u64,
    /// Events that the fleet has not acknowledged.
    pub spool_events: u64,
    /// Spool records set aside.
    pub spool_set_aside: u64,
    /// Why events cannot be stored just now.
    pub spool_problem: Option<String>,
    /// The warden's version, once it answered.
    pub warden_version: Option<String>,
    /// Why the warden does not answer now.
    pub warden_problem: Option<String>,
}

impl StatusReport {
    pub(super) fn of(shared: &Shared) -> Self {
        let now = shared.clock.now();
        let certificate = shared.identity.borrow().validity;
        let spool = *shared.spool.watch().borrow();
        let view = shared.warden.view();
        let never = || Some("it has not answered yet".to_owned());
        let warden_problem = match (&view.problem, &view.status) {
            (Some(problem), _) => Some(problem.why.clone()),
            (None, None) => never(),
            (None, Some(_)) => None,
        };
        let file = &shared.trust.fleet;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: file.node.clone(),
            node_id: file.node_id,
            fleet_id: file.fleet_id,
            fleet_address: file.session_address.clone(),
            fleet: shared.link.borrow().clone(),
            last_contact: shared.last_contact.at(),
            certificate_until: certificate.until,
            certificate_expired: now > certificate.until,
            certificate_left_s: certificate.left(now).as_secs(),
            spool_events: spool.events,
            spool_set_aside: spool.set_aside,
            spool_problem: shared.spool_trouble.borrow().clone(),
            warden_version: view.status.map(|status| status.version.clone()),
            warden_problem,
        }
    }

    /// True while in session.
    pub const fn is_connected(&self) -> bool {
        self.fleet.is_connected()
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "node         {} ({})", self.node, self.node_id)?;
        write!(f, "fleet        {} ", self.fleet_address)?;
        match &self.fleet {
            LinkState::WaitingForWarden => writeln!(f, "not dialled: the warden has not answered yet")?,
            LinkState::Connecting { after: None } => writeln!(f, "connecting")?,
            LinkState::Connecting { after: Some(why) } => writeln!(f, "connecting again: {why}")?,
            LinkState::Connected {
                since,
                fleet_version,
                epoch,
            } => {
                writeln!(
                    f,
                    "connected since {} (fleetd {fleet_version}, epoch {epoch})",
                    shown(*since)
                )?;
            }
            LinkState::Broken {
                since,
                why,
                again_in_ms,
            } => writeln!(
                f,
                "not connected since {}: {why}; next attempt within {}",
                shown(*since),
                Span::from_millis(*again_in_ms)
            )?,
        }
        match self.last_contact {
            Some(at) => writeln!(f, "last heard   {}", shown(at))?,
            None => writeln!(f, "last heard   never since the agent started")?,
        }
        if self.certificate_expired {
            writeln!(
                f,
                "certificate  expired at {}: run `loadline-agent join --rejoin TOKEN` as root",
                shown(self.certificate_until)
            )?;
        } else {
            let left = Span::from_secs(self.certificate_left_s);
            writeln!(
                f,
                "certificate  until {} ({left} left)",
                shown(self.certificate_until)
            )?;
        }
        write!(
            f,
            "spool        {} events wait, {} records set aside",
            self.spool_events, self.spool_set_aside
        )?;
        match &self.spool_problem {
            Some(problem) => writeln!(f, "; {problem}")?,
            None => writeln!(f)?,
        }
        match (&self.warden_problem, &self.warden_version) {
            (Some(problem), _) => write!(f, "warden       {problem}"),
            (None, Some(version)) => write!(f, "warden       answers ({version})"),
            (None, None) => write!(f, "warden       not asked yet"),
        }
    }
}

/// The running agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// It does not listen.
    #[error("no agent answers on {address}: systemctl status loadline-agent")]
    Unreachable {
        /// Where it should.
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// Something else listens there.
    #[error("what answers on {address} is not this version's agent")]
    Strange {
        /// Where.
        address: SocketAddr,
    },
    /// Its port is switched off.
    #[error(
        "agent.toml says metrics.listen = \"off\", so the agent cannot be asked: journalctl -u loadline-agent"
    )]
    Off,
}

/// Asks the running agent.
///
/// # Errors
/// When none answers.
pub fn ask(address: SocketAddr) -> Result<StatusReport, StatusError> {
    let unreachable = |source| StatusError::Unreachable { address, source };
    let text = get(address, "/status").map_err(unreachable)?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(|_| StatusError::Strange { address })
}

/// One request, one answer, one connection: all that is needed here of HTTP.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.take(1 << 20).read_to_string(&mut text)?;
    Ok(text)
}
