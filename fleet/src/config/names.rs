//! A name that nodes and people can dial: a host name or address, with the port of the access service.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::ACCESS_PORT;

/// `fleet.example`, `fleet.example:7718`, `10.0.0.1`, `[fd00::1]:7718`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachableName {
    host: String,
    port: u16,
}

/// Why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host name or address, with or without a port, like \"fleet.example\" or \"10.0.0.1:7718\""
)]
pub struct NameProblem(pub String);

impl ReachableName {
    /// The host or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Host and port as they are dialled.
    pub fn with_port(&self, port: u16) -> String {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

impl fmt::Display for ReachableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_port(self.port))
    }
}

impl FromStr for ReachableName {
    type Err = NameProblem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || NameProblem(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<Ipv6Addr>().map_err(|_| bad())?;
                let port = if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').ok_or_else(bad)?)
                };
                (host, port)
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.parse::<IpAddr>().is_err() && !is_host_name(host) {
            return Err(bad());
        }
        let port = match port {
            None => ACCESS_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_addresses_and_ports() {
        for (text, shown) in [
            ("fleet.example", "fleet.example:7718"),
            ("fleet:9000", "fleet:9000"),
            ("10.77.0.10", "10.77.0.10:7718"),
            ("fd00::1", "[fd00::1]:7718"),
            ("[fd00::1]:9000", "[fd00::1]:9000"),
        ] {
            assert_eq!(text.parse::<ReachableName>().unwrap().to_string(), shown);
        }
        for bad in [
            "", "a b", "-a", "a..b", "a:", "a:0", "a:70000", "[fd00::1", "[x]:1", "http://a",
        ] {
            assert!(bad.parse::<ReachableName>().is_err(), "{bad}");
        }
    }
}
