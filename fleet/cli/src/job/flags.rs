//! The flags of `fleet run`, as written.

use std::collections::BTreeMap;

use loadline_model::{Domain, JobName, Requirement, Taint};

use super::needs::{self, NeedsWritten};
use super::words;
use super::{Mistake, Place, Said, Written};
use crate::args::RunArgs;

/// Reads the flags; what cannot be read is noted as a mistake.
pub(super) fn read(
    args: &RunArgs,
    own_env: impl Fn(&str) -> Option<String>,
    mistakes: &mut Vec<Mistake>,
) -> Written {
    let env = env(&args.env, own_env, mistakes);
    let mut flags = Flags(mistakes);
    Written {
        name: args.name.clone().map(said),
        command: (!args.command.is_empty()).then(|| said(args.command.clone())),
        dir: args.dir.clone().map(said),
        env,
        workers: flags.read("workers", args.workers.as_deref(), words::workers),
        tier: flags.read("tier", args.tier.as_deref(), words::tier),
        retries: flags.read("retries", args.retries.as_deref(), words::count),
        time: flags.read("time", args.time.as_deref(), |text| {
            text.parse().map_err(words::told)
        }),
        grace: flags.read("grace", args.grace.as_deref(), |text| {
            text.parse().map_err(words::told)
        }),
        on_node_lost: flags.read("on_node_lost", args.on_node_lost.as_deref(), words::on_node_lost),
        priority: flags.read("priority", args.priority.as_deref(), words::priority),
        team: args.team.clone().map(said),
        nodes: (!args.node.is_empty()).then(|| said(args.node.clone())),
        cpus: flags.read("worker.cpus", args.cpus.as_deref(), words::cpus),
        memory: flags.read("worker.memory", args.memory.as_deref(), |text| {
            text.parse().map_err(words::told)
        }),
        gpus: flags.read("worker.gpus", args.gpus.as_deref(), words::count),
        needs: needs(args, &mut flags),
    }
}

fn needs(args: &RunArgs, flags: &mut Flags<'_>) -> NeedsWritten {
    let (own, waits) = (&args.needs, &args.waits);
    let size = |text: &str| text.parse().map_err(words::told);
    let domain = |text: &str| Ok(Domain::from(text));
    let job = |text: &str| text.parse::<JobName>();
    let names = |names: &[String]| (!names.is_empty()).then(|| said(names.to_vec()));
    NeedsWritten {
        require: flags.list("require", &own.require, |words| {
            needs::each(words, str::parse::<Requirement>)
        }),
        prefer: flags.list("prefer", &own.prefer, |words| {
            needs::each(words, str::parse::<Requirement>)
        }),
        tolerate: flags.list("tolerate", &own.tolerate, |words| {
            needs::each(words, str::parse::<Taint>)
        }),
        gpu_model: flags.list("worker.gpu_model", &own.gpu_model, needs::gpu_models),
        gpu_memory: flags.read("worker.gpu_memory", own.gpu_memory.as_deref(), size),
        gpu_share: flags.read("worker.gpu_share", own.gpu_share.as_deref(), needs::share),
        scratch: flags.read("worker.scratch", own.scratch.as_deref(), size),
        numa: flags.read("worker.numa", own.numa.as_deref(), needs::numa),
        spread: flags.read("spread", own.spread.as_deref(), domain),
        prefer_spread: flags.read("prefer_spread", own.prefer_spread.as_deref(), domain),
        pack: flags.read("pack", own.pack.as_deref(), domain),
        near: names(&own.near),
        away_from: names(&own.away_from),
        gang: own.gang.then(|| said(true)),
        after: flags.list("after", &waits.after, |words| needs::each(words, job)),
        after_any: flags.list("after_any", &waits.after_any, |words| needs::each(words, job)),
        after_failed: flags.list("after_failed", &waits.after_failed, |words| {
            needs::each(words, job)
        }),
        start_after: flags.read("start_after", waits.start_after.as_deref(), |text| {
            needs::moment(text, crate::clock::now())
        }),
        array: flags.read("array", waits.array.as_deref(), needs::tasks),
    }
}

const fn said<T>(value: T) -> Said<T> {
    Said {
        value,
        place: Place::Flag,
    }
}

struct Flags<'a>(&'a mut Vec<Mistake>);

impl Flags<'_> {
    fn list<T>(
        &mut self,
        key: &str,
        words: &[String],
        parse: impl Fn(&[String]) -> Result<T, String>,
    ) -> Option<Said<T>> {
        let some = (!words.is_empty()).then_some("");
        self.read(key, some, |_| parse(words))
    }

    fn read<T>(
        &mut self,
        key: &str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Said<T>> {
        match parse(text?) {
            Ok(value) => Some(said(value)),
            Err(problem) => {
                self.0.push(Mistake {
                    place: Place::Flag,
                    key: key.into(),
                    problem,
                });
                None
            }
        }
    }
}

fn env(
    words: &[String],
    own_env: impl Fn(&str) -> Option<String>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, Said<String>> {
    let mut found = BTreeMap::new();
    for word in words {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_string())),
            None => (word.as_str(), own_env(word)),
        };
        match value {
            Some(value) => {
                found.insert(key.to_string(), said(value));
            }
            None => mistakes.push(Mistake {
                place: Place::Flag,
                key: "env".into(),
                problem: format!("{key} is not set here: write {key}=VALUE"),
            }),
        }
    }
    found
}
