//! The stand-in for production, where the owner names no service: a small HTTP server that does about a millisecond of
//! work for every request. It runs in a unit of its own in `system.slice`, as production does.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Args;
use loadline_model::Span;

use crate::host::clock::{Clock, SystemClock};

/// What a request costs, on this machine when nothing else runs.
const WORK: Span = Span::from_millis(1);
/// Over so many times it is measured what that is.
const CALIBRATION: u64 = 32;
/// More connections than the probe ever opens are not served.
const CONNECTIONS_MAX: usize = 512;
const REQUEST_MAX: usize = 8 * 1024;

/// Its arguments.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
}

/// It cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("the stand-in cannot listen on 127.0.0.1:{port}")]
pub struct StandInError {
    port: u16,
    #[source]
    source: io::Error,
}

/// Serves until it is ended: its unit has a time limit.
///
/// # Errors
/// When the port cannot be had.
pub fn run(arguments: &Arguments) -> Result<(), StandInError> {
    let port = arguments.port;
    let failed = |source| StandInError { port, source };
    let steps = steps_of(WORK, &SystemClock);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(failed)?;
    serve(&listener, steps).map_err(failed)
}

/// A port that is free now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn serve(listener: &TcpListener, steps: u64) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, _) = listener.accept()?;
        if open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let counted = open.clone();
        thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            // A client that goes away is no fault of the service.
            let _ = answer_all(stream, steps);
            counted.fetch_sub(1, Ordering::Relaxed);
        })?;
    }
}

fn answer_all(mut stream: TcpStream, steps: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut request, mut chunk) = (Vec::new(), [0u8; 1024]);
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&chunk[..count]),
        }
        if request.ends_with(b"\r\n\r\n") {
            black_box(work(steps));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
            request.clear();
        } else if request.len() > REQUEST_MAX {
            return Ok(());
        }
    }
}

/// Arithmetic that nobody can leave out.
pub(super) fn work(steps: u64) -> u64 {
    (0..steps).fold(0x9e37_79b9_7f4a_7c15u64, |state, step| {
        (state ^ black_box(step))
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .rotate_left(27)
    })
}

/// How many steps take so long here; the least of several tries, as others may run meanwhile.
pub(super) fn steps_of(length: Span, clock: &impl Clock) -> u64 {
    const TRIED: u64 = 20_000;
    let tries = (0..CALIBRATION).map(|_| {
        let begun = clock.monotonic();
        black_box(work(black_box(TRIED)));
        clock.monotonic().minus(begun).0.max(1)
    });
    let least_us = tries.min().unwrap_or(1);
    (TRIED.saturating_mul(length.0) / least_us).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_every_request_of_a_connection_and_outlives_clients() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener, 10));
        drop(TcpStream::connect(address).unwrap());
        let mut stream = TcpStream::connect(address).unwrap();
        for _ in 0..3 {
            stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            stream.write_all(b"Host: x\r\n\r\n").unwrap();
            let mut answer = [0u8; 41];
            stream.read_exact(&mut answer).unwrap();
            assert!(
                answer.ends_with(b"\r\n\r\nok\n"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }

    #[test]
    fn twice_the_time_is_about_twice_the_work() {
        // A clock that says 100 µs for each try: 20,000 steps in 100 µs are 200,000 in a millisecond.
        struct Ticking(AtomicUsize);
        impl Clock for Ticking {
            fn wall(&self) -> loadline_model::WallTime {
                loadline_model::WallTime(0)
            }
            fn monotonic(&self) -> Span {
                Span(self.0.fetch_add(100, Ordering::Relaxed) as u64)
            }
        }
        assert_eq!(steps_of(WORK, &Ticking(AtomicUsize::new(0))), 200_000);
    }
}
