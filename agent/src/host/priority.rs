//! Who of this program's threads goes before production's, and who behind.
//!
//! The headroom loop has to come when production has every CPU; all else can wait. A thread at the usual priority that
//! reads kernel files for some milliseconds is not put aside for a request of production that comes meanwhile: the
//! scheduler lets such a request wait as if for one of its own kind (CFS: wakeup granularity; EEVDF: slice).

use std::io;

use procfs::process::Process;
use rustix::io::Errno;
use rustix::process::{Pid, setpriority_process};
use rustix::thread::gettid;

/// Where threads stand beside production's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Production goes before them.
    Behind,
    /// As production's own do.
    Beside,
}

impl Place {
    const fn nice(self) -> i32 {
        match self {
            // A third of the usual weight: little enough to be put aside at once. The agent's unit says the same.
            Self::Behind => 5,
            // As low as the warden's unit lets it (LimitNICE=).
            Self::Beside => 0,
        }
    }
}

/// Places every other thread of this program, and with them those that they start from now on.
///
/// # Errors
/// When the threads cannot be listed, or one cannot be placed there.
pub fn place_others(place: Place) -> io::Result<()> {
    let threads = Process::myself()
        .and_then(|program| program.tasks())
        .map_err(io::Error::other)?;
    for thread in threads {
        let thread = Pid::from_raw(thread.map_err(io::Error::other)?.tid);
        let Some(thread) = thread.filter(|one| *one != gettid()) else {
            continue;
        };
        match setpriority_process(Some(thread), place.nice()) {
            // It has ended.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    /// Of the calling thread.
    fn nice() -> i64 {
        let program = Process::myself().unwrap();
        let thread = program.task_from_tid(gettid().as_raw_nonzero().get()).unwrap();
        thread.stat().unwrap().nice
    }

    #[test]
    fn all_but_the_one_that_asks_step_back_and_whatever_they_start() {
        let (go, told): (Sender<()>, Receiver<()>) = channel();
        let other = thread::spawn(move || {
            told.recv().unwrap();
            (nice(), thread::spawn(nice).join().unwrap())
        });
        let asking = thread::spawn(|| {
            let before = nice();
            place_others(Place::Behind).unwrap();
            (before, nice())
        });
        let (before, after) = asking.join().unwrap();
        assert_eq!(after, before);
        go.send(()).unwrap();
        assert_eq!(other.join().unwrap(), (5, 5));
    }
}
