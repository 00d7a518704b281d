//! Backfill: small work runs in the gap before a large job, and never in its way.
//!
//! Problem: whoever needs much waits until much is free at once; if everyone who fits passes it, that never comes.
//! Approach: EASY (Lifka, JSSPP 1995) on whatever the caller keeps its books in. Claims are offered in order; the
//! first that finds no room gets a *reservation*: the books are rolled forward, one expected end after the other,
//! until it fits. Who comes later starts if it ends before that, or if the reservation's own books have room for it
//! on the very nodes it was given. Several reservations form a chain, each on top of those before it.
//!
//! Properties: with true estimates no reservation is ever delayed by who passes it; a claim that is not reserved holds
//! nothing; what a pass starts, it has booked.

use alloc::vec::Vec;

use loadline_model::{Span, WallTime};
use serde::{Deserialize, Serialize};

/// The books that are filled: the engine's, or a counter of processors. A clone is rolled forward for each reservation.
pub trait Room: Clone {
    /// What is asked for.
    type Ask;
    /// What was given, and where.
    type Grant: Clone;

    /// Books all that is asked for, or nothing.
    fn book(&mut self, ask: &Self::Ask) -> Option<Self::Grant>;

    /// Books at the very places of a grant of other books, if they have room here; all or nothing.
    fn repeat(&mut self, grant: &Self::Grant) -> bool;

    /// Gives back what was booked or repeated.
    fn release(&mut self, grant: &Self::Grant);

    /// False if there is certainly no room: saves a search. It may err on the other side.
    fn may_have(&self, ask: &Self::Ask) -> bool {
        let _ = ask;
        true
    }
}

/// What the operators decide about backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillRules {
    /// So many blocked claims get reservations; zero: whoever fits starts.
    pub reservations: usize,
}

impl Default for BackfillRules {
    /// One, as EASY has it: more reservations leave fewer gaps to those behind.
    fn default() -> Self {
        Self { reservations: 1 }
    }
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer<G> {
    /// It starts now, with this.
    Starts(G),
    /// There is no room; it is expected to start then.
    Reserved(End),
    /// There is room, but a reservation would be delayed.
    InTheWay,
    /// There is no room, and it gets no reservation.
    NoRoom,
    /// There would be no room even if everything that the pass knows of had ended.
    Never,
}

/// When something ends, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Then.
    At(WallTime),
    /// Some time: after everything of which the end is known.
    Unknown,
}

impl End {
    pub(crate) fn after(begin: Self, estimate: Option<Span>) -> Self {
        match (begin, estimate) {
            (Self::At(begin), Some(estimate)) => Self::At(begin.plus(estimate)),
            _ => Self::Unknown,
        }
    }

    /// Two of which nothing is known are taken to overlap.
    fn outlasts(self, at: Self) -> bool {
        self > at || self == Self::Unknown
    }
}

/// What is booked until an expected end.
#[derive(Debug, Clone)]
struct Until<G> {
    end: End,
    grant: G,
}

/// The books as they will be when a blocked claim starts, with it.
#[derive(Debug, Clone)]
struct Reservation<R: Room> {
    at: End,
    end: End,
    grant: R::Grant,
    room: R,
}

/// One pass over the claims.
#[derive(Debug, Clone)]
pub struct Backfill<R: Room> {
    now: WallTime,
    rules: BackfillRules,
    room: R,
    held: Vec<Until<R::Grant>>,
    reservations: Vec<Reservation<R>>,
}

impl<R: Room> Backfill<R> {
    /// Begins with the books of now and what runs, each with its expected end.
    pub fn new(
        room: R,
        running: impl IntoIterator<Item = (End, R::Grant)>,
        rules: BackfillRules,
        now: WallTime,
    ) -> Self {
        let running = running.into_iter().map(|(end, grant)| Until { end, grant });
        Self {
            now,
            rules,
            room,
            held: running.collect(),
            reservations: Vec::new(),
        }
    }

    /// Ends with the books as they are after the pass.
    pub fn finish(self) -> R {
        self.room
    }

    /// When the reserved claims are expected to start, in the order in which they were reserved.
    pub fn reserved(&self) -> impl Iterator<Item = End> {
        self.reservations.iter().map(|reservation| reservation.at)
    }

    /// The next claim in order: starts it, reserves for it, or lets it wait.
    pub fn offer(&mut self, ask: &R::Ask, estimate: Option<Span>) -> Offer<R::Grant> {
        let end = End::after(End::At(self.now), estimate);
        let Some(grant) = self.room.book(ask) else {
            return self.reserve(ask, estimate).unwrap_or(Offer::NoRoom);
        };
        if !self.leaves_reservations(&grant, end) {
            self.room.release(&grant);
            // Without a reservation of its own, whoever comes after it would be promised what it needs.
            return self.reserve(ask, estimate).unwrap_or(Offer::InTheWay);
        }
        self.held.push(Until {
            end,
            grant: grant.clone(),
        });
        Offer::Starts(grant)
    }

    /// Books a start in every reservation that it outlasts, or in none.
    fn leaves_reservations(&mut self, grant: &R::Grant, end: End) -> bool {
        for index in 0..self.reservations.len() {
            let reservation = &mut self.reservations[index];
            if !end.outlasts(reservation.at) || reservation.room.repeat(grant) {
                continue;
            }
            for earlier in &mut self.reservations[..index] {
                if end.outlasts(earlier.at) {
                    earlier.room.release(grant);
                }
            }
            return false;
        }
        true
    }

    /// Promises a claim the first moment at which it fits on top of what is promised already; none if all reservations
    /// are given.
    fn reserve(&mut self, ask: &R::Ask, estimate: Option<Span>) -> Option<Offer<R::Grant>> {
        if self.reservations.len() >= self.rules.reservations {
            return None;
        }
        let last = self.reservations.last();
        let from = last.map_or(End::At(self.now), |last| last.at);
        let mut room = last.map_or_else(|| self.room.clone(), |last| last.room.clone());
        let reserved = self.reservations.iter();
        let reserved = reserved.map(|reservation| (reservation.end, &reservation.grant));
        let held = self.held.iter().map(|held| (held.end, &held.grant));
        let later = |(end, _): &(End, &R::Grant)| *end > from;
        let mut ends: Vec<(End, &R::Grant)> = held.chain(reserved).filter(later).collect();
        ends.sort_by_key(|(end, _)| *end);
        let booked = |room: &mut R| room.may_have(ask).then(|| room.book(ask)).flatten();
        // On the last reservation's own books it may fit at once: what blocks it now will have ended.
        let mut found = last.and_then(|_| booked(&mut room));
        let mut at = from;
        for together in ends.chunk_by(|a, b| a.0 == b.0) {
            if found.is_some() {
                break;
            }
            for (end, grant) in together {
                room.release(grant);
                at = *end;
            }
            found = booked(&mut room);
        }
        let Some(grant) = found else {
            return Some(Offer::Never);
        };
        let end = End::after(at, estimate);
        self.reservations.push(Reservation { at, end, grant, room });
        Some(Offer::Reserved(at))
    }
}
