//! The antagonists: each uses one resource as hard as it can, within bounds that it keeps by itself and that its unit
//! enforces. Built in, so that an owner installs nothing to find out.

mod disk;

use std::hint::black_box;
use std::io;
use std::path::PathBuf;
use std::thread;

use clap::Args;
use loadline_model::{Bytes, Span};
use loadline_policy::prove::Resource;

use super::stand_in::work;
use crate::host::clock::{Clock, SystemClock};

/// How often a thread looks whether its time is over: steps of arithmetic, or bytes of memory.
const STEPS: u64 = 100_000;
const BITE: usize = 1 << 20;
const PAGE: usize = 4096;
/// A cache line, and a stride that the prefetcher does not follow: a prime number of lines.
const LINE: usize = 64;
const STRIDE: usize = 67 * LINE;

/// Its arguments.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What it uses.
    #[arg(long)]
    resource: Resource,
    /// How many threads.
    #[arg(long)]
    threads: u32,
    /// Bytes that all threads together work on.
    #[arg(long)]
    bytes: u64,
    /// It ends after so many seconds.
    #[arg(long)]
    seconds: u64,
    /// Where its file lies, which has no name.
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
}

impl Arguments {
    /// The arguments as a command line.
    pub(super) fn argv(
        program: &str,
        resource: Resource,
        threads: u32,
        bytes: Bytes,
        life: Span,
    ) -> Vec<String> {
        let words = [
            program,
            "prove-antagonist",
            "--resource",
            resource.word(),
            "--threads",
            &threads.to_string(),
            "--bytes",
            &bytes.0.to_string(),
            "--seconds",
            &life.as_secs().to_string(),
        ];
        words.map(ToOwned::to_owned).to_vec()
    }
}

/// It could not go on.
#[derive(Debug, thiserror::Error)]
pub enum AntagonistError {
    /// Its file failed.
    #[error("{operation} of the antagonist's file in {} failed", folder.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Where.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A thread ended by itself.
    #[error("a thread of the antagonist failed")]
    Thread,
}

/// Until when.
#[derive(Debug, Clone, Copy)]
struct Until(Span);

impl Until {
    fn is_over(self) -> bool {
        SystemClock.monotonic() >= self.0
    }
}

/// Works until its time is over.
///
/// # Errors
/// When its file cannot be used.
pub fn run(arguments: &Arguments) -> Result<(), AntagonistError> {
    let until = Until(SystemClock.monotonic().plus(Span::from_secs(arguments.seconds)));
    press(arguments, until)
}

fn press(arguments: &Arguments, until: Until) -> Result<(), AntagonistError> {
    let threads = arguments.threads.max(1);
    let bytes = usize::try_from(arguments.bytes).unwrap_or(usize::MAX);
    let each = bytes / usize::try_from(threads).unwrap_or(1);
    let all = |one: &(dyn Fn() + Sync)| {
        thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            let ended = started.into_iter().all(|thread| thread.join().is_ok());
            if ended {
                Ok(())
            } else {
                Err(AntagonistError::Thread)
            }
        })
    };
    match arguments.resource {
        Resource::Cpu => all(&|| spin(until)),
        Resource::Memory => all(&|| touch(each, until)),
        Resource::Cache => all(&|| stride(each, until)),
        Resource::Disk => disk::press(&arguments.folder, arguments.bytes, until),
    }
}

fn spin(until: Until) {
    while !until.is_over() {
        black_box(work(STEPS));
    }
}

/// Pages are touched in order, written, and touched again: the kernel has to find each of them, and cannot share any.
fn touch(bytes: usize, until: Until) {
    let mut memory = vec![0u8; bytes];
    let mut value = 0u8;
    while !until.is_over() {
        value = value.wrapping_add(1);
        for bite in memory.chunks_mut(BITE) {
            for page in bite.chunks_mut(PAGE) {
                page[0] = value;
            }
            black_box(&bite[0]);
            if until.is_over() {
                return;
            }
        }
        if bytes == 0 {
            return;
        }
    }
}

/// Line after line is read and written in an order that no prefetcher follows.
fn stride(bytes: usize, until: Until) {
    let mut memory = vec![0u8; bytes.max(LINE)];
    let lines = memory.len() / LINE;
    let (mut place, mut since) = (0usize, 0usize);
    loop {
        let byte = &mut memory[place * LINE];
        *byte = black_box(byte.wrapping_add(1));
        place = (place + STRIDE / LINE) % lines;
        since += LINE;
        if since >= BITE {
            since = 0;
            if until.is_over() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(resource: Resource, bytes: u64) -> Arguments {
        Arguments {
            resource,
            threads: 2,
            bytes,
            seconds: 0,
            folder: "/nowhere".into(),
        }
    }

    #[test]
    fn each_ends_when_its_time_is_over() {
        for resource in [Resource::Cpu, Resource::Memory, Resource::Cache] {
            let begun = SystemClock.monotonic();
            let until = Until(begun.plus(Span::from_millis(200)));
            press(&arguments(resource, 8 << 20), until).unwrap();
            let took = SystemClock.monotonic().minus(begun);
            assert!(took >= Span::from_millis(200), "{resource} worked {took}");
            assert!(took < Span::from_secs(20), "{resource} took {took}");
        }
        press(&arguments(Resource::Memory, 0), Until(Span(u64::MAX))).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = press(&arguments(Resource::Disk, 1 << 20), Until(Span(u64::MAX))).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }

    #[test]
    fn its_command_line_is_read_as_it_was_meant() {
        let argv = Arguments::argv(
            "/usr/bin/loadline-warden",
            Resource::Cache,
            3,
            Bytes(4096),
            Span::from_secs(9),
        );
        let matches = crate::warden::command().try_get_matches_from(argv).unwrap();
        let (name, found) = matches.subcommand().unwrap();
        assert_eq!(name, "prove-antagonist");
        assert_eq!(found.get_one::<Resource>("resource"), Some(&Resource::Cache));
        assert_eq!(found.get_one::<u64>("bytes"), Some(&4096));
        assert_eq!(found.get_one::<u64>("seconds"), Some(&9));
    }
}
