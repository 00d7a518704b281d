//! `fleet run` and `fleet wait`: a job from here to its end.

use std::io::ErrorKind;

use loadline_model::JobId;
use tokio::time::timeout;
use uuid::Uuid;

use super::follow::{Follow, Submission};
use super::operate::span;
use super::{Session, job_ref};
use crate::args::{Format, RunArgs};
use crate::exit::Exit;
use crate::job;
use crate::output::Note;
use crate::problem::Problem;

/// What shells report of a command that SIGPIPE ended: 128 + 13.
const BROKEN_PIPE: u8 = 141;

pub(super) async fn run(session: &mut Session, args: &RunArgs) -> Result<Exit, Problem> {
    let spec = job::from_args(args, |name| std::env::var(name).ok())?;
    // Chosen here: submitting again after a broken connection is the same job (design §9).
    let id = JobId::from_uuid(Uuid::now_v7());
    if args.detach {
        let submitted = session.connect().await?.submit(id, &spec).await?;
        session.out.submitted(&submitted)?;
        return Ok(Exit::Done);
    }
    let mut follow = Follow::of_run(Submission { id, spec }, args.quiet);
    let left = tokio::select! {
        done = follow.until_done(session) => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    };
    let exit = match left {
        // Nobody reads the output any more, as behind `| head`: left like a local command would be.
        Some(Err(Problem::Print { source })) if source.kind() == ErrorKind::BrokenPipe => {
            Exit::Job(BROKEN_PIPE)
        }
        Some(row) => return Ok(Exit::Job(row?.own_code())),
        None => Exit::Interrupted,
    };
    session.out.note(&Note::Left { job: follow.number() })?;
    Ok(exit)
}

pub(super) async fn wait(session: &mut Session, job: &str, limit: Option<String>) -> Result<Exit, Problem> {
    let named = job_ref(job)?;
    let time = limit.as_deref().map(|text| span("--timeout", text)).transpose()?;
    // With JSON the one document on standard output is the job's end.
    let mut follow = Follow::of_wait(named, session.format == Format::Json);
    let end = follow.until_done(session);
    let row = match time {
        None => end.await?,
        Some(time) => match timeout(time.into(), end).await {
            Ok(row) => row?,
            Err(_) => {
                let time = limit.unwrap_or_default();
                return Err(Problem::NotDone {
                    job: job.into(),
                    time,
                });
            }
        },
    };
    session.out.done(&row)?;
    Ok(Exit::Job(row.own_code()))
}
