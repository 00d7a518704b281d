//! The one table of exceptions. It may only shrink; one that is not needed any more fails.

/// A file that a rule spares, and why.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// Name of the rule.
    pub rule: &'static str,
    /// The file.
    pub path: &'static str,
    /// Why the rule does not fit here.
    pub reason: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: "kernel-path-border",
        path: "agent/policy/src/settings/compare.rs",
        reason: "the kernel's names of the limits, as people know them from receipts; only the host makes paths of them",
    },
    Exception {
        rule: "proto-border",
        path: "agent/src/warden/socket/service.rs",
        reason: "the generated service trait has to be implemented on generated types; it converts and hands on",
    },
    Exception {
        rule: "crate-direction",
        path: "tests/Cargo.toml",
        reason: "the launch probe must be a client like `fleet` itself, on one open connection, or it measures another client; \
                 documented commands are parsed by the definitions of the programs themselves (tests only)",
    },
];
