//! What the benchmarks run inside a guest: the work that stands for lent work, and the probes that must share a clock
//! and a priority with what they measure.

pub mod antagonist;
pub mod beside;
pub mod brake;
pub mod groups;
pub mod onset;
