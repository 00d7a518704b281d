//! One function a command: read the words, call the fleet, say the result.

mod doctor;
mod follow;
mod login;
mod logs;
mod operate;
mod prove;
mod receipts;
mod run;
mod seen;
mod sharing;

use std::io;
use std::path::PathBuf;

use crate::args::{Cli, Command, Format, Generated, Global};
use crate::clock;
use crate::exit::Exit;
use crate::generate;
use crate::identity::{Home, Identity};
use crate::output::{self, Output};
use crate::problem::Problem;
use crate::tls::{self, Verdict};
use crate::view::JobRow;
use crate::wire::{CallError, Client, JobRef, Kind};

/// What every command needs.
pub(crate) struct Session {
    home: Home,
    format: Format,
    out: Box<dyn Output>,
    /// Of the newest connection.
    verdict: Verdict,
}

impl Session {
    fn new(global: &Global) -> Result<Self, Problem> {
        let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Ok(Self {
            home: Home::find(global.config.as_deref(), env)?,
            format: global.output,
            out: output::on_standard(global.output),
            verdict: Verdict::default(),
        })
    }

    fn identity(&self) -> Result<Identity, Problem> {
        Ok(self.home.load()?)
    }

    async fn connect(&mut self) -> Result<Client, Problem> {
        let identity = self.identity()?;
        let stream = tls::connect_mutual(&identity, clock::now()).await?;
        self.verdict = stream.verdict();
        Ok(Client::new(stream).await?)
    }

    /// A connection that broke because the fleet refused the certificate is no broken connection.
    fn judged(&self, problem: Problem) -> Problem {
        match &problem {
            Problem::Call(call) if call.kind == Kind::Unreachable => {
                let refused = self.verdict.get().and_then(CallError::refused);
                refused.map_or(problem, Problem::Call)
            }
            _ => problem,
        }
    }
}

/// Runs what was typed.
///
/// # Errors
/// With everything that can go wrong, as one problem. Output that nobody reads any more is none.
pub async fn run(cli: Cli) -> Result<Exit, Problem> {
    match dispatch(cli).await {
        Err(Problem::Print { source }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        done => done,
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, Problem> {
    let Cli { global, command } = cli;
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            generate::print_completions(shell, &mut script);
            io::Write::write_all(&mut io::stdout(), &script)?;
            return Ok(Exit::Done);
        }
        Command::Generate { what, dir } => return write_files(what, &dir),
        _ => {}
    }
    let mut session = Session::new(&global)?;
    let done = on_fleet(&mut session, command).await;
    done.map_err(|problem| session.judged(problem))
}

async fn on_fleet(session: &mut Session, command: Command) -> Result<Exit, Problem> {
    match command {
        Command::Login { token } => login::login(session, &token).await,
        Command::Run(args) => run::run(session, &args).await,
        Command::Jobs { all, user } => {
            let jobs = session.connect().await?.jobs(all, user).await?;
            session.out.jobs(&jobs)?;
            Ok(Exit::Done)
        }
        Command::Job { job } => {
            let job = job_ref(&job)?;
            let job = session.connect().await?.job(job).await?;
            session.out.job(&job)?;
            Ok(Exit::Done)
        }
        Command::Logs {
            job,
            worker,
            follow,
            tail,
        } => logs::logs(session, &job, worker, follow, tail).await,
        Command::Wait { job, timeout } => run::wait(session, &job, timeout).await,
        Command::Cancel { job } => {
            let job = job_ref(&job)?;
            let row: JobRow = session.connect().await?.cancel(job).await?;
            session.out.done(&row)?;
            Ok(Exit::Done)
        }
        Command::Explain { job } => {
            let job = job_ref(&job)?;
            let why = session.connect().await?.explain(job).await?;
            session.out.explained(&why)?;
            Ok(Exit::Done)
        }
        Command::Nodes => {
            let nodes = session.connect().await?.nodes().await?;
            session.out.nodes(&nodes)?;
            Ok(Exit::Done)
        }
        Command::Headroom { node } => {
            let nodes = session.connect().await?.headroom(node).await?;
            session.out.headroom(&nodes)?;
            Ok(Exit::Done)
        }
        Command::Prove(args) => prove::prove(session, &args).await,
        Command::Receipts { of, last } => receipts::receipts(session, of, last).await,
        Command::Node(command) => operate::node(session, command).await,
        Command::Token(command) => operate::token(session, command).await,
        Command::User(command) => operate::user(session, command).await,
        Command::Team(command) => sharing::team(session, command).await,
        Command::Quota(command) => sharing::quota(session, *command).await,
        Command::Doctor => doctor::doctor(session).await,
        Command::Completions { .. } | Command::Generate { .. } => Ok(Exit::Done),
    }
}

fn job_ref(text: &str) -> Result<JobRef, Problem> {
    Ok(text.parse()?)
}

fn write_files(what: Generated, dir: &std::path::Path) -> Result<Exit, Problem> {
    let written = match what {
        Generated::Man => generate::man(dir),
        Generated::Completions => generate::completions(dir),
    };
    written.map_err(|source| Problem::File {
        what: format!("write into {}", dir.display()),
        source,
    })?;
    Ok(Exit::Done)
}
