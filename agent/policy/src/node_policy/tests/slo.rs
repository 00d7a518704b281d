//! Every kind of SLO signal, and every way to get one wrong.

use super::*;
use crate::slo::fixed::Millionths;

fn slo(text: &str) -> Result<Slo, Vec<String>> {
    let file =
        format!("version = 1\n[production]\nprotect = [{{ unit = \"a.service\", slo = {{ {text} }} }}]");
    match policy(&file) {
        Ok(policy) => Ok(policy.protect[0].slo.clone().unwrap()),
        Err(mistakes) => Err(mistakes.0.iter().map(ToString::to_string).collect()),
    }
}

fn url(address: &str, host: &str, path: &str) -> HttpUrl {
    HttpUrl {
        address: address.into(),
        host: host.into(),
        path: path.into(),
    }
}

#[test]
fn each_kind_of_signal_is_read() {
    let p99 = SloTarget::P99(Span::from_millis(20));
    let cases = [
        (
            r#"http = "http://[::1]:8080?x=1#here", p99 = "20ms""#,
            Probe::Http(url("[::1]:8080", "[::1]:8080", "/?x=1")),
            p99,
        ),
        (
            r#"tcp = "localhost:5432", p99 = "20ms""#,
            Probe::Tcp("localhost:5432".into()),
            p99,
        ),
        (
            r#"scrape = "http://127.0.0.1:9100/metrics", histogram = "wait_seconds_bucket", p99 = "20ms""#,
            Probe::Scrape {
                url: url("127.0.0.1:9100", "127.0.0.1:9100", "/metrics"),
                histogram: "wait_seconds".into(),
            },
            p99,
        ),
        (
            r#"promql = "http://prom:9090", query = "max(q)", below = 0.5"#,
            Probe::Promql {
                url: url("prom:9090", "prom:9090", "/"),
                query: "max(q)".into(),
            },
            SloTarget::Below(Millionths(500_000)),
        ),
        (r#"push = true, p99 = "20ms""#, Probe::Push, p99),
    ];
    for (text, probe, target) in cases {
        let every = probe.period();
        assert_eq!(slo(text), Ok(Slo { probe, target, every }), "{text}");
    }
}

#[test]
fn requests_may_be_made_more_often_and_nothing_else() {
    let every = |text: &str| slo(text).map(|slo| slo.every);
    let http = |every: &str| format!(r#"http = "http://a/", p99 = "1s", every = "{every}""#);
    for (said, meant) in [("100ms", 100), ("250ms", 250), ("1s", 1000)] {
        assert_eq!(every(&http(said)), Ok(Span::from_millis(meant)));
    }
    assert_eq!(
        every(r#"tcp = "a:1", p99 = "1s", every = "500ms""#),
        Ok(Span::from_millis(500))
    );
    for said in ["99ms", "1001ms", "0s"] {
        let told = every(&http(said)).unwrap_err();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("every: `") && told[0].contains("is not between 100ms and 1s"),
            "{told:?}"
        );
    }
    let told = every(r#"push = true, p99 = "1s", every = "1s""#).unwrap_err();
    assert!(
        told[0].contains("every: means nothing for this kind of probe"),
        "{told:?}"
    );
}

#[test]
fn each_mistake_is_named_and_all_at_once() {
    let cases: [(&str, &[&str]); 14] = [
        (
            r#"http = "https://a/", p99 = "1s""#,
            &["http: https is not supported yet"],
        ),
        (
            r#"http = "http://", p99 = "1s""#,
            &["http: `http://` names no host"],
        ),
        (
            r#"http = "http://a:99999/", p99 = "1s""#,
            &["http: `http://a:99999/` has no port"],
        ),
        (
            r#"http = "http://a/ b", p99 = "1s""#,
            &["http: `http://a/ b` holds a character"],
        ),
        (
            r#"tcp = "localhost", p99 = "1s""#,
            &["tcp: `localhost` is not an address"],
        ),
        (r#"scrape = "http://a/", p99 = "1s""#, &["histogram: is missing"]),
        (
            r#"scrape = "http://a/", histogram = "a b", p99 = "1s""#,
            &["histogram: `a b` is not"],
        ),
        (r#"promql = "http://a/", below = 1"#, &["query: is missing"]),
        (
            r#"promql = "http://a/", query = "q", p99 = "1s""#,
            &["p99: a query has a value"],
        ),
        (
            r#"promql = "http://a/", query = "q", below = -1"#,
            &["below: must be more than zero"],
        ),
        (
            r#"http = "http://a/", query = "q", p99 = "1s""#,
            &["query: means nothing for this kind"],
        ),
        (
            r#"http = "http://a/", tcp = "a:1", p99 = "1s""#,
            &["http: say one of"],
        ),
        (
            r#"push = false, p99 = "0s""#,
            &["http: say one of", "p99: must be more than zero"],
        ),
        (
            r#"tcp = "x", p99 = 3, pulse = true"#,
            &[
                "p99: must be a text",
                "tcp: `x` is not an address",
                "pulse: unknown key",
            ],
        ),
    ];
    for (text, sentences) in cases {
        let told = slo(text).unwrap_err();
        assert_eq!(told.len(), sentences.len(), "{text}: {told:?}");
        for (told, sentence) in told.iter().zip(sentences) {
            let whole = format!("production.protect[0].slo.{sentence}");
            assert!(told.starts_with(&whole), "{text}: {told} ≠ {whole}");
        }
    }
}
