//! `fleet prove`: has a node tested, stays until it is over, and prints what it came to.

use std::path::Path;
use std::time::Duration;

use loadline_model::{ProveAsk, Resource};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::Session;
use super::follow::tried_again;
use super::operate::span;
use crate::args::ProveArgs;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::view::{ProveLast, ProveRun, ProveView};
use crate::wire::Client;

/// A round takes two seconds at least, and each is one line.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A fleet that is upgraded is back by then; the test goes on without it.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn prove(session: &mut Session, args: &ProveArgs) -> Result<Exit, Problem> {
    let node = args.node.as_str();
    if args.last {
        return last(session, args).await;
    }
    let ask = ask(args)?;
    let mut client = session.connect().await?;
    let begun = if args.stop {
        client.stop_prove(node).await?
    } else {
        client.prove(node, &ask).await?
    };
    let run = begun.run.ok_or_else(|| nothing(node))?;
    if args.detach {
        session.out.prove_stands(node, &run)?;
        return Ok(Exit::Done);
    }
    let beginning = if args.stop {
        format!("the test on {node} is being ended")
    } else {
        format!("testing {node}; Ctrl-C ends the test")
    };
    session.out.progress(&beginning)?;
    let mut watch = Watch {
        node,
        run_id: run.run_id,
        told: String::new(),
    };
    let (run, interrupted) = watch.until_over(session, client).await?;
    let exit = over(session, args, &run, args.stop || interrupted).await?;
    Ok(if interrupted { Exit::Interrupted } else { exit })
}

/// What is asked, where the flags say something.
fn ask(args: &ProveArgs) -> Result<ProveAsk, Problem> {
    let usual = ProveAsk::default();
    let word = |flag, problem: String| Problem::Word { flag, problem };
    let resource = |text: &String| {
        text.parse::<Resource>()
            .map_err(|problem| word("--resource", problem.to_string()))
    };
    let resources: Vec<Resource> = args.resource.iter().map(resource).collect::<Result<_, _>>()?;
    let time =
        |flag, text: &Option<String>, usual| text.as_deref().map_or(Ok(usual), |text| span(flag, text));
    let ask = ProveAsk {
        stand_in: args.stand_in,
        rate: args.rate.unwrap_or(usual.rate),
        resources: if resources.is_empty() {
            usual.resources
        } else {
            resources
        },
        rounds: args.rounds.unwrap_or(usual.rounds),
        round: time("--round", &args.round, usual.round)?,
        limit: time("--limit", &args.limit, usual.limit)?,
        with_workers: args.with_workers,
    };
    ask.check()
        .map_err(|problem| word("fleet prove", problem.to_string()))?;
    Ok(ask)
}

fn nothing(node: &str) -> Problem {
    Problem::NoReport { node: node.into() }
}

async fn last(session: &mut Session, args: &ProveArgs) -> Result<Exit, Problem> {
    let ProveView { run, last } = session.connect().await?.see_prove(&args.node, true).await?;
    let shown = last.as_ref().map(|last| last.run_id.as_str());
    // What came after the report is worth a word, and all there is where there is none.
    let newer = run.filter(|run| shown != Some(run.run_id.as_str()));
    if let Some(run) = newer.as_ref().filter(|run| !run.is_over()) {
        let by = &run.by;
        session
            .out
            .progress(&format!("a test asked for by {by} runs just now"))?;
    }
    let failed = newer
        .filter(ProveRun::is_over)
        .map(|run| Problem::not_proved(&args.node, &run));
    let Some(last) = last else {
        return Err(failed.unwrap_or_else(|| nothing(&args.node)));
    };
    if let Some(problem) = failed {
        session
            .out
            .progress(&format!("after this report, {}", problem.sentence()))?;
    }
    let told_when = true;
    show(session, args.html.as_deref(), &last, told_when)
}

fn show(session: &mut Session, html: Option<&Path>, last: &ProveLast, when: bool) -> Result<Exit, Problem> {
    if let Some(path) = html {
        write(path, last)?;
    }
    session.out.prove(last, when)?;
    Ok(if last.whole && !last.cost {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn write(path: &Path, last: &ProveLast) -> Result<(), Problem> {
    if last.html.is_empty() {
        return Err(Problem::NoPage);
    }
    std::fs::write(path, &last.html).map_err(|source| Problem::File {
        what: format!("write {}", path.display()),
        source,
    })
}

/// How a test that was watched here ended; `ended_here`: that it was stopped is what was wanted.
async fn over(
    session: &mut Session,
    args: &ProveArgs,
    run: &ProveRun,
    ended_here: bool,
) -> Result<Exit, Problem> {
    let view = session.connect().await?.see_prove(&args.node, true).await?;
    let report = view.last.filter(|last| last.run_id == run.run_id);
    let told = report.map(|last| show(session, args.html.as_deref(), &last, false));
    match (run.stage.as_str(), told) {
        ("reported", Some(told)) => told,
        ("stopped", told) if ended_here => {
            told.transpose()?;
            session
                .out
                .progress(&format!("the test on {} has ended", args.node))?;
            Ok(Exit::Done)
        }
        (_, told) => {
            told.transpose()?;
            Err(Problem::not_proved(&args.node, run))
        }
    }
}

struct Watch<'a> {
    node: &'a str,
    run_id: String,
    told: String,
}

impl Watch<'_> {
    /// Looks until the test is over. The first Ctrl-C ends the test, another one only this command.
    async fn until_over(
        &mut self,
        session: &mut Session,
        mut client: Client,
    ) -> Result<(ProveRun, bool), Problem> {
        let (mut interrupted, mut silent_since) = (false, None);
        let mut interrupts = signal(SignalKind::interrupt())?;
        loop {
            let looked = self.look(session, &mut client).await;
            match looked.map_err(|problem| session.judged(problem)) {
                Ok(Some(run)) => return Ok((run, interrupted)),
                Ok(None) => silent_since = None,
                Err(problem) if tried_again(&problem) => {
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    client = self.again(session, client, problem, since).await?;
                }
                Err(problem) => return Err(problem),
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                _ = interrupts.recv() => {
                    if interrupted {
                        let sentence = "left before it was over".into();
                        let (node, stage) = (self.node.into(), "stopped".into());
                        return Err(Problem::NotProved { node, stage, sentence });
                    }
                    interrupted = true;
                    session.out.progress(&format!("ending the test on {}", self.node))?;
                    client.stop_prove(self.node).await?;
                }
            }
        }
    }

    async fn look(
        &mut self,
        session: &mut Session,
        client: &mut Client,
    ) -> Result<Option<ProveRun>, Problem> {
        let ProveView { run, last } = client.see_prove(self.node, false).await?;
        let run = run.ok_or_else(|| nothing(self.node))?;
        if run.run_id != self.run_id {
            // Somebody began another one in between: this one is over, and its report, if it had one, is there.
            let came = last.is_some_and(|last| last.run_id == self.run_id);
            return Ok(Some(ProveRun {
                run_id: self.run_id.clone(),
                stage: if came { "reported" } else { "failed" }.into(),
                sentence: "another test was begun since".into(),
                ..run
            }));
        }
        if run.is_over() {
            return Ok(Some(run));
        }
        let node = self.node;
        let line = match run.stage.as_str() {
            _ if run.is_silent() => format!("{node} has not been heard of; the test there has its own limit"),
            "running" => run.sentence,
            _ => String::new(),
        };
        if line != self.told && !line.is_empty() {
            session.out.progress(&line)?;
        }
        self.told = line;
        Ok(None)
    }

    /// Another connection, or the old one once more if the fleet is not back yet.
    async fn again(
        &self,
        session: &mut Session,
        old: Client,
        problem: Problem,
        since: Instant,
    ) -> Result<Client, Problem> {
        if since.elapsed() > PATIENCE {
            return Err(Problem::NotProved {
                node: self.node.into(),
                stage: "lost".into(),
                sentence: format!(
                    "the fleet has been out of reach for too long: {}",
                    problem.sentence()
                ),
            });
        }
        match session.connect().await {
            Ok(client) => Ok(client),
            Err(problem) if tried_again(&problem) => Ok(old),
            Err(problem) => Err(problem),
        }
    }
}
