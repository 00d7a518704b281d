//! Production's latency alone, with lent work, and with the same work unprotected, interleaved (rule of promise P1).
//!
//! Slices of each configuration alternate so that a drift of the host hits all three alike. Each slice begins when
//! the work is seen running. nginx and the generator sit in system.slice of the 2-vCPU node, the generator at
//! real-time priority; rate: 30 % of the capacity measured just before. "Alone" and "unprotected" are measured
//! with both node programs stopped, as if Loadline were not installed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::deploy::{FLEET_GUEST, as_person};
use crate::load::LoadReport;
use crate::testbed::host::{HostReport, HostWatch};
use crate::testbed::{Fleet, Guest};

use super::WEB;
use super::work::{PARTS, job_file, put_job};

const SLICE: Duration = Duration::from_secs(10);
/// Share of the measured capacity, in per cent.
const LOAD_PERCENT: u64 = 30;
const START_LIMIT: Duration = Duration::from_secs(60);

/// The two jobs: endless parts of /usr, and a hog.
const HOG: &str = "while :; do :; done\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Alone,
    Lent,
    Unprotected,
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

/// What was measured.
#[derive(Debug)]
pub(super) struct Figures {
    host: HostReport,
    capacity_per_s: u64,
    rate_per_s: u32,
    runs: Vec<(Setting, LoadReport)>,
}

/// Measures all three for `measured` each.
pub(super) fn measure(fleet: &Fleet, loadgen: &Path, measured: Duration) -> Result<Figures> {
    let (admin, web) = (fleet.guest(FLEET_GUEST)?, fleet.guest(WEB)?);
    prepare(admin, web, loadgen)?;
    let host = HostWatch::start()?;
    programs(web, "stop")?;
    let capacity = load(web, 5, "closed --connections 8")?;
    let capacity_per_s = capacity.latencies.count() * 1_000_000 / capacity.elapsed_us.max(1);
    let rate_per_s = u32::try_from((capacity_per_s * LOAD_PERCENT / 100).max(1))?;
    println!("  nginx answers {capacity_per_s} requests/s at most; load: {rate_per_s}/s, open loop");
    let mut runs = Vec::new();
    for (round, order) in (0..measured.as_secs().div_ceil(SLICE.as_secs())).zip(orders()) {
        for setting in order {
            let seed = round + 1;
            let report = slice(admin, web, setting, rate_per_s, seed)
                .with_context(|| format!("round {round}, {setting}"))?;
            runs.push((setting, report));
        }
    }
    programs(web, "start")?;
    Ok(Figures {
        host: host.report()?,
        capacity_per_s,
        rate_per_s,
        runs,
    })
}

/// ABC, CBA, ABC …: no configuration always comes first.
fn orders() -> impl Iterator<Item = [Setting; 3]> {
    let forth = [Setting::Alone, Setting::Lent, Setting::Unprotected];
    let back = [Setting::Unprotected, Setting::Lent, Setting::Alone];
    [forth, back].into_iter().cycle()
}

fn prepare(admin: &Guest, web: &Guest, loadgen: &Path) -> Result<()> {
    web.put(loadgen, "/usr/local/bin/loadgen")?;
    web.ok("chmod 755 /usr/local/bin/loadgen; systemctl start nginx; dd if=/dev/urandom of=/var/www/html/page bs=4k count=1 status=none")?;
    let endless = format!("while :; do (\n{PARTS}); done\n");
    web.ok("install -d /usr/local/lib/demo")?;
    let written = web.run_with_input("cat > /usr/local/lib/demo/parts.sh", endless.into(), START_LIMIT)?;
    ensure!(written.status == 0, "writing parts.sh: {}", written.stderr);
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

fn slice(admin: &Guest, web: &Guest, setting: Setting, rate: u32, seed: u64) -> Result<LoadReport> {
    let load = || load(web, SLICE.as_secs(), &format!("open --rate {rate} --seed {seed}"));
    let report = match setting {
        Setting::Alone => load()?,
        Setting::Lent => lent(admin, web, load)?,
        Setting::Unprotected => unprotected(web, load)?,
    };
    ensure!(
        report.errors == 0,
        "{} of {} requests failed",
        report.errors,
        report.requests
    );
    Ok(report)
}

fn lent(admin: &Guest, web: &Guest, load: impl FnOnce() -> Result<LoadReport>) -> Result<LoadReport> {
    programs(web, "start")?;
    crate::deploy::await_ready(admin, WEB)?;
    let submit = "for job in hog parts; do fleet run --quiet --detach -o json $job.toml; done";
    let jobs = job_numbers(&admin.ok(&as_person("alice", submit))?)?;
    web.wait_ok(
        "three workers run",
        "test $(systemctl list-units --state=running --no-legend 'loadline-w-*' | wc -l) = 3",
        START_LIMIT,
    )?;
    println!("  lent work: {}", web.ok("for unit in $(systemctl list-units --no-legend --plain 'loadline-w-*' | cut -d' ' -f1); do c=/sys/fs/cgroup/$(systemctl show -P ControlGroup $unit); echo -n \"[$(systemctl show -P User $unit) on CPU $(cat $c/cpuset.cpus.effective)] \"; done; echo slice cpu.max: $(cat /sys/fs/cgroup/loadline.slice/cpu.max)")?);
    let report = load();
    for job in jobs {
        admin.ok(&as_person("alice", &format!("fleet cancel {job}")))?;
    }
    web.wait_ok(
        "no worker runs",
        "test $(systemctl list-units --no-legend 'loadline-w-*' | wc -l) = 0",
        START_LIMIT,
    )?;
    programs(web, "stop")?;
    report
}

/// The numbers in what `fleet run --detach -o json` printed, one document a job.
fn job_numbers(printed: &str) -> Result<Vec<u64>> {
    serde_json::Deserializer::from_str(printed)
        .into_iter::<serde_json::Value>()
        .map(|job| {
            let job = job.with_context(|| format!("submitting printed {printed}"))?;
            job["job"].as_u64().with_context(|| format!("no number in {job}"))
        })
        .collect()
}

fn unprotected(web: &Guest, load: impl FnOnce() -> Result<LoadReport>) -> Result<LoadReport> {
    let start = format!(
        "for i in 1 2; do systemd-run -q --collect --unit=bare-hog-$i --uid=alice sh -c '{HOG}'; done; \
         systemd-run -q --collect --unit=bare-parts --uid=alice -E HOME=/home/alice -E LOADLINE_JOB=bare \
         -E LOADLINE_WORKER=0 -E LOADLINE_WORKERS=1 sh /usr/local/lib/demo/parts.sh"
    );
    web.ok(&start)?;
    let report = load();
    web.ok("systemctl kill -s KILL 'bare-*'; systemctl stop 'bare-*'; rm -rf /home/alice/parts-*")?;
    report
}

impl Figures {
    fn pooled(&self, setting: Setting) -> LoadReport {
        let mut all = LoadReport::default();
        self.runs
            .iter()
            .filter(|(of, _)| *of == setting)
            .for_each(|(_, report)| all.add(report));
        all
    }

    /// The table.
    pub(super) fn print(&self) {
        let alone = self.pooled(Setting::Alone);
        println!(
            "\n  {:34} {:>9} {:>9} {:>9} {:>10}",
            "production", "requests", "p50", "p99", "p99 ratio"
        );
        for setting in [Setting::Alone, Setting::Lent, Setting::Unprotected] {
            let report = self.pooled(setting);
            println!(
                "  {:34} {:>9} {:>9} {:>9} {:>10}",
                setting.to_string(),
                report.requests,
                millis(report.latencies.quantile_us(0.5)),
                millis(report.latencies.quantile_us(0.99)),
                hundredths(p99_ratio(&report, &alone)),
            );
            if report.generator_too_late() {
                println!("  (the generator itself was late in this one: the host is too busy to judge)");
            }
        }
        println!(
            "  host: {}",
            serde_json::to_string(&self.host).unwrap_or_default()
        );
    }

    /// `target/bench/demo.json`.
    pub(super) fn write(&self) -> Result<()> {
        let alone = self.pooled(Setting::Alone);
        let figure = |id: &str, setting: Setting, share: f64| json!({"id": id, "value": self.pooled(setting).latencies.quantile_us(share), "unit": "us", "better": "lower"});
        let ratio = |id: &str, setting: Setting| json!({"id": id, "value": p99_ratio(&self.pooled(setting), &alone), "unit": "%", "better": "lower"});
        let text = json!({
            "name": "demo", "host": self.host,
            "capacity_per_s": self.capacity_per_s, "rate_per_s": self.rate_per_s,
            "figures": [
                figure("demo.alone.p50_us", Setting::Alone, 0.5), figure("demo.alone.p99_us", Setting::Alone, 0.99),
                figure("demo.lent.p50_us", Setting::Lent, 0.5), figure("demo.lent.p99_us", Setting::Lent, 0.99),
                figure("demo.unprotected.p50_us", Setting::Unprotected, 0.5),
                figure("demo.unprotected.p99_us", Setting::Unprotected, 0.99),
                ratio("demo.lent.p99_ratio_percent", Setting::Lent),
                ratio("demo.unprotected.p99_ratio_percent", Setting::Unprotected),
            ],
        });
        std::fs::create_dir_all("target/bench").context("making target/bench")?;
        std::fs::write("target/bench/demo.json", serde_json::to_string_pretty(&text)?)
            .context("writing target/bench/demo.json")
    }
}

fn p99_ratio(report: &LoadReport, alone: &LoadReport) -> u64 {
    report.latencies.quantile_us(0.99) * 100 / alone.latencies.quantile_us(0.99).max(1)
}

fn millis(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

fn hundredths(percent: u64) -> String {
    format!("{}.{:02}", percent / 100, percent % 100)
}
