//! `loadline-warden line`, `mode` and `status`: root on the node says what it may do and sees what it does, with no
//! fleet at all. Only through the running warden: what it holds in its ledger is what holds.

use loadline_model::{PerMille, Span};
use loadline_policy::node_policy::Mode;

use super::run::Paths;
use super::wire::client::{LocalStatus, LocalWarden};

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

impl LocalStatus {
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
        line(
            "line",
            format!(
                "{} CPUs and {} of memory for lent work",
                self.line_cpu, self.line_memory
            ),
        );
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
                        format!("ten times a second, and when production waits (PSI, window {span})")
                    }
                    None => "ten times a second".into(),
                },
            );
        }
        line("now", self.setpoints.clauses());
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

    #[test]
    fn a_screen_says_what_holds_and_who_set_it() {
        let ceiling = |here, mode: &str, line_per_mille, by: &str| LocalCeiling {
            here,
            mode: mode.into(),
            line_per_mille,
            by: by.into(),
        };
        let status = LocalStatus {
            mode: "shadow".into(),
            owner_mode: "enforce".into(),
            ceilings: vec![
                ceiling(false, "shadow", 1000, "ada"),
                ceiling(true, "enforce", 250, "root"),
            ],
            line_cpu: MilliCpu(550),
            line_memory: Bytes::from_gib(3),
            level: "hold".into(),
            reason: "production was in need a moment ago".into(),
            psi_window_us: Some(500_000),
            setpoints: LocalSetpoints {
                cpu: Some(MilliCpu(400)),
                tasks_max: Some(1088),
                ..LocalSetpoints::default()
            },
            lacks: vec![(
                "psi.triggers".into(),
                "the kernel takes no window shorter than 500ms".into(),
            )],
            workers: vec![("loadline-w-1.service".into(), "running".into())],
        };
        assert_eq!(
            status.table(),
            "mode     shadow (node.toml: enforce)\n\
             line     550m CPUs and 3GiB of memory for lent work\n\
             ceiling  no more than `shadow`, 100 % of the line, set by ada (fleet)\n\
             ceiling  25 % of the line, set by root (on this node)\n\
             level    hold: production was in need a moment ago\n\
             wakes    ten times a second, and when production waits (PSI, window 500ms)\n\
             now      400m CPUs, 1088 processes and threads\n\
             lacks    psi.triggers: the kernel takes no window shorter than 500ms\n\
             workers  1\n         loadline-w-1.service  running\n"
        );
        assert_eq!(status.json()["ceilings"][1]["line_per_mille"], 250);
    }
}
