//! job.toml, as written: unknown keys, wrong types and wrong units are told with their lines, all at once.

use std::collections::BTreeMap;

use loadline_model::{Bytes, CpuRequest, Domain, Elastic, Priority, Span, Workers};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mistake, Place, Said, Written};
use super::{needs, words};

const KEYS: &str = "version, name, command, dir, env, workers, tier, retries, time, grace, on_node_lost, nodes, require, prefer, \
     tolerate, spread, prefer_spread, pack, near, away_from, priority, team, gang, after, after_any, after_failed, start_after, array, \
     [worker]";
const WORKER_KEYS: &str = "cpus, memory, gpus, gpu_model, gpu_memory, gpu_share, scratch, numa";

/// The key of mistakes after which nothing else in the file means anything.
pub(super) const SYNTAX: &str = "syntax";

/// Reads the file; what cannot be read is noted as a mistake.
pub(super) fn read(text: &str, mistakes: &mut Vec<Mistake>) -> Written {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        mistakes,
        written: Written::default(),
    };
    if !errors.is_empty() {
        for error in errors {
            let line = error.span().map_or(Place::File, |span| reader.line(span.start));
            reader.wrong(
                line,
                SYNTAX,
                format!("{} (texts stand in quotes)", error.message()),
            );
        }
        return Written::default();
    }
    let mut version = false;
    for (key, value) in table.get_ref() {
        version |= key.get_ref() == "version";
        reader.key(key, value);
    }
    if !version {
        reader.wrong(
            Place::Line(1),
            "version",
            "missing: begin with `version = 1`".into(),
        );
    }
    reader.written
}

type Value<'i> = Spanned<DeValue<'i>>;

struct Reader<'a> {
    text: &'a str,
    mistakes: &'a mut Vec<Mistake>,
    written: Written,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().iter().take(offset);
        Place::Line(before.filter(|byte| **byte == b'\n').count() + 1)
    }

    fn wrong(&mut self, place: Place, key: &str, problem: String) {
        self.mistakes.push(Mistake {
            place,
            key: key.into(),
            problem,
        });
    }

    fn key(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Value<'_>) {
        let name: &str = key.get_ref();
        match name {
            "version" => self.version(value),
            "name" => self.written.name = self.said(name, value, string),
            "command" => self.written.command = self.said(name, value, command),
            "dir" => self.written.dir = self.said(name, value, string),
            "env" => self.env(value),
            "workers" => self.written.workers = self.said(name, value, workers),
            "tier" => self.written.tier = self.said(name, value, |value| words::tier(&string(value)?)),
            "retries" => self.written.retries = self.said(name, value, count),
            "time" => self.written.time = self.said(name, value, span),
            "grace" => self.written.grace = self.said(name, value, span),
            "on_node_lost" => {
                self.written.on_node_lost =
                    self.said(name, value, |value| words::on_node_lost(&string(value)?));
            }
            "priority" => self.written.priority = self.said(name, value, priority),
            "team" => self.written.team = self.said(name, value, string),
            "nodes" => self.written.nodes = self.said(name, value, nodes),
            "worker" => self.worker(value),
            _ if self.needs(name, value) => {}
            _ => {
                let place = self.line(key.span().start);
                self.wrong(place, name, format!("there is no such key; the keys are {KEYS}"));
            }
        }
    }

    /// Reads a key about where workers may go or what the job waits for; false if it is none of these.
    fn needs(&mut self, name: &str, value: &Value<'_>) -> bool {
        const REQUIREMENTS: &str = "a list like [\"zone=eu\", \"!spot\"]";
        const TAINTS: &str = "a list like [\"gpu\", \"only=tests\"]";
        const JOBS: &str = "a list of jobs in quotes, like [\"412\"]";
        let requirements = |value: &DeValue<'_>| needs::each(&list(value, REQUIREMENTS)?, str::parse);
        let domain = |value: &DeValue<'_>| Ok(Domain::from(string(value)?.as_str()));
        let jobs = |value: &DeValue<'_>| list(value, JOBS);
        let names = |value: &DeValue<'_>| needs::each(&list(value, JOBS)?, str::parse);
        let mut written = std::mem::take(&mut self.written.needs);
        match name {
            "require" => written.require = self.said(name, value, requirements),
            "prefer" => written.prefer = self.said(name, value, requirements),
            "tolerate" => {
                written.tolerate = self.said(name, value, |value| {
                    needs::each(&list(value, TAINTS)?, str::parse)
                });
            }
            "spread" => written.spread = self.said(name, value, domain),
            "prefer_spread" => written.prefer_spread = self.said(name, value, domain),
            "pack" => written.pack = self.said(name, value, domain),
            "near" => written.near = self.said(name, value, jobs),
            "away_from" => written.away_from = self.said(name, value, jobs),
            "gang" => written.gang = self.said(name, value, truth),
            "after" => written.after = self.said(name, value, names),
            "after_any" => written.after_any = self.said(name, value, names),
            "after_failed" => written.after_failed = self.said(name, value, names),
            "start_after" => {
                let now = crate::clock::now();
                written.start_after = self.said(name, value, |value| needs::moment(&string(value)?, now));
            }
            "array" => written.array = self.said(name, value, |value| needs::tasks(&string(value)?)),
            _ => {
                self.written.needs = written;
                return false;
            }
        }
        self.written.needs = written;
        true
    }

    fn said<T>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Said<T>> {
        let place = self.line(value.span().start);
        match read(value.get_ref()) {
            Ok(value) => Some(Said { value, place }),
            Err(problem) => {
                self.wrong(place, key, problem);
                None
            }
        }
    }

    fn version(&mut self, value: &Value<'_>) {
        let is_one = |value: &DeValue<'_>| match count(value) {
            Ok(1) => Ok(()),
            _ => Err("this program reads version 1".into()),
        };
        self.said("version", value, is_one);
    }

    fn env(&mut self, value: &Value<'_>) {
        let Some(table) = self.said("env", value, |value| table(value, "{ EPOCHS = \"3\" }")) else {
            return;
        };
        for (key, value) in table.value {
            let place = table.place;
            match value {
                Ok(value) => {
                    self.written.env.insert(key, Said { value, place });
                }
                Err(problem) => self.wrong(place, "env", format!("{key}: {problem}")),
            }
        }
    }

    fn worker(&mut self, value: &Value<'_>) {
        let DeValue::Table(table) = value.get_ref() else {
            let place = self.line(value.span().start);
            self.wrong(place, "worker", format!("a table: [worker] with {WORKER_KEYS}"));
            return;
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "cpus" => self.written.cpus = self.said("worker.cpus", value, cpus),
                "memory" => self.written.memory = self.said("worker.memory", value, memory),
                "gpus" => self.written.gpus = self.said("worker.gpus", value, count),
                "gpu_model" => {
                    const RULE: &str = "a list of models like [\"A100\"]";
                    let models = |value: &DeValue<'_>| needs::gpu_models(&list(value, RULE)?);
                    self.written.needs.gpu_model = self.said("worker.gpu_model", value, models);
                }
                "gpu_memory" => {
                    self.written.needs.gpu_memory = self.said("worker.gpu_memory", value, memory);
                }
                "gpu_share" => {
                    let share = |value: &DeValue<'_>| needs::share(&string(value)?);
                    self.written.needs.gpu_share = self.said("worker.gpu_share", value, share);
                }
                "scratch" => self.written.needs.scratch = self.said("worker.scratch", value, memory),
                "numa" => {
                    let numa = |value: &DeValue<'_>| needs::numa(&string(value)?);
                    self.written.needs.numa = self.said("worker.numa", value, numa);
                }
                other => {
                    let place = self.line(key.span().start);
                    let problem = format!("there is no such key; a worker has {WORKER_KEYS}");
                    self.wrong(place, &format!("worker.{other}"), problem);
                }
            }
        }
    }
}

fn string(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .map(String::from)
        .ok_or_else(|| format!("a text in quotes, not {}", kind(value)))
}

fn truth(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("true or false, not {}", kind(value)))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn count(value: &DeValue<'_>) -> Result<u32, String> {
    let whole = value
        .as_integer()
        .map(|number| (number.as_str().replace('_', ""), number.radix()));
    whole
        .and_then(|(digits, radix)| u32::from_str_radix(&digits, radix).ok())
        .ok_or_else(|| match value {
            DeValue::Integer(number) => format!("`{}` is not a whole number from 0 on", number.as_str()),
            other => format!("a whole number without quotes, not {}", kind(other)),
        })
}

fn span(value: &DeValue<'_>) -> Result<Span, String> {
    match value {
        DeValue::Integer(number) => Err(format!(
            "needs a unit, in quotes: \"{0}s\", \"{0}m\" or \"{0}h\"",
            number.as_str()
        )),
        other => string(other)?.parse().map_err(words::told),
    }
}

fn memory(value: &DeValue<'_>) -> Result<Bytes, String> {
    match value {
        DeValue::Integer(number) => Err(format!(
            "needs a unit, in quotes: \"{0}GiB\" or \"{0}MiB\"",
            number.as_str()
        )),
        other => string(other)?.parse().map_err(words::told),
    }
}

fn cpus(value: &DeValue<'_>) -> Result<CpuRequest, String> {
    match value {
        DeValue::Integer(_) => words::cpus(&count(value)?.to_string()),
        DeValue::Float(_) => Err("parts of a CPU are written in thousandths: \"500m\" is half of one".into()),
        other => words::cpus(&string(other)?),
    }
}

fn list(value: &DeValue<'_>, rule: &str) -> Result<Vec<String>, String> {
    let items = value
        .as_array()
        .ok_or_else(|| format!("{rule}, not {}", kind(value)))?;
    items
        .iter()
        .map(|item| string(item.get_ref()).map_err(|problem| format!("each item is {problem}")))
        .collect()
}

fn command(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    list(
        value,
        "a list of words like [\"python\", \"train.py\"], since there is no shell in between",
    )
}

/// A number, or a word in quotes.
fn priority(value: &DeValue<'_>) -> Result<Priority, String> {
    match value.as_integer() {
        Some(number) => words::priority(number.as_str()),
        None => words::priority(&string(value)?),
    }
}

fn nodes(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    list(value, "a list of names like [\"n1\", \"n2\"]")
}

fn workers(value: &DeValue<'_>) -> Result<Workers, String> {
    const RULE: &str = "a number, or a range like { min = 1, max = 8 }";
    match value {
        DeValue::Integer(_) => Ok(Workers::Fixed(count(value)?)),
        DeValue::Table(table) => {
            let stranger = table
                .keys()
                .find(|key| !["min", "max"].contains(&key.get_ref().as_ref()));
            if let Some(key) = stranger {
                return Err(format!("`{}` is no part of it: {RULE}", key.get_ref()));
            }
            let part = |name: &str| match table.get(name) {
                Some(value) => count(value.get_ref()).map_err(|problem| format!("{name}: {problem}")),
                None => Err(format!("`{name}` is missing: {RULE}")),
            };
            Ok(Workers::Elastic(Elastic {
                min: part("min")?,
                max: part("max")?,
            }))
        }
        other => Err(format!("{RULE}, not {}", kind(other))),
    }
}

type Texts = BTreeMap<String, Result<String, String>>;

fn table(value: &DeValue<'_>, example: &str) -> Result<Texts, String> {
    let table = value
        .as_table()
        .ok_or_else(|| format!("a table like {example}, not {}", kind(value)))?;
    Ok(table
        .iter()
        .map(|(key, value)| (key.get_ref().to_string(), string(value.get_ref())))
        .collect())
}
