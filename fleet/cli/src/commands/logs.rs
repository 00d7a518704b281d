//! `fleet logs`: what workers wrote, once or until the job ends.

use super::follow::{Patience, tried_again};
use super::seen::Seen;
use super::{Session, job_ref};
use crate::exit::Exit;
use crate::output::Note;
use crate::problem::Problem;
use crate::wire::LogQuery;

pub(super) async fn logs(
    session: &mut Session,
    job: &str,
    worker: Option<u32>,
    follow: bool,
    tail: Option<u32>,
) -> Result<Exit, Problem> {
    let job = job_ref(job)?;
    let worker = worker.or(job.worker);
    let mut client = session.connect().await?;
    let row = client.job(job).await?.row;
    let many = worker.is_none() && row.workers_max > 1;
    let mut query = LogQuery {
        job,
        worker,
        follow,
        tail,
    };
    let mut seen = Seen::default();
    let mut patience = Patience::default();
    loop {
        let read = async {
            let mut stream = client.logs(query).await?;
            while let Some(batch) = stream.next().await? {
                patience.reset();
                for line in batch.lines.iter().filter(|line| seen.is_new(line)) {
                    session.out.log(line, many)?;
                }
                if let Some(sentence) = &batch.notice {
                    session.out.note(&Note::Notice {
                        job: row.job,
                        sentence,
                    })?;
                }
            }
            Ok(())
        };
        let done: Result<(), Problem> = read.await;
        match done.map_err(|problem| session.judged(problem)) {
            Ok(()) => return Ok(Exit::Done),
            Err(problem) if follow && tried_again(&problem) => {
                client = patience.connect_again(session, Some(row.job), problem).await?;
                session.out.note(&Note::Back { job: row.job })?;
                // The last lines only, told again, would leave a gap.
                query.tail = None;
                seen.begin_again();
            }
            Err(problem) => return Err(problem),
        }
    }
}
