//! Measures what production promises: the agent has the network that the warden must not have.
//!
//! What is to be probed comes from the warden with its status, so the owner's node.toml has one reader. Each promise
//! has a task of its own; what they found goes to the warden once a second, with its age. Nothing is judged here,
//! and nothing that could not be measured is passed on as a number.

mod http;
mod probe;
mod push;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loadline_model::Span;
use loadline_policy::slo::{Measured, TOLD};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use super::wire::{SloFound, SloTarget};
use push::Pushed;

/// What a probe found last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    measured: Option<Measured>,
    trouble: String,
    at: Instant,
}

/// What all probes found, by unit.
#[derive(Debug, Clone, Default)]
struct Board(Arc<Mutex<BTreeMap<String, Found>>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, unit: &str, measured: Result<Measured, String>) {
        let (measured, trouble) = match measured {
            Ok(measured) => (Some(measured), String::new()),
            Err(trouble) => (None, trouble),
        };
        let at = Instant::now();
        self.lock().insert(
            unit.to_owned(),
            Found {
                measured,
                trouble,
                at,
            },
        );
    }

    fn told(&self) -> Vec<SloFound> {
        let found = |(unit, found): (&String, &Found)| SloFound {
            unit: unit.clone(),
            measured: found.measured,
            age: span(found.at.elapsed()),
            trouble: found.trouble.clone(),
        };
        self.lock().iter().map(found).collect()
    }
}

fn span(time: Duration) -> Span {
    Span(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// Probes what the warden asks for, for ever.
pub(super) async fn keep(shared: &Arc<Shared>) {
    let board = Board::default();
    let pushed = Pushed::default();
    let socket = push::socket(&shared.settings.places);
    tokio::join!(
        push::serve(&socket, &pushed),
        tell(shared, &board),
        probe_all(shared, &board, &pushed)
    );
}

/// Follows what the warden asks for: other targets, other tasks.
async fn probe_all(shared: &Arc<Shared>, board: &Board, pushed: &Pushed) {
    let mut view = shared.warden.watch();
    let mut running: Vec<SloTarget> = Vec::new();
    // Dropped with this task, and every probe with it.
    let mut probes = JoinSet::new();
    loop {
        let wanted = view
            .borrow_and_update()
            .status
            .as_ref()
            .map(|status| status.slo_targets.clone());
        if let Some(wanted) = wanted.filter(|wanted| *wanted != running) {
            probes.abort_all();
            while probes.join_next().await.is_some() {}
            board.lock().clear();
            pushed.keep_only(wanted.iter().map(|target| target.unit.as_str()));
            for target in &wanted {
                probes.spawn(probe::run(target.clone(), board.clone(), pushed.clone()));
            }
            running = wanted;
        }
        if view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn tell(shared: &Arc<Shared>, board: &Board) {
    let mut tick = tokio::time::interval(TOLD.into());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let told = board.told();
        if !told.is_empty()
            && let Err(problem) = shared.warden.client.observe(told).await
        {
            // The warden's silence is reported where its status is asked; there, not knowing is not good.
            tracing::debug!(error = &problem as &dyn std::error::Error, "SLO");
        }
    }
}

#[cfg(test)]
mod tests;
