//! The invariants of the state, stated again from the rows alone: tests run this after every step, fleetd before
//! every commit in debug builds.

use std::collections::{BTreeMap, BTreeSet};

use super::held::Books;
use super::rows::{AttemptRow, AttemptStage, JobStage, OrderWhat, Standing, WorkerStage};
use super::{Job, Node, State};

/// Every invariant that does not hold, one sentence each; empty: all is well.
pub fn violations(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for job in state.jobs.values() {
        check_job(state, job, &mut found);
        check_yielded(state, job, &mut found);
    }
    for attempt in state.attempts.values() {
        check_attempt(state, attempt, &mut found);
    }
    for node in state.nodes.values() {
        check_node(state, node, &mut found);
    }
    check_names(state, &mut found);
    found
}

fn check_job(state: &State, job: &Job, found: &mut Vec<String>) {
    let number = job.row.number;
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("job {number}: {what}"));
        }
    };
    let waiting = job
        .workers
        .iter()
        .filter(|worker| worker.stage == WorkerStage::Waiting)
        .count();
    let active = |worker: &&super::WorkerRow| matches!(worker.stage, WorkerStage::Active(_));
    let active = job.workers.iter().filter(active).count();
    expect(
        usize::try_from(job.waiting) == Ok(waiting),
        "its waiting workers are miscounted",
    );
    let queued = state.queue.contains(&job.row.id);
    expect(
        queued == (job.row.stage.is_open() && waiting > 0),
        "the queue does not follow from its workers",
    );
    expect(
        job.row.stage.is_open() || waiting == 0,
        "a worker waits although the job ends",
    );
    match job.row.stage {
        JobStage::Done(..) => expect(active == 0, "an attempt counts although the job is done"),
        JobStage::Ending(_) => expect(active > 0, "nothing counts any more, but the job is not done"),
        JobStage::Queued | JobStage::Running => expect(active + waiting > 0, "it is over, but not done"),
    }
    for (index, worker) in (0u32..).zip(&job.workers) {
        let of_worker = |row: &&&std::sync::Arc<AttemptRow>| row.worker == index;
        let rows: Vec<_> = job
            .attempts
            .iter()
            .filter_map(|id| state.attempts.get(id))
            .collect();
        let rows: Vec<_> = rows.iter().filter(of_worker).collect();
        // There may be fewer: attempts that could not be read were set aside.
        let numbers: BTreeSet<u32> = rows.iter().map(|row| row.number).collect();
        let counted = numbers.len() == rows.len() && numbers.iter().all(|number| *number <= worker.attempts);
        expect(counted, "a worker's attempts are miscounted");
        expect(
            worker.retries_used <= job.row.spec.retries,
            "a worker used more retries than it has",
        );
        let live: Vec<_> = rows
            .iter()
            .filter(|row| row.is_live())
            .map(|row| row.id)
            .collect();
        match worker.stage {
            WorkerStage::Active(id) => expect(live == [id], "not exactly one attempt counts for a worker"),
            _ => expect(live.is_empty(), "an attempt is live that counts for no worker"),
        }
    }
}

fn check_attempt(state: &State, row: &AttemptRow, found: &mut Vec<String>) {
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("attempt {}: {what}", row.id));
        }
    };
    let listed = state
        .jobs
        .get(&row.job)
        .is_some_and(|job| job.attempts.contains(&row.id));
    expect(listed, "its job does not list it");
    let Some(node) = state.nodes.get(&row.node) else {
        expect(false, "its node is not there");
        return;
    };
    expect(
        row.generation <= node.progress.generation,
        "its order was never made",
    );
    let banned = node.row.standing == Standing::Banned;
    if matches!(row.stage, AttemptStage::GivenUp(_)) {
        expect(
            row.stop.is_some() || banned,
            "it was given up and nothing stops it",
        );
    }
    let pending = |what: fn(OrderWhat) -> bool| {
        node.orders
            .values()
            .any(|order| order.attempt == row.id && what(order.what))
    };
    if row.occupies() && row.generation > node.progress.applied && !banned {
        expect(
            pending(|what| what == OrderWhat::Start),
            "its start order is neither pending nor applied",
        );
    }
    if !row.occupies() {
        expect(
            !pending(|what| what == OrderWhat::Start),
            "it is over and would still be started",
        );
    }
}

fn check_yielded(state: &State, job: &Job, found: &mut Vec<String>) {
    let attempts = job.attempts.iter().filter_map(|id| state.attempts.get(id));
    let yielded = attempts
        .filter(|row| row.stop == Some(super::order::StopReason::Yielded))
        .count();
    if u32::try_from(yielded) != Ok(job.yielded) {
        found.push(format!(
            "job {}: how often it yielded is miscounted",
            job.row.number
        ));
    }
}

fn check_node(state: &State, node: &Node, found: &mut Vec<String>) {
    let name = &node.row.name;
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("node {name}: {what}"));
        }
    };
    let mut books = Books::default();
    for row in state
        .attempts
        .values()
        .filter(|row| row.node == node.row.id && row.occupies())
    {
        if let Some(job) = state.jobs.get(&row.job) {
            books.add(row, &job.row);
        }
    }
    expect(books == node.books, "its books do not follow from its attempts");
    expect(
        node.progress.applied <= node.progress.generation,
        "it applied more than was ordered",
    );
    let said = node.ceiling.as_ref().map(|row| row.generation);
    expect(
        said.is_none_or(|said| said <= node.progress.generation),
        "its ceiling was never ordered",
    );
    let tested = node.prove.as_ref().map(|row| row.generation);
    expect(
        tested.is_none_or(|tested| tested <= node.progress.generation),
        "its test was never ordered",
    );
    let past = node
        .orders
        .keys()
        .any(|generation| *generation <= node.progress.applied);
    expect(!past, "an order is pending that was applied");
    let future = node
        .orders
        .keys()
        .any(|generation| *generation > node.progress.generation);
    expect(!future, "an order is newer than the newest");
    let unknown = node
        .orders
        .values()
        .any(|order| !state.attempts.contains_key(&order.attempt));
    expect(!unknown, "an order is about no attempt");
}

fn check_names(state: &State, found: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for node in state
        .nodes
        .values()
        .filter(|node| node.row.standing != Standing::Banned)
    {
        if !names.insert(&node.row.name) {
            found.push(format!("two nodes are called {}", node.row.name));
        }
    }
    let numbers: BTreeMap<u64, _> = state
        .jobs
        .values()
        .map(|job| (job.row.number, job.row.id))
        .collect();
    if numbers != state.numbers {
        found.push("the numbers do not follow from the jobs".into());
    }
    if numbers.keys().any(|number| *number >= state.next_number) {
        found.push("a number is given that is still to come".into());
    }
}
