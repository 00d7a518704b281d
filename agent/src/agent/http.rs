//! The small HTTP server of `/metrics` and `/status`, on loopback unless configured. It only answers GET, a few
//! connections at a time, and gives none of them long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Shared;
use super::metrics::{self, Snapshot};
use super::settings::MetricsListen;
use super::status::StatusReport;

const CONNECTIONS: usize = 8;
/// For a request to arrive, and for a connection as a whole.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts at a port that is taken.
const TAKEN: Duration = Duration::from_secs(30);

/// Serves for ever. A port that cannot be had is said, and tried again: a node without metrics still works.
pub(super) async fn serve(shared: &Arc<Shared>) {
    let MetricsListen::At(address) = shared.settings.metrics else {
        return std::future::pending().await;
    };
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => accept(shared, &listener).await,
            Err(error) => {
                tracing::error!(%address, %error, "metrics cannot be served: change [metrics] listen in agent.toml, or free the port");
            }
        }
        tokio::time::sleep(TAKEN).await;
    }
}

async fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a metrics connection could not be accepted");
                return;
            }
        };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            converse(shared, stream, peer).await;
            drop(place);
        });
    }
}

async fn converse(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(2 * PATIENCE, connection).await {
        tracing::debug!(%peer, %error, "a metrics connection broke");
    }
}

async fn answer(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into());
    }
    match request.uri().path() {
        "/metrics" => match metrics::render(&snapshot(shared).await) {
            Ok(page) => reply(StatusCode::OK, prometheus::TEXT_FORMAT, page),
            Err(error) => reply(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("{error}\n"),
            ),
        },
        "/status" => match serde_json::to_string(&StatusReport::of(shared)) {
            Ok(report) => reply(StatusCode::OK, "application/json", report),
            Err(error) => reply(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("{error}\n"),
            ),
        },
        _ => reply(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are /metrics and /status\n".into(),
        ),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// Collected at the scrape, so that what is shown is what is.
async fn snapshot(shared: &Arc<Shared>) -> Snapshot {
    let warden = shared.warden.refresh_older_than(Duration::from_secs(1)).await;
    Snapshot {
        connected: shared.link.borrow().is_connected(),
        last_contact: shared.last_contact.at(),
        certificate: shared.identity.borrow().validity,
        spool: *shared.spool.watch().borrow(),
        spool_ok: shared.spool_trouble.borrow().is_none(),
        warden,
    }
}
