//! The percentile of seconds against a slow and plain count.

use alloc::vec::Vec;

use super::super::window::{TENTH, Window};
use proptest::prelude::*;

/// The same from a list of tenths, the newest last; none where nothing was measured.
fn plain(tenths: &[Option<u64>]) -> u64 {
    let last = &tenths[tenths.len().saturating_sub(100)..];
    let mut seconds: Vec<u64> = last
        .windows(10)
        .filter_map(|second| second.iter().copied().sum::<Option<u64>>())
        .map(|sum| sum.div_ceil(10))
        .collect();
    seconds.sort_unstable();
    match (seconds.len() * 75).div_ceil(100) {
        0 => last.iter().flatten().copied().max().unwrap_or(0),
        rank => seconds[rank - 1],
    }
}

proptest! {
    #[test]
    fn the_percentile_of_seconds_is_the_plain_one(
        tenths in prop::collection::vec(prop::option::weighted(0.9, 0u64..4_000_000), 0..250),
    ) {
        let mut window = Window::new();
        for tenth in &tenths {
            match tenth {
                Some(used) => window.push(*used, &[None; 3], TENTH),
                None => window.skip(TENTH),
            }
        }
        prop_assert_eq!(window.usual_second(), plain(&tenths));
    }
}
