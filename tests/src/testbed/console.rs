//! What a guest's kernel wrote on its console, and the two ways in which the emulator itself loses a boot.
//!
//! Seen once in several hundred boots under emulation: a processor of the guest gets no timer interrupt any more. Its
//! kernel reports that its housekeeping thread was not woken, again and again, and the boot does not end.
//!
//! Seen once in about as many: while the firmware or the kernel moves the windows of PCI devices, another processor reads
//! through a window that has just gone, and QEMU ends itself (its issue 1921, of guests with several CPUs).
//!
//! No software of ours runs then; the machine is switched off and on again, and the testbed says so.

use std::fs;
use std::path::PathBuf;

/// How the kernel (Linux 5.12 and later) names a wake-up that a processor's timer owed it.
const TIMER_LOST: &str = "kthread timer wakeup didn't happen";

/// The function in whose assertion QEMU ends itself.
const WINDOW_GONE: &str = "iotlb_to_section: Assertion";

/// Did QEMU end by its own fault? Takes what is known of its end.
#[must_use]
pub fn own_fault(end: &str) -> bool {
    end.contains(WINDOW_GONE)
}

/// A console log.
#[derive(Debug)]
pub struct Console(pub PathBuf);

impl Console {
    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.read().len()
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        tail(&String::from_utf8_lossy(&self.read()), lines)
    }

    /// The first complaint about a lost timer after so many bytes.
    #[must_use]
    pub fn lost_timer(&self, after: usize) -> Option<String> {
        let bytes = self.read();
        lost_timer(&String::from_utf8_lossy(bytes.get(after..)?)).map(Into::into)
    }

    /// A guest that was never on has written nothing.
    fn read(&self) -> Vec<u8> {
        fs::read(&self.0).unwrap_or_default()
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn lost_timer(text: &str) -> Option<&str> {
    text.lines().find(|line| line.contains(TIMER_LOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALLED: &str = "\
[  358.438295] rcu: \t0-...!: (0 ticks this GP) idle=be90/0/0x0 softirq=119/119 fqs=0 (false positive?)
[  358.438463] rcu: \t(detected by 2, t=5255 jiffies, g=-1107, q=2190 ncpus=4)
[  358.439117] rcu: rcu_preempt kthread timer wakeup didn't happen for 5254 jiffies! g-1107 f0x0 RCU_GP_WAIT_FQS(5)
";
    /// A host that is busy with other things delays its guests too; they go on.
    const SLOW: &str = "\
[   52.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   52.2] rcu: \t(detected by 0, t=5252 jiffies, g=1013, q=77 ncpus=4)
";

    #[test]
    fn a_lost_timer_is_told_from_a_slow_host() {
        assert!(lost_timer(STALLED).unwrap().contains("for 5254 jiffies"));
        assert_eq!(lost_timer(SLOW), None);
    }

    #[test]
    fn qemu_s_own_assertion_is_told_from_other_ends() {
        assert!(own_fault(
            "QEMU ended (signal: 6 (SIGABRT)): qemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: \
             Assertion `section_index < d->map.sections_nb' failed."
        ));
        assert!(!own_fault("QEMU ended (signal: 9 (SIGKILL)):"));
        assert!(!own_fault(
            "QEMU ended (exit status: 1): qemu-system-x86_64: -device nvme: drive with bus=0, unit=0 exists"
        ));
    }

    #[test]
    fn complaints_of_an_earlier_boot_do_not_count() {
        let place = tempfile::tempdir().unwrap();
        let console = Console(place.path().join("console.log"));
        assert_eq!((console.written(), console.lost_timer(0)), (0, None), "never on");
        fs::write(&console.0, STALLED).unwrap();
        let before = console.written();
        assert!(console.lost_timer(0).is_some());
        assert_eq!(console.lost_timer(before), None);
        fs::write(&console.0, format!("{STALLED}{STALLED}")).unwrap();
        assert!(console.lost_timer(before).is_some());
        assert_eq!(console.tail(1).lines().count(), 1);
    }
}
