//! Commands and files in a guest over one persistent ssh connection.
//!
//! A handshake costs seconds of an emulated CPU, a channel on an open connection tens of milliseconds. One `ssh -M`
//! per boot holds the connection; every command is a channel on it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::testbed::process;
use crate::testbed::wait::{Look, wait_for};

/// How a command in a guest ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command's exit code; 255 when the connection broke.
    pub status: i32,
    /// What it wrote, invalid UTF-8 replaced.
    pub stdout: String,
    /// Likewise.
    pub stderr: String,
}

/// The door to one guest.
#[derive(Debug, Clone)]
pub struct Ssh {
    name: String,
    config: PathBuf,
    control: PathBuf,
    port: u16,
}

impl Ssh {
    /// Writes the client configuration of a guest into its run folder: `ssh -F FILE NAME` works from any shell.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn prepare(run: &Path, name: &str, port: u16, key: &Path) -> Result<Self> {
        let config = run.join(format!("{name}.ssh"));
        let control = run.join(format!("{name}.ctl"));
        let text = format!(
            "Host {name}\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {key}\n IdentitiesOnly yes\n \
             StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n ConnectTimeout 20\n \
             ServerAliveInterval 15\n ServerAliveCountMax 20\n Compression no\n \
             Ciphers aes128-gcm@openssh.com,chacha20-poly1305@openssh.com\n ControlPath {ctl}\n",
            key = key.display(),
            ctl = control.display(),
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        Ok(Self {
            name: name.into(),
            config,
            control,
            port,
        })
    }

    /// The client configuration.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Opens the connection that all commands share, if the guest answers by now.
    ///
    /// # Errors
    /// When the ssh client cannot be started.
    pub fn open(&self) -> Result<Look<Child>> {
        if let Err(state) = self.banner() {
            return Ok(Look::Pending(state));
        }
        let mut command = process::bound("ssh");
        // A client that was killed leaves its socket, and the next would not share its connection.
        if self.control.exists() {
            fs::remove_file(&self.control).with_context(|| format!("remove {}", self.control.display()))?;
        }
        command
            .arg("-F")
            .arg(&self.config)
            .args(["-M", "-N", "-o", "ControlPersist=no", &self.name]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut master = process::start(command).context("start ssh")?;
        let mut ended = None;
        let open = wait_for("ssh connection", Duration::from_secs(60), || {
            if let Some(status) = master.try_wait().context("look at ssh")? {
                ended = Some(status);
                return Ok(Look::Done(()));
            }
            let check = self
                .client(&["-O", "check"])
                .output()
                .context("run ssh -O check")?;
            Ok(if check.status.success() {
                Look::Done(())
            } else {
                Look::Pending("no answer yet".into())
            })
        });
        match (open, ended) {
            (Ok(()), None) => Ok(Look::Done(master)),
            (Ok(()), Some(status)) => {
                let mut said = String::new();
                if let Some(mut stderr) = master.stderr.take() {
                    stderr.read_to_string(&mut said).context("read ssh's complaint")?;
                }
                Ok(Look::Pending(format!("ssh ended ({status}): {}", said.trim())))
            }
            (Err(error), _) => {
                process::end(&mut master);
                Ok(Look::Pending(format!("{error:#}")))
            }
        }
    }

    /// Is sshd there? Costs the guest nothing while it is not.
    fn banner(&self) -> std::result::Result<(), String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())?;
        let limit = Some(Duration::from_secs(5));
        stream
            .set_read_timeout(limit)
            .map_err(|error| error.to_string())?;
        let mut start = [0; 4];
        match stream.read_exact(&mut start) {
            Ok(()) if &start == b"SSH-" => Ok(()),
            Ok(()) => Err(format!("the ssh port says {start:?}")),
            Err(error) => Err(format!("no greeting from sshd: {error}")),
        }
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(&self.config).args(words).arg(&self.name);
        command
    }

    /// A client for one command, with the caller's choice of input and output.
    #[must_use]
    pub fn command(&self, script: &str) -> Command {
        let mut command = process::bound("ssh");
        command
            .arg("-F")
            .arg(&self.config)
            .args(["-T", "-o", "BatchMode=yes", &self.name, "--", script]);
        command
    }

    /// Runs a shell command as root, feeding it `input`, and waits for its end. On time-out the client is killed; the
    /// command in the guest may live on.
    ///
    /// # Errors
    /// When the client cannot be run or the time is over; a command that fails is no error here.
    pub fn run(
        &self,
        script: &str,
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let mut command = self.command(script);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process::start(command).context("start ssh")?;
        let (sender, ended) = mpsc::channel();
        let stdin = child.stdin.take().context("ssh without standard input")?;
        std::thread::spawn(move || feed(stdin, &input));
        let stdout = collect(
            child.stdout.take().context("ssh without standard output")?,
            sender.clone(),
        );
        let stderr = collect(child.stderr.take().context("ssh without standard error")?, sender);
        let start = crate::clock::now();
        for _ in 0..2 {
            if ended.recv_timeout(limit.saturating_sub(start.elapsed())).is_err() {
                process::end(&mut child);
                bail!(
                    "{}: {script:?} has not ended within {} s",
                    self.name,
                    limit.as_secs_f32()
                );
            }
        }
        let status = child.wait().context("wait for ssh")?;
        let join = |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
        Ok((status, join(stdout), join(stderr)))
    }

    /// Copies a file of the host into the guest.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn put(&self, from: &Path, to: &str, limit: Duration) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let (status, _, stderr) = self.run(&format!("cat > {}", quoted(to)), bytes, limit)?;
        ensure!(
            status.success(),
            "{}: write {to}: {}",
            self.name,
            String::from_utf8_lossy(&stderr).trim()
        );
        Ok(())
    }

    /// Copies a file of the guest to the host.
    ///
    /// # Errors
    /// When it cannot be read there or written here.
    pub fn get(&self, from: &str, to: &Path, limit: Duration) -> Result<()> {
        let (status, stdout, stderr) = self.run(&format!("cat {}", quoted(from)), Vec::new(), limit)?;
        ensure!(
            status.success(),
            "{}: read {from}: {}",
            self.name,
            String::from_utf8_lossy(&stderr).trim()
        );
        fs::write(to, stdout).with_context(|| format!("write {}", to.display()))
    }
}

/// A word that the guest's shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn feed(mut pipe: impl Write, bytes: &[u8]) {
    // A command that ends without reading its input is not a fault.
    let _ = pipe.write_all(bytes);
}

fn collect(
    mut pipe: impl Read + Send + 'static,
    ended: mpsc::Sender<()>,
) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks has said all it will; the exit status tells the rest.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = ended.send(());
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_stays_one_word() {
        assert_eq!(quoted("/var/tmp/a b"), "'/var/tmp/a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
