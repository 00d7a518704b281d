//! `/etc/loadline/fleetd.toml`: what someone wrote ([`File`]), then what fleetd uses ([`Config`]).
//!
//! Every key has a default, so the file may be missing or empty. Unknown keys are refused, and all mistakes are
//! reported at once; after that nothing can fail for its configuration but the outside world.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::state::SharingRules;
use crate::tls::PkiFiles;

mod names;
mod sharing;

pub use names::{NameProblem, ReachableName};

/// Where fleetd looks unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/loadline/fleetd.toml";
/// Where it keeps its state unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/loadline-fleet";
/// The mutual TLS port.
pub const SESSION_PORT: u16 = 7717;
/// The port of join and login.
pub const ACCESS_PORT: u16 = 7718;
/// The loopback port of metrics and health.
pub const HTTP_PORT: u16 = 7720;

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    version: Option<u32>,
    state_dir: Option<PathBuf>,
    names: Option<Vec<String>>,
    listen: FileListen,
    pki: FilePki,
    sharing: sharing::FileSharing,
    // Keys of a newer minor live under `[x-…]`; serde cannot express the prefix, see `parse`.
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileListen {
    session: Option<String>,
    access: Option<String>,
    http: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FilePki {
    ca: Option<PathBuf>,
    ca_key: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// What fleetd uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Keys, store and audit log.
    pub state_dir: PathBuf,
    /// What nodes and people dial; empty: as said at `fleetd init`.
    pub names: Vec<ReachableName>,
    /// Mutual TLS.
    pub session: SocketAddr,
    /// Join and login.
    pub access: SocketAddr,
    /// Metrics and health, without TLS.
    pub http: SocketAddr,
    /// The site's own PKI; none: the fleet's own.
    pub pki: Option<PkiFiles>,
    /// How the fleet is shared, as far as it is the same for all teams.
    pub sharing: SharingRules,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Which key.
    pub key: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is not TOML, or has a key that does not exist or is of another type.
    #[error("{}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It reads well and means nothing usable.
    #[error("{}: {}", path.display(), Mistakes(mistakes))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<Mistake>,
    },
}

struct Mistakes<'a>(&'a [Mistake]);

impl fmt::Display for Mistakes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { key, problem }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{key}: {problem}")?;
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self {
            state_dir: DEFAULT_STATE_DIR.into(),
            names: Vec::new(),
            session: any(SESSION_PORT),
            access: any(ACCESS_PORT),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT)),
            pki: None,
            sharing: SharingRules::default(),
        }
    }
}

impl Config {
    /// Reads a file; a missing default file means defaults.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Reads a text; `path` is for messages.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let mut table: toml::Table = toml::from_str(text).map_err(syntax)?;
        table.retain(|key, _| !key.starts_with("x-"));
        // Read the text itself where nothing was taken out: its messages point at lines.
        let file: File = if table.len() == toml::from_str::<toml::Table>(text).map_err(syntax)?.len() {
            toml::from_str(text).map_err(syntax)?
        } else {
            table.try_into().map_err(syntax)?
        };
        let mut mistakes = Vec::new();
        let config = check(file, &mut mistakes);
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Mistakes {
                path: path.to_owned(),
                mistakes,
            })
        }
    }
}

fn check(file: File, mistakes: &mut Vec<Mistake>) -> Config {
    let defaults = Config::default();
    let mut wrong = |key: &str, problem: String| {
        mistakes.push(Mistake {
            key: key.to_owned(),
            problem,
        })
    };
    if file.version.is_some_and(|version| version != 1) {
        wrong("version", "this fleetd reads version 1".into());
    }
    let state_dir = file.state_dir.unwrap_or(defaults.state_dir);
    if !state_dir.is_absolute() {
        wrong(
            "state_dir",
            format!("`{}` is not an absolute path", state_dir.display()),
        );
    }
    let mut address = |key: &str, text: Option<String>, default: SocketAddr| {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|_| {
            let problem = format!(
                "`{text}` is not an address with a port, like \"0.0.0.0:{}\"",
                default.port()
            );
            wrong(key, problem);
            default
        })
    };
    let session = address("listen.session", file.listen.session, defaults.session);
    let access = address("listen.access", file.listen.access, defaults.access);
    let http = address("listen.http", file.listen.http, defaults.http);
    let both = |a: SocketAddr, b: SocketAddr| a.port() == b.port() && a.port() != 0;
    if both(session, access) || both(session, http) || both(access, http) {
        wrong(
            "listen",
            "session, access and http need a port of their own each".into(),
        );
    }
    let mut names = Vec::new();
    for name in file.names.unwrap_or_default() {
        match name.parse() {
            Ok(name) => names.push(name),
            Err(problem) => wrong("names", NameProblem::to_string(&problem)),
        }
    }
    let pki = check_pki(file.pki, &mut wrong);
    let sharing = sharing::check(file.sharing, &mut wrong);
    Config {
        state_dir,
        names,
        session,
        access,
        http,
        pki,
        sharing,
    }
}

fn check_pki(pki: FilePki, wrong: &mut impl FnMut(&str, String)) -> Option<PkiFiles> {
    let FilePki {
        ca,
        ca_key,
        certificate,
        key,
    } = pki;
    for (name, path) in [
        ("pki.ca", &ca),
        ("pki.ca_key", &ca_key),
        ("pki.certificate", &certificate),
        ("pki.key", &key),
    ] {
        if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
            wrong(name, format!("`{}` is not an absolute path", path.display()));
        }
    }
    let server = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            wrong("pki", "`certificate` and `key` go together".into());
            None
        }
    };
    match (ca, ca_key) {
        (Some(ca), Some(ca_key)) => Some(PkiFiles { ca, ca_key, server }),
        (None, None) => {
            if server.is_some() {
                wrong(
                    "pki",
                    "`certificate` needs the `ca` and `ca_key` that nodes and people are signed with".into(),
                );
            }
            None
        }
        _ => {
            wrong("pki", "`ca` and `ca_key` go together".into());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("fleetd.toml"), text)
    }

    #[test]
    fn how_the_fleet_is_shared_can_be_said() {
        let config = parse(
            "[sharing]\nleft_alone = \"5s\"\npatience = \"12h\"\nreservations = 3\npriority_most = \"high\"",
        )
        .unwrap();
        let policy = config.sharing.policy;
        let cool_down = policy.yielding.unwrap().cool_down;
        assert_eq!(cool_down, loadline_model::Span::from_secs(5));
        assert_eq!(policy.backfill.reservations, 3);
        assert_eq!(policy.priority_most, loadline_model::Priority::HIGH);
        assert_eq!(parse("").unwrap().sharing, SharingRules::default());
        let keys = mistakes(
            "[sharing]\nleft_alone = \"0s\"\npatience = \"long\"\nreservations = 100\npriority_most = \"top\"",
        );
        assert_eq!(
            keys,
            [
                "sharing.patience",
                "sharing.left_alone",
                "sharing.priority_most",
                "sharing.reservations"
            ]
        );
    }

    #[test]
    fn burst_work_of_all_teams_may_have_its_times() {
        let config =
            parse("[sharing]\nburst_windows = [\"Mon-Fri 20:00-07:00\", \"Sat-Sun 00:00-24:00\"]").unwrap();
        let told: Vec<String> = config.sharing.burst.0.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["Mon-Fri 20:00-07:00", "Sat-Sun 00:00-24:00"]);
        let error =
            parse("[sharing]\nburst_windows = [\"at night\", \"Mon 7-8\"]\npatience = \"1s\"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "fleetd.toml: sharing.patience: at least 1h; \
             sharing.burst_windows: `at night` is not a time of the week: write it like \"Mon-Fri 19:00-07:00\"; \
             sharing.burst_windows: `Mon 7-8` is not a time of the week: write it like \"Mon-Fri 19:00-07:00\""
        );
        let error = parse("[sharing]\nburst_windows = []").unwrap_err();
        assert_eq!(
            error.to_string(),
            "fleetd.toml: sharing.burst_windows: name at least one window, or leave it out: burst work may then \
             always start"
        );
        let many = vec!["\"Mon 20:00-21:00\""; 21].join(",");
        let error = parse(&format!("[sharing]\nburst_windows = [{many}]")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fleetd.toml: sharing.burst_windows: at most 20; one may name several days, like Mon-Fri"
        );
    }

    fn mistakes(text: &str) -> Vec<String> {
        match parse(text) {
            Err(ConfigError::Mistakes { mistakes, .. }) => mistakes.into_iter().map(|m| m.key).collect(),
            other => panic!("expected mistakes, got {other:?}"),
        }
    }

    #[test]
    fn an_empty_file_means_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config, Config::default());
        assert!(config.http.ip().is_loopback());
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            version = 1
            state_dir = "/srv/fleet"
            names = ["fleet.example", "10.0.0.1:9718"]
            [listen]
            session = "127.0.0.1:1"
            access = "127.0.0.1:2"
            http = "127.0.0.1:3"
            [pki]
            ca = "/etc/pki/ca.pem"
            ca_key = "/etc/pki/ca.key"
            certificate = "/etc/pki/fleetd.pem"
            key = "/etc/pki/fleetd.key"
            [x-later]
            unknown = true
        "#;
        let config = parse(text).unwrap();
        assert_eq!(config.state_dir, Path::new("/srv/fleet"));
        let names: Vec<String> = config.names.iter().map(ReachableName::to_string).collect();
        assert_eq!(names, ["fleet.example:7718", "10.0.0.1:9718"]);
        assert_eq!(
            (config.session.port(), config.access.port(), config.http.port()),
            (1, 2, 3)
        );
        assert!(config.pki.unwrap().server.is_some());
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused_with_their_line() {
        for text in [
            "stat_dir = \"/x\"",
            "[listen]\nsesion = \"x\"",
            "names = 3",
            "version = \"1\"",
            "a =",
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, ConfigError::Syntax { .. }), "{text}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = r#"
            version = 2
            state_dir = "fleet"
            names = ["two words", "fleet:port"]
            [listen]
            session = "7717"
            access = "0.0.0.0:9"
            http = "127.0.0.1:9"
            [pki]
            ca = "ca.pem"
            certificate = "/c"
        "#;
        assert_eq!(
            mistakes(text),
            [
                "version",
                "state_dir",
                "listen.session",
                "listen",
                "names",
                "names",
                "pki.ca",
                "pki",
                "pki"
            ]
        );
    }

    #[test]
    fn a_named_file_must_exist() {
        assert!(matches!(
            Config::load(Path::new("/nonexistent/f.toml")),
            Err(ConfigError::Read { .. })
        ));
    }
}
