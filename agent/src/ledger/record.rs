//! An attempt as it is stored: the order as it was signed, and its state as JSON, which people can read with
//! `sqlite3` and newer versions can add to.

use loadline_model::{AttemptId, Bytes, CpuSet, MilliCpu, Peaks};
use loadline_policy::allocation::{Grant, Holding};
use loadline_policy::attempt::{BootId, Life};
use serde::{Deserialize, Serialize};

use super::Placement;

/// Everything the ledger keeps of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// The signed order as it came; none for an adopted orphan.
    pub order: Option<Vec<u8>>,
    /// The boot it belongs to.
    pub boot: BootId,
    /// Where it stands.
    pub life: Life,
    /// What it holds.
    pub holding: Option<StoredHolding>,
    /// The CPUs that were last set and read back.
    pub applied_cpus: Option<CpuSet>,
    /// The most it used.
    pub peaks: Peaks,
    /// Where it runs, once it does.
    pub placement: Option<Placement>,
    /// Found without a record of it.
    pub orphan: bool,
}

/// What a worker holds, in the ledger's own form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHolding {
    /// CPUs of its own; none: it shares.
    exclusive: Option<CpuSet>,
    amount: MilliCpu,
    memory: Bytes,
    memory_nodes: CpuSet,
}

impl From<&Holding> for StoredHolding {
    fn from(holding: &Holding) -> Self {
        Self {
            exclusive: match &holding.grant {
                Grant::Exclusive(cpus) => Some(cpus.clone()),
                Grant::Shared => None,
            },
            amount: holding.amount,
            memory: holding.memory,
            memory_nodes: holding.memory_nodes.clone(),
        }
    }
}

impl From<StoredHolding> for Holding {
    fn from(stored: StoredHolding) -> Self {
        Self {
            grant: stored.exclusive.map_or(Grant::Shared, Grant::Exclusive),
            amount: stored.amount,
            memory: stored.memory,
            memory_nodes: stored.memory_nodes,
        }
    }
}

/// The JSON column.
#[derive(Serialize, Deserialize)]
struct State {
    boot: BootId,
    life: Life,
    holding: Option<StoredHolding>,
    applied_cpus: Option<CpuSet>,
    peaks: Peaks,
    placement: Option<Placement>,
    orphan: bool,
}

impl StoredAttempt {
    pub(super) fn state(&self) -> String {
        let state = State {
            boot: self.boot.clone(),
            life: self.life.clone(),
            holding: self.holding.clone(),
            applied_cpus: self.applied_cpus.clone(),
            peaks: self.peaks,
            placement: self.placement.clone(),
            orphan: self.orphan,
        };
        // Plain structs with text keys: there is nothing in them that JSON cannot say.
        serde_json::to_string(&state).unwrap_or_default()
    }

    pub(super) fn decode(id: &[u8], order: Option<Vec<u8>>, state: &[u8]) -> Result<Self, String> {
        let attempt = AttemptId::from_slice(id).map_err(|error| error.to_string())?;
        let state: State = serde_json::from_slice(state).map_err(|error| error.to_string())?;
        Ok(Self {
            attempt,
            order,
            boot: state.boot,
            life: state.life,
            holding: state.holding,
            applied_cpus: state.applied_cpus,
            peaks: state.peaks,
            placement: state.placement,
            orphan: state.orphan,
        })
    }
}
