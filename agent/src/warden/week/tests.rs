use std::fs;
use std::path::Path;

use loadline_model::{Bytes, MilliCpu, WallTime};
use loadline_policy::week::{KNOWN_FROM, Kept, KeptHour};
use tokio::time::{Instant, sleep, timeout};

use super::*;

const CAPACITY: Capacity = Capacity {
    cpu: MilliCpu(4000),
    memory: Bytes(8 << 30),
};
const GIB_IN_KIB: u64 = 1 << 20;

#[derive(Clone, Copy)]
struct Paused(Instant);

impl Clock for Paused {
    fn wall(&self) -> WallTime {
        WallTime(1)
    }

    fn monotonic(&self) -> Span {
        Span(u64::try_from(self.0.elapsed().as_micros()).unwrap())
    }
}

/// A machine on which production uses one CPU and a GiB, lent work half a CPU, and the warden a tenth.
struct Bench {
    dir: tempfile::TempDir,
    clock: Paused,
    commands: Option<mpsc::Sender<Command>>,
    told: mpsc::Receiver<Command>,
}

impl Bench {
    fn new() -> Self {
        let (commands, told) = mpsc::channel(4);
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Paused(Instant::now()),
            commands: Some(commands),
            told,
        };
        let fixture = include_str!("../../../tests/fixtures/vm-2cpu/proc/meminfo");
        let lines = fixture.lines().map(|line| match line.split_once(':') {
            Some(("MemTotal", _)) => format!("MemTotal: {} kB\n", 8 * GIB_IN_KIB),
            Some(("MemAvailable", _)) => format!("MemAvailable: {} kB\n", 7 * GIB_IN_KIB),
            _ => format!("{line}\n"),
        });
        bench.put("proc/meminfo", &lines.collect::<String>());
        bench.use_cpu();
        bench
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn use_cpu(&self) {
        let now = self.clock.monotonic().0;
        let stat = |used: u64| format!("usage_usec {used}\n");
        // All four CPUs but 1.6 of them are idle, by hundredths of a second.
        let hundredths = now / 10_000;
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        self.put("sys/devices/system/cpu/online", "0-3\n");
        self.put("proc/uptime", &format!("{whole}.{rest:02} 0.00\n"));
        self.put("proc/stat", &format!("cpu  0 0 0 {} 0\n", hundredths * 24 / 10));
        self.put("sys/fs/cgroup/loadline.slice/cpu.stat", &stat(now / 2));
        self.put("sys/fs/cgroup/loadline.slice/memory.current", "0\n");
        self.put(
            "sys/fs/cgroup/loadline.slice/memory.stat",
            "inactive_file 0\nactive_file 0\nslab_reclaimable 0\n",
        );
        let own = "sys/fs/cgroup/system.slice/loadline-warden.service/cpu.stat";
        self.put(own, &stat(now / 10));
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("state/week.json")
    }

    fn watch(&self, week: Week) -> Watching {
        Watching::start(Watch {
            root: HostRoot::new(self.dir.path()),
            clock: self.clock,
            path: self.file(),
            capacity: CAPACITY,
            week,
            commands: self.commands.clone().unwrap(),
        })
    }

    /// Lets time pass, in which all use what they use.
    async fn pass(&self, secs: u64) {
        for _ in 0..secs {
            sleep(Duration::from_secs(1)).await;
            self.use_cpu();
        }
    }
}

/// `minutes` less than a day, at half a CPU.
fn almost_a_day(minutes: u64) -> Week {
    let mut week = Week::default();
    for _ in 0..24 * 60 - minutes {
        let look = Look {
            over: Span::from_secs(60),
            cpu: Some(MilliCpu(500)),
            memory: Some(Bytes(1 << 29)),
        };
        assert!(week.see(&CAPACITY, &look));
    }
    week
}

fn kept(path: &Path) -> (Week, Option<String>) {
    file::load(path, WallTime(7))
}

#[tokio::test(start_paused = true)]
async fn what_a_day_shows_is_told_and_kept() {
    let mut bench = Bench::new();
    fs::create_dir(bench.dir.path().join("state")).unwrap();
    let watching = bench.watch(almost_a_day(20));
    bench.pass(17 * 60).await;
    assert!(bench.told.try_recv().is_err(), "a day is not over");
    assert!(watching.watched().borrow().over < KNOWN_FROM);
    bench.pass(10 * 60).await;
    let told = timeout(Duration::from_secs(600), bench.told.recv()).await;
    let Ok(Some(Command::Week(week))) = told else {
        panic!("{told:?}")
    };
    // 27 minutes of a day are more than a hundredth: one CPU of production's own, without ours and what is lent.
    let cpu = week.cpu.unwrap();
    assert!(MilliCpu(1000) <= cpu && cpu <= MilliCpu(1040), "{cpu}");
    let memory = week.memory.unwrap();
    assert!(
        Bytes(1 << 30) <= memory && memory <= Bytes((1 << 30) + (8 << 30) / 100),
        "{memory}"
    );
    let watched = watching.watched().borrow().clone();
    assert_eq!((watched.known, watched.unsaved), (week, None));
    bench.pass(60).await;
    watching.end().await;
    let (saved, problem) = kept(&bench.file());
    assert_eq!(problem, None);
    assert_eq!(saved.known(), week);
    assert!(
        saved.watched() >= watched.over.plus(Span::from_secs(55)),
        "saved at the end too: {} after {}",
        saved.watched(),
        watched.over
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_is_named_and_tried_again() {
    let bench = Bench::new();
    let watching = bench.watch(Week::default());
    bench.pass(310).await;
    let unsaved = watching.watched().borrow().unsaved.clone();
    let name = bench.file().display().to_string();
    assert!(
        unsaved.as_ref().is_some_and(|why| why.contains(&name)),
        "{unsaved:?}"
    );
    fs::create_dir(bench.dir.path().join("state")).unwrap();
    bench.pass(310).await;
    assert_eq!(watching.watched().borrow().unsaved, None);
    assert!(kept(&bench.file()).0.watched() >= Span::from_secs(590));
}

#[tokio::test(start_paused = true)]
async fn a_test_of_ours_is_not_what_production_needs() {
    let bench = Bench::new();
    fs::create_dir(bench.dir.path().join("state")).unwrap();
    let watching = bench.watch(Week::default());
    bench.put(
        "sys/fs/cgroup/system.slice/loadline-prove-standin.service/cpu.stat",
        "",
    );
    bench.pass(300).await;
    watching.end().await;
    assert_eq!(kept(&bench.file()).0, Week::default());
}

#[test]
fn a_file_that_cannot_be_used_is_set_aside_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("week.json");
    assert_eq!(kept(&path), (Week::default(), None), "a new node has none");
    let week = almost_a_day(0);
    file::save(&path, &week.kept()).unwrap();
    assert_eq!(kept(&path), (week.clone(), None));

    let torn = fs::read(&path).unwrap();
    let hours = Kept {
        cpu: vec![KeptHour(0, vec![])],
        memory: vec![],
    };
    let impossible = serde_json::json!({ "version": 1, "week": hours });
    for (text, why) in [
        (
            torn[..torn.len() / 2].to_vec(),
            "it is not what this version writes",
        ),
        (Vec::new(), "it is not what this version writes"),
        (
            br#"{"version":2,"week":[]}"#.to_vec(),
            "it is of version 2, and this program knows 1",
        ),
        (
            br#"{"version":1,"week":{"cpu":[],"memory":[]},"more":1}"#.to_vec(),
            "it is not what this version writes",
        ),
        (
            serde_json::to_vec(&impossible).unwrap(),
            "it holds what cannot be: hour 0 has buckets",
        ),
        (vec![b' '; (2 << 20) + 1], "it has more than 2097152 bytes"),
    ] {
        fs::write(&path, &text).unwrap();
        let (found, problem) = kept(&path);
        assert_eq!(found, Week::default());
        let problem = problem.unwrap();
        assert!(problem.contains(why), "{problem}");
        let aside = dir.path().join("week.json.broken-7");
        assert!(problem.contains(&aside.display().to_string()), "{problem}");
        assert_eq!(fs::read(&aside).unwrap(), text, "nothing of it is lost");
        assert!(!path.exists());
    }
    // A folder in its place cannot be read; it is moved away all the same, and the next save works.
    fs::remove_file(dir.path().join("week.json.broken-7")).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(
        kept(&path)
            .1
            .is_some_and(|problem| problem.contains("it cannot be read"))
    );
    file::save(&path, &week.kept()).unwrap();
    assert_eq!(kept(&path).0, week);
}

#[test]
fn a_week_in_which_everything_was_used_fits_the_file() {
    let hour = KeptHour(u64::MAX / 256, (0..=256).map(|bucket| (bucket, 140)).collect());
    let full = Kept {
        cpu: vec![hour.clone(); 168],
        memory: vec![hour; 168],
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("week.json");
    file::save(&path, &full).unwrap();
    assert_eq!(kept(&path), (Week::restore(&full).unwrap(), None));
    let size = fs::metadata(&path).unwrap().len();
    assert!(size <= 1 << 20, "{size} bytes");
}
