//! The program itself, as systemd and an operator meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fleetd");
const SOON: Duration = Duration::from_secs(20);

struct Place {
    dir: TempDir,
}

impl Place {
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        let text = format!(
            "version = 1\nstate_dir = \"{}\"\n{extra}\n[listen]\nsession = \"127.0.0.1:0\"\naccess = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n",
            place.state().display()
        );
        fs::write(place.config(), text).unwrap();
        place
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("fleetd.toml")
    }

    fn fleetd(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM)
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .output()
            .unwrap()
    }

    fn init(&self) -> String {
        let made = self.fleetd(&["init", "--name", "127.0.0.1"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        text(&made.stdout)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running fleetd that tells us what it would tell systemd and the journal.
struct Running {
    child: Child,
    told: UnixDatagram,
    lines: Receiver<String>,
    log: String,
}

impl Running {
    fn start(place: &Place) -> Self {
        let socket = place.dir.path().join("notify");
        let told = UnixDatagram::bind(&socket).unwrap();
        told.set_read_timeout(Some(SOON)).unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("--config")
            .arg(place.config())
            .arg("run")
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "200000")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                // The test may have seen enough.
                sender.send(line.unwrap()).ok();
            }
        });
        let running = Self {
            child,
            told,
            lines,
            log: String::new(),
        };
        running.hears("READY=1");
        running
    }

    fn hears(&self, wanted: &str) {
        let mut seen = Vec::new();
        let mut buffer = [0; 256];
        loop {
            let length = self
                .told
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("fleetd never said {wanted}, only {seen:?}: {error}"));
            let said = text(&buffer[..length]);
            if said.contains(wanted) {
                return;
            }
            seen.push(said);
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn logs(&mut self, wanted: &str) {
        while !self.log.contains(wanted) {
            match self.lines.recv_timeout(SOON) {
                Ok(line) => self.log.push_str(&line),
                Err(_) => panic!("fleetd never logged `{wanted}`, only {}", self.log),
            }
        }
    }

    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.hears("STOPPING=1");
        self.logs("fleetd has ended");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended where the test got that far.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_prints_one_login_and_is_done_once() {
    let place = Place::new("");
    let said = place.init();
    let login: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("fleet login LLP1."))
        .collect();
    assert_eq!(login.len(), 1, "{said}");
    for secret in ["keys/ca.key.pem", "keys/order.key.pem", "store.db", "audit.log"] {
        assert_eq!(mode(&place.state().join(secret)), 0o600, "{secret}");
    }
    assert_eq!(mode(&place.state().join("keys")), 0o700);
    let again = place.fleetd(&["init", "--name", "127.0.0.1"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("holds a fleet already"),
        "{}",
        text(&again.stderr)
    );
    let checked = place.fleetd(&["check"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
}

#[test]
fn a_store_without_keys_is_not_taken_for_a_new_fleet() {
    let place = Place::new("");
    place.init();
    fs::remove_dir_all(place.state().join("keys")).unwrap();
    let again = place.fleetd(&["init", "--name", "127.0.0.1"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("store.db exists"),
        "{}",
        text(&again.stderr)
    );
    let run = place.fleetd(&["run"]);
    assert!(text(&run.stderr).contains("fleetd init"), "{}", text(&run.stderr));
}

#[test]
fn wrong_options_and_configurations_say_what_is_right_and_change_nothing() {
    let place = Place::new("");
    let bad_name = place.fleetd(&["init", "--name", "two words"]);
    assert_eq!(bad_name.status.code(), Some(2));
    let bad_admin = place.fleetd(&["init", "--name", "127.0.0.1", "--admin", "Big Boss"]);
    assert!(
        text(&bad_admin.stderr).contains("cannot name an administrator"),
        "{}",
        text(&bad_admin.stderr)
    );
    assert!(!place.state().join("keys").exists());
    assert!(!place.state().join("store.db").exists());
    fs::write(place.config(), "stat_dir = \"/x\"\n").unwrap();
    let unknown = place.fleetd(&["run"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("stat_dir"),
        "{}",
        text(&unknown.stderr)
    );
}

#[test]
fn systemd_hears_ready_alive_and_stopping() {
    let place = Place::new("");
    place.init();
    let running = Running::start(&place);
    running.hears("WATCHDOG=1");
    let second = place.fleetd(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second.stderr).contains("in use by"),
        "{}",
        text(&second.stderr)
    );
    running.stop();
}

#[test]
fn certificates_are_read_again_on_hangup_and_bad_ones_change_nothing() {
    let place = Place::new("");
    place.init();
    let mut running = Running::start(&place);
    running.signal(Signal::SIGHUP);
    running.logs("certificates are in force anew");
    let key = place.state().join("keys/ca.key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    running.signal(Signal::SIGHUP);
    running.logs("the former ones stay");
    assert!(running.log.contains("ca.key.pem"), "{}", running.log);
    running.stop();
}

#[test]
fn a_lost_store_lets_the_administrator_in_again() {
    let place = Place::new("");
    place.init();
    for entry in fs::read_dir(place.state()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("store.db")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let admin = place.fleetd(&["admin"]);
    assert!(
        text(&admin.stdout).contains("fleet login LLP1."),
        "{}",
        text(&admin.stderr)
    );
    let again = place.fleetd(&["admin"]);
    assert!(
        text(&again.stdout).contains("fleet login LLP1."),
        "{}",
        text(&again.stderr)
    );
}

#[test]
fn a_changed_line_of_the_audit_log_is_named() {
    let place = Place::new("");
    place.init();
    place.fleetd(&["admin"]);
    let log = place.state().join("audit.log");
    let path = log.to_str().unwrap();
    assert!(place.fleetd(&["audit", "verify", path]).status.success());
    let changed = fs::read_to_string(&log)
        .unwrap()
        .replacen("user/admin", "user/eve", 1);
    fs::write(&log, changed).unwrap();
    let verified = place.fleetd(&["audit", "verify", path]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(
        text(&verified.stderr).contains("line 1"),
        "{}",
        text(&verified.stderr)
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place::new("");
    place.init();
    let config = fs::read_to_string(place.config()).unwrap();
    fs::write(
        place.config(),
        config.replacen(
            "session = \"127.0.0.1:0\"",
            &format!("session = \"{address}\""),
            1,
        ),
    )
    .unwrap();
    let run = place.fleetd(&["run"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(
        text(&run.stderr).contains(&address.to_string()),
        "{}",
        text(&run.stderr)
    );
    drop(TcpStream::connect(address));
}
