//! The demo's real work: every file of the guest's own `/usr`, compressed and verified in parts by four workers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::deploy::{FLEET_GUEST, as_person};
use crate::testbed::{Fleet, Guest};

use super::BATCH;

/// The script of one worker.
pub(super) const PARTS: &str = include_str!("parts.sh");

const PART_COUNT: usize = 4;
/// A few hundred megabytes through zstd twice, on emulated CPUs.
const WORK_LIMIT: Duration = Duration::from_secs(300);

/// A job file as a person would write it, for the given script.
pub(super) fn job_file(name: &str, script: &str, rest: &str) -> String {
    format!("version = 1\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''\n{script}''']\n{rest}")
}

/// Writes a job file into alice's home on the fleet guest.
pub(super) fn put_job(admin: &Guest, file: &str, text: &str) -> Result<()> {
    let command = format!("cat > /home/alice/{file} && chown alice: /home/alice/{file}");
    let output = admin.run_with_input(&command, text.as_bytes().to_vec(), Duration::from_secs(30))?;
    ensure!(output.status == 0, "writing {file}: {}", output.stderr);
    Ok(())
}

/// Runs the job, shows where its workers ran, and checks the outputs on the node itself.
pub(super) fn compress_usr(fleet: &Fleet) -> Result<()> {
    let admin = fleet.guest(FLEET_GUEST)?;
    let rest = format!(
        "workers = {PART_COUNT}\nnodes = [\"{BATCH}\"]\n[worker]\ncpus = \"500m\"\nmemory = \"256MiB\"\n"
    );
    put_job(admin, "usr.toml", &job_file("compress-usr", PARTS, &rest))?;
    let printed = admin.ok_within(&as_person("alice", "fleet run usr.toml 2>&1"), WORK_LIMIT)?;
    println!("{printed}");
    let verified = printed
        .lines()
        .filter(|line| line.contains("files verified"))
        .count();
    ensure!(
        verified == PART_COUNT,
        "{verified} of {PART_COUNT} parts were verified"
    );
    let number = printed
        .split_whitespace()
        .skip_while(|word| *word != "job")
        .nth(1);
    let number = number.with_context(|| format!("`fleet run` named no job: {printed}"))?;
    println!(
        "{}",
        admin.ok(&as_person("alice", &format!("fleet job {number}")))?
    );
    check_outputs(fleet.guest(BATCH)?)
}

/// Trusts nobody: every file of /usr must be in exactly one part, and every part must be whole. The sandbox hides
/// kernel modules from workers (`ProtectKernelModules=`), so those are none of the work.
fn check_outputs(node: &Guest) -> Result<()> {
    let missing = node.ok(
        "cd /home/alice/parts-* && for part in *.tar.zst; do { zstd -q -t $part || echo broken $part; } & done; wait; \
         (cd / && find usr -xdev -path usr/lib/modules -prune -o -type f -print | LC_ALL=C sort) > /tmp/all; \
         cat *.list | LC_ALL=C sort > /tmp/packed; diff /tmp/all /tmp/packed | grep '^[<>]' | wc -l",
    )?;
    ensure!(
        missing == "0",
        "files of /usr missing in or double among the parts: {missing}"
    );
    println!("  outputs checked: every file of /usr that a worker may see is in exactly one part");
    Ok(())
}
