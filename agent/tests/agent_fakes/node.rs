//! A node for tests: joined, with a warden, and an agent that can be started, stopped and started again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loadline_node::agent::{
    Backoff, Clock, JoinPlan, JoinToken, MetricsListen, Places, Settings, Surroundings, Timing, join, run,
};
use loadline_node::host::journal::{JournalError, JournalReader, Start, WorkerJournal};
use loadline_node::host::journal_unread::Unread;
use loadline_node::spool::SpoolLimits;
use tokio::sync::oneshot;

use super::fleet::FakeFleet;
use super::network::MemoryNetwork;
use super::pki::{Ca, TestClock};
use super::warden::FakeWarden;

/// Short enough for a test, long enough for a busy machine.
pub(crate) fn quick() -> Timing {
    Timing {
        liveness: Duration::from_millis(200),
        connect: Duration::from_secs(10),
        ping: Duration::from_millis(200),
        ping_answer: Duration::from_millis(800),
        backoff: Backoff {
            base: Duration::from_millis(20),
            cap: Duration::from_millis(200),
        },
        settled: Duration::from_secs(1),
        warden: Duration::from_secs(5),
        retry: Backoff {
            base: Duration::from_millis(20),
            cap: Duration::from_millis(200),
        },
    }
}

/// A journal without a line.
#[derive(Debug)]
pub(crate) struct EmptyJournal;

struct EmptyReader {
    probed: Option<u64>,
}

impl WorkerJournal for EmptyJournal {
    fn open(&self, _: &str, _: &Start) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(EmptyReader { probed: None }))
    }
}

impl JournalReader for EmptyReader {
    fn next(&mut self) -> Result<Option<loadline_node::host::journal::Entry>, JournalError> {
        Ok(self.probed.take().map(loadline_node::host::journal::Entry::Probe))
    }

    fn wait(&mut self, at_most: Duration) -> Result<(), JournalError> {
        std::thread::park_timeout(at_most.min(Duration::from_millis(10)));
        Ok(())
    }

    fn unread(&mut self) -> std::io::Result<Unread> {
        Ok(Unread {
            waiting: Some(0),
            ..Unread::default()
        })
    }

    fn probe(&mut self) -> Result<u64, JournalError> {
        self.probed = Some(1);
        Ok(1)
    }
}

pub(crate) struct TestNode {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) fleet: Arc<FakeFleet>,
    pub(crate) warden: Arc<FakeWarden>,
    pub(crate) network: Arc<MemoryNetwork>,
    pub(crate) clock: TestClock,
    pub(crate) timing: Timing,
    pub(crate) limits: SpoolLimits,
    pub(crate) metrics: MetricsListen,
    agent: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

pub(crate) const SECRET: &str = "once";
pub(crate) const NAME: &str = "node-a";

pub(crate) fn places(folder: &std::path::Path) -> Places {
    Places {
        config: folder.join("etc"),
        state: folder.join("state"),
        warden_socket: folder.join("warden.sock"),
    }
}

pub(crate) fn token(fleet: &FakeFleet) -> JoinToken {
    JoinToken {
        address: "fleet.test:7718".into(),
        fingerprint: fleet.ca.fingerprint(),
        secret: SECRET.into(),
        node: NAME.into(),
    }
}

impl TestNode {
    /// Joined and with a warden that serves; the agent does not run yet.
    pub(crate) async fn joined(life_secs: i64, timing: Timing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let fleet = FakeFleet::new(Ca::new(clock.clone()), life_secs);
        fleet.state.send_modify(|state| {
            state.tokens.insert(SECRET.into(), NAME.into());
        });
        let (access, accepted) = MemoryNetwork::new();
        let serving = fleet.serve(
            fleet.ca.server_config(false, &[loadline_node::agent::FLEET_NAME]),
            accepted,
        );
        let plan = JoinPlan {
            token: token(&fleet),
            name: None,
            rejoin: false,
            places: places(folder.path()),
            owner: None,
            timing,
        };
        join(plan, &*access).await.unwrap();
        serving.abort();
        let (network, accepted) = MemoryNetwork::new();
        fleet.serve(fleet.ca.session_config(), accepted);
        let warden = FakeWarden::new(folder.path());
        warden.start();
        Self {
            folder,
            fleet,
            warden,
            network,
            clock,
            timing,
            limits: SpoolLimits::default(),
            metrics: MetricsListen::Off,
            agent: None,
        }
    }

    pub(crate) fn spool(&self) -> PathBuf {
        places(self.folder.path()).spool()
    }

    pub(crate) fn start(&mut self) {
        self.start_with(Arc::new(EmptyJournal));
    }

    pub(crate) fn start_with(&mut self, journal: Arc<dyn WorkerJournal>) {
        let settings = Settings {
            places: places(self.folder.path()),
            metrics: self.metrics,
            timing: self.timing,
            spool: self.limits,
        };
        let surroundings = Surroundings {
            clock: Arc::new(self.clock.clone()) as Arc<dyn Clock>,
            network: Arc::clone(&self.network) as _,
            journal,
        };
        let (stop, stopped) = oneshot::channel();
        let agent = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            run(settings, surroundings, || (), shutdown).await.unwrap();
        });
        self.agent = Some((stop, agent));
    }

    /// As `kill -9` would, but that memory goes too.
    pub(crate) async fn stop(&mut self) {
        let (_, agent) = self.agent.take().unwrap();
        agent.abort();
        let _ = agent.await;
    }
}
