//! Loadline's fleet manager.
#![warn(missing_docs)]
pub mod ca;
pub mod clock;
pub mod trust;
