//! From what was written to a job that is valid by construction.
//!
//! Two stages: a [`Written`] holds exactly what the file and the flags say, each with its place; [`spec`] fills in
//! defaults and lets [`JobSpec::new`] judge. All mistakes are told at once, each where it was made.

mod file;
mod flags;
mod needs;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use loadline_model::{
    Bytes, CpuRequest, JobDraft, JobSpec, OnNodeLost, Priority, Span, SpecProblems, Tier, WorkerRequest,
    Workers,
};

use crate::args::RunArgs;
use needs::NeedsWritten;

/// What a worker gets when nothing is said: enough for a shell or a small script.
const CPUS_DEFAULT: CpuRequest = CpuRequest::Exclusive(1);
const MEMORY_DEFAULT: Bytes = Bytes::from_mib(512);

/// Where something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file, on this line.
    Line(usize),
    /// Somewhere in the file.
    File,
    /// On the command line.
    Flag,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    value: T,
    place: Place,
}

/// Exactly what was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    name: Option<Said<String>>,
    command: Option<Said<Vec<String>>>,
    dir: Option<Said<String>>,
    env: BTreeMap<String, Said<String>>,
    workers: Option<Said<Workers>>,
    tier: Option<Said<Tier>>,
    retries: Option<Said<u32>>,
    time: Option<Said<Span>>,
    grace: Option<Said<Span>>,
    on_node_lost: Option<Said<OnNodeLost>>,
    nodes: Option<Said<Vec<String>>>,
    priority: Option<Said<Priority>>,
    team: Option<Said<String>>,
    cpus: Option<Said<CpuRequest>>,
    memory: Option<Said<Bytes>>,
    gpus: Option<Said<u32>>,
    needs: NeedsWritten,
}

/// One mistake, where it was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    place: Place,
    key: String,
    problem: String,
}

/// Why there is no job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Neither a file nor a command.
    #[error("nothing was said to run")]
    Nothing,
    /// Both.
    #[error("{file} says what to run, and so does the command behind `--`", file = file.display())]
    Both {
        /// The file.
        file: PathBuf,
    },
    /// The file is not there; perhaps it was meant as a command.
    #[error("there is no file {file}", file = file.display())]
    NoFile {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {file}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is written is wrong.
    #[error("{}", list(file.as_ref(), mistakes))]
    Wrong {
        /// The file, if there is one.
        file: Option<PathBuf>,
        /// Everything that is wrong, in the order of the file, then the flags.
        mistakes: Vec<Mistake>,
    },
}

impl JobError {
    /// What to do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Nothing => {
                "put a command behind `--`, like `fleet run -- echo hello`, or name a job.toml".into()
            }
            Self::Both { .. } => "leave out one of them".into(),
            Self::NoFile { file } => {
                format!(
                    "to run it as a command, put `--` before it: fleet run -- {}",
                    file.display()
                )
            }
            Self::Read { .. } => "check its permissions".into(),
            Self::Wrong { .. } => "`fleet run --help` shows every key and flag".into(),
        }
    }
}

/// Reads file and flags into a checked job.
///
/// # Errors
/// When there is no file, or anything in it or in the flags is wrong.
pub fn from_args(args: &RunArgs, own_env: impl Fn(&str) -> Option<String>) -> Result<JobSpec, JobError> {
    let mut mistakes = Vec::new();
    let flags = flags::read(args, own_env, &mut mistakes);
    let written = match &args.file {
        None if args.command.is_empty() => return Err(JobError::Nothing),
        None => flags,
        Some(file) if !args.command.is_empty() => return Err(JobError::Both { file: file.clone() }),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => JobError::NoFile { file: file.clone() },
                _ => JobError::Read {
                    file: file.clone(),
                    source,
                },
            })?;
            file::read(&text, &mut mistakes).overlaid_by(flags)
        }
    };
    spec(written, mistakes).map_err(|mistakes| JobError::Wrong {
        file: args.file.clone(),
        mistakes,
    })
}

impl Written {
    /// The flags win; variables and the file's are put together.
    fn overlaid_by(mut self, flags: Self) -> Self {
        self.env.extend(flags.env);
        Self {
            name: flags.name.or(self.name),
            command: flags.command.or(self.command),
            dir: flags.dir.or(self.dir),
            env: self.env,
            workers: flags.workers.or(self.workers),
            tier: flags.tier.or(self.tier),
            retries: flags.retries.or(self.retries),
            time: flags.time.or(self.time),
            grace: flags.grace.or(self.grace),
            on_node_lost: flags.on_node_lost.or(self.on_node_lost),
            nodes: flags.nodes.or(self.nodes),
            priority: flags.priority.or(self.priority),
            team: flags.team.or(self.team),
            cpus: flags.cpus.or(self.cpus),
            memory: flags.memory.or(self.memory),
            gpus: flags.gpus.or(self.gpus),
            needs: self.needs.overlaid_by(flags.needs),
        }
    }

    fn places(&self) -> BTreeMap<&'static str, Place> {
        fn place<T>(said: &Option<Said<T>>) -> Option<Place> {
            said.as_ref().map(|said| said.place)
        }
        let all = [
            ("name", place(&self.name)),
            ("command", place(&self.command)),
            ("dir", place(&self.dir)),
            ("env", self.env.values().map(|said| said.place).next()),
            ("workers", place(&self.workers)),
            ("tier", place(&self.tier)),
            ("retries", place(&self.retries)),
            ("time", place(&self.time)),
            ("grace", place(&self.grace)),
            ("on_node_lost", place(&self.on_node_lost)),
            ("nodes", place(&self.nodes)),
            ("priority", place(&self.priority)),
            ("team", place(&self.team)),
            ("worker.cpus", place(&self.cpus)),
            ("worker.memory", place(&self.memory)),
            ("worker.gpus", place(&self.gpus)),
        ];
        all.into_iter()
            .chain(self.needs.places())
            .filter_map(|(key, place)| Some((key, place?)))
            .collect()
    }

    fn into_draft(self) -> JobDraft {
        fn value<T>(said: Option<Said<T>>) -> Option<T> {
            said.map(|said| said.value)
        }
        let (needs, waits, gang, tasks) = self.needs.into_model();
        JobDraft {
            name: value(self.name),
            command: value(self.command).unwrap_or_default(),
            dir: value(self.dir),
            env: self
                .env
                .into_iter()
                .map(|(key, said)| (key, said.value))
                .collect(),
            workers: value(self.workers).unwrap_or(Workers::Fixed(1)),
            tier: value(self.tier).unwrap_or_default(),
            retries: value(self.retries).unwrap_or(0),
            time: value(self.time),
            grace: value(self.grace),
            on_node_lost: value(self.on_node_lost),
            worker: WorkerRequest {
                cpus: value(self.cpus).unwrap_or(CPUS_DEFAULT),
                memory: value(self.memory).unwrap_or(MEMORY_DEFAULT),
                gpus: value(self.gpus).unwrap_or(0),
            },
            nodes: value(self.nodes).unwrap_or_default(),
            needs,
            waits,
            gang,
            tasks,
            priority: value(self.priority).unwrap_or_default(),
            team: value(self.team),
        }
    }
}

/// Judges what was written, together with what was found wrong while reading it.
fn spec(written: Written, mut mistakes: Vec<Mistake>) -> Result<JobSpec, Vec<Mistake>> {
    if mistakes.iter().any(|mistake| mistake.key == file::SYNTAX) {
        return Err(mistakes);
    }
    if let Some((key, place)) = written.needs.clash() {
        let problem = "only one of spread, prefer_spread and pack".into();
        let key = key.into();
        mistakes.push(Mistake { place, key, problem });
    }
    let places = written.places();
    match JobSpec::new(written.into_draft()) {
        Ok(spec) if mistakes.is_empty() => Ok(spec),
        judged => {
            let SpecProblems(problems) = judged.err().unwrap_or(SpecProblems(Vec::new()));
            let known: Vec<String> = mistakes.iter().map(|mistake| mistake.key.clone()).collect();
            let new = problems
                .into_iter()
                .filter(|problem| !known.iter().any(|key| key == problem.key));
            mistakes.extend(new.map(|problem| Mistake {
                place: places.get(problem.key).copied().unwrap_or(Place::File),
                key: problem.key.into(),
                problem: problem.problem,
            }));
            mistakes.sort();
            Err(mistakes)
        }
    }
}

fn list(file: Option<&PathBuf>, mistakes: &[Mistake]) -> String {
    let one = |mistake: &Mistake| mistake.told(file);
    match mistakes {
        [only] => one(only),
        many => {
            let lines: Vec<String> = many
                .iter()
                .map(|mistake| format!("\n  {}", one(mistake)))
                .collect();
            format!("{} mistakes:{}", many.len(), lines.concat())
        }
    }
}

impl Mistake {
    fn told(&self, file: Option<&PathBuf>) -> String {
        let Self { place, key, problem } = self;
        match (place, file) {
            (Place::Line(line), Some(file)) => format!("{}:{line}: {key}: {problem}", file.display()),
            (Place::File, Some(file)) => format!("{}: {key}: {problem}", file.display()),
            (Place::Flag, _) | (_, None) => format!("{}: {problem}", flag(key)),
        }
    }
}

/// How a key is said on the command line.
fn flag(key: &str) -> String {
    match key {
        "command" => "command".into(),
        "nodes" => "--node".into(),
        key => format!("--{}", key.trim_start_matches("worker.").replace('_', "-")),
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(None))
    }
}

#[cfg(test)]
mod tests;
