//! Shares, quotas and patience over simulated days, each against a count of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;

use loadline_model::{Amounts, Bytes, JobId, LocalTime, MilliCpu, Span, Tier, WallTime, Weekday};
use loadline_placement::Policy;
use loadline_placement::policy::{
    Accounts, Asked, AtOnce, Budget, Claim, Gate, Gated, OrderRules, OverQuota, Period, Priority, Quota,
    Ready, ShareRules, Shutter, Starting, Tab, Team, Windows, gate, order,
};
use loadline_placement::sim::{Load, Outcome, SimJob};
use proptest::prelude::*;

const DAY: u64 = 24 * 3600;

fn job_id(number: u64) -> JobId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    JobId::from_slice(&bytes).unwrap()
}

fn amounts(cpus: u32, gib: u64, gpus: u32) -> Amounts {
    Amounts {
        cpu: MilliCpu::from_cpus(cpus),
        memory: Bytes::from_gib(gib),
        gpus,
    }
}

const fn at(seconds: u64) -> WallTime {
    WallTime((seconds * 1_000_000).cast_signed())
}

/// The same on every machine; its own generator, so that no crate's next version changes what is tested.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn sim_job(team: &str, user: &str, submitted: u64, runs: u64, processors: u32) -> SimJob {
    SimJob {
        submitted: at(submitted),
        runs: Span::from_secs(runs),
        asked: Span::from_secs(runs * 2),
        processors,
        user: user.into(),
        team: team.into(),
        tier: Tier::Standard,
        priority: Priority::default(),
    }
}

fn sorted(processors: u32, mut jobs: Vec<SimJob>) -> Load {
    jobs.sort_by_key(|job| job.submitted);
    Load { processors, jobs }
}

/// Processor-seconds of each team or user before `until`.
fn used(load: &Load, outcome: &Outcome, until: u64, of: fn(&SimJob) -> &str) -> BTreeMap<String, u64> {
    let mut used = BTreeMap::new();
    for (job, started) in load.jobs.iter().zip(&outcome.started) {
        let Some(started) = started else { continue };
        let end = started.plus(job.runs).min(at(until));
        *used.entry(of(job).to_owned()).or_default() +=
            end.since(*started).as_secs() * u64::from(job.processors);
    }
    used
}

fn weighted(weight: u32) -> Team {
    Team {
        weight,
        ..Team::default()
    }
}

const CROWD: [(&str, u32, u64, u64); 3] = [
    ("blue", 100, 1800, 1),
    ("green", 200, 3600, 1),
    ("red", 300, 1800, 3),
];

/// Three teams with jobs of very different sizes; each always wants an eighth more than its weight is worth.
fn crowded(seed: u64) -> Load {
    let mut random = Random(seed);
    let mut jobs = Vec::new();
    for (team, weight, longest, widest) in CROWD {
        let share = 16 * DAY * u64::from(weight) / 600;
        let mut work = 0;
        while work < share * 9 / 8 {
            let (runs, processors) = (1 + random.below(longest), 1 + random.below(widest));
            let user = format!("{team}{}", random.below(4));
            // Two hours ahead, so that the day begins with a full machine.
            let submitted = (work * DAY * 8 / 9 / share).saturating_sub(7200);
            work += runs * processors;
            jobs.push(sim_job(
                team,
                &user,
                submitted,
                runs,
                u32::try_from(processors).unwrap(),
            ));
        }
    }
    sorted(16, jobs)
}

#[test]
fn shares_converge_to_weights_within_two_per_cent_in_a_day() {
    for seed in 1..=3 {
        converges(seed);
    }
}

fn converges(seed: u64) {
    let load = crowded(seed);
    let teams = CROWD.map(|(team, weight, ..)| (team.to_owned(), weighted(weight)));
    let outcome = load.in_fleet(Policy::default(), &teams).unwrap();
    let used = used(&load, &outcome, DAY, |job| &job.team);
    let all: u64 = used.values().sum();
    assert!(
        all as f64 > 0.98 * (16 * DAY) as f64,
        "the machine stood idle: {used:?}"
    );
    for (team, weight, ..) in CROWD {
        let share = used[team] as f64 / all as f64;
        let off = share / (f64::from(weight) / 600.0) - 1.0;
        assert!(
            off.abs() < 0.02,
            "{team} has {share:.4}, off by {off:.4} (seed {seed})"
        );
    }
}

#[test]
fn users_of_a_team_share_alike_however_many_jobs_they_have() {
    let mut jobs: Vec<SimJob> = (0..400)
        .map(|n| sim_job("vision", "many", n % 60, 600, 1))
        .collect();
    jobs.extend((0..180).map(|n| sim_job("vision", "few", 60 + n % 60, 600, 1)));
    let load = sorted(16, jobs);
    let outcome = load.in_fleet(Policy::default(), &[]).unwrap();
    let used = used(&load, &outcome, 3 * 3600, |job| &job.user);
    let ratio = used["many"] as f64 / used["few"] as f64;
    // `few` came a minute later; by then `many` had started a machine full.
    assert!((ratio - 1.0).abs() < 0.02, "{used:?}");
}

#[test]
fn yesterdays_heavy_user_is_served_last_and_forgiven_by_half_lives() {
    let capacity = amounts(100, 100, 4);
    let rules = ShareRules {
        half_life: Span::from_secs(DAY),
        capacity,
    };
    let mut accounts = Accounts::new(rules);
    let starting = Starting {
        job: job_id(1),
        worker: 0,
        team: "heavy",
        user: "ada",
        amounts: amounts(50, 1, 0),
        estimate: None,
        limit: None,
    };
    accounts.start(&starting, at(0));
    accounts.advance(at(3600));
    assert_eq!(accounts.end(job_id(1), 0, at(7200)), Some(Span::from_secs(7200)));
    let hours = |days: u64| accounts.spent("heavy", at(7200 + days * DAY)).cpu_hours();
    // Charges of the first minutes have decayed for two hours of a day: a little less than 100.
    assert!((95..=100).contains(&hours(0)), "{}", hours(0));
    assert_eq!(hours(1), hours(0) / 2);
    assert_eq!(hours(40), 0);
}

fn claim<'a>(number: u64, team: &'a str, user: &'a str, priority: i16, submitted: u64) -> Claim<'a> {
    Claim {
        job: job_id(number),
        tier: Tier::Standard,
        priority: Priority(priority),
        submitted_at: at(submitted),
        team,
        user,
        extra: false,
        amounts: amounts(1, 1, 0),
        estimate: Some(Span::from_secs(60)),
        reserved: false,
    }
}

fn fresh() -> Accounts {
    Accounts::new(ShareRules {
        half_life: ShareRules::HALF_LIFE,
        capacity: amounts(100, 100, 10),
    })
}

#[test]
fn tier_then_patience_then_priority_then_shares_then_arrival() {
    let mut burst = claim(1, "a", "x", 9, 0);
    burst.tier = Tier::Burst;
    let claims = [
        burst,
        claim(2, "a", "x", 0, 100_000),
        claim(3, "a", "x", 0, 90_000),
        claim(4, "b", "y", 0, 100_000),
        claim(5, "a", "x", 7, 100_000),
        claim(6, "a", "x", -5, 100),
    ];
    let rules = OrderRules {
        patience: Span::from_secs(DAY),
    };
    let order = order(&claims, &fresh(), &rules, at(100 + DAY + 1));
    let jobs: Vec<u8> = order
        .iter()
        .map(|index| claims[*index].job.as_bytes()[15])
        .collect();
    // 6 has waited a day; 5 is urgent; 3, 4, 2 alternate between the teams, b first since a has been given two.
    assert_eq!(jobs, [6, 5, 4, 3, 2, 1]);
}

#[test]
fn beyond_the_patience_only_age_counts_and_what_starts_is_charged_all_the_same() {
    let claims = [
        claim(1, "a", "x", 9, 300),
        claim(2, "b", "y", 0, 200),
        claim(3, "a", "x", -9, 100),
        claim(4, "a", "x", 0, 2 * DAY),
        claim(5, "b", "y", 0, 2 * DAY + 1),
        claim(6, "b", "z", 0, 2 * DAY + 2),
    ];
    let rules = OrderRules {
        patience: Span::from_secs(DAY),
    };
    let order = order(&claims, &fresh(), &rules, at(2 * DAY + 3));
    let jobs: Vec<u8> = order
        .iter()
        .map(|index| claims[*index].job.as_bytes()[15])
        .collect();
    // Team a has been given two and b one, so b goes on: z, who has had nothing, before y. Then both have had two, and
    // the older goes first.
    assert_eq!(jobs, [3, 2, 1, 6, 4, 5]);
}

proptest! {
    /// The same claims in another order of the list give the same order of jobs, and everyone is in it once.
    #[test]
    fn the_order_depends_on_values_only(
        list in prop::collection::vec((0usize..3, 0usize..3, -1i16..2, 0u64..200_000, any::<bool>()), 0..40),
        seed in any::<u64>(),
    ) {
        let teams = ["a", "b", "c"];
        let make = |(number, (team, user, priority, submitted, burst)): (u64, &(usize, usize, i16, u64, bool))| {
            let mut claim = claim(number, teams[*team], teams[*user], *priority, *submitted);
            claim.tier = if *burst { Tier::Burst } else { Tier::Standard };
            claim
        };
        let claims: Vec<Claim<'_>> = (0..).zip(&list).map(make).collect();
        let mut shuffled = claims.clone();
        let mut random = Random(seed);
        for end in (1..shuffled.len()).rev() {
            shuffled.swap(end, usize::try_from(random.below(end as u64 + 1)).unwrap());
        }
        let jobs = |claims: &[Claim<'_>]| -> Vec<JobId> {
            let order = order(claims, &fresh(), &OrderRules::default(), at(200_000));
            order.into_iter().map(|index| claims[index].job).collect()
        };
        let one = jobs(&claims);
        prop_assert_eq!(&one, &jobs(&shuffled));
        let mut all = one;
        all.sort();
        all.dedup();
        prop_assert_eq!(all.len(), claims.len());
    }

    /// Everything that is granted is counted here a second time, from the list of what runs.
    #[test]
    fn no_quota_is_ever_exceeded(
        events in prop::collection::vec((0usize..2, 0usize..2, (0u32..6, 0u64..6, 0u32..3), 1u64..20_000, 1u64..7_200), 1..120),
    ) {
        let mut books = Books::new();
        for (number, event) in (0..).zip(events) {
            books.step(number, &event)?;
        }
        // A restart changes nothing.
        let kept = serde_json::to_string(&books.accounts).unwrap();
        prop_assert_eq!(serde_json::from_str::<Accounts>(&kept).unwrap(), books.accounts);
    }
}

/// How long patient work waits for as many processors of sixteen, in a flood of urgent work. `own`: it is the same
/// user's.
fn patient_waits(seed: u64, wide: u32, own: bool) -> Span {
    let mut random = Random(seed);
    let mut jobs = Vec::new();
    let mut work = 0;
    // Half as much again as the machine can do, for four days, all of it urgent.
    while work < 16 * 4 * DAY * 3 / 2 {
        let (runs, processors) = (1800 + random.below(3 * 3600), 1 + random.below(8));
        let submitted = 10 + work * 2 / (16 * 3);
        work += runs * processors;
        let mut job = sim_job(
            "urgent",
            "eve",
            submitted,
            runs,
            u32::try_from(processors).unwrap(),
        );
        job.priority = Priority(10);
        jobs.push(job);
    }
    let (team, user) = if own {
        ("urgent", "eve")
    } else {
        ("patient", "pat")
    };
    let mut patient = sim_job(team, user, 0, 600, wide);
    // It finds the machine full.
    jobs.extend((0..16).map(|_| sim_job("first", "first", 0, 7200, 1)));
    patient.submitted = at(5);
    jobs.push(patient);
    let load = sorted(16, jobs);
    let outcome = load.in_fleet(Policy::default(), &[]).unwrap();
    let place = load.jobs.iter().position(|job| job.submitted == at(5)).unwrap();
    outcome.started[place].unwrap().since(at(5))
}

/// The patience, then what runs already and what may have passed ends: at most twice three and a half hours, and a
/// minute.
fn patient_waits_most() -> Span {
    OrderRules::default()
        .patience
        .plus(Span::from_secs(7 * 3600 + 120))
}

/// Kept room was given up to urgent work, workers were sent back for it again and again, and guesses let others pass.
#[test]
fn whoever_waits_beyond_the_patience_is_not_passed_by_urgent_work() {
    for (seed, wide) in [(450, 13), (709, 11), (709, 12), (760, 7)] {
        let waited = patient_waits(seed, wide, false);
        assert!(
            waited <= patient_waits_most(),
            "seed {seed}, {wide} wide: waited {waited}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// However much urgent work comes, patient work starts once it has waited so long and what is before it is done.
    #[test]
    fn nobody_waits_for_ever(seed in 0u64..1000, wide in 1u32..=16, own in any::<bool>()) {
        let waited = patient_waits(seed, wide, own);
        prop_assert!(waited <= patient_waits_most(), "waited {}", waited);
    }
}

#[test]
fn a_replay_is_identical() {
    let mut load = crowded(7);
    load.jobs.truncate(150);
    let teams = [("blue".to_owned(), weighted(250))];
    let run = || load.in_fleet(Policy::default(), &teams).unwrap();
    assert_eq!(run(), run());
}

struct Held {
    team: usize,
    user: usize,
    amounts: Amounts,
    started: WallTime,
    limit: Span,
    ends: WallTime,
}

/// Two teams with quotas, and what runs of them.
struct Books {
    accounts: Accounts,
    running: BTreeMap<u64, Held>,
    ended: Vec<(usize, WallTime, Amounts, Span)>,
    now: WallTime,
}

const TEAMS: [&str; 2] = ["left", "right"];
const USERS: [&str; 2] = ["ada", "bob"];
const TEAM_CPUS: u64 = 8000;
const USER_GIB: u64 = 10;
const GPU_HOURS: u64 = 4;
const PERIOD: u64 = 6 * 3600;

impl Books {
    fn new() -> Self {
        let mut accounts = fresh();
        let quota = Quota {
            team: AtOnce {
                cpu: Some(MilliCpu(TEAM_CPUS)),
                ..AtOnce::default()
            },
            user: AtOnce {
                memory: Some(Bytes::from_gib(USER_GIB)),
                ..AtOnce::default()
            },
            budget: Some(Budget {
                period: Period::Each {
                    length: Span::from_secs(PERIOD),
                    since: at(0),
                },
                cpu_hours: None,
                gib_hours: None,
                gpu_hours: Some(GPU_HOURS),
            }),
        };
        for team in TEAMS {
            let team_rules = Team {
                quota,
                ..Team::default()
            };
            accounts.set_team(team, team_rules, at(0));
        }
        Self {
            accounts,
            running: BTreeMap::new(),
            ended: Vec::new(),
            now: at(0),
        }
    }

    /// Ends what is due, then lets one more start if it may; then counts.
    fn step(
        &mut self,
        number: u64,
        event: &(usize, usize, (u32, u64, u32), u64, u64),
    ) -> Result<(), TestCaseError> {
        let (team, user, (cpus, gib, gpus), limit, gap) = event;
        self.now = self.now.plus(Span::from_secs(*gap));
        let due: Vec<u64> = self
            .running
            .iter()
            .filter(|(_, held)| held.ends <= self.now)
            .map(|(n, _)| *n)
            .collect();
        for number in due {
            let held = self.running.remove(&number).unwrap();
            let ran = self.accounts.end(job_id(number), 0, held.ends.max(held.started));
            prop_assert_eq!(ran, Some(held.ends.since(held.started)));
            self.ended
                .push((held.team, held.started, held.amounts, ran.unwrap()));
        }
        self.accounts.advance(self.now);
        let (amounts, limit) = (amounts(*cpus, *gib, *gpus), Span::from_secs(*limit));
        let asked = Asked {
            team: TEAMS[*team],
            user: USERS[*user],
            amounts,
            workers: 1,
            limit: Some(limit),
        };
        if self.accounts.admits(&asked, &Tab::default(), self.now).is_ok() {
            let starting = Starting {
                job: job_id(number),
                worker: 0,
                team: TEAMS[*team],
                user: USERS[*user],
                amounts,
                estimate: None,
                limit: Some(limit),
            };
            self.accounts.start(&starting, self.now);
            // Every third uses all of its time.
            let ran = if number.is_multiple_of(3) {
                limit
            } else {
                Span(limit.0 / 2)
            };
            let held = Held {
                team: *team,
                user: *user,
                amounts,
                started: self.now,
                limit,
                ends: self.now.plus(ran),
            };
            self.running.insert(number, held);
        }
        self.count()
    }

    fn count(&self) -> Result<(), TestCaseError> {
        for (team, name) in TEAMS.iter().enumerate() {
            let of_team = || self.running.values().filter(move |held| held.team == team);
            let cpus: u64 = of_team().map(|held| held.amounts.cpu.0).sum();
            prop_assert!(cpus <= TEAM_CPUS);
            prop_assert_eq!(self.accounts.held(name).amounts.cpu.0, cpus);
            for user in 0..USERS.len() {
                let memory: u64 = of_team()
                    .filter(|held| held.user == user)
                    .map(|held| held.amounts.memory.0)
                    .sum();
                prop_assert!(memory <= USER_GIB << 30);
            }
            // What this period's starts have used and may still use.
            let period = |moment: WallTime| moment.0.div_euclid(at(PERIOD).0);
            let this = |started: WallTime| period(started) == period(self.now);
            let hours = |amounts: Amounts, span: Span| u128::from(amounts.gpus) * 1000 * u128::from(span.0);
            let ended = self
                .ended
                .iter()
                .filter(|(of, started, ..)| *of == team && this(*started));
            let gone: u128 = ended.map(|(_, _, amounts, ran)| hours(*amounts, *ran)).sum();
            let still: u128 = of_team()
                .filter(|held| this(held.started))
                .map(|held| hours(held.amounts, held.limit))
                .sum();
            prop_assert!(gone + still <= u128::from(GPU_HOURS) * 3_600_000_000_000);
            prop_assert_eq!(self.accounts.paid(name, self.now).gpus, gone + still);
        }
        Ok(())
    }
}

#[test]
fn a_plan_cannot_pass_a_quota_by_starting_several_at_once() {
    let mut books = Books::new();
    let asked = Asked {
        team: "left",
        user: "ada",
        amounts: amounts(5, 1, 0),
        workers: 1,
        limit: Some(Span::from_secs(60)),
    };
    let mut tab = Tab::default();
    assert_eq!(books.accounts.admits(&asked, &tab, at(0)), Ok(()));
    tab.add(&asked);
    let over = books.accounts.admits(&asked, &tab, at(0)).unwrap_err();
    assert_eq!(
        over.to_string(),
        "the team may hold 8 CPUs at once; 5 CPUs are held and 5 CPUs asked for: it starts once enough is free again"
    );
    assert!(!over.is_for_good());
    let other = Asked {
        team: "right",
        ..asked
    };
    assert_eq!(books.accounts.admits(&other, &tab, at(0)), Ok(()));
    let endless = Asked { limit: None, ..other };
    assert_eq!(
        books.accounts.admits(&endless, &tab, at(0)),
        Err(OverQuota::NoTimeLimit)
    );
    let huge = Asked {
        amounts: amounts(9, 1, 0),
        ..other
    };
    let never = books.accounts.admits(&huge, &tab, at(0)).unwrap_err();
    assert!(
        never.is_for_good() && never.to_string().ends_with("have an operator raise the quota"),
        "{never}"
    );
    // A quota that is lowered below what runs ends nothing, and lets nothing more start.
    books.accounts.set_team(
        "right",
        Team {
            quota: Quota::default(),
            ..Team::default()
        },
        at(0),
    );
    assert_eq!(books.accounts.admits(&huge, &tab, at(0)), Ok(()));
}

#[test]
fn the_gate_names_what_to_wait_for_first() {
    let mut accounts = fresh();
    let nights = Windows(vec![loadline_model::WeekSpan {
        days: "Mon-Fri".parse().unwrap(),
        from: "19:00".parse().unwrap(),
        to: "07:00".parse().unwrap(),
    }]);
    let team = Team {
        windows: nights.clone(),
        quota: Quota {
            team: AtOnce {
                gpus: Some(0),
                ..AtOnce::default()
            },
            ..Quota::default()
        },
        ..Team::default()
    };
    accounts.set_team("night", team, at(0));
    let noon = Shutter {
        local: LocalTime {
            day: Weekday::Tue,
            minute: 720,
        },
        burst: Windows::default(),
    };
    let night = Shutter {
        local: LocalTime {
            day: Weekday::Tue,
            minute: 1300,
        },
        burst: nights,
    };
    let mut job = Gate {
        asked: Asked {
            team: "night",
            user: "ada",
            amounts: amounts(1, 1, 1),
            workers: 1,
            limit: None,
        },
        tier: Tier::Burst,
        estimate: None,
        ready: Ready::At(at(5)),
    };
    let tab = Tab::default();
    let told = |job: &Gate<'_>, shutter: &Shutter| gate(job, &accounts, &tab, shutter, at(0));
    assert_eq!(told(&job, &noon), Err(Gated::Prerequisite(Ready::At(at(5)))));
    job.ready = Ready::Now;
    assert!(matches!(told(&job, &noon), Err(Gated::TeamWindow(_))));
    assert!(matches!(
        told(&job, &night),
        Err(Gated::Quota(OverQuota::Held { .. }))
    ));
    job.asked.amounts = amounts(1, 1, 0);
    assert_eq!(told(&job, &night), Ok(()));
    job.asked.team = "other";
    let day_burst = Shutter {
        local: noon.local,
        ..night
    };
    assert!(matches!(told(&job, &day_burst), Err(Gated::BurstWindow(_))));
    job.tier = Tier::Standard;
    assert_eq!(told(&job, &day_burst), Ok(()));
}
