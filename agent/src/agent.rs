//! The node's voice: its session with the fleet, metrics and logs. Without privilege.
