//! One node on a bench: a fake systemd, a folder for cgroups, a real ledger, a clock that tests pause.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::warden::brakes::Within;
use loadline_model::{
    AttemptId, Bytes, FleetId, Generation, MilliCpu, NodeId, NumaNode, Sequence, Span, Thread, Topology,
    WallTime,
};
use loadline_policy::attempt::BootId;
use loadline_policy::headroom::Decision;
use loadline_policy::node_policy::{LocalTime, LocalTimes, Mode, NodePolicy, Weekday};
use loadline_policy::prove::ordered::Standing;
use loadline_policy::settings::Pinning;
use loadline_proto::types::v1 as proto;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::io_cost::FakeCosts;
use crate::host::cgroup::CgroupFs;
use crate::host::clock::Clock;
use crate::host::ended::EndFolder;
use crate::host::journal_send::JournalSender;
use crate::host::systemd::Signal;
use crate::host::systemd::fake::FakeSystemd;
use crate::host::users::{Account, Accounts, LookupError};
use crate::ledger::{Ledger, LedgerError, wire as events};
use crate::warden::brakes::Taken;
use crate::warden::headroom::Decisions;
use crate::warden::orders::verify;
use crate::warden::reconciler::{
    Command, Doing, Incoming, Lookup, Node, Outside, Prover, Reconciler, SharedLedger, Snapshot, lock,
};
use crate::warden::wire::SignedOrder;
use crate::warden::wire::forge::{Forge, Wanted};

/// How long a test waits for something before it says what it saw instead.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy)]
pub(crate) struct BenchClock(Instant);

impl Clock for BenchClock {
    fn wall(&self) -> WallTime {
        WallTime(1_700_000_000_000_000).plus(self.monotonic())
    }

    fn monotonic(&self) -> Span {
        Span(u64::try_from(self.0.elapsed().as_micros()).unwrap() + 1_000_000)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct People(pub(crate) BTreeMap<String, u32>);

impl Accounts for People {
    async fn lookup(&self, name: &str) -> Result<Option<Account>, LookupError> {
        Ok(self.0.get(name).map(|uid| Account {
            name: name.to_owned(),
            uid: *uid,
            home: format!("/home/{name}").into(),
            groups: vec![name.to_owned()],
        }))
    }
}

/// Who would run tests: remembers what it was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeProver(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    standing: Option<Standing>,
    noted: Vec<Doing>,
    done: Vec<Doing>,
}

impl FakeProver {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap()
    }

    /// A test from before the warden began.
    pub(crate) fn find(&self, standing: Standing) {
        self.told().standing = Some(standing);
    }

    pub(crate) fn noted(&self) -> Vec<Doing> {
        self.told().noted.clone()
    }

    pub(crate) fn done(&self) -> Vec<Doing> {
        self.told().done.clone()
    }
}

impl Prover for FakeProver {
    fn standing(&self) -> Option<Standing> {
        self.told().standing.clone()
    }

    fn note(&self, doing: &Doing) {
        self.told().noted.push(doing.clone());
    }

    fn go(&self, doing: Doing) {
        self.told().done.push(doing);
    }
}

pub(crate) struct Rig {
    _dir: tempfile::TempDir,
    root: PathBuf,
    pub(crate) systemd: FakeSystemd,
    pub(crate) forge: Forge,
    pub(crate) folder: EndFolder,
    pub(crate) ledger: SharedLedger,
    pub(crate) boot: String,
    clock: BenchClock,
    warden: Option<Warden>,
    /// The headroom loop's word.
    pub(crate) wanted: watch::Sender<Option<Decision>>,
    /// What the brake has taken back.
    pub(crate) taken: watch::Sender<Taken>,
    /// What the headroom loop was told of the node: mode and line.
    pub(crate) ruled: Arc<Mutex<Vec<(Mode, MilliCpu)>>>,
    /// What the clock on the wall shows.
    pub(crate) local: Arc<Mutex<LocalTime>>,
    /// What the brake is told of those who are ended.
    pub(crate) within: watch::Sender<Within>,
    pub(crate) prover: FakeProver,
    pub(crate) costs: Arc<FakeCosts>,
    next: u8,
}

struct Warden {
    sequence: watch::Receiver<Sequence>,
    commands: mpsc::Sender<Command>,
    records: mpsc::Sender<()>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), LedgerError>>,
}

pub(crate) fn topology(cpus: u32) -> Topology {
    let thread = |cpu| Thread {
        cpu,
        core: cpu,
        l3: 0,
        numa: 0,
        socket: 0,
    };
    let memory = Bytes::from_gib(4);
    Topology::new((0..cpus).map(thread).collect(), vec![NumaNode { id: 0, memory }]).unwrap()
}

/// Four CPUs, 4 GiB: CPU 0 is reserved; the line is 2.2 CPUs and 80 % of the memory.
pub(crate) fn node() -> Node {
    Node::new(NodePolicy::default(), topology(4), 0, Pinning::Cpuset)
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(node()).await
    }

    pub(crate) async fn with(node: Node) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let cgroups = root.join("cgroup");
        let cpus = node.topology.cpus().to_string();
        let (systemd, signals) = FakeSystemd::new(&cgroups, &cpus);
        let ledger = Ledger::open(&root.join("ledger.db"), WallTime(1)).unwrap().0;
        let (fleet, machine) = (
            FleetId::from_slice(&[1; 16]).unwrap(),
            NodeId::from_slice(&[2; 16]).unwrap(),
        );
        let mut rig = Self {
            systemd,
            forge: Forge::new(7, fleet, machine),
            folder: EndFolder::new(root.join("ended")),
            ledger: Arc::new(Mutex::new(ledger)),
            boot: "first boot".into(),
            clock: BenchClock(Instant::now()),
            warden: None,
            wanted: watch::channel(None).0,
            taken: watch::channel(Taken::default()).0,
            ruled: Arc::default(),
            local: Arc::new(Mutex::new(LocalTime {
                day: Weekday::Mon,
                minute: 0,
            })),
            within: watch::channel(Within::default()).0,
            prover: FakeProver::default(),
            costs: Arc::new(FakeCosts::new(root.clone())),
            next: 0,
            _dir: dir,
            root,
        };
        rig.turn_on(signals, node);
        rig
    }

    fn turn_on(&mut self, signals: mpsc::Receiver<Signal>, node: Node) {
        let (commands, receiver) = mpsc::channel(16);
        let (records, records_receiver) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let (sequence, sequences) = watch::channel(lock(&self.ledger).last_sequence());
        let local = self.local.clone();
        let outside = Outside {
            systemd: Arc::new(self.systemd.clone()),
            signals,
            clock: self.clock,
            local: Box::new(move |_| LocalTimes {
                node: *local.lock().unwrap(),
                zones: BTreeMap::new(),
            }),
            accounts: Arc::new(people()),
            cgroups: CgroupFs::new(self.root.join("cgroup")),
            folder: self.folder.clone(),
            journal: JournalSender::new(self.root.join("journal")),
            floors: self.root.join("floors.json"),
            costs: self.costs.clone(),
            costs_kept: self.root.join("io-cost.json"),
            records: records_receiver,
            ledger: self.ledger.clone(),
            headroom: Decisions {
                latest: self.wanted.subscribe(),
                wanted: self.wanted.subscribe(),
                taken: self.taken.subscribe(),
                within: self.within.clone(),
            },
            boot: BootId(self.boot.clone()),
            alive: Box::new(|| {}),
            ruled: Box::new({
                let told = self.ruled.clone();
                move |node| {
                    told.lock()
                        .unwrap()
                        .push((node.policy.lend.mode, node.line.most().cpu))
                }
            }),
            prover: Box::new(self.prover.clone()),
            settled: None,
        };
        let run = Reconciler::run(outside, node, receiver, sequence, Default::default(), async {
            let _ = stopped.await;
        });
        self.warden = Some(Warden {
            sequence: sequences,
            commands,
            records,
            stop,
            task: tokio::spawn(run),
        });
    }

    /// The warden dies where it stands, and another one starts.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill().await;
        self.restart(node());
    }

    pub(crate) async fn kill(&mut self) {
        let warden = self.warden.take().unwrap();
        warden.task.abort();
        let _ = warden.task.await;
    }

    /// Ends in order, as by SIGTERM.
    pub(crate) async fn turn_off(&mut self) {
        let warden = self.warden.take().unwrap();
        warden.stop.send(()).unwrap();
        warden.task.await.unwrap().unwrap();
    }

    pub(crate) fn restart(&mut self, node: Node) {
        let path = self.root.join("ledger.db");
        let (systemd, signals) = self.systemd.reconnect();
        self.systemd = systemd;
        // Closed before it is opened again: it has one owner.
        let closed = Ledger::open(&self.root.join("other.db"), WallTime(1)).unwrap().0;
        drop(std::mem::replace(&mut *lock(&self.ledger), closed));
        let ledger = Ledger::open(&path, WallTime(2)).unwrap().0;
        self.ledger = Arc::new(Mutex::new(ledger));
        self.turn_on(signals, node);
    }

    /// Takes what is written into the workers' journal.
    pub(crate) fn journald(&self) -> UnixDatagram {
        let journald = UnixDatagram::bind(self.root.join("journal")).unwrap();
        journald.set_nonblocking(true).unwrap();
        journald
    }

    pub(crate) fn cgroup_root(&self) -> PathBuf {
        self.root.join("cgroup")
    }

    /// The ledger's file is gone.
    pub(crate) fn lose_ledger(&self) {
        let closed = Ledger::open(&self.root.join("other.db"), WallTime(1)).unwrap().0;
        drop(std::mem::replace(&mut *lock(&self.ledger), closed));
        std::fs::remove_file(self.root.join("ledger.db")).unwrap();
        std::fs::remove_file(self.root.join("other.db")).unwrap();
    }

    /// A fresh attempt id; later ones sort later.
    pub(crate) fn attempt(&mut self) -> AttemptId {
        self.next += 1;
        let mut id = [3; 16];
        id[15] = self.next;
        AttemptId::from_slice(&id).unwrap()
    }

    pub(crate) async fn try_apply(&self, orders: Vec<SignedOrder>) -> Result<Generation, Arc<LedgerError>> {
        let trust = self.forge.trust();
        let mut incoming = Vec::new();
        for order in orders {
            let order = verify(&trust, order).unwrap();
            let account = match people().lookup("alice").await.unwrap() {
                Some(person) => Lookup::Known(person),
                None => Lookup::Missing,
            };
            incoming.push(Incoming { order, account });
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Apply {
            orders: incoming,
            reply,
        };
        self.warden
            .as_ref()
            .unwrap()
            .commands
            .send(command)
            .await
            .unwrap();
        answer.await.unwrap()
    }

    pub(crate) async fn start(&mut self, wanted: &Wanted) -> AttemptId {
        let attempt = self.attempt();
        let order = self.forge.start(attempt, wanted);
        self.try_apply(vec![order]).await.unwrap();
        attempt
    }

    pub(crate) async fn running(&mut self, wanted: &Wanted) -> AttemptId {
        let attempt = self.start(wanted).await;
        self.phase(attempt, proto::AttemptPhase::Running).await;
        attempt
    }

    pub(crate) async fn stop(&mut self, attempt: AttemptId, grace: Span) {
        let order = self.forge.stop(attempt, grace);
        self.try_apply(vec![order]).await.unwrap();
    }

    /// The reconciler's ends that a socket holds.
    pub(crate) fn ends(&self) -> (mpsc::Sender<Command>, watch::Receiver<Sequence>) {
        let warden = self.warden.as_ref().unwrap();
        (warden.commands.clone(), warden.sequence.clone())
    }

    pub(crate) async fn command(&self, command: Command) {
        self.warden
            .as_ref()
            .unwrap()
            .commands
            .send(command)
            .await
            .unwrap();
    }

    /// The owner has another policy.
    pub(crate) async fn replace(&self, node: Node) {
        let (reply, done) = oneshot::channel();
        self.command(Command::Replace(Box::new(node), reply)).await;
        done.await.unwrap();
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Status { reply }).await;
        answer.await.unwrap()
    }

    /// Says that the folder of end records has changed.
    pub(crate) async fn look_at_records(&self) {
        self.warden.as_ref().unwrap().records.send(()).await.unwrap();
    }

    pub(crate) fn events(&self) -> Vec<proto::Event> {
        let page = lock(&self.ledger).events_after(Sequence(0), WallTime(3)).unwrap();
        page.iter().map(|body| events::decode(body).unwrap()).collect()
    }

    pub(crate) fn attempt_events(&self, attempt: AttemptId) -> Vec<proto::AttemptState> {
        let states = self.events().into_iter().filter_map(|event| match event.what {
            Some(proto::event::What::Attempt(state)) => Some(state),
            _ => None,
        });
        states
            .filter(|state| state.attempt_id == attempt.as_bytes())
            .collect()
    }

    pub(crate) fn receipts(&self) -> Vec<(String, String)> {
        let receipts = self.events().into_iter().filter_map(|event| match event.what {
            Some(proto::event::What::Receipt(receipt)) => Some((receipt.action, receipt.sentence)),
            _ => None,
        });
        receipts.collect()
    }

    /// Waits until an attempt was reported in a phase.
    pub(crate) async fn phase(&self, attempt: AttemptId, phase: proto::AttemptPhase) -> proto::AttemptState {
        self.eventually(format!("{attempt} {phase:?}"), || {
            let told = self.attempt_events(attempt);
            told.into_iter().find(|state| state.phase() == phase)
        })
        .await
    }

    pub(crate) async fn ended(&self, attempt: AttemptId) -> proto::Ended {
        let state = self.phase(attempt, proto::AttemptPhase::Ended).await;
        state.ended.unwrap()
    }

    /// Waits for something; says what there was instead.
    pub(crate) async fn eventually<T>(&self, what: impl AsRef<str>, seen: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = seen() {
                return value;
            }
            let waited = begun.elapsed();
            assert!(
                waited < PATIENCE,
                "no {} after {waited:?}; events: {:#?}; calls: {:?}",
                what.as_ref(),
                self.events(),
                self.systemd.calls(),
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn people() -> People {
    People(
        [("alice".to_owned(), 1000), ("low".to_owned(), 5)]
            .into_iter()
            .collect(),
    )
}
