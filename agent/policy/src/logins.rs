//! How much the logins of a person may use while work of that person is lent to.
//!
//! **Problem.** A worker can have another daemon start something in the name of its person: sshd on the loopback (Dask
//! and Ray need the loopback, and the key lies in the home), a mail server, the person's own user manager by way of a
//! signal or of `/proc/PID/root`. What is started so lands below `user-UID.slice`, beyond the line, with production's
//! weight. **Approach.** While a worker of theirs lives, the slice of their logins may use no more CPU than is kept idle
//! for production's sake anyway: that much production does not miss. Nobody else's slice is touched, none that is not
//! there, and the quota goes with their last worker. This is the one place where something outside `loadline.slice` is
//! limited; services that an owner runs as a person who also submits jobs belong into `system.slice`, or the person into
//! one of `deny_groups`. **Properties.** Where the owner has set a quota, that one stays, and is never lifted; what was done
//! once is not done again; with the last worker every trace goes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use loadline_model::MilliCpu;

use crate::line::Line;
use crate::settings::{CpuMax, Limit};

/// So much is left for a shell to be usable in.
const LEAST: MilliCpu = MilliCpu(100);
/// systemd 252 keeps whole percents.
const PERCENT: u64 = 10;

/// A person's number on this machine.
pub type Uid = u32;

/// What `user-UID.slice` of each person with a login may use; none where the kernel does not say, or has no limit.
pub type Quotas = BTreeMap<Uid, Option<Limit<CpuMax>>>;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Their logins may use so much.
    Hold(Uid, MilliCpu),
    /// Their logins may use all again.
    Release(Uid),
}

/// What the logins of one person may use.
#[must_use]
pub fn share(line: &Line) -> MilliCpu {
    let kept = line.cpu.headroom.0 / PERCENT * PERCENT;
    MilliCpu(kept).max(LEAST)
}

/// What to change. `working`: those who have a worker. `held`: what was set for whom before.
#[must_use]
pub fn steps(
    working: &BTreeSet<Uid>,
    quotas: &Quotas,
    held: &BTreeMap<Uid, MilliCpu>,
    share: MilliCpu,
) -> Vec<Step> {
    let step = |(uid, quota): (&Uid, &Option<Limit<CpuMax>>)| {
        let is = |cpu: MilliCpu| *quota == Some(Limit::At(CpuMax::of(cpu)));
        // After a restart nothing is remembered: then the exact value is the mark.
        let ours = is(share) || held.get(uid).is_some_and(|cpu| is(*cpu));
        if !working.contains(uid) {
            return ours.then_some(Step::Release(*uid));
        }
        let owners = matches!(quota, Some(Limit::At(_))) && !ours;
        let settled = is(share) || owners;
        (!settled).then_some(Step::Hold(*uid, share))
    };
    quotas.iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHARE: MilliCpu = MilliCpu(400);
    const ALICE: Uid = 1000;

    fn at(cpu: u64) -> Option<Limit<CpuMax>> {
        Some(Limit::At(CpuMax::of(MilliCpu(cpu))))
    }

    fn one(works: bool, quota: Option<Limit<CpuMax>>, held: Option<u64>) -> Vec<Step> {
        let working = works.then_some(ALICE).into_iter().collect();
        let held = held.map(|cpu| (ALICE, MilliCpu(cpu))).into_iter().collect();
        steps(&working, &[(ALICE, quota)].into(), &held, SHARE)
    }

    #[test]
    fn a_table_of_who_works_and_what_is_set() {
        let (hold, release) = (vec![Step::Hold(ALICE, SHARE)], vec![Step::Release(ALICE)]);
        for (works, quota, held, expected) in [
            (true, None, None, &hold),
            (true, Some(Limit::Max), None, &hold),
            // Ours already, or the owner's.
            (true, at(400), Some(400), &vec![]),
            (true, at(400), None, &vec![]),
            (true, at(150), None, &vec![]),
            (true, at(2000), None, &vec![]),
            // Ours of before the headroom was changed, smaller or larger.
            (true, at(200), Some(200), &hold),
            (true, at(900), Some(900), &hold),
            (false, at(400), None, &release),
            (false, at(200), Some(200), &release),
            // The owner's.
            (false, at(200), None, &vec![]),
            (false, Some(Limit::Max), Some(400), &vec![]),
            (false, None, None, &vec![]),
        ] {
            assert_eq!(
                &one(works, quota, held),
                expected,
                "works {works}, {quota:?}, held {held:?}"
            );
        }
    }

    #[test]
    fn who_has_no_login_is_left_alone() {
        let working: BTreeSet<Uid> = [ALICE].into();
        assert!(steps(&working, &Quotas::new(), &BTreeMap::new(), SHARE).is_empty());
    }

    proptest! {
        /// Done once, it is done: who works may use the share, an owner's quota is what it was, and once nobody works
        /// there is no trace.
        #[test]
        fn it_settles_and_leaves_no_trace(
            owners in proptest::collection::btree_map(1000u32..1006, proptest::option::of(1u64..300), 0..6),
            working in proptest::collection::btree_set(1000u32..1006, 0..6),
            shares in proptest::collection::vec(31u64..200, 1..4),
        ) {
            let owner = |quota: &Option<u64>| Some(quota.map_or(Limit::Max, |cpu| Limit::At(CpuMax::of(MilliCpu(cpu * 10)))));
            // A quota of the owner's that is exactly a share of ours cannot be told apart after a restart.
            prop_assume!(owners.values().flatten().all(|quota| !shares.contains(quota)));
            let before: Quotas = owners.iter().map(|(uid, quota)| (*uid, owner(quota))).collect();
            let (mut quotas, mut held) = (before.clone(), BTreeMap::new());
            for share in shares.iter().map(|share| MilliCpu(share * 10)) {
                for step in steps(&working, &quotas, &held, share) {
                    match step {
                        Step::Hold(uid, cpu) => {
                            quotas.insert(uid, Some(Limit::At(CpuMax::of(cpu))));
                            held.insert(uid, cpu);
                        }
                        Step::Release(uid) => prop_assert!(false, "{uid} was never held"),
                    }
                }
                prop_assert!(steps(&working, &quotas, &held, share).is_empty());
                for (uid, quota) in &quotas {
                    let free = owners[uid].is_none();
                    let expected = match working.contains(uid) && free {
                        true => Some(Limit::At(CpuMax::of(share))),
                        false => before[uid],
                    };
                    prop_assert_eq!(*quota, expected);
                }
            }
            let last = MilliCpu(shares[shares.len() - 1] * 10);
            for step in steps(&BTreeSet::new(), &quotas, &held, last) {
                match step {
                    Step::Release(uid) => quotas.insert(uid, Some(Limit::Max)),
                    Step::Hold(..) => return Err(TestCaseError::fail("nobody works")),
                };
            }
            prop_assert_eq!(quotas, before);
        }
    }
}
