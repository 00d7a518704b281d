//! Guest images as their distributions ship them, built once and kept under the hash of their recipe.
//!
//! The recipe is the scripts in `tests/image/` plus the suite and kernel named here; change either and the next run
//! builds anew. A half-built image is never seen: it is built beside its place and renamed when complete.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::testbed::cache::{self, Cache, Lock};

/// What a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Image {
    /// bookworm: systemd 252, kernel 6.1.
    Debian12,
    /// trixie: systemd 257, kernel 6.12.
    Debian13,
    /// bookworm with the services and the batch system that benchmarks compare; built when one needs it.
    Bench,
}

/// The files of a finished image.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    /// Root file system, raw ext4; never written to.
    pub disk: PathBuf,
    /// Kernel for direct boot.
    pub kernel: PathBuf,
    /// Root's ssh key.
    pub key: PathBuf,
    /// Kernel and systemd version, one a line.
    pub versions: String,
    /// Names this very build.
    pub id: String,
}

/// The scripts, carried in the binary so that it works from any folder.
const SCRIPTS: [(&str, &str); 4] = [
    ("build.sh", include_str!("../../image/build.sh")),
    ("customize.sh", include_str!("../../image/customize.sh")),
    ("guest-setup", include_str!("../../image/guest-setup")),
    ("guest-probe", include_str!("../../image/guest-probe")),
];

impl Image {
    /// Every image.
    pub const ALL: [Self; 3] = [Self::Debian12, Self::Debian13, Self::Bench];
    /// Those that tests use.
    pub const STOCK: [Self; 2] = [Self::Debian12, Self::Debian13];

    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "debian12",
            Self::Debian13 => "debian13",
            Self::Bench => "bench",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Debian12 | Self::Bench => "bookworm",
            Self::Debian13 => "trixie",
        }
    }

    /// The signed kernel of the suite itself, as a regular expression on package names.
    fn kernel_package(self) -> &'static str {
        match self {
            Self::Debian12 | Self::Bench => r"linux-image-6\.1\.[0-9.]+-[0-9]+-cloud-amd64",
            Self::Debian13 => r"linux-image-6\.12\.[0-9.]+[+]deb13-cloud-amd64",
        }
    }

    /// What it has beyond the packages of every image.
    fn more_packages(self) -> &'static [&'static str] {
        match self {
            Self::Debian12 | Self::Debian13 => &[],
            Self::Bench => &["redis-server", "postgresql", "slurm-wlm", "munge"],
        }
    }

    /// Hash of everything that goes into the image, shortened.
    fn recipe(self) -> String {
        let mut hash = Sha256::new();
        for text in [self.suite(), self.kernel_package()]
            .into_iter()
            .chain(self.more_packages().iter().copied())
            .chain(SCRIPTS.iter().flat_map(|(name, text)| [*name, *text]))
        {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        data_encoding::HEXLOWER.encode(&hash.finalize()[..6])
    }

    /// Name of its folder in the cache.
    fn id(self) -> String {
        format!("{}-{}", self.name(), self.recipe())
    }

    /// The finished image; builds it when the cache lacks it, or waits for the process that is building it.
    ///
    /// # Errors
    /// When the build fails; its output has been shown.
    pub fn ensure(self, cache: &Cache) -> Result<ImageFiles> {
        let id = self.id();
        let place = cache.images().join(&id);
        if !place.exists() {
            let _lock = Lock::wait(&cache.images().join(format!("{}.lock", self.name())))?;
            if !place.exists() {
                self.build(&cache.images(), &place)?;
            }
        }
        let versions =
            fs::read_to_string(place.join("versions")).with_context(|| format!("read versions of {id}"))?;
        Ok(ImageFiles {
            disk: place.join("disk.img"),
            kernel: place.join("vmlinuz"),
            key: place.join("id_ed25519"),
            versions,
            id,
        })
    }

    /// Caller holds the lock of this image.
    fn build(self, images: &Path, place: &Path) -> Result<()> {
        eprintln!("testbed: building the image {} (about a minute)", self.name());
        // A folder of this process alone: the scripts of a build that was killed may still be at work in theirs.
        let prefix = format!(".building-{}-", self.name());
        for entry in fs::read_dir(images).context("read the image folder")? {
            let entry = entry.context("read the image folder")?;
            if entry.file_name().to_string_lossy().starts_with(&prefix)
                && let Err(error) = remove_tree(&entry.path())
            {
                eprintln!("testbed: {error:#}");
            }
        }
        let work = images.join(format!("{prefix}{}", std::process::id()));
        fs::create_dir_all(work.join("scripts")).with_context(|| format!("make {}", work.display()))?;
        for (name, text) in SCRIPTS {
            let path = work.join("scripts").join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("make {} executable", path.display()))?;
        }
        let out = work.join("out");
        fs::create_dir(&out).with_context(|| format!("make {}", out.display()))?;
        let mut build = as_root("bash");
        build
            .arg(work.join("scripts/build.sh"))
            .args([self.suite(), self.kernel_package()]);
        build.arg(&out).arg(mirror()).args(self.more_packages());
        build.stdout(Stdio::null());
        let status = build.status().context("start the image build")?;
        ensure!(
            status.success(),
            "building the image {} failed ({status})",
            self.name()
        );
        fs::rename(&out, place).with_context(|| format!("put {} in place", place.display()))?;
        remove_tree(&work)
    }
}

/// Removes images of older recipes; their guests could not boot again, so no fleet may be up.
///
/// # Errors
/// When a fleet is up or a folder cannot be removed.
pub fn prune(cache: &Cache) -> Result<()> {
    let live = cache::live(cache)?;
    ensure!(
        live.is_empty(),
        "fleets are up that may use old images: {}",
        live.join(", ")
    );
    let current: Vec<String> = Image::ALL.iter().map(|image| image.id()).collect();
    for entry in fs::read_dir(cache.images()).context("read the image folder")? {
        let path = entry.context("read the image folder")?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !current.contains(&name) {
            remove_tree(&path)?;
            println!("removed {name}");
        }
    }
    Ok(())
}

/// Trees of another root's files need root to go.
fn remove_tree(path: &Path) -> Result<()> {
    if path.exists() {
        let status = as_root("rm")
            .args(["-rf", "--one-file-system"])
            .arg(path)
            .status()
            .context("start rm")?;
        ensure!(status.success(), "cannot remove {} ({status})", path.display());
    }
    Ok(())
}

/// Directly as root, else through sudo.
fn as_root(program: &str) -> Command {
    if nix::unistd::Uid::effective().is_root() {
        Command::new(program)
    } else {
        let mut command = Command::new("sudo");
        command.arg(program);
        command
    }
}

/// The Debian archive this machine is configured for, so that a site's mirror is used for guests as well.
fn mirror() -> String {
    const DEFAULT: &str = "http://deb.debian.org/debian";
    let listed = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(SITE)",
            "Created-By: Packages",
            "Component: main",
        ])
        .output();
    let Ok(output) = listed else { return DEFAULT.into() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find(|site| site.trim_end_matches('/').ends_with("/debian"))
        .unwrap_or(DEFAULT)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_its_own_recipe() {
        assert_ne!(Image::Debian12.recipe(), Image::Debian13.recipe());
        assert_ne!(Image::Debian12.recipe(), Image::Bench.recipe());
        assert_eq!(Image::Debian12.recipe(), Image::Debian12.recipe());
    }
}
