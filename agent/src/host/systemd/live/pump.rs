//! Listens to the bus: one ordered stream, so that a unit's change is seen before the job that it decided.
//!
//! One match rule covers all units: dbus-daemon allows 512 rules a connection, and a node may run more
//! workers than that. Signals about other units are dropped by their path, before anything is decoded.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use loadline_policy::reconcile::UnitActive;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tracing::{debug, warn};
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::{SERVICE, SERVICE_UNIT, Shared, UNIT, lock, names};
use crate::host::ended::end_from_properties;
use crate::host::systemd::proxy::ManagerProxy;
use crate::host::systemd::{Outcome, Signal, UnitState, active_from};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Connects and subscribes.
pub(super) async fn connect() -> zbus::Result<(Connection, MessageStream)> {
    let connection = Connection::system().await?;
    // The stream first: what arrives from here on is not lost.
    let stream = MessageStream::from(&connection);
    let daemon = DBusProxy::new(&connection).await?;
    let signal = || MatchRule::builder().msg_type(Type::Signal).sender(SERVICE);
    for member in ["JobRemoved", "UnitRemoved", "Reloading"] {
        daemon
            .add_match_rule(signal()?.interface(MANAGER)?.member(member)?.build())
            .await?;
    }
    let changed = signal()?
        .interface("org.freedesktop.DBus.Properties")?
        .member("PropertiesChanged")?
        .path_namespace("/org/freedesktop/systemd1/unit")?;
    daemon.add_match_rule(changed.build()).await?;
    ManagerProxy::new(&connection).await?.subscribe().await?;
    Ok((connection, stream))
}

/// Listens until nobody takes the signals any more; finds a lost bus again.
pub(super) async fn run(
    mut stream: MessageStream,
    connection: Arc<RwLock<Connection>>,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Signal>,
) {
    let mut out = Out {
        sender,
        missed: false,
    };
    while !out.sender.is_closed() {
        while let Some(Ok(message)) = stream.next().await {
            if let Err(error) = handle(&message, &shared, &mut out) {
                debug!(%error, "a signal could not be read");
                out.missed = true;
            }
        }
        warn!("the system bus is gone; connecting again");
        // Whoever waits for a job learns that its outcome is not known.
        lock(&shared.waiting).clear();
        let (fresh, fresh_stream) = reconnect().await;
        *connection.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        stream = fresh_stream;
        lock(&shared.units).clear();
        out.send(Signal::Resync);
    }
}

async fn reconnect() -> (Connection, MessageStream) {
    let mut pause = RETRY_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        match connect().await {
            Ok(fresh) => return fresh,
            Err(error) => warn!(%error, "no system bus yet"),
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
