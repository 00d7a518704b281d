//! Whose business a receipt is: in the log of which workers it stands, so that whoever reads what a worker wrote also
//! reads what was done to it.
//!
//! What is done to a slice is done to all in it, and what an operator says to all of the node. What is done to
//! production's own units, or to a file, is not lent work's business.

use loadline_model::{AttemptId, Receipt, ReceiptAction, ReceiptSubject};

use crate::settings::Slice;

/// In whose log a receipt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This one's, even when it has ended.
    Attempt(AttemptId),
    /// That of every worker in the slice.
    Slice(Slice),
    /// No worker's.
    Nobody,
}

/// In whose log a receipt stands.
pub fn whose(receipt: &Receipt) -> Whose {
    match (&receipt.subject, receipt.action) {
        // What was refused has never run, and has no log.
        (_, ReceiptAction::Refused) => Whose::Nobody,
        (ReceiptSubject::Attempt(attempt), _) => Whose::Attempt(*attempt),
        (ReceiptSubject::Node(_), ReceiptAction::ModeChanged | ReceiptAction::LineChanged) => {
            Whose::Slice(Slice::Root)
        }
        (ReceiptSubject::Node(name), _) => {
            let slice = Slice::ALL.into_iter().find(|slice| slice.unit() == name);
            slice.map_or(Whose::Nobody, Whose::Slice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadline_model::WallTime;

    #[test]
    fn what_is_done_to_a_slice_is_the_business_of_all_in_it() {
        use ReceiptAction as Action;
        let attempt = AttemptId::from_slice(&[3; 16]).unwrap();
        let one = || ReceiptSubject::Attempt(attempt);
        let node = |name: &str| ReceiptSubject::Node(name.into());
        for (action, subject, expected) in [
            (Action::Evicted, one(), Whose::Attempt(attempt)),
            (Action::LimitRepaired, one(), Whose::Attempt(attempt)),
            (Action::OutOfMemory, one(), Whose::Attempt(attempt)),
            (Action::Refused, one(), Whose::Nobody),
            (Action::Refused, node("order"), Whose::Nobody),
            (
                Action::Squeezed,
                node("loadline-burst.slice"),
                Whose::Slice(Slice::Burst),
            ),
            (
                Action::WouldRelease,
                node("loadline-standard.slice"),
                Whose::Slice(Slice::Standard),
            ),
            (
                Action::LimitRepaired,
                node("loadline.slice"),
                Whose::Slice(Slice::Root),
            ),
            (Action::ModeChanged, node("mode"), Whose::Slice(Slice::Root)),
            (Action::LineChanged, node("line"), Whose::Slice(Slice::Root)),
            (Action::LimitRepaired, node("nginx.service"), Whose::Nobody),
            (Action::RecordSetAside, node("ledger"), Whose::Nobody),
        ] {
            let receipt = Receipt {
                at: WallTime(1),
                action,
                subject,
                sentence: "x".into(),
            };
            assert_eq!(whose(&receipt), expected, "{receipt:?}");
        }
    }
}
