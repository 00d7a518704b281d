//! What the warden found out about the machine at its start and does not look at again.

use loadline_model::Gpus;

use crate::host::capabilities::Capability;

/// For the inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// systemd's version.
    pub systemd: String,
    /// The distribution.
    pub os: String,
    /// Requirements that are not met, one sentence each.
    pub missed: Vec<String>,
    /// What the headroom loop needs, each tried.
    pub capabilities: Vec<Capability>,
    /// GPUs; none are looked for yet.
    pub gpus: Gpus,
}
