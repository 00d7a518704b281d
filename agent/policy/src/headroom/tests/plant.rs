//! The law and a machine that answers it: how often each setpoint turns under constant load, and what a step costs.

use super::*;
use proptest::prelude::*;

/// 10 CPUs and 10 GiB. Lent work uses all it gets, of everything; production is slowed down by what lent work takes
/// beyond what the machine has.
struct Plant {
    world: World,
    production: u64,
    /// What production holds, in MiB.
    memory: u64,
    standard: u64,
    /// The disk gives so much, in KiB/s, before production waits for it.
    disk: u64,
    held: u64,
    last: Decision,
}

/// Each setpoint in force.
type Line = [u64; 4];

impl Plant {
    fn new(production: u64, memory: u64, standard: u64, disk: u64) -> Self {
        let last = Decision {
            setpoints: Setpoints::default(),
            ..Decision::default()
        };
        Self {
            world: World::new(),
            production,
            memory,
            standard,
            disk,
            held: 0,
            last,
        }
    }

    /// A tenth of a second. `noise`: of production's use, in thousandths of a CPU and in MiB.
    fn tenth(&mut self, noise: u64) -> Line {
        let Setpoints {
            burst,
            memory_high,
            io,
            squeezed,
            ..
        } = self.last.setpoints;
        let root = quota(&self.last);
        let production = self.production + noise;
        let standard = match squeezed {
            Squeezed::All => 50,
            _ => self.standard.min(root),
        };
        let share = match squeezed {
            Squeezed::No => burst.map_or(root, |burst| burst.0),
            _ => 50,
        };
        let lent = (standard + share).min(root);
        // With less than 5 % idle production begins to wait.
        let crowded = (production + lent).saturating_sub(9_500);
        let high = memory_high.map_or(8_192, |high| high.0 >> 20);
        // 50 MiB in a tenth at most, and no more than its limit: down by what is taken back.
        self.held = (self.held + 50).min(high);
        let left = 10_240u64.saturating_sub(self.memory + noise + self.held);
        let rate = io.map_or(200 << 10, |io| (io.0 >> 10).min(200 << 10));
        let waits = rate.saturating_sub(self.disk) / 1_000;
        self.last = self.world.look(
            100,
            &Scene {
                production,
                lent: lent.min(10_000 - production.min(10_000)),
                cpu_full: (crowded / 20).min(90),
                memory_full: 0,
                io_full: waits.min(90),
                memory: Some(Bytes::from_mib(left)),
                slo: Slo::None,
                standard: Some(standard),
                io: Some(rate),
                held: Some(Bytes::from_mib(self.held)),
            },
        );
        let Setpoints {
            burst,
            memory_high,
            io,
            ..
        } = self.last.setpoints;
        [
            quota(&self.last),
            burst.map_or(quota(&self.last), |burst| burst.0),
            memory_high.map_or(u64::MAX, |high| high.0),
            io.map_or(u64::MAX, |io| io.0),
        ]
    }
}

/// How often each setpoint turned from falling to rising or back.
fn turns(lines: &[Line]) -> [usize; 4] {
    core::array::from_fn(|of| {
        let moves: Vec<bool> = lines
            .windows(2)
            .filter(|two| two[0][of] != two[1][of])
            .map(|two| two[0][of] < two[1][of])
            .collect();
        moves.windows(2).filter(|two| two[0] != two[1]).count()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn under_constant_load_nothing_turns_more_than_twice_a_minute(
        // At 1,000 what production leaves is just the line.
        production in prop_oneof![500u64..7_000, 900u64..1_100],
        memory in 500u64..8_000, standard in 0u64..5_000, disk in 3u64..250,
        noise in prop::collection::vec(0u64..80, 3_300),
    ) {
        let mut plant = Plant::new(production, memory, standard, disk << 10);
        let lines: Vec<Line> = noise.iter().map(|noise| plant.tenth(*noise)).collect();
        for minute in lines[300..].chunks(600) {
            let turns = turns(minute);
            prop_assert!(turns.iter().all(|turns| *turns <= 2), "quota, burst, memory, disk: {turns:?}");
        }
    }

    #[test]
    fn a_step_of_production_is_answered_in_three_looks_and_does_not_swing(
        standard in 0u64..5_000, noise in prop::collection::vec(0u64..80, 2_100),
    ) {
        let mut plant = Plant::new(3_000, 3_000, standard, 500 << 10);
        let (before, after) = noise.split_at(900);
        before.iter().for_each(|noise| { plant.tenth(*noise); });
        (plant.production, plant.memory) = (7_000, 7_000);
        let lines: Vec<Line> = after.iter().map(|noise| plant.tenth(*noise)).collect();
        for (at, line) in lines.iter().enumerate() {
            prop_assert!(at < 3 || line[0] <= 1_000, "{}m at look {at}", line[0]);
            prop_assert!(line[1] <= line[0]);
        }
        // 3 GiB less what stays free; what lent work held beyond is taken back at 640 MiB a second.
        prop_assert!(plant.held <= 10_240 - 7_000 - 1_024 + 16, "{} MiB", plant.held);
        for minute in lines.chunks(600) {
            let turns = turns(minute);
            prop_assert!(turns.iter().all(|turns| *turns <= 2), "quota, burst, memory, disk: {turns:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The owner's headroom is what bursts are paid from, and the share of the rest that promise P1 names is lent.
    #[test]
    fn bursts_within_the_headroom_leave_lent_work_its_share(
        production in 2_500u64..6_000, burst in 0u64..1_500, seed in any::<u64>(),
    ) {
        // P1 names loads of up to 60 % of the machine: that is the mean, bursts included.
        let production = production - burst / 2;
        let mut plant = Plant::new(production, 3_000, 0, 500 << 10);
        let (mut free, mut lent, mut chance) = (0, 0, seed);
        for at in 0..1_200 {
            // As if requests came by chance: more or less in each tenth, by three quarters of the headroom.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = burst * (chance >> 40) / (1 << 24);
            let [quota, ..] = plant.tenth(noise);
            if at >= 300 {
                free += 8_000 - production - noise.min(8_000 - production);
                lent += quota;
            }
        }
        prop_assert!(lent * 10 >= free * 8, "{lent} of {free}");
    }
}
