//! The systemd in memory starts units beside the workers.

use loadline_policy::attempt::MainEnd;
use loadline_policy::reconcile::UnitActive;
use loadline_policy::settings::Slice;

use super::{FakeSystemd, Fault, refused};
use crate::host::systemd::SystemdError;
use crate::host::systemd::aside::{Aside, AsideUnit, Place};

impl Aside for FakeSystemd {
    async fn start_aside(&self, unit: &AsideUnit) -> Result<bool, SystemdError> {
        self.note("start-aside", &unit.name);
        if self.take(|fault| *fault == Fault::StartRefused).is_some() {
            return Err(refused("start", &unit.name));
        }
        if self.world().units.contains_key(&unit.name) {
            return Err(SystemdError::UnitExists {
                unit: unit.name.clone(),
            });
        }
        let slice = match unit.place {
            Place::Lent { slice, .. } => slice,
            // Its cgroup lies elsewhere, which nobody reads.
            Place::Production => Slice::Root,
        };
        self.world().create(&unit.name, slice, UnitActive::Running);
        if let Some(Fault::StartFails(status)) = self.take(|fault| matches!(fault, Fault::StartFails(_))) {
            self.world().end(&unit.name, "exit-code", MainEnd::Exited(status));
            return Ok(false);
        }
        Ok(true)
    }
}
