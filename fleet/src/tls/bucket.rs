//! A token bucket: how many connections may come at once, and how many a second after that.
//!
//! Pure: `now` is an argument. Tokens are counted in thousandths, so that slow rates do not round to nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// One token.
const TOKEN: u64 = 1000;
/// So many addresses are remembered; more at once are a flood, and then the fullest buckets are forgotten.
const PEERS_MAX: usize = 10_000;

/// A burst and a steady rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many at once.
    pub burst: u32,
    /// So many a second in the long run.
    pub per_second: u32,
}

/// A bucket that starts full.
#[derive(Debug, Clone)]
pub struct Bucket {
    rate: Rate,
    milli_tokens: u64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            milli_tokens: u64::from(rate.burst) * TOKEN,
            filled_at: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed_ms = now.saturating_duration_since(self.filled_at).as_millis();
        let gained = u64::try_from(elapsed_ms)
            .unwrap_or(u64::MAX)
            .saturating_mul(self.rate.per_second.into());
        if gained > 0 {
            let most = u64::from(self.rate.burst) * TOKEN;
            self.milli_tokens = self.milli_tokens.saturating_add(gained).min(most);
            self.filled_at = now;
        }
    }

    /// Takes one token, or says how long until there is one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if let Some(rest) = self.milli_tokens.checked_sub(TOKEN) {
            self.milli_tokens = rest;
            return Ok(());
        }
        let missing = TOKEN - self.milli_tokens;
        Err(Duration::from_millis(
            missing.div_ceil(u64::from(self.rate.per_second.max(1))),
        ))
    }
}

/// One bucket for each peer address.
#[derive(Debug)]
pub struct PeerBuckets {
    rate: Rate,
    buckets: HashMap<IpAddr, Bucket>,
}

impl PeerBuckets {
    /// No peer yet.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
        }
    }

    /// Takes one token of this peer's bucket, or says how long until there is one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&mut self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.buckets.len() >= PEERS_MAX && !self.buckets.contains_key(&peer) {
            self.forget_full(now);
        }
        let rate = self.rate;
        self.buckets
            .entry(peer.to_canonical())
            .or_insert_with(|| Bucket::new(rate, now))
            .take(now)
    }

    fn forget_full(&mut self, now: Instant) {
        let most = u64::from(self.rate.burst) * TOKEN;
        self.buckets.retain(|_, bucket| {
            bucket.fill(now);
            bucket.milli_tokens < most
        });
        if self.buckets.len() >= PEERS_MAX {
            self.buckets.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate {
        burst: 3,
        per_second: 2,
    };

    fn later(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        let taken = (0..5).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(500)));
        assert!(bucket.take(later(start, 499)).is_err());
        assert!(bucket.take(later(start, 500)).is_ok());
        assert!(bucket.take(later(start, 500)).is_err());
    }

    #[tokio::test]
    async fn peers_do_not_drain_each_other() {
        let start = Instant::now();
        let mut peers = PeerBuckets::new(Rate {
            burst: 1,
            per_second: 1,
        });
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(peers.take(a, start).is_ok());
        assert!(peers.take(a, start).is_err());
        assert!(peers.take(b, start).is_ok());
    }

    #[tokio::test]
    async fn a_flood_of_addresses_does_not_grow_memory() {
        let start = Instant::now();
        let mut peers = PeerBuckets::new(Rate {
            burst: 1,
            per_second: 1,
        });
        for n in 0..30_000u32 {
            peers.take(IpAddr::from(n.to_be_bytes()), start).unwrap();
        }
        assert!(peers.buckets.len() <= PEERS_MAX);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(steps in proptest::collection::vec(0u64..2000, 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _guard = runtime.enter();
            let start = Instant::now();
            let mut bucket = Bucket::new(RATE, start);
            let (mut now_ms, mut taken) = (0u64, 0u64);
            for step in steps {
                now_ms += step;
                taken += u64::from(bucket.take(later(start, now_ms)).is_ok());
                prop_assert!(taken <= 3 + now_ms * 2 / 1000 + 1);
            }
        }
    }
}
