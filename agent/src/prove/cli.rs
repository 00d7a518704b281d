//! The words of `loadline-warden prove`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use loadline_model::{ProveAsk, Span};
use loadline_policy::prove::Resource;

/// Arguments of `prove`.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What is probed: http://HOST[:PORT]/PATH, tcp:HOST:PORT, or unit-stand-in. Left out: the first promise (slo)
    /// in node.toml, else the stand-in, a small service of the test's own.
    #[arg(long, value_name = "TARGET", conflicts_with = "verify")]
    pub probe: Option<String>,
    /// Requests a second, like 100/s.
    #[arg(long, default_value = "100/s", value_parser = rate)]
    pub rate: u32,
    /// What lent work presses, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "cpu,memory,cache,disk")]
    pub resource: Vec<Resource>,
    /// Length of a round.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub round: Span,
    /// Pairs of rounds for each resource, one alone and one with lent work.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: u32,
    /// The whole test ends after this.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub limit: Span,
    /// Test although workers run; they blur what production does alone.
    #[arg(long)]
    pub with_workers: bool,
    /// How to print the report.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Also write the report there, as text, JSON and HTML.
    #[arg(long, value_name = "FOLDER")]
    pub report: Option<PathBuf>,
    /// Test nothing; check the signature of a report in JSON.
    #[arg(long, value_name = "FILE")]
    pub verify: Option<PathBuf>,
    /// Run the test that the warden has written down for the fleet; used by loadline-prove.service.
    #[arg(long, hide = true, exclusive = true)]
    pub ordered: bool,
}

impl Arguments {
    /// What the fleet asks for, as if it had been typed here.
    pub fn of_fleet(ask: &ProveAsk) -> Self {
        Self {
            probe: ask.stand_in.then(|| STAND_IN.to_owned()),
            rate: ask.rate,
            resource: ask.resources.clone(),
            round: ask.round,
            rounds: ask.rounds,
            limit: ask.limit,
            with_workers: ask.with_workers,
            output: Output::Text,
            report: None,
            verify: None,
            ordered: true,
        }
    }
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a screen.
    Text,
    /// Signed, for programs and for keeping.
    Json,
    /// A page with plots.
    Html,
}

/// How the stand-in is named among targets.
const STAND_IN: &str = "unit-stand-in";
const RATE_MAX: u32 = 5000;

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse();
    let rule = || format!("a rate is 1/s to {RATE_MAX}/s, like 100/s");
    let rate: u32 = number.map_err(|_| rule())?;
    if (1..=RATE_MAX).contains(&rate) {
        Ok(rate)
    } else {
        Err(rule())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::probe::Target;

    #[test]
    fn the_fleet_s_defaults_are_the_command_s_and_its_only_address_is_the_stand_in() {
        let typed = crate::warden::command().get_matches_from(["loadline-warden", "prove"]);
        let (_, typed) = typed.subcommand().unwrap();
        let typed = <Arguments as clap::FromArgMatches>::from_arg_matches(typed).unwrap();
        let asked = Arguments::of_fleet(&ProveAsk::default());
        let typed = Arguments {
            ordered: true,
            ..typed
        };
        assert_eq!(format!("{asked:?}"), format!("{typed:?}"));
        let stand_in = ProveAsk {
            stand_in: true,
            ..ProveAsk::default()
        };
        let probe = Arguments::of_fleet(&stand_in).probe.unwrap();
        assert_eq!(probe.parse::<Target>().unwrap(), Target::StandIn);
    }

    #[test]
    fn rates() {
        assert_eq!(rate("100/s"), Ok(100));
        assert_eq!(rate("5000"), Ok(5000));
        for wrong in ["0/s", "5001/s", "x", "", "10/m", "-1"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
