//! A month of load after the model of Lublin and Feitelson (J. Parallel and Distributed Computing 63(11), 2003).
//!
//! The parameters are those that the authors publish for jobs of all kinds together (their program `lublin99`). How
//! many jobs come is set through the points that a gap between two jobs is worth, so that days stay days; the rest of
//! the model is untouched. The model says nothing about people, so these are ours: 64 users in 8 teams, the most
//! active first by Zipf's law, each with a habit of asking for more time than needed, in round figures; that people use
//! any part of what they ask for, and ask in few round values, is the finding of Tsafrir, Etsion and Feitelson (JSSPP
//! 2005).

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the model's numbers are positive and far below what integers hold"
)]

use loadline_model::{Span, Tier, WallTime};
use loadline_placement::policy::Priority;
use loadline_placement::sim::{Load, SimJob};

use crate::gamma::{below, gamma, uniform};
use crate::random::Random;

/// Jobs of one processor.
const SERIAL: f64 = 0.244;
/// Jobs of a power of two of processors.
const POWER_OF_TWO: f64 = 0.576;
/// Two-stage uniform distribution of the processors' logarithm: from, share of the first stage. The stages meet 2.5
/// below the machine's own size.
const LOG_LOW: f64 = 0.8;
const FIRST_STAGE: f64 = 0.86;
const MEET_BELOW: f64 = 2.5;
/// The logarithm of the run time in seconds: two gammas, and the share of the first by processors.
const SHORT: (f64, f64) = (4.2, 0.94);
const LONG: (f64, f64) = (312.0, 0.03);
const SHORT_SHARE: (f64, f64) = (-0.0054, 0.78);
const LOG_RUN_MAX: f64 = 12.0;
/// The logarithm of the gap between jobs in seconds at rush hours, stretched to all hours.
const GAP: (f64, f64) = (10.2303 * 1.0225, 0.4871);
const LOG_GAP_MAX: f64 = 13.0;
/// Jobs over the half hours of a day that begins at the eleventh of them.
const DAY: (f64, f64) = (8.1737, 3.9631);
const HALF_HOURS: usize = 48;
const DAY_BEGINS: usize = 11;
const HALF_HOUR_S: f64 = 1800.0;

const DAYS: f64 = 30.0;
const USERS: usize = 64;
const TEAMS: usize = 8;
/// What people ask for, in minutes: round figures.
const ROUND: [u64; 16] = [
    5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720, 1080, 1440, 2160, 2880, 4320,
];

/// A month that asks for `level` per cent of a machine, as near as the model's own chance allows.
pub(crate) fn month(processors: u32, level: u32, seed: u64) -> Load {
    let wanted = f64::from(level) / 100.0;
    let mut stretch = 1.0;
    let mut load = generate(processors, stretch, seed);
    // Each round's load depends on the same random numbers; a few steps come to rest, or near enough.
    for _ in 0..8 {
        let off = offered(&load) / wanted;
        if (off - 1.0).abs() < 0.01 {
            break;
        }
        stretch *= off;
        load = generate(processors, stretch, seed);
    }
    load
}

/// How much of the machine all jobs together take of the month.
fn offered(load: &Load) -> f64 {
    let work: f64 = load
        .jobs
        .iter()
        .map(|job| job.runs.as_secs() as f64 * f64::from(job.processors))
        .sum();
    work / (DAYS * 86_400.0 * f64::from(load.processors))
}

fn generate(processors: u32, stretch: f64, seed: u64) -> Load {
    let mut random = Random(seed);
    let habits: Vec<f64> = (0..USERS).map(|_| 0.05 + 0.95 * uniform(&mut random)).collect();
    let weights = weights();
    let mut clock = Clock::default();
    let mut jobs = Vec::new();
    loop {
        clock.next(&mut random, &weights, stretch);
        if clock.seconds > DAYS * 86_400.0 {
            return Load { processors, jobs };
        }
        let needed = processors_of(&mut random, processors);
        let runs = runs(&mut random, needed);
        let user = user(&mut random);
        let used = (habits[user] * (0.5 + uniform(&mut random))).clamp(0.02, 1.0);
        jobs.push(SimJob {
            submitted: WallTime((clock.seconds * 1e6) as i64),
            runs: Span::from_secs(runs as u64),
            asked: round((runs / used) as u64).max(Span::from_secs(runs as u64)),
            processors: needed,
            user: format!("user{user}"),
            team: format!("team{}", user % TEAMS),
            tier: Tier::Standard,
            priority: Priority::default(),
        });
    }
}

/// How many jobs come in each half hour of a day, with a mean of one.
fn weights() -> [f64; HALF_HOURS] {
    let mut weights = [0.0; HALF_HOURS];
    for half_hour in DAY_BEGINS..HALF_HOURS + DAY_BEGINS {
        let (from, to) = (half_hour as f64 - 0.5, half_hour as f64 + 0.5);
        weights[(half_hour - 1) % HALF_HOURS] = below(to, DAY.0, DAY.1) - below(from, DAY.0, DAY.1);
    }
    let mean = weights.iter().sum::<f64>() / HALF_HOURS as f64;
    weights.map(|weight| weight / mean)
}

/// When the next job comes: gaps are worth points, and a half hour takes as many as its weight.
#[derive(Default)]
struct Clock {
    seconds: f64,
}

impl Clock {
    fn next(&mut self, random: &mut Random, weights: &[f64; HALF_HOURS], stretch: f64) {
        let gap = loop {
            let gap = gamma(random, GAP.0, GAP.1);
            if gap <= LOG_GAP_MAX {
                break gap;
            }
        };
        let mut points = gap.exp() / HALF_HOUR_S * stretch;
        loop {
            let half_hour = (self.seconds / HALF_HOUR_S) as usize;
            let left = ((half_hour + 1) as f64 * HALF_HOUR_S - self.seconds) / HALF_HOUR_S;
            let weight = weights[half_hour % HALF_HOURS];
            if points <= left * weight {
                self.seconds += points / weight * HALF_HOUR_S;
                return;
            }
            points -= left * weight;
            self.seconds = (half_hour + 1) as f64 * HALF_HOUR_S;
        }
    }
}

fn processors_of(random: &mut Random, all: u32) -> u32 {
    let kind = uniform(random);
    if kind <= SERIAL {
        return 1;
    }
    let high = f64::from(all).log2();
    let meet = high - MEET_BELOW;
    let (from, to) = if uniform(random) <= FIRST_STAGE {
        (LOG_LOW, meet)
    } else {
        (meet, high)
    };
    let log = from + (to - from) * uniform(random);
    let log = if kind <= SERIAL + POWER_OF_TWO {
        log.round()
    } else {
        log
    };
    (log.exp2().round() as u32).clamp(1, all)
}

/// Seconds, at least one.
fn runs(random: &mut Random, processors: u32) -> f64 {
    let short = SHORT_SHARE.0.mul_add(f64::from(processors), SHORT_SHARE.1);
    loop {
        let (shape, scale) = if uniform(random) <= short.clamp(0.0, 1.0) {
            SHORT
        } else {
            LONG
        };
        let log = gamma(random, shape, scale);
        if log <= LOG_RUN_MAX {
            return log.exp().floor().max(1.0);
        }
    }
}

/// The most active user first: the second has half as many jobs, the third a third.
fn user(random: &mut Random) -> usize {
    let all: f64 = (1..=USERS).map(|rank| 1.0 / rank as f64).sum();
    let mut left = uniform(random) * all;
    for user in 0..USERS {
        left -= 1.0 / (user + 1) as f64;
        if left <= 0.0 {
            return user;
        }
    }
    USERS - 1
}

fn round(seconds: u64) -> Span {
    let longest = ROUND[ROUND.len() - 1];
    let minutes = ROUND.iter().find(|minutes| **minutes * 60 >= seconds);
    Span::from_secs(minutes.unwrap_or(&longest) * 60)
}
