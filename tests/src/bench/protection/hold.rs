//! The antagonist, started and ended as each configuration does it.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::kills;
use super::matrix::{Cell, Config};
use super::outcome::{HEADROOM_PERCENT, used};
use super::rig::{FOLDER, Measure, NODE, Rig, antagonist_command};
use crate::deploy::as_person;
use crate::testbed::wait::{Look, wait_for};

/// What lent work is promised, in Loadline as in Slurm.
const MEMORY_MIB: u32 = 384;
/// From asking for it to seeing it run, or from its end to seeing it gone, on a machine that may be saturated.
const LIMIT: Duration = Duration::from_secs(120);
/// A receipt may have to travel.
const RECEIPT_LIMIT: Duration = Duration::from_secs(30);
/// A leak ends by the kernel's hand and begins again, as its user would.
const RETRIES: u32 = 100;
/// Production's use is measured for so long, with gaps between requests that no slice has.
const MEASURED: Duration = Duration::from_secs(5);
const MEASURED_SEED: usize = 5001;

/// An antagonist that runs.
#[derive(Debug)]
pub(super) enum Held {
    Nothing,
    /// Loadline's programs, and no antagonist.
    Programs,
    /// `antagonist.service`.
    Unit,
    Slurm,
    /// A job of Loadline's, by number.
    Job(u64),
}

pub(super) fn start(rig: &Rig, config: Config, cell: &Cell, capacity_per_s: u32) -> Result<Held> {
    let node = rig.node()?;
    let unit = |properties: &str| -> Result<Held> {
        node.ok(&format!(
            "systemd-run -q --collect --unit=antagonist --uid=alice -p Restart=always -p RestartSec=1 \
             -p StartLimitIntervalSec=0 {properties} {}",
            antagonist_command(cell)
        ))?;
        Ok(Held::Unit)
    };
    let slice = |properties: &str| -> Result<Held> {
        // A slice keeps what it was told for another configuration.
        node.ok(&format!(
            "systemctl set-property --runtime antagonist.slice CPUQuota= CPUQuotaPeriodSec= {properties}"
        ))?;
        unit("--slice=antagonist.slice")
    };
    match config {
        Config::Alone => Ok(Held::Nothing),
        Config::Installed => rig.start_programs().map(|()| Held::Programs),
        Config::Unprotected => unit(""),
        Config::Nice19 => unit("-p Nice=19"),
        Config::Weight1 => slice("CPUWeight=1"),
        Config::Idle => slice("CPUWeight=idle"),
        Config::Static => {
            let percent = left_percent(rig, cell, capacity_per_s)?;
            slice(&format!(
                "CPUWeight=idle CPUQuotaPeriodSec=10ms CPUQuota={percent:.0}%"
            ))
        }
        Config::Slurm => slurm(rig, cell),
        Config::Loadline => rig.start_programs().and_then(|()| job(rig, cell)),
    }
}

/// The line of now at this load, in per cent of a CPU: what its owner would set by hand who had measured it.
fn left_percent(rig: &Rig, cell: &Cell, capacity_per_s: u32) -> Result<f64> {
    let measure = Measure {
        length: MEASURED,
        seed: MEASURED_SEED,
        again: false,
    };
    let alone = rig.slice(cell, Config::Alone, capacity_per_s, &measure)?;
    let [production, ..] = used(&alone);
    let lendable = alone.cpus as f64 * (100 - HEADROOM_PERCENT) as f64 / 100.0;
    Ok(((lendable - production) * 100.0).max(5.0))
}

fn slurm(rig: &Rig, cell: &Cell) -> Result<Held> {
    let node = rig.node()?;
    node.ok("systemctl start munge slurmctld slurmd")?;
    node.wait_ok(
        "Slurm's node is idle",
        "sinfo -h -o %T | tee /dev/stderr | grep -qx idle",
        LIMIT,
    )?;
    // The loop is what Restart= is elsewhere.
    let script = format!("while :; do {}; sleep 1; done", antagonist_command(cell));
    let submit = format!("sbatch -c 1 --mem={MEMORY_MIB} -o /dev/null --wrap \"{script}\"");
    node.ok(&as_person("alice", &submit))?;
    node.wait_ok(
        "Slurm's job runs",
        "squeue -h -o %T | tee /dev/stderr | grep -qx RUNNING",
        LIMIT,
    )?;
    Ok(Held::Slurm)
}

fn job(rig: &Rig, cell: &Cell) -> Result<Held> {
    // Any share will do: shares divide what is lent among workers, and there is only this one.
    let submit = format!(
        "fleet run --detach -o json --cpus 500m --memory {MEMORY_MIB}MiB --retries {RETRIES} --node {NODE} -- {}",
        antagonist_command(cell)
    );
    let printed = rig.admin()?.ok(&as_person("alice", &submit))?;
    let answer: Value =
        serde_json::from_str(&printed).with_context(|| format!("submitting printed {printed}"))?;
    let job = answer["job"]
        .as_u64()
        .with_context(|| format!("no number in {answer}"))?;
    let held = Held::Job(job);
    is_there(rig, &held)?;
    Ok(held)
}

/// Waits until it runs. A leak ends at its limit, and until its next attempt runs it may take longer than what is
/// measured.
pub(super) fn is_there(rig: &Rig, held: &Held) -> Result<()> {
    let Held::Job(_) = held else { return Ok(()) };
    let look = "systemctl list-units --state=running --no-legend --plain 'loadline-w-*' | grep -q .";
    rig.node()?.wait_ok("the worker runs", look, LIMIT).map(drop)
}

/// Ends it, and gives whom it was killed without a receipt.
pub(super) fn stop(rig: &Rig, held: Held) -> Result<Vec<String>> {
    let node = rig.node()?;
    let missing = match held {
        Held::Nothing => Vec::new(),
        Held::Programs => {
            rig.programs("stop")?;
            Vec::new()
        }
        Held::Unit => {
            node.ok_within(
                "systemctl kill -s KILL antagonist; systemctl stop antagonist",
                LIMIT,
            )?;
            Vec::new()
        }
        Held::Slurm => {
            node.ok("scancel --signal=KILL --full --user=alice; scancel --user=alice")?;
            node.wait_ok("Slurm's queue is empty", "! squeue -h | grep .", LIMIT)?;
            node.ok("systemctl stop slurmd slurmctld munge")?;
            Vec::new()
        }
        Held::Job(number) => end_job(rig, number)?,
    };
    // What it left to be written would be written during the next slice.
    node.ok_within(&format!("rm -rf {FOLDER}/*; sync"), LIMIT)?;
    Ok(missing)
}

fn end_job(rig: &Rig, number: u64) -> Result<Vec<String>> {
    let admin = rig.admin()?;
    admin.ok(&as_person("alice", &format!("fleet cancel {number}")))?;
    rig.node()?.wait_ok(
        "no worker runs",
        "! systemctl list-units --no-legend --plain 'loadline-w-*' | grep .",
        LIMIT,
    )?;
    let job = || -> Result<Value> {
        let printed = admin.ok(&as_person("alice", &format!("fleet job {number} -o json")))?;
        serde_json::from_str(&printed).with_context(|| format!("`fleet job` printed {printed}"))
    };
    let complete = wait_for("receipts", RECEIPT_LIMIT, || {
        let job = job()?;
        let missing = kills::without_receipt(&job);
        Ok(if missing.is_empty() && job["state"] != "running" {
            Look::Done(())
        } else {
            Look::Pending(format!(
                "{} is {}, without receipt: {missing:?}",
                number, job["state"]
            ))
        })
    });
    if let Err(error) = complete {
        eprintln!("bench: job {number}: {error:#}");
    }
    rig.programs("stop")?;
    Ok(kills::without_receipt(&job()?))
}
