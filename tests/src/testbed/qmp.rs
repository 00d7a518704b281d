//! QEMU's control socket: pulling the LAN cable and opening doors, without the guest's software taking part.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Every command used here is answered at once; a QEMU that needs longer is stuck.
const LIMIT: Duration = Duration::from_secs(20);

/// One conversation with one QEMU, which serves one at a time.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Opens the socket and ends the greeting.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn open(path: &Path) -> Result<Self> {
        let writer = UnixStream::connect(path).with_context(|| format!("connect {}", path.display()))?;
        writer
            .set_read_timeout(Some(LIMIT))
            .context("limit the wait for QEMU")?;
        let reader = BufReader::new(writer.try_clone().context("share the QEMU socket")?);
        let mut qmp = Self { reader, writer };
        qmp.line().context("read QEMU's greeting")?;
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives its answer.
    ///
    /// # Errors
    /// When QEMU refuses it or goes away.
    pub fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": name, "arguments": arguments});
        writeln!(self.writer, "{request}").with_context(|| format!("send {name} to QEMU"))?;
        loop {
            let mut answer = self
                .line()
                .with_context(|| format!("read QEMU's answer to {name}"))?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {name}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            // Anything else is an event; nobody here listens to them.
        }
    }

    /// Plugs or unplugs a network cable by the name of its `-netdev`.
    ///
    /// # Errors
    /// As [`Qmp::command`].
    pub fn set_link(&mut self, netdev: &str, up: bool) -> Result<()> {
        self.command("set_link", json!({"name": netdev, "up": up}))
            .map(|_| ())
    }

    /// Opens a loopback port of the host that leads to a port of the guest.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn forward(&mut self, host_port: u16, guest_port: u16) -> Result<()> {
        let line = format!("hostfwd_add door tcp:127.0.0.1:{host_port}-:{guest_port}");
        match self.monitor(&line)?.as_str() {
            "" => Ok(()),
            other => bail!("QEMU cannot forward {host_port} to {guest_port}: {other}"),
        }
    }

    /// Types a line at QEMU's monitor, for what has no command of its own, and gives what it prints.
    ///
    /// # Errors
    /// As [`Qmp::command`].
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let answer = self.command("human-monitor-command", json!({"command-line": line}))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("read from QEMU")? == 0 {
            bail!("QEMU closed its control socket");
        }
        serde_json::from_str(&line).with_context(|| format!("parse QEMU's line {line:?}"))
    }
}
