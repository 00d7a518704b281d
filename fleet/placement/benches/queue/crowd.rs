//! How long it takes to order a long queue: many users of some teams, sizes and times of all kinds.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use loadline_model::{Amounts, Bytes, JobId, MilliCpu, Span, Tier, WallTime};
use loadline_placement::policy::{Accounts, Claim, OrderRules, Priority, ShareRules, Starting, Team, order};

use crate::random::Random;

const TEAMS: usize = 50;
const USERS: usize = 1000;

/// Milliseconds for one order of so many claims.
pub(crate) fn order_ms(claims: usize, seed: u64) -> Result<f64> {
    let mut random = Random(seed);
    let names: Vec<(String, String)> = (0..USERS)
        .map(|user| (format!("team{}", user % TEAMS), format!("user{user}")))
        .collect();
    let capacity = Amounts {
        cpu: MilliCpu::from_cpus(640_000),
        memory: Bytes::from_gib(2_560_000),
        gpus: 20_000,
    };
    let mut accounts = Accounts::new(ShareRules {
        half_life: ShareRules::HALF_LIFE,
        capacity,
    });
    let day = WallTime(86_400_000_000);
    for (number, (team, user)) in (0u128..).zip(&names) {
        accounts.set_team(team, Team::default(), WallTime(0));
        let starting = Starting {
            job: id(number)?,
            worker: 0,
            team,
            user,
            amounts: amounts(&mut random)?,
            estimate: Some(Span::from_secs(60 + random.below(86_400) as u64)),
            limit: None,
        };
        accounts.start(&starting, WallTime(0));
    }
    let mut waiting = Vec::with_capacity(claims);
    for number in 0..claims {
        let (team, user) = &names[random.below(USERS)];
        waiting.push(Claim {
            job: id(number as u128)?,
            tier: if random.below(4) == 0 {
                Tier::Burst
            } else {
                Tier::Standard
            },
            priority: Priority(i16::try_from(random.below(3))?),
            submitted_at: WallTime(i64::try_from(random.below(86_400_000_000))?),
            team,
            user,
            extra: false,
            amounts: amounts(&mut random)?,
            estimate: Some(Span::from_secs(60 + random.below(86_400) as u64)),
            reserved: false,
        });
    }
    let begun = now();
    let sorted = order(&waiting, &accounts, &OrderRules::default(), day);
    let took = begun.elapsed();
    ensure!(
        sorted.len() == claims,
        "{} of {claims} claims are in the order",
        sorted.len()
    );
    Ok(took.as_secs_f64() * 1000.0)
}

fn amounts(random: &mut Random) -> Result<Amounts> {
    let cpus = 1 + random.below(64);
    Ok(Amounts {
        cpu: MilliCpu::from_cpus(u32::try_from(cpus)?),
        memory: Bytes::from_gib(cpus as u64 * 4),
        gpus: u32::try_from(random.below(5))?,
    })
}

fn id(number: u128) -> Result<JobId> {
    JobId::from_slice(&number.to_be_bytes()).context("sixteen bytes")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; nothing is decided by it"
)]
fn now() -> Instant {
    Instant::now()
}
