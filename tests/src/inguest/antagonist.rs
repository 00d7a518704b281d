//! The antagonists: one program for all configurations, so that they differ in nothing but how they are held.
//!
//! Each goes on until it is ended, and counts what it did in a file that outlives it: work is compared by what was
//! done between two readings, also if it was killed and began again in between.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::clock;

const MIB: usize = 1024 * 1024;
const PAGE: usize = 4096;

/// What the antagonist does to its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Antagonist {
    /// More threads that compute than the machine has CPUs.
    Cpu,
    /// Takes memory, touches all of it, gives it back.
    Vm,
    /// Copies within buffers that are larger than a CPU's own caches.
    Cache,
    /// Writes and reads files, together half of the guest's memory.
    Pagecache,
    /// Small writes, each made durable.
    Fsync,
    /// Starts programs as fast as they end, up to a bound, so that it can be ended itself.
    Forkbomb,
    /// Takes 100 MB a second and gives nothing back.
    Leak,
}

impl Antagonist {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Cpu,
        Self::Vm,
        Self::Cache,
        Self::Pagecache,
        Self::Fsync,
        Self::Forkbomb,
        Self::Leak,
    ];

    /// In ids of figures and at the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Vm => "vm",
            Self::Cache => "cache",
            Self::Pagecache => "pagecache",
            Self::Fsync => "fsync",
            Self::Forkbomb => "forkbomb",
            Self::Leak => "leak",
        }
    }

    /// True if it would use every CPU it is given: only then does its CPU time say how much was lent.
    #[must_use]
    pub const fn uses_all_cpus(self) -> bool {
        matches!(self, Self::Cpu | Self::Vm | Self::Cache)
    }

    const fn threads(self) -> u64 {
        match self {
            Self::Cpu => 4,
            Self::Vm | Self::Cache | Self::Fsync => 2,
            Self::Pagecache | Self::Forkbomb | Self::Leak => 1,
        }
    }
}

/// Work done, in a place of one thread's own in a shared file.
#[derive(Debug)]
struct Tally {
    file: File,
    place: u64,
    done: u64,
}

/// Where the tally of an antagonist lies in its folder.
#[must_use]
pub fn tally(folder: &Path) -> PathBuf {
    folder.join("tally")
}

/// All work that a tally names; none where there is no file yet.
///
/// # Errors
/// When it cannot be read.
pub fn work_done(tally: &Path) -> io::Result<u64> {
    let bytes = match fs::read(tally) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let counts = bytes
        .chunks_exact(8)
        .map(|count| count.try_into().map_or(0, u64::from_le_bytes));
    Ok(counts.sum())
}

impl Tally {
    /// Goes on from what an earlier run of the same thread left.
    fn open(folder: &Path, thread: u64) -> Result<Self> {
        let path = tally(folder);
        let mut options = File::options();
        let options = options.create(true).truncate(false).read(true).write(true);
        let file = options
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let place = thread * 8;
        let mut before = [0u8; 8];
        let done = match file.read_exact_at(&mut before, place) {
            Ok(()) => u64::from_le_bytes(before),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error).context("read the tally"),
        };
        Ok(Self { file, place, done })
    }

    fn add(&mut self, work: u64) -> Result<()> {
        self.done += work;
        self.file
            .write_all_at(&self.done.to_le_bytes(), self.place)
            .context("write the tally")
    }
}

/// Does it, in a folder of its own, until someone ends it.
///
/// # Errors
/// When a file cannot be written: then it would not be the work it claims to be.
pub fn run(kind: Antagonist, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let threads: Vec<_> = (0..kind.threads())
        .map(|thread| {
            let folder = folder.to_owned();
            std::thread::spawn(move || work(kind, &folder, thread))
        })
        .collect();
    for thread in threads {
        match thread.join() {
            Ok(outcome) => outcome?,
            Err(_) => bail!("a thread of the antagonist panicked"),
        }
    }
    Ok(())
}

fn work(kind: Antagonist, folder: &Path, thread: u64) -> Result<()> {
    let tally = Tally::open(folder, thread)?;
    match kind {
        Antagonist::Cpu => compute(tally),
        Antagonist::Vm => take_and_give(tally),
        Antagonist::Cache => copy(tally),
        Antagonist::Pagecache => stream(folder, tally),
        Antagonist::Fsync => make_durable(folder, thread, tally),
        Antagonist::Forkbomb => start_programs(tally),
        Antagonist::Leak => leak(tally),
    }
}

fn compute(mut tally: Tally) -> Result<()> {
    const ROUND: u64 = 1_000_000;
    let mut number = tally.place;
    loop {
        for _ in 0..ROUND {
            number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        tally.add(ROUND)?;
    }
}

fn take_and_give(mut tally: Tally) -> Result<()> {
    const SIZE: usize = 96 * MIB;
    loop {
        let mut memory = vec![0u8; SIZE];
        for (number, page) in memory.chunks_mut(PAGE).enumerate() {
            page[0] = u8::try_from(number % 251).unwrap_or_default();
            if number % 1024 == 1023 {
                tally.add(1024 * PAGE as u64)?;
            }
        }
        black_box(&memory);
    }
}

fn copy(mut tally: Tally) -> Result<()> {
    const SIZE: usize = 16 * MIB;
    let mut memory = vec![1u8; SIZE];
    loop {
        for (from, to) in [(0, SIZE / 2), (SIZE / 2, 0)] {
            memory.copy_within(from..from + SIZE / 2, to);
            black_box(&memory);
            tally.add(SIZE as u64 / 2)?;
        }
    }
}

fn stream(folder: &Path, mut tally: Tally) -> Result<()> {
    const FILES: u64 = 12;
    const FILE: usize = 64 * MIB;
    let mut chunk = vec![7u8; MIB];
    for number in (0..FILES).cycle() {
        let path = folder.join(format!("stream-{number}"));
        let mut file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        for _ in 0..FILE / MIB {
            file.write_all(&chunk).context("write a file of the stream")?;
            tally.add(MIB as u64)?;
        }
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        while file.read(&mut chunk).context("read a file of the stream")? > 0 {
            tally.add(MIB as u64)?;
        }
        chunk.fill(7);
    }
    Ok(())
}

fn make_durable(folder: &Path, thread: u64, mut tally: Tally) -> Result<()> {
    const FILE: u64 = 16 * MIB as u64;
    let path = folder.join(format!("durable-{thread}"));
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let (page, mut place) = ([3u8; PAGE], thread);
    loop {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (place >> 33) % (FILE / PAGE as u64) * PAGE as u64;
        file.write_all_at(&page, at).context("write a page")?;
        file.sync_data().context("make a page durable")?;
        tally.add(1)?;
    }
}

/// At once. A real one has no bound but `pids.max`, and could not be ended in an emulated guest.
const PROGRAMS: usize = 64;

fn start_programs(mut tally: Tally) -> Result<()> {
    let mut running: Vec<Child> = Vec::new();
    loop {
        let mut ended = 0;
        running.retain_mut(|child| {
            let over = matches!(child.try_wait(), Ok(Some(_)) | Err(_));
            ended += u64::from(over);
            !over
        });
        tally.add(ended)?;
        while running.len() < PROGRAMS {
            let mut program = Command::new("/bin/true");
            match program.stdin(Stdio::null()).spawn() {
                Ok(child) => running.push(child),
                // A limit does what limits are for; it tries again, as a bomb does.
                Err(_) => break,
            }
        }
    }
}

fn leak(mut tally: Tally) -> Result<()> {
    const BITE: usize = 10_000_000;
    const EVERY: Duration = Duration::from_millis(100);
    let (start, mut taken) = (clock::now(), Vec::new());
    for bites in 1u32.. {
        let mut memory = vec![0u8; BITE];
        memory.chunks_mut(PAGE).for_each(|page| page[0] = 1);
        taken.push(memory);
        black_box(&taken);
        tally.add(BITE as u64)?;
        clock::pause((EVERY * bites).saturating_sub(start.elapsed()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_outlives_the_work_and_adds_up_over_threads() {
        let folder = tempfile::tempdir().unwrap();
        let path = tally(folder.path());
        assert_eq!(work_done(&path).unwrap(), 0);
        for _ in 0..2 {
            Tally::open(folder.path(), 0).unwrap().add(3).unwrap();
            Tally::open(folder.path(), 2).unwrap().add(4).unwrap();
        }
        assert_eq!(work_done(&path).unwrap(), 14);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in Antagonist::ALL {
            assert_eq!(Antagonist::from_str(kind.name(), false).unwrap(), kind);
        }
        assert_eq!(Antagonist::value_variants().len(), Antagonist::ALL.len());
    }
}
