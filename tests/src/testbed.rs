//! A real fleet of guests on any Linux machine, with or without a usable KVM.
//!
//! What it touches: the cache folder (images, run folders), loopback ports, and QEMU processes, which end with the
//! process that started them, however that ends. It needs root (or sudo) only to install packages and build images.
//!
//! What guests prove and what they do not: a guest's disk is written with `cache=unsafe`. A power cut kills QEMU, so
//! everything that sat in the guest's memory alone is lost, but whatever reached the virtual disk stays in the page
//! cache of the host. So a missing `fsync` is found (unsynced writes vanish); a missing barrier between two writes
//! inside the disk's own cache is not.

pub mod accel;
pub mod cache;
pub mod console;
pub mod fleet;
pub mod guest;
pub mod host;
pub mod image;
pub mod keeper;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod spec;
pub mod ssh;
pub mod wait;

pub use fleet::{Fleet, both};
pub use guest::Guest;
pub use image::Image;
pub use spec::GuestSpec;
