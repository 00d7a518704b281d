//! May this order run here? Local policy is final: a validly signed order that goes beyond it is refused
//! (design §4), for now or for good, with one sentence that says what would change that.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use loadline_model::{Amounts, Bytes, LineAmounts, MilliCpu, Tier};

use crate::allocation::{Allocation, CpuRefusal, Machine, wants_exclusive};
use crate::attempt::{Event, WorkOrder};
use crate::node_policy::{LocalTimes, Mode, NodePolicy, UID_FLOOR};
use crate::settings::Pinning;

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// True: never on this node as it is. False: try again later, or elsewhere.
    pub for_good: bool,
    /// One sentence with the next step.
    pub sentence: String,
}

impl Refusal {
    fn for_now(sentence: impl Into<String>) -> Self {
        Self {
            for_good: false,
            sentence: sentence.into(),
        }
    }

    fn for_good(sentence: impl Into<String>) -> Self {
        Self {
            for_good: true,
            sentence: sentence.into(),
        }
    }
}

impl From<CpuRefusal> for Refusal {
    fn from(refusal: CpuRefusal) -> Self {
        Self {
            for_good: refusal.for_good(),
            sentence: refusal.to_string(),
        }
    }
}

impl From<Refusal> for Event {
    fn from(Refusal { for_good, sentence }: Refusal) -> Self {
        Self::Refused { for_good, sentence }
    }
}

/// The account as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// It exists.
    Known {
        /// Its uid.
        uid: u32,
        /// The names of all groups it is in.
        groups: BTreeSet<String>,
    },
    /// It does not.
    Missing,
}

/// Whether anything may run now, leaving aside whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lending {
    /// Yes.
    Open,
    /// Nothing new; what runs may go on (`shadow`: touch nothing).
    Closed(String),
    /// Nothing at all: what runs is evicted.
    Withdrawn(String),
}

/// Whether anything may run at this moment.
pub fn lending(policy: &NodePolicy, local: &LocalTimes) -> Lending {
    let windows = &policy.lend.windows;
    match policy.lend.mode {
        Mode::Off => {
            let who = held_by(policy);
            Lending::Withdrawn(format!("this node lends nothing: its mode is `off`{who}"))
        }
        Mode::Shadow => {
            let who = held_by(policy);
            Lending::Closed(format!("this node only watches: its mode is `shadow`{who}"))
        }
        Mode::Enforce if !windows.is_empty() && !windows.iter().any(|window| window.is_open(local)) => {
            Lending::Withdrawn("this node lends only in its windows, and none is open now".into())
        }
        Mode::Enforce => Lending::Open,
    }
}

/// Who holds the mode there, if it is not the owner.
fn held_by(policy: &NodePolicy) -> String {
    let held = policy.lend.mode_held_by.as_ref();
    held.map_or_else(String::new, |who| format!(", set by {who}"))
}

/// Everything an order is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// The owner's policy.
    pub policy: &'a NodePolicy,
    /// The moment by the clocks that the windows go by.
    pub local: &'a LocalTimes,
    /// The machine.
    pub machine: Machine<'a>,
    /// What others hold.
    pub allocation: &'a Allocation,
    /// CPU and memory that others of the standard tier hold.
    pub standard_held: (MilliCpu, Bytes),
    /// GPUs that others hold.
    pub gpus_held: u32,
}

impl Admission<'_> {
    /// Checks one order. The CPUs themselves are granted after, by [`Allocation::grant`].
    ///
    /// # Errors
    /// The first reason against it; reasons for good come before reasons for now.
    pub fn check(&self, order: &WorkOrder, account: &Account) -> Result<(), Refusal> {
        self.check_person(order, account)?;
        self.check_ever_fits(order)?;
        self.check_ceiling(order)?;
        self.check_week(order)?;
        match lending(self.policy, self.local) {
            Lending::Open => self.check_fits_now(order),
            Lending::Closed(why) | Lending::Withdrawn(why) => Err(Refusal::for_now(why)),
        }
    }

    fn check_person(&self, order: &WorkOrder, account: &Account) -> Result<(), Refusal> {
        let (lend, user) = (&self.policy.lend, &order.user);
        let Account::Known { uid, groups } = account else {
            return Err(Refusal::for_good(format!(
                "the account `{user}` does not exist on this node"
            )));
        };
        if *uid < UID_FLOOR {
            return Err(Refusal::for_good(format!(
                "`{user}` is root, and root is never lent to"
            )));
        }
        if *uid < lend.uid_min {
            return Err(Refusal::for_good(format!(
                "`{user}` has uid {uid}, below the {} that this node's policy asks for (lend.uid_min)",
                lend.uid_min
            )));
        }
        if let Some(group) = groups.intersection(&lend.deny_groups).next() {
            return Err(Refusal::for_good(format!(
                "`{user}` is in the group `{group}`, which this node's policy refuses (lend.deny_groups)"
            )));
        }
        if !lend.allow_teams.is_empty() && !lend.allow_teams.contains(&order.team) {
            let team = if order.team.is_empty() {
                "no team".into()
            } else {
                format!("the team `{}`", order.team)
            };
            return Err(Refusal::for_good(format!(
                "`{user}` is in {team}, and this node lends only to some teams (lend.allow_teams)"
            )));
        }
        Ok(())
    }

    fn check_ever_fits(&self, order: &WorkOrder) -> Result<(), Refusal> {
        let spec = &order.spec;
        check_held(order)?;
        // An operator's ceiling may be lifted again, and production's next week may be another: these refuse for now.
        let line = self.machine.line.owners();
        if let Some(asked) = wants_exclusive(spec.tier, spec.worker.cpus) {
            if let Pinning::WeightsOnly { why } = self.machine.pinning {
                return Err(CpuRefusal::NoCpuset { why: why.clone() }.into());
            }
            let whole_cpus = line.most_whole_cpus();
            if asked > whole_cpus {
                return Err(CpuRefusal::MoreThanLine { asked, whole_cpus }.into());
            }
        }
        exceeds(Amounts::from(spec.worker), line.most())
            .map_or(Ok(()), |what| Err(Refusal::for_good(format!("{what} at most"))))
    }

    fn check_ceiling(&self, order: &WorkOrder) -> Result<(), Refusal> {
        let line = self.machine.line;
        let Some(ceiling) = &line.ceiling else {
            return Ok(());
        };
        let by = &ceiling.by;
        if line.is_closed() {
            return Err(Refusal::for_now(format!(
                "{by} has closed this node to lent work: its line is at 0 %"
            )));
        }
        let what = beyond(order, line.most(), line.most_whole_cpus());
        what.map_or(Ok(()), |what| {
            let percent = ceiling.share.0 / 10;
            Err(Refusal::for_now(format!(
                "{what} at most while {by} holds its line at {percent} %"
            )))
        })
    }

    /// What production needed in its last week is not lent for hours. Who runs already goes on: their room is the static
    /// line's.
    fn check_week(&self, order: &WorkOrder) -> Result<(), Refusal> {
        let line = self.machine.line;
        let held = line.held_by_week().filter(|_| order.spec.tier == Tier::Standard);
        let Some(since) = held else { return Ok(()) };
        beyond(order, line.firm(), line.whole_cpus()).map_or(Ok(()), |what| {
            Err(Refusal::for_now(format!(
                "{what} at most to standard work: {since}; burst work goes by what is free at the moment"
            )))
        })
    }

    fn check_fits_now(&self, order: &WorkOrder) -> Result<(), Refusal> {
        let spec = &order.spec;
        let line = self.machine.line;
        let free = self.free(spec.tier);
        exceeds(Amounts::from(spec.worker), free).map_or(Ok(()), |what| {
            let of = match (spec.tier, line.held_by_week()) {
                (Tier::Burst, _) => "the free part of its line of now".to_owned(),
                (Tier::Standard, None) => "the free part of its firm line".to_owned(),
                (Tier::Standard, Some(since)) => format!("the free part of its firm line: {since}"),
            };
            Err(Refusal::for_now(format!("{what} now ({of})")))
        })
    }

    /// What a tier may still get, as the fleet counts it: standard against the firm line, and burst together with
    /// standard against the line of now; both together never exceed the higher of the two.
    fn free(&self, tier: Tier) -> LineAmounts {
        let line = self.machine.line;
        let (firm, now) = (line.firm(), line.now());
        let ((all_cpu, all_memory), (cpu, memory)) = (self.allocation.accounted(), self.standard_held);
        let gpus = line.gpus.saturating_sub(self.gpus_held);
        match tier {
            Tier::Burst => LineAmounts {
                cpu: now.cpu.minus(all_cpu),
                memory: now.memory.minus(all_memory),
                gpus,
            },
            Tier::Standard => LineAmounts {
                cpu: firm.cpu.minus(cpu).min(firm.cpu.max(now.cpu).minus(all_cpu)),
                memory: firm
                    .memory
                    .minus(memory)
                    .min(firm.memory.max(now.memory).minus(all_memory)),
                gpus,
            },
        }
    }
}

/// What this node cannot hold, whoever asks.
fn check_held(order: &WorkOrder) -> Result<(), Refusal> {
    let needs = &order.spec.needs;
    if let Some(share) = needs.gpu_share {
        return Err(Refusal::for_good(format!(
            "it asks for {share} of a GPU, and this node lends whole GPUs only"
        )));
    }
    if !needs.scratch.is_zero() {
        return Err(Refusal::for_good(format!(
            "it asks for {} of scratch space, and this node lends none",
            needs.scratch
        )));
    }
    Ok(())
}

/// What of an order is more than this, as the beginning of a sentence.
fn beyond(order: &WorkOrder, most: LineAmounts, whole_cpus: u32) -> Option<String> {
    let (tier, worker) = (order.spec.tier, order.spec.worker);
    match wants_exclusive(tier, worker.cpus).filter(|asked| *asked > whole_cpus) {
        Some(asked) => Some(format!(
            "it asks for {asked} CPUs of its own and this node lends {whole_cpus}"
        )),
        None => exceeds(Amounts::from(worker), most),
    }
}

/// The first resource that does not fit, as the beginning of a sentence.
fn exceeds(asked: Amounts, limit: LineAmounts) -> Option<String> {
    if asked.cpu > limit.cpu {
        Some(format!(
            "it asks for {} CPUs and this node lends {}",
            asked.cpu, limit.cpu
        ))
    } else if asked.memory > limit.memory {
        Some(format!(
            "it asks for {} of memory and this node lends {}",
            asked.memory, limit.memory
        ))
    } else if asked.gpus > limit.gpus {
        Some(format!(
            "it asks for {} GPUs and this node lends {}",
            asked.gpus, limit.gpus
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
