//! What kind of machine stands for production's node.
//!
//! On a shared host without KVM, two measurements of the same thing differ by a third, and the goals by a tenth. So what
//! the schedulers do is measured where a clock counts instructions: on one CPU, whatever the host does meanwhile. What
//! several CPUs do to each other is not seen there, nor what caches and memory do; and Slurm lends whole CPUs, of which it
//! needs a second.

use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::rig::NODE;
use crate::bench::form::Form;
use crate::deploy::FLEET_GUEST;
use crate::testbed::GuestSpec;
use crate::testbed::image::Image;

/// Enough for production and Slurm's job, and little enough that a streamer of 768 MiB fills it.
const MEMORY_MIB: u32 = 1536;

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// One CPU by a clock that counts instructions. It is its own fleet guest.
    Counted,
    /// Two CPUs by the host's clock, and a fleet guest beside it.
    Host,
}

impl Machine {
    pub(super) const ALL: [Self; 2] = [Self::Counted, Self::Host];

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counted => "one CPU, its clock counts instructions",
            Self::Host => "two CPUs by the host's clock",
        }
    }

    /// How many may be measured at the same time. One whose clock counts instructions has one CPU, and what the host does
    /// beside it only delays it.
    ///
    /// # Errors
    /// When the host's CPUs cannot be counted.
    pub(super) fn at_once(self) -> Result<usize> {
        match self {
            Self::Counted => Ok(available_parallelism().context("count the host's CPUs")?.get()),
            Self::Host => Ok(1),
        }
    }

    /// In the ids of what is known of the machine itself.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Counted => "",
            Self::Host => "host_",
        }
    }

    pub(super) fn guests(self, preemption: Preemption) -> Vec<GuestSpec> {
        let node = |cpus| {
            GuestSpec::new(NODE, Image::Bench, cpus)
                .memory_mib(MEMORY_MIB)
                .kernel_word(preemption.kernel_word())
        };
        match self {
            Self::Counted => vec![node(1).counted()],
            Self::Host => vec![GuestSpec::new(FLEET_GUEST, Image::Bench, 1).behind(), node(2)],
        }
    }

    /// Where operators sit.
    pub(super) const fn admin(self) -> &'static str {
        match self {
            Self::Counted => NODE,
            Self::Host => FLEET_GUEST,
        }
    }

    /// One measurement.
    pub(super) const fn slice(self, form: Form) -> Duration {
        match (self, form) {
            // A clock that nothing disturbs needs no long look, but a 99.9th percentile needs requests, and the short form
            // has few slices.
            (Self::Counted, Form::Release | Form::One) => Duration::from_secs(4),
            (Self::Counted, Form::Short) | (Self::Host, _) => Duration::from_secs(8),
        }
    }

    /// So much longer than in the guest it takes on a quiet host of two cores.
    pub(super) const fn times_slower(self) -> u32 {
        match self {
            Self::Counted => 3,
            Self::Host => 1,
        }
    }

    /// How much of the host's time so much of the guest's may take.
    pub(super) fn longest(self, length: Duration) -> Duration {
        const BUSY_HOST: u32 = 4;
        match self {
            Self::Counted => length * self.times_slower() * BUSY_HOST,
            Self::Host => length,
        }
    }

    /// The one that `LOADLINE_CLOCK` names for all cells; none: each has its own.
    ///
    /// # Errors
    /// When there is no such clock.
    pub(super) fn chosen() -> Result<Option<Self>> {
        Self::named(std::env::var("LOADLINE_CLOCK").ok().as_deref())
    }

    fn named(name: Option<&str>) -> Result<Option<Self>> {
        match name {
            None | Some("") => Ok(None),
            Some("counted") => Ok(Some(Self::Counted)),
            Some("host") => Ok(Some(Self::Host)),
            Some(other) => bail!("LOADLINE_CLOCK is {other:?}; it may be counted or host"),
        }
    }
}

/// Where the node's kernel leaves lent work for production.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preemption {
    /// Anywhere, as `loadline-warden check` asks of a machine's owner.
    Full,
    /// In the kernel only at some places, as distributions deliver it.
    Voluntary,
}

impl Preemption {
    const fn kernel_word(self) -> &'static str {
        match self {
            Self::Full => "preempt=full",
            Self::Voluntary => "preempt=voluntary",
        }
    }

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Voluntary => "voluntary",
        }
    }

    /// The one that `LOADLINE_PREEMPT` names, full without.
    ///
    /// # Errors
    /// When there is no such word.
    pub(super) fn chosen() -> Result<Self> {
        match std::env::var("LOADLINE_PREEMPT").as_deref() {
            Err(_) | Ok("" | "full") => Ok(Self::Full),
            Ok("voluntary") => Ok(Self::Voluntary),
            Ok(other) => bail!("LOADLINE_PREEMPT is {other:?}; it may be full (default) or voluntary"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_s_guests_can_be_booted_and_have_the_two_that_are_asked_for() {
        for machine in Machine::ALL {
            let guests = machine.guests(Preemption::Full);
            for guest in &guests {
                guest.check().unwrap();
            }
            let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
            assert!(
                names.contains(&NODE) && names.contains(&machine.admin()),
                "{names:?}"
            );
        }
    }

    #[test]
    fn an_unknown_clock_is_not_taken_for_another() {
        assert_eq!(Machine::named(None).unwrap(), None);
        assert_eq!(Machine::named(Some("host")).unwrap(), Some(Machine::Host));
        assert!(Machine::named(Some("Host")).is_err());
    }
}
