//! The state machine, the store and the writer: scenarios, any history against an independent model, faults, kills.
//!
//! One program, since linking costs more than running.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test program is one, its helpers too"
)]

#[path = "state_store/access.rs"]
mod access;
#[path = "state_store/control.rs"]
mod control;
#[path = "state_store/history.rs"]
mod history;
#[path = "state_store/jobs.rs"]
mod jobs;
#[path = "state_store/needs.rs"]
mod needs;
#[path = "state_store/nodes.rs"]
mod nodes;
#[path = "state_store/placing.rs"]
mod placing;
#[path = "state_store/prove.rs"]
mod prove;
#[path = "state_store/restart.rs"]
mod restart;
#[path = "state_store/sim_node.rs"]
mod sim_node;
#[path = "state_store/teams.rs"]
mod teams;
#[path = "state_store/world.rs"]
mod world;
