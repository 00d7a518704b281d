//! What a lent process can ask others to start for it, each way tried from inside a worker, and from a plain login of
//! the same person: a door that is shut to both proves nothing of the sandbox.
//!
//! Not closed, since Dask and Ray need the loopback: a daemon that listens there and starts programs of a person, like
//! sshd with that person's own key. What such a one starts lies among the person's logins, and those are held.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::on_both;
use super::person::{Person, SOON};
use crate::deploy::as_person;
use crate::testbed::{Fleet, Guest};

/// Says `NAME open` or `NAME shut` for each door, and `socket PATH` for each socket of the machine that answers.
const DOORS: &str = r#"
import os, socket, subprocess
def says(name, opened, why=''):
    print('door', name, 'open' if opened else 'shut', ' '.join(str(why).split())[-90:], flush=True)
def runs(name, *argv):
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        says(name, done.returncode == 0, done.stdout.decode())
    except (OSError, subprocess.TimeoutExpired) as error:
        says(name, False, error)
def writes(name, path):
    try:
        with open(path, 'w') as file:
            file.write('0\n')
        says(name, True)
    except OSError as error:
        says(name, False, error)
bus = ['busctl', '--timeout=20', 'call', 'org.freedesktop.DBus', '/', 'org.freedesktop.DBus']
runs('system_bus', *bus, 'ListNames')
runs('bus_activation', *bus, 'StartServiceByName', 'su', 'org.freedesktop.hostname1', '0')
runs('dbus_send', 'dbus-send', '--system', '--print-reply', '--dest=org.freedesktop.DBus', '/', 'org.freedesktop.DBus.ListNames')
os.environ['XDG_RUNTIME_DIR'] = '/run/user/1000'
runs('user_manager', 'systemd-run', '--user', '--quiet', '--collect', 'true')
runs('system_manager', 'systemd-run', '--quiet', '--collect', 'true')
runs('linger', 'loginctl', 'enable-linger')
runs('set_user_id', '/usr/local/bin/as-root', '/etc/shadow')
runs('password', 'su', '-c', 'true')
for name in 'cron/crontabs', 'cron/atjobs', 'at':
    writes('spool_' + name, '/var/spool/' + name + '/alice')
writes('own_cgroup', '/sys/fs/cgroup' + open('/proc/self/cgroup').read().split(':')[2].strip() + '/cgroup.procs')
writes('root_cgroup', '/sys/fs/cgroup/cgroup.procs')
runs('new_cgroup', 'mkdir', '/sys/fs/cgroup/loadline.slice/own')
runs('own_mounts', 'unshare', '-Urm', 'mount', '-t', 'tmpfs', 'none', '/tmp')
runs('own_cgroupfs', 'unshare', '-UrmC', 'sh', '-c', 'mount -t cgroup2 none /tmp && mkdir /tmp/own')
runs('cover_taken_off', 'unshare', '-Urm', 'sh', '-c', 'umount /run/dbus && ls /run/dbus/system_bus_socket')
runs('into_the_host', 'nsenter', '-t', '1', '-m', 'true')
runs('core_dump', 'sh', '-c', r'sh -c "kill -SEGV \$\$"; for i in 1 2 3 4 5; do test -e /var/tmp/dumped && exit 0; sleep 1; done; exit 1')
seen = set()
for line in open('/proc/net/unix').readlines()[1:]:
    word = line.split()
    if len(word) < 8 or word[7] in seen or word[7][0] not in '/@':
        continue
    seen.add(word[7])
    place = word[7] if word[7][0] == '/' else '\0' + word[7][1:]
    try:
        with socket.socket(socket.AF_UNIX, int(word[4], 16)) as caller:
            caller.settimeout(5)
            caller.connect(place)
        print('socket', word[7], flush=True)
    except OSError:
        pass
"#;

/// Doors that a worker must find shut. Those that a plain login of the same person finds open are proof of the sandbox;
/// the rest needs no more than that the person is nobody special.
const SHUT: &[&str] = &[
    "system_bus",
    "bus_activation",
    "dbus_send",
    "user_manager",
    "system_manager",
    "linger",
    "set_user_id",
    "password",
    "spool_cron/crontabs",
    "spool_cron/atjobs",
    "spool_at",
    "own_cgroup",
    "root_cgroup",
    "new_cgroup",
    "own_mounts",
    "own_cgroupfs",
    "cover_taken_off",
    "into_the_host",
    "core_dump",
];

/// Open to a plain login: without that the table above would show nothing.
const OPEN_OUTSIDE: &[&str] = &[
    "system_bus",
    "dbus_send",
    "user_manager",
    "set_user_id",
    "spool_cron/crontabs",
    "spool_cron/atjobs",
    "spool_at",
    "own_mounts",
    "core_dump",
];

/// Where a worker may connect: its own journal, and look-ups of names.
const ANSWER: &[&str] = &[
    "/run/systemd/journal/",
    "/run/systemd/journal.loadline/",
    "/run/systemd/userdb/",
    "/run/systemd/resolve/",
];

/// A machine as bad as it may be: spools that anyone writes to, a program that makes anyone root, a user manager that
/// runs without a login, and a handler of core dumps.
const OPEN_MACHINE: &str = "mkdir -p /var/spool/cron/crontabs /var/spool/cron/atjobs /var/spool/at && \
    chmod 1777 /var/spool/cron/crontabs /var/spool/cron/atjobs /var/spool/at && \
    install -m 4755 /usr/bin/cat /usr/local/bin/as-root && \
    printf '#!/bin/sh\\ntouch /var/tmp/dumped\\n' > /usr/local/bin/dump && chmod 755 /usr/local/bin/dump && \
    cat /proc/sys/kernel/core_pattern > /root/core_pattern && rm -f /var/tmp/dumped && \
    echo '|/usr/local/bin/dump' > /proc/sys/kernel/core_pattern";
const CLOSED_AGAIN: &str = "cat /root/core_pattern > /proc/sys/kernel/core_pattern; \
    rm -rf /var/spool/cron /var/spool/at /usr/local/bin/as-root /usr/local/bin/dump /var/tmp/dumped /home/alice/doors.py";

/// Alice's user manager, as it runs for those with a login. Guests have no pam_systemd, which would name its folder.
const MANAGER: &str = "mkdir -p /run/systemd/system/user@1000.service.d && \
    printf '[Service]\\nEnvironment=XDG_RUNTIME_DIR=/run/user/1000\\n' > /run/systemd/system/user@1000.service.d/test.conf && \
    systemctl daemon-reload && systemctl start user@1000.service";
const NO_MANAGER: &str = "systemctl stop user@1000.service; rm -r /run/systemd/system/user@1000.service.d && systemctl daemon-reload";

/// The answers of one run of [`DOORS`].
#[derive(Debug, Default)]
struct Found {
    open: BTreeSet<String>,
    shut: BTreeSet<String>,
    sockets: BTreeSet<String>,
    text: String,
}

impl Found {
    fn read(text: &str) -> Self {
        let mut found = Self {
            text: text.into(),
            ..Self::default()
        };
        for line in text.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("door"), Some(name), Some("open")) => found.open.insert(name.into()),
                (Some("door"), Some(name), Some("shut")) => found.shut.insert(name.into()),
                (Some("socket"), Some(path), _) => found.sockets.insert(path.into()),
                _ => false,
            };
        }
        found
    }
}

pub(super) fn doors(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| {
        put(node, "doors.py", DOORS)?;
        node.ok(OPEN_MACHINE)?;
        node.ok(MANAGER)?;
        let outcome = doors_of(fleet, node);
        node.ok(CLOSED_AGAIN)?;
        node.ok(NO_MANAGER)?;
        outcome
    })
}

fn doors_of(fleet: &Fleet, node: &Guest) -> Result<()> {
    let alice = Person::of(fleet)?;
    let job = alice.submit(
        &format!("--cpus 500m --memory 128MiB --node {}", node.name()),
        "python3 /home/alice/doors.py",
    )?;
    alice.over(job, SOON)?;
    let inside = alice.ok(&format!("fleet logs {job}"))?;
    node.ok("test ! -e /var/tmp/dumped")
        .context("a core dump of lent work was handled by the host")?;
    let outside = node.run(&as_person("alice", "python3 /home/alice/doors.py"), SOON)?;
    let (found, login) = (Found::read(&inside), Found::read(&outside.stdout));
    for door in SHUT {
        ensure!(found.shut.contains(*door), "{door} is not shut: {inside}");
    }
    ensure!(found.open.is_empty(), "open: {:?}", found.open);
    for door in OPEN_OUTSIDE {
        ensure!(
            login.open.contains(*door),
            "{door} is shut to a login too: {}",
            login.text
        );
    }
    let beyond: Vec<&String> = found
        .sockets
        .iter()
        .filter(|path| !ANSWER.iter().any(|known| path.starts_with(known)))
        .collect();
    ensure!(beyond.is_empty(), "daemons that answer a worker: {beyond:?}");
    ensure!(
        !found
            .sockets
            .iter()
            .any(|path| path.ends_with("io.systemd.DynamicUser")),
        "PID 1 answers look-ups of a worker"
    );
    ensure!(
        login
            .sockets
            .iter()
            .any(|path| path.ends_with("/system_bus_socket")),
        "a login finds no bus: {:?}",
        login.sockets
    );
    Ok(())
}

/// What a sandbox cannot shut: the person's own user manager, reached here as its person. It gets no more than is kept
/// idle for production anyway, while a worker lives, and all again afterwards.
pub(super) fn logins(fleet: &Fleet) -> Result<()> {
    on_both(fleet, |node| {
        node.ok(MANAGER)?;
        let outcome = logins_of(fleet, node, u64::from(node.spec().cpus) * 200);
        node.ok(NO_MANAGER)?;
        outcome
    })
}

fn logins_of(fleet: &Fleet, node: &Guest, share: u64) -> Result<()> {
    let alice = Person::of(fleet)?;
    let slice = "cd /sys/fs/cgroup/user.slice/user-1000.slice";
    let job = alice.submit(
        &format!("--cpus 100m --memory 64MiB --node {}", node.name()),
        "sleep 600",
    )?;
    alice.running(job)?;
    let held = format!(
        "{slice} && cat cpu.max && test \"$(cat cpu.max)\" = '{} 10000'",
        share * 10
    );
    node.wait_ok("her logins are held", &held, SOON)?;
    let hogs = "export XDG_RUNTIME_DIR=/run/user/1000; for i in 1 2 3 4; do systemd-run --user --quiet --collect \
        --unit=hog-$i sh -c \"while :; do :; done\"; done";
    node.ok(&as_person("alice", hogs))?;
    let used = node.ok(&format!(
        "{slice}; now() {{ echo $(sed -n 's/^usage_usec //p' cpu.stat) $(cut -d' ' -f1 /proc/uptime | tr -d .); }}; \
         a=$(now); sleep 8; set -- $a $(now); echo $((($3 - $1) / ($4 - $2) / 10))"
    ))?;
    let used: u64 = used.trim().parse().with_context(|| format!("used {used:?}"))?;
    println!(
        "# {}: logins that want four CPUs use {used} thousandths of one of {share}",
        node.name()
    );
    ensure!(
        used <= share * 115 / 100,
        "{used} of {share} thousandths of a CPU"
    );
    ensure!(used >= share / 4, "the hogs did not run: {used}");
    alice.cancel(job)?;
    let free = format!("{slice} && cat cpu.max && grep -q ^max cpu.max");
    node.wait_ok("her logins are free again", &free, SOON).map(drop)
}

/// Ten seconds of everything that makes daemons work: lines, look-ups of people who do not exist, calls to the bus and
/// to PID 1.
const FLOOD: &str = r"
import pwd, socket, time
end = time.monotonic() + 10
done = {'lines': 0, 'look-ups': 0, 'calls': 0}
while time.monotonic() < end:
    for _ in range(20):
        print('x' * 200)
        done['lines'] += 1
    try:
        pwd.getpwnam('nobody-%d' % done['look-ups'])
    except KeyError:
        done['look-ups'] += 1
    for path in '/run/dbus/system_bus_socket', '/run/systemd/notify', '/run/systemd/private':
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            try:
                with socket.socket(socket.AF_UNIX, kind) as caller:
                    caller.connect(path)
                    caller.send(b'STATUS=x')
                    done['calls'] += 1
            except OSError:
                pass
print('done', *done.values(), flush=True)
time.sleep(3)
";

/// Those who would have to work for a flood: PID 1, the bus, the host's journal, look-ups of names.
const SERVANTS: &str = "cd /sys/fs/cgroup; for c in init.scope system.slice/dbus.service \
    system.slice/systemd-journald.service system.slice/systemd-userdbd.service system.slice/systemd-logind.service; do \
    test ! -e $c || echo $c $(sed -n 's/^usage_usec //p' $c/cpu.stat); done; echo now $(cut -d' ' -f1 /proc/uptime | tr -d .)0000";

/// Of one CPU, in per cent: what production's daemons may have done meanwhile, each. PID 1 starts and ends the worker.
const AT_MOST: u64 = 15;

pub(super) fn floods(fleet: &Fleet) -> Result<()> {
    let alice = Person::of(fleet)?;
    on_both(fleet, |node| {
        let name = node.name();
        put(node, "flood.py", FLOOD)?;
        let job = alice.submit(
            &format!("--cpus 500m --memory 64MiB --node {name}"),
            "python3 /home/alice/flood.py",
        )?;
        alice.running(job)?;
        let before = usage(node)?;
        alice.over(job, SOON)?;
        let after = usage(node)?;
        let span = after
            .iter()
            .find(|(who, _)| who == "now")
            .map_or(0, |(_, at)| *at)
            - before
                .iter()
                .find(|(who, _)| who == "now")
                .map_or(0, |(_, at)| *at);
        for (who, used) in before.iter().filter(|(who, _)| who != "now") {
            let later = after
                .iter()
                .find(|(other, _)| other == who)
                .map_or(*used, |(_, used)| *used);
            let share = (later - used) * 100 / span.max(1);
            ensure!(
                share <= AT_MOST,
                "{name}: {who} used {share} % of a CPU for {span} us: {before:?} {after:?}"
            );
        }
        let journal = node.ok("systemctl show -P ControlGroup systemd-journald@loadline.service")?;
        ensure!(
            journal.starts_with("/loadline.slice/"),
            "{name}: the workers' journal lies in {journal}"
        );
        node.ok("rm /home/alice/flood.py").map(drop)
    })
}

fn usage(node: &Guest) -> Result<Vec<(String, u64)>> {
    let text = node.ok(SERVANTS)?;
    text.lines()
        .map(|line| {
            let (who, used) = line
                .split_once(' ')
                .with_context(|| format!("odd line {line:?}"))?;
            Ok((
                who.to_owned(),
                used.trim()
                    .parse()
                    .with_context(|| format!("odd line {line:?}"))?,
            ))
        })
        .collect()
}

/// A file of alice's in her home on a node.
pub(super) fn put(node: &Guest, name: &str, text: &str) -> Result<()> {
    let script = format!("cat > /home/alice/{name} && chown alice:alice /home/alice/{name}");
    let done = node.run_with_input(&script, text.into(), SOON)?;
    ensure!(done.status == 0, "put {name} on {}: {done:?}", node.name());
    Ok(())
}
