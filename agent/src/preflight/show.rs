//! The report for people and for programs: `loadline-warden check [-o json]`.

use serde_json::{Value, json};

use loadline_policy::settings::Pinning;

use super::{Need, Report, Requirement, Verdict};

impl Report {
    /// One line a requirement, the missed ones with what to do; a last line says what follows.
    pub fn table(&self) -> String {
        let width = self
            .requirements
            .iter()
            .map(|requirement| requirement.name.len())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for Requirement { name, need, verdict } in &self.requirements {
            let (mark, sentence, next) = match (verdict, need) {
                (Verdict::Satisfied { found }, _) => ("ok      ", found, None),
                (Verdict::Missed { problem, next_step }, Need::Required) => {
                    ("MISSED  ", problem, Some(next_step))
                }
                (Verdict::Missed { problem, next_step }, Need::Degraded) => {
                    ("degraded", problem, Some(next_step))
                }
            };
            text.push_str(&format!("{mark}  {name:width$}  {sentence}\n"));
            if let Some(next) = next {
                text.push_str(&format!("{:8}  {:width$}  -> {next}\n", "", ""));
            }
        }
        text.push_str(match self.passed() {
            Err(_) => "Loadline cannot run on this host.\n",
            Ok(_) if self.missed().is_empty() => "This host meets every requirement.\n",
            Ok(_) => "Loadline runs on this host, with less where it says degraded.\n",
        });
        text
    }

    /// The same as one JSON object: `{"passed", "pinning", "requirements": [{"name", "need", "satisfied", …}]}`.
    pub fn json(&self) -> Value {
        let requirements: Vec<Value> = self.requirements.iter().map(as_json).collect();
        let pinning = match &self.pinning {
            Pinning::Cpuset => json!({ "mode": "cpuset" }),
            Pinning::WeightsOnly { why } => json!({ "mode": "weights_only", "why": why }),
        };
        json!({ "passed": self.passed().is_ok(), "pinning": pinning, "requirements": requirements })
    }
}

fn as_json(requirement: &Requirement) -> Value {
    let Requirement { name, need, verdict } = requirement;
    match verdict {
        Verdict::Satisfied { found } => json!({
            "name": name, "need": need, "satisfied": true, "found": found,
        }),
        Verdict::Missed { problem, next_step } => json!({
            "name": name, "need": need, "satisfied": false, "problem": problem, "next_step": next_step,
        }),
    }
}
