//! Child processes that cannot outlive the testbed, whether it returns, panics or is killed.
//!
//! The kernel's parent-death signal is tied to the *thread* that started the child, so all children are started by one
//! thread that lives as long as the process. `setpriv` sets the signal and becomes the program (same pid).

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command};
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

/// A command that dies with the testbed once it is started by [`start`].
#[must_use]
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts a command made by [`bound`].
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
