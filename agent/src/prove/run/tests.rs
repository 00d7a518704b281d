use super::*;
use loadline_model::Span;
use loadline_policy::node_policy::{HttpUrl, Probe, Protect, Slo, SloTarget};

#[test]
fn the_first_promise_is_probed_and_without_one_the_stand_in() {
    let mut policy = NodePolicy::default();
    assert_eq!(of_policy(&policy).unwrap(), Target::StandIn);
    let protect = |unit: &str, slo| Protect {
        unit: unit.into(),
        memory: None,
        slo,
    };
    let slo = |probe| Slo {
        probe,
        target: SloTarget::P99(Span::from_millis(20)),
        every: Span::from_secs(1),
    };
    policy.protect = vec![
        protect("cron.service", None),
        protect(
            "nginx.service",
            Some(slo(Probe::Http(
                HttpUrl::read("http://127.0.0.1/health").unwrap(),
            ))),
        ),
        protect("redis.service", Some(slo(Probe::Tcp("127.0.0.1:6379".into())))),
    ];
    assert_eq!(
        of_policy(&policy).unwrap().to_string(),
        "http://127.0.0.1:80/health"
    );
}

#[test]
fn two_tests_cannot_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/prove.lock");
    let held = lock(&path).unwrap();
    assert!(matches!(lock(&path), Err(ProveError::Locked)));
    drop(held);
    assert!(lock(&path).is_ok());
}
