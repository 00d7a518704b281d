//! `loadline-warden line`, `mode` and `status`: root on the node says what it may do and sees what it does, with no
//! fleet at all. Only through the running warden: what it holds in its ledger is what holds.

use loadline_model::{PerMille, Span};
use loadline_policy::node_policy::Mode;
use loadline_policy::week::KNOWN_FROM;

use super::run::Paths;
use super::wire::client::{LocalStatus, LocalWarden, LocalWeek};

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// Nobody listens on the socket.
    #[error(
        "no warden answers on {}: start it with `systemctl start loadline-warden`; without it the static line still holds, and `systemctl stop loadline-burst.slice` ends what is lent as burst",
        .0.display()
    )]
    NoWarden(std::path::PathBuf),
    /// It said no.
    #[error("the warden did not do it: {sentence}; next: {next}")]
    Refused {
        /// Why.
        sentence: String,
        /// What to do about it.
        next: String,
    },
}

async fn connect(paths: &Paths) -> Result<LocalWarden, ControlError> {
    let warden = LocalWarden::connect(&paths.socket).await;
    warden.ok_or_else(|| ControlError::NoWarden(paths.socket.clone()))
}

/// Lets this node do no more than this.
///
/// # Errors
/// When no warden runs or it refuses.
pub(super) async fn set(
    paths: &Paths,
    mode: Option<Mode>,
    line: Option<PerMille>,
) -> Result<LocalStatus, ControlError> {
    let mut warden = connect(paths).await?;
    let by = std::env::var("SUDO_USER").unwrap_or_else(|_| "root".into());
    let refused = |(sentence, next)| ControlError::Refused { sentence, next };
    warden.set_ceiling(mode, line, by).await.map_err(refused)?;
    warden.local_status().await.map_err(refused)
}

/// How this node is.
///
/// # Errors
/// When no warden runs or it does not answer.
pub(super) async fn status(paths: &Paths) -> Result<LocalStatus, ControlError> {
    let refused = |(sentence, next)| ControlError::Refused { sentence, next };
    connect(paths).await?.local_status().await.map_err(refused)
}

impl LocalWeek {
    fn sentence(&self) -> String {
        let unsaved = match self.unsaved.as_str() {
            "" => String::new(),
            problem => format!("; it is not saved: {problem}"),
        };
        let (cpu, memory) = (self.production_cpu_p99, self.production_memory_p99);
        let parts = [
            cpu.map(|cpu| format!("{cpu} CPUs")),
            memory.map(|memory| format!("{memory} of memory")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            return format!(
                "what production uses was watched for {}, and says something about the line from {KNOWN_FROM} on{unsaved}",
                self.watched
            );
        }
        format!(
            "99 % of the time production used no more than {}, in the last {} that were watched{unsaved}",
            parts.join(" and "),
            self.watched
        )
    }
}

impl LocalStatus {
    /// What may be lent: to the standard tier, and, where production's week leaves that less, to all.
    fn line(&self) -> String {
        let (cpu, memory) = (self.line_cpu, self.line_memory);
        let LocalWeek {
            most_cpu,
            most_memory,
            ..
        } = self.week;
        // Between its windows the node lends nothing at all, and an older warden says nothing of the static line.
        let lends = !(cpu.is_zero() && memory.is_zero());
        if lends && (cpu < most_cpu || memory < most_memory) {
            return format!(
                "{most_cpu} CPUs and {most_memory} of memory for lent work, of which standard work may have {cpu} and \
                 {memory}"
            );
        }
        format!("{cpu} CPUs and {memory} of memory for lent work")
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: String| {
            if !value.is_empty() {
                text.push_str(&format!("{key:<9}{value}\n"));
            }
        };
        let owner = if self.owner_mode == self.mode {
            String::new()
        } else {
            format!(" (node.toml: {})", self.owner_mode)
        };
        line("mode", format!("{}{owner}", self.mode));
        line("line", self.line());
        line("week", self.week.sentence());
        for ceiling in &self.ceilings {
            line("ceiling", ceiling.sentence());
        }
        line(
            "level",
            match (self.level.as_str(), self.reason.as_str()) {
                ("", _) => "not known yet".into(),
                (level, reason) => format!("{level}: {reason}"),
            },
        );
        if !self.level.is_empty() {
            line(
                "wakes",
                match self.psi_window_us.map(Span) {
                    Some(span) => {
                        format!(
                            "ten times a second while work is lent, and when production waits (PSI, window {span})"
                        )
                    }
                    None => "ten times a second while work is lent".into(),
                },
            );
        }
        line("now", self.setpoints.clauses());
        for (disk, problem) in &self.io_costs {
            let how = if problem.is_empty() {
                "goes by weight (io.cost), as node.toml says"
            } else {
                problem
            };
            line("disk", format!("{disk}: {how}"));
        }
        for (name, problem) in &self.lacks {
            line("lacks", format!("{name}: {problem}"));
        }
        line("workers", self.workers.len().to_string());
        for (unit, phase) in &self.workers {
            line("", format!("{unit}  {phase}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use loadline_model::{Bytes, MilliCpu};

    use super::*;
    use crate::warden::wire::client::{LocalCeiling, LocalSetpoints};

    fn status() -> LocalStatus {
        let ceiling = |here, mode: &str, line_per_mille, by: &str| LocalCeiling {
            here,
            mode: mode.into(),
            line_per_mille,
            by: by.into(),
        };
        LocalStatus {
            mode: "shadow".into(),
            owner_mode: "enforce".into(),
            ceilings: vec![
                ceiling(false, "shadow", 1000, "ada"),
                ceiling(true, "enforce", 250, "root"),
            ],
            line_cpu: MilliCpu(550),
            line_memory: Bytes::from_gib(3),
            week: LocalWeek {
                watched: Span::from_secs(5 * 3600),
                most_cpu: MilliCpu(550),
                most_memory: Bytes::from_gib(3),
                ..LocalWeek::default()
            },
            level: "hold".into(),
            reason: "production was in need a moment ago".into(),
            psi_window_us: Some(500_000),
            setpoints: LocalSetpoints {
                cpu: Some(MilliCpu(400)),
                tasks_max: Some(1088),
                ..LocalSetpoints::default()
            },
            io_costs: vec![
                ("vda".into(), String::new()),
                ("vdz".into(), "no such disk".into()),
            ],
            lacks: vec![(
                "psi.triggers".into(),
                "the kernel takes no window shorter than 500ms".into(),
            )],
            workers: vec![("loadline-w-1.service".into(), "running".into())],
        }
    }

    #[test]
    fn a_screen_says_what_holds_and_who_set_it() {
        let status = status();
        assert_eq!(
            status.table(),
            "mode     shadow (node.toml: enforce)\n\
             line     550m CPUs and 3GiB of memory for lent work\n\
             week     what production uses was watched for 5h, and says something about the line from 1d on\n\
             ceiling  no more than `shadow`, 100 % of the line, set by ada (fleet)\n\
             ceiling  25 % of the line, set by root (on this node)\n\
             level    hold: production was in need a moment ago\n\
             wakes    ten times a second while work is lent, and when production waits (PSI, window 500ms)\n\
             now      400m CPUs, 1088 processes and threads\n\
             disk     vda: goes by weight (io.cost), as node.toml says\n\
             disk     vdz: no such disk\n\
             lacks    psi.triggers: the kernel takes no window shorter than 500ms\n\
             workers  1\n         loadline-w-1.service  running\n"
        );
        assert_eq!(status.json()["ceilings"][1]["line_per_mille"], 250);
    }

    #[test]
    fn what_a_week_takes_from_standard_work_is_said() {
        let known = LocalStatus {
            week: LocalWeek {
                production_cpu_p99: Some(MilliCpu(1600)),
                production_memory_p99: Some(Bytes::from_gib(2)),
                watched: Span::from_secs(168 * 3600),
                unsaved: "cannot write week.json".into(),
                most_cpu: MilliCpu(2200),
                most_memory: Bytes::from_gib(6),
            },
            ..status()
        };
        let lines: Vec<String> = known.table().lines().skip(1).take(2).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "line     2200m CPUs and 6GiB of memory for lent work, of which standard work may have 550m and 3GiB",
                "week     99 % of the time production used no more than 1600m CPUs and 2GiB of memory, in the last 7d that \
                 were watched; it is not saved: cannot write week.json",
            ]
        );
    }
}
