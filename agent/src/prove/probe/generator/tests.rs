use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// Serves each connection by a thread: reads a request, answers what `answer` says for its number.
fn service(answer: fn(u64) -> Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = [0u8; 4096];
                let mut number = 0;
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    number += 1;
                    match answer(number) {
                        Some(text) => stream.write_all(text.as_bytes()).unwrap(),
                        None => return,
                    }
                }
            });
        }
    });
    address
}

fn ask(address: SocketAddr) -> RoundAsk {
    RoundAsk {
        target: Target::Http {
            host: address.to_string(),
            path: "/".into(),
        },
        rate: 200,
        seed: 7,
        warm_up: Span::from_millis(300),
        length: Span::from_millis(1500),
    }
}

async fn hear(ask: RoundAsk) -> (Vec<SecondSeen>, Measured) {
    let mut heard = LiveProber::default().begin(ask);
    let mut seconds = Vec::new();
    loop {
        match heard.recv().await {
            Some(Heard::Second(second)) => seconds.push(second),
            Some(Heard::Done(measured)) => return (seconds, measured),
            other => panic!("{other:?}"),
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn all_requests_of_a_round_are_counted_and_the_warm_up_is_not() {
    let (seconds, measured) = hear(ask(service(|_| Some(OK)))).await;
    let meant: Vec<Span> = arrivals(200, 7, Span::from_millis(1800)).collect();
    let counted = meant.iter().filter(|at| **at >= Span::from_millis(300)).count() as u64;
    assert_eq!((measured.requests, measured.errors), (counted, 0));
    assert_eq!(measured.latencies.len() as u64, counted);
    assert!(measured.latencies.is_sorted());
    let p99 = measured.quantile(990).unwrap();
    assert!(
        measured.served_p99 > Span::ZERO && measured.served_p99 <= p99,
        "{measured:?}"
    );
    assert!(seconds[0].requests > 0 && seconds[0].p99.is_some());
}

#[tokio::test]
async fn a_connection_that_the_service_ends_is_no_error_and_a_bad_status_is_one() {
    let closing = service(|number| (number <= 3).then_some(OK));
    let (_, measured) = hear(ask(closing)).await;
    // The fourth request on a connection meets its end: the service said nothing of it before.
    assert!(measured.errors < measured.requests / 2, "{measured:?}");
    let bad = service(|_| Some("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
    let (seconds, measured) = hear(ask(bad)).await;
    assert_eq!(measured.errors, measured.requests);
    assert!(measured.latencies.is_empty() && seconds[0].errors > 0);
}

#[tokio::test]
async fn who_is_not_answered_is_seen_to_wait() {
    let silent = service(|_| Some(""));
    let (seconds, measured) = hear(ask(silent)).await;
    let waited = seconds.iter().map(|second| second.p99.unwrap_or_default()).max();
    assert!(waited > Some(Span::from_millis(500)), "{seconds:?}");
    assert_eq!(measured.errors, measured.requests);
}

#[tokio::test]
async fn a_port_is_probed_by_its_connection_and_a_shut_one_fails() {
    let open = service(|_| None);
    let tcp = |address: SocketAddr| RoundAsk {
        target: Target::Tcp {
            host: address.to_string(),
        },
        ..ask(address)
    };
    let (_, measured) = hear(tcp(open)).await;
    assert!(
        measured.errors == 0 && !measured.latencies.is_empty(),
        "{measured:?}"
    );
    let shut = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, measured) = hear(tcp(shut)).await;
    assert_eq!(measured.errors, measured.requests);
}

#[test]
fn instants_are_fixed_beforehand_and_as_dense_as_asked() {
    let take = |seed| arrivals(100, seed, Span::from_secs(100)).collect::<Vec<_>>();
    assert_eq!(take(1), take(1));
    assert_ne!(take(1), take(2));
    // 10,000 expected, with a standard deviation of 100.
    let count = take(3).len();
    assert!((9_600..10_400).contains(&count), "{count}");
    assert!(take(3).is_sorted());
}
