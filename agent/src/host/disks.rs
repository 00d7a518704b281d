//! The machine's own disks: those on which a limit of bandwidth is put.
//!
//! What lies on other disks (dm, md) hands its requests on to them, and they are counted and limited there once more:
//! only the lowest layer is listed. Where io.cost is on for a disk, weights hold its IO, and its bandwidth is left
//! alone. Memory that looks like a disk (loop, ram, zram) is none.

use std::fs;

use loadline_policy::settings::weighed;

use super::cgroup::MOUNT;
use super::io_cost::QOS;
use super::root::HostRoot;

const FOLDER: &str = "/sys/block";
/// Not disks, whatever their size.
const NONE: [&str; 5] = ["loop", "ram", "zram", "sr", "fd"];

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    /// As the kernel's cgroup files name it, `8:0`.
    pub number: String,
    /// As systemd wants it, `/dev/sda`.
    pub device: String,
    /// As `/sys/block` has it, `sda`.
    pub name: String,
    /// Its IO goes by weight (io.cost), so its bandwidth is left alone.
    pub by_weight: bool,
}

/// All of them, sorted; none where there is no such folder, as in many containers.
pub fn list(root: &HostRoot) -> Vec<Disk> {
    let entries = fs::read_dir(root.path(FOLDER)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let qos = root.text(&format!("{MOUNT}/{QOS}")).unwrap_or_default();
    let by_weight = weighed(&qos);
    let mut disks: Vec<Disk> = names
        .filter_map(|name| disk(root, &name))
        .map(|disk| Disk {
            by_weight: by_weight.contains(disk.number.as_str()),
            ..disk
        })
        .collect();
    disks.sort();
    disks
}

fn disk(root: &HostRoot, name: &str) -> Option<Disk> {
    if NONE.iter().any(|none| name.starts_with(none)) {
        return None;
    }
    let text = |file: &str| root.text(&format!("{FOLDER}/{name}/{file}")).ok();
    // Paths of a disk with several are hidden and have no device; drives without a medium have no size.
    let is_real = text("size").is_some_and(|size| size != "0") && text("hidden").is_none_or(|it| it == "0");
    let below = fs::read_dir(root.path(&format!("{FOLDER}/{name}/slaves")));
    let lies_on_others = below.is_ok_and(|mut below| below.next().is_some());
    (is_real && !lies_on_others).then_some(())?;
    Some(Disk {
        number: text("dev")?,
        // The kernel writes `!` where the device's name has a folder.
        device: format!("/dev/{}", name.replace('!', "/")),
        name: name.into(),
        by_weight: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lowest_layer_is_listed() {
        let place = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = place.path().join("sys/block").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (name, dev, size) in [
            ("vdb", "254:16\n", "2048\n"),
            ("vda", "254:0\n", "4096\n"),
            ("cciss!c0d0", "104:0\n", "4096\n"),
            ("loop0", "7:0\n", "100\n"),
            ("zram0", "252:0\n", "100\n"),
            ("sr0", "11:0\n", "100\n"),
            ("nbd0", "43:0\n", "0\n"),
            ("dm-0", "253:0\n", "4000\n"),
            ("nvme0c0n1", "259:1\n", "9\n"),
        ] {
            put(&format!("{name}/dev"), dev);
            put(&format!("{name}/size"), size);
        }
        put("nvme0c0n1/hidden", "1\n");
        put("dm-0/slaves/vda", "");
        let found = list(&HostRoot::new(place.path()));
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|disk| (disk.number.as_str(), disk.device.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("104:0", "/dev/cciss/c0d0"),
                ("254:0", "/dev/vda"),
                ("254:16", "/dev/vdb")
            ]
        );
        assert_eq!(list(&HostRoot::new(place.path().join("nowhere"))), []);
    }
}
