//! What the runs of a cell say: ratios to the same round alone, and how much of what was free was lent.

use crate::inguest::beside::{Reading, Slice};
use crate::load::{Latencies, LoadReport};

use super::matrix::{Cell, Config};

/// The part of a machine that is kept idle on top of production's use: node.toml's default, in per cent.
pub(super) const HEADROOM_PERCENT: u64 = 20;

/// One slice.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) round: usize,
    pub(super) config: Config,
    pub(super) slice: Slice,
    /// The generator itself was late, also when it was tried again: the protocol discards such a run. It is kept for
    /// the case that there is nothing better, as on a machine that is never quiet, and then that is said.
    pub(super) late: bool,
}

/// A cell and all its runs.
#[derive(Debug, Clone)]
pub(super) struct CellRuns {
    pub(super) cell: Cell,
    pub(super) runs: Vec<Run>,
}

impl CellRuns {
    /// Those of a configuration that speak for it: the good ones, and the late ones only if no other has a partner
    /// alone in its round.
    pub(super) fn of(&self, config: Config) -> impl Iterator<Item = &Run> {
        let late_too = !self.has_good_round(config);
        let mine = self.runs.iter().filter(move |run| run.config == config);
        mine.filter(move |run| late_too || !run.late)
    }

    /// True if some round has both the configuration and alone with a generator on time.
    fn has_good_round(&self, config: Config) -> bool {
        let mut mine = self.runs.iter().filter(|run| run.config == config && !run.late);
        mine.any(|run| {
            self.in_round(run.round, Config::Alone)
                .is_some_and(|alone| !alone.late)
        })
    }

    fn in_round(&self, round: usize, config: Config) -> Option<&Run> {
        let mut all = self.runs.iter();
        all.find(|run| run.round == round && run.config == config)
    }

    /// True if its figures come from runs that the protocol discards.
    pub(super) fn is_late(&self, config: Config) -> bool {
        !self.has_good_round(config)
    }

    /// Runs that the protocol discards.
    pub(super) fn late_runs(&self, config: Config) -> usize {
        let late = self.runs.iter().filter(|run| run.config == config && run.late);
        late.count()
    }

    /// That share of the latencies against that of the same round alone.
    pub(super) fn ratios(&self, config: Config, share: f64) -> Vec<f64> {
        self.against(config, Config::Alone, share)
    }

    /// That share of the latencies against that of the same round under another configuration.
    pub(super) fn against(&self, config: Config, base: Config, share: f64) -> Vec<f64> {
        let pairs = self.pairs(config, base);
        let of = |run: &Run| quantile(&run.slice.load, share);
        pairs.into_iter().map(|(run, base)| of(run) / of(base)).collect()
    }

    /// Production's CPU time for a request against that of the same round alone: what it is slowed by as it runs, by
    /// caches, by cores that share their units, by a host that is not idle. No scheduler prevents that.
    pub(super) fn cpu_ratios(&self, config: Config) -> Vec<f64> {
        let of = |run: &Run| {
            let [production, ..] = used(&run.slice);
            production * run.slice.load.elapsed_us as f64 / run.slice.load.requests.max(1) as f64
        };
        let pairs = self.pairs(config, Config::Alone).into_iter();
        pairs
            .map(|(run, alone)| of(run) / of(alone).max(f64::MIN_POSITIVE))
            .collect()
    }

    /// Runs of the same round under two configurations; those that the protocol discards only if there are no others.
    fn pairs(&self, config: Config, base: Config) -> Vec<(&Run, &Run)> {
        let mine = self.runs.iter().filter(|run| run.config == config);
        let all: Vec<_> = mine
            .filter_map(|run| Some((run, self.in_round(run.round, base)?)))
            .collect();
        let on_time = all.iter().filter(|(run, base)| !run.late && !base.late);
        let good: Vec<_> = on_time.copied().collect();
        if good.is_empty() { all } else { good }
    }

    /// All latencies alone and under a configuration, of the same rounds.
    pub(super) fn pooled(&self, config: Config) -> [Latencies; 2] {
        let mut pools = [Latencies::default(), Latencies::default()];
        for (run, alone) in self.pairs(config, Config::Alone) {
            pools[0].add(&alone.slice.load.latencies);
            pools[1].add(&run.slice.load.latencies);
        }
        pools
    }

    /// What was lent of what was free, one a round.
    pub(super) fn batch_shares(&self, config: Config) -> Vec<f64> {
        self.of(config)
            .filter_map(|run| batch_share(&run.slice))
            .collect()
    }

    /// CPU time lent and CPU time free, microseconds, over all rounds.
    pub(super) fn lent_of_free(&self, config: Config) -> [u64; 2] {
        self.of(config)
            .map(|run| lent_of_free(&run.slice))
            .fold([0, 0], |[lent, free], [more_lent, more_free]| {
                [lent + more_lent, free + more_free]
            })
    }

    /// What the antagonist got done, a second.
    pub(super) fn work_per_s(&self, config: Config) -> Vec<f64> {
        let rate = |slice: &Slice| slice.work as f64 * 1e6 / slice.load.elapsed_us.max(1) as f64;
        self.of(config).map(|run| rate(&run.slice)).collect()
    }

    pub(super) fn failed_requests(&self, config: Config) -> u64 {
        self.of(config).map(|run| run.slice.load.errors).sum()
    }
}

fn quantile(report: &LoadReport, share: f64) -> f64 {
    report.latencies.quantile_us(share).max(1) as f64
}

/// CPU time that was lent ÷ CPU time that was free; none where nothing was.
fn batch_share(slice: &Slice) -> Option<f64> {
    let [lent, free] = lent_of_free(slice);
    (free > 0).then(|| lent as f64 / free as f64)
}

/// CPU time that was lent, and ∫ max(0, C·(1 − h) − U), microseconds; U is all that neither the antagonist nor
/// Loadline's own programs used.
fn lent_of_free(slice: &Slice) -> [u64; 2] {
    let free = slice
        .readings
        .windows(2)
        .map(|pair| free_us(&pair[0], &pair[1], slice.cpus))
        .sum();
    let (first, last) = (slice.readings.first(), slice.readings.last());
    let lent = |reading: Option<&Reading>| reading.map_or(0, |of| of.lent_us);
    [lent(last).saturating_sub(lent(first)), free]
}

/// The CPUs that production, lent work and Loadline's own programs used, in the mean.
pub(super) fn used(slice: &Slice) -> [f64; 3] {
    let (Some(first), Some(last)) = (slice.readings.first(), slice.readings.last()) else {
        return [0.0; 3];
    };
    let passed = last.at_us.saturating_sub(first.at_us).max(1) as f64;
    used_us(slice).map(|us| us as f64 / passed)
}

/// The CPU time of production, lent work and Loadline's own programs, microseconds.
pub(super) fn used_us(slice: &Slice) -> [u64; 3] {
    let (Some(first), Some(last)) = (slice.readings.first(), slice.readings.last()) else {
        return [0; 3];
    };
    let of = |read: fn(&Reading) -> u64| read(last).saturating_sub(read(first));
    let [all, lent, own] = [of(|one| one.all_us), of(|one| one.lent_us), of(|one| one.own_us)];
    [all.saturating_sub(lent + own), lent, own]
}

fn free_us(before: &Reading, now: &Reading, cpus: usize) -> u64 {
    let passed = now.at_us.saturating_sub(before.at_us);
    let of = |read: fn(&Reading) -> u64| read(now).saturating_sub(read(before));
    let others = of(|reading| reading.lent_us) + of(|reading| reading.own_us);
    let production = of(|reading| reading.all_us).saturating_sub(others);
    let lendable = passed * cpus as u64 * (100 - HEADROOM_PERCENT) / 100;
    lendable.saturating_sub(production)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::form::Form;

    /// A run whose every request took so long, with a generator on time.
    pub(in crate::bench::protection) fn run(round: usize, config: Config, us: u64) -> Run {
        let mut load = LoadReport {
            requests: 10,
            elapsed_us: 1_000_000,
            ..LoadReport::default()
        };
        (0..10).for_each(|_| load.latencies.record_us(us));
        let slice = Slice {
            load,
            cpus: 2,
            readings: vec![Reading::default(), reading(1_000_000, 900_000, 500_000, 10_000)],
            work: 5,
        };
        Run {
            round,
            config,
            slice,
            late: false,
        }
    }

    fn reading(at_us: u64, all_us: u64, lent_us: u64, own_us: u64) -> Reading {
        Reading {
            at_us,
            all_us,
            lent_us,
            own_us,
        }
    }

    pub(in crate::bench::protection) fn cell(runs: Vec<Run>) -> CellRuns {
        let cell = Form::Short.cells().swap_remove(0);
        CellRuns { cell, runs }
    }

    fn slice(readings: Vec<Reading>) -> Slice {
        Slice {
            load: LoadReport::default(),
            cpus: 2,
            readings,
            work: 0,
        }
    }

    pub(in crate::bench::protection) fn late(run: Run) -> Run {
        Run { late: true, ..run }
    }

    #[test]
    fn a_round_is_held_against_the_same_round_alone_and_a_late_run_counts_for_nothing() {
        let runs = cell(vec![
            run(0, Config::Alone, 100),
            run(0, Config::Loadline, 110),
            run(1, Config::Loadline, 300),
            run(1, Config::Alone, 200),
            run(2, Config::Alone, 400),
            late(run(2, Config::Loadline, 1)),
            late(run(3, Config::Alone, 1)),
            run(3, Config::Loadline, 100),
        ]);
        assert_eq!(runs.ratios(Config::Loadline, 0.99), [1.1, 1.5]);
        assert_eq!(runs.late_runs(Config::Loadline), 1);
        assert!(!runs.is_late(Config::Loadline));
        let pooled = runs.pooled(Config::Loadline).map(|pool| pool.count());
        assert_eq!(pooled, [20, 20], "only rounds in which both were on time");
        assert!(runs.ratios(Config::Slurm, 0.99).is_empty());
    }

    #[test]
    fn where_every_round_was_late_the_late_ones_speak_and_it_is_said() {
        let runs = cell(vec![
            late(run(0, Config::Alone, 100)),
            run(0, Config::Loadline, 110),
            run(1, Config::Alone, 100),
            late(run(1, Config::Loadline, 150)),
        ]);
        assert!(runs.is_late(Config::Loadline));
        assert_eq!(runs.ratios(Config::Loadline, 0.99), [1.1, 1.5]);
    }

    #[test]
    fn what_was_used_by_hand() {
        let [production, lent, own] = used(&run(0, Config::Loadline, 100).slice);
        assert!((production - 0.39).abs() < 1e-9 && (lent - 0.5).abs() < 1e-9 && (own - 0.01).abs() < 1e-9);
    }

    #[test]
    fn production_s_cpu_time_is_counted_by_request() {
        let mut twice = run(0, Config::Loadline, 100);
        twice.slice.load.requests *= 2;
        let runs = cell(vec![run(0, Config::Alone, 100), twice]);
        assert_eq!(runs.cpu_ratios(Config::Loadline), [0.5]);
    }

    #[test]
    fn the_share_by_hand() {
        // Two CPUs, a fifth idle: 1.6 CPU·s a second. Production 0.39: 1.21 free. Lent 0.5.
        let runs = cell(vec![run(0, Config::Loadline, 100)]);
        let share = runs.batch_shares(Config::Loadline)[0];
        assert!((share - 0.5 / 1.21).abs() < 1e-9, "{share}");
        assert_eq!(runs.work_per_s(Config::Loadline), [5.0]);
        let twice = cell(vec![run(0, Config::Loadline, 100), run(1, Config::Loadline, 100)]);
        assert_eq!(twice.lent_of_free(Config::Loadline), [1_000_000, 2_420_000]);
    }

    #[test]
    fn what_production_uses_beyond_the_headroom_is_not_owed_back() {
        // One second full of production, one idle; lent work ran only in the second.
        let readings = vec![
            reading(0, 0, 0, 0),
            reading(1_000_000, 2_000_000, 0, 0),
            reading(2_000_000, 3_600_000, 1_600_000, 0),
        ];
        let share = batch_share(&slice(readings)).unwrap();
        assert!((share - 1.0).abs() < 1e-9, "{share}");
        let full = vec![reading(0, 0, 0, 0), reading(1_000_000, 2_000_000, 0, 0)];
        assert_eq!(batch_share(&slice(full)), None);
    }
}
