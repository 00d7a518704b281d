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
    /// How often it is measured.
    pub every: Span,
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

/// The keys that say which kind of probe it is.
const KINDS: [&str; 5] = ["http", "tcp", "scrape", "promql", "push"];

/// The values of a section that describe its probe.
struct Keys {
    http: Option<String>,
    tcp: Option<String>,
    scrape: Option<String>,
    histogram: Option<String>,
    promql: Option<String>,
    query: Option<String>,
    push: bool,
}

pub(super) fn read_slo(mut section: Section, mistakes: &mut Mistakes) -> Option<Slo> {
    let keys = Keys {
        http: section.text("http", mistakes),
        tcp: section.text("tcp", mistakes),
        scrape: section.text("scrape", mistakes),
        histogram: section.text("histogram", mistakes),
        promql: section.text("promql", mistakes),
        query: section.text("query", mistakes),
        push: section.flag("push", mistakes) == Some(true),
    };
    let p99: Option<Span> = section.parsed("p99", mistakes);
    let below = section.number("below", mistakes);
    let every: Option<Span> = section.parsed("every", mistakes);
    let probe = read_probe(&section, keys, mistakes);
    let target = read_target(&section, probe.as_ref(), p99, below, mistakes);
    let every = read_every(&section, probe.as_ref(), every, mistakes);
    section.finish(mistakes);
    Some(Slo {
        target: target?,
        every: every?,
        probe: probe?,
    })
}

/// How often a request may be made: no attack, and still a hundred of them within what is remembered.
const EVERY: core::ops::RangeInclusive<Span> = Span::from_millis(100)..=Span::from_secs(1);

fn read_every(
    section: &Section,
    probe: Option<&Probe>,
    every: Option<Span>,
    mistakes: &mut Mistakes,
) -> Option<Span> {
    let (probe, Some(every)) = (probe?, every) else {
        return probe.map(Probe::period);
    };
    let problem = match probe {
        Probe::Http(_) | Probe::Tcp(_) if EVERY.contains(&every) => return Some(every),
        Probe::Http(_) | Probe::Tcp(_) => format!("`{every}` is not between 100ms and 1s"),
        Probe::Scrape { .. } | Probe::Promql { .. } | Probe::Push => {
            "means nothing for this kind of probe: only http and tcp are asked by us".to_string()
        }
    };
    mistakes.add(&section.key("every"), problem);
    None
}

fn read_probe(section: &Section, keys: Keys, mistakes: &mut Mistakes) -> Option<Probe> {
    let kinds = KINDS.iter().filter(|kind| section.had(kind)).count();
    // One whose value is of the wrong kind has been told already.
    let told = [&keys.http, &keys.tcp, &keys.scrape, &keys.promql];
    let valued = told.into_iter().flatten().count() + usize::from(keys.push);
    if kinds != 1 || (valued == 0 && section.had("push")) {
        let rule = "say one of `http = \"http://…\"`, `tcp = \"host:port\"`, `scrape = \"http://…\"`, \
                    `promql = \"http://…\"` or `push = true`";
        mistakes.add(&section.key("http"), rule);
        return None;
    }
    for (key, kind) in [("histogram", "scrape"), ("query", "promql")] {
        if section.had(key) && !section.had(kind) {
            mistakes.add(&section.key(key), "means nothing for this kind of probe");
        }
    }
    match keys {
        Keys { http: Some(http), .. } => dial(section, "http", &http, mistakes).map(Probe::Http),
        Keys { tcp: Some(tcp), .. } if is_dialled(&tcp) => Some(Probe::Tcp(tcp)),
        Keys { tcp: Some(tcp), .. } => {
            let problem = format!("`{tcp}` is not an address like \"127.0.0.1:5432\"");
            mistakes.add(&section.key("tcp"), problem);
            None
        }
        Keys {
            scrape: Some(scrape),
            histogram,
            ..
        } => {
            let url = dial(section, "scrape", &scrape, mistakes);
            let histogram = read_histogram(section, histogram, mistakes);
            Some(Probe::Scrape {
                url: url?,
                histogram: histogram?,
            })
        }
        Keys {
            promql: Some(promql),
            query,
            ..
        } => {
            let url = dial(section, "promql", &promql, mistakes);
            let query = query.filter(|query| !query.trim().is_empty());
            if query.is_none() {
                mistakes.add(&section.key("query"), "is missing: what is the server asked?");
            }
            Some(Probe::Promql {
                url: url?,
                query: query?,
            })
        }
        Keys { push, .. } => push.then_some(Probe::Push),
    }
}

fn dial(section: &Section, key: &str, text: &str, mistakes: &mut Mistakes) -> Option<HttpUrl> {
    let url = url(text).map_err(|problem| mistakes.add(&section.key(key), problem.to_string()));
    url.ok()
}

fn read_histogram(section: &Section, name: Option<String>, mistakes: &mut Mistakes) -> Option<String> {
    let problem = match name {
        Some(name) if is_metric_name(&name) => {
            return Some(name.strip_suffix("_bucket").unwrap_or(&name).to_string());
        }
        Some(name) => format!("`{name}` is not the name of a metric"),
        None => "is missing: which histogram, like \"http_request_duration_seconds\"?".to_string(),
    };
    mistakes.add(&section.key("histogram"), problem);
    None
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
