//! What production promises its own users, and how that is measured: one probe and one target for each unit.
//!
//! Every mistake is told with its key. A probe's address is taken apart here, so that whoever probes later meets
//! no text that cannot be dialled.

use alloc::format;
use alloc::string::{String, ToString};

use loadline_model::Span;

use super::raw::{Mistakes, Section};
use crate::slo::fixed::{Millionths, ParseMillionthsError};

/// A URL of the form `http://host[:port]/path`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// `host:port`, as it is dialled.
    pub address: String,
    /// What stands between `http://` and the path, as it is told to the server.
    pub host: String,
    /// Path and query; begins with `/`.
    pub path: String,
}

impl HttpUrl {
    /// Takes a URL apart; none if it cannot be probed.
    pub fn read(text: &str) -> Option<Self> {
        url(text).ok()
    }

    /// As it was written.
    pub fn text(&self) -> String {
        format!("http://{}{}", self.host, self.path)
    }
}

/// How an SLO is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The time until a GET of this URL has answered with 2xx.
    Http(HttpUrl),
    /// The time until a connection to this `host:port` stands.
    Tcp(String),
    /// The unit's own histogram of seconds, in Prometheus' text form.
    Scrape {
        /// Where.
        url: HttpUrl,
        /// Its name, without `_bucket`.
        histogram: String,
    },
    /// A value that a Prometheus server computes.
    Promql {
        /// The server.
        url: HttpUrl,
        /// What it is asked.
        query: String,
    },
    /// The unit tells its own times.
    Push,
}

/// What is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SloTarget {
    /// 99 of 100 answers come within this time.
    P99(Span),
    /// The value is below this.
    Below(Millionths),
}

/// What production promises its own users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slo {
    /// How it is measured.
    pub probe: Probe,
    /// What is to hold.
    pub target: SloTarget,
}

/// Why a text is no URL that can be probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum UrlError {
    #[error("https is not supported yet: `{0}` has to be reached by http://, for instance on the loopback")]
    Https(String),
    #[error("`{0}` is not a URL that begins with http://")]
    Scheme(String),
    #[error("`{0}` names no host")]
    Host(String),
    #[error("`{0}` has no port between 1 and 65535 after its colon")]
    Port(String),
    #[error("`{0}` holds a character that a URL cannot hold as it is; write it as %xx")]
    Character(String),
}

fn url(text: &str) -> Result<HttpUrl, UrlError> {
    if text.starts_with("https://") {
        return Err(UrlError::Https(text.into()));
    }
    let rest = text
        .strip_prefix("http://")
        .ok_or_else(|| UrlError::Scheme(text.into()))?;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(UrlError::Character(text.into()));
    }
    let (host, path) = match rest.find(['/', '?', '#']) {
        Some(place) => rest.split_at(place),
        None => (rest, ""),
    };
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') {
        path.to_string()
    } else {
        format!("/{path}")
    };
    let address = match port_of(host) {
        Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => host.to_string(),
        Some(_) => return Err(UrlError::Port(text.into())),
        None => format!("{host}:80"),
    };
    if host.is_empty() || host.starts_with(':') || host.contains('@') {
        return Err(UrlError::Host(text.into()));
    }
    Ok(HttpUrl {
        address,
        host: host.into(),
        path,
    })
}

/// What follows the colon that ends a host; a colon within `[…]` is part of an address.
fn port_of(host: &str) -> Option<&str> {
    let (_, last) = host.rsplit_once(':')?;
    (!last.contains(']')).then_some(last)
}

fn is_dialled(address: &str) -> bool {
    let port = port_of(address).and_then(|port| port.parse::<u16>().ok());
    port.is_some_and(|port| port > 0)
        && !address.starts_with(':')
        && address.bytes().all(|b| b.is_ascii_graphic())
}

fn is_metric_name(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':';
    name.bytes().next().is_some_and(first) && name.bytes().all(|b| first(b) || b.is_ascii_digit())
}

/// The keys as they stand in the file.
struct Keys {
    http: Option<String>,
    tcp: Option<String>,
    scrape: Option<String>,
    histogram: Option<String>,
    promql: Option<String>,
    query: Option<String>,
    push: Option<bool>,
}

pub(super) fn read_slo(mut section: Section, mistakes: &mut Mistakes) -> Option<Slo> {
    let before = mistakes.0.len();
    let keys = Keys {
        http: section.text("http", mistakes),
        tcp: section.text("tcp", mistakes),
        scrape: section.text("scrape", mistakes),
        histogram: section.text("histogram", mistakes),
        promql: section.text("promql", mistakes),
        query: section.text("query", mistakes),
        push: section.flag("push", mistakes),
    };
    let p99: Option<Span> = section.parsed("p99", mistakes);
    let below = section.number("below", mistakes);
    let sound = mistakes.0.len() == before;
    let probe = read_probe(&section, keys, sound, mistakes);
    let target = read_target(&section, probe.as_ref(), p99, below, mistakes);
    section.finish(mistakes);
    Some(Slo {
        probe: probe?,
        target: target?,
    })
}

fn read_probe(section: &Section, keys: Keys, sound: bool, mistakes: &mut Mistakes) -> Option<Probe> {
    let mut dial = |key: &str, text: String| {
        let url = url(&text).map_err(|problem| mistakes.add(&section.key(key), problem.to_string()));
        url.ok()
    };
    let probe = match keys {
        Keys {
            http: Some(http),
            tcp: None,
            scrape: None,
            promql: None,
            push: None,
            ..
        } => dial("http", http).map(Probe::Http),
        Keys {
            tcp: Some(tcp),
            http: None,
            scrape: None,
            promql: None,
            push: None,
            ..
        } => {
            if is_dialled(&tcp) {
                Some(Probe::Tcp(tcp))
            } else {
                mistakes.add(
                    &section.key("tcp"),
                    format!("`{tcp}` is not an address like \"127.0.0.1:5432\""),
                );
                None
            }
        }
        Keys {
            scrape: Some(scrape),
            http: None,
            tcp: None,
            promql: None,
            push: None,
            ref histogram,
            ..
        } => {
            let url = dial("scrape", scrape);
            match histogram {
                Some(name) if is_metric_name(name) => {
                    let histogram = name.strip_suffix("_bucket").unwrap_or(name).to_string();
                    url.map(|url| Probe::Scrape { url, histogram })
                }
                Some(name) => {
                    mistakes.add(
                        &section.key("histogram"),
                        format!("`{name}` is not the name of a metric"),
                    );
                    None
                }
                None => {
                    let rule = "is missing: which histogram, like \"http_request_duration_seconds\"?";
                    mistakes.add(&section.key("histogram"), rule);
                    None
                }
            }
        }
        Keys {
            promql: Some(promql),
            http: None,
            tcp: None,
            scrape: None,
            push: None,
            ref query,
            ..
        } => {
            let url = dial("promql", promql);
            match query {
                Some(query) if !query.trim().is_empty() => url.map(|url| Probe::Promql {
                    url,
                    query: query.clone(),
                }),
                _ => {
                    mistakes.add(&section.key("query"), "is missing: what is the server asked?");
                    None
                }
            }
        }
        Keys {
            push: Some(true),
            http: None,
            tcp: None,
            scrape: None,
            promql: None,
            ..
        } => Some(Probe::Push),
        _ if !sound => None,
        _ => {
            let rule = "say one of `http = \"http://…\"`, `tcp = \"host:port\"`, `scrape = \"http://…\"`, \
                        `promql = \"http://…\"` or `push = true`";
            mistakes.add(&section.key("http"), rule);
            None
        }
    };
    let probe = probe?;
    let stray = [
        ("histogram", keys_stray(&probe, "histogram", section)),
        ("query", keys_stray(&probe, "query", section)),
    ];
    for (key, stray) in stray {
        if stray {
            mistakes.add(&section.key(key), "means nothing for this kind of probe");
        }
    }
    Some(probe)
}

/// True if the file has a key that belongs to another kind of probe.
fn keys_stray(probe: &Probe, key: &str, section: &Section) -> bool {
    let belongs = match key {
        "histogram" => matches!(probe, Probe::Scrape { .. }),
        _ => matches!(probe, Probe::Promql { .. }),
    };
    !belongs && section.had(key)
}

fn read_target(
    section: &Section,
    probe: Option<&Probe>,
    p99: Option<Span>,
    below: Option<Result<Millionths, ParseMillionthsError>>,
    mistakes: &mut Mistakes,
) -> Option<SloTarget> {
    let asked = matches!(probe, Some(Probe::Promql { .. }));
    let mut wrong = |key: &str, problem: &str| {
        mistakes.add(&section.key(key), problem);
        None
    };
    match (p99, below) {
        (Some(p99), None) if !asked => {
            if p99.is_zero() {
                return wrong("p99", "must be more than zero");
            }
            Some(SloTarget::P99(p99))
        }
        (None, Some(below)) if asked || probe.is_none() => match below {
            Ok(below) if below.0 > 0 => Some(SloTarget::Below(below)),
            _ => wrong("below", "must be more than zero, and less than a billion"),
        },
        (Some(_), _) if asked => wrong("p99", "a query has a value, not times: say `below = …`"),
        (_, Some(_)) => wrong("below", "only a query has a value: say `p99 = \"20ms\"`"),
        (None, None) if asked => wrong(
            "below",
            "is missing: below which value is the answer good, like 0.5?",
        ),
        (None, None) if probe.is_some() && !section.had("p99") => wrong(
            "p99",
            "is missing: within which time do 99 of 100 answers come, like \"20ms\"?",
        ),
        _ => None,
    }
}
