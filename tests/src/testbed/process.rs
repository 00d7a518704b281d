//! Child processes that cannot outlive the testbed, whether it returns, panics or is killed.
//!
//! The kernel's parent-death signal is tied to the *thread* that started the child, so all children are started by one
//! thread that lives as long as the process. `setpriv` sets the signal and becomes the program (same pid).

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};

struct Order {
    command: Command,
    answer: mpsc::SyncSender<io::Result<Child>>,
}

static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (sender, orders) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for mut order in orders {
            // The asker waits for the answer, so it is there to receive it.
            let _ = order.answer.send(order.command.spawn());
        }
    });
    sender
});

/// The lowest of the real-time priorities, which threads do not inherit.
const PUNCTUAL: [&str; 3] = ["--reset-on-fork", "--fifo", "1"];

static ALLOWS_REAL_TIME: LazyLock<bool> = LazyLock::new(|| {
    let mut asked = Command::new("chrt");
    asked
        .args(PUNCTUAL)
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let allowed = asked.status().is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("testbed: this host allows no real-time priority; timers of guests may come late");
    }
    allowed
});

/// A command that dies with the testbed once it is started by [`start`].
#[must_use]
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Its first thread comes before everything else on this host, its other threads do not. That is for QEMU: there the
/// first thread fires the timers of all of a guest's CPUs, and where these use every CPU of the host they wait
/// for it, which a real machine's timers do not: with this, and the other guest behind, a load generator was late by 2.5
/// instead of 4.3 ms (p99.9 beside lent work, 2026-11-30, medians of four interleaved rounds). On a host that allows it to nobody it is like [`bound`].
#[must_use]
pub fn bound_punctual(program: impl AsRef<OsStr>) -> Command {
    if !*ALLOWS_REAL_TIME {
        return bound(program);
    }
    let mut command = bound("chrt");
    command.args(PUNCTUAL).arg(program);
    command
}

/// It and all its threads come after everything else on this host that wants a CPU.
#[must_use]
pub fn bound_behind(program: impl AsRef<OsStr>) -> Command {
    let mut command = bound("nice");
    command.args(["-n", "15"]).arg(program);
    command
}

/// Starts a command made by [`bound`] or its like.
///
/// # Errors
/// When the process cannot be started.
pub fn start(command: Command) -> io::Result<Child> {
    let (answer, result) = mpsc::sync_channel(1);
    STARTER
        .send(Order { command, answer })
        .map_err(|_| io::Error::other("the starting thread is gone"))?;
    result
        .recv()
        .map_err(|_| io::Error::other("the starting thread is gone"))?
}

/// Kills a child and waits for its end; one that has ended already is fine.
pub fn end(child: &mut Child) {
    if let Err(error) = child.kill() {
        eprintln!("testbed: kill process {}: {error}", child.id());
    }
    if let Err(error) = child.wait() {
        eprintln!("testbed: wait for process {}: {error}", child.id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policy and nice value of the first thread and of one that it starts.
    fn scheduled(mut command: Command) -> String {
        command.args([
            "python3",
            "-c",
            "import os, threading as t\n\
             look = lambda: print(os.sched_getscheduler(0) & 15, os.getpriority(os.PRIO_PROCESS, t.get_native_id()))\n\
             look(); o = t.Thread(target=look); o.start(); o.join()",
        ]);
        command.stdout(Stdio::piped());
        let done = start(command).unwrap().wait_with_output().unwrap();
        assert!(done.status.success());
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn only_the_first_thread_of_a_punctual_program_comes_first() {
        let fifo = if *ALLOWS_REAL_TIME { "1" } else { "0" };
        assert_eq!(scheduled(bound_punctual("env")), format!("{fifo} 0\n0 0\n"));
    }

    #[test]
    fn all_of_a_program_that_stands_behind_stands_there() {
        assert_eq!(scheduled(bound_behind("env")), "0 15\n0 15\n");
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut child = std::thread::spawn(|| {
            let mut command = bound("sleep");
            command.arg("600");
            start(command).unwrap()
        })
        .join()
        .unwrap();
        assert!(
            child.try_wait().unwrap().is_none(),
            "killed when the asking thread ended"
        );
        end(&mut child);
        assert!(child.try_wait().unwrap().is_some());
    }
}
