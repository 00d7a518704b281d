//! What is known of the warden, kept fresh: it is asked at least as often as the fleet is told. The warden gone,
//! the last answer stays (it is still the newest truth) together with why there is no newer one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loadline_model::{AttemptId, WallTime};
use tokio::sync::watch;
use tokio::time::Instant;

use super::clock::Clock;
use super::wire::{NodeEvent, WardenClient, WardenError, WardenStatus};

/// What is known of the warden.
#[derive(Debug, Clone, Default)]
pub(crate) struct WardenView {
    /// Its last answer.
    pub(crate) status: Option<Arc<WardenStatus>>,
    /// Why there is no newer one; none: it answers.
    pub(crate) problem: Option<Problem>,
}

/// The warden is silent.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) since: WallTime,
    /// One sentence.
    pub(crate) why: String,
}

/// Shared by everything that asks the warden.
#[derive(Debug)]
pub(crate) struct WardenLink {
    pub(crate) client: WardenClient,
    clock: Arc<dyn Clock>,
    view: watch::Sender<WardenView>,
    asked: watch::Sender<Instant>,
    open: watch::Sender<BTreeSet<AttemptId>>,
}

impl WardenLink {
    pub(crate) fn new(socket: PathBuf, patience: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            client: WardenClient::new(socket, patience),
            clock,
            view: watch::Sender::default(),
            asked: watch::Sender::new(Instant::now()),
            open: watch::Sender::default(),
        }
    }

    pub(crate) fn view(&self) -> WardenView {
        self.view.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<WardenView> {
        self.view.subscribe()
    }

    /// The last answer, waited for if there was none yet.
    pub(crate) async fn known(&self) -> Arc<WardenStatus> {
        let mut view = self.watch();
        loop {
            if let Some(status) = &view.borrow_and_update().status {
                return Arc::clone(status);
            }
            // The sender lives as long as `self`.
            if view.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks now and tells everyone who watches.
    pub(crate) async fn refresh(&self) -> WardenView {
        let answer = self.client.status().await;
        self.asked.send_replace(Instant::now());
        match answer {
            Ok(status) => self.answered(status),
            Err(error) => self.silent(&error),
        }
        self.view()
    }

    /// Asks unless that was done a moment ago.
    pub(crate) async fn refresh_older_than(&self, age: Duration) -> WardenView {
        if self.view.borrow().status.is_some() && self.asked.borrow().elapsed() < age {
            return self.view();
        }
        self.refresh().await
    }

    fn answered(&self, status: WardenStatus) {
        self.open.send_replace(status.open.clone());
        self.view.send_modify(|view| {
            if view.problem.take().is_some() || view.status.is_none() {
                tracing::info!(version = status.version, ledger = %status.ledger, "the warden answers");
            }
            view.status = Some(Arc::new(status));
        });
    }

    fn silent(&self, error: &WardenError) {
        let why = error.to_string();
        self.view.send_modify(|view| {
            let since = view.problem.as_ref().map_or_else(|| self.clock.now(), |problem| problem.since);
            if view.problem.is_none() {
                tracing::error!(why, "the warden is silent; workers run on, and nothing new is placed here: systemctl status loadline-warden");
            }
            view.problem = Some(Problem { since, why });
        });
    }

    /// Takes from an event which attempts are open, sooner than the next answer would tell.
    pub(crate) fn heard(&self, event: &NodeEvent) {
        let Some((attempt, ended)) = event.attempt else {
            return;
        };
        self.open.send_if_modified(|open| {
            if ended {
                open.remove(&attempt)
            } else {
                open.insert(attempt)
            }
        });
    }

    /// Returns once the warden itself says that the attempt is not open (any more).
    pub(crate) async fn ended(&self, attempt: AttemptId) {
        let mut open = self.open.subscribe();
        loop {
            while open.borrow_and_update().contains(&attempt) {
                if open.changed().await.is_err() {
                    return;
                }
            }
            // An answer that was under way while the attempt began may have hidden it: ask once more.
            match self.client.status().await {
                Ok(status) if !status.open.contains(&attempt) => return,
                Ok(status) => self.answered(status),
                Err(error) => {
                    self.silent(&error);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Keeps the view fresh for ever.
    pub(crate) async fn keep_fresh(&self, every: Duration) {
        loop {
            let view = self.refresh_older_than(every).await;
            // A silent warden is looked for more often, so that its return is noticed soon.
            tokio::time::sleep(if view.problem.is_some() { every / 5 } else { every }).await;
        }
    }
}
