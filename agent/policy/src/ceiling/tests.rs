//! Every combination of owner and ceilings, and what must hold of all of them.

use super::*;
use crate::line::ProductionUse;
use crate::sample;
use alloc::string::ToString;
use loadline_model::{Bytes, MilliCpu};
use proptest::prelude::*;

fn owner(mode: Mode) -> NodePolicy {
    let mut policy = NodePolicy::default();
    policy.lend.mode = mode;
    policy
}

fn ceiling(mode: Mode, line: u16, by: &str) -> Ceiling {
    Ceiling {
        mode,
        line: PerMille(line),
        by: by.into(),
        at: WallTime(7),
    }
}

fn line() -> Line {
    let used = ProductionUse::default();
    Line::new(&sample::machine(1, 4, 1, 10), 3, &NodePolicy::default(), &used)
}

#[test]
fn the_lowest_mode_of_all_is_in_force_and_says_whose_it_is() {
    use Mode::{Enforce, Off, Shadow};
    let table = [
        // owner, fleet, here: in force, held by
        (Enforce, None, None, Enforce, None),
        (Enforce, Some(Enforce), None, Enforce, None),
        (Enforce, Some(Shadow), None, Shadow, Some("ada (fleet)")),
        (Enforce, Some(Off), Some(Shadow), Off, Some("ada (fleet)")),
        (Enforce, Some(Shadow), Some(Off), Off, Some("root (on this node)")),
        (Enforce, None, Some(Shadow), Shadow, Some("root (on this node)")),
        (Shadow, Some(Enforce), None, Shadow, None),
        (Shadow, Some(Shadow), None, Shadow, None),
        (Shadow, Some(Off), None, Off, Some("ada (fleet)")),
        (Off, Some(Enforce), Some(Enforce), Off, None),
    ];
    for (owners, fleet, here, mode, held_by) in table {
        let mut ceilings = Ceilings::default();
        if let Some(mode) = fleet {
            ceilings.set(Setter::Fleet, ceiling(mode, 1000, "ada"));
        }
        if let Some(mode) = here {
            ceilings.set(Setter::Here, ceiling(mode, 1000, "root"));
        }
        let policy = ceilings.policy(&owner(owners));
        let row = (owners, fleet, here);
        assert_eq!(policy.lend.mode, mode, "{row:?}");
        assert_eq!(policy.lend.mode_held_by.as_deref(), held_by, "{row:?}");
    }
}

#[test]
fn the_smaller_part_of_the_line_is_in_force() {
    let mut ceilings = Ceilings::default();
    assert_eq!(ceilings.line(line()), line());
    ceilings.set(Setter::Fleet, ceiling(Mode::Enforce, 500, "ada"));
    ceilings.set(Setter::Here, ceiling(Mode::Enforce, 250, "root"));
    let low = ceilings.line(line());
    // 4 CPUs − 1 − 20 % of 4 = 2.2 CPUs; a quarter of it.
    assert_eq!(
        (low.most().cpu, low.cpu.firm, low.cpu.now),
        (MilliCpu(550), MilliCpu(550), MilliCpu(550))
    );
    assert_eq!((low.gpus, low.owners()), (0, &line()));
    assert_eq!(low.ceiling.as_ref().unwrap().by, "root (on this node)");
    ceilings.set(Setter::Here, ceiling(Mode::Enforce, 1000, "root"));
    assert_eq!(
        (ceilings.line(line()).cpu.firm, &ceilings.here),
        (MilliCpu(1100), &None)
    );
    ceilings.set(Setter::Fleet, ceiling(Mode::Enforce, 0, "ada"));
    let none = ceilings.line(line());
    assert!(none.is_closed());
    assert_eq!(
        (none.most().cpu, none.firm().memory, none.whole_cpus()),
        (MilliCpu::ZERO, Bytes::ZERO, 0)
    );
    assert_eq!(none.owners().whole_cpus(), 2);
}

#[test]
fn what_is_low_already_is_not_scaled_again() {
    // Production uses 3 CPUs: 200m are left now, which is less than half of the line.
    let used = ProductionUse {
        cpu: MilliCpu(3000),
        ..ProductionUse::default()
    };
    let line = Line::new(&sample::machine(1, 4, 1, 10), 0, &NodePolicy::default(), &used);
    let half = line.under(PerMille(500), "ada");
    assert_eq!((half.cpu.now, half.cpu.firm), (MilliCpu(200), MilliCpu(1100)));
}

#[test]
fn a_wish_keeps_what_it_does_not_name_and_never_goes_beyond_the_owner() {
    let mut ceilings = Ceilings::default();
    let wish = |mode, line: Option<u16>| Wish {
        mode,
        line: line.map(PerMille),
        by: "root".into(),
    };
    let now = WallTime(9);
    let shadow = owner(Mode::Shadow);
    let refused = ceilings
        .wished(Setter::Here, wish(Some(Mode::Enforce), None), &shadow, now)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this node's owner allows no more than `shadow`: `lend.mode` in /etc/loadline/node.toml says so, and only the owner changes that"
    );
    let set = ceilings
        .wished(Setter::Here, wish(None, Some(300)), &shadow, now)
        .unwrap();
    assert_eq!((set.mode, set.line, set.at), (Mode::Enforce, PerMille(300), now));
    ceilings.set(Setter::Here, set);
    let set = ceilings
        .wished(Setter::Here, wish(Some(Mode::Off), None), &shadow, now)
        .unwrap();
    assert_eq!((set.mode, set.line), (Mode::Off, PerMille(300)));
    let more = ceilings
        .wished(Setter::Here, wish(None, Some(5000)), &shadow, now)
        .unwrap();
    assert_eq!(more.line, PerMille::ONE);
}

fn any_ceiling() -> impl Strategy<Value = Option<Ceiling>> {
    let mode = proptest::sample::select(Mode::ALL.to_vec());
    proptest::option::of((mode, 0u16..=1000).prop_map(|(mode, line)| ceiling(mode, line, "x")))
}

proptest! {
    #[test]
    fn a_ceiling_never_makes_more_of_a_node(
        owners in proptest::sample::select(Mode::ALL.to_vec()),
        fleet in any_ceiling(),
        here in any_ceiling(),
    ) {
        let ceilings = Ceilings { fleet: fleet.clone(), here: here.clone() };
        let (policy, low) = (ceilings.policy(&owner(owners)), ceilings.line(line()));
        let words = [Some(owners), fleet.as_ref().map(|c| c.mode), here.as_ref().map(|c| c.mode)];
        prop_assert_eq!(Some(policy.lend.mode), words.into_iter().flatten().min());
        prop_assert_eq!(policy.lend.mode_held_by.is_some(), policy.lend.mode < owners);
        let share = [fleet, here].into_iter().flatten().map(|c| u64::from(c.line.0)).min().unwrap_or(1000);
        prop_assert_eq!(low.most().cpu, MilliCpu(line().most().cpu.0 * share / 1000));
        prop_assert!(low.cpu.now <= line().cpu.now && low.cpu.firm <= line().cpu.firm);
        prop_assert!(low.memory.firm <= line().memory.firm && low.gpus <= line().gpus);
        prop_assert_eq!((&low.reserved, &low.lendable), (&line().reserved, &line().lendable));
        prop_assert_eq!(low.owners(), &line());
    }
}
