//! Accounts as they are serialised.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::JobId;
use serde::{Deserialize, Serialize};

use super::{Accounts, Running, ShareRules, TeamAccount};

/// [`Accounts`] as they are kept: formats with text for keys have no pairs, and what follows from the rest is left out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    rules: ShareRules,
    teams: BTreeMap<Arc<str>, TeamAccount>,
    running: Vec<(JobId, u32, Running)>,
}

impl From<Saved> for Accounts {
    fn from(saved: Saved) -> Self {
        let Saved {
            rules,
            teams,
            running,
        } = saved;
        let due = running
            .iter()
            .map(|(job, worker, running)| (running.started.plus(running.charged), *job, *worker))
            .collect();
        let running = running
            .into_iter()
            .map(|(job, worker, running)| ((job, worker), running))
            .collect();
        Self {
            rules,
            teams,
            running,
            due,
        }
    }
}

impl From<Accounts> for Saved {
    fn from(accounts: Accounts) -> Self {
        let Accounts {
            rules,
            teams,
            running,
            due: _,
        } = accounts;
        let running = running
            .into_iter()
            .map(|((job, worker), running)| (job, worker, running))
            .collect();
        Self {
            rules,
            teams,
            running,
        }
    }
}
