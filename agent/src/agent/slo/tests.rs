//! Each kind of signal against a server on the loopback.

use loadline_policy::node_policy::{HttpUrl, Probe};
use loadline_policy::slo::fixed::Millionths;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use super::*;

const TARGET: Span = Span::from_millis(200);

/// A server that gives one answer after the other, the last for ever; none: it says nothing.
async fn server(answers: Vec<Option<String>>) -> HttpUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        for turn in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(answer) = &answers[turn.min(answers.len() - 1)] else {
                held.push(stream);
                continue;
            };
            let mut request = [0; 1024];
            let got = stream.read(&mut request).await.unwrap();
            let asked = String::from_utf8_lossy(&request[..got]).into_owned();
            let answer = answer.replace("{asked}", asked.lines().next().unwrap_or_default());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    HttpUrl {
        host: address.clone(),
        address,
        path: "/x".into(),
    }
}

fn ok(body: &str) -> Option<String> {
    Some(format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{body}"
    ))
}

fn target(probe: Probe) -> SloTarget {
    SloTarget {
        unit: "a.service".into(),
        every: probe.period(),
        probe,
        p99: TARGET,
    }
}

/// Waits until the board says what is wanted.
async fn until(board: &Board, wanted: impl Fn(&Found) -> bool) -> Found {
    let begun = Instant::now();
    loop {
        let found = board.lock().get("a.service").cloned();
        if let Some(found) = found.clone().filter(|found| wanted(found)) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start(probe: Probe) -> (Board, tokio::task::JoinHandle<()>) {
    let board = Board::default();
    let task = tokio::spawn(probe::run(target(probe), board.clone(), Pushed::default()));
    (board, task)
}

#[tokio::test]
async fn an_http_probe_counts_its_samples_and_a_failing_one_is_missed() {
    let (board, task) = start(Probe::Http(server(vec![ok("fine")]).await)).await;
    let found = until(&board, |found| !found.trouble.is_empty()).await;
    assert_eq!(
        (found.measured, found.trouble.as_str()),
        (None, "1 of 100 samples are in")
    );
    task.abort();
    let refusing = server(vec![Some("HTTP/1.1 503 Busy\r\n\r\n".into())]).await;
    let (board, task) = start(Probe::Http(refusing)).await;
    let found = until(&board, |found| !found.trouble.is_empty()).await;
    assert!(found.trouble.contains("answers 503 Busy"), "{}", found.trouble);
    let missed = until(&board, |found| found.measured.is_some()).await;
    assert_eq!(
        missed.measured,
        Some(Measured::P99(Span::from_secs(1))),
        "its whole time-out"
    );
    task.abort();
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_its_whole_time() {
    let (board, task) = start(Probe::Http(server(vec![None]).await)).await;
    let found = until(&board, |found| !found.trouble.is_empty()).await;
    assert_eq!(found.trouble, "no answer within 1s");
    until(&board, |found| {
        found.measured == Some(Measured::P99(Span::from_secs(1)))
    })
    .await;
    task.abort();
}

#[tokio::test]
async fn a_tcp_probe_needs_no_more_than_a_connection() {
    let url = server(vec![None]).await;
    let (board, task) = start(Probe::Tcp(url.address)).await;
    until(&board, |found| found.trouble.ends_with("of 100 samples are in")).await;
    task.abort();
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (board, task) = start(Probe::Tcp(free.to_string())).await;
    let missed = until(&board, |found| found.measured.is_some()).await;
    assert_eq!(missed.measured, Some(Measured::P99(Span::from_secs(1))));
    task.abort();
}

#[tokio::test]
async fn a_histogram_is_scraped_and_its_loss_is_unknown() {
    let page = |fast: u64, all: u64| {
        ok(&format!(
            "w_seconds_bucket{{le=\"0.1\"}} {fast}\nw_seconds_bucket{{le=\"+Inf\"}} {all}\n"
        ))
    };
    let url = server(vec![page(0, 0), page(200, 200), ok("nothing")]).await;
    let histogram = "w_seconds".to_owned();
    let (board, task) = start(Probe::Scrape { url, histogram }).await;
    let first = until(&board, |_| true).await;
    assert_eq!(first.measured, None);
    let second = until(&board, |found| found.measured.is_some()).await;
    assert_eq!(second.measured, Some(Measured::P99(Span(99_000))));
    let lost = until(&board, |found| found.measured.is_none()).await;
    assert!(
        lost.trouble.contains("no buckets of that histogram"),
        "{}",
        lost.trouble
    );
    task.abort();
}

#[tokio::test]
async fn a_query_is_asked_as_it_stands() {
    let answer = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"q":"{asked}"},"value":[1,"0.25"]}]}}"#;
    let url = server(vec![ok(answer)]).await;
    let query = "max(a{b=\"c d\"})".to_owned();
    let (board, task) = start(Probe::Promql { url, query }).await;
    let found = until(&board, |_| true).await;
    assert_eq!(
        found.measured,
        Some(Measured::Value(Millionths(250_000))),
        "{}",
        found.trouble
    );
    task.abort();
}

#[test]
fn an_answer_that_is_not_one_number_is_unknown() {
    let vector = |values: &str| format!(r#"{{"data":{{"resultType":"vector","result":[{values}]}}}}"#);
    let one = |value: &str| format!(r#"{{"value":[1,"{value}"]}}"#);
    for (answer, problem) in [
        ("<html>".to_owned(), "the answer is not JSON"),
        (vector(""), "it gives 0 values and should give one"),
        (
            vector(&format!("{},{}", one("1"), one("2"))),
            "it gives 2 values and should give one",
        ),
        (vector(&one("NaN")), "its value is NaN"),
        (
            r#"{"status":"error"}"#.to_owned(),
            "it gives neither a vector nor a scalar",
        ),
    ] {
        assert_eq!(probe::value(&answer), Err(problem.to_owned()), "{answer}");
    }
    let scalar = r#"{"data":{"resultType":"scalar","result":[1,"-3"]}}"#;
    assert_eq!(probe::value(scalar), Ok(Millionths(-3_000_000)));
}

#[tokio::test]
async fn services_push_samples_or_a_percentile_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("slo.sock");
    let pushed = Pushed::default();
    pushed.keep_only(["a.service"].into_iter());
    let (serving, at) = (pushed.clone(), path.clone());
    let server = tokio::spawn(async move { push::serve(&at, &serving).await });
    let connect = async || {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => return stream,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let measured = async |wanted: Result<Span, &str>| {
        let begun = Instant::now();
        loop {
            let measured = pushed.measured("a.service", TARGET);
            if measured.as_ref().map_err(String::as_str) == wanted.as_ref().map_err(|text| *text) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{measured:?}, not {wanted:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut stream = connect().await;
    stream
        .write_all("a.service 1.5\nother.service 900\n".repeat(99).as_bytes())
        .await
        .unwrap();
    measured(Err("it has told of 99 answers in 2m, and 100 are needed")).await;
    stream.write_all(b"a.service 1.5\n").await.unwrap();
    measured(Ok(Span(1500))).await;
    stream.write_all(b"a.service p99 12.25\n").await.unwrap();
    measured(Ok(Span(12_250))).await;
    let mut wrong = connect().await;
    wrong.write_all(b"a.service fast\n").await.unwrap();
    let mut rest = Vec::new();
    let hung_up = wrong.read_to_end(&mut rest).await;
    assert!(
        hung_up.is_ok_and(|read| read == 0),
        "who cannot be understood is hung up on"
    );
    server.abort();
}
