//! Why a job waits, in the order in which a plan asks: may it start at all, is there room, is that room kept for
//! someone else; and who goes before it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use loadline_model::{JobId, NodeId, Span, WallTime};

use crate::change::Change;
use crate::planner::books::KeptNode;
use crate::planner::keeps::{Comer, KeptFor};
use crate::planner::pass::gate_of;
use crate::planner::{Books, Planner, Policy, together};
use crate::policy::order::{Class, Turns, class};
use crate::policy::{End, Gated, OverQuota, Shut, Tab};
use crate::queue::QueueEntry;
use crate::report::{Expected, Reason, ReasonCode, Why};

/// A queue that is longer is not counted to its end.
const BEFORE_MAX: u32 = 10_000;
/// No shorter time limit is proposed: a job would hardly do its work.
const TIME_MIN: Span = Span::from_secs(60);

impl Planner {
    /// Says why the next worker of a job waits, or that it is next in line; none: it does not wait.
    #[must_use]
    pub fn why(&self, job: JobId, policy: &Policy, now: WallTime) -> Option<Why> {
        let entry = self.lines.entry(job)?;
        let books = Books::new(self.nodes.iter(), now);
        let mut why = self.why_entry(&books, &entry);
        why.expected = self.keeps.of(job).map(|keep| Expected {
            at: match keep.is.at {
                End::At(at) => Some(at),
                End::Unknown => None,
            },
            yielding: matches!(keep.is.why, KeptFor::Yielded { .. }),
        });
        let before = self.before(job, policy, now);
        why.before = before.all;
        if before.all > 0 && !why.reasons.is_empty() {
            why.reasons.push(before.reason());
        }
        Some(why)
    }

    /// Says why the jobs of a job's line wait: the same for all of them, without what is so of one alone.
    #[must_use]
    pub fn why_line(&self, job: JobId, now: WallTime) -> Option<Why> {
        let entry = self.lines.entry(job)?;
        let books = Books::new(self.nodes.iter(), now);
        Some(self.why_entry(&books, &entry))
    }

    /// The same for all jobs of a line: without what is so of one job alone.
    pub(crate) fn why_entry(&self, books: &Books<'_>, entry: &QueueEntry) -> Why {
        let now = books.now;
        let estimate = self.estimates.of(&entry.user, entry.limit());
        let end = self.would_end(&entry.user, entry.limit(), now);
        let kept = self.kept_from(books, entry, end);
        let books = books.clone().without(kept);
        let mut why = books.why(entry, together(entry));
        let shutter = self.shutter(now);
        let tab = Tab::default();
        let start = together(entry);
        if let Err(gated) = gate_of(entry, start, estimate, &self.accounts, &tab, &shutter, now) {
            let fits = why.reasons.is_empty();
            why.passes = (why.passes || fits) && !is_for_good(&gated);
            why.change = change_for(&gated, entry);
            why.reasons.insert(0, told(&gated, entry));
        } else if why
            .reasons
            .iter()
            .any(|reason| reason.code == ReasonCode::KeptForOthers)
        {
            let shorter = self.shorter(&books, entry, now);
            why.change = shorter.or(why.change);
        }
        why
    }

    /// The nodes on which the job would be in the way of others.
    fn kept_from(&self, books: &Books<'_>, entry: &QueueEntry, end: End) -> BTreeMap<NodeId, KeptNode> {
        let comer = Comer { entry, end };
        if self.keeps.outlasted(entry.job, end) == 0 {
            return BTreeMap::new();
        }
        let gang = together(entry) > 1;
        let kept = books.nodes.iter().filter_map(|node| {
            let kept = self.keeps.in_the_way(node, &comer);
            let kept = kept.or_else(|| gang.then(|| self.keeps.first_touched(node.id, &comer)).flatten())?;
            let at = match kept.at {
                End::At(at) => Some(at.since(books.now)),
                End::Unknown => None,
            };
            Some((
                node.id,
                KeptNode {
                    number: kept.number,
                    starts_in: at,
                    wholly: gang,
                },
            ))
        });
        kept.collect()
    }

    /// A time limit with which the job would be gone before those for whom room is kept.
    fn shorter(&self, books: &Books<'_>, entry: &QueueEntry, now: WallTime) -> Option<Change> {
        let ends = self.keeps.all.iter().filter_map(|keep| match keep.is.at {
            End::At(at) if keep.is.job != entry.job => Some(at.since(now)),
            _ => None,
        });
        // In whole minutes, as people write them.
        let minute = 60_000_000;
        let time = Span(ends.min()?.minus(entry.grace).0 / minute * minute);
        if time < TIME_MIN || entry.time.is_some_and(|asked| asked <= time) {
            return None;
        }
        let shorter = QueueEntry {
            time: Some(time),
            ..entry.clone()
        };
        let end = self.would_end(&shorter.user, shorter.limit(), now);
        let kept = self.kept_from(books, &shorter, end);
        let free = books.clone().without(kept);
        free.would_start(&shorter, together(&shorter))
            .then_some(Change::ShorterTime { time })
    }

    /// Who goes before a job, as if everybody started in turn.
    fn before(&self, job: JobId, policy: &Policy, now: WallTime) -> Before {
        let mut before = Before::default();
        let Some((turn, kind)) = self.lines.turn_of(job) else {
            return before;
        };
        let mine = class(&self.claim(turn, kind), &policy.order, now);
        let mut turns = Turns::new(self.accounts.rules().capacity, policy.order, now);
        let mut heads = BTreeMap::new();
        for number in self.lines.numbers() {
            if let Some((turn, kind, _)) = self.lines.head(number) {
                turns.enter(&self.claim(turn, kind), number, &self.accounts);
                heads.insert(number, turn);
            }
        }
        while let Some(number) = turns.next()
            && before.all < BEFORE_MAX
        {
            let Some(at) = heads.get(&number).copied() else {
                break;
            };
            if at.job == job {
                break;
            }
            if let Some((turn, kind)) = self.lines.turn_of(at.job) {
                let claim = self.claim(turn, kind);
                before.count(&class(&claim, &policy.order, now), &mine);
            }
            if let Some((turn, kind, _)) = self.lines.after(number, at) {
                turns.enter(&self.claim(turn, kind), number, &self.accounts);
                heads.insert(number, turn);
            }
            turns.done(true);
        }
        before
    }
}

/// How many jobs go before one, and by what.
#[derive(Debug, Default)]
struct Before {
    all: u32,
    tier: u32,
    waited: u32,
    priority: u32,
    kept: u32,
    /// Whose team or user has had less of its share, who is more urgent, or came earlier.
    share: u32,
}

impl Before {
    fn count(&mut self, other: &Class, mine: &Class) {
        self.all += 1;
        let (tier, extra, patient, priority, reserved) = other;
        let by = if (tier, extra) != (&mine.0, &mine.1) {
            &mut self.tier
        } else if *patient != mine.2 {
            &mut self.waited
        } else if *priority != mine.3 {
            &mut self.priority
        } else if *reserved != mine.4 {
            &mut self.kept
        } else {
            &mut self.share
        };
        *by += 1;
    }

    fn reason(&self) -> Reason {
        let parts = [
            (self.tier, "by tier"),
            (self.waited, "since they have waited for days"),
            (self.priority, "by priority"),
            (self.kept, "since room is kept for them"),
            (self.share, "by share, urgency or age"),
        ];
        let mut told = String::new();
        for (count, by) in parts.into_iter().filter(|(count, _)| *count > 0) {
            let separator = if told.is_empty() { "" } else { ", " };
            told += &format!("{separator}{count} {by}");
        }
        let subject = match self.all {
            1 => "1 job goes before it".to_string(),
            BEFORE_MAX => format!("{BEFORE_MAX} jobs or more go before it"),
            all => format!("{all} jobs go before it"),
        };
        Reason {
            code: ReasonCode::BehindOthers,
            sentence: format!("{subject}: {told}"),
            nodes: 0,
            examples: alloc::vec::Vec::new(),
        }
    }
}

fn is_for_good(gated: &Gated) -> bool {
    match gated {
        Gated::Quota(over) => over.is_for_good(),
        Gated::TeamWindow(shut) | Gated::BurstWindow(shut) => match shut {
            Shut::Closed { opens_in } => opens_in.is_none(),
            Shut::TooLong { .. } => false,
            Shut::NeverLongEnough { .. } => true,
        },
        Gated::Prerequisite(_) => false,
    }
}

fn change_for(gated: &Gated, entry: &QueueEntry) -> Option<Change> {
    match gated {
        Gated::Quota(OverQuota::NoTimeLimit) => Some(Change::GiveTime),
        Gated::Quota(_) => Some(Change::RaiseQuota {
            team: entry.team.clone(),
        }),
        Gated::TeamWindow(_) | Gated::BurstWindow(_) | Gated::Prerequisite(_) => None,
    }
}

fn told(gated: &Gated, entry: &QueueEntry) -> Reason {
    let (code, sentence) = match gated {
        Gated::Quota(over) => (ReasonCode::QuotaReached, over.to_string()),
        Gated::TeamWindow(shut) => (
            ReasonCode::WindowShut,
            window(shut, &format!("work of team {}", entry.team)),
        ),
        Gated::BurstWindow(shut) => (ReasonCode::WindowShut, window(shut, "burst work")),
        Gated::Prerequisite(_) => (
            ReasonCode::WindowShut,
            "it waits for others, or for its own time".to_string(),
        ),
    };
    Reason {
        code,
        sentence,
        nodes: 0,
        examples: alloc::vec::Vec::new(),
    }
}

fn window(shut: &Shut, whose: &str) -> String {
    match shut {
        Shut::Closed { opens_in: Some(span) } => {
            format!(
                "{whose} starts at certain times only; the next begins in {}",
                about(*span)
            )
        }
        Shut::Closed { opens_in: None } => format!("{whose} starts at no time of the week"),
        Shut::TooLong { closes_in, needs } => format!(
            "{whose} has to end within {}, and it would take {}",
            about(*closes_in),
            about(*needs)
        ),
        Shut::NeverLongEnough { longest, needs } => format!(
            "{whose} has to end within the {} that it may run at a time, and it would take {}",
            about(*longest),
            about(*needs)
        ),
    }
}

/// A length of time as people say it.
pub(crate) fn about(span: Span) -> String {
    let minutes = span.0.div_ceil(60_000_000);
    match minutes {
        0 | 1 => "a minute".to_string(),
        2..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes.div_ceil(60)),
        _ => format!("{} days", minutes.div_ceil(24 * 60)),
    }
}
