//! How workers ended, told twice: by systemd's signals and by the records in the folder.

use std::collections::BTreeMap;

use loadline_model::{AttemptId, Peaks, Receipt, ReceiptAction, ReceiptSubject, Span};
use loadline_policy::attempt::UnitEnd;
use loadline_policy::reconcile::{EndRecord, ObservedUnit, UnitActive};
use loadline_policy::settings::Slice;
use tracing::{debug, error, warn};

use super::Reconciler;
use crate::host::clock::Clock;
use crate::host::ended::Found;
use crate::host::systemd::{Systemd, UnitState, UnitUsage};
use crate::host::users::Accounts;

/// How long the second word on an end is waited for.
const SECOND_WORD_WAIT: Span = Span::from_secs(600);

/// Who told of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Signal,
    Record,
}

/// The first word on each end, until the second comes.
#[derive(Debug, Default)]
pub(super) struct Words(BTreeMap<AttemptId, (Source, UnitEnd, Span)>);

impl Words {
    /// Hears one word; false if it contradicts the other.
    pub(super) fn hear(&mut self, attempt: AttemptId, source: Source, end: &UnitEnd, now: Span) -> bool {
        self.0.retain(|_, (_, _, at)| now.minus(*at) < SECOND_WORD_WAIT);
        match self.0.get(&attempt) {
            Some((other, first, _)) if *other != source => {
                let agree = first == end;
                self.0.remove(&attempt);
                agree
            }
            Some(_) => true,
            None => {
                self.0.insert(attempt, (source, end.clone(), now));
                true
            }
        }
    }
}

impl<S: Systemd, C: Clock, A: Accounts> Reconciler<S, C, A> {
    /// A worker's unit is over.
    pub(super) async fn unit_over(&mut self, attempt: AttemptId, unit: &UnitState) {
        let usage = self.systemd.usage(&unit.unit).await;
        self.most_used(attempt, &unit.end, usage);
        self.hear(attempt, Source::Signal, &unit.end);
        let over = ObservedUnit {
            active: UnitActive::Over,
            end: Some(unit.end.clone()),
            limits: None,
        };
        self.units.insert(attempt, over);
    }

    fn hear(&mut self, attempt: AttemptId, source: Source, end: &UnitEnd) {
        let now = self.clock.monotonic();
        if !self.words.hear(attempt, source, end, now) {
            self.counters.end_records_disagreeing += 1;
            warn!(%attempt, ?source, ?end, "signal and record disagree about its end; the record counts");
        }
    }

    /// The last word on what it used: what systemd kept, and the limit where the kernel killed at it.
    fn most_used(&mut self, attempt: AttemptId, end: &UnitEnd, usage: UnitUsage) {
        let slices_hit = end.result == "oom-kill" && self.slices_hit_limit();
        let Some(entry) = self.state.attempts.get_mut(&attempt) else {
            return;
        };
        let mut last = Peaks {
            memory: usage.memory_peak,
            cpu_time: usage.cpu_time.filter(|time| !time.is_zero()),
            tasks: None,
        };
        if end.result == "oom-kill" && !slices_hit {
            // Older systemd keeps no peak. Nobody above it was at a limit, so it was at its own.
            let limit = entry.order.as_ref().map(|order| order.spec.worker.memory);
            last.memory = last.memory.max(limit);
        }
        entry.peaks = most(entry.peaks, last);
    }

    /// True if a slice of ours met its own memory limit since the last look.
    pub(super) fn slices_hit_limit(&mut self) -> bool {
        let mut hit = false;
        for slice in Slice::ALL {
            let now = self.cgroups.limit_met(&self.slice_cgroup(slice));
            let before = self.counters.slices_oom.insert(slice, now);
            hit |= now > before.unwrap_or(0);
        }
        hit
    }

    /// Reads the folder of end records.
    pub(super) fn read_records(&mut self) {
        let found = match self.folder.read() {
            Ok(found) => found,
            Err(problem) => {
                error!(error = &problem as &dyn std::error::Error, "end records");
                return;
            }
        };
        for one in found {
            match one {
                Found::Record(record) if self.in_flight.contains_key(&record.attempt) => {
                    debug!(attempt = %record.attempt, "its end is known before its start is answered");
                }
                Found::Record(record) => {
                    if !self.records.contains_key(&record.attempt) {
                        self.hear(record.attempt, Source::Record, &record.end);
                    }
                    let (end, at) = (record.end, record.at);
                    self.records.insert(record.attempt, EndRecord { end, at });
                }
                Found::SetAside { name, now, why } => {
                    let sentence = format!(
                        "the end record {name} cannot be read ({why}); it is kept as {}",
                        now.display()
                    );
                    self.set_aside(sentence);
                }
            }
        }
        self.drop_settled_records();
    }

    /// Something could not be read and was kept aside.
    pub(super) fn set_aside(&mut self, sentence: String) {
        warn!(sentence, "set aside");
        self.counters.records_set_aside += 1;
        let now = self.now();
        let receipt = Receipt {
            at: now.wall,
            action: ReceiptAction::RecordSetAside,
            subject: ReceiptSubject::Node("ledger".into()),
            sentence,
        };
        self.state.receipt(receipt, now);
    }

    /// These attempts' ends are durable: nothing needs to remember how we know.
    pub(super) fn laid_to_rest(&mut self, over: &[AttemptId]) {
        for attempt in over {
            self.readings.remove(&attempt.unit_name());
            if self
                .units
                .get(attempt)
                .is_none_or(|unit| unit.active == UnitActive::Over)
            {
                self.release(*attempt);
            }
        }
        self.drop_settled_records();
    }

    /// systemd may forget the unit.
    pub(super) fn release(&mut self, attempt: AttemptId) {
        self.units.remove(&attempt);
        self.live.remove(&attempt);
        self.hastened.remove(&attempt);
        let (systemd, unit) = (self.systemd.clone(), attempt.unit_name());
        tokio::spawn(async move {
            if let Err(problem) = systemd.release(&unit).await {
                warn!(error = &problem as &dyn std::error::Error, "release");
            }
        });
    }

    /// Records of ends that the ledger has.
    fn drop_settled_records(&mut self) {
        let settled: Vec<AttemptId> = self
            .records
            .keys()
            .filter(|attempt| self.state.is_over(**attempt))
            .copied()
            .collect();
        for attempt in settled {
            match self.folder.remove(attempt) {
                Ok(()) => drop(self.records.remove(&attempt)),
                Err(problem) => warn!(error = &problem as &dyn std::error::Error, "end record"),
            }
        }
    }
}

/// The larger of each.
pub(super) fn most(a: Peaks, b: Peaks) -> Peaks {
    Peaks {
        memory: a.memory.max(b.memory),
        cpu_time: a.cpu_time.max(b.cpu_time),
        tasks: a.tasks.max(b.tasks),
    }
}
