//! Tables of what may be written and of every mistake with its words.

use loadline_model::{Bytes, CpuRequest, Elastic, MilliCpu, OnNodeLost, Span, Tier, Workers};

use super::*;
use crate::args::Cli;
use clap::Parser;

fn args(words: &str) -> RunArgs {
    let words = std::iter::once("fleet").chain(words.split_whitespace());
    match Cli::try_parse_from(words).unwrap().command {
        crate::args::Command::Run(args) => *args,
        other => panic!("not run: {other:?}"),
    }
}

fn by_flags(words: &str) -> Result<JobSpec, JobError> {
    from_args(&args(words), |name| {
        (name == "HOME_OF_TEST").then(|| "here".into())
    })
}

fn by_file(text: &str, more: &str) -> Result<JobSpec, JobError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("job.toml");
    std::fs::write(&path, text).unwrap();
    by_flags(&format!("run {} {more}", path.display())).map_err(|error| match error {
        // The folder's name changes from run to run.
        JobError::Wrong { mistakes, .. } => JobError::Wrong {
            file: Some("job.toml".into()),
            mistakes,
        },
        other => other,
    })
}

fn mistakes(text: &str) -> Vec<String> {
    let told = by_file(text, "").unwrap_err().to_string();
    let lines: Vec<String> = told.lines().map(|line| line.trim().to_string()).collect();
    if lines.len() > 1 {
        lines[1..].to_vec()
    } else {
        lines
    }
}

const WHOLE: &str = r#"
version = 1
name = "train"
command = ["python", "train.py"]
dir = "~/work"
env = { EPOCHS = "3" }
workers = { min = 1, max = 8 }
tier = "burst"
retries = 2
time = "2h"
grace = "10s"
on_node_lost = "wait"
nodes = ["n1"]
[worker]
cpus = "500m"
memory = "4GiB"
gpus = 1
"#;

#[test]
fn every_key_of_a_file_is_read() {
    let spec = by_file(WHOLE, "").unwrap();
    assert_eq!(spec.command, ["python", "train.py"]);
    assert_eq!((spec.name.as_str(), spec.dir.as_str()), ("train", "~/work"));
    assert_eq!(spec.env["EPOCHS"], "3");
    assert_eq!(spec.workers, Workers::Elastic(Elastic { min: 1, max: 8 }));
    assert_eq!((spec.tier, spec.retries), (Tier::Burst, 2));
    assert_eq!(
        (spec.time, spec.grace),
        (Some(Span::from_secs(7200)), Span::from_secs(10))
    );
    assert_eq!(
        (spec.on_node_lost, spec.nodes.clone()),
        (OnNodeLost::Wait, vec!["n1".into()])
    );
    assert_eq!(spec.worker.cpus, CpuRequest::Shared(MilliCpu(500)));
    assert_eq!((spec.worker.memory, spec.worker.gpus), (Bytes::from_gib(4), 1));
}

#[test]
fn flags_win_over_the_file_and_variables_add_up() {
    let spec = by_file(
        WHOLE,
        "--workers 2 --cpus 2 --env A=1 --env HOME_OF_TEST --node n2",
    )
    .unwrap();
    assert_eq!(spec.workers, Workers::Fixed(2));
    assert_eq!(spec.worker.cpus, CpuRequest::Exclusive(2));
    assert_eq!(spec.nodes, ["n2"]);
    let env: Vec<String> = spec
        .env
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(env, ["A=1", "EPOCHS=3", "HOME_OF_TEST=here"]);
}

#[test]
fn a_bare_command_gets_the_defaults() {
    let spec = by_flags("run -- echo --name hi").unwrap();
    assert_eq!(spec.command, ["echo", "--name", "hi"]);
    assert_eq!(
        (spec.worker.cpus, spec.worker.memory),
        (CPUS_DEFAULT, MEMORY_DEFAULT)
    );
    assert_eq!(
        (spec.workers, spec.tier, spec.time),
        (Workers::Fixed(1), Tier::Standard, None)
    );
}

#[test]
fn each_flag_is_judged_and_all_at_once() {
    let words =
        "run --cpus 2x --memory 4 --workers 3-x --tier gold --time 2 --retries -- --env NOT_SET -- true";
    let words = words.replace("--retries -- ", "--retries=some ");
    let told = by_flags(&words).unwrap_err().to_string();
    let expected = [
        "7 mistakes:",
        "  --env: NOT_SET is not set here: write NOT_SET=VALUE",
        "  --retries: `some` is not a whole number",
        "  --tier: `gold` is not a tier: \"standard\" or \"burst\"",
        "  --time: `2` is not a length of time: whole numbers with units, like \"30s\", \"90m\", \"1h30m\" or \"2d\"",
        "  --cpus: `2x` is not an amount of CPU: whole CPUs like \"2\", or thousandths like \"500m\"",
        "  --memory: `4` is not an amount of memory: a whole number with a unit, like \"512MiB\", \"4GiB\" or \"2GB\"",
        "  --workers: `3-x` is not a number of workers like \"4\", or a range like \"1-8\"",
    ];
    let mut told: Vec<&str> = told.lines().collect();
    let mut expected = expected.to_vec();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

#[test]
fn rules_of_the_job_name_the_flag() {
    for (words, expected) in [
        (
            "run --cpus 0 -- true",
            "--cpus: at least 1, or a share like \"100m\"",
        ),
        (
            "run --cpus 2000m -- true",
            "--cpus: a share is at least 10m and not a whole number of CPUs; whole CPUs are written without `m`",
        ),
        ("run --memory 1MiB -- true", "--memory: at least 4MiB"),
        ("run --workers 0 -- true", "--workers: at least 1"),
        (
            "run --workers 3-2 -- true",
            "--workers: `min` may not exceed `max`",
        ),
        (
            "run --name a/b -- true",
            "--name: 1 to 63 letters, digits, `-`, `_` or `.`",
        ),
        (
            "run --dir here -- true",
            "--dir: an absolute path, `~` or `~/…`, without `..`",
        ),
        ("run --time 10ms -- true", "--time: at least 1s"),
        (
            "run --on-node-lost hope -- true",
            "--on-node-lost: `hope` is not one of \"wait\" and \"replace\"",
        ),
    ] {
        assert_eq!(by_flags(words).unwrap_err().to_string(), expected, "{words}");
    }
}

const GOOD: &str = "version = 1\ncommand = [\"true\"]\n";

fn told(rows: &[(&str, &str)]) {
    for (line, expected) in rows {
        assert_eq!(mistakes(&format!("{GOOD}{line}\n")), [*expected], "{line}");
    }
}

#[test]
fn each_mistake_of_a_file_has_its_line_and_its_remedy() {
    told(&[
        (
            "colour = 1",
            "job.toml:3: colour: there is no such key; the keys are version, name, command, dir, env, workers, tier, retries, time, grace, on_node_lost, nodes, require, prefer, tolerate, spread, prefer_spread, pack, near, away_from, priority, team, gang, after, after_any, after_failed, start_after, array, [worker]",
        ),
        (
            "time = 2",
            "job.toml:3: time: needs a unit, in quotes: \"2s\", \"2m\" or \"2h\"",
        ),
        (
            "time = \"2 weeks\"",
            "job.toml:3: time: `2 weeks` is not a length of time: whole numbers with units, like \"30s\", \"90m\", \"1h30m\" or \"2d\"",
        ),
        (
            "tier = \"gold\"",
            "job.toml:3: tier: `gold` is not a tier: \"standard\" or \"burst\"",
        ),
        (
            "workers = \"4\"",
            "job.toml:3: workers: a number, or a range like { min = 1, max = 8 }, not a text",
        ),
        (
            "workers = { min = 1 }",
            "job.toml:3: workers: `max` is missing: a number, or a range like { min = 1, max = 8 }",
        ),
        (
            "workers = { min = 1, most = 2 }",
            "job.toml:3: workers: `most` is no part of it: a number, or a range like { min = 1, max = 8 }",
        ),
        ("workers = 0", "job.toml:3: workers: at least 1"),
        (
            "retries = -1",
            "job.toml:3: retries: `-1` is not a whole number from 0 on",
        ),
        ("retries = 1000", "job.toml:3: retries: at most 100"),
        (
            "env = { A = 3 }",
            "job.toml:3: env: A: a text in quotes, not a number",
        ),
        (
            "env = { \"1A\" = \"3\" }",
            "job.toml:3: env: `1A` cannot be a variable's name: letters, digits and `_`",
        ),
        (
            "nodes = \"n1\"",
            "job.toml:3: nodes: a list of names like [\"n1\", \"n2\"], not a text",
        ),
        ("dir = 3", "job.toml:3: dir: a text in quotes, not a number"),
        (
            "worker = 3",
            "job.toml:3: worker: a table: [worker] with cpus, memory, gpus, gpu_model, gpu_memory, gpu_share, scratch, numa",
        ),
    ]);
}

#[test]
fn each_mistake_about_workers_too() {
    told(&[
        (
            "[worker]\ncores = 3",
            "job.toml:4: worker.cores: there is no such key; a worker has cpus, memory, gpus, gpu_model, gpu_memory, gpu_share, scratch, numa",
        ),
        (
            "[worker]\ncpus = 1.5",
            "job.toml:4: worker.cpus: parts of a CPU are written in thousandths: \"500m\" is half of one",
        ),
        (
            "[worker]\ncpus = \"2x\"",
            "job.toml:4: worker.cpus: `2x` is not an amount of CPU: whole CPUs like \"2\", or thousandths like \"500m\"",
        ),
        (
            "[worker]\ncpus = 0",
            "job.toml:4: worker.cpus: at least 1, or a share like \"100m\"",
        ),
        (
            "[worker]\nmemory = 4",
            "job.toml:4: worker.memory: needs a unit, in quotes: \"4GiB\" or \"4MiB\"",
        ),
        (
            "[worker]\nmemory = \"4G\"",
            "job.toml:4: worker.memory: `4G` is not an amount of memory: a whole number with a unit, like \"512MiB\", \"4GiB\" or \"2GB\"",
        ),
    ]);
}

#[test]
fn a_file_without_version_or_command_or_syntax_is_told_so() {
    assert_eq!(
        mistakes("command = [\"true\"]\n"),
        ["job.toml:1: version: missing: begin with `version = 1`"]
    );
    assert_eq!(
        mistakes("version = 2\ncommand = [\"true\"]\n"),
        ["job.toml:1: version: this program reads version 1"]
    );
    assert_eq!(
        mistakes("version = 1\ncommand = \"true\"\n"),
        [
            "job.toml:2: command: a list of words like [\"python\", \"train.py\"], since there is no shell in between, not a text"
        ]
    );
    assert_eq!(
        mistakes("version = 1\n"),
        ["job.toml: command: say what to run, as a list: the program first, then its arguments"]
    );
    let broken = mistakes("version = 1\ncommand = [\"true\"]\nname = train\n");
    assert_eq!(
        broken,
        ["job.toml:3: syntax: invalid boolean, expected `true` (texts stand in quotes)"]
    );
}

#[test]
fn all_mistakes_of_a_file_come_at_once_in_its_order() {
    let told = mistakes(
        "version = 1\ncolour = 1\ncommand = [\"true\"]\ntime = 2\n[worker]\ncpus = 0\nmemory = \"4G\"\n",
    );
    let lines: Vec<&str> = told
        .iter()
        .map(|line| line.split(": ").take(2).last().unwrap())
        .collect();
    assert_eq!(lines, ["colour", "time", "worker.cpus", "worker.memory"]);
}

#[test]
fn nothing_both_and_missing_files_are_told_apart() {
    assert_eq!(
        by_flags("run").unwrap_err().to_string(),
        "nothing was said to run"
    );
    let both = by_flags("run job.toml -- true").unwrap_err();
    assert_eq!(
        both.to_string(),
        "job.toml says what to run, and so does the command behind `--`"
    );
    let forgot = by_flags("run python").unwrap_err();
    assert_eq!(forgot.to_string(), "there is no file python");
    assert!(
        forgot.next_step().ends_with("fleet run -- python"),
        "{}",
        forgot.next_step()
    );
}

#[test]
fn needs_are_said_in_files_and_flags_alike() {
    let flags = "run --require zone=eu --require !spot --prefer ssd --tolerate only=gpu --gpus 1 --gpu-model A100,H100 \
                 --gpu-memory 40GiB --gpu-share 12.5% --scratch 10GiB --numa single --spread node --near db \
                 --away-from 7 --after 411 --after-any 412 --after-failed 413 --start-after 2026-12-01T22:00:00Z -- x";
    let file = r#"
version = 1
command = ["x"]
require = ["zone=eu", "!spot"]
prefer = ["ssd"]
tolerate = ["only=gpu"]
spread = "node"
near = ["db"]
away_from = ["7"]
after = ["411"]
after_any = ["412"]
after_failed = ["413"]
start_after = "2026-12-01T22:00:00Z"
gang = false
[worker]
gpus = 1
gpu_model = ["A100", "H100"]
gpu_memory = "40GiB"
gpu_share = "12.5%"
scratch = "10GiB"
numa = "single"
"#;
    let (flags, file) = (by_flags(flags).unwrap(), by_file(file, "").unwrap());
    assert_eq!(flags, file);
    assert_eq!(flags.needs.require[2].to_string(), "gpu-model in (A100,H100)");
    assert_eq!(flags.needs.gpu_share.unwrap().to_string(), "12.5%");
    assert_eq!(flags.waits.after.len(), 3);
    let packed = by_file(
        "version = 1\ncommand = [\"x\"]\nspread = \"node\"\n",
        "--pack zone",
    )
    .unwrap();
    assert_eq!(packed.needs.arrange, loadline_model::Arrange::Pack("zone".into()));
}

#[test]
fn a_wrong_need_is_one_clear_sentence() {
    let long = "x".repeat(10_000);
    let too_long = format!("run --require {long} -- x");
    for (words, told) in [
        (
            "run --require zone==a,b -- x",
            "--require: `a,b` cannot be a label's value",
        ),
        (
            "run --tolerate a=b=c -- x",
            "--tolerate: `b=c` cannot be a label's value",
        ),
        ("run --array 1-100001 -- x", "--array: 100001 tasks are too many"),
        ("run --array 5 -- x", "--array: `5` are no tasks"),
        ("run --after train -- x", "--after: a job is named by its number"),
        ("run --spread node --pack node -- x", "--pack: only one of"),
        ("run --gpu-share 0.5 -- x", "--gpu-share: `0.5` is no part"),
        (
            "run --gpus 2 --gpu-share 50% -- x",
            "--gpu-share: is a part of one GPU",
        ),
        ("run --numa one -- x", "--numa: `one` is not one of"),
        (
            "run --numa single --cpus 500m -- x",
            "--numa: single is for workers",
        ),
        ("run --start-after soon -- x", "--start-after: `soon` is no time"),
        ("run --gang --workers 1-3 -- x", "--gang: for a fixed number"),
        (&too_long, "--require: `xxxx"),
    ] {
        let problem = by_flags(words).unwrap_err().to_string();
        assert!(problem.starts_with(told), "{problem}");
        assert!(problem.len() < 300 && !problem.contains('\n'), "{problem}");
    }
    let file = mistakes("version = 1\ncommand = [\"x\"]\nrequire = \"zone=eu\"\ngang = 1\n");
    assert_eq!(
        file,
        [
            "job.toml:3: require: a list like [\"zone=eu\", \"!spot\"], not a text",
            "job.toml:4: gang: true or false, not a number",
        ]
    );
}

#[test]
fn a_start_is_told_in_time_from_now_or_by_the_clock() {
    let now = loadline_model::WallTime(1_000_000);
    assert_eq!(needs::moment("2h", now).unwrap().0, 7_201_000_000);
    assert_eq!(
        needs::moment("1970-01-01T00:00:02+00:00", now).unwrap().0,
        2_000_000
    );
}
