use std::os::unix::fs::symlink;

use loadline_model::ProveAsk;

use super::*;

fn id(byte: u8) -> ProveId {
    ProveId::from_slice(&[byte; 16]).unwrap()
}

fn noted(started: bool) -> Noted {
    let standing = Standing {
        run: id(1),
        by: "ada".into(),
        ask: ProveAsk::default(),
        stopped_by: None,
    };
    Noted::new(standing, started)
}

fn texts(html: usize) -> Texts {
    Texts {
        text: "protected".into(),
        json: "{}".into(),
        html: "x".repeat(html),
        whole: true,
        cost: false,
    }
}

fn place() -> (tempfile::TempDir, Handover) {
    let dir = tempfile::tempdir().unwrap();
    let handover = Handover::new(dir.path().join("prove"));
    (dir, handover)
}

#[test]
fn what_one_side_writes_the_other_reads_and_a_new_order_begins_anew() {
    let (_dir, handover) = place();
    assert_eq!(handover.noted().unwrap(), None);
    handover.note(&noted(false)).unwrap();
    assert_eq!(handover.noted().unwrap(), Some(noted(false)));
    assert_eq!(handover.outcome(id(1)).unwrap(), None);
    assert_eq!(handover.progress().unwrap(), None);
    handover.say("cpu alone").unwrap();
    let outcome = Outcome::report(id(1), texts(10));
    handover.conclude(&outcome).unwrap();
    handover.note(&noted(true)).unwrap();
    assert_eq!(handover.progress().unwrap().as_deref(), Some("cpu alone"));
    assert_eq!(handover.outcome(id(1)).unwrap(), Some(outcome));
    handover.note(&noted(false)).unwrap();
    assert_eq!(handover.outcome(id(1)).unwrap(), None, "of the test before");
    handover.clear().unwrap();
    assert_eq!(handover.noted().unwrap(), None);
    handover.clear().unwrap();
}

#[test]
fn a_report_that_is_too_large_goes_without_its_page_and_one_that_is_so_all_the_same_is_refused() {
    let (_dir, handover) = place();
    handover.note(&noted(true)).unwrap_err();
    handover.note(&noted(false)).unwrap();
    handover
        .conclude(&Outcome::report(id(1), texts(REPORT_MAX)))
        .unwrap();
    let (ended, kept) = handover.outcome(id(1)).unwrap().unwrap().ended();
    assert_eq!((ended, kept), (Ended::Report, Some(texts(0))));
    let mut lies = Outcome::report(id(1), texts(0));
    lies.report = Some(texts(REPORT_MAX));
    handover.conclude(&lies).unwrap();
    let refused = handover.outcome(id(1)).unwrap_err();
    assert!(matches!(refused, HandoverError::TooLarge { .. }), "{refused}");
    fs::write(handover.outcome_path(), vec![b' '; 2 << 20]).unwrap();
    let refused = handover.outcome(id(1)).unwrap_err();
    assert!(matches!(refused, HandoverError::TooLarge { .. }), "{refused}");
}

#[test]
fn what_is_not_ours_is_not_used() {
    let (dir, handover) = place();
    handover.note(&noted(false)).unwrap();
    handover.conclude(&Outcome::report(id(2), texts(0))).unwrap();
    let refused = handover.outcome(id(1)).unwrap_err().to_string();
    assert!(refused.contains("about the test"), "{refused}");
    let good = fs::read_to_string(handover.order_path()).unwrap();
    for (bad, why) in [
        (good.replace("\"version\":1", "\"version\":2"), "version is 2"),
        (good.replace("\"started\"", "\"begun\""), "unknown field"),
        ("{}".into(), "missing field"),
        (" ".repeat(20_000), "bytes"),
    ] {
        fs::write(handover.order_path(), bad).unwrap();
        let refused = handover.noted().unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, good).unwrap();
    fs::remove_file(handover.order_path()).unwrap();
    symlink(&elsewhere, handover.order_path()).unwrap();
    let refused = handover.noted().unwrap_err();
    assert!(matches!(refused, HandoverError::Read { .. }), "{refused}");
}
