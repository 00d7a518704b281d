//! Bad input: one clear sentence with a next step, the right exit code, and nothing changed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::person::{Person, SOON};
use super::{NEW, OLD, on_both};
use crate::deploy::{FLEET_GUEST, Packages, token};
use crate::testbed::Fleet;

/// What is typed, the exit code, and what the sentence must name.
const TYPED: &[(&str, i32, &str)] = &[
    ("fleet run --cpus 0 -- true", 2, "cpus"),
    ("fleet run --cpus=-1 -- true", 2, "cpus"),
    ("fleet run --cpus 1.5 -- true", 2, "cpus"),
    ("fleet run --memory 4G -- true", 2, "memory"),
    ("fleet run --memory 0MiB -- true", 2, "memory"),
    ("fleet run --time 5 -- true", 2, "time"),
    ("fleet run --workers 3-2 -- true", 2, "workers"),
    ("fleet run --tier gold -- true", 2, "tier"),
    ("fleet run --dir ../x -- true", 2, "dir"),
    ("fleet run", 2, "said to run"),
    ("fleet job 999999", 3, "999999"),
    ("fleet wait nonsense", 2, "nonsense"),
    ("fleet node show nowhere", 3, "nowhere"),
    ("fleet node ban new", 4, "admin"),
    ("fleet user add mallory --role admin", 4, "admin"),
];

const JOB_FILE: &str =
    "version = 1\ncommand = [\"true\"]\nworkrs = 2\n[worker]\ncpus = \"2x\"\nmemory = \"1GB2\"\n";

pub(super) fn at_the_command_line(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    let jobs = alice.json("fleet jobs --all")?;
    for (typed, code, names) in TYPED {
        let output = alice.types(typed)?;
        ensure!(
            output.status == *code,
            "{typed}: {} instead of {code}: {}",
            output.status,
            output.stderr
        );
        let said = output.stderr.to_lowercase();
        ensure!(said.contains(names), "{typed}: does not name {names}: {said}");
        ensure!(
            !said.contains("panicked") && said.lines().count() <= 6,
            "{typed}: {said}"
        );
    }
    let admin = fleet.guest(FLEET_GUEST)?;
    admin.run_with_input("cat > /home/alice/bad.toml", JOB_FILE.into(), SOON)?;
    let output = alice.types("fleet run bad.toml")?;
    ensure!(output.status == 2, "{output:?}");
    for mistake in ["workrs", "cpus", "memory"] {
        ensure!(
            output.stderr.contains(mistake),
            "all mistakes at once, {mistake} too: {}",
            output.stderr
        );
    }
    let after = alice.json("fleet jobs --all")?;
    ensure!(after == jobs, "a mistake made a job: {after}");
    too_large(&alice)?;
    on_both(fleet, |node| not_startable(&alice, node.name()))
}

fn too_large(alice: &Person<'_>) -> Result<()> {
    let job = alice.submit("--cpus 64", "true")?;
    let why = alice.json(&format!("fleet explain {job}"))?;
    let said = why["reasons"].to_string();
    ensure!(said.contains(NEW), "the largest node is not named: {why}");
    alice.cancel(job).map(drop)
}

fn not_startable(alice: &Person<'_>, node: &str) -> Result<()> {
    for (flags, command, names) in [
        ("", "no-such-program", "no-such-program"),
        ("--dir /no/such", "true", "/no/such"),
    ] {
        let job = alice.submit(&format!("--cpus 100m --node {node} {flags}"), command)?;
        let over = alice.over(job, SOON)?;
        let attempt = alice.attempts(job)?.pop().context("no attempt")?;
        ensure!(attempt.reason() == "start_failed", "{over}");
        ensure!(attempt.detail().contains(names), "{:?}", attempt.detail());
    }
    Ok(())
}

pub(super) fn tokens(fleet: &Fleet) -> Result<()> {
    let admin = fleet.guest(FLEET_GUEST)?;
    // The nodes have joined already, so a guest that is none plays the stranger: the fleet's own.
    let first = token(admin, "fleet token node stranger")?;
    let join =
        |token: &str, rest: &str| admin.run(&format!("loadline-agent join {token} --no-start {rest}"), SOON);
    Packages::of(Path::new("target/packages"))?.install(admin, &["loadline-node"])?;
    let other = join(&first, "--name somebody-else")?;
    ensure!(other.status != 0, "a token for stranger let somebody-else in");
    let good = join(&first, "")?;
    ensure!(good.status == 0, "{good:?}");
    admin.ok("rm -rf /etc/loadline/trust /var/lib/loadline-agent/node.*")?;
    let again = join(&first, "")?;
    ensure!(
        again.status != 0 && again.stderr.contains("used"),
        "second use: {again:?}"
    );
    let short = token(admin, "fleet token node stranger2 --life 1s")?;
    admin.wait_ok(
        "a second has passed",
        "fleet token list | grep -E 'stranger2.*expired'",
        Duration::from_secs(30),
    )?;
    let late = join(&short, "")?;
    ensure!(
        late.status != 0 && late.stderr.contains("expired"),
        "late use: {late:?}"
    );
    admin.ok("test ! -e /etc/loadline/trust/ca.pem")?;
    admin
        .ok("apt-get purge -q -y loadline-node; fleet node ban stranger")
        .map(drop)
}

pub(super) fn node_toml(fleet: &Fleet) -> Result<()> {
    let node = fleet.guest(OLD)?;
    node.ok("cp -p /etc/loadline/node.toml /root/node.toml")?;
    node.ok("printf 'version = 1\\n[lend]\\nmod = \"enforce\"\\nuid_min = 0\\n[production]\\nreserve = { memory = \"8Gib\" }\\n' > /etc/loadline/node.toml")?;
    let check = node.run("loadline-warden check", SOON)?;
    let said = format!("{}{}", check.stdout, check.stderr);
    for mistake in ["mod", "uid_min", "memory"] {
        ensure!(
            said.contains(mistake),
            "all mistakes at once, {mistake} too: {said}"
        );
    }
    node.run("systemctl reload loadline-warden", SOON)?;
    node.ok("systemctl is-active loadline-warden")?;
    let job = Person::of(fleet)?;
    let done = job.types(&format!(
        "fleet run --quiet --cpus 100m --node {OLD} -- echo still lent"
    ))?;
    ensure!(
        done.stdout.trim() == "still lent",
        "the last good policy was lost: {done:?}"
    );
    node.ok("cp -p /root/node.toml /etc/loadline/node.toml && systemctl reload loadline-warden")
        .map(drop)
}
