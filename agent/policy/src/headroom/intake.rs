//! Two looks make an interval: what was used and waited for between them.
//!
//! A rate exists only between two readings of the same totals. A total that is missing or went back gives none,
//! and the next one is counted from there.

use loadline_model::{Bytes, MilliCpu, Span};

use super::kernel::Kernel;
use super::sample::{Sample, Transferred};
use super::since;
use super::stall::{Waits, waits};

/// Closer looks than this say more about when the counters are written than about use: they are put together.
pub(super) const SHORTEST: Span = Span::from_millis(20);

/// What a look gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// No two readings to take a difference of.
    Blind,
    /// Too soon after the last one: it will be part of the next interval.
    Soon,
    /// An interval.
    Measured(Interval),
}

/// What happened between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) passed: Span,
    /// CPU time of production.
    pub(super) production: Span,
    /// CPU time of lent work.
    pub(super) lent: Span,
    /// CPU time of Loadline's own programs.
    pub(super) own: Span,
    /// The part of it that is of the standard tier; none where it is not known.
    pub(super) standard: Option<Span>,
    /// What lent work read and wrote; none where it is not known.
    pub(super) io: Option<Transferred>,
    pub(super) waits: Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    now: Span,
    units: Span,
    lent: Span,
    own: Span,
    standard: Option<Span>,
    io: Option<Transferred>,
    waits: Waits,
}

impl Reading {
    fn of(sample: &Sample) -> Option<Self> {
        Some(Self {
            now: sample.now,
            units: sample.cpu_units?,
            lent: sample.cpu_lent?,
            own: sample.cpu_own,
            standard: sample.cpu_standard,
            io: sample.io_lent,
            waits: waits(&sample.stalls),
        })
    }

    fn since(&self, last: &Self, kernel: &Kernel) -> Option<Interval> {
        let passed = since(self.now, last.now)?;
        let lent = since(self.lent, last.lent)?;
        let own = self.own.minus(last.own);
        let mut waits = Waits::default();
        for (index, wait) in waits.iter_mut().enumerate() {
            // A cgroup made anew has waited for less: this kind is unknown, the others are not.
            *wait = match (self.waits[index], last.waits[index]) {
                (Some(now), Some(before)) => since(now, before),
                _ => None,
            };
        }
        Some(Interval {
            passed,
            production: since(self.units, last.units)?
                .minus(own)
                .plus(kernel.within(passed)),
            lent,
            own,
            standard: self
                .standard
                .zip(last.standard)
                .and_then(|(now, before)| since(now, before)),
            io: self.io.zip(last.io).and_then(|(now, before)| moved(now, before)),
            waits,
        })
    }
}

fn moved(now: Transferred, before: Transferred) -> Option<Transferred> {
    let more = |now: Bytes, before: Bytes| now.0.checked_sub(before.0).map(Bytes);
    Some(Transferred {
        read: more(now.read, before.read)?,
        written: more(now.written, before.written)?,
    })
}

/// The last reading, what the kernel uses itself, and when the last look was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intake {
    last: Option<Reading>,
    kernel: Kernel,
    looked: Option<Span>,
}

impl Intake {
    pub(super) const fn new() -> Self {
        Self {
            last: None,
            kernel: Kernel::new(),
            looked: None,
        }
    }

    /// The time since the last look; none passes when the clock goes back.
    pub(super) fn elapsed(&mut self, now: Span) -> Span {
        let before = self.looked.replace(now);
        before.map_or(Span::ZERO, |before| now.minus(before))
    }

    pub(super) fn look(&mut self, sample: &Sample, capacity: MilliCpu) -> Look {
        self.kernel.take(sample, capacity);
        let reading = Reading::of(sample);
        let interval = match (&reading, &self.last) {
            (Some(reading), Some(last)) => reading.since(last, &self.kernel),
            _ => None,
        };
        match interval {
            Some(interval) if interval.passed < SHORTEST => return Look::Soon,
            _ => self.last = reading,
        }
        interval.map_or(Look::Blind, Look::Measured)
    }
}
