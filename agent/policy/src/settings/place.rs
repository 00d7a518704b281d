//! Where threads of the warden's own stand.

/// Beside production's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Any thread of production takes their CPU at once.
    Last,
    /// Production goes before them, and leaves them a part.
    Behind,
    /// As production's own do.
    Beside,
}
