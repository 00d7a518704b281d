//! One guest: a machine that can be booted, spoken to, rebooted, cut from power and from the network.
//!
//! All methods take `&self`, so that scenarios may use the guests of a fleet from several threads.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::testbed::console::{self, Console};
use crate::testbed::image::ImageFiles;
use crate::testbed::process;
use crate::testbed::qemu::{Accel, Boot, lan_address};
use crate::testbed::qmp::Qmp;
use crate::testbed::spec::GuestSpec;
use crate::testbed::ssh::{Output, Ssh};
use crate::testbed::wait::{Look, wait_for};

const QEMU: &str = "qemu-system-x86_64";
/// Enough for any single command that does not wait on purpose, also on a busy host.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// A boot takes 14 s alone and half a minute in a fleet of three; a host busy with compiling makes it five times that.
const BOOT_LIMIT: Duration = Duration::from_secs(420);
/// So many boots in a row may be lost to the emulator.
const LOST_BOOTS: u8 = 2;

/// How a boot went.
#[derive(Debug)]
enum Boots {
    Up,
    /// What the emulator did.
    Lost(String),
}

/// What the guests of one fleet have in common.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) run: PathBuf,
    pub(crate) accel: Accel,
    pub(crate) lan: String,
    pub(crate) hosts: String,
}

/// One guest of a fleet.
#[derive(Debug)]
pub struct Guest {
    spec: GuestSpec,
    number: u8,
    files: ImageFiles,
    around: Surroundings,
    ssh_port: u16,
    ssh: Ssh,
    machine: Mutex<Option<Machine>>,
}

#[derive(Debug)]
struct Machine {
    qemu: Child,
    master: Option<Child>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(master) = &mut self.master {
            process::end(master);
        }
        process::end(&mut self.qemu);
    }
}

impl Guest {
    /// Makes the guest's overlay and door; it is off until [`Guest::power_on`].
    pub(crate) fn create(
        spec: GuestSpec,
        number: u8,
        files: ImageFiles,
        around: Surroundings,
    ) -> Result<Self> {
        let ssh_port = free_port()?;
        let ssh = Ssh::prepare(&around.run, &spec.name, ssh_port, &files.key)?;
        let guest = Self {
            spec,
            number,
            files,
            around,
            ssh_port,
            ssh,
            machine: Mutex::new(None),
        };
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(&guest.files.disk)
            .arg(guest.file("qcow2"))
            .output()
            .context("start qemu-img")?;
        ensure!(
            made.status.success(),
            "make the disk of {}: {}",
            guest.name(),
            String::from_utf8_lossy(&made.stderr).trim()
        );
        Ok(guest)
    }

    /// Host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// As it was asked for.
    #[must_use]
    pub fn spec(&self) -> &GuestSpec {
        &self.spec
    }

    /// Address on the fleet LAN.
    #[must_use]
    pub fn address(&self) -> String {
        lan_address(self.number)
    }

    /// Kernel and systemd version of its image.
    #[must_use]
    pub fn versions(&self) -> &str {
        &self.files.versions
    }

    /// Its ssh client configuration, for other processes.
    #[must_use]
    pub fn ssh_config(&self) -> &Path {
        self.ssh.config()
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.around.run.join(format!("{}.{extension}", self.spec.name))
    }

    fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        // A panic elsewhere leaves the machine as usable as before.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a shell command as root.
    ///
    /// # Errors
    /// When the guest cannot be reached or the time is over; a command that fails is no error here.
    pub fn run(&self, script: &str, limit: Duration) -> Result<Output> {
        self.run_with_input(script, Vec::new(), limit)
    }

    /// As [`Guest::run`], with something to read.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn run_with_input(&self, script: &str, input: Vec<u8>, limit: Duration) -> Result<Output> {
        let (status, stdout, stderr) = self.ssh.run(script, input, limit)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output {
            status: status.code().unwrap_or(255),
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }

    /// Runs a shell command that must succeed and gives what it printed, trimmed.
    ///
    /// # Errors
    /// When it fails; the error carries what it wrote.
    pub fn ok(&self, script: &str) -> Result<String> {
        self.ok_within(script, COMMAND_LIMIT)
    }

    /// As [`Guest::ok`], for commands that take long.
    ///
    /// # Errors
    /// As [`Guest::ok`].
    pub fn ok_within(&self, script: &str, limit: Duration) -> Result<String> {
        let output = self.run(script, limit)?;
        if output.status != 0 {
            bail!(
                "{}: {script:?} ended with {}\n{}{}",
                self.name(),
                output.status,
                output.stdout,
                output.stderr
            );
        }
        Ok(output.stdout.trim_end().into())
    }

    /// Waits until a shell command succeeds; the time-out reports what it said last.
    ///
    /// # Errors
    /// On time-out, or when the guest cannot be reached.
    pub fn wait_ok(&self, what: &str, script: &str, limit: Duration) -> Result<String> {
        wait_for(&format!("{}: {what}", self.name()), limit, || {
            let output = self.run(script, COMMAND_LIMIT)?;
            Ok(match output.status {
                0 => Look::Done(output.stdout.trim_end().into()),
                status => Look::Pending(format!("status {status}: {}{}", output.stdout, output.stderr)),
            })
        })
    }

    /// A client process for one command, for callers that read its output as it comes.
    #[must_use]
    pub fn command(&self, script: &str) -> Command {
        self.ssh.command(script)
    }

    /// Copies a file of the host into the guest.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn put(&self, from: &Path, to: &str) -> Result<()> {
        self.ssh.put(from, to, COMMAND_LIMIT)
    }

    /// Copies a file of the guest to the host.
    ///
    /// # Errors
    /// When it cannot be read there or written here.
    pub fn get(&self, from: &str, to: &Path) -> Result<()> {
        self.ssh.get(from, to, COMMAND_LIMIT)
    }

    /// Boots the guest and waits until it can be spoken to.
    ///
    /// # Errors
    /// When it does not come up; the error carries the end of its console.
    pub fn power_on(&self) -> Result<()> {
        self.start()?;
        self.await_up()
    }

    /// Starts the machine and returns at once.
    pub(crate) fn start(&self) -> Result<()> {
        let mut machine = self.machine();
        ensure!(machine.is_none(), "{} is on already", self.name());
        let log = self.file("qemu.log");
        let mut command = if self.spec.behind {
            process::bound_behind(QEMU)
        } else {
            process::bound_punctual(QEMU)
        };
        let boot = Boot {
            spec: &self.spec,
            accel: if self.spec.counted {
                Accel::Counted
            } else {
                self.around.accel
            },
            kernel: &self.files.kernel,
            overlay: &self.file("qcow2"),
            console: &self.console().0,
            qmp: &self.file("qmp"),
            ssh_port: self.ssh_port,
            number: self.number,
            lan: &self.around.lan,
            hosts: &self.around.hosts,
        };
        command
            .args(boot.words())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.stderr(File::create(&log).with_context(|| format!("make {}", log.display()))?);
        let qemu = process::start(command).context("start QEMU")?;
        fs::write(self.file("pid"), qemu.id().to_string()).context("note QEMU's pid")?;
        *machine = Some(Machine { qemu, master: None });
        Ok(())
    }

    /// Waits until the guest can be spoken to. A boot that the emulator lost is tried again, see
    /// [`crate::testbed::console`].
    pub(crate) fn await_up(&self) -> Result<()> {
        for _ in 0..LOST_BOOTS {
            let Boots::Lost(fault) = self.await_boot()? else {
                return Ok(());
            };
            eprintln!(
                "testbed: {}: a boot was lost, off and on again: the emulator {fault}",
                self.name(),
            );
            self.power_cut();
            self.start()?;
        }
        match self.await_boot()? {
            Boots::Up => Ok(()),
            Boots::Lost(fault) => bail!("{}: boot lost again: the emulator {fault}", self.name()),
        }
    }

    fn await_boot(&self) -> Result<Boots> {
        let console = self.console();
        let before = console.written();
        wait_for(&format!("{}: boot", self.name()), BOOT_LIMIT, || {
            if let Some(end) = self.qemu_gone()? {
                ensure!(console::own_fault(&end), "{}: {end}", self.name());
                return Ok(Look::Done(Boots::Lost(format!("gave up: {end}"))));
            }
            let look = self.ssh.open()?;
            Ok(match (look, self.machine().as_mut()) {
                (Look::Done(master), Some(machine)) => {
                    machine.master = Some(master);
                    Look::Done(Boots::Up)
                }
                (Look::Done(mut master), None) => {
                    process::end(&mut master);
                    Look::Pending("switched off".into())
                }
                (Look::Pending(state), _) => match console.lost_timer(before) {
                    Some(complaint) => Look::Done(Boots::Lost(format!(
                        "lost a timer interrupt ({})\n{}",
                        complaint.trim(),
                        self.processors()
                    ))),
                    None => Look::Pending(state),
                },
            })
        })
        .with_context(|| format!("end of the console of {}:\n{}", self.name(), self.console_tail()))
    }

    /// What the processors and their timers were doing, for those who want to know why a boot was lost.
    fn processors(&self) -> String {
        let look = || -> Result<String> {
            let mut qmp = Qmp::open(&self.file("qmp"))?;
            Ok(qmp.monitor("info cpus")? + &qmp.monitor("info lapic 0")?)
        };
        look().unwrap_or_else(|error| format!("{error:#}"))
    }

    fn console(&self) -> Console {
        Console(self.file("console.log"))
    }

    /// Why QEMU is not running, if it is not.
    fn qemu_gone(&self) -> Result<Option<String>> {
        match self.machine().as_mut() {
            None => Ok(Some("is off".into())),
            Some(machine) => Ok(machine.qemu.try_wait().context("look at QEMU")?.map(|status| {
                let said = fs::read_to_string(self.file("qemu.log")).unwrap_or_default();
                format!("QEMU ended ({status}): {}", said.trim())
            })),
        }
    }

    /// The last lines of the console.
    #[must_use]
    pub fn console_tail(&self) -> String {
        self.console().tail(15)
    }

    /// Reboots in order and waits until the guest can be spoken to again.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn reboot(&self) -> Result<()> {
        const BOOT_ID: &str = "cat /proc/sys/kernel/random/boot_id";
        let before = self.ok(BOOT_ID)?;
        // The answer may or may not arrive before the network goes.
        self.run("systemctl reboot", COMMAND_LIMIT)?;
        self.drop_connection();
        wait_for(&format!("{}: reboot", self.name()), BOOT_LIMIT, || {
            self.await_up()?;
            let now = self.run(BOOT_ID, COMMAND_LIMIT)?;
            if now.status == 0 && now.stdout.trim() != before {
                return Ok(Look::Done(()));
            }
            self.drop_connection();
            Ok(Look::Pending(format!("boot {} answers", now.stdout.trim())))
        })
    }

    fn drop_connection(&self) {
        if let Some(mut master) = self.machine().as_mut().and_then(|machine| machine.master.take()) {
            process::end(&mut master);
        }
    }

    /// Pulls the plug: everything that was only in the guest's memory is lost. See [`crate::testbed`] for what this
    /// proves.
    pub fn power_cut(&self) {
        *self.machine() = None;
    }

    /// Is the machine on?
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self.qemu_gone(), Ok(None))
    }

    /// Opens the shared connection again when it was lost, as after a reboot by hand.
    pub(crate) fn tend(&self) -> Result<()> {
        let lost = match self.machine().as_mut() {
            Some(Machine {
                master: Some(master), ..
            }) => master.try_wait().context("look at ssh")?.is_some(),
            Some(Machine { master: None, .. }) => true,
            None => false,
        };
        if lost
            && let Look::Done(master) = self.ssh.open()?
            && let Some(machine) = self.machine().as_mut()
        {
            machine.master = Some(master);
        }
        Ok(())
    }

    /// Pulls the guest's cable out of the fleet LAN; its ssh door stays open, its software is not touched.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn lan_down(&self) -> Result<()> {
        Qmp::open(&self.file("qmp"))?.set_link("lan", false)
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn lan_up(&self) -> Result<()> {
        Qmp::open(&self.file("qmp"))?.set_link("lan", true)
    }

    /// Opens a loopback port of the host that leads to a port of the guest.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn forward(&self, port: u16) -> Result<u16> {
        let host_port = free_port()?;
        Qmp::open(&self.file("qmp"))?.forward(host_port, port)?;
        Ok(host_port)
    }
}

/// A loopback port that is free now, below the range from which the kernel serves outgoing connections, so that it
/// stays free until QEMU binds it.
fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = 20_000 + random_u16()? % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free loopback port between 20000 and 32000")
}

pub(crate) fn random_u16() -> Result<u16> {
    let mut bytes = [0; 2];
    std::io::Read::read_exact(
        &mut File::open("/dev/urandom").context("open /dev/urandom")?,
        &mut bytes,
    )
    .context("read /dev/urandom")?;
    Ok(u16::from_le_bytes(bytes))
}
