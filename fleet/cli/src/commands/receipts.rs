//! `fleet receipts`: of all nodes, one node or one job.

use super::Session;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::view::{JobView, ReceiptRow};
use crate::wire::JobRef;

pub(super) async fn receipts(session: &mut Session, of: Option<String>, last: u32) -> Result<Exit, Problem> {
    // What can be read as a job is one.
    let job = of.as_deref().and_then(|of| of.parse::<JobRef>().ok());
    let mut client = session.connect().await?;
    let receipts = match job {
        Some(job) => of_job(client.job(job).await?, job.worker, last),
        None => client.receipts(of, last).await?,
    };
    session.out.receipts(&receipts)?;
    Ok(Exit::Done)
}

fn of_job(job: JobView, worker: Option<u32>, last: u32) -> Vec<ReceiptRow> {
    let number = job.row.job;
    let attempts = job.attempts;
    let mut rows: Vec<ReceiptRow> = job
        .receipts
        .into_iter()
        .filter_map(|receipt| {
            let attempt = attempts
                .iter()
                .find(|attempt| attempt.attempt_id == receipt.subject)?;
            let wanted = worker.is_none_or(|worker| worker == attempt.worker);
            wanted.then(|| ReceiptRow {
                node: attempt.node.clone(),
                worker: Some(format!("{number}.{}", attempt.worker)),
                receipt,
            })
        })
        .collect();
    let older = rows
        .len()
        .saturating_sub(usize::try_from(last).unwrap_or(usize::MAX));
    rows.split_off(older)
}
