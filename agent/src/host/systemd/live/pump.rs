//! Listens to systemd: one ordered stream, so that a unit's change is seen before the job that it decided.
//!
//! On its own socket systemd tells everything without being asked. Signals about other units are dropped by their
//! path, before anything is decoded.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use loadline_policy::reconcile::UnitActive;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tracing::{debug, warn};
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, Message, MessageStream};

use super::{SERVICE_UNIT, Shared, UNIT, direct, lock, names};
use crate::host::ended::end_from_properties;
use crate::host::systemd::{Outcome, Signal, UnitState, active_from};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Both ways to systemd.
#[derive(Debug, Clone)]
pub(super) struct Ways {
    /// Its own socket.
    pub(super) direct: Connection,
    /// The system bus.
    pub(super) bus: Connection,
}

/// What comes in on both.
pub(super) struct Incoming {
    direct: MessageStream,
    bus: MessageStream,
}

impl Incoming {
    /// The next message of systemd's own; none: one of the two is gone.
    async fn next(&mut self) -> Option<Message> {
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                message = self.direct.next() => return message?.ok(),
                // Nothing is asked to be told there: it is only watched for its end.
                message = self.bus.next() => drop(message?.ok()?),
            }
        }
    }
}

/// Connects both ways.
pub(super) async fn connect() -> zbus::Result<(Ways, Incoming)> {
    let ways = Ways {
        direct: direct::connect().await?,
        bus: Connection::system().await?,
    };
    let incoming = Incoming {
        direct: MessageStream::from(&ways.direct),
        bus: MessageStream::from(&ways.bus),
    };
    Ok((ways, incoming))
}

/// Listens until nobody takes the signals any more; finds a lost way again.
pub(super) async fn run(
    mut incoming: Incoming,
    ways: Arc<RwLock<Ways>>,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Signal>,
) {
    let mut out = Out {
        sender,
        missed: false,
    };
    while !out.sender.is_closed() {
        while let Some(message) = incoming.next().await {
            if let Err(error) = handle(&message, &shared, &mut out) {
                debug!(%error, "a signal could not be read");
                out.missed = true;
            }
        }
        warn!("systemd or the system bus has closed the connection; connecting again");
        // Whoever waits for a job learns that its outcome is not known.
        lock(&shared.waiting).clear();
        let (fresh, fresh_incoming) = reconnect().await;
        *ways.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        incoming = fresh_incoming;
        lock(&shared.units).clear();
        out.send(Signal::Resync);
    }
}

async fn reconnect() -> (Ways, Incoming) {
    let mut pause = RETRY_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        match connect().await {
            Ok(fresh) => return fresh,
            Err(error) => warn!(%error, "no way to systemd yet"),
        }
        pause = (pause * 2).min(RETRY_MOST);
    }
}

/// The way to the warden. When it is full, the warden is told to look at everything once there is room.
struct Out {
    sender: mpsc::Sender<Signal>,
    missed: bool,
}

impl Out {
    fn send(&mut self, signal: Signal) {
        if self.missed && self.sender.try_send(Signal::Resync).is_ok() {
            self.missed = false;
        }
        if self.sender.try_send(signal).is_err() {
            self.missed = true;
        }
    }
}

fn handle(message: &Message, shared: &Shared, out: &mut Out) -> zbus::Result<()> {
    if message.message_type() != Type::Signal {
        return Ok(());
    }
    let header = message.header();
    let member = header.member().map(|member| member.as_str()).unwrap_or_default();
    match member {
        "PropertiesChanged" => {
            let path = header.path().map(|path| path.as_str()).unwrap_or_default();
            if let Some(unit) = names::worker_of(path) {
                changed(message, unit, shared, out)?;
            }
        }
        "JobRemoved" => {
            let (_, job, unit, result): (u32, OwnedObjectPath, String, String) =
                message.body().deserialize()?;
            decided(job, &unit, &result, shared);
        }
        "UnitRemoved" => {
            let (unit, _): (String, OwnedObjectPath) = message.body().deserialize()?;
            lock(&shared.units).remove(&unit);
        }
        // Told twice: true when it begins, false when it is done.
        "Reloading" if !message.body().deserialize::<bool>()? => out.send(Signal::Reloaded),
        _ => {}
    }
    Ok(())
}

fn decided(job: OwnedObjectPath, unit: &str, result: &str, shared: &Shared) {
    let outcome = match result {
        "done" => Outcome::Done,
        "canceled" => Outcome::Cancelled,
        _ => Outcome::Failed,
    };
    let state = lock(&shared.units).get(unit).cloned();
    if let Some(waiting) = lock(&shared.waiting).get(unit) {
        // Nobody listens any more: the caller ran into its time limit and has said so.
        let _ = waiting.send((job, outcome, state));
    }
}

/// systemd tells the service's values first and the unit's after, so that the second completes the picture.
fn changed(message: &Message, unit: String, shared: &Shared, out: &mut Out) -> zbus::Result<()> {
    let body = message.body();
    let (interface, values, _): (String, HashMap<String, OwnedValue>, Vec<String>) = body.deserialize()?;
    let mut units = lock(&shared.units);
    let state = units.entry(unit.clone()).or_insert_with(|| UnitState {
        unit,
        active: UnitActive::Starting,
        invocation: String::new(),
        main_pid: 0,
        end: end_from_properties("success", 0, 0),
    });
    match interface.as_str() {
        SERVICE_UNIT => {
            let number = |name: &str| values.get(name).and_then(|value| i32::try_from(value).ok());
            if let Some(pid) = values.get("MainPID").and_then(|value| u32::try_from(value).ok()) {
                state.main_pid = pid;
            }
            if let Some(result) = text(&values, "Result") {
                let (code, status) = (number("ExecMainCode"), number("ExecMainStatus"));
                state.end = end_from_properties(result, code.unwrap_or(0), status.unwrap_or(0));
            }
        }
        UNIT => {
            let id = values
                .get("InvocationID")
                .and_then(|value| value.try_clone().ok());
            if let Some(id) = id.and_then(|value| Vec::<u8>::try_from(value).ok()) {
                state.invocation = names::hex(&id);
            }
            if let Some(word) = text(&values, "ActiveState") {
                state.active = active_from(word, &state.end);
            }
            out.send(Signal::Unit(state.clone()));
        }
        _ => {}
    }
    Ok(())
}

fn text<'v>(values: &'v HashMap<String, OwnedValue>, name: &str) -> Option<&'v str> {
    values.get(name).and_then(|value| <&str>::try_from(value).ok())
}
