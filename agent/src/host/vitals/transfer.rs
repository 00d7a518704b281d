//! What a cgroup read and wrote, added up over the machine's own disks.

use std::path::PathBuf;

use loadline_model::Bytes;
use loadline_policy::headroom::sample::Transferred;

use super::open::{Buffer, Counter, number};
use crate::host::disks;
use crate::host::root::HostRoot;

/// `io.stat` of a cgroup.
#[derive(Debug)]
pub(super) struct Transfers {
    counter: Counter,
    /// The numbers of the disks whose bandwidth is held, with the blank behind: what lies on a disk would count twice.
    disks: Vec<String>,
}

impl Transfers {
    pub(super) const fn new(file: PathBuf) -> Self {
        Self {
            counter: Counter::new(file),
            disks: Vec::new(),
        }
    }

    /// Looks up the disks again.
    pub(super) fn scan(&mut self, root: &HostRoot) {
        self.disks.clear();
        let held = disks::list(root).into_iter().filter(|disk| !disk.by_weight);
        let numbers = held.map(|disk| disk.number + " ");
        self.disks.extend(numbers);
    }

    /// None without the io controller, or where no disk's bandwidth is held. A disk that was not used has no line.
    pub(super) fn totals(&mut self, buffer: &mut Buffer) -> Option<Transferred> {
        let disks = &self.disks;
        if disks.is_empty() {
            return None;
        }
        self.counter.text(buffer, |text| {
            let of = |disk: &String, mark: &str| {
                Bytes(number(text, disk.as_bytes(), mark.as_bytes()).unwrap_or(0))
            };
            let add = |sum: Transferred, disk| Transferred {
                read: sum.read.plus(of(disk, "rbytes=")),
                written: sum.written.plus(of(disk, "wbytes=")),
            };
            disks.iter().fold(Transferred::default(), add)
        })
    }
}
