//! Whom the kernel killed for memory, and whether each kill of lent work has its receipt.

use serde_json::Value;

use super::matrix::Config;

/// Cgroups that antagonists live in, whatever holds them.
const ANTAGONISTS: [&str; 4] = [
    "/system.slice/antagonist.service/",
    "/antagonist.slice/",
    "/system.slice/node_slurmstepd.scope/",
    "/loadline.slice/",
];

/// What was killed while a configuration was in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kills {
    /// Of production: of anything that no antagonist is.
    pub(super) production: u64,
    /// Of the antagonist.
    pub(super) antagonist: u64,
}

impl Kills {
    /// From the kernel's log, of which some lines look like
    /// `oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/a.slice/b.service,task=c,pid=1,uid=2`.
    pub(super) fn in_log(log: &str) -> Self {
        let mut kills = Self::default();
        for group in log.lines().filter_map(group_of) {
            // A trailing slash, so that a cgroup itself counts as what is below it.
            let group = format!("{group}/");
            if ANTAGONISTS.iter().any(|known| group.starts_with(known)) {
                kills.antagonist += 1;
            } else {
                kills.production += 1;
            }
        }
        kills
    }

    pub(super) fn add(&mut self, other: Self) {
        self.production += other.production;
        self.antagonist += other.antagonist;
    }
}

fn group_of(line: &str) -> Option<&str> {
    let (_, words) = line.split_once("oom-kill:")?;
    words.split(',').find_map(|word| word.strip_prefix("task_memcg="))
}

/// Kills in each configuration.
#[derive(Debug, Default)]
pub(super) struct Toll {
    by_config: Vec<(Config, Kills)>,
    /// Attempts that ended by our doing or by the kernel's, and no receipt names them.
    pub(super) without_receipt: Vec<String>,
}

impl Toll {
    pub(super) fn add(&mut self, config: Config, kills: Kills) {
        match self.by_config.iter_mut().find(|(of, _)| *of == config) {
            Some((_, sum)) => sum.add(kills),
            None => self.by_config.push((config, kills)),
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        other
            .by_config
            .into_iter()
            .for_each(|(config, kills)| self.add(config, kills));
        self.without_receipt.extend(other.without_receipt);
    }

    pub(super) fn of(&self, config: Config) -> Kills {
        let found = self.by_config.iter().find(|(of, _)| *of == config);
        found.map_or_else(Kills::default, |(_, kills)| *kills)
    }
}

/// Ends that lent work did not choose, and nobody asked for: each needs a receipt.
const NEED_A_RECEIPT: [&str; 3] = ["out_of_memory", "evicted", "time_limit"];

/// Attempts of a job (`fleet job N -o json`) that were killed and that no receipt names.
pub(super) fn without_receipt(job: &Value) -> Vec<String> {
    let list = |key: &str| job[key].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list("attempts")
        .iter()
        .filter(|attempt| NEED_A_RECEIPT.contains(&attempt["ended"]["reason"].as_str().unwrap_or_default()))
        .filter(|attempt| {
            let same = |receipt: &&Value| {
                receipt["subject"] == attempt["attempt_id"] && receipt["action"] == attempt["ended"]["reason"]
            };
            !list("receipts").iter().any(|receipt| same(&receipt))
        })
        .map(|attempt| {
            format!(
                "{} ({})",
                text(&attempt["attempt_id"]),
                text(&attempt["ended"]["reason"])
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_log_says_who_was_killed() {
        let line = |group: &str| {
            format!(
                "[   71.2] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
                 task_memcg={group},task=x,pid=1,uid=1000\n[ 71.3] Out of memory: Killed process 1 (x)\n"
            )
        };
        let log: String = [
            "/loadline.slice/loadline-standard.slice/loadline-w-0.service",
            "/system.slice/antagonist.service",
            "/antagonist.slice",
            "/system.slice/nginx.service",
            "/system.slice/node_slurmstepd.scope/job_1/step_batch",
            "/system.slice/antagonist.service2",
            "/init.scope",
        ]
        .map(line)
        .concat();
        let kills = Kills::in_log(&log);
        assert_eq!((kills.antagonist, kills.production), (4, 3));
        let mut toll = Toll::default();
        toll.add(Config::Loadline, kills);
        toll.add(Config::Loadline, kills);
        assert_eq!(toll.of(Config::Loadline).production, 6);
        assert_eq!(toll.of(Config::Slurm), Kills::default());
    }

    #[test]
    fn a_kill_without_a_receipt_is_named_and_a_cancelled_attempt_needs_none() {
        let job = serde_json::json!({
            "attempts": [
                {"attempt_id": "a", "ended": {"reason": "out_of_memory"}},
                {"attempt_id": "b", "ended": {"reason": "evicted"}},
                {"attempt_id": "c", "ended": {"reason": "cancelled"}},
                {"attempt_id": "d", "ended": null},
            ],
            "receipts": [
                {"subject": "a", "action": "out_of_memory"},
                {"subject": "b", "action": "squeezed"},
            ],
        });
        assert_eq!(without_receipt(&job), ["b (evicted)"]);
    }
}
