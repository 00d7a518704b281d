//! Where the warden's other threads stand, at each state of production, lent work and whoever is ended.

use super::*;
use crate::settings::{Place, Squeezed};

fn place(production: u64, squeezed: Squeezed, reaping: bool) -> Place {
    let mut world = World::new();
    let mut decision = world.look(100, &CALM);
    decision.production = MilliCpu(production);
    decision.setpoints.squeezed = squeezed;
    place_of_others(&decision, &BOUNDS, reaping)
}

#[test]
fn they_go_last_while_production_leaves_cpus_and_beside_it_while_somebody_starves() {
    for (production, squeezed, reaping, want) in [
        (0, Squeezed::No, false, Place::Last),
        (9_000, Squeezed::No, false, Place::Last),
        (9_001, Squeezed::No, false, Place::Behind),
        (12_000, Squeezed::No, false, Place::Behind),
        (0, Squeezed::No, true, Place::Beside),
        (10_000, Squeezed::No, true, Place::Beside),
        (0, Squeezed::Burst, false, Place::Beside),
        (10_000, Squeezed::All, false, Place::Beside),
    ] {
        assert_eq!(
            place(production, squeezed, reaping),
            want,
            "{production} {squeezed:?} {reaping}"
        );
    }
}
