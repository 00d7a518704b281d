//! What operators let this node do: it survives every restart, since a brake that a crash lets go is none.

use loadline_model::{PerMille, WallTime};
use loadline_policy::ceiling::{Ceiling, Ceilings, Setter};
use loadline_policy::node_policy::Mode;
use rusqlite::types::Value;
use rusqlite::{Transaction, params};

use super::{Ledger, LedgerError, SetAside, put_aside, reading, writing};

const fn word(setter: Setter) -> &'static str {
    match setter {
        Setter::Fleet => "fleet",
        Setter::Here => "here",
    }
}

/// Writes what is set, in place of what was.
pub(super) fn put(transaction: &Transaction<'_>, ceilings: &Ceilings) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM ceiling")?.execute([])?;
    let sql = "INSERT INTO ceiling (setter, mode, line_per_mille, set_by, at_us) VALUES (?1, ?2, ?3, ?4, ?5)";
    for (setter, ceiling) in ceilings.all() {
        transaction.prepare_cached(sql)?.execute(params![
            word(setter),
            ceiling.mode.word(),
            ceiling.line.0,
            ceiling.by,
            ceiling.at.0
        ])?;
    }
    Ok(())
}

/// A row as it stands, whatever is in it.
type Row = [Value; 5];

fn decode(row: &Row) -> Result<(Setter, Ceiling), &'static str> {
    let [
        Value::Text(setter),
        Value::Text(mode),
        Value::Integer(line),
        Value::Text(by),
        Value::Integer(at),
    ] = row
    else {
        return Err("a column has the wrong type");
    };
    let setter = match setter.as_str() {
        "fleet" => Setter::Fleet,
        "here" => Setter::Here,
        _ => return Err("nobody of that name sets ceilings"),
    };
    let mode = Mode::from_word(mode).ok_or("there is no such mode")?;
    let line = u16::try_from(*line).map(PerMille);
    let line = line
        .ok()
        .filter(|line| *line <= PerMille::ONE)
        .ok_or("no line has such a share")?;
    let (by, at) = (by.clone(), WallTime(*at));
    Ok((setter, Ceiling { mode, line, by, at }))
}

impl Ledger {
    /// What operators let this node do. A record that cannot be read is set aside; until someone says something
    /// else, this node then starts nothing, as it cannot know that it may.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub fn ceilings(&mut self, now: WallTime) -> Result<(Ceilings, SetAside), LedgerError> {
        let (mut ceilings, mut aside) = (Ceilings::default(), SetAside::default());
        for row in self.ceiling_rows().map_err(reading("ceilings"))? {
            match decode(&row) {
                Ok((setter, ceiling)) => ceilings.set(setter, ceiling),
                Err(why) => {
                    self.set_ceiling_aside(&row, why, now)
                        .map_err(writing("set aside"))?;
                    aside.sentences.push(format!(
                        "the ledger's record of what operators let this node do cannot be read ({why}); it is kept in the table set_aside, and nothing new starts here until `loadline-warden mode enforce`"
                    ));
                }
            }
        }
        if !aside.sentences.is_empty() {
            let here = ceilings.here.as_ref();
            let careful = Ceiling {
                mode: here.map_or(Mode::Shadow, |here| here.mode.min(Mode::Shadow)),
                line: here.map_or(PerMille::ONE, |here| here.line),
                by: "a record that cannot be read".into(),
                at: now,
            };
            ceilings.set(Setter::Here, careful);
            self.rewrite(&ceilings).map_err(writing("ceilings"))?;
        }
        Ok((ceilings, aside))
    }

    fn ceiling_rows(&self) -> rusqlite::Result<Vec<Row>> {
        let sql = "SELECT setter, mode, line_per_mille, set_by, at_us FROM ceiling ORDER BY setter";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
        })?;
        rows.collect()
    }

    fn rewrite(&mut self, ceilings: &Ceilings) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        put(&transaction, ceilings)?;
        transaction.commit()
    }

    fn set_ceiling_aside(&mut self, row: &Row, why: &str, now: WallTime) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let [key, ..] = row;
        let name = format!("{key:?}");
        let body = format!("{row:?}");
        put_aside(
            &transaction,
            "ceiling",
            name.as_bytes(),
            body.as_bytes(),
            why,
            now,
        )?;
        transaction.execute("DELETE FROM ceiling WHERE setter = ?1", [key])?;
        transaction.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Change;

    fn ceiling(mode: Mode, line: u16) -> Ceiling {
        Ceiling {
            mode,
            line: PerMille(line),
            by: "ada".into(),
            at: WallTime(5),
        }
    }

    fn open(path: &std::path::Path) -> Ledger {
        Ledger::open(path, WallTime(1)).unwrap().0
    }

    #[test]
    fn what_was_set_is_there_after_a_restart_and_gone_once_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let mut wanted = Ceilings::default();
        wanted.set(Setter::Fleet, ceiling(Mode::Shadow, 1000));
        wanted.set(Setter::Here, ceiling(Mode::Enforce, 0));
        let change = |ceilings: &Ceilings| Change {
            ceilings: Some(ceilings.clone()),
            ..Change::default()
        };
        open(&path).commit(&change(&wanted)).unwrap();
        let mut ledger = open(&path);
        assert_eq!(
            ledger.ceilings(WallTime(2)).unwrap(),
            (wanted.clone(), SetAside::default())
        );
        // Other changes leave it alone.
        ledger.commit(&Change::default()).unwrap();
        assert_eq!(ledger.ceilings(WallTime(2)).unwrap().0, wanted);
        ledger.commit(&change(&Ceilings::default())).unwrap();
        assert_eq!(ledger.ceilings(WallTime(2)).unwrap().0, Ceilings::default());
    }

    #[test]
    fn a_ledger_of_the_first_version_becomes_a_current_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let first = crate::ledger::schema::first();
        let old = rusqlite::Connection::open(&path).unwrap();
        old.execute_batch(first).unwrap();
        old.execute("INSERT INTO counter VALUES ('generation', 41)", [])
            .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let mut ledger = open(&path);
        assert_eq!(ledger.generation().0, 41);
        assert_eq!(ledger.ceilings(WallTime(2)).unwrap().0, Ceilings::default());
    }

    #[test]
    fn a_record_that_cannot_be_read_starts_nothing_until_someone_speaks() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(&dir.path().join("ledger.db"));
        let sql = "INSERT INTO ceiling VALUES ('fleet', 'maybe', 7, 'x', 1), ('here', 'off', 70000, 'x', 1)";
        ledger.connection.execute(sql, []).unwrap();
        let (found, aside) = ledger.ceilings(WallTime(2)).unwrap();
        assert_eq!(found.here.map(|one| one.mode), Some(Mode::Shadow));
        assert_eq!(aside.sentences.len(), 2);
        assert!(aside.sentences[0].contains("there is no such mode"), "{aside:?}");
        assert_eq!(ledger.set_aside_count().unwrap(), 2);
        let again = ledger.ceilings(WallTime(3)).unwrap();
        assert_eq!(again.0.here.map(|one| one.mode), Some(Mode::Shadow));
        assert_eq!(again.1, SetAside::default());
    }
}
