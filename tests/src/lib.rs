//! The whole system under test: guests that run the real thing, scenarios, benchmarks, and the repository's own rules.
//!
//! The testbed needs nothing of Loadline itself, so that it also works while Loadline does not build.

pub mod bench;
pub mod cli;
pub mod clock;
pub mod demo;
pub mod deploy;
pub mod inguest;
pub mod load;
pub mod probe;
pub mod scenarios;
pub mod testbed;
pub mod tidy;
