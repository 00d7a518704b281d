//! From an order and an account to the unit that systemd runs. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use loadline_model::Bytes;
use loadline_policy::attempt::WorkOrder;
use loadline_policy::settings::WorkerSettings;

use crate::host::systemd::WorkerUnit;
use crate::host::users::Account;

/// Where programs are looked for if the job's `PATH` does not say.
const PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// Where data usually lies besides homes; each is passed over where it does not exist. What may be written
/// there is the file system's own rule.
const DATA_FOLDERS: [&str; 5] = ["/data", "/scratch", "/srv", "/mnt", "/media"];

/// The unit of one attempt.
pub fn worker_unit(order: &WorkOrder, account: &Account, settings: WorkerSettings) -> WorkerUnit {
    let spec = &order.spec;
    let home = account.home.to_string_lossy().into_owned();
    let directory = absolute(&spec.dir, &home);
    let path = spec.env.get("PATH").cloned().unwrap_or_else(|| {
        let own = format!("{}/.local/bin", home.trim_end_matches('/'));
        [&[own.as_str()], &PATH[..]].concat().join(":")
    });
    let search_path = path
        .split(':')
        .filter(|part| part.starts_with('/'))
        .map(ToOwned::to_owned);
    let mut writable = vec![home.clone(), directory.clone()];
    writable.extend(DATA_FOLDERS.map(ToOwned::to_owned));
    writable.sort();
    writable.dedup();
    // Half of its memory, as tmpfs has it by default; what is in it counts against the worker's own limit.
    let shared_memory = Bytes(spec.worker.memory.0 / 2);
    WorkerUnit {
        description: format!(
            "{} ({}.{} of {})",
            spec.name, order.job_number, order.worker, account.name
        ),
        user: account.name.clone(),
        program: program(&spec.command[0], &directory),
        directory,
        argv: spec.command.clone(),
        search_path: search_path.collect(),
        environment: environment(order, &path),
        settings,
        shared_memory,
        writable,
        devices: Vec::new(),
        log_fields: vec![
            format!("LOADLINE_ATTEMPT={}", order.attempt.hex()),
            format!("LOADLINE_JOB={}", order.job),
            format!("LOADLINE_JOB_NUMBER={}", order.job_number),
            format!("LOADLINE_WORKER={}", order.worker),
        ],
        log_identifier: format!("{}.{}", order.job_number, order.worker),
        attempt: order.attempt,
    }
}

/// `~` and `~/…` are the account's home.
fn absolute(dir: &str, home: &str) -> String {
    match dir.strip_prefix('~') {
        Some(rest) => format!("{}{rest}", home.trim_end_matches('/')),
        None => dir.to_owned(),
    }
}

/// An absolute path and a bare name stay; `./train.sh` is meant from the working directory.
fn program(command: &str, directory: &str) -> String {
    if command.starts_with('/') || !command.contains('/') {
        return command.to_owned();
    }
    Path::new(directory)
        .join(command.trim_start_matches("./"))
        .to_string_lossy()
        .into_owned()
}

fn environment(order: &WorkOrder, path: &str) -> Vec<String> {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    all.insert("PATH", path.to_owned());
    for (name, value) in &order.spec.env {
        all.insert(name, value.clone());
    }
    // Ours come last: a job cannot pretend to be another one.
    all.insert("LOADLINE_ATTEMPT", order.attempt.hex());
    all.insert("LOADLINE_JOB", order.job.to_string());
    all.insert("LOADLINE_JOB_NUMBER", order.job_number.to_string());
    all.insert("LOADLINE_WORKER", order.worker.to_string());
    all.insert("LOADLINE_WORKERS", order.spec.workers.max().to_string());
    all.insert("LOADLINE_ATTEMPT_NUMBER", order.attempt_number.to_string());
    all.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[cfg(test)]
mod tests;
