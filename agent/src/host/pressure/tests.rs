use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, send};

use super::*;
use crate::host::clock::{Clock, SystemClock};

/// Urgent data wakes as a trigger does: both are told as a matter of priority.
struct Ends {
    ours: Vec<TcpStream>,
    alarm: Alarm<TcpStream>,
}

fn ends(count: usize) -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut ours, mut triggers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        ours.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (file, _) = listener.accept().unwrap();
        let cgroup = "/production".into();
        triggers.push(Trigger { cgroup, file });
    }
    let alarm = Alarm {
        mount: "/nowhere".into(),
        triggers,
        window: Window::Short,
        scanned: None,
    };
    Ends { ours, alarm }
}

/// How it woke, and after how many milliseconds.
fn wait(alarm: &mut Alarm<TcpStream>, millis: u64) -> (Woken, u64) {
    let begun = SystemClock.monotonic();
    let woken = alarm.wait(Duration::from_millis(millis)).unwrap();
    (woken, SystemClock.monotonic().minus(begun).0 / 1000)
}

#[test]
fn pressure_wakes_and_nothing_else_does() {
    for count in [1, 3, MOST] {
        let mut ends = ends(count);
        let (woken, took) = wait(&mut ends.alarm, 30);
        assert_eq!(woken, Woken::Tick);
        assert!(took >= 30, "{took} ms");
        let last = ends.ours.last().unwrap();
        send(last.as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
        let (woken, took) = wait(&mut ends.alarm, 20_000);
        assert_eq!(woken, Woken::Pressure, "of {count}");
        assert!(took < 20_000, "{took} ms");
    }
}

#[test]
fn a_cgroup_that_is_gone_wakes_once_and_not_for_ever() {
    let mut ends = ends(3);
    // Both directions: what the kernel says of a removed cgroup.
    ends.alarm.triggers[1]
        .file
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    drop(ends.ours.remove(1));
    assert_eq!(wait(&mut ends.alarm, 20_000).0, Woken::Tick);
    assert_eq!(ends.alarm.triggers.len(), 2);
    let (_, took) = wait(&mut ends.alarm, 30);
    assert!(took >= 30, "{took} ms");
    send(ends.ours[1].as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
    assert_eq!(
        wait(&mut ends.alarm, 20_000).0,
        Woken::Pressure,
        "the others still wake"
    );
}

#[test]
fn without_triggers_it_waits_for_the_tick() {
    let (woken, took) = wait(&mut ends(0).alarm, 30);
    assert_eq!(woken, Woken::Tick);
    assert!(took >= 30, "{took} ms");
}

#[test]
fn plain_files_are_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("sys/fs/cgroup/system.slice/cpu.pressure");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "some total=1\n").unwrap();
    let mut alarm = Alarm::new(&HostRoot::new(place.path()));
    alarm.scan(Span::from_secs(100));
    assert_eq!((alarm.window(), alarm.triggers.len()), (Window::None, 0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "some total=1\n");
}

#[test]
fn what_is_refused_is_tried_with_longer_windows_and_remembered() {
    let refuse = |code| Err(io::Error::from_raw_os_error(code));
    let (einval, eperm, enoent) = (Errno::EINVAL as i32, Errno::EPERM as i32, Errno::ENOENT as i32);
    for (takes, found, window) in [
        (Some(Window::Short), Some(()), Window::Short),
        (Some(Window::Half), Some(()), Window::Half),
        (Some(Window::Second), Some(()), Window::Second),
        (None, None, Window::None),
    ] {
        let mut now = Window::Short;
        let mut set = |window| match takes {
            Some(takes) if window >= takes => Ok(Some(())),
            None if window == Window::None => Ok(None),
            _ => refuse(einval),
        };
        assert_eq!(try_each(&mut now, &mut set).unwrap(), found);
        assert_eq!(now, window);
        // The next one begins there.
        assert_eq!(try_each(&mut now, set).unwrap(), found);
    }
    let mut now = Window::Short;
    assert_eq!(try_each::<()>(&mut now, |_| refuse(eperm)).unwrap(), None);
    assert_eq!(now, Window::None, "not for us, with any window");
    let mut now = Window::Short;
    assert!(try_each::<()>(&mut now, |_| refuse(enoent)).is_err());
    assert_eq!(now, Window::Short, "says nothing of windows");
}

#[test]
fn a_window_says_how_long_it_is_and_what_is_missed_with_it() {
    let of_cpu = WATCHED[0];
    for window in [Window::Short, Window::Half, Window::Second] {
        let (trigger, span) = (of_cpu.trigger(window).unwrap(), window.span().unwrap());
        assert!(trigger.ends_with(&format!(" {}", span.0)), "{trigger} and {span}");
        assert_eq!(window.problem().is_none(), window == Window::Short);
    }
    assert_eq!(
        Window::Half.problem().unwrap(),
        "the kernel takes no window shorter than 500ms"
    );
    assert_eq!(Window::None.span(), None);
    assert!(Window::None.problem().is_some());
}

#[test]
fn no_window_is_told_of_what_is_no_cgroup_tree_or_watches_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("sys/fs/cgroup/system.slice");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cpu.pressure"), "").unwrap();
    assert_eq!(probe(&HostRoot::new(place.path())), None);
    assert_eq!(
        std::fs::read_to_string(folder.join("cpu.pressure")).unwrap(),
        "",
        "and nothing is written there"
    );
    let mut ends = ends(1);
    assert_eq!(ends.alarm.window(), Window::Short);
    ends.alarm.triggers.clear();
    assert_eq!(ends.alarm.window(), Window::None);
}

#[test]
fn triggers_are_what_the_kernel_takes() {
    for watched in WATCHED {
        for (trigger, window) in watched
            .triggers
            .iter()
            .zip([Window::Short, Window::Half, Window::Second])
        {
            assert_eq!(watched.trigger(window), Some(*trigger));
            let [kind, threshold, length] = trigger.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{trigger}")
            };
            assert!(["some", "full"].contains(&kind), "{trigger}");
            let [threshold, length] = [threshold, length].map(|number| number.parse::<u64>().unwrap());
            // psi_trigger_create: a threshold within the window, and that between 50 ms and 10 s.
            assert!(threshold > 0 && threshold <= length, "{trigger}");
            assert!((50_000..=10_000_000).contains(&length), "{trigger}");
            assert!(trigger.len() < 32, "{trigger}");
        }
        assert_eq!(watched.trigger(Window::None), None);
    }
}
