use loadline_policy::prove::Resource;

use super::*;
use crate::prove::summary::summarise;
use crate::prove::summary::tests::outcome;

/// A report with every verdict in it.
fn sample() -> Report {
    let calm: Vec<(u64, u64)> = [
        (4000, 4100),
        (4100, 4200),
        (4200, 4150),
        (3900, 4000),
        (4050, 4300),
    ]
    .into();
    let mut all = outcome(Resource::Cpu, &calm);
    let costly: Vec<(u64, u64)> = calm.iter().map(|(alone, lent)| (*alone, lent * 2)).collect();
    all.rounds.extend(outcome(Resource::Memory, &costly).rounds);
    all.rounds.extend(
        outcome(
            Resource::Cache,
            &[(4000, 4000), (4000, 6900), (4000, 4100), (4000, 3900)],
        )
        .rounds,
    );
    all.not_measured
        .insert(Resource::Disk, "temporary files lie in memory here".into());
    all.rounds[3].discarded = Some("the probe itself was <too late>".into());
    Report {
        format: FORMAT.into(),
        version: VERSION,
        begun_us: 1_800_000_000_000_000,
        begun: "2027-01-15 08:00 UTC".into(),
        took_us: 432_000_000,
        program: "loadline-warden 0.1.0".into(),
        node: NodeFacts {
            name: "web1".into(),
            cpus: 8,
            memory_bytes: 16 << 30,
            kernel: "6.12.0".into(),
            os: "Debian GNU/Linux 13 (trixie)".into(),
            systemd: "257.13".into(),
            mode: "enforce".into(),
        },
        line: LineFacts {
            cpu_millicpu: 5400,
            memory_bytes: 11 << 30,
            held_by: "the running warden".into(),
        },
        asked: AskedFacts {
            probe: "http://127.0.0.1:80/<health>".into(),
            rate_per_s: 100,
            rounds: 5,
            round_us: 10_000_000,
            limit_us: 600_000_000,
            seed: 7,
            workers: 0,
        },
        aborted: None,
        left_behind: Vec::new(),
        resources: Resource::ALL
            .map(|resource| summarise(&all, resource, 7))
            .to_vec(),
    }
}

fn key() -> (tempfile::TempDir, NodeKey) {
    let folder = tempfile::tempdir().unwrap();
    let key = NodeKey::of(&folder.path().join("prove.key")).unwrap();
    (folder, key)
}

#[test]
fn the_key_is_made_once_kept_and_nobody_else_s() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, first) = key();
    let path = folder.path().join("prove.key");
    assert_eq!(NodeKey::of(&path).unwrap().public(), first.public());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (_other, other) = key();
    assert_ne!(other.public(), first.public());
    std::fs::write(&path, "nonsense").unwrap();
    assert!(matches!(NodeKey::of(&path), Err(SignError::Format { .. })));
}

#[test]
fn a_signed_report_is_genuine_until_a_figure_is_changed() {
    let (_folder, key) = key();
    let signed = key.sign(sample()).unwrap();
    let json = signed.json().unwrap();
    assert_eq!(verify(&json).unwrap(), signed);
    // Layout and the order of keys are not what is signed.
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(verify(&value.to_string()).is_ok());
    let p99 = signed.resources_p99();
    for (from, to) in [
        (format!("\"p99_us\": {p99}"), format!("\"p99_us\": {}", p99 - 1)),
        ("\"name\": \"web1\"".into(), "\"name\": \"web2\"".into()),
        ("\"aborted\": null".into(), "\"aborted\": \"x\"".into()),
        (
            "\"verdict\": \"cost\"".into(),
            "\"verdict\": \"protected\"".into(),
        ),
    ] {
        let forged = json.replacen(&from, &to, 1);
        assert_ne!(forged, json, "{from} stands in the report");
        assert!(matches!(verify(&forged), Err(VerifyError::Changed)), "{to}");
    }
    let (_other, stranger) = self::key();
    let swapped = json.replace(&signed.signature.public_key, &stranger.public());
    assert!(matches!(verify(&swapped), Err(VerifyError::Changed)));
    let short = json.replace(&signed.signature.value, "00");
    assert!(matches!(verify(&short), Err(VerifyError::Proof)));
    let newer = json.replacen("\"version\": 1", "\"version\": 2", 1);
    assert!(matches!(
        verify(&newer),
        Err(VerifyError::Version { version: 2, .. })
    ));
    assert!(matches!(verify("{}"), Err(VerifyError::Format(_))));
    let more = json.replacen("\"took_us\"", "\"extra\": 1, \"took_us\"", 1);
    assert!(
        matches!(verify(&more), Err(VerifyError::Format(_))),
        "an unknown key"
    );
}

impl Signed {
    fn resources_p99(&self) -> u64 {
        self.report.resources[0].alone.as_ref().unwrap().p99_us
    }
}

#[test]
fn the_screen_says_every_verdict_with_its_figures() {
    let text = screen(&sample());
    for words in [
        "cpu       protected",
        "memory    cost",
        "cache     unclear",
        "disk      not measured",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(text.contains("more rounds would"), "{text}");
    assert!(
        text.contains("cpu: 1 of 10 rounds discarded, first in pair 2"),
        "{text}"
    );
    assert!(
        text.contains("disk: temporary files lie in memory here"),
        "{text}"
    );
    assert!(text.lines().count() < 30, "a screen:\n{text}");
    let mut stopped = sample();
    stopped.aborted = Some("production answered too slowly".into());
    assert!(screen(&stopped).contains("ABORTED: production answered too slowly"));
    assert!(!stopped.is_whole() && sample().is_whole());
}

#[test]
fn the_page_holds_all_it_shows_and_runs_nothing() {
    let (_folder, key) = key();
    let signed = key.sign(sample()).unwrap();
    let page = page(&signed, &signed.json().unwrap());
    for absent in [
        "<script",
        "src=",
        "url(",
        "<link",
        "@import",
        "javascript:",
        "<health>",
        "<too late>",
    ] {
        assert!(!page.contains(absent), "{absent}");
    }
    // The only addresses are names within the page.
    assert!(page.matches("href=\"").count() == page.matches("href=\"#").count());
    for present in [
        "viewport",
        "prefers-color-scheme",
        "<svg",
        "&lt;too late&gt;",
        &signed.signature.public_key,
    ] {
        assert!(page.contains(present), "{present}");
    }
    // Three resources with two plots each; the fourth was not measured.
    assert_eq!(page.matches("<svg").count(), 6);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    // For people who want to look at it: a folder to leave the page in.
    if let Some(folder) = std::env::var_os("LOADLINE_PAGE") {
        std::fs::write(std::path::Path::new(&folder).join("page.html"), &page).unwrap();
    }
}

/// The schema is what others read reports by: each of its fields is in a report, and each of a report's in the schema.
#[test]
fn the_schema_names_every_field_and_no_other() {
    let (_folder, key) = key();
    let signed = serde_json::to_value(key.sign(sample()).unwrap()).unwrap();
    let schema: serde_json::Value = serde_json::from_str(include_str!("report.schema.json")).unwrap();
    let mut seen = 0;
    fits(&schema, &schema, &signed, "$", &mut seen);
    assert!(seen > 50, "looked at {seen} values only");
}

fn fits(
    all: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
    place: &str,
    seen: &mut u32,
) {
    use serde_json::Value;
    *seen += 1;
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.strip_prefix("#/$defs/").expect("a local reference");
        return fits(all, &all["$defs"][name], value, place, seen);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => panic!("{place}: no type"),
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(types.contains(&found), "{place}: {found}, not one of {types:?}");
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let of = schema
                    .get("prefixItems")
                    .and_then(|list| list.get(index))
                    .unwrap_or(&schema["items"]);
                fits(all, of, item, &format!("{place}[{index}]"), seen);
            }
        }
        Value::Object(fields) => {
            let known = schema["properties"].as_object().expect("properties");
            for (name, field) in fields {
                let of = known
                    .get(name)
                    .unwrap_or_else(|| panic!("{place}.{name} is not in the schema"));
                fits(all, of, field, &format!("{place}.{name}"), seen);
            }
            for name in schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                assert!(fields.contains_key(name), "{place}.{name} is not in the report");
            }
        }
        _ => {}
    }
}
