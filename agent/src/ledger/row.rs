//! An attempt as JSON in its row: what the order itself does not say. Fields may be added, never renamed.

use std::collections::BTreeSet;

use loadline_model::{Bytes, CpuSet, MilliCpu, Peaks};
use loadline_policy::admission::Account;
use loadline_policy::allocation::{Grant, Holding};
use loadline_policy::attempt::{BootId, Life, WorkOrder};
use loadline_policy::reconcile::LedgerAttempt;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) struct AttemptRow {
    account: Option<AccountRow>,
    boot: BootId,
    life: Life,
    holding: Option<HoldingRow>,
    applied_cpus: Option<CpuSet>,
    peaks: Peaks,
}

#[derive(Serialize, Deserialize)]
struct AccountRow {
    uid: u32,
    groups: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct HoldingRow {
    /// Absent: the shared pool.
    exclusive: Option<CpuSet>,
    cpu: MilliCpu,
    memory: Bytes,
    memory_nodes: CpuSet,
}

impl From<&LedgerAttempt> for AttemptRow {
    fn from(entry: &LedgerAttempt) -> Self {
        // Every field by name: a new one must be decided about here.
        let LedgerAttempt {
            order: _,
            account,
            boot,
            life,
            holding,
            applied_cpus,
            peaks,
        } = entry;
        let account = match account {
            Account::Known { uid, groups } => Some(AccountRow {
                uid: *uid,
                groups: groups.clone(),
            }),
            Account::Missing => None,
        };
        Self {
            account,
            boot: boot.clone(),
            life: life.clone(),
            holding: holding.as_ref().map(HoldingRow::from),
            applied_cpus: applied_cpus.clone(),
            peaks: *peaks,
        }
    }
}

impl AttemptRow {
    pub(super) fn into_entry(self, order: Option<WorkOrder>) -> LedgerAttempt {
        let account = match self.account {
            Some(AccountRow { uid, groups }) => Account::Known { uid, groups },
            None => Account::Missing,
        };
        LedgerAttempt {
            order,
            account,
            boot: self.boot,
            life: self.life,
            holding: self.holding.map(HoldingRow::into_holding),
            applied_cpus: self.applied_cpus,
            peaks: self.peaks,
        }
    }
}

impl From<&Holding> for HoldingRow {
    fn from(holding: &Holding) -> Self {
        let Holding {
            grant,
            amount,
            memory,
            memory_nodes,
        } = holding;
        let exclusive = match grant {
            Grant::Exclusive(cpus) => Some(cpus.clone()),
            Grant::Shared => None,
        };
        Self {
            exclusive,
            cpu: *amount,
            memory: *memory,
            memory_nodes: memory_nodes.clone(),
        }
    }
}

impl HoldingRow {
    fn into_holding(self) -> Holding {
        Holding {
            grant: self.exclusive.map_or(Grant::Shared, Grant::Exclusive),
            amount: self.cpu,
            memory: self.memory,
            memory_nodes: self.memory_nodes,
        }
    }
}
