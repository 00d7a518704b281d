//! The shared language of Loadline's programs: generated code for the versioned protobuf packages.
//!
//! Generated types stop at each program's `wire` module, which converts to and from the vocabulary of
//! `loadline-model` with typed errors.
#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated code follows its generator's style"
)]

/// What every program says in the same words: specs, topology, events, orders.
pub mod types {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("loadline.types.v1");
    }
}

/// Agent ↔ fleet.
pub mod node {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("loadline.node.v1");
    }
}

/// People ↔ fleet.
pub mod fleet {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("loadline.fleet.v1");
    }
}

/// Agent ↔ warden, on the node.
pub mod warden {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("loadline.warden.v1");
    }
}
