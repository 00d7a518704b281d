use super::*;
use crate::check;
use crate::node_policy::{NodePolicy, ReserveCpus};
use crate::sample::{attempt, machine, machine_with_l3};
use alloc::string::ToString;
use alloc::vec::Vec;
use loadline_model::PerMille;
use proptest::prelude::*;

struct Node {
    topology: Topology,
    line: Line,
    pinning: Pinning,
}

impl Node {
    /// Nothing is kept idle, so that the line is what is not reserved.
    fn new(topology: Topology, reserve: &str) -> Self {
        let mut policy = NodePolicy::default();
        policy.reserve.cpus = ReserveCpus::List(reserve.parse().unwrap());
        policy.headroom.cpu = PerMille(0);
        let line = Line::fixed(&topology, 0, &policy);
        Self {
            topology,
            line,
            pinning: Pinning::Cpuset,
        }
    }

    fn machine(&self) -> Machine<'_> {
        Machine {
            topology: &self.topology,
            line: &self.line,
            pinning: &self.pinning,
        }
    }

    fn empty(&self) -> Allocation {
        Allocation::new(self.line.lendable.clone())
    }
}

fn request(cpus: CpuRequest) -> WorkerRequest {
    WorkerRequest {
        cpus,
        memory: Bytes::from_mib(64),
        gpus: 0,
    }
}

fn own(cpus: u32) -> WorkerRequest {
    request(CpuRequest::Exclusive(cpus))
}

fn share() -> WorkerRequest {
    request(CpuRequest::Shared(MilliCpu(500)))
}

/// Gives `request` to attempt `number` and says on which CPUs it is, or why not.
fn give(node: &Node, allocation: &mut Allocation, number: u128, request: &WorkerRequest) -> String {
    let granted = allocation
        .grant(node.machine(), attempt(number), Tier::Standard, request)
        .cloned();
    assert_eq!(check::allocation(node.machine(), allocation), [""; 0]);
    match granted {
        Ok(_) => allocation.cpus_of(attempt(number)).unwrap().to_string(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn whole_cores_first_and_one_numa_node_if_it_fits() {
    // 2 sockets, 4 cores each, 2 threads: cores are {c, c+8}; core 0 is reserved.
    let node = Node::new(machine(2, 4, 2, 32), "0,8");
    let mut allocation = node.empty();
    assert_eq!(
        give(&node, &mut allocation, 1, &own(2)),
        "1,9",
        "a core of the fuller socket"
    );
    assert_eq!(
        give(&node, &mut allocation, 2, &own(8)),
        "4-7,12-15",
        "a socket of its own"
    );
    assert_eq!(
        give(&node, &mut allocation, 3, &own(3)),
        "2-3,10",
        "a core and one of a half"
    );
    assert_eq!(
        give(&node, &mut allocation, 4, &own(1)),
        "11",
        "the half that is broken already"
    );
    assert!(allocation.pool().is_empty());
    assert_eq!(
        give(&node, &mut allocation, 5, &share()),
        "all 14 CPUs that this node lends are in exclusive use"
    );
    allocation.release(attempt(2)).unwrap();
    assert_eq!(allocation.pool().to_string(), "4-7,12-15");
}

#[test]
fn a_small_l3_domain_is_filled_before_a_large_one_is_broken() {
    // One socket, 6 cores without SMT, an L3 for every 2 cores; CPU 0 reserved: domains {1}, {2,3}, {4,5}.
    let node = Node::new(machine_with_l3(1, 6, 1, 8, 2), "0");
    let mut allocation = node.empty();
    assert_eq!(
        give(&node, &mut allocation, 1, &own(1)),
        "1",
        "the tightest that fits"
    );
    assert_eq!(give(&node, &mut allocation, 2, &own(2)), "2-3");
    assert_eq!(give(&node, &mut allocation, 3, &own(1)), "4");
}

#[test]
fn what_fits_nowhere_alone_touches_few_nodes() {
    let node = Node::new(machine(2, 4, 1, 8), "0");
    let mut allocation = node.empty();
    assert_eq!(give(&node, &mut allocation, 1, &own(5)), "1,4-7");
    let holding = &allocation.holdings()[&attempt(1)];
    assert_eq!(holding.memory_nodes.to_string(), "0-1");
}

#[test]
fn the_pool_keeps_its_last_cpu_while_someone_shares_it() {
    let node = Node::new(machine(1, 4, 1, 8), "0");
    let mut allocation = node.empty();
    assert_eq!(give(&node, &mut allocation, 1, &share()), "1-3");
    assert_eq!(give(&node, &mut allocation, 2, &own(2)), "1-2");
    assert_eq!(allocation.cpus_of(attempt(1)).unwrap().to_string(), "3");
    assert_eq!(
        give(&node, &mut allocation, 3, &own(1)),
        "it asks for 1 CPUs of its own and 0 of 3 are free; the last one is shared by other workers"
    );
    allocation.release(attempt(1)).unwrap();
    assert_eq!(give(&node, &mut allocation, 3, &own(1)), "3");
}

#[test]
fn refusals_say_whether_waiting_helps() {
    let mut node = Node::new(machine(1, 4, 1, 8), "0");
    let mut allocation = node.empty();
    let refusal = |node: &Node, allocation: &mut Allocation, request| {
        allocation
            .grant(node.machine(), attempt(9), Tier::Standard, &request)
            .unwrap_err()
    };
    let more = refusal(&node, &mut allocation, own(4));
    assert_eq!(
        more,
        CpuRefusal::MoreThanLine {
            asked: 4,
            whole_cpus: 3
        }
    );
    assert!(more.for_good());
    give(&node, &mut allocation, 1, &own(2));
    let busy = refusal(&node, &mut allocation, own(2));
    assert_eq!(
        busy,
        CpuRefusal::Busy {
            asked: 2,
            free: 1,
            lendable: 3,
            kept_for_shared: 0
        }
    );
    assert!(!busy.for_good());
    node.pinning = Pinning::WeightsOnly {
        why: "pid 7 (db, db.service) set its own affinity".into(),
    };
    let none = refusal(&node, &mut allocation, own(1));
    assert!(none.for_good());
    assert_eq!(
        none.to_string(),
        "this node gives no CPUs of one's own: pid 7 (db, db.service) set its own affinity"
    );
    assert_eq!(
        give(&node, &mut allocation, 2, &share()),
        "2-3".replace("2-", ""),
        "shares are still given"
    );
    let nothing = Allocation::new(CpuSet::new());
    assert_eq!(nothing.share().unwrap_err(), CpuRefusal::NothingLendable);
}

#[test]
fn burst_shares_whatever_it_asks_for() {
    let node = Node::new(machine(1, 4, 1, 8), "0");
    let mut allocation = node.empty();
    let holding = allocation
        .grant(node.machine(), attempt(1), Tier::Burst, &own(2))
        .unwrap();
    assert_eq!((&holding.grant, holding.amount), (&Grant::Shared, MilliCpu(2000)));
}

#[test]
fn a_grant_is_given_once() {
    let node = Node::new(machine(1, 4, 1, 8), "0");
    let mut allocation = node.empty();
    give(&node, &mut allocation, 1, &own(1));
    let before = allocation.clone();
    give(&node, &mut allocation, 1, &own(2));
    assert_eq!(allocation, before);
}

#[test]
fn memory_is_bound_to_the_near_node_only_while_it_fits_there() {
    // Two NUMA nodes with 8 GiB; 20 % of all is kept, so 6.4 GiB may be bound to each.
    let node = Node::new(machine(2, 4, 1, 8), "0");
    let mut allocation = node.empty();
    let ask = |gib| WorkerRequest {
        memory: Bytes::from_gib(gib),
        ..own(1)
    };
    give(&node, &mut allocation, 1, &ask(4));
    give(&node, &mut allocation, 2, &ask(4));
    give(&node, &mut allocation, 3, &ask(2));
    let nodes = |number| allocation.holdings()[&attempt(number)].memory_nodes.to_string();
    assert_eq!(
        (nodes(1), nodes(2)),
        ("0".into(), "0-1".into()),
        "4 + 4 GiB exceed 6.4"
    );
    assert_eq!(nodes(3), "0-1", "what may be there counts as there");
}

#[test]
fn what_is_restored_never_doubles_a_cpu() {
    let node = Node::new(machine(1, 4, 1, 8), "0");
    let mut allocation = node.empty();
    let holding = |grant| Holding {
        grant,
        amount: MilliCpu(1000),
        memory: Bytes(1),
        memory_nodes: [0].into_iter().collect(),
    };
    let set = |list: &str| Grant::Exclusive(list.parse().unwrap());
    allocation.restore(attempt(1), holding(set("0-1")));
    allocation.restore(attempt(2), holding(set("1-2")));
    allocation.restore(attempt(3), holding(set("0")));
    assert_eq!(check::allocation(node.machine(), &allocation), [""; 0]);
    let grants: Vec<_> = allocation
        .holdings()
        .values()
        .map(|holding| holding.grant.clone())
        .collect();
    assert_eq!(grants, [set("1"), set("2"), Grant::Shared]);
}

/// The least number of threads that come not as whole cores, over all ways to take `count` of a domain.
fn fewest_odd(topology: &Topology, domain: &[u32], count: u32) -> u32 {
    let subsets = (0u32..1 << domain.len()).filter(|bits| bits.count_ones() == count);
    let odd = |bits: u32| {
        let taken = |cpu: u32| {
            domain
                .iter()
                .position(|other| *other == cpu)
                .is_some_and(|i| bits & (1 << i) != 0)
        };
        let whole = |core: u32| {
            topology
                .threads()
                .iter()
                .filter(|t| t.core == core)
                .all(|t| taken(t.cpu))
        };
        let threads = topology.threads().iter().filter(|thread| taken(thread.cpu));
        u32::try_from(threads.filter(|thread| !whole(thread.core)).count()).unwrap()
    };
    subsets.map(odd).min().unwrap()
}

proptest! {
    #[test]
    fn picks_are_as_close_together_as_can_be(
        smt in 1u32..3, cores_per_l3 in 1u32..5, taken in prop::collection::btree_set(0u32..16, 0..12), count in 1u32..9,
    ) {
        let topology = machine_with_l3(2, 4, smt, 8, cores_per_l3);
        let free: CpuSet = topology.cpus().iter().filter(|cpu| !taken.contains(cpu)).collect();
        let picked = pick::pick(&topology, &free, count);
        prop_assert_eq!(picked.is_some(), free.len() >= count);
        let Some(picked) = picked else { return Ok(()) };
        prop_assert_eq!(picked.len(), count);
        prop_assert!(picked.is_subset(&free));
        // Oracle: lists of free CPUs by domain, each level in turn; the first level on which any fits decides.
        let levels: [fn(&loadline_model::Thread) -> u32; 2] = [|t| t.l3, |t| t.numa];
        for level in levels {
            let mut domains: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for thread in topology.threads().iter().filter(|thread| free.contains(thread.cpu)) {
                domains.entry(level(thread)).or_default().push(thread.cpu);
            }
            let fits: Vec<&Vec<u32>> = domains.values().filter(|cpus| cpus.len() >= count as usize).collect();
            if fits.is_empty() {
                continue;
            }
            let inside = fits.iter().find(|cpus| picked.iter().all(|cpu| cpus.contains(&cpu)));
            let chosen = inside.expect("one domain holds all");
            let score = |cpus: &[u32]| (fewest_odd(&topology, cpus, count), cpus.len());
            let best = fits.iter().map(|cpus| score(cpus)).min().unwrap();
            prop_assert_eq!(score(chosen), best);
            let mine: Vec<u32> = picked.iter().collect();
            prop_assert_eq!(fewest_odd(&topology, &mine, count), best.0);
            return Ok(());
        }
    }

    #[test]
    fn churn_keeps_every_invariant(
        smt in 1u32..3, reserve in 0u32..8,
        moves in prop::collection::vec((0u128..12, 0u32..7, any::<bool>()), 1..60),
    ) {
        let mut policy = NodePolicy::default();
        policy.reserve.cpus = ReserveCpus::Count(reserve);
        policy.headroom.cpu = PerMille(0);
        let topology = machine(2, 4, smt, 8);
        let line = Line::fixed(&topology, 0, &policy);
        let node = Node { topology, line, pinning: Pinning::Cpuset };
        let mut allocation = node.empty();
        for (number, cpus, release) in moves {
            if release {
                allocation.release(attempt(number));
            } else {
                let request = if cpus == 0 { share() } else { own(cpus) };
                let held = allocation.holdings().contains_key(&attempt(number));
                let free = allocation.free_whole_cpus();
                let pool = allocation.pool().len();
                let granted = allocation.grant(node.machine(), attempt(number), Tier::Standard, &request).is_ok();
                // Oracle: it fits exactly if that many are free, whatever the shape of the machine.
                let fits = if cpus == 0 { pool > 0 } else { cpus <= free };
                prop_assert_eq!(granted, held || fits);
            }
            prop_assert_eq!(check::allocation(node.machine(), &allocation), Vec::<String>::new());
            prop_assert_eq!(allocation.exclusive().len() + allocation.pool().len(), node.line.lendable.len());
        }
    }
}
