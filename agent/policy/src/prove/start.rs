//! May a test begin now? Only where the machine is as calm as it has to be for lent work to start.

use loadline_model::Bytes;

use super::room::Room;
use crate::headroom::Level;
use crate::node_policy::Mode;

/// What is known before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// The mode in force.
    pub mode: Mode,
    /// The owner's, which an operator may have lowered.
    pub owner_mode: Mode,
    /// An operator lets nothing be lent.
    pub closed: bool,
    /// Where the warden's ladder stands; none: no warden runs, so the test holds the line itself.
    pub level: Option<Level>,
    /// Workers that run.
    pub workers: usize,
    /// They may: the owner said so.
    pub with_workers: bool,
    /// What the line leaves.
    pub room: Room,
}

/// Why it does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is lent here.
    #[error(
        "node.toml says that nothing is lent here (mode \"off\"): set lend.mode to \"shadow\" or \"enforce\", `systemctl reload loadline-warden`, and try again"
    )]
    Off,
    /// An operator lets nothing be lent.
    #[error(
        "an operator lets nothing be lent here just now: see `loadline-warden status` for who, and try again when that is lifted"
    )]
    Closed,
    /// Production is in need.
    #[error("production is in need just now (the warden's ladder stands at \"{}\"): try again when `fleet node show` says open or hold", .0.word())]
    InNeed(Level),
    /// Lent work would blur the rounds alone.
    #[error(
        "{0} workers run on this node and would blur what production does alone: drain the node first, or accept it with --with-workers"
    )]
    Workers(usize),
    /// Nothing is known of memory.
    #[error(
        "the memory that can still be had could not be read, so production could not be watched: see `loadline-warden check`"
    )]
    Blind,
    /// Memory is short already.
    #[error(
        "only {available} of memory can still be had, less than the headroom of {headroom}: free some first, or lower production.headroom.memory in node.toml"
    )]
    MemoryLow {
        /// What is left.
        available: Bytes,
        /// What is kept.
        headroom: Bytes,
    },
}

/// May it begin?
///
/// # Errors
/// Why not, and what to do about it.
pub fn may_start(ground: &Ground) -> Result<(), Refusal> {
    if ground.owner_mode == Mode::Off {
        return Err(Refusal::Off);
    }
    if ground.closed || ground.mode == Mode::Off {
        return Err(Refusal::Closed);
    }
    match ground.level {
        None | Some(Level::Open | Level::Hold) => {}
        Some(level @ (Level::Shrink | Level::Squeeze | Level::Evict)) => return Err(Refusal::InNeed(level)),
    }
    if ground.workers > 0 && !ground.with_workers {
        return Err(Refusal::Workers(ground.workers));
    }
    let headroom = ground.room.memory_headroom;
    match ground.room.memory_available {
        None => Err(Refusal::Blind),
        Some(available) if available < headroom => Err(Refusal::MemoryLow { available, headroom }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::room::tests::room;

    fn ground() -> Ground {
        Ground {
            mode: Mode::Enforce,
            owner_mode: Mode::Enforce,
            closed: false,
            level: Some(Level::Open),
            workers: 0,
            with_workers: false,
            room: room(),
        }
    }

    #[test]
    fn a_table_of_grounds() {
        assert_eq!(may_start(&ground()), Ok(()));
        for level in Level::ALL {
            let calm = matches!(level, Level::Open | Level::Hold);
            let answer = may_start(&Ground {
                level: Some(level),
                ..ground()
            });
            assert_eq!(answer, if calm { Ok(()) } else { Err(Refusal::InNeed(level)) });
        }
        assert_eq!(
            may_start(&Ground {
                level: None,
                ..ground()
            }),
            Ok(()),
            "no warden"
        );
        for mode in [Mode::Shadow, Mode::Enforce] {
            assert_eq!(may_start(&Ground { mode, ..ground() }), Ok(()));
        }
        assert_eq!(
            may_start(&Ground {
                mode: Mode::Off,
                owner_mode: Mode::Off,
                ..ground()
            }),
            Err(Refusal::Off)
        );
        for closed in [
            Ground {
                mode: Mode::Off,
                ..ground()
            },
            Ground {
                closed: true,
                ..ground()
            },
        ] {
            assert_eq!(may_start(&closed), Err(Refusal::Closed));
        }
        let busy = Ground {
            workers: 2,
            ..ground()
        };
        assert_eq!(may_start(&busy), Err(Refusal::Workers(2)));
        assert_eq!(
            may_start(&Ground {
                with_workers: true,
                ..busy
            }),
            Ok(())
        );
    }

    #[test]
    fn memory_below_the_headroom_or_unknown_is_no_ground() {
        let with = |available| {
            let mut low = ground();
            low.room.memory_available = available;
            may_start(&low)
        };
        let headroom = room().memory_headroom;
        assert_eq!(with(Some(headroom)), Ok(()));
        let available = Bytes(headroom.0 - 1);
        assert_eq!(
            with(Some(available)),
            Err(Refusal::MemoryLow { available, headroom })
        );
        assert_eq!(with(None), Err(Refusal::Blind));
    }
}
