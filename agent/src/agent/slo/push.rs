//! What services tell of themselves, over a Unix socket: `UNIT 12.5`, one answer that took 12.5 ms, or
//! `UNIT p99 12.5`, a percentile of their own. One a line.
//!
//! Whoever may connect may say what he likes, also that all is well. So the socket belongs to the agent and its group,
//! in which a service's account has to be; no account of a job is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loadline_model::Span;
use loadline_policy::slo::fixed::Millionths;
use loadline_policy::slo::window::Samples;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::span;
use crate::agent::settings::Places;

/// A service's own percentile is good for so long.
const FRESH: Duration = Duration::from_secs(15);
const CONNECTIONS: usize = 64;
const LINE_MAX: u64 = 512;
/// Between attempts at a socket that cannot be had.
const TAKEN: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Told {
    begun: Instant,
    samples: Samples,
    p99: Option<(Instant, Span)>,
}

/// What was told, by unit; only of units that were asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Pushed(Arc<Mutex<BTreeMap<String, Told>>>);

impl Pushed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep_only<'a>(&self, units: impl Iterator<Item = &'a str>) {
        let mut all = self.lock();
        let mut before = std::mem::take(&mut *all);
        for unit in units {
            let told = before.remove(unit).unwrap_or_else(|| Told {
                begun: Instant::now(),
                samples: Samples::default(),
                p99: None,
            });
            all.insert(unit.to_owned(), told);
        }
    }

    pub(super) fn measured(&self, unit: &str, target: Span) -> Result<Span, String> {
        let mut all = self.lock();
        let told = all.get_mut(unit).ok_or("nothing was told of it")?;
        if let Some((at, p99)) = told.p99
            && at.elapsed() <= FRESH
        {
            return Ok(p99);
        }
        let now = span(told.begun.elapsed());
        let count = told.samples.count(now);
        told.samples
            .p99(now, target)
            .ok_or_else(|| format!("it has told of {count} answers in 2m, and 100 are needed"))
    }

    /// One line; false: it cannot be understood.
    pub(super) fn take(&self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (unit, millis, whole) = match words[..] {
            [unit, "p99", millis] => (unit, millis, true),
            [unit, millis] => (unit, millis, false),
            _ => return false,
        };
        let Ok(Millionths(millionths)) = millis.parse() else {
            return false;
        };
        // Milliseconds in millionths are thousand times microseconds.
        let Ok(took) = u64::try_from(millionths / 1000) else {
            return false;
        };
        if let Some(told) = self.lock().get_mut(unit) {
            if whole {
                told.p99 = Some((Instant::now(), Span(took)));
            } else {
                let at = span(told.begun.elapsed());
                told.samples.add(at, Span(took));
            }
        }
        true
    }
}

/// In the agent's own runtime folder, which systemd makes; beside the warden's where there is none.
pub(super) fn socket(places: &Places) -> PathBuf {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(folder) => PathBuf::from(folder).join("slo.sock"),
        None => places.warden_socket.with_file_name("slo.sock"),
    }
}

fn open(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Listens for ever.
pub(super) async fn serve(path: &Path, pushed: &Pushed) {
    loop {
        match open(path) {
            Ok(listener) => accept(&listener, pushed).await,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "services cannot push their times: promises with push = true stay unknown");
            }
        }
        tokio::time::sleep(TAKEN).await;
    }
}

async fn accept(listener: &UnixListener, pushed: &Pushed) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pushed = pushed.clone();
                tokio::spawn(async move {
                    if let Err(error) = read(stream, &pushed).await {
                        tracing::warn!(%error, "a service that pushes its times was hung up on");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a service that pushes its times could not be accepted");
                return;
            }
        }
    }
}

async fn read(stream: UnixStream, pushed: &Pushed) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if !pushed.take(&line) {
            let rule = "a line is `UNIT 12.5` or `UNIT p99 12.5`, in milliseconds";
            return Err(io::Error::new(io::ErrorKind::InvalidData, rule));
        }
    }
}
