//! What stands in a line, and how lines are chained.
//!
//! `hash` is the SHA-256 of the line's own JSON without the hash, which includes `prev`, the hash of the line
//! before: to change one line, every later one has to be made anew, and a copy of the newest hash kept elsewhere
//! shows it.

use data_encoding::HEXLOWER;
use loadline_model::WallTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Whoever asked may; the change was submitted.
    Allowed,
    /// They may not; nothing was done.
    Denied,
    /// They may, yet it could not be done; nothing was changed.
    Failed,
}

/// What is recorded of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub time: WallTime,
    /// Who: `person/ada`, `node/<uuid>`, `token/<id>`, `local/init`.
    pub actor: String,
    /// The address the call came from; empty for local ones.
    pub peer: String,
    /// What was asked, e.g. `job.submit`.
    pub action: &'static str,
    /// Of what, e.g. `job/<uuid>`. Never secret.
    pub object: String,
    /// What became of it.
    pub decision: Decision,
    /// Why, unless it was simply allowed.
    pub reason: String,
    /// Names the call in logs and answers.
    pub request_id: String,
}

/// One line as it stands in the file, fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Ascending by one.
    pub seq: u64,
    /// RFC 3339, UTC, microseconds.
    pub time: String,
    /// Who.
    pub actor: String,
    /// From where.
    pub peer: String,
    /// What was asked.
    pub action: String,
    /// Of what.
    pub object: String,
    /// What became of it.
    pub decision: Decision,
    /// Why.
    pub reason: String,
    /// Names the call.
    pub request_id: String,
    /// The hash of the line before; 64 zeros for the first.
    pub prev: String,
    /// The hash of all of the above.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// The newest line's number and hash: what the next line is chained to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// 0 for an empty log.
    pub seq: u64,
    /// 64 hexadecimal digits.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: "0".repeat(64),
        }
    }
}

impl Head {
    /// The next line, and the head after it.
    ///
    /// # Errors
    /// When the line cannot be encoded, which none of its fields allows.
    pub fn append(&self, entry: &Entry) -> Result<(String, Self), serde_json::Error> {
        let mut line = Line {
            seq: self.seq + 1,
            time: crate::clock::rfc3339(entry.time),
            actor: entry.actor.clone(),
            peer: entry.peer.clone(),
            action: entry.action.to_owned(),
            object: entry.object.clone(),
            decision: entry.decision,
            reason: entry.reason.clone(),
            request_id: entry.request_id.clone(),
            prev: self.hash.clone(),
            hash: String::new(),
        };
        line.hash = line.digest()?;
        let head = Self {
            seq: line.seq,
            hash: line.hash.clone(),
        };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        Ok((text, head))
    }
}

impl Line {
    /// What `hash` has to be.
    ///
    /// # Errors
    /// When the line cannot be encoded.
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        let bare = Self {
            hash: String::new(),
            ..self.clone()
        };
        Ok(HEXLOWER.encode(&Sha256::digest(serde_json::to_string(&bare)?.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_chained_and_dated() {
        let entry = Entry {
            time: WallTime(1_800_000_000_000_001),
            actor: "person/ada".into(),
            peer: "10.77.0.9:4000".into(),
            action: "job.submit",
            object: "job/1".into(),
            decision: Decision::Allowed,
            reason: String::new(),
            request_id: "r1".into(),
        };
        let (first, head) = Head::default().append(&entry).unwrap();
        let (second, _) = head.append(&entry).unwrap();
        let first: Line = serde_json::from_str(&first).unwrap();
        let second: Line = serde_json::from_str(&second).unwrap();
        assert_eq!((first.seq, second.seq), (1, 2));
        assert_eq!(first.time, "2027-01-15T08:00:00.000001Z");
        assert_eq!(second.prev, first.hash);
        assert_ne!(second.hash, first.hash);
    }
}
