//! Who may start, in which order, and who makes room: the rules of sharing, apart from where workers go.
//!
//! Problem: bursty work of many people on one fleet, without anyone taking it over, without anyone waiting for ever,
//! and without large jobs being passed by small ones all night. Approach: small pure parts that the planner calls in
//! this order, each with its own values and tests:
//!
//! 1. [`accounts`]: what teams and users hold, have spent and may ([`Accounts::advance`] first);
//! 2. [`dependency`], [`window`], [`quota`]: who may start at all ([`gate()`] asks all of them, and says why not);
//! 3. [`estimate`]: how long each job will probably run;
//! 4. [`mod@order`]: who goes first;
//! 5. [`backfill`]: who may pass a blocked job, which gets a reservation;
//! 6. [`yielding`]: whose workers make room for a job that outranks them.
//!
//! Terms: *claim*, a wish to start workers; *standing*, decayed dominant use per weight; *patience*, how long a job is
//! passed by higher priorities; *reservation*, when a blocked job is expected to start.
//!
//! Properties, each tested against an oracle of its own: no quota is exceeded; shares converge to weights; every
//! feasible job starts within a bounded time; the same values give the same answer; a job with a reservation is not
//! delayed by who passes it, as far as the estimates hold; who has yielded is left alone for a while, longer each
//! time.

pub mod accounts;
pub mod backfill;
mod counted;
pub mod dependency;
pub mod estimate;
mod gate;
pub mod order;
pub mod quota;
mod spent;
mod tab;
pub mod window;
pub mod yielding;

pub use accounts::{Accounts, ShareRules, Starting, Team};
pub use backfill::{BackfillRules, End};
pub use counted::Counted;
pub use dependency::{After, Dependency, DependencyProblem, Prerequisites, Ready};
pub use estimate::{EstimateRules, Estimates};
pub use gate::{Gate, Gated, Shutter, gate};
pub use loadline_model::Priority;
pub use order::{Claim, OrderRules, order};
pub use quota::{AtOnce, Budget, Held, OverQuota, Period, Quota, Resource, Whose};
pub use spent::Spent;
pub use tab::{Asked, Tab};
pub use window::{Shut, Windows};
pub use yielding::{Victim, YieldRules, choose};
