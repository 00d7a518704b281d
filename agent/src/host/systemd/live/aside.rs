//! The real systemd starts units beside the workers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{LiveSystemd, START_LIMIT, call, lock};
use crate::host::systemd::aside::{Aside, AsideUnit, of_aside};
use crate::host::systemd::{Outcome, SystemdError};

impl LiveSystemd {
    async fn start_aside_and_wait(&self, unit: &AsideUnit) -> zbus::Result<bool> {
        let (sender, mut decisions) = mpsc::unbounded_channel();
        lock(&self.shared.waiting).insert(unit.name.clone(), sender);
        let list = of_aside(unit);
        let manager = self.manager().await?;
        let job = manager
            .start_transient_unit(&unit.name, "fail", &list, &[])
            .await?;
        match self.decided(&job, &mut decisions).await {
            Some(started) => Ok(started.outcome == Outcome::Done),
            None => Err(zbus::Error::InputOutput(Arc::new(
                std::io::ErrorKind::ConnectionReset.into(),
            ))),
        }
    }
}

impl Aside for LiveSystemd {
    async fn start_aside(&self, unit: &AsideUnit) -> Result<bool, SystemdError> {
        let started = call("start", &unit.name, START_LIMIT, self.start_aside_and_wait(unit)).await;
        lock(&self.shared.waiting).remove(&unit.name);
        started
    }
}
