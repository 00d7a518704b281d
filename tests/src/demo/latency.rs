//! Production's latency alone, with lent work, and with the same work unprotected, interleaved (rule of promise P1).
//!
//! Slices of each configuration alternate so that a drift of the host hits all three alike. Each slice begins when
//! the work is seen running. nginx and the generator sit in system.slice of the 2-vCPU node, the generator at
//! real-time priority; rate: 30 % of the capacity measured just before. "Alone" and "unprotected" are measured
//! with both node programs stopped, as if Loadline were not installed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::bench::{Bench, BenchReport, Better, Figure, Goal};
use crate::deploy::{FLEET_GUEST, as_person};
use crate::load::LoadReport;
use crate::testbed::{Fleet, Guest, both};

use super::WEB;
use super::work::{PARTS, job_file, put_job};

/// Two rounds of it in 40 s: there and back again, which a steady drift of the host favours no setting in. Each change
/// of setting costs ten seconds, so shorter slices would measure less in the same time.
const SLICE: Duration = Duration::from_secs(20);
/// Share of the measured capacity, in per cent.
const LOAD_PERCENT: u64 = 30;
const START_LIMIT: Duration = Duration::from_secs(60);
/// Promise P1, the median of the p99 ratios, in per cent.
const GOAL_P99_PERCENT: f64 = 110.0;

/// The two jobs: endless parts of /usr, and a hog.
const HOG: &str = "while :; do :; done\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Alone,
    Lent,
    Unprotected,
}

impl Setting {
    const ALL: [Self; 3] = [Self::Alone, Self::Lent, Self::Unprotected];

    /// In the ids of figures.
    const fn id(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Lent => "lent",
            Self::Unprotected => "unprotected",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alone => "alone",
            Self::Lent => "with work lent by Loadline",
            Self::Unprotected => "with the same work unprotected",
        })
    }
}

/// What was measured: for machines the median of the rounds, for people the same and how many requests it was.
#[derive(Debug)]
pub(super) struct Figures {
    report: BenchReport,
    runs: Runs,
}

/// One slice after the other; each round has each setting once.
#[derive(Debug, Default)]
struct Runs(Vec<(Setting, LoadReport)>);

/// Measures all three for `measured` each, once all is prepared.
pub(super) fn measure(fleet: &Fleet, measured: Duration) -> Result<Figures> {
    let (admin, web) = (fleet.guest(FLEET_GUEST)?, fleet.guest(WEB)?);
    let mut bench = Bench::start("demo")?;
    let capacity = load(web, 4, "closed --connections 8")?;
    let capacity_per_s = capacity.latencies.count() * 1_000_000 / capacity.elapsed_us.max(1);
    let rate_per_s = u32::try_from((capacity_per_s * LOAD_PERCENT / 100).max(1))?;
    println!("  nginx answers {capacity_per_s} requests/s at most; load: {rate_per_s}/s, open loop");
    let mut runs = Runs::default();
    let rounds = measured.as_secs().div_ceil(SLICE.as_secs());
    let slices: Vec<(u64, Setting)> = (1..=rounds)
        .zip(orders())
        .flat_map(|(round, order)| order.map(|setting| (round, setting)))
        .collect();
    for same in slices.chunk_by(|one, next| one.1 == next.1) {
        let setting = same[0].1;
        let seeds: Vec<u64> = same.iter().map(|(round, _)| *round).collect();
        let reports = in_setting(admin, web, setting, rate_per_s, &seeds)
            .with_context(|| format!("round {}, {setting}", seeds[0]))?;
        runs.0.extend(reports.into_iter().map(|report| (setting, report)));
    }
    let once = |id: &str, value: f64| Figure::new(id, "/s", Better::Higher, &[value]);
    bench.add(once("demo.capacity_per_s", capacity_per_s as f64))?;
    bench.add(once("demo.rate_per_s", rate_per_s.into()))?;
    runs.add_to(&mut bench)?;
    Ok(Figures {
        report: bench.finish()?,
        runs,
    })
}

/// ABC, CBA, ABC …: no configuration always comes first. With lent work at the turn, it is started for two slices.
fn orders() -> impl Iterator<Item = [Setting; 3]> {
    let forth = [Setting::Alone, Setting::Unprotected, Setting::Lent];
    let back = [Setting::Lent, Setting::Unprotected, Setting::Alone];
    [forth, back].into_iter().cycle()
}

/// What both guests need for it: nginx with a page, the generator, the jobs; and no Loadline on the node, to begin with.
pub(super) fn prepare(fleet: &Fleet, loadgen: &Path) -> Result<()> {
    let (admin, web) = (fleet.guest(FLEET_GUEST)?, fleet.guest(WEB)?);
    web.put(loadgen, "/usr/local/bin/loadgen")?;
    web.ok("chmod 755 /usr/local/bin/loadgen; systemctl start nginx; dd if=/dev/urandom of=/var/www/html/page bs=4k count=1 status=none")?;
    let endless = format!("while :; do (\n{PARTS}); done\n");
    web.ok("install -d /usr/local/lib/demo")?;
    let written = web.run_with_input("cat > /usr/local/lib/demo/parts.sh", endless.into(), START_LIMIT)?;
    ensure!(written.status == 0, "writing parts.sh: {}", written.stderr);
    programs(web, "stop")?;
    let place = format!("nodes = [\"{WEB}\"]\n[worker]\ncpus = \"150m\"\nmemory = \"192MiB\"\n");
    put_job(
        admin,
        "hog.toml",
        &job_file("hog", HOG, &format!("workers = 2\n{place}")),
    )?;
    put_job(
        admin,
        "parts.toml",
        &job_file(
            "parts",
            "exec sh /usr/local/lib/demo/parts.sh\n",
            &format!("workers = 1\n{place}"),
        ),
    )
}

fn programs(web: &Guest, verb: &str) -> Result<()> {
    web.ok(&format!("systemctl {verb} loadline-agent loadline-warden"))
        .map(drop)
}

fn load(web: &Guest, seconds: u64, kind: &str) -> Result<LoadReport> {
    let command = format!("chrt -f 10 loadgen --path /page --seconds {seconds} {kind}");
    let printed = web.ok_within(&command, Duration::from_secs(seconds + 60))?;
    serde_json::from_str(&printed).with_context(|| format!("the generator printed {printed:.200}"))
}

/// A slice for each seed, one after the other, in one setting.
fn in_setting(
    admin: &Guest,
    web: &Guest,
    setting: Setting,
    rate: u32,
    seeds: &[u64],
) -> Result<Vec<LoadReport>> {
    let loads = || {
        let load = |seed| load(web, SLICE.as_secs(), &format!("open --rate {rate} --seed {seed}"));
        seeds.iter().map(load).collect::<Result<Vec<LoadReport>>>()
    };
    let reports = match setting {
        Setting::Alone => loads()?,
        Setting::Lent => lent(admin, web, loads)?,
        Setting::Unprotected => unprotected(web, loads)?,
    };
    // Unprotected, production may fail: that is what is shown.
    for report in &reports {
        ensure!(
            report.errors == 0 || setting == Setting::Unprotected,
            "{setting}: {} of {} requests failed",
            report.errors,
            report.requests
        );
    }
    Ok(reports)
}

/// Whose each worker is and where it runs, as the kernel says.
const WHERE: &str = "cd /sys/fs/cgroup/loadline.slice; for worker in loadline-*.slice/loadline-w-*; do \
     echo -n \"[$(stat -c %U /proc/$(head -1 $worker/cgroup.procs)) on CPU $(cat $worker/cpuset.cpus.effective)] \"; done; \
     echo slice cpu.max: $(cat cpu.max)";

fn lent<T>(admin: &Guest, web: &Guest, load: impl FnOnce() -> Result<T>) -> Result<T> {
    // At the same time: jobs wait for a node that is about to come.
    let submit = "for job in hog parts; do fleet run --quiet --detach -o json $job.toml; done";
    let submitted = || job_numbers(&admin.ok(&as_person("alice", submit))?);
    let ((), [hog, parts]) = both(|| programs(web, "start"), submitted)?;
    web.wait_ok(
        "three workers run",
        "test $(systemctl list-units --state=running --no-legend 'loadline-w-*' | wc -l) = 3",
        START_LIMIT,
    )?;
    println!("  lent work: {}", web.ok(WHERE)?);
    let report = load();
    let cancel = |job| admin.ok(&as_person("alice", &format!("fleet cancel {job}")));
    both(|| cancel(hog), || cancel(parts))?;
    web.wait_ok(
        "no worker runs",
        "test $(systemctl list-units --no-legend 'loadline-w-*' | wc -l) = 0",
        START_LIMIT,
    )?;
    programs(web, "stop")?;
    report
}

/// The numbers in what `fleet run --detach -o json` printed for two jobs, one document each.
fn job_numbers(printed: &str) -> Result<[u64; 2]> {
    let jobs = serde_json::Deserializer::from_str(printed)
        .into_iter::<serde_json::Value>()
        .map(|job| {
            let job = job.with_context(|| format!("submitting printed {printed}"))?;
            job["job"].as_u64().with_context(|| format!("no number in {job}"))
        })
        .collect::<Result<Vec<u64>>>()?;
    jobs.try_into()
        .map_err(|jobs| anyhow!("two jobs were submitted, and these came: {jobs:?}"))
}

fn unprotected<T>(web: &Guest, load: impl FnOnce() -> Result<T>) -> Result<T> {
    // No longer than the slice: what is late is answered then, and need not be waited for under load.
    let until = format!("-p RuntimeMaxSec={}", SLICE.as_secs() + 2);
    let start = format!(
        "for i in 1 2; do systemd-run -q --collect {until} --unit=bare-hog-$i --uid=alice sh -c '{HOG}'; done; \
         systemd-run -q --collect {until} --unit=bare-parts --uid=alice -E HOME=/home/alice -E LOADLINE_JOB=bare \
         -E LOADLINE_WORKER=0 -E LOADLINE_WORKERS=1 sh /usr/local/lib/demo/parts.sh"
    );
    web.ok(&start)?;
    let report = load();
    web.ok("systemctl kill -s KILL 'bare-*'; systemctl stop 'bare-*'; rm -rf /home/alice/parts-*")?;
    report
}

impl Runs {
    fn of(&self, setting: Setting) -> impl Iterator<Item = &LoadReport> {
        self.0
            .iter()
            .filter(move |(of, _)| *of == setting)
            .map(|(_, report)| report)
    }

    /// One sample a round.
    fn quantile_us(&self, setting: Setting, share: f64) -> Vec<f64> {
        self.of(setting)
            .map(|report| report.latencies.quantile_us(share) as f64)
            .collect()
    }

    /// Each round's p99 against that of the same round alone.
    fn p99_percent(&self, setting: Setting) -> Vec<f64> {
        self.quantile_us(setting, 0.99)
            .iter()
            .zip(self.quantile_us(Setting::Alone, 0.99))
            .map(|(of, alone)| of * 100.0 / alone.max(1.0))
            .collect()
    }

    fn add_to(&self, bench: &mut Bench) -> Result<()> {
        for setting in Setting::ALL {
            for (share, name) in [(0.5, "p50_us"), (0.99, "p99_us")] {
                let id = format!("demo.{}.{name}", setting.id());
                let samples = self.quantile_us(setting, share);
                bench.add(Figure::new(&id, "us", Better::Lower, &samples))?;
            }
        }
        let ratio = |setting: Setting| {
            let id = format!("demo.{}.p99_ratio_percent", setting.id());
            Figure::new(&id, "%", Better::Lower, &self.p99_percent(setting))
        };
        bench.add(ratio(Setting::Lent).map(|figure| figure.goal(Goal::Value(GOAL_P99_PERCENT))))?;
        bench.add(ratio(Setting::Unprotected))
    }

    fn pooled(&self, setting: Setting) -> LoadReport {
        let mut all = LoadReport::default();
        self.of(setting).for_each(|report| all.add(report));
        all
    }
}

impl Figures {
    /// How many requests each of the medians stands on, and the figures.
    pub(super) fn print(&self) {
        println!();
        for setting in Setting::ALL {
            let report = self.runs.pooled(setting);
            println!(
                "  {setting}: {} requests, {} failed",
                report.requests, report.errors
            );
            if report.generator_too_late() {
                println!("  (the generator itself was late in this one: the host is too busy to judge)");
            }
        }
        println!("{}", self.report);
    }

    /// `target/bench/demo.json`.
    pub(super) fn write(&self) -> Result<()> {
        self.report.publish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rounds; each slice is one request of that latency.
    fn runs() -> Runs {
        let run = |(setting, us)| {
            let mut report = LoadReport {
                requests: 1,
                ..LoadReport::default()
            };
            report.latencies.record_us(us);
            (setting, report)
        };
        let (alone, lent, unprotected) = (Setting::Alone, Setting::Lent, Setting::Unprotected);
        let rounds = [(alone, 100), (lent, 105), (unprotected, 300)]
            .into_iter()
            .chain([(unprotected, 1000), (lent, 250), (alone, 200)]);
        Runs(rounds.map(run).collect())
    }

    #[test]
    fn a_round_is_held_against_the_same_round_alone() {
        assert_eq!(runs().p99_percent(Setting::Lent), [105.0, 125.0]);
        assert_eq!(runs().p99_percent(Setting::Unprotected), [300.0, 500.0]);
        assert_eq!(runs().pooled(Setting::Alone).requests, 2);
    }

    #[test]
    fn only_lent_work_has_a_goal_and_missing_it_is_said() {
        let mut bench = Bench::start("demo").unwrap();
        runs().add_to(&mut bench).unwrap();
        let figures = bench.finish().unwrap().figures;
        let goals: Vec<_> = figures
            .iter()
            .filter_map(|figure| figure.met().map(|met| (figure.id.as_str(), met)))
            .collect();
        assert_eq!(figures.len(), 8);
        assert_eq!(goals, [("demo.lent.p99_ratio_percent", false)]);
    }
}
