//! Production's stalls: when waiting is bad, and how lately it was.

use loadline_model::{Bytes, MilliCpu, Span};

use super::intake::Interval;
use super::{Reason, Stalls, prorate};

/// What production waited for; the strongest cause first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    Cpu,
    Io,
}

/// One figure for each kind, in the order of [`Kind::ALL`]; none where it is not counted.
pub(super) type Waits = [Option<Span>; 3];

/// The figures in the order of [`Kind::ALL`].
pub(super) const fn waits(stalls: &Stalls) -> Waits {
    let Stalls {
        cpu_full,
        memory_full,
        io_full,
    } = *stalls;
    [memory_full, cpu_full, io_full]
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Io];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// So much waiting is bad…
    const fn limit(self) -> Span {
        match self {
            Self::Memory => Span::from_millis(5),
            // Twice what the reference has: an emulated guest, whose host runs it late now and then, shows up to 11 ms
            // with lent work in the idle class and nothing wrong, and 5 ms with none.
            Self::Cpu => Span::from_millis(20),
            Self::Io => Span::from_millis(20),
        }
    }

    /// The part of a wait that lent work can have caused. While a task waits for a CPU because of it, lent work is
    /// running; so it cannot have kept production waiting for longer than it ran. Nor is it the cause while Loadline's
    /// own programs run more than they do day by day. The rest is production's own: on a small machine, starting a
    /// worker is work for systemd and for us, and they wait for each other.
    fn by_lent(self, waited: Span, lent: Span, own: Span) -> Span {
        match self {
            Self::Cpu => waited.minus(own).min(lent),
            // What it holds makes others wait also while it sleeps.
            Self::Memory | Self::Io => waited,
        }
    }

    /// … within this time, as the kernel's own triggers are set.
    const fn window(self) -> Span {
        match self {
            Self::Memory | Self::Cpu => Span::from_millis(100),
            Self::Io => Span::from_millis(200),
        }
    }
}

/// Production waited, this long in each tenth of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) kind: Kind,
    pub(super) waited: Span,
}

impl Stall {
    pub(super) const fn reason(self) -> Reason {
        match self.kind {
            Kind::Memory => Reason::MemoryStall(self.waited),
            Kind::Cpu => Reason::CpuStall(self.waited),
            Kind::Io => Reason::IoStall(self.waited),
        }
    }
}

/// Bad moments this near to each other are one run.
const RUN_WITHIN: Span = Span::from_millis(500);
/// Lent work that used less of the capacity than one part in this many was not the cause.
const BYSTANDER: u64 = 50;
/// Nor the cause of waiting for a disk if it moved fewer bytes than this in a second.
const IO_BYSTANDER: u64 = 1 << 20;
/// Loadline's own programs use less of the capacity than one part in this many.
const OWN_USUAL: u64 = 20;
const TENTH: Span = Span::from_millis(100);

/// What was found bad: at most one stall for each kind, in the order of [`Kind::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bad([Option<Stall>; 3]);

impl Bad {
    /// The strongest kind.
    pub(super) fn strongest(&self) -> Option<Stall> {
        self.0.iter().flatten().next().copied()
    }

    /// True if it is bad in this way.
    pub(super) const fn has(&self, kind: Kind) -> bool {
        self.0[kind.index()].is_some()
    }

    /// Without the kinds that do not count.
    pub(super) fn counting(mut self, counts: impl Fn(Kind) -> bool) -> Self {
        for kind in Kind::ALL {
            if !counts(kind) {
                self.0[kind.index()] = None;
            }
        }
        self
    }
}

/// What is being added up until a window is full. It begins anew after every verdict, so that no stall counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gauge {
    passed: Span,
    waited: Span,
    lent: Span,
    own: Span,
    /// What lent work moved to and from disks; none where that is not known for all of the time.
    moved: Option<Bytes>,
}

impl Gauge {
    const EMPTY: Self = Self {
        passed: Span::ZERO,
        waited: Span::ZERO,
        lent: Span::ZERO,
        own: Span::ZERO,
        moved: Some(Bytes::ZERO),
    };

    fn add(&mut self, wait: Span, interval: &Interval) {
        self.passed = self.passed.plus(interval.passed);
        self.waited = self.waited.plus(wait);
        self.lent = self.lent.plus(interval.lent);
        self.own = self.own.plus(interval.own);
        self.moved = match (self.moved, interval.io) {
            (Some(sum), Some(io)) => Some(sum.plus(io.read).plus(io.written)),
            _ => None,
        };
    }

    /// What of it is bad, if any is; after that, or after a window, it begins anew.
    fn judge(&mut self, kind: Kind, capacity: MilliCpu) -> Option<Stall> {
        // Looks are a little early or late: four fifths of a window are judged as one, in proportion. Within less
        // the limit does not get smaller, or a look right after an event would find a moment's wait bad.
        let window = kind.window();
        let enough = Span(window.0 / 5 * 4);
        let limit = prorate(kind.limit().0, self.passed.max(enough).0, window.0);
        let ran = prorate(capacity.0, self.passed.0, 1000 * BYSTANDER);
        let took_part = match (kind, self.moved) {
            // What is written back uses no CPU of its own: the disk's own count is better, where there is one.
            (Kind::Io, Some(moved)) => moved.0 >= prorate(IO_BYSTANDER, self.passed.0, 1_000_000).max(1),
            _ => self.lent.0 > ran,
        };
        let own = self
            .own
            .minus(Span(prorate(capacity.0, self.passed.0, 1000 * OWN_USUAL)));
        let bad = kind.by_lent(self.waited, self.lent, own).0 >= limit && took_part;
        let stall = Stall {
            kind,
            waited: Span(prorate(self.waited.0, TENTH.0, self.passed.max(TENTH).0)),
        };
        if bad || self.passed >= enough {
            *self = Self::EMPTY;
        }
        bad.then_some(stall)
    }
}

/// All gauges, and the last bad moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch {
    gauges: [Gauge; 3],
    last: Option<(Stall, Span)>,
    /// How many bad moments the run has that the last one belongs to.
    run: u32,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self {
            gauges: [Gauge::EMPTY; 3],
            last: None,
            run: 0,
        }
    }

    pub(super) fn pass(&mut self, elapsed: Span) {
        if let Some((_, ago)) = &mut self.last {
            *ago = ago.plus(elapsed);
        }
    }

    /// Whether production stalled while lent work ran, and in which ways.
    pub(super) fn judge(&mut self, interval: &Interval, capacity: MilliCpu) -> Bad {
        let mut bad = Bad::default();
        for kind in Kind::ALL {
            let gauge = &mut self.gauges[kind.index()];
            bad.0[kind.index()] = match interval.waits[kind.index()] {
                Some(wait) => {
                    gauge.add(wait, interval);
                    gauge.judge(kind, capacity)
                }
                None => {
                    *gauge = Gauge::EMPTY;
                    None
                }
            };
        }
        bad
    }

    /// What was being added up is worth nothing across a gap.
    pub(super) const fn forget(&mut self) {
        self.gauges = [Gauge::EMPTY; 3];
    }

    /// The last bad moment, if it was a moment ago.
    pub(super) fn lately(&self) -> Option<Stall> {
        self.last
            .filter(|(_, ago)| *ago <= RUN_WITHIN)
            .map(|(stall, _)| stall)
    }

    /// How many bad moments there were before this one, if it is bad, in the same run.
    pub(super) fn run(&self) -> u32 {
        self.lately().map_or(0, |_| self.run)
    }

    /// A stall that counts.
    pub(super) fn remember(&mut self, stall: Stall) {
        self.run = self.run().saturating_add(1);
        self.last = Some((stall, Span::ZERO));
    }
}
