use super::*;
use crate::sample::machine;
use crate::week::Known;
use proptest::prelude::*;

fn policy(cpus: ReserveCpus) -> NodePolicy {
    let mut policy = NodePolicy::default();
    policy.reserve.cpus = cpus;
    policy
}

#[test]
fn worked_example_on_four_cpus() {
    // 4 CPUs: 1 reserved, 20 % = 800m kept idle: 2200m. 8 GiB: 10 % reserved, 10 % idle: 80 %.
    let topology = machine(2, 2, 1, 4);
    let line = Line::fixed(&topology, 0, &NodePolicy::default());
    assert_eq!((line.cpu.firm, line.cpu.now), (MilliCpu(2200), MilliCpu(2200)));
    assert_eq!(
        line.memory.firm,
        Bytes(8 * (1 << 30) - 2 * ((8 * (1 << 30)) / 10))
    );
    assert_eq!(
        (line.reserved.to_string(), line.lendable.to_string()),
        ("0".into(), "1-3".into())
    );
    assert_eq!(line.whole_cpus(), 2);
    // Production uses 2500m: 4000 - 2500 - 800 now, while the firm line does not know it yet.
    let production = ProductionUse {
        cpu: MilliCpu(2500),
        ..ProductionUse::default()
    };
    let busy = Line::new(&topology, 0, &NodePolicy::default(), &production);
    assert_eq!((busy.cpu.now, busy.cpu.firm), (MilliCpu(700), MilliCpu(2200)));
    // A week at 2000m: 4000 - 2300 - 800, whatever it uses now.
    let production = ProductionUse {
        cpu_week: Some(MilliCpu(2000)),
        ..production
    };
    let known = Line::new(&topology, 0, &NodePolicy::default(), &production);
    assert_eq!((known.cpu.now, known.cpu.firm), (MilliCpu(700), MilliCpu(900)));
    assert_eq!(known.whole_cpus(), 0);
    assert_eq!(known.most().cpu, MilliCpu(2200));
}

#[test]
fn two_cpus_lend_no_whole_one_by_default() {
    let line = Line::fixed(&machine(1, 2, 1, 2), 0, &NodePolicy::default());
    assert_eq!((line.cpu.firm, line.whole_cpus()), (MilliCpu(600), 0));
}

#[test]
fn a_number_reserves_whole_cores_of_the_first_socket() {
    let topology = machine(2, 4, 2, 32);
    for (count, reserved) in [
        (0, ""),
        (1, "0,8"),
        (2, "0,8"),
        (3, "0-1,8-9"),
        (9, "0-4,8-12"),
        (99, "0-15"),
    ] {
        let line = Line::fixed(&topology, 0, &policy(ReserveCpus::Count(count)));
        assert_eq!(line.reserved.to_string(), reserved, "{count}");
        assert_eq!(line.cpu.reserve, MilliCpu::from_cpus(line.reserved.len()));
    }
}

#[test]
fn a_list_reserves_what_it_names() {
    let topology = machine(2, 4, 2, 32);
    let line = Line::fixed(&topology, 0, &policy(ReserveCpus::List("4,99".parse().unwrap())));
    assert_eq!(line.reserved.to_string(), "4");
    assert_eq!(line.lendable.len(), 15);
}

#[test]
fn reserved_gpus_are_not_lent() {
    let mut policy = NodePolicy::default();
    policy.reserve.gpus = 3;
    assert_eq!(Line::fixed(&machine(1, 2, 1, 1), 4, &policy).gpus, 1);
    assert_eq!(Line::fixed(&machine(1, 2, 1, 1), 2, &policy).gpus, 0);
}

proptest! {
    #[test]
    fn the_line_never_promises_what_is_not_there(
        sockets in 1u32..3, cores in 1u32..5, smt in 1u32..3, gib in 1u64..64,
        reserve in 0u32..12, headroom in 0u16..=1000, used in 0u64..40_000, memory in 0u64..1 << 37,
    ) {
        let topology = machine(sockets, cores, smt, gib);
        let mut policy = policy(ReserveCpus::Count(reserve));
        policy.headroom.cpu = PerMille(headroom);
        let production = ProductionUse { cpu: MilliCpu(used), memory: Bytes(memory), ..ProductionUse::default() };
        let line = Line::new(&topology, 0, &policy, &production);
        let capacity = u64::from(sockets * cores * smt) * 1000;
        // Oracle in signed arithmetic, from the sentence in the design.
        let reserved = i128::from(line.reserved.len()) * 1000;
        let kept = i128::from(capacity) * i128::from(headroom) / 1000;
        let now = (i128::from(capacity) - reserved.max(i128::from(used)) - kept).max(0);
        prop_assert_eq!(i128::from(line.cpu.now.0), now);
        prop_assert!(line.cpu.now <= line.cpu.firm && line.memory.now <= line.memory.firm);
        prop_assert!(line.cpu.firm <= MilliCpu::from_cpus(line.lendable.len()));
        prop_assert!(line.whole_cpus() <= line.lendable.len());
        prop_assert!(line.reserved.len() >= reserve.min(sockets * cores * smt));
        prop_assert_eq!(line.reserved.union(&line.lendable), topology.cpus());
        prop_assert!(line.reserved.is_disjoint(&line.lendable));
    }

    #[test]
    fn the_week_only_lowers_the_firm_line(
        cores in 1u32..9, reserve in 0u32..9, headroom in 0u16..=1000, share in 0u16..=1000,
        cpu in prop::option::of(0u64..40_000), memory in prop::option::of(0u64..1 << 37),
    ) {
        let topology = machine(1, cores, 1, 16);
        let mut policy = policy(ReserveCpus::Count(reserve));
        policy.headroom.cpu = PerMille(headroom);
        let week = Known { cpu: cpu.map(MilliCpu), memory: memory.map(Bytes) };
        let fixed = Line::fixed(&topology, 0, &policy);
        let line = Line::by_week(&topology, 0, &policy, &week);
        // Oracle in signed arithmetic, from the sentence in the design.
        let capacity = i128::from(cores) * 1000;
        let needed = cpu.map_or(0, |cpu| i128::from(cpu) + i128::from(cpu) * 15 / 100);
        let kept = (i128::from(line.reserved.len()) * 1000).max(needed) + capacity * i128::from(headroom) / 1000;
        prop_assert_eq!(i128::from(line.cpu.firm.0), (capacity - kept).max(0));
        prop_assert_eq!((line.most(), line.now()), (fixed.most(), fixed.now()));
        prop_assert!(line.firm().cpu <= fixed.firm().cpu && line.firm().memory <= fixed.firm().memory);
        let lower = line.firm() != line.most();
        prop_assert_eq!(line.held_by_week().is_some(), lower);
        // An operator's share is one of the static line: it is not laid to the week.
        let under = fixed.under(PerMille(share), "ada");
        prop_assert_eq!(under.held_by_week(), None);
        prop_assert!(line.clone().under(PerMille(share), "ada").firm().cpu <= line.firm().cpu);
    }
}
