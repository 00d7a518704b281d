//! What is probed, from the word on the command line or the promise in node.toml.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use loadline_policy::node_policy::Probe;

/// A service and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A GET; good is an answer with 2xx.
    Http {
        /// Host and port as written.
        host: String,
        /// The path, beginning with a slash.
        path: String,
    },
    /// A connection; good is that it stands.
    Tcp {
        /// Host and port.
        host: String,
    },
    /// The test's own small service.
    StandIn,
}

/// A word that is no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not one of the forms.
    #[error("`{0}` cannot be probed: write http://HOST[:PORT]/PATH, tcp:HOST:PORT, or unit-stand-in")]
    Form(String),
    /// Encrypted.
    #[error(
        "`{0}` is encrypted, and the probe speaks plain HTTP only: name a plain local address of the service, or probe its port with tcp:HOST:PORT"
    )]
    Tls(String),
    /// No address behind the name.
    #[error("`{host}` has no address")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || TargetError::Form(text.into());
        if text == "unit-stand-in" {
            return Ok(Self::StandIn);
        }
        if text.starts_with("https://") {
            return Err(TargetError::Tls(text.into()));
        }
        if let Some(host) = text.strip_prefix("tcp:") {
            let has_port = host
                .rsplit_once(':')
                .is_some_and(|(name, port)| is_name(name) && is_port(port));
            return if has_port {
                Ok(Self::Tcp { host: host.into() })
            } else {
                Err(form())
            };
        }
        let rest = text.strip_prefix("http://").ok_or_else(form)?;
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let host = match host.rsplit_once(':') {
            Some((name, port)) if is_name(name) && is_port(port) => host.to_owned(),
            None if is_name(host) => format!("{host}:80"),
            _ => return Err(form()),
        };
        let path_is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        if !path_is_plain {
            return Err(form());
        }
        Ok(Self::Http {
            host,
            path: path.to_owned(),
        })
    }
}

fn is_name(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(plain),
    }
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl Target {
    /// As a promise in node.toml is probed; none where its service is not asked but tells.
    ///
    /// # Errors
    /// When it is encrypted or not understood.
    pub fn of_slo(probe: &Probe) -> Option<Result<Self, TargetError>> {
        match probe {
            Probe::Http(url) => Some(url.text().parse()),
            Probe::Tcp(address) => Some(format!("tcp:{address}").parse()),
            Probe::Scrape { .. } | Probe::Promql { .. } | Probe::Push => None,
        }
    }

    /// The address; none for the stand-in, which has one only once it runs.
    ///
    /// # Errors
    /// When the name has none.
    pub fn address(&self) -> Result<Option<SocketAddr>, TargetError> {
        let (Self::Http { host, .. } | Self::Tcp { host }) = self else {
            return Ok(None);
        };
        let failed = |source| TargetError::Resolve {
            host: host.clone(),
            source,
        };
        let first = host.to_socket_addrs().map_err(failed)?.next();
        let none = || failed(io::ErrorKind::NotFound.into());
        first.map(Some).ok_or_else(none)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, path } => write!(f, "http://{host}{path}"),
            Self::Tcp { host } => write!(f, "tcp:{host}"),
            Self::StandIn => f.write_str("unit-stand-in"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_what_they_mean() {
        for (text, shown) in [
            ("http://127.0.0.1/health", "http://127.0.0.1:80/health"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://[::1]:8080/a?b=c", "http://[::1]:8080/a?b=c"),
            ("tcp:localhost:6379", "tcp:localhost:6379"),
            ("unit-stand-in", "unit-stand-in"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
        for wrong in [
            "",
            "nginx",
            "http://",
            "http://:80/",
            "http://a b/",
            "http://a/\r\nX: y",
            "tcp:",
            "tcp:host",
            "tcp::1",
            "tcp:host:0",
            "tcp:host:70000",
            "http://a:b/",
            "ftp://a/",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
        assert!(matches!("https://a/".parse::<Target>(), Err(TargetError::Tls(_))));
        let slo = Target::of_slo(&Probe::Tcp("127.0.0.1:5432".into()))
            .unwrap()
            .unwrap();
        assert_eq!(slo.address().unwrap(), Some("127.0.0.1:5432".parse().unwrap()));
        assert_eq!(Target::StandIn.address().unwrap(), None);
    }
}
