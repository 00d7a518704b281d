//! Tables and sentences for people. Results go to standard output, everything else to standard error.

use std::io::{self, Write};

use comfy_table::{Cell, TableStyle};
use loadline_model::{Bytes, MilliCpu, WallTime};

use super::note::Note;
use super::{Output, detail, headroom, sharing};
use crate::text::{ago, clipped, count, cpus, lines_printable, printable, rfc3339, shell, short};
use crate::view::{
    Check, Explained, FleetStatus, HeadroomView, Health, JobRow, JobView, LogLine, Me, NewToken, NodeRow,
    NodeView, ProveLast, ProveRun, ReceiptRow, Submitted, TeamRow, TokenRow, UserRow, UserView,
};

/// Prints tables.
#[derive(Debug)]
pub struct Table<O, E> {
    out: O,
    err: E,
    now: WallTime,
}

/// Columns without lines, like kubectl's; cells are shown, never obeyed by the terminal.
pub(super) fn columns<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(TableStyle::new());
    table.set_header(header.map(Cell::new));
    for row in rows {
        table.add_row(row.map(|cell| Cell::new(printable(&cell))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// `2 of 3`, or `2` where the rest is not known.
fn of(part: String, whole: Option<String>) -> String {
    whole.map_or(part.clone(), |whole| format!("{part} of {whole}"))
}

fn note_of(job: &JobRow) -> String {
    match (&job.waiting_for, job.exit_code) {
        (Some(why), _) => why.clone(),
        (None, Some(code)) if job.state == "failed" => format!("exit code {code}"),
        _ => String::new(),
    }
}

impl<O: Write, E: Write> Table<O, E> {
    /// Onto these, at this moment.
    pub const fn new(out: O, err: E, now: WallTime) -> Self {
        Self { out, err, now }
    }

    /// What people should know of a team's quota, beside the table.
    fn note_of_team(&mut self, team: &TeamRow) -> io::Result<()> {
        match &team.note {
            Some(note) => writeln!(self.err, "fleet: {}", printable(note)),
            None => Ok(()),
        }
    }

    /// Gives both back.
    pub fn into_inner(self) -> (O, E) {
        (self.out, self.err)
    }

    fn told(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", text.trim_end())?;
        self.out.flush()
    }

    fn list<const N: usize>(
        &mut self,
        header: [&str; N],
        rows: Vec<[String; N]>,
        none: &str,
    ) -> io::Result<()> {
        if rows.is_empty() {
            // For people only: a program that counts lines sees none.
            return writeln!(self.err, "{none}");
        }
        self.told(&columns(header, rows))
    }
}

impl<O: Write, E: Write> Output for Table<O, E> {
    fn jobs(&mut self, jobs: &[JobRow]) -> io::Result<()> {
        let now = self.now;
        let row = |job: &JobRow| {
            [
                job.job.to_string(),
                job.name.clone(),
                job.user.clone(),
                job.tier.into(),
                job.state.into(),
                format!("{}/{}", job.workers_running, job.workers_max),
                ago(job.submitted_at.0, now),
                note_of(job),
            ]
        };
        let header = [
            "JOB",
            "NAME",
            "USER",
            "TIER",
            "STATE",
            "WORKERS",
            "SUBMITTED",
            "NOTE",
        ];
        let none = "No job runs or waits. `fleet jobs --all` shows the ended ones too.";
        self.list(header, jobs.iter().map(row).collect(), none)
    }

    fn job(&mut self, job: &JobView) -> io::Result<()> {
        let text = detail::job(job, self.now);
        self.told(&text)
    }

    fn submitted(&mut self, job: &Submitted) -> io::Result<()> {
        self.told(&job.job.to_string())?;
        let job = job.job;
        writeln!(
            self.err,
            "fleet: job {job} submitted; `fleet logs -f {job}` follows it, `fleet wait {job}` waits for it"
        )
    }

    fn done(&mut self, job: &JobRow) -> io::Result<()> {
        let note = match job.is_done() {
            true => Note::Ended(job).to_string(),
            false => format!("job {} is being ended; `fleet wait {0}` waits for it", job.job),
        };
        self.told(&note)
    }

    fn explained(&mut self, why: &Explained) -> io::Result<()> {
        let text = detail::explained(why);
        self.told(&text)
    }

    fn nodes(&mut self, nodes: &[NodeRow]) -> io::Result<()> {
        let now = self.now;
        let row = |node: &NodeRow| {
            let orphans = match node.orphans {
                0 => String::new(),
                orphans => format!(" + {}", count(orphans, "orphan")),
            };
            let cpu = |millis: u64| cpus(MilliCpu(millis));
            let memory = |bytes: u64| Bytes(bytes).to_string();
            [
                node.node.clone(),
                node.pool.clone(),
                node.state.replace('_', " "),
                headroom::mode(node),
                format!("{}{orphans}", node.workers),
                of(cpu(node.assigned_millicpu), node.line_millicpu.map(cpu)),
                of(
                    memory(node.assigned_memory_bytes),
                    node.line_memory_bytes.map(memory),
                ),
                node.last_seen_at
                    .map_or_else(|| "never".into(), |seen| ago(seen.0, now)),
                node.version.clone(),
            ]
        };
        let header = [
            "NODE",
            "POOL",
            "STATE",
            "MODE",
            "WORKERS",
            "CPUS LENT",
            "MEMORY LENT",
            "SEEN",
            "VERSION",
        ];
        let none = "The fleet has no node yet. `fleet token node NAME` lets one join.";
        self.list(header, nodes.iter().map(row).collect(), none)
    }

    fn headroom(&mut self, nodes: &[HeadroomView]) -> io::Result<()> {
        if nodes.is_empty() {
            return self.nodes(&[]);
        }
        let text = headroom::table(nodes);
        self.told(&text)
    }

    fn node(&mut self, node: &NodeView) -> io::Result<()> {
        let text = detail::node(node, self.now);
        self.told(&text)
    }

    fn prove(&mut self, last: &ProveLast, when: bool) -> io::Result<()> {
        if when {
            let age = ago(last.at.0, self.now);
            let by = printable(&last.by);
            writeln!(
                self.out,
                "The last test, asked for by {by}, came to this {age}:\n"
            )?;
        }
        self.told(&lines_printable(&last.text))
    }

    fn prove_stands(&mut self, node: &str, run: &ProveRun) -> io::Result<()> {
        let what = if run.stage == "stopping" {
            "is being ended"
        } else {
            "has begun"
        };
        self.told(&format!(
            "the test on {0} {what}; `fleet prove {0} --last` shows what it came to",
            printable(node)
        ))
    }

    fn progress(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.err, "{}", printable(line))
    }

    fn receipts(&mut self, receipts: &[ReceiptRow]) -> io::Result<()> {
        let row = |row: &ReceiptRow| {
            [
                rfc3339(row.receipt.at.0),
                row.node.clone(),
                row.worker.clone().unwrap_or_default(),
                row.receipt.action.replace('_', " "),
                row.receipt.sentence.clone(),
            ]
        };
        let header = ["RECEIPT", "NODE", "WORKER", "WHAT", "WHY"];
        let none = "No receipt so far: nothing had to be done.";
        self.list(header, receipts.iter().map(row).collect(), none)
    }

    fn node_changed(&mut self, node: &NodeRow, what: &str) -> io::Result<()> {
        let NodeRow {
            node: name,
            state,
            workers,
            ..
        } = node;
        let running = match workers {
            0 => String::new(),
            many => format!(", {} there", count(*many, "worker")),
        };
        self.told(&format!(
            "{} {what} (now {}{running})",
            printable(name),
            state.replace('_', " ")
        ))
    }

    fn token(&mut self, token: &NewToken) -> io::Result<()> {
        let left = short(token.expires_at.0.since(self.now));
        let bound = printable(&token.bound_to);
        let who = match token.kind {
            "node" => format!("On the machine that becomes {bound}, type as root within {left}:"),
            _ => format!("Give {bound} this, to type within {left}:"),
        };
        writeln!(self.err, "{who}\n")?;
        self.told(&printable(&token.command))?;
        writeln!(
            self.err,
            "\nIt works once. `fleet token revoke {}` makes it useless.",
            token.token_id
        )
    }

    fn tokens(&mut self, tokens: &[TokenRow]) -> io::Result<()> {
        let now = self.now;
        let row = |token: &TokenRow| {
            let open = token.state == "open" && token.expires_at.0 > now;
            let left = if open {
                short(token.expires_at.0.since(now))
            } else {
                String::new()
            };
            [
                token.token_id.clone(),
                token.kind.clone(),
                token.bound_to.clone(),
                token.pool.clone(),
                token.state.clone(),
                left,
            ]
        };
        let header = ["TOKEN", "KIND", "FOR", "POOL", "STATE", "LEFT"];
        self.list(header, tokens.iter().map(row).collect(), "There is no token.")
    }

    fn revoked(&mut self, token_id: &str) -> io::Result<()> {
        self.told(&format!("{token_id} can no longer be used"))
    }

    fn user(&mut self, user: &UserRow, what: &str) -> io::Result<()> {
        let UserRow {
            name,
            role,
            unix_account,
            ..
        } = user;
        let (name, account) = (printable(name), printable(unix_account));
        self.told(&format!("{name} {what} (role {role}, jobs run as {account})"))?;
        if user.banned {
            return Ok(());
        }
        writeln!(
            self.err,
            "`fleet token login {name}` makes the token to log in with"
        )
    }

    fn users(&mut self, users: &[UserRow]) -> io::Result<()> {
        let row = |user: &UserRow| {
            let state = if user.banned { "banned" } else { "active" };
            [
                user.name.clone(),
                user.role.clone(),
                user.unix_account.clone(),
                user.team.clone(),
                state.into(),
            ]
        };
        let header = ["USER", "ROLE", "ACCOUNT", "TEAM", "STATE"];
        self.list(
            header,
            users.iter().map(row).collect(),
            "There is nobody. `fleet user add NAME` adds someone.",
        )
    }

    fn user_shown(&mut self, user: &UserView) -> io::Result<()> {
        self.told(sharing::user(user).trim_end())
    }

    fn user_changed(&mut self, user: &UserRow) -> io::Result<()> {
        let UserRow { name, role, team, .. } = user;
        let team = match team.as_str() {
            "" => "in no team".to_owned(),
            team => format!("in team {}", printable(team)),
        };
        self.told(&format!("{} is now {team}, role {role}", printable(name)))
    }

    fn teams(&mut self, teams: &[TeamRow]) -> io::Result<()> {
        if teams.is_empty() {
            return writeln!(self.err, "There is no team. `fleet team set NAME` makes one.");
        }
        self.told(&sharing::teams(teams))
    }

    fn team(&mut self, team: &TeamRow) -> io::Result<()> {
        self.told(sharing::team(team).trim_end())?;
        self.note_of_team(team)
    }

    fn team_changed(&mut self, team: &TeamRow) -> io::Result<()> {
        let TeamRow {
            team: name,
            weight,
            members,
            ..
        } = team;
        let members = match members.as_slice() {
            [] => "nobody is in it".to_owned(),
            members => members.join(", "),
        };
        let (name, members) = (printable(name), printable(&members));
        self.told(&format!("team {name} has weight {weight}: {members}"))
    }

    fn team_removed(&mut self, team: &str) -> io::Result<()> {
        self.told(&format!("team {} is no more", printable(team)))
    }

    fn quota(&mut self, team: &TeamRow) -> io::Result<()> {
        self.told(sharing::quota(team).trim_end())?;
        self.note_of_team(team)
    }

    fn logged_in(&mut self, me: &Me, address: &str) -> io::Result<()> {
        let left = short(me.certificate_expires_at.0.since(self.now));
        let (user, role) = (printable(&me.user), &me.role);
        self.told(&format!(
            "Logged in to the fleet at {address} as {user} (role {role}), for {left}."
        ))?;
        writeln!(self.err, "Try: fleet run -- echo hello")
    }

    fn health(&mut self, checks: &[Check], _me: Option<&Me>, _fleet: Option<&FleetStatus>) -> io::Result<()> {
        for check in checks {
            let mark = match check.health {
                Health::Ok => "ok",
                Health::Warning => "WARNING",
                Health::Failed => "FAILED",
                Health::NotChecked => "-",
            };
            writeln!(
                self.out,
                "{mark:<8} {:<12} {}",
                check.name,
                printable(&check.found)
            )?;
            if let Some(step) = &check.next_step {
                writeln!(self.out, "{:21} next: {step}", "")?;
            }
        }
        self.out.flush()
    }

    fn log(&mut self, line: &LogLine, many: bool) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.bytes.len() + 8);
        if many {
            bytes.extend_from_slice(format!("[{}] ", line.worker).as_bytes());
        }
        if line.stream == "loadline" {
            bytes.extend_from_slice(b"loadline: ");
        }
        bytes.extend_from_slice(&line.bytes);
        bytes.push(b'\n');
        // In one write, so that lines of both outputs do not mix on a terminal.
        match line.stream {
            "stderr" | "loadline" => self.err.write_all(&bytes).and_then(|()| self.err.flush()),
            _ => self.out.write_all(&bytes).and_then(|()| self.out.flush()),
        }
    }

    fn note(&mut self, note: &Note<'_>) -> io::Result<()> {
        writeln!(self.err, "fleet: {note}")
    }
}

/// A script in one argument would bury the rest of the sheet; the JSON has all of it.
const TYPED_MOST: usize = 160;

/// A command line as it can be typed again, its beginning if it is very long.
pub(super) fn typed(command: &[String]) -> String {
    clipped(&printable(&shell(command)), TYPED_MOST)
}
