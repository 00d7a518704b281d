use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn mib(amount: u64) -> Bytes {
    Bytes(amount * MIB)
}

fn protect(entries: &[(&str, u64)]) -> Vec<Protect> {
    let entry = |(unit, memory): &(&str, u64)| Protect {
        unit: (*unit).into(),
        memory: Some(mib(*memory)),
        slo: None,
    };
    entries.iter().map(entry).collect()
}

/// A host in memory: carries out what is planned.
#[derive(Debug, Clone, Default)]
struct Host(View);

impl Host {
    fn with(cgroups: &[(&str, u64)]) -> Self {
        let mut host = Self::default();
        for (cgroup, floor) in cgroups {
            for up in cgroups_on(cgroup) {
                host.0.floors.entry(up.into()).or_default();
            }
            host.0.floors.insert((*cgroup).into(), Floor::of(mib(*floor)));
            let unit = units_on(cgroup).next_back().unwrap();
            host.0.cgroups.insert(unit.into(), (*cgroup).into());
        }
        host
    }

    fn set(&mut self, unit: &str, floor: Floor) {
        for (cgroup, seen) in &mut self.0.floors {
            if units_on(cgroup).next_back() == Some(unit) {
                *seen = floor.shown();
            }
        }
    }

    fn carry_out(&mut self, plan: &Plan) {
        for action in &plan.actions {
            match action {
                Action::Set { unit, held, .. } => {
                    self.0.held.insert(unit.clone(), *held);
                    self.set(unit, held.set);
                }
                Action::TakeBack { unit, owner } => {
                    self.0.held.remove(unit);
                    if let Some(owner) = owner {
                        self.set(unit, *owner);
                    }
                }
            }
        }
    }

    fn turn(&mut self, protect: &[Protect], mode: Mode) -> Plan {
        let plan = plan(protect, mode, &self.0);
        self.carry_out(&plan);
        plan
    }

    fn floor(&self, cgroup: &str) -> u64 {
        let floor = self.0.floors[cgroup];
        assert_eq!(floor.min, floor.low, "{cgroup}");
        floor.min.0 / MIB
    }
}

const NGINX: &str = "/system.slice/nginx.service";
const DB: &str = "/system.slice/system-db.slice/db@1.service";

#[test]
fn a_floor_is_set_on_the_unit_and_on_every_slice_above_slices_first() {
    let mut host = Host::with(&[(NGINX, 0), (DB, 0)]);
    let wanted = protect(&[("nginx.service", 100), ("db@1.service", 200)]);
    let first = host.turn(&wanted, Mode::Enforce);
    let order: Vec<&str> = first
        .actions
        .iter()
        .map(|action| match action {
            Action::Set { unit, again, .. } => {
                assert!(!again);
                unit.as_str()
            }
            Action::TakeBack { .. } => panic!("{action:?}"),
        })
        .collect();
    assert_eq!(
        order,
        ["system.slice", "nginx.service", "system-db.slice", "db@1.service"]
    );
    assert_eq!(host.floor("/system.slice"), 300);
    assert_eq!(host.floor("/system.slice/system-db.slice"), 200);
    assert_eq!((host.floor(NGINX), host.floor(DB)), (100, 200));
    let second = host.turn(&wanted, Mode::Enforce);
    assert_eq!(second.actions, [], "settled");
    assert!(
        second.states.values().all(|state| *state == State::Held),
        "{second:?}"
    );
}

#[test]
fn what_the_owner_set_higher_stays_and_is_what_is_given_back() {
    let mut host = Host::with(&[(NGINX, 500)]);
    host.0.floors.insert(
        "/system.slice".into(),
        Floor {
            min: mib(10),
            low: mib(900),
        },
    );
    let wanted = protect(&[("nginx.service", 100)]);
    host.turn(&wanted, Mode::Enforce);
    assert_eq!(host.floor(NGINX), 500);
    assert!(
        !host.0.held.contains_key("nginx.service"),
        "nothing of ours is on it"
    );
    assert_eq!(
        host.0.floors["/system.slice"],
        Floor {
            min: mib(100),
            low: mib(900)
        }
    );
    host.turn(&[], Mode::Enforce);
    assert_eq!(
        host.0.floors["/system.slice"],
        Floor {
            min: mib(10),
            low: mib(900)
        }
    );
    assert!(host.0.held.is_empty());
}

#[test]
fn what_removes_a_floor_is_put_right_and_what_raises_it_is_respected() {
    let mut host = Host::with(&[(NGINX, 0)]);
    let wanted = protect(&[("nginx.service", 100)]);
    host.turn(&wanted, Mode::Enforce);
    host.set("system.slice", Floor::default());
    let plan = plan(&wanted, Mode::Enforce, &host.0);
    assert_eq!(
        plan.states["nginx.service"],
        State::NotHeld,
        "the slice's floor is gone"
    );
    assert!(matches!(&plan.actions[..], [Action::Set { unit, again: true, .. }] if unit == "system.slice"));
    host.carry_out(&plan);
    assert_eq!(host.floor("/system.slice"), 100);
    host.set("nginx.service", Floor::of(mib(700)));
    host.turn(&wanted, Mode::Enforce);
    assert_eq!(host.floor(NGINX), 700, "raised by somebody");
    host.turn(&[], Mode::Enforce);
    assert_eq!(host.floor(NGINX), 700, "and still theirs");
}

#[test]
fn a_lower_wish_lowers_only_what_is_ours() {
    let mut host = Host::with(&[(NGINX, 50)]);
    host.turn(&protect(&[("nginx.service", 300)]), Mode::Enforce);
    assert_eq!(host.floor(NGINX), 300);
    host.turn(&protect(&[("nginx.service", 100)]), Mode::Enforce);
    assert_eq!((host.floor(NGINX), host.floor("/system.slice")), (100, 100));
    host.turn(&protect(&[("nginx.service", 10)]), Mode::Enforce);
    assert_eq!((host.floor(NGINX), host.floor("/system.slice")), (50, 10));
}

#[test]
fn each_mode_and_each_absence_has_its_state() {
    let mut host = Host::with(&[(NGINX, 0)]);
    let wanted = protect(&[("nginx.service", 100), ("gone.service", 100)]);
    let shadow = host.turn(&wanted, Mode::Shadow);
    assert_eq!(shadow.actions, [], "shadow touches nothing");
    assert!(shadow.states.values().all(|state| *state == State::LeftAlone));
    host.turn(&wanted, Mode::Enforce);
    let settled = host.turn(&wanted, Mode::Enforce);
    assert_eq!(settled.states["nginx.service"], State::Held);
    assert_eq!(settled.states["gone.service"], State::NotLoaded);
    assert_eq!(
        host.turn(&wanted, Mode::Shadow).actions,
        [],
        "not even what is ours"
    );
    let off = host.turn(&wanted, Mode::Off);
    assert_eq!(off.actions.len(), 2, "{off:?}");
    assert_eq!((host.floor(NGINX), host.floor("/system.slice")), (0, 0));
}

#[test]
fn a_stopped_unit_s_slices_stay_prepared() {
    let mut host = Host::with(&[(NGINX, 0)]);
    let wanted = protect(&[("nginx.service", 100)]);
    host.turn(&wanted, Mode::Enforce);
    host.0.floors.remove(NGINX);
    let stopped = host.turn(&wanted, Mode::Enforce);
    assert_eq!(
        (stopped.actions, stopped.states["nginx.service"]),
        (Vec::new(), State::NotLoaded)
    );
    assert_eq!(host.floor("/system.slice"), 100);
    host.0.floors.insert(NGINX.into(), Floor::default());
    host.turn(&wanted, Mode::Enforce);
    assert_eq!(host.floor(NGINX), 100, "back without its floor");
}

fn cgroup() -> impl Strategy<Value = String> {
    let depth = proptest::collection::vec(0..2_u8, 0..3);
    (depth, 0..3_u8).prop_map(|(slices, leaf)| {
        let mut path = String::new();
        let mut name = String::from("s");
        for slice in slices {
            name = format!("{name}-{slice}");
            path = format!("{path}/{name}.slice");
        }
        format!("{path}/{name}-{leaf}.service")
    })
}

proptest! {
    /// Whatever is wished and found: settled after one turn; each slice has at least the sum of what was wished for
    /// units below it; nothing is ever lower than its owner had it; taken back, everything is as it was.
    #[test]
    fn production_only_receives(
        wishes in proptest::collection::btree_map(cgroup(), 0..100_u64, 0..6),
        owned in proptest::collection::btree_map(cgroup(), 0..100_u64, 0..6),
    ) {
        let all: Vec<(&str, u64)> = wishes.keys().chain(owned.keys()).map(|cgroup| (cgroup.as_str(), 0)).collect();
        let mut host = Host::with(&all);
        for (cgroup, floor) in &owned {
            // The owner's floors on slices too: on the unit's, and half of it above.
            for up in cgroups_on(cgroup) {
                let part = if up == cgroup { *floor } else { *floor / 2 };
                host.0.floors.insert(up.into(), Floor { min: mib(part), low: mib(part * 2) });
            }
        }
        let before = host.0.floors.clone();
        let named: Vec<(String, u64)> = wishes
            .iter()
            .map(|(cgroup, wish)| (units_on(cgroup).next_back().unwrap().to_owned(), *wish))
            .collect();
        let named: Vec<(&str, u64)> = named.iter().map(|(unit, wish)| (unit.as_str(), *wish)).collect();
        let wanted = protect(&named);
        host.turn(&wanted, Mode::Enforce);
        let settled = host.turn(&wanted, Mode::Enforce);
        prop_assert_eq!(&settled.actions, &[]);
        prop_assert!(settled.states.values().all(|state| *state == State::Held));
        for (cgroup, floor) in &host.0.floors {
            prop_assert!(before[cgroup].is_at_most(*floor), "{} was lowered", cgroup);
            let inside = wishes.iter().filter(|(wish, _)| {
                wish.as_str() == cgroup || wish.starts_with(&format!("{cgroup}/"))
            });
            let sum = inside.fold(0, |sum, (_, wish)| sum + wish);
            prop_assert!(floor.min >= mib(sum) && floor.low >= mib(sum), "{} has too little", cgroup);
        }
        host.turn(&[], Mode::Enforce);
        prop_assert_eq!(&host.0.floors, &before);
        prop_assert!(host.0.held.is_empty());
    }
}
