//! Holds the logins of people whose work runs here to what production does not miss; why, and how much, is decided in
//! `loadline_policy::logins`. Beside the reconciler: nothing there waits for this, and this waits for nothing there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use loadline_model::MilliCpu;
use loadline_policy::logins::{Step, Uid, share, steps};
use loadline_policy::node_policy::Mode;
use loadline_policy::settings::Limit;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::reconciler::Node;
use crate::host::logins::{quotas, unit, working};
use crate::host::root::HostRoot;
use crate::host::systemd::{Setting, Systemd};

/// A worker needs about as long to have something started elsewhere.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What it has to know of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Given {
    share: MilliCpu,
    mode: Mode,
}

impl Given {
    fn of(node: &Node) -> Self {
        Self {
            share: share(&node.line),
            mode: node.policy.lend.mode,
        }
    }
}

/// The running task. It ends with this value, and what it holds stays held.
#[derive(Debug)]
pub struct Logins {
    given: watch::Sender<Given>,
    task: JoinHandle<()>,
}

impl Logins {
    /// Starts it.
    pub fn start<S: Systemd>(root: HostRoot, systemd: Arc<S>, node: &Node) -> Self {
        let (given, receiver) = watch::channel(Given::of(node));
        let task = tokio::spawn(async move {
            let mut watched = Watched {
                root,
                systemd,
                held: BTreeMap::new(),
            };
            let mut tick = tokio::time::interval(LOOK_EVERY);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let given = *receiver.borrow();
                watched.look(given).await;
            }
        });
        Self { given, task }
    }

    /// Tells it what this node may do from now on.
    pub fn teller(&self) -> impl Fn(&Node) + Send + use<> {
        let given = self.given.clone();
        move |node| {
            given.send_replace(Given::of(node));
        }
    }
}

impl Drop for Logins {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Watched<S> {
    root: HostRoot,
    systemd: Arc<S>,
    held: BTreeMap<Uid, MilliCpu>,
}

impl<S: Systemd> Watched<S> {
    async fn look(&mut self, given: Given) {
        // A node that only watches touches nothing.
        if given.mode == Mode::Shadow {
            return;
        }
        let (working, quotas) = (working(&self.root), quotas(&self.root));
        for step in steps(&working, &quotas, &self.held, given.share) {
            let (uid, quota) = match step {
                Step::Hold(uid, cpu) => (uid, Limit::At(cpu)),
                Step::Release(uid) => (uid, Limit::Max),
            };
            let slice = unit(uid);
            match self.systemd.set(&slice, &[Setting::CpuQuota(quota)]).await {
                Ok(()) => {
                    match step {
                        Step::Hold(uid, cpu) => self.held.insert(uid, cpu),
                        Step::Release(uid) => self.held.remove(&uid),
                    };
                    info!(slice, ?quota, "logins of a person whose work is lent to");
                }
                // What the kernel has is read again at the next look, and this tried again.
                Err(problem) => warn!(error = &problem as &dyn std::error::Error, slice, "logins"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::systemd::fake::{FakeSystemd, Fault};

    const WORKER: &str =
        "sys/fs/cgroup/loadline.slice/loadline-standard.slice/loadline-w-1.service/cgroup.procs";
    const QUOTA: &str = "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max";

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn put(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    /// What is asked of systemd, and what the kernel then has, step by step.
    #[tokio::test]
    async fn a_person_s_logins_are_held_while_a_worker_lives() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let (systemd, _signals) = FakeSystemd::new(tree.0.path(), "0-1");
        let mut watched = Watched {
            root: HostRoot::new(tree.0.path()),
            systemd: Arc::new(systemd),
            held: BTreeMap::new(),
        };
        let (cpu, mode) = (MilliCpu(400), Mode::Enforce);
        let given = Given { share: cpu, mode };
        tree.put("proc/7/status", "Uid:\t1000\t1000\t1000\t1000\n");
        tree.put(QUOTA, "max 100000\n");
        watched.look(given).await;
        assert_eq!(watched.systemd.calls(), Vec::<String>::new(), "nobody works");

        tree.put(WORKER, "7\n");
        let shadow = Given {
            mode: Mode::Shadow,
            ..given
        };
        watched.look(shadow).await;
        assert_eq!(watched.systemd.calls(), Vec::<String>::new(), "it only watches");

        watched.systemd.fail(Fault::SetFails);
        watched.look(given).await;
        assert!(watched.held.is_empty(), "systemd refused");
        watched.look(given).await;
        assert_eq!(watched.systemd.calls(), ["set user-1000.slice"; 2]);
        tree.put(QUOTA, "4000 10000\n");
        watched.look(given).await;
        assert_eq!(watched.systemd.calls().len(), 2, "held already");

        tree.put(WORKER, "");
        watched.look(given).await;
        assert_eq!(watched.systemd.calls(), ["set user-1000.slice"; 3]);
        assert!(watched.held.is_empty());
    }
}
