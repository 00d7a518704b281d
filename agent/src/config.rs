//! Reads `node.toml`, the owner's local policy, and reports all its mistakes at once.
