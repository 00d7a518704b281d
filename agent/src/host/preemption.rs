//! Where this kernel leaves lent work for production: anywhere, or in the kernel only at some places.
//!
//! Distributions deliver the latter (`voluntary`): a request of production then waits until lent work that is in the
//! kernel, clearing or freeing pages say, comes to such a place. Kernels with `PREEMPT_DYNAMIC` have both, chosen at
//! the boot or, where debugfs is mounted, at any time.

use super::root::HostRoot;

/// Which it is now, where debugfs shows it: the one in parentheses.
const NOW: &str = "/sys/kernel/debug/sched/preempt";

/// None: anywhere. Else why not, in a few words.
pub(super) fn problem(root: &HostRoot, release: &str) -> Option<String> {
    let text = |path: &str| root.text(path).unwrap_or_default();
    if let Some(now) = chosen(&text(NOW)) {
        return of_word(&now);
    }
    let version = text("/proc/version");
    let built = |how: &str| version.split_whitespace().any(|word| word == how);
    if built("PREEMPT") || built("PREEMPT_RT") {
        return None;
    }
    if !built("PREEMPT_DYNAMIC") {
        return Some("this kernel has no other way".into());
    }
    let told = text("/proc/cmdline");
    let told = told.split_whitespace().rev();
    let told = told.filter_map(|word| word.strip_prefix("preempt=")).next();
    match told.or_else(|| of_build(&text(&format!("/boot/config-{release}")))) {
        Some(word) => of_word(word),
        None => Some(format!("how it is set is shown neither in {NOW} nor in /boot")),
    }
}

fn of_word(word: &str) -> Option<String> {
    (word != "full").then(|| format!("it is set to {word}"))
}

/// Of `none voluntary (full)`.
fn chosen(now: &str) -> Option<String> {
    let word = now.split_whitespace().find_map(|word| word.strip_prefix('('))?;
    word.strip_suffix(')').map(ToOwned::to_owned)
}

/// What a kernel does that is told nothing.
fn of_build(config: &str) -> Option<&'static str> {
    let has = |option: &str| config.lines().any(|line| line.strip_suffix("=y") == Some(option));
    [
        ("CONFIG_PREEMPT", "full"),
        ("CONFIG_PREEMPT_LAZY", "lazy"),
        ("CONFIG_PREEMPT_VOLUNTARY", "voluntary"),
        ("CONFIG_PREEMPT_NONE", "none"),
    ]
    .into_iter()
    .find_map(|(option, word)| has(option).then_some(word))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DYNAMIC: &str = "Linux version 6.1.0 (gcc 12) #1 SMP PREEMPT_DYNAMIC Debian 6.1.1-1\n";

    fn seen(files: &[(&str, &str)]) -> Option<String> {
        let place = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        problem(&HostRoot::new(place.path()), "6.1.0")
    }

    #[test]
    fn what_is_in_force_counts_then_what_was_told_then_what_was_built() {
        let now = "sys/kernel/debug/sched/preempt";
        let (version, told, built) = ("proc/version", "proc/cmdline", "boot/config-6.1.0");
        let set = |word: &str| Some(format!("it is set to {word}"));
        let full = "root=/dev/vda preempt=voluntary preempt=full\n";
        let voluntary = "# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_PREEMPT_DYNAMIC=y\n";
        for (files, problem) in [
            (
                vec![(now, "none voluntary (full) \n"), (told, "preempt=none")],
                None,
            ),
            (
                vec![(now, "none (voluntary) full \n"), (told, full)],
                set("voluntary"),
            ),
            (vec![(version, DYNAMIC), (told, full), (built, voluntary)], None),
            (
                vec![(version, DYNAMIC), (told, "quiet"), (built, voluntary)],
                set("voluntary"),
            ),
            (vec![(version, DYNAMIC), (built, "CONFIG_PREEMPT=y\n")], None),
            (
                vec![(version, DYNAMIC), (built, "CONFIG_PREEMPT_LAZY=y\n")],
                set("lazy"),
            ),
            (
                vec![(version, "Linux version 6.1.0-rt #1 SMP PREEMPT_RT Debian\n")],
                None,
            ),
            (vec![(version, "Linux version 4.4.0 #1 SMP PREEMPT Mon\n")], None),
        ] {
            assert_eq!(seen(&files), problem, "{files:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_called_good() {
        let unknown = seen(&[("proc/version", DYNAMIC)]).unwrap();
        assert!(unknown.contains("/sys/kernel/debug/sched/preempt"), "{unknown}");
        let old = seen(&[("proc/version", "Linux version 4.4.0 #1 SMP Mon\n")]).unwrap();
        assert_eq!(old, "this kernel has no other way");
    }
}
