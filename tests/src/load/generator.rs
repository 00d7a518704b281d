//! The loops: send when meant (open) or when answered (closed), wait in between.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::connection::{Connection, Request};
use super::histogram::LoadReport;
use super::pool::Pool;
use super::protocol::{Answer, Protocol};
use crate::clock;

/// What to load, how hard, how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The service.
    pub target: SocketAddr,
    /// What it speaks, and what it is asked.
    pub protocol: Protocol,
    /// How long requests go out.
    pub length: Duration,
    /// Open: the most connections at once. Closed: exactly so many.
    pub connections: usize,
    /// How many of them are open before the clock starts. Where opening one takes the service long, as a process of its
    /// own does, that should be all: the generator cannot look at requests meanwhile.
    pub ready: usize,
    /// How long to wait for the last answers.
    pub drain: Duration,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The service did not take the first connection.
    #[error("connecting to {target}: is the service running?")]
    Connect {
        /// The service.
        target: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody could be told that what counts begins.
    #[error("saying that what counts begins")]
    Announce(#[source] io::Error),
    /// The kernel refused to wait.
    #[error("waiting for answers")]
    Poll(#[source] nix::Error),
}

struct Loop<'a> {
    plan: &'a Plan,
    host: String,
    always: Option<Vec<u8>>,
    sent: u64,
    pool: Pool,
    waiting: VecDeque<Request>,
    start: Instant,
    report: LoadReport,
}

fn ns(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// Sends at the meant instants, whatever the answers do. A load that does not count may come before, on the same
/// connections: opening many of them is work for the service that no client would give it just then. `measuring` is
/// called between the two.
///
/// # Errors
/// When the service takes no connection at all, and what `measuring` gives.
pub fn open_loop(
    plan: &Plan,
    settle: Option<(Duration, Arrivals)>,
    arrivals: Arrivals,
    measuring: impl FnOnce() -> io::Result<()>,
) -> Result<LoadReport, LoadError> {
    let mut run = Loop::new(plan, plan.ready.min(plan.connections))?;
    if let Some((length, before)) = settle {
        run.open(length, before)?;
        measuring().map_err(LoadError::Announce)?;
        run.begin();
    }
    run.open(plan.length, arrivals)?;
    Ok(run.finish())
}

/// Sends on every connection as soon as it was answered: how much the service can do at most.
///
/// # Errors
/// When the service takes no connection at all.
pub fn closed_loop(plan: &Plan) -> Result<LoadReport, LoadError> {
    let mut run = Loop::new(plan, plan.connections)?;
    let end_ns = ns(plan.length);
    while ns(run.start.elapsed()) < end_ns {
        for _ in run.pool.busy()..plan.connections {
            run.report.requests += 1;
            let now = ns(run.start.elapsed());
            run.waiting.push_back(Request {
                meant_ns: now,
                seen_ns: now,
            });
        }
        run.send_waiting();
        run.wait_until(end_ns)?;
    }
    // What is still under way at the end of a closed run was never late: it does not count as an error.
    run.report.requests -= run.pool.busy() as u64;
    run.pool.close_busy();
    Ok(run.finish())
}

impl<'a> Loop<'a> {
    fn new(plan: &'a Plan, connections: usize) -> Result<Self, LoadError> {
        let mut pool = Pool::new().map_err(LoadError::Poll)?;
        for _ in 0..connections.max(1) {
            Connection::open(plan.target, &plan.protocol)
                .and_then(|connection| pool.add(connection))
                .map_err(|source| LoadError::Connect {
                    target: plan.target,
                    source,
                })?;
        }
        let (waiting, report) = (VecDeque::new(), LoadReport::default());
        let mut run = Self {
            plan,
            always: plan.protocol.always(&plan.target.to_string()),
            host: plan.target.to_string(),
            sent: 0,
            pool,
            waiting,
            start: clock::now(),
            report,
        };
        run.introduce()?;
        run.begin();
        Ok(run)
    }

    /// What was before does not count, also where it has not been answered yet.
    fn begin(&mut self) {
        self.waiting.clear();
        self.pool.close_busy();
        (self.start, self.report) = (clock::now(), LoadReport::default());
    }

    fn open(&mut self, length: Duration, arrivals: Arrivals) -> Result<(), LoadError> {
        let (end_ns, over) = (ns(length), ns(length + self.plan.drain));
        let mut arrivals = arrivals.take_while(|meant| *meant < end_ns).peekable();
        loop {
            let now = ns(self.start.elapsed());
            while let Some(meant) = arrivals.next_if(|meant| *meant <= now) {
                let seen_ns = ns(self.start.elapsed());
                self.report.requests += 1;
                self.report.lateness.record_us((seen_ns - meant) / 1000);
                self.waiting.push_back(Request {
                    meant_ns: meant,
                    seen_ns,
                });
            }
            self.send_waiting();
            let next = arrivals.peek().copied();
            if next.is_none() && (self.is_idle() || now > over) {
                return Ok(());
            }
            self.wait_until(next.unwrap_or(over))?;
        }
    }

    /// One request on each connection, before the clock starts. The kernel opens connections for a service that has yet to
    /// accept them, and while it accepts sixty of them the first requests would wait.
    fn introduce(&mut self) -> Result<(), LoadError> {
        let over = ns(self.plan.drain);
        let request = Request {
            meant_ns: 0,
            seen_ns: 0,
        };
        while let Some(slot) = self.pool.take_idle() {
            self.send(slot, request);
        }
        while !self.is_idle() && ns(self.start.elapsed()) < over {
            self.wait_until(over)?;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.pool.busy() == 0
    }

    /// Hands waiting requests to idle connections, opening more as far as allowed.
    fn send_waiting(&mut self) {
        while let Some(request) = self.waiting.front().copied() {
            let idle = self.pool.take_idle();
            if idle.is_none() && self.pool.open() == self.plan.connections {
                return;
            }
            self.waiting.pop_front();
            match idle.or_else(|| self.connect()) {
                Some(slot) => self.send(slot, request),
                None => self.report.errors += 1,
            }
        }
    }

    /// One more connection, if the service takes it.
    fn connect(&mut self) -> Option<usize> {
        let connection = Connection::open(self.plan.target, &self.plan.protocol).ok()?;
        self.pool.add(connection).ok()?;
        self.pool.take_idle()
    }

    fn send(&mut self, slot: usize, request: Request) {
        let own = match &self.always {
            Some(_) => Vec::new(),
            None => self.plan.protocol.request(&self.host, self.sent),
        };
        self.sent += 1;
        let words = self.always.as_ref().unwrap_or(&own);
        let connection = self.pool.get(slot);
        let sent = connection.is_some_and(|connection| connection.send(words, request).is_ok());
        if !sent {
            self.fail(slot);
        }
    }

    fn fail(&mut self, slot: usize) {
        self.report.errors += 1;
        self.pool.close(slot);
    }

    /// Sleeps until an answer comes or the instant is there, then takes all answers that came.
    fn wait_until(&mut self, instant_ns: u64) -> Result<(), LoadError> {
        let longest = Duration::from_nanos(instant_ns.saturating_sub(ns(self.start.elapsed())));
        for slot in self.pool.listen(longest).map_err(LoadError::Poll)? {
            self.take(slot);
        }
        Ok(())
    }

    fn take(&mut self, slot: usize) {
        let Some(connection) = self.pool.get(slot) else {
            return;
        };
        let request = connection.under_way;
        match (connection.receive(&self.plan.protocol), request) {
            (Ok(Answer::Complete { ok, last }), Some(request)) => {
                let now = ns(self.start.elapsed());
                let since = |then_ns| now.saturating_sub(then_ns) / 1000;
                self.report.latencies.record_us(since(request.meant_ns));
                self.report.served.record_us(since(request.seen_ns));
                self.report.errors += u64::from(!ok);
                if last {
                    self.pool.close(slot);
                } else {
                    self.pool.give_back(slot);
                }
            }
            (Ok(Answer::Pending), Some(_)) => {}
            (Err(_), Some(_)) => self.fail(slot),
            // An idle connection that the service closed (keep-alive is over): no request was lost.
            (_, None) => self.pool.close(slot),
        }
    }

    fn finish(mut self) -> LoadReport {
        let open = self.pool.busy() + self.waiting.len();
        self.report.errors += open as u64;
        self.report.elapsed_us = ns(self.start.elapsed()) / 1000;
        self.report
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers so many requests of a connection, then closes it, as it announced.
    fn serve(mut stream: TcpStream, answers: usize) -> io::Result<()> {
        let mut request = [0u8; 1024];
        for number in 1..=answers {
            if stream.read(&mut request)? == 0 {
                return Ok(());
            }
            let close = if number == answers {
                "Connection: close\r\n"
            } else {
                ""
            };
            write!(stream, "HTTP/1.1 200 OK\r\n{close}Content-Length: 2\r\n\r\nhi")?;
        }
        Ok(())
    }

    /// A service on a port of its own, with one thread a connection.
    fn plan(
        protocol: Protocol,
        serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
    ) -> Plan {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
        Plan {
            target,
            protocol,
            length: Duration::from_millis(300),
            connections: 2,
            ready: 1,
            drain: Duration::from_secs(10),
        }
    }

    fn pages() -> Plan {
        plan(Protocol::Http { path: "/".into() }, |stream| serve(stream, 10))
    }

    fn unsettled(plan: &Plan, arrivals: Arrivals) -> Result<LoadReport, LoadError> {
        open_loop(plan, None, arrivals, || Ok(()))
    }

    /// Says something first, if it has to, then the same to everything.
    fn says(mut stream: TcpStream, first: &[u8], always: &[u8]) -> io::Result<()> {
        let mut request = [0u8; 1024];
        if !first.is_empty() && stream.read(&mut request)? != 0 {
            stream.write_all(first)?;
        }
        while stream.read(&mut request)? != 0 {
            stream.write_all(always)?;
        }
        Ok(())
    }

    #[test]
    fn a_service_that_ends_connections_after_some_answers_fails_no_request() {
        let report = closed_loop(&pages()).unwrap();
        assert_eq!((report.errors, report.requests), (0, report.latencies.count()));
        assert!(report.requests > 10, "{}", report.requests);
        let report = unsettled(&pages(), Arrivals::poisson(200, 1)).unwrap();
        assert_eq!((report.errors, report.requests), (0, report.latencies.count()));
    }

    #[test]
    fn what_settles_does_not_count_and_its_connections_are_kept() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&opened);
        let mut plan = plan(Protocol::Redis { keys: 10 }, move |stream| {
            counts.fetch_add(1, Ordering::Relaxed);
            says(stream, b"", b"+OK\r\n")
        });
        plan.ready = plan.connections;
        let mut before = 0;
        let settle = Some((Duration::from_millis(300), Arrivals::poisson(200, 2)));
        let measuring = || {
            before = opened.load(Ordering::Relaxed);
            Ok(())
        };
        let report = open_loop(&plan, settle, Arrivals::poisson(200, 1), measuring).unwrap();
        assert_eq!((before, opened.load(Ordering::Relaxed)), (plan.ready, plan.ready));
        let alone = unsettled(&plan, Arrivals::poisson(200, 1)).unwrap();
        assert_eq!((report.requests, report.errors), (alone.requests, 0));
        assert_eq!(report.latencies.count(), report.requests);
    }

    #[test]
    fn redis_and_postgres_are_asked_in_their_own_words() {
        let redis = plan(Protocol::Redis { keys: 10 }, |stream| {
            says(stream, b"", b"+OK\r\n")
        });
        let ready: &[u8] = b"Z\0\0\0\x05I";
        let postgres = Protocol::Postgres {
            user: "load".into(),
            rows: 10,
        };
        let postgres = plan(postgres, move |stream| says(stream, ready, ready));
        for plan in [redis, postgres] {
            let report = unsettled(&plan, Arrivals::poisson(200, 1)).unwrap();
            assert_eq!((report.errors, report.requests), (0, report.latencies.count()));
            assert!(report.requests > 30, "{}", report.requests);
        }
    }

    #[test]
    fn what_a_service_refuses_counts_as_failed() {
        let redis = plan(Protocol::Redis { keys: 10 }, |stream| {
            says(stream, b"", b"-no\r\n")
        });
        let report = unsettled(&redis, Arrivals::poisson(200, 1)).unwrap();
        assert!(
            report.requests > 30 && report.errors == report.requests,
            "{report:?}"
        );
    }

    #[test]
    fn latency_counts_from_the_meant_instant_also_while_no_connection_is_free() {
        // Answers each request 20 ms late, on the only connection, while 200 a second are meant to go out.
        let slow = |stream: TcpStream| {
            let mut stream = stream;
            let mut request = [0u8; 1024];
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            while stream.read(&mut request)? != 0 {
                assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
                stream.write_all(b"+OK\r\n")?;
            }
            drop(sender);
            Ok(())
        };
        let mut plan = plan(Protocol::Redis { keys: 10 }, slow);
        plan.connections = 1;
        let report = unsettled(&plan, Arrivals::poisson(200, 1)).unwrap();
        assert_eq!(report.errors, 0);
        assert!(
            report.latencies.quantile_us(0.9) > 200_000,
            "queueing is latency: {report:?}"
        );
        assert!(
            report.lateness.quantile_us(0.5) < 100_000,
            "and no lateness of the generator"
        );
    }
}
