//! The loop: send what is due, take what came, tell every second how it stands.
//!
//! A thread of its own with a fine timer: the runtime's timers are whole milliseconds, and a lateness of one would
//! condemn every round of a fast service.

use std::io;
use std::iter::Peekable;
use std::net::SocketAddr;
use std::thread;

use loadline_model::{PerMille, Span};
use loadline_policy::prove::estimate::{Draws, quantile};
use nix::errno::Errno;
use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;
use thread_priority::unix::{RealtimeThreadSchedulePolicy, ThreadSchedulePolicy};
use thread_priority::{ThreadPriority, set_thread_priority_and_policy, thread_native_id};
use tokio::sync::mpsc;

use super::channel::{Channel, Due, Event};
use super::{Heard, Measured, Prober, RoundAsk, SecondSeen, Target};
use crate::host::clock::{Clock, SystemClock};

/// More would say more about the machine's sockets than about the service.
const CHANNELS_MAX: usize = 256;
/// Whoever is not answered in this time has not been answered.
const PATIENCE: Span = Span::from_secs(10);
/// How long the last answers of a round are waited for.
const DRAIN: Span = Span::from_secs(2);
const SECOND: Span = Span::from_secs(1);

/// Probes over real sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveProber {
    /// Where the stand-in listens, once it does.
    pub stand_in: Option<SocketAddr>,
}

impl Prober for LiveProber {
    fn begin(&mut self, ask: RoundAsk) -> mpsc::UnboundedReceiver<Heard> {
        let (tell, heard) = mpsc::unbounded_channel();
        let stand_in = self.stand_in;
        let spawned = thread::Builder::new().name("probe".into()).spawn({
            let tell = tell.clone();
            move || {
                let last = match probe(&ask, stand_in, &tell) {
                    Ok(measured) => Heard::Done(measured),
                    Err(problem) => Heard::Failed(problem),
                };
                // Nobody listens any more: the round was ended.
                let _ = tell.send(last);
            }
        });
        if let Err(error) = spawned {
            // The receiver is ours and open.
            let _ = tell.send(Heard::Failed(format!("no thread for the probe: {error}")));
        }
        heard
    }
}

/// The instants at which requests are meant to go out: a Poisson process with a seed.
fn arrivals(rate: u32, seed: u64, until: Span) -> impl Iterator<Item = Span> {
    let mean_us = 1e6 / f64::from(rate.max(1));
    let (mut draws, mut at_us) = (Draws::new(seed), 0.0f64);
    std::iter::from_fn(move || {
        let bits = u32::try_from(draws.next() >> 32).unwrap_or(u32::MAX);
        let uniform = (f64::from(bits) + 1.0) / (f64::from(u32::MAX) + 2.0);
        at_us -= uniform.ln() * mean_us;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and a round is minutes"
        )]
        Some(Span(at_us as u64))
    })
    .take_while(move |instant| *instant < until)
}

struct Loop<'a> {
    ask: &'a RoundAsk,
    address: SocketAddr,
    request: Vec<u8>,
    start: Span,
    channels: Vec<Channel>,
    waiting: Vec<Due>,
    lateness: Vec<Span>,
    /// Of what counts: latencies without the generator's own lateness.
    served: Vec<Span>,
    measured: Measured,
    /// Of the running second.
    recent: Vec<Span>,
    all: (u64, u64),
}

fn probe(
    ask: &RoundAsk,
    stand_in: Option<SocketAddr>,
    tell: &mpsc::UnboundedSender<Heard>,
) -> Result<Measured, String> {
    let address = match ask.target.address() {
        Ok(address) => address.or(stand_in).ok_or("the stand-in does not listen")?,
        Err(problem) => return Err(crate::sentence::chain(&problem)),
    };
    let request = match &ask.target {
        Target::Http { host, path } => get(host, path),
        Target::StandIn => get("stand-in", "/"),
        Target::Tcp { .. } => Vec::new(),
    };
    be_on_time();
    let mut run = Loop {
        ask,
        address,
        request,
        start: SystemClock.monotonic(),
        channels: Vec::new(),
        waiting: Vec::new(),
        lateness: Vec::new(),
        served: Vec::new(),
        measured: Measured::default(),
        recent: Vec::new(),
        all: (0, 0),
    };
    run.go(tell)
        .map_err(|error| format!("waiting for answers failed: {error}"))?;
    Ok(run.finish())
}

/// Without the one the kernel wakes this thread up to 50 µs late, without the other only after production: it is what
/// is measured, not who measures. Its work is a few microseconds a request. Refused, the recorded lateness says so.
fn be_on_time() {
    let _ = nix::sys::prctl::set_timerslack(1);
    let _ = set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Min,
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    );
}

fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: loadline-prove\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

impl Loop<'_> {
    fn now(&self) -> Span {
        SystemClock.monotonic().minus(self.start)
    }

    fn go(&mut self, tell: &mpsc::UnboundedSender<Heard>) -> io::Result<()> {
        let end = self.ask.warm_up.plus(self.ask.length);
        let mut due = arrivals(self.ask.rate, self.ask.seed, end).peekable();
        let mut next_second = SECOND;
        loop {
            self.send_due(&mut due);
            self.give_up();
            let now = self.now();
            if now >= next_second {
                next_second = next_second.plus(SECOND);
                let second = self.second(now);
                if tell.send(Heard::Second(second)).is_err() {
                    return Ok(());
                }
            }
            let idle = self.waiting.is_empty() && self.channels.iter().all(|channel| channel.due.is_none());
            if now >= end && (idle || now >= end.plus(DRAIN)) {
                return Ok(());
            }
            let next = due
                .peek()
                .copied()
                .unwrap_or(end.max(now.plus(Span::from_millis(10))));
            self.wait_until(next.min(next_second))?;
        }
    }

    fn counts(&self, meant: Span) -> bool {
        meant >= self.ask.warm_up
    }

    fn send_due(&mut self, due: &mut Peekable<impl Iterator<Item = Span>>) {
        loop {
            let now = self.now();
            let Some(meant) = due.next_if(|meant| *meant <= now) else {
                break;
            };
            self.all.0 += 1;
            let late = now.minus(meant);
            if self.counts(meant) {
                self.measured.requests += 1;
                self.lateness.push(late);
            }
            self.waiting.push(Due { meant, late });
        }
        let waiting = std::mem::take(&mut self.waiting);
        for due in waiting {
            self.dispatch(due);
        }
    }

    /// Over an idle connection, or a new one; with all of them busy it goes on waiting, and its time runs.
    fn dispatch(&mut self, due: Due) {
        if let Some(index) = self.channels.iter().position(|channel| channel.due.is_none()) {
            if self.channels[index].ask(due).is_err() {
                self.channels.swap_remove(index);
                // The service had closed it meanwhile: that is no failure of this request.
                self.open(due);
            }
        } else if self.channels.len() < CHANNELS_MAX {
            self.open(due);
        } else {
            self.waiting.push(due);
        }
    }

    fn open(&mut self, due: Due) {
        match Channel::open(self.address, &self.request, due) {
            Ok(channel) => self.channels.push(channel),
            Err(_) => self.failed(due.meant),
        }
    }

    fn failed(&mut self, meant: Span) {
        self.all.1 += 1;
        self.measured.errors += u64::from(self.counts(meant));
    }

    fn give_up(&mut self) {
        let now = self.now();
        let is_lost = |due: &Due| now.minus(due.meant) > PATIENCE;
        let dead = |channel: &mut Channel| channel.due.as_ref().is_some_and(is_lost);
        let given_up: Vec<Channel> = self.channels.extract_if(.., dead).collect();
        let mut lost: Vec<Due> = given_up.iter().filter_map(|channel| channel.due).collect();
        lost.extend(self.waiting.extract_if(.., |due| is_lost(due)));
        lost.into_iter().for_each(|due| self.failed(due.meant));
    }

    fn wait_until(&mut self, instant: Span) -> io::Result<()> {
        let left = instant.minus(self.now());
        let timeout = TimeSpec::from_duration(left.into());
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = self
                .channels
                .iter()
                .map(|channel| PollFd::new(channel.fd(), channel.interest()))
                .collect();
            match ppoll(&mut fds, Some(timeout), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            fds.iter().map(|fd| fd.any().unwrap_or(true)).collect()
        };
        for index in (0..ready.len()).rev().filter(|index| ready[*index]) {
            self.take(index);
        }
        Ok(())
    }

    fn take(&mut self, index: usize) {
        let due = self.channels[index].due;
        match (self.channels[index].advance(), due) {
            (Event::Pending, _) => {}
            (Event::Answered { good, again }, Some(Due { meant, late })) => {
                let latency = self.now().minus(meant);
                self.recent.push(latency);
                if !good {
                    self.failed(meant);
                } else if self.counts(meant) {
                    self.measured.latencies.push(latency);
                    self.served.push(latency.minus(late));
                }
                self.channels[index].due = None;
                if !again {
                    self.channels.swap_remove(index);
                }
            }
            (Event::Broken, Some(due)) => {
                self.failed(due.meant);
                self.channels.swap_remove(index);
            }
            // An idle connection ended: nothing was lost.
            (Event::Answered { .. } | Event::Broken, None) => drop(self.channels.swap_remove(index)),
        }
    }

    /// How it stands: whoever still waits counts with the time waited so far, or a service that answers no one would
    /// look as good as one that nobody asks.
    fn second(&mut self, now: Span) -> SecondSeen {
        let mut seen = std::mem::take(&mut self.recent);
        let open = self.channels.iter().filter_map(|channel| channel.due);
        seen.extend(
            open.chain(self.waiting.iter().copied())
                .map(|due| now.minus(due.meant)),
        );
        seen.sort_unstable();
        SecondSeen {
            p99: quantile(&seen, PerMille(990)),
            requests: self.all.0,
            errors: self.all.1,
        }
    }

    fn finish(mut self) -> Measured {
        let mut open: Vec<Due> = self.channels.iter().filter_map(|channel| channel.due).collect();
        open.append(&mut self.waiting);
        open.into_iter().for_each(|due| self.failed(due.meant));
        self.lateness.sort_unstable();
        self.measured.lateness_p99 = quantile(&self.lateness, PerMille(990)).unwrap_or_default();
        self.served.sort_unstable();
        self.measured.served_p99 = quantile(&self.served, PerMille(990)).unwrap_or_default();
        self.measured.latencies.sort_unstable();
        self.measured
    }
}

#[cfg(test)]
mod tests;
