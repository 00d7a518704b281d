use super::*;
use proptest::prelude::*;

const MODEL: &str = "rbps=1000 rseqiops=200 rrandiops=100 wbps=900 wseqiops=180 wrandiops=90";
const QOS: &str = "rpct=95.00 rlat=75000 wpct=95.00 wlat=150000 min=50.00 max=150.00";

fn cost(disk: &str) -> Cost {
    Cost {
        disk: disk.into(),
        model: Some(MODEL.parse().unwrap()),
        qos: Some(QOS.parse().unwrap()),
    }
}

/// As the kernel shows what was written: with all it has, in its own order.
fn shown(words: &Words) -> Seen {
    let model = words.model.strip_prefix("ctrl=auto").map(|_| {
        "ctrl=auto model=linear rbps=1 rseqiops=2 rrandiops=3 wbps=4 wseqiops=5 wrandiops=6".to_owned()
    });
    let qos = words.qos.strip_suffix("ctrl=auto").map(|enable| {
        format!("{enable}ctrl=auto rpct=0.00 rlat=250000 wpct=0.00 wlat=250000 min=1.00 max=10000.00")
    });
    Seen {
        model: model.or_else(|| Some(words.model.clone())),
        qos: qos.or_else(|| Some(words.qos.clone())),
    }
}

fn view(disks: &[(&str, Seen)]) -> View {
    View {
        is_there: true,
        disks: disks
            .iter()
            .map(|(name, seen)| ((*name).to_owned(), seen.clone()))
            .collect(),
        held: BTreeMap::new(),
    }
}

#[test]
fn a_value_is_read_strictly_and_every_mistake_is_said() {
    let qos: Qos = "max=150 min=50.5 wlat=150000 wpct=95.25 rlat=75000 rpct=0"
        .parse()
        .unwrap();
    assert_eq!(
        qos.to_string(),
        "rpct=0.00 rlat=75000 wpct=95.25 wlat=150000 min=50.50 max=150.00"
    );
    assert_eq!(MODEL.parse::<Model>().unwrap().to_string(), MODEL);
    let mistakes = |text: &str| text.parse::<Qos>().unwrap_err().to_string();
    assert_eq!(
        mistakes("rpct=101 rlat=1ms wpct=95.001 wpct=1 min=0.5 max=-1 ctrl=user"),
        "`wpct` is there twice; `ctrl=user` is none of `rpct=…`, `rlat=…`, `wpct=…`, `wlat=…`, `min=…`, `max=…`; `wlat` \
         must be said too; `rpct=101`: must be per cent, 0 to 100, with two digits after the point at most; `rlat=1ms`: \
         must be microseconds, a minute at most; `min=0.5`: must be per cent, 1 to 10000, with two digits after the \
         point at most; `max=-1`: must be per cent, 1 to 10000, with two digits after the point at most"
    );
    assert_eq!(
        mistakes(&QOS.replace("min=50.00", "min=150.01")),
        "`min=150.01` is more than `max=150.00`"
    );
    let problem = MODEL.replace("wbps=900", "wbps=0").parse::<Model>().unwrap_err();
    assert_eq!(problem.to_string(), "`wbps=0`: must be a whole number from 1 on");
    for text in ["", "rbps", "rbps=", "rbps=+1", "rbps=99999999999999999999"] {
        assert!(text.parse::<Model>().is_err(), "{text}");
    }
}

#[test]
fn a_disk_goes_by_weight_where_the_kernel_says_so() {
    let text = "254:0 enable=1 ctrl=auto rpct=0.00\n254:16 enable=0 ctrl=user rpct=1.00\n8:0 ctrl=auto enable=1 \n\nnonsense\n";
    assert_eq!(weighed(text), ["254:0", "8:0"].into());
    assert_eq!(weighed(""), [].into());
    assert_eq!(weighed("254:0 enable=10\n254:1 xenable=1\n"), [].into());
}

#[test]
fn what_the_owner_asks_is_written_once_and_taken_back_as_it_was() {
    let costs = [cost("vda")];
    let mut world = view(&[("vda", Seen::default()), ("vdb", Seen::default())]);
    let first = plan(&costs, Mode::Enforce, &world);
    let [
        Action::Set {
            disk,
            held,
            again: false,
        },
    ] = &first.actions[..]
    else {
        panic!("{first:?}")
    };
    assert_eq!((disk.as_str(), first.states["vda"]), ("vda", State::NotHeld));
    assert_eq!(held.set.model, format!("ctrl=user model=linear {MODEL}"));
    assert_eq!(held.set.qos, format!("enable=1 ctrl=user {QOS}"));
    world.held.insert("vda".into(), held.clone());
    world.disks.insert("vda".into(), shown(&held.set));
    let settled = plan(&costs, Mode::Enforce, &world);
    assert_eq!(
        (settled.actions, settled.states["vda"]),
        (Vec::new(), State::Held)
    );
    // Somebody switched it off.
    let off = Words {
        qos: "enable=0 ctrl=auto".into(),
        model: "ctrl=auto".into(),
    };
    let mut meddled = world.clone();
    meddled.disks.insert("vda".into(), shown(&off));
    let plan_again = plan(&costs, Mode::Enforce, &meddled);
    assert!(
        matches!(&plan_again.actions[..], [Action::Set { again: true, held: now, .. }] if now == held),
        "{plan_again:?}"
    );
    // Gone from node.toml, or off: what was there comes back, and what somebody else has set since stays.
    let back = |view: &View, costs: &[Cost], mode| plan(costs, mode, view).actions;
    let words = |words| {
        [Action::TakeBack {
            disk: "vda".into(),
            words,
        }]
    };
    assert_eq!(back(&world, &[], Mode::Enforce), words(Some(off.clone())));
    assert_eq!(back(&world, &costs, Mode::Off), words(Some(off)));
    assert_eq!(back(&meddled, &[], Mode::Enforce), words(None));
    assert_eq!(back(&world, &costs, Mode::Shadow), []);
    world.disks.remove("vda");
    assert_eq!(back(&world, &[], Mode::Enforce), words(None));
}

#[test]
fn what_was_there_before_is_neither_ours_nor_lost() {
    let auto = Cost {
        model: None,
        qos: None,
        ..cost("vda")
    };
    let distributions = shown(&auto.words());
    let world = view(&[("vda", distributions.clone())]);
    assert_eq!(
        plan(core::slice::from_ref(&auto), Mode::Enforce, &world).actions,
        [],
        "it is so already, and not by us"
    );
    let planned = plan(&[cost("vda")], Mode::Enforce, &world);
    let [Action::Set { held, .. }] = &planned.actions[..] else {
        panic!("{planned:?}")
    };
    assert_eq!(held.before, distributions);
    // Numbers that the kernel guessed are not made the user's.
    assert_eq!(
        Words::back_to(&held.before),
        Words {
            model: "ctrl=auto".into(),
            qos: "enable=1 ctrl=auto".into()
        }
    );
    let users = shown(&cost("vda").words());
    assert_eq!(Words::back_to(&users), cost("vda").words());
}

#[test]
fn what_cannot_be_is_said_by_name() {
    let costs = [cost("vda"), cost("vdz")];
    let states = |view: &View, mode| plan(&costs, mode, view).states.into_values().collect::<Vec<_>>();
    let world = view(&[("vda", shown(&cost("vda").words()))]);
    assert_eq!(states(&world, Mode::Enforce), [State::Held, State::NoDisk]);
    assert_eq!(states(&world, Mode::Shadow), [State::LeftAlone; 2]);
    assert_eq!(states(&View::default(), Mode::Enforce), [State::NotThere; 2]);
}

proptest! {
    /// A kernel in memory, an owner who changes their mind, others who meddle, restarts: once all is carried out, what is
    /// wanted holds, what was taken back is as it was before us, and nothing is left to do.
    #[test]
    fn whatever_happens_it_settles_and_gives_back_what_was_there(
        before in prop::option::of(any::<bool>()),
        steps in prop::collection::vec((0u8..5, any::<bool>()), 1..20),
    ) {
        let auto = Cost { model: None, qos: None, ..cost("vda") };
        let variants = [Vec::new(), [cost("vda")].into(), [auto.clone()].into()];
        let first = match before {
            None => Seen::default(),
            Some(true) => shown(&auto.words()),
            Some(false) => Seen { qos: Some("enable=0 ctrl=user rpct=1.00".into()), model: Some("ctrl=user rbps=7".into()) },
        };
        let mut world = view(&[("vda", first.clone())]);
        let (mut wanted, mut meddled) = (0usize, false);
        for (step, enforce) in steps {
            match step {
                0..=2 => wanted = usize::from(step),
                3 => {
                    world.disks.insert("vda".into(), Seen { qos: Some("enable=0 ctrl=user rpct=2.00".into()), model: None });
                    meddled = true;
                }
                _ => {}
            }
            let mode = if enforce { Mode::Enforce } else { Mode::Off };
            for action in plan(&variants[wanted], mode, &world).actions {
                let (disk, words) = match action {
                    Action::Set { disk, held, .. } => {
                        world.held.insert(disk.clone(), held.clone());
                        (disk, Some(held.set))
                    }
                    Action::TakeBack { disk, words } => {
                        world.held.remove(&disk);
                        (disk, words)
                    }
                };
                if let Some(words) = words {
                    world.disks.insert(disk, shown(&words));
                }
            }
            let settled = plan(&variants[wanted], mode, &world);
            prop_assert_eq!(settled.actions, []);
            if enforce && wanted > 0 {
                prop_assert_eq!(settled.states["vda"], State::Held);
            } else if !meddled {
                // The kernel has no way back to "no line": switched off is the same.
                let is = &world.disks["vda"];
                let same = is == &first || (before.is_none() && weighed(&format!("1:0 {}", is.qos.as_deref().unwrap_or(""))).is_empty());
                prop_assert!(same, "{is:?} for {first:?}");
            }
        }
    }
}
