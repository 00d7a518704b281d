use super::*;
use loadline_model::{Bytes, NumaNode, Thread, WallTime};
use loadline_policy::node_policy::{LocalTime, Mode, Weekday};

fn topology() -> Topology {
    let thread = |cpu| Thread {
        cpu,
        core: cpu,
        l3: 0,
        numa: 0,
        socket: 0,
    };
    let node = NumaNode {
        id: 0,
        memory: Bytes::from_gib(4),
    };
    Topology::new([0, 1].map(thread).into(), vec![node]).unwrap()
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn start(&self) -> AtStart {
        at_start(&self.path("node.toml"), &self.path("good"), &topology())
    }
}

/// The whole chain of causes, as it is logged.
fn told(error: &ConfigError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn the_shipped_file_is_valid_and_means_the_defaults() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/node/node.toml");
    let loaded = load(&shipped, &topology()).unwrap();
    assert_eq!(loaded.policy, NodePolicy::default());
    // What stands in its comments must be right too, the reserve for a larger machine.
    let examples = loaded.text.lines().map(|line| match line.strip_prefix("# ") {
        Some(example) if example.contains(" = ") && !example.contains(". ") => example,
        _ => line,
    });
    let examples: Vec<&str> = examples.collect();
    let policy = parse(&shipped, &examples.join("\n")).unwrap();
    assert_eq!((policy.protect.len(), policy.lend.windows.len()), (1, 1));
}

#[test]
fn a_wrong_file_names_itself_and_all_its_mistakes() {
    let files = Files::new();
    files.write("node.toml", "version = 1\n[lend]\nuid_min = 0\nmode = \"on\"\n");
    let error = load(&files.path("node.toml"), &topology()).unwrap_err();
    let path = files.path("node.toml");
    assert_eq!(
        told(&error),
        format!(
            "{} has 2 mistakes: lend.mode: `on` is none of \"off\", \"shadow\", \"enforce\"; \
             lend.uid_min: must be 1 or more: root is never lent to",
            path.display()
        )
    );
    files.write("node.toml", "version = 1\nversion = 1\n");
    let error = load(&path, &topology()).unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { .. }));
    assert!(told(&error).contains("line 2"), "{}", told(&error));
}

#[test]
fn the_machine_and_its_time_zones_are_checked_on_load() {
    let files = Files::new();
    files.write(
        "node.toml",
        "version = 1\n[lend]\nwindows = [{ from = \"01:00\", to = \"02:00\", tz = \"Mars/Base\" }]\n\
         [production.reserve]\ncpus = \"7\"\n",
    );
    let error = load(&files.path("node.toml"), &topology()).unwrap_err();
    let text = told(&error);
    assert!(
        text.contains("production.reserve.cpus: this machine has no CPU 7"),
        "{text}"
    );
    assert!(
        text.contains("lend.windows: `Mars/Base` is not a time zone"),
        "{text}"
    );
}

#[test]
fn a_start_falls_back_to_the_last_good_copy_and_then_to_nothing() {
    let files = Files::new();
    let nothing = files.start();
    assert!(matches!(nothing, AtStart::Nothing(ConfigError::Read { .. })));
    assert_eq!(nothing.policy().lend.mode, Mode::Off);
    files.write("node.toml", "version = 1\n[lend]\nmode = \"shadow\"\n");
    let AtStart::File(loaded) = files.start() else {
        panic!("a valid file")
    };
    keep_good(&files.path("good"), &loaded).unwrap();
    files.write("node.toml", "version = 2\n");
    let start = files.start();
    assert!(matches!(
        start,
        AtStart::LastGood(_, ConfigError::Mistakes { .. })
    ));
    assert_eq!(start.policy().lend.mode, Mode::Shadow);
    assert!(start.error().is_some());
    files.write("good", "broken");
    assert!(matches!(
        files.start(),
        AtStart::Nothing(ConfigError::Mistakes { .. })
    ));
}

#[test]
fn a_copy_that_cannot_be_written_leaves_the_old_one() {
    let files = Files::new();
    files.write("node.toml", "version = 1\n");
    let AtStart::File(loaded) = files.start() else {
        panic!("a valid file")
    };
    let error = keep_good(&files.path("absent/good"), &loaded).unwrap_err();
    assert!(
        error.to_string().starts_with("keeping a copy of the policy as "),
        "{error}"
    );
}

#[test]
fn local_times_follow_the_named_zones() {
    let text = "version = 1\n[lend]\nwindows = [{ from = \"01:00\", to = \"02:00\", tz = \"Asia/Tokyo\" }]\n";
    let policy = parse(Path::new("x"), text).unwrap();
    // 2026-01-01 20:30 UTC, a Thursday, is Friday 05:30 in Tokyo.
    let times = local_times(&policy, WallTime(1_767_299_400_000_000)).unwrap();
    assert_eq!(
        times.zones["Asia/Tokyo"],
        LocalTime {
            day: Weekday::Fri,
            minute: 330
        }
    );
    assert!(local_times(&policy, WallTime(i64::MAX)).is_err());
}
