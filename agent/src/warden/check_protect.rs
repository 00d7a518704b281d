//! For `loadline-warden check`: each unit that the owner protects, and whether its floor can be held and is.

use loadline_policy::node_policy::{Mode, NodePolicy, Protect};
use loadline_policy::protect::{cgroups_on, units_on};

use super::wire::slo::sentences;
use crate::host::cgroup::CgroupFs;
use crate::host::systemd::{Systemd, SystemdError};
use crate::preflight::{Need, Requirement, Verdict};
use crate::sentence::chain;

/// One requirement for each protected unit.
pub(super) async fn protected<S: Systemd>(
    policy: &NodePolicy,
    systemd: &S,
    cgroups: &CgroupFs,
) -> Vec<Requirement> {
    let mut requirements = Vec::new();
    for (entry, sentence) in policy.protect.iter().zip(sentences(&policy.protect)) {
        let place = systemd.control_group(&entry.unit).await;
        requirements.push(Requirement {
            name: "protect",
            need: Need::Degraded,
            verdict: judge(entry, sentence, place, policy.lend.mode, cgroups),
        });
    }
    requirements
}

fn judge(
    entry: &Protect,
    sentence: String,
    place: Result<Option<String>, SystemdError>,
    mode: Mode,
    cgroups: &CgroupFs,
) -> Verdict {
    let missed = |problem: String, next_step: &str| Verdict::Missed {
        problem,
        next_step: next_step.into(),
    };
    let Some(memory) = entry.memory else {
        return Verdict::Satisfied { found: sentence };
    };
    let cgroup = match place {
        Ok(Some(cgroup)) => cgroup,
        Ok(None) => {
            let problem = format!("{sentence}: it is not running, so nothing is kept for it");
            return missed(
                problem,
                "its floor is set when it appears; correct its name if it is misspelt",
            );
        }
        Err(problem) => {
            let problem = format!(
                "{sentence}: systemd does not say where it is ({})",
                chain(&problem)
            );
            return missed(problem, "see `systemctl status` of the unit");
        }
    };
    let floors: Vec<_> = cgroups_on(&cgroup).map(|on| (on, cgroups.floor(on))).collect();
    if let Some((without, _)) = floors.iter().find(|(_, floor)| floor.is_none()) {
        let unit = units_on(without).next_back().unwrap_or_default();
        let problem = format!("{sentence}: {unit} has no memory controller, so it can keep nothing");
        return missed(
            problem,
            "remove DisableControllers= or MemoryAccounting=no from the slices above it",
        );
    }
    let held = floors
        .iter()
        .all(|(_, floor)| floor.is_some_and(|floor| floor.min.0 >= memory.0 - memory.0 % 4096));
    let stands = match (held, mode) {
        (true, _) => "held",
        (false, Mode::Enforce) => "can be held, and is once the warden has looked",
        (false, Mode::Off | Mode::Shadow) => "can be held, and is left alone in this mode",
    };
    Verdict::Satisfied {
        found: format!("{sentence}: {stands}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::systemd::Setting;
    use crate::host::systemd::fake::{FakeSystemd, Fault};
    use loadline_model::Bytes;

    #[tokio::test]
    async fn each_protected_unit_is_listed_with_what_can_be_held() {
        let dir = tempfile::tempdir().unwrap();
        let (systemd, _signals) = FakeSystemd::new(dir.path(), "0-3");
        systemd.production("/system.slice/web.service");
        let text = r#"
version = 1
[production]
protect = [
  { unit = "web.service", memory = "1GiB", slo = { tcp = "127.0.0.1:80", p99 = "20ms" } },
  { unit = "gone.service", memory = "1GiB" },
  { unit = "told.service", slo = { push = true, p99 = "20ms" } },
]
"#;
        let policy = NodePolicy::new(toml::from_str(text).unwrap()).unwrap();
        let cgroups = CgroupFs::new(dir.path());
        let ask = async || -> Vec<String> {
            let all = protected(&policy, &systemd, &cgroups).await;
            let words = |one: Requirement| match one.verdict {
                Verdict::Satisfied { found } => format!("+ {found}"),
                Verdict::Missed { problem, .. } => format!("- {problem}"),
            };
            all.into_iter().map(words).collect()
        };
        let web = "web.service: keeps 1GiB; p99 of connecting to 127.0.0.1:80 within 20ms";
        let said = ask().await;
        assert_eq!(
            said[0],
            format!("+ {web}: can be held, and is once the warden has looked")
        );
        assert_eq!(
            said[1],
            "- gone.service: keeps 1GiB: it is not running, so nothing is kept for it"
        );
        assert_eq!(said[2], "+ told.service: p99 of its own word within 20ms");
        for unit in ["system.slice", "web.service"] {
            let floor = Bytes::from_gib(1);
            let settings = [Setting::MemoryMin(floor), Setting::MemoryLow(floor)];
            systemd.set(unit, &settings).await.unwrap();
        }
        assert_eq!(ask().await[0], format!("+ {web}: held"));
        std::fs::remove_file(dir.path().join("system.slice/memory.min")).unwrap();
        assert!(ask().await[0].ends_with("system.slice has no memory controller, so it can keep nothing"));
        systemd.fail(Fault::WhereFails);
        assert!(ask().await[0].contains("systemd does not say where it is"));
    }
}
