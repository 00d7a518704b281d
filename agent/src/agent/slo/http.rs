//! One GET, one answer, one connection: version 1.0, so that the answer ends with the connection and comes in one
//! piece. A new connection each time is part of what is measured: a service that accepts no one is not well.

use std::io;

use loadline_policy::node_policy::HttpUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Pages of metrics are seldom larger than a few hundred kilobytes.
const ANSWER_MAX: u64 = 8 << 20;

/// Why there is no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    #[error("{address} cannot be reached: {source}")]
    Io {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} does not answer in HTTP")]
    NotHttp(String),
    #[error("{url} answers {status}")]
    Status { url: String, status: String },
    #[error("the answer of {0} is too large, or in pieces, which HTTP/1.0 does not know")]
    Body(String),
}

/// The body of a 2xx answer.
pub(super) async fn get(url: &HttpUrl) -> Result<Vec<u8>, GetError> {
    let io = |source| GetError::Io {
        address: url.address.clone(),
        source,
    };
    let mut stream = TcpStream::connect(&url.address).await.map_err(io)?;
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: loadline-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.path, url.host
    );
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_MAX + 1)
        .read_to_end(&mut answer)
        .await
        .map_err(io)?;
    read(url, &answer)
}

fn read(url: &HttpUrl, answer: &[u8]) -> Result<Vec<u8>, GetError> {
    let not_http = || GetError::NotHttp(url.address.clone());
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(not_http)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| not_http())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status
        .and_then(|rest| rest.split_once(' '))
        .ok_or_else(not_http)?
        .1;
    if !status.starts_with('2') {
        return Err(GetError::Status {
            url: url.text(),
            status: status.to_owned(),
        });
    }
    let chunked = lines.any(|line| line.to_ascii_lowercase().starts_with("transfer-encoding:"));
    let body = &answer[end + 4..];
    if chunked || u64::try_from(answer.len()).is_ok_and(|len| len > ANSWER_MAX) {
        return Err(GetError::Body(url.address.clone()));
    }
    Ok(body.to_vec())
}
