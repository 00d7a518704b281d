//! One promise, measured for ever, in its own rhythm.

use std::time::Duration;

use loadline_model::Span;
use loadline_policy::node_policy::{HttpUrl, Probe};
use loadline_policy::slo::fixed::Millionths;
use loadline_policy::slo::histogram::{Buckets, Scrapes};
use loadline_policy::slo::window::Samples;
use loadline_policy::slo::{Measured, SAMPLES_MIN};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::http::get;
use super::push::Pushed;
use super::{Board, span};
use crate::agent::wire::SloTarget;

/// A probe's answer is waited for so long at least; twice the target if that is longer. One that does not come
/// counts with its whole time, which is beyond any target.
const PATIENCE: Duration = Duration::from_secs(1);
/// Metrics are asked for less often and may take longer; they are not what is measured.
const METRICS_PATIENCE: Duration = Duration::from_secs(4);

/// What is kept between two looks.
enum Gauge {
    Samples(Samples),
    Scrapes(Scrapes),
    Nothing,
}

/// Measures until it is dropped.
pub(super) async fn run(target: SloTarget, board: Board, pushed: Pushed) {
    let mut gauge = match target.probe {
        Probe::Http(_) | Probe::Tcp(_) => Gauge::Samples(Samples::default()),
        Probe::Scrape { .. } => Gauge::Scrapes(Scrapes::default()),
        Probe::Promql { .. } | Probe::Push => Gauge::Nothing,
    };
    let begun = Instant::now();
    let mut tick = tokio::time::interval(target.every.into());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let measured = look(&target, &mut gauge, &pushed, begun).await;
        board.put(&target.unit, measured);
    }
}

async fn look(
    target: &SloTarget,
    gauge: &mut Gauge,
    pushed: &Pushed,
    begun: Instant,
) -> Result<Measured, String> {
    match (&target.probe, gauge) {
        (Probe::Http(url), Gauge::Samples(samples)) => {
            let asked = timed(target.p99, async {
                get(url).await.map(drop).map_err(|e| e.to_string())
            })
            .await;
            sampled(samples, asked, target.p99, begun)
        }
        (Probe::Tcp(address), Gauge::Samples(samples)) => {
            let connect = async {
                let stream = TcpStream::connect(address).await;
                stream
                    .map(drop)
                    .map_err(|error| format!("{address} cannot be reached: {error}"))
            };
            let asked = timed(target.p99, connect).await;
            sampled(samples, asked, target.p99, begun)
        }
        (Probe::Scrape { url, histogram }, Gauge::Scrapes(scrapes)) => {
            let page = metrics(url).await?;
            let buckets =
                Buckets::read(&page, histogram).map_err(|problem| format!("{}: {problem}", url.text()))?;
            scrapes.add(span(begun.elapsed()), buckets);
            let p99 = scrapes.p99(target.p99).map(Measured::P99);
            p99.ok_or_else(|| {
                format!(
                    "{histogram} has counted {} answers in 2m, too few to say",
                    scrapes.count()
                )
            })
        }
        (Probe::Promql { url, query }, _) => ask(url, query).await.map(Measured::Value),
        (Probe::Push, _) => pushed.measured(&target.unit, target.p99).map(Measured::P99),
        // `run` gives each kind its own gauge.
        (_, _) => Err("this kind of probe is not known".into()),
    }
}

/// How long it took, and what went wrong.
type Asked = (Span, Result<(), String>);

async fn timed(target: Span, work: impl Future<Output = Result<(), String>>) -> Asked {
    let patience = PATIENCE.max(Duration::from(target.times(2)));
    let begun = Instant::now();
    match timeout(patience, work).await {
        Ok(Ok(())) => (span(begun.elapsed()), Ok(())),
        Ok(Err(problem)) => (span(patience), Err(problem)),
        Err(_) => (
            span(patience),
            Err(format!("no answer within {}", span(patience))),
        ),
    }
}

fn sampled(
    samples: &mut Samples,
    (took, result): Asked,
    target: Span,
    begun: Instant,
) -> Result<Measured, String> {
    let now = span(begun.elapsed());
    samples.add(now, took);
    match samples.p99(now, target) {
        Some(p99) => Ok(Measured::P99(p99)),
        None => Err(match result {
            Ok(()) if samples.count(now) >= SAMPLES_MIN => {
                "its answers are in time again, and not yet for long enough".to_owned()
            }
            Ok(()) => format!("{} of 100 samples are in", samples.count(now)),
            Err(problem) => problem,
        }),
    }
}

async fn metrics(url: &HttpUrl) -> Result<String, String> {
    let body = match timeout(METRICS_PATIENCE, get(url)).await {
        Ok(body) => body.map_err(|problem| problem.to_string())?,
        Err(_) => {
            return Err(format!(
                "{} did not answer within {}",
                url.text(),
                span(METRICS_PATIENCE)
            ));
        }
    };
    String::from_utf8(body).map_err(|_| format!("{} does not answer with text", url.text()))
}

/// An instant query: exactly one value, or it is not known.
async fn ask(server: &HttpUrl, query: &str) -> Result<Millionths, String> {
    let path = format!(
        "{}/api/v1/query?query={}",
        server.path.trim_end_matches('/'),
        encoded(query)
    );
    let url = HttpUrl {
        path,
        ..server.clone()
    };
    value(&metrics(&url).await?).map_err(|problem| format!("the query at {}: {problem}", server.text()))
}

fn encoded(query: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    query
        .bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

pub(super) fn value(answer: &str) -> Result<Millionths, String> {
    let answer: serde_json::Value =
        serde_json::from_str(answer).map_err(|_| "the answer is not JSON".to_owned())?;
    let data = &answer["data"];
    let pair = match data["resultType"].as_str() {
        Some("scalar") => &data["result"],
        Some("vector") => match data["result"].as_array().map(Vec::as_slice) {
            Some([one]) => &one["value"],
            Some(other) => return Err(format!("it gives {} values and should give one", other.len())),
            None => return Err("it gives no value".into()),
        },
        _ => return Err("it gives neither a vector nor a scalar".into()),
    };
    let text = pair[1].as_str().ok_or("it gives no value")?;
    text.parse().map_err(|_| format!("its value is {text}"))
}
