//! What fleetd tells the monitoring on its loopback port 7720: metrics, health, and the list of what to scrape.
//!
//! Plain HTTP without secrets, meant for a Prometheus on the same machine. Every scrape reads the state at that
//! moment; nothing is cached.

mod exposition;
mod metrics;

pub use metrics::Metrics;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::api::Edge;

/// The writer answers within a commit; beyond this it is stuck.
const HEALTH_WAIT: Duration = Duration::from_secs(2);
/// A scraper that takes longer has gone.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// Out of file descriptors: accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// Serves until shutdown.
pub async fn serve(tcp: TcpListener, edge: Arc<Edge>, mut shutdown: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted,
            stop = shutdown.wait_for(|stop| *stop) => {
                drop(stop);
                return;
            }
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, edge.clone()));
            }
            Err(error) => {
                warn!(%error, "accepting an HTTP connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, edge: Arc<Edge>) {
    let service = service_fn(move |request| {
        let edge = edge.clone();
        async move { Ok::<_, Infallible>(answer(&edge, &request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let served = http
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_LIFE, served).await {
        debug!(%error, "an HTTP connection broke");
    }
}

async fn answer(edge: &Edge, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
    }
    match request.uri().path() {
        "/metrics" => match exposition::metrics(edge).await {
            Ok(text) => response(StatusCode::OK, TEXT, text),
            Err(problem) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{problem}\n")),
        },
        "/healthz" => match healthy(edge).await {
            Ok(()) => response(StatusCode::OK, TEXT, "ok\n".into()),
            Err(problem) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{problem}\n")),
        },
        "/v1/prometheus/targets" => match exposition::targets(edge).await {
            Ok(json) => response(StatusCode::OK, JSON, json),
            Err(problem) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{problem}\n")),
        },
        _ => response(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /metrics, /healthz and /v1/prometheus/targets\n".into(),
        ),
    }
}

/// Why fleetd is not well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unhealthy {
    /// The one thread that everything waits for does not answer.
    #[error("the writer does not answer")]
    Writer,
    /// It has ended.
    #[error("the writer has ended")]
    Ended,
}

/// Does the writer answer?
///
/// # Errors
/// When it does not.
pub async fn healthy(edge: &Edge) -> Result<(), Unhealthy> {
    match timeout(HEALTH_WAIT, edge.fleet.read(|_, _| ())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Unhealthy::Ended),
        Err(_) => Err(Unhealthy::Writer),
    }
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let value = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    response
}
