//! Which threads: whole physical cores before halves of them, in the smallest domain that holds all, the
//! fullest such domain first, so that large requests still find room later.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use loadline_model::{CpuSet, Thread, Topology};

/// `count` of the free threads, as close together as possible; none if there are not so many.
pub(super) fn pick(topology: &Topology, free: &CpuSet, count: u32) -> Option<CpuSet> {
    let levels: [fn(&Thread) -> u32; 4] = [|t| t.l3, |t| t.numa, |t| t.socket, |_| 0];
    levels.into_iter().find_map(|domain_of| {
        let fits = domains(topology, free, domain_of)
            .into_iter()
            .filter(|(_, free)| free.len() >= count);
        // Fewest threads that are not whole cores, then the least left over, then the lowest number.
        let scored = fits.map(|(id, free)| {
            let picked = spread(topology, &free, count);
            let odd = count - whole_cores(topology, &picked).len();
            ((odd, free.len() - count, id), picked)
        });
        scored.min_by_key(|(score, _)| *score).map(|(_, picked)| picked)
    })
}

fn domains(topology: &Topology, free: &CpuSet, domain_of: fn(&Thread) -> u32) -> BTreeMap<u32, CpuSet> {
    let mut domains: BTreeMap<u32, CpuSet> = BTreeMap::new();
    for thread in topology
        .threads()
        .iter()
        .filter(|thread| free.contains(thread.cpu))
    {
        domains.entry(domain_of(thread)).or_default().insert(thread.cpu);
    }
    domains
}

/// Physical cores with their threads, free ones only.
fn cores(topology: &Topology, free: &CpuSet) -> BTreeMap<u32, CpuSet> {
    domains(topology, free, |thread| thread.core)
}

/// The threads of a set whose siblings are all in it too.
fn whole_cores(topology: &Topology, set: &CpuSet) -> CpuSet {
    let others = topology
        .threads()
        .iter()
        .filter(|thread| !set.contains(thread.cpu));
    let broken: CpuSet = others.map(|thread| thread.core).collect();
    let whole = cores(topology, set)
        .into_iter()
        .filter(|(core, _)| !broken.contains(*core));
    whole.fold(CpuSet::new(), |all, (_, threads)| all.union(&threads))
}

/// Fills the NUMA nodes of a domain one after the other, the one with most room first: fewest are touched.
fn spread(topology: &Topology, free: &CpuSet, count: u32) -> CpuSet {
    let mut nodes: Vec<CpuSet> = domains(topology, free, |thread| thread.numa)
        .into_values()
        .collect();
    nodes.sort_by_key(|node| core::cmp::Reverse(node.len()));
    let mut picked = CpuSet::new();
    for node in nodes {
        let wanted = (count - picked.len()).min(node.len());
        picked = picked.union(&pick_in(topology, &node, wanted));
    }
    picked
}

/// Whole cores as long as they fit, those with most threads first; then threads of cores that are broken
/// already; then of whole ones.
fn pick_in(topology: &Topology, free: &CpuSet, count: u32) -> CpuSet {
    let whole = whole_cores(topology, free);
    let mut picked = CpuSet::new();
    let mut by_size: Vec<CpuSet> = cores(topology, &whole).into_values().collect();
    by_size.sort_by_key(|threads| core::cmp::Reverse(threads.len()));
    for threads in &by_size {
        if picked.len() + threads.len() <= count {
            picked = picked.union(threads);
        }
    }
    let mut broken: Vec<CpuSet> = cores(topology, &free.difference(&whole)).into_values().collect();
    broken.sort_by_key(CpuSet::len);
    let rest = broken.into_iter().chain([whole.difference(&picked)]);
    for cpu in rest.flat_map(|threads| threads.iter().collect::<Vec<_>>()) {
        if picked.len() >= count {
            break;
        }
        picked.insert(cpu);
    }
    picked
}
