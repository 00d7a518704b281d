//! CPU time of everything on the machine since boot: what its CPUs were not idle.
//!
//! Touches `/proc/stat`, `/proc/uptime` and the list of online CPUs, reads only. Kernels that count use by ticks see what
//! happens to run when one comes: beside lent work under a quota, whose periods keep step with the ticks, they were wrong by
//! up to 14 % of a CPU (Linux 6.1). How long a CPU was idle they measure. `/proc/stat` is long where CPUs and interrupts
//! are many, so it is nothing to be read ten times a second.

use loadline_model::Span;

use super::root::HostRoot;

/// Idle CPUs, and the machine's uptime.
pub(super) const STAT: &str = "/proc/stat";
/// Seconds with two decimals.
pub(super) const UPTIME: &str = "/proc/uptime";
/// `/proc/stat` counts hundredths of a second on every architecture.
const HUNDREDTH: Span = Span::from_millis(10);
/// In the first line of `/proc/stat`: user, nice and system come before.
const IDLE: usize = 3;

/// None where the kernel does not tell.
pub(super) fn since_boot(root: &HostRoot) -> Option<Span> {
    let read = |path: &str| root.text(path).ok();
    let idle = idle(read(STAT)?.as_bytes())?;
    Some(busy(uptime(read(UPTIME)?.as_bytes())?, online(root)?, idle))
}

/// How many CPUs are online.
pub(super) fn online(root: &HostRoot) -> Option<u64> {
    let cpus = root.cpus("/sys/devices/system/cpu/online").ok()?;
    u64::try_from(cpus.iter().count()).ok()
}

/// True if some CPU has no tick while one thread runs on it: what that thread uses is added to its cgroup once a second, and
/// to the root's total as it goes.
pub(super) fn is_tickless(root: &HostRoot) -> bool {
    // Where there is none, older kernels write a word that is no list.
    root.cpus("/sys/devices/system/cpu/nohz_full")
        .is_ok_and(|cpus| cpus.iter().next().is_some())
}

/// What so many CPUs did in all that time but be idle.
pub(super) const fn busy(uptime: Span, cpus: u64, idle: Span) -> Span {
    uptime.times(cpus).minus(idle)
}

/// Time that CPUs were idle, waiting for a disk or not, of `/proc/stat`.
pub(super) fn idle(stat: &[u8]) -> Option<Span> {
    let line = stat.split(|byte| *byte == b'\n').next()?;
    let mut fields = line.strip_prefix(b"cpu ")?.split(|byte| *byte == b' ');
    let mut numbers = fields
        .by_ref()
        .filter(|field| !field.is_empty())
        .skip(IDLE)
        .map(number);
    let (idle, disk) = (numbers.next()??, numbers.next()??);
    Some(HUNDREDTH.times(idle.saturating_add(disk)))
}

/// The first number of `/proc/uptime`.
pub(super) fn uptime(text: &[u8]) -> Option<Span> {
    let first = text.split(|byte| *byte == b' ').next()?;
    let mut parts = first.split(|byte| *byte == b'.');
    let (seconds, hundredths) = (number(parts.next()?)?, parts.next()?);
    let hundredths = (hundredths.len() == 2).then_some(hundredths)?;
    Some(Span::from_secs(seconds).plus(HUNDREDTH.times(number(hundredths)?)))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_all_time_that_no_cpu_was_idle() {
        let stat = b"cpu  19 2 30 400 50 6 7 0 0 0\ncpu0 9 1 15 200 25 3 3 0 0 0\nintr 5 0 0\n";
        let idle = idle(stat).unwrap();
        assert_eq!(idle, Span::from_millis(4_500));
        let uptime = uptime(b"2.57 4.00\n").unwrap();
        assert_eq!(uptime, Span::from_millis(2_570));
        assert_eq!(busy(uptime, 2, idle), Span::from_millis(640));
        assert_eq!(busy(uptime, 1, idle), Span::ZERO, "a CPU went offline");
    }

    #[test]
    fn what_is_not_told_is_not_zero() {
        for stat in [
            "",
            "cpu\n",
            "cpu  1 2 3 4\n",
            "cpu  1 2 3 4 x\n",
            "cpu0 1 2 3 4 5\n",
        ] {
            assert_eq!(idle(stat.as_bytes()), None, "{stat:?}");
        }
        for text in ["", "12 4.00", "12.5 4.00", "x.50 1.00"] {
            assert_eq!(uptime(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(since_boot(&HostRoot::new(std::path::Path::new("/nowhere"))), None);
    }
}
