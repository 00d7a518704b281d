//! The `testbed` command (being written).

fn main() {}
