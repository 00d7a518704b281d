//! Who of this program's threads goes before production's, and who behind.
//!
//! The headroom loop has to come when production has every CPU; all else can wait. A thread at the usual priority that
//! reads kernel files for some milliseconds is not put aside for a request of production that comes meanwhile: the
//! scheduler lets such a request wait as if for one of its own kind (CFS: wakeup granularity; EEVDF: slice).

use std::io;

use loadline_policy::settings::Place;
use procfs::process::Process;
use rustix::io::Errno;
use rustix::process::{Pid, setpriority_process};
use rustix::thread::gettid;

/// As low as the warden's unit lets it be (`LimitNICE=`) is 0. The agent's unit says `Behind`.
const fn nice(place: Place) -> i32 {
    match place {
        Place::Last => 19,
        // A third of the usual weight.
        Place::Behind => 5,
        Place::Beside => 0,
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
        match setpriority_process(Some(thread), nice(place)) {
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
    fn nice_here() -> i64 {
        let program = Process::myself().unwrap();
        let thread = program.task_from_tid(gettid().as_raw_nonzero().get()).unwrap();
        thread.stat().unwrap().nice
    }

    #[test]
    fn all_but_the_one_that_asks_step_back_and_whatever_they_start() {
        let (go, told): (Sender<()>, Receiver<()>) = channel();
        let other = thread::spawn(move || {
            told.recv().unwrap();
            (nice_here(), thread::spawn(nice_here).join().unwrap())
        });
        let asking = thread::spawn(|| {
            let before = nice_here();
            place_others(Place::Last).unwrap();
            (before, nice_here())
        });
        let (before, after) = asking.join().unwrap();
        assert_eq!(after, before);
        go.send(()).unwrap();
        assert_eq!(other.join().unwrap(), (19, 19));
    }
}
