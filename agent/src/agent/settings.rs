//! What the agent is told: where its files are, how patient it is, and `/etc/loadline/agent.toml` (optional).
//!
//! A mistake in the file is refused with all mistakes at once; nothing is guessed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::backoff::Backoff;
use crate::spool::SpoolLimits;

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// `/etc/loadline`: the trust that root wrote, and `agent.toml`.
    pub config: PathBuf,
    /// `/var/lib/loadline-agent`: the key, the certificate, the spool.
    pub state: PathBuf,
    /// `/run/loadline/warden.sock`.
    pub warden_socket: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            config: "/etc/loadline".into(),
            state: "/var/lib/loadline-agent".into(),
            warden_socket: "/run/loadline/warden.sock".into(),
        }
    }
}

impl Places {
    /// What the node trusts; root's.
    pub fn trust(&self) -> PathBuf {
        self.config.join("trust")
    }

    /// The optional configuration.
    pub fn agent_toml(&self) -> PathBuf {
        self.config.join("agent.toml")
    }

    /// The node's private key.
    pub fn key(&self) -> PathBuf {
        self.state.join("node.key")
    }

    /// The node's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.state.join("node.crt")
    }

    /// Events that the fleet has not acknowledged.
    pub fn spool(&self) -> PathBuf {
        self.state.join("spool.db")
    }
}

/// How patient the agent is. The defaults are the design's; tests choose shorter ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A sample to the fleet, and a look at the warden, this often.
    pub liveness: Duration,
    /// To open a connection, TLS included, and to be welcomed.
    pub connect: Duration,
    /// A ping on a connection this often…
    pub ping: Duration,
    /// …and without an answer for so long it is dead: a silent partition is noticed within the sum, 15 s.
    pub ping_answer: Duration,
    /// Waits between attempts to reach the fleet.
    pub backoff: Backoff,
    /// A session that lasted so long starts the waits anew.
    pub settled: Duration,
    /// For one answer of the warden.
    pub warden: Duration,
    /// Between attempts at something local that failed: the warden's stream, a full disk, a renewal.
    pub retry: Backoff,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            liveness: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            ping: Duration::from_secs(5),
            ping_answer: Duration::from_secs(10),
            backoff: Backoff::default(),
            settled: Duration::from_secs(10),
            warden: Duration::from_secs(3),
            retry: Backoff {
                base: Duration::from_millis(500),
                cap: Duration::from_secs(10),
            },
        }
    }
}

/// Where `/metrics` is served, if anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsListen {
    /// On this address.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// Everything `loadline-agent run` needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where things are.
    pub places: Places,
    /// Where metrics are served.
    pub metrics: MetricsListen,
    /// How patient it is.
    pub timing: Timing,
    /// How much the spool holds before the warden's ledger has to.
    pub spool: SpoolLimits,
}

/// `agent.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not TOML.
    #[error("{path} is not valid TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It says things that cannot be.
    #[error("{path}: {}", problems.join("; "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// One sentence each.
        problems: Vec<String>,
    },
}

/// The default address of `/metrics`.
const METRICS: &str = "127.0.0.1:7719";

impl Settings {
    /// Reads `agent.toml` if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn load(places: Places) -> Result<Self, SettingsError> {
        let path = places.agent_toml();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        let metrics = parse(&path, &text)?;
        Ok(Self {
            places,
            metrics,
            timing: Timing::default(),
            spool: SpoolLimits::default(),
        })
    }
}

fn parse(path: &Path, text: &str) -> Result<MetricsListen, SettingsError> {
    let table: toml::Table = text.parse().map_err(|error| SettingsError::Syntax {
        path: path.to_owned(),
        source: Box::new(error),
    })?;
    let mut problems = Vec::new();
    let mut listen = METRICS.to_owned();
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("version", toml::Value::Integer(1)) => {}
            ("version", other) => problems.push(format!("version = {other}: this agent knows version 1")),
            ("metrics", toml::Value::Table(metrics)) => read_metrics(metrics, &mut listen, &mut problems),
            ("metrics", _) => problems.push("`metrics` must be a table: [metrics]".into()),
            // Keys of a newer minor live under [x-…] and are ignored by older ones (design §4).
            (newer, toml::Value::Table(_)) if newer.starts_with("x-") => {}
            (unknown, _) => problems.push(format!("unknown key `{unknown}` (known: version, metrics)")),
        }
    }
    if !table.is_empty() && !table.contains_key("version") {
        problems.push("`version = 1` is missing".into());
    }
    let listen = match listen.as_str() {
        "off" => Some(MetricsListen::Off),
        address => address.parse().ok().map(MetricsListen::At),
    };
    if listen.is_none() {
        problems.push("metrics.listen must be an address like \"127.0.0.1:7719\", or \"off\"".into());
    }
    match listen {
        Some(listen) if problems.is_empty() => Ok(listen),
        _ => Err(SettingsError::Invalid {
            path: path.to_owned(),
            problems,
        }),
    }
}

fn read_metrics(metrics: &toml::Table, listen: &mut String, problems: &mut Vec<String>) {
    for (key, value) in metrics {
        match (key.as_str(), value) {
            ("listen", toml::Value::String(text)) => listen.clone_from(text),
            ("listen", _) => problems.push("metrics.listen must be a text".into()),
            (unknown, _) => problems.push(format!("unknown key `metrics.{unknown}` (known: listen)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MetricsListen, String> {
        parse(Path::new("agent.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_means_loopback() {
        let default = MetricsListen::At("127.0.0.1:7719".parse().unwrap());
        assert_eq!(read(""), Ok(default));
        assert_eq!(read("version = 1\n[x-later]\nnew = 1"), Ok(default));
        assert_eq!(
            read("version = 1\n[metrics]\nlisten = \"[::]:9000\""),
            Ok(MetricsListen::At("[::]:9000".parse().unwrap()))
        );
        assert_eq!(
            read("version = 1\nmetrics = { listen = \"off\" }"),
            Ok(MetricsListen::Off)
        );
    }

    #[test]
    fn all_mistakes_are_said_at_once() {
        let said = read("version = 2\nmetric = 1\n[metrics]\nlisten = \"here\"\nport = 1").unwrap_err();
        for part in [
            "version 1",
            "`metric`",
            "`metrics.port`",
            "metrics.listen must be an address",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(
            read("[metrics]\nlisten = \"off\"")
                .unwrap_err()
                .contains("`version = 1` is missing")
        );
        assert!(read("version = ").unwrap_err().contains("not valid TOML"));
    }
}
