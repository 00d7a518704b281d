//! Wakes the headroom loop when production begins to wait: the kernel's own pressure triggers on production's cgroups.
//!
//! A tick of 100 ms sees a stall too, up to a tick later; so triggers that are refused cost time and nothing else.
//! Kernels before 6.5 take no window below 500 ms, and without CAP_SYS_RESOURCE none takes a short one: what is
//! refused is tried with longer windows, and which one is in use is told. Only the real hierarchy has triggers: in a
//! folder of plain files nothing is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loadline_model::Span;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use tracing::{info, warn};

use super::cgroup::MOUNT;
use super::root::HostRoot;
use super::siblings::siblings;

/// As often as the loop looks for new cgroups itself.
const RESCAN: Span = Span::from_secs(10);
/// Three for each of twenty cgroups; a machine with more of them right below the root has the tick for the rest.
const MOST: usize = 60;

/// How short the windows of the triggers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// 100 ms, of disks 200 ms: what is wanted.
    #[default]
    Short,
    /// 500 ms.
    Half,
    /// 1 s.
    Second,
    /// The kernel takes none of them: the tick has to do.
    None,
}

impl Window {
    /// The word used in logs and tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Short => "100 ms",
            Self::Half => "500 ms",
            Self::Second => "1 s",
            Self::None => "none: the tick only",
        }
    }

    /// How long they are; none: there are no triggers.
    pub const fn span(self) -> Option<Span> {
        match self {
            Self::Short => Some(Span::from_millis(100)),
            Self::Half => Some(Span::from_millis(500)),
            Self::Second => Some(Span::from_secs(1)),
            Self::None => None,
        }
    }

    /// What is missed with them, as a clause.
    pub fn problem(self) -> Option<String> {
        match (self, self.span()) {
            (Self::Short, _) => None,
            (_, Some(span)) => Some(format!("the kernel takes no window shorter than {span}")),
            (_, None) => Some("the kernel takes no trigger from this program".to_owned()),
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Short => Self::Half,
            Self::Half => Self::Second,
            Self::Second | Self::None => Self::None,
        }
    }
}

/// What is watched of each cgroup: in a short window half of what is bad of CPUs, and all of it of memory and disks. A
/// longer one wakes at what is bad too, not at a part of itself: the kernel tells of it once in a window, and with a
/// tenth of 500 ms it told of a stall when the tick had seen it.
const WATCHED: [Watched; 3] = [
    Watched {
        file: "cpu.pressure",
        triggers: ["full 10000 100000", "full 20000 500000", "full 20000 1000000"],
    },
    Watched {
        file: "memory.pressure",
        triggers: ["full 5000 100000", "full 5000 500000", "full 5000 1000000"],
    },
    Watched {
        file: "io.pressure",
        triggers: ["full 20000 200000", "full 20000 500000", "full 20000 1000000"],
    },
];

#[derive(Debug, Clone, Copy)]
struct Watched {
    file: &'static str,
    /// By window, shortest first.
    triggers: [&'static str; 3],
}

impl Watched {
    const fn trigger(&self, window: Window) -> Option<&'static str> {
        let [short, half, second] = self.triggers;
        match window {
            Window::Short => Some(short),
            Window::Half => Some(half),
            Window::Second => Some(second),
            Window::None => None,
        }
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Production waits.
    Pressure,
    /// Time passed.
    Tick,
}

/// One trigger. It lasts as long as its file is open.
#[derive(Debug)]
struct Trigger<F> {
    cgroup: PathBuf,
    file: F,
}

/// How short the windows may be here, tried on one cgroup of production: its trigger is gone with the answer. None: this is
/// no cgroup tree, or has nothing to try it on.
pub fn probe(root: &HostRoot) -> Option<Window> {
    let mut alarm = Alarm::new(root);
    if alarm.window == Window::None {
        return None;
    }
    for cgroup in siblings(&alarm.mount).ok()? {
        alarm.watch(&cgroup);
        if alarm.window == Window::None || !alarm.triggers.is_empty() {
            return Some(alarm.window);
        }
    }
    None
}

/// All triggers.
#[derive(Debug)]
pub struct Alarm<F = File> {
    mount: PathBuf,
    triggers: Vec<Trigger<F>>,
    window: Window,
    scanned: Option<Span>,
}

impl Alarm {
    /// Of the machine whose files are there. Nothing is opened yet.
    pub fn new(root: &HostRoot) -> Self {
        let mount = root.path(MOUNT);
        let real = statfs(&mount).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
        Self {
            window: if real { Window::Short } else { Window::None },
            mount,
            triggers: Vec::with_capacity(MOST),
            scanned: None,
        }
    }

    /// Now and then: cgroups that are new get their triggers, and of those that are gone none is kept.
    pub fn scan(&mut self, now: Span) {
        let due = self.scanned.is_none_or(|scanned| now.minus(scanned) >= RESCAN);
        if !due || self.window == Window::None {
            return;
        }
        let (first, before) = (self.scanned.replace(now).is_none(), self.window);
        self.triggers.retain(|trigger| trigger.cgroup.is_dir());
        let Ok(production) = siblings(&self.mount) else {
            return;
        };
        for cgroup in production {
            if !self.triggers.iter().any(|trigger| trigger.cgroup == cgroup) {
                self.watch(&cgroup);
            }
        }
        if first || self.window != before {
            info!(
                window = self.window.word(),
                triggers = self.triggers.len(),
                "pressure triggers"
            );
        }
    }

    fn watch(&mut self, cgroup: &Path) {
        for watched in WATCHED {
            if self.triggers.len() >= MOST {
                return;
            }
            let found = try_each(&mut self.window, |window| match watched.trigger(window) {
                Some(trigger) => set(&cgroup.join(watched.file), trigger).map(Some),
                None => Ok(None),
            });
            match found {
                Ok(Some(file)) => self.triggers.push(Trigger {
                    cgroup: cgroup.to_owned(),
                    file,
                }),
                Ok(None) => {}
                // Gone meanwhile, or the kernel does not count this.
                Err(error) if matches!(error.raw_os_error(), Some(code) if quiet(Errno::from_raw(code))) => {}
                Err(error) => {
                    warn!(%error, cgroup = %cgroup.display(), file = watched.file, "pressure trigger")
                }
            }
        }
    }
}

impl<F: AsFd> Alarm<F> {
    /// The windows in use: none where nothing is watched.
    pub const fn window(&self) -> Window {
        if self.triggers.is_empty() {
            Window::None
        } else {
            self.window
        }
    }

    /// Waits until production waits, or for so long. Nothing is allocated.
    ///
    /// # Errors
    /// When the kernel does not let us wait.
    pub fn wait(&mut self, length: Duration) -> io::Result<Woken> {
        let length = PollTimeout::try_from(length).unwrap_or(PollTimeout::MAX);
        let Some(first) = self.triggers.first() else {
            poll(&mut [], length).or_else(|problem| match problem {
                Errno::EINTR => Ok(0),
                other => Err(other),
            })?;
            return Ok(Woken::Tick);
        };
        // What is left over asks for nothing.
        let mut asked: [PollFd<'_>; MOST] =
            std::array::from_fn(|_| PollFd::new(first.file.as_fd(), PollFlags::empty()));
        for (place, trigger) in asked.iter_mut().zip(&self.triggers) {
            *place = PollFd::new(trigger.file.as_fd(), PollFlags::POLLPRI);
        }
        let count = self.triggers.len().min(MOST);
        let (asked, _) = asked.split_at_mut(count);
        match poll(asked, length) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Woken::Tick),
            Ok(_) => {}
            Err(problem) => return Err(problem.into()),
        }
        let (mut woken, mut gone) = (Woken::Tick, [false; MOST]);
        for (place, gone) in asked.iter().zip(&mut gone) {
            let told = place.revents().unwrap_or(PollFlags::empty());
            // Its cgroup was removed: it would wake us for ever.
            *gone = told.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL);
            if told.contains(PollFlags::POLLPRI) && !*gone {
                woken = Woken::Pressure;
            }
        }
        let mut gone = gone.into_iter();
        self.triggers.retain(|_| !gone.next().unwrap_or(false));
        Ok(woken)
    }
}

/// Tries with longer windows for as long as the kernel refuses them, and remembers which it takes.
fn try_each<T>(
    window: &mut Window,
    mut set: impl FnMut(Window) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    loop {
        match set(*window) {
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINVAL) if *window != Window::None => *window = window.next(),
                Some(Errno::EPERM | Errno::EACCES | Errno::EROFS) => {
                    *window = Window::None;
                    return Ok(None);
                }
                _ => return Err(error),
            },
            set => return set,
        }
    }
}

const fn quiet(problem: Errno) -> bool {
    matches!(problem, Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP)
}

fn set(path: &Path, trigger: &str) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    // With its end, as the kernel's manual has it.
    let mut text = [0; 32];
    let length = trigger.len().min(text.len() - 1);
    text[..length].copy_from_slice(&trigger.as_bytes()[..length]);
    file.write_all(&text[..=length])?;
    Ok(file)
}

#[cfg(test)]
mod tests;
