//! The reserve of node.toml as a drop-in of loadline.slice, so that the line holds with the warden dead and
//! from the first moment of the next boot. CPUs never stand in it: they are set at run time, after the probe.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use loadline_model::{Bytes, MilliCpu};
use loadline_policy::settings::{Limit, QUOTA_PERIOD_US, SliceSettings};

/// Where the drop-in lies.
pub const DROP_IN: &str = "/etc/systemd/system/loadline.slice.d/10-reserve.conf";

/// Why the drop-in could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {} failed: the reserve holds only while loadline-warden runs", path.display())]
pub struct DropInError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The drop-in's text.
pub fn render(settings: &SliceSettings) -> String {
    let quota = match settings.cpu_quota {
        Limit::Max => String::new(),
        // Whole percents: systemd 252 keeps no finer ones.
        Limit::At(MilliCpu(quota)) => format!("{}%", quota / 10),
    };
    let bytes = |limit: Limit<Bytes>| match limit {
        Limit::Max => "infinity".to_owned(),
        Limit::At(Bytes(amount)) => amount.to_string(),
    };
    let tasks = match settings.tasks_max {
        Limit::Max => "infinity".to_owned(),
        Limit::At(tasks) => tasks.to_string(),
    };
    format!(
        "# Written by loadline-warden from /etc/loadline/node.toml; changes here are lost.\n\
         [Slice]\nCPUQuota={quota}\nCPUQuotaPeriodSec={QUOTA_PERIOD_US}us\nMemoryHigh={}\nMemoryMax={}\nMemorySwapMax={}\nTasksMax={tasks}\n",
        bytes(settings.memory_high),
        bytes(settings.memory_max),
        bytes(settings.memory_swap_max),
    )
}

/// Writes the drop-in if its text differs; true if it did, and systemd must load it.
///
/// # Errors
/// When it cannot be written; what was there stays.
pub fn write(path: &Path, text: &str) -> Result<bool, DropInError> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    let replace = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let draft = path.with_extension("conf.new");
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    let failed = |source| DropInError {
        path: path.to_owned(),
        source,
    };
    replace().map_err(failed).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadline_model::{NumaNode, Thread, Topology};
    use loadline_policy::line::Line;
    use loadline_policy::node_policy::NodePolicy;
    use loadline_policy::settings::{Pinning, Setpoints, slice_settings};

    fn settings() -> SliceSettings {
        let thread = |cpu| Thread {
            cpu,
            core: cpu,
            l3: 0,
            numa: 0,
            socket: 0,
        };
        let memory = Bytes::from_gib(4);
        let topology = Topology::new((0..4).map(thread).collect(), vec![NumaNode { id: 0, memory }]).unwrap();
        let line = Line::fixed(&topology, 0, &NodePolicy::default());
        let [root, ..] = slice_settings(&line, &Pinning::Cpuset, &Setpoints::default(), Bytes::ZERO);
        root
    }

    #[test]
    fn the_drop_in_says_the_line_and_no_cpus() {
        // 4 CPUs − 1 reserved − 20 % of 4; 4 GiB − 10 % − 10 %.
        let text = render(&settings());
        assert!(
            text.contains("\nCPUQuota=220%\nCPUQuotaPeriodSec=10000us\n"),
            "{text}"
        );
        assert!(
            text.contains(&format!("\nMemoryMax={}\n", settings_bytes(&settings()))),
            "{text}"
        );
        assert!(text.contains("\nMemorySwapMax=0\n"), "{text}");
        assert!(!text.contains("AllowedCPUs"), "{text}");
    }

    fn settings_bytes(settings: &SliceSettings) -> u64 {
        let Limit::At(Bytes(bytes)) = settings.memory_max else {
            panic!("no limit")
        };
        assert!(bytes > Bytes::from_gib(3).0 && bytes < Bytes::from_gib(4).0);
        bytes
    }

    #[test]
    fn the_same_text_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loadline.slice.d/10-reserve.conf");
        let text = render(&settings());
        assert!(write(&path, &text).unwrap());
        assert!(!write(&path, &text).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(write(&path, "other").unwrap());
    }
}
