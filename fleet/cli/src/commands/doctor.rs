//! `fleet doctor`: what stands between a person and a running job, checked in the order in which it matters.

use loadline_model::{Span, WallTime};

use super::Session;
use crate::clock;
use crate::exit::Exit;
use crate::identity::Identity;
use crate::problem::Problem;
use crate::text::{ago, count, short};
use crate::view::{Check, FleetStatus, Health, Me};
use crate::wire::Client;

/// Certificates live 12 hours; with less than this left a job's logs may not be followed to the end.
const LIFE_SHORT: Span = Span::from_secs(3600);
/// Certificates are judged by the clock; a difference of this size begins to matter.
const SKEW_MAX: Span = Span::from_secs(60);

/// What is found, in order.
#[derive(Default)]
struct Findings {
    checks: Vec<Check>,
    exit: Option<Exit>,
}

impl Findings {
    fn ok(&mut self, name: &'static str, found: String) {
        self.checks.push(Check {
            name,
            health: Health::Ok,
            found,
            next_step: None,
        });
    }

    fn warning(&mut self, name: &'static str, found: String, next_step: String) {
        self.checks.push(Check {
            name,
            health: Health::Warning,
            found,
            next_step: Some(next_step),
        });
    }

    fn failed(&mut self, name: &'static str, problem: &Problem) {
        self.exit.get_or_insert(problem.exit());
        let step = problem.next_step();
        self.checks.push(Check {
            name,
            health: Health::Failed,
            found: problem.sentence(),
            next_step: (!step.is_empty()).then_some(step),
        });
    }

    /// What could not be looked at because of `because`.
    fn not_checked(&mut self, names: &[&'static str], because: &str) {
        self.checks.extend(names.iter().map(|name| Check {
            name,
            health: Health::NotChecked,
            found: format!("not checked: {because}"),
            next_step: None,
        }));
    }
}

pub(super) async fn doctor(session: &mut Session) -> Result<Exit, Problem> {
    let mut findings = Findings::default();
    let (me, fleet) = examine(session, &mut findings).await;
    session
        .out
        .health(&findings.checks, me.as_ref(), fleet.as_ref())?;
    Ok(findings.exit.unwrap_or(Exit::Done))
}

async fn examine(session: &mut Session, findings: &mut Findings) -> (Option<Me>, Option<FleetStatus>) {
    let now = clock::now();
    let identity = match session.identity() {
        Ok(identity) => identity,
        Err(problem) => {
            findings.failed("identity", &problem);
            findings.not_checked(
                &["certificate", "connection", "account", "clock", "fleet"],
                "there is no identity",
            );
            return (None, None);
        }
    };
    own_files(session, &identity, findings);
    certificate(&identity, now, findings);
    let connected = async {
        let mut client: Client = session.connect().await?;
        let me = client.who_am_i().await?;
        Ok::<_, Problem>((client, me))
    };
    let address = &identity.membership.session_address;
    let (mut client, me) = match connected.await {
        Ok(both) => both,
        Err(problem) => {
            findings.failed("connection", &session.judged(problem));
            findings.not_checked(&["account", "clock", "fleet"], "there is no connection");
            return (None, None);
        }
    };
    findings.ok(
        "connection",
        format!("{address} answers, TLS 1.3, both sides known to each other"),
    );
    account(&me, findings);
    match client.status().await {
        Ok(status) => {
            skew(&status, clock::now(), findings);
            fleet(&status, findings);
            (Some(me), Some(status))
        }
        Err(call) => {
            findings.failed("fleet", &call.into());
            (Some(me), None)
        }
    }
}

fn own_files(session: &Session, identity: &Identity, findings: &mut Findings) {
    let dir = session.home.dir().display();
    if session.home.key_is_open() {
        let step = format!("chmod 600 {dir}/identity.key, and log in again if others may have read it");
        findings.warning(
            "identity",
            format!("others on this machine can read {dir}/identity.key"),
            step,
        );
    } else {
        findings.ok("identity", format!("{} in {dir}", identity.membership.user));
    }
}

fn certificate(identity: &Identity, now: WallTime, findings: &mut Findings) {
    let user = &identity.membership.user;
    let renew = format!("an operator types `fleet token login {user}`, you type `fleet login TOKEN`");
    if identity.begins > now {
        let found = "begins to hold in the future: this machine's clock is probably slow".to_string();
        findings.warning(
            "certificate",
            found,
            "compare `date -u` here and on the fleet's machine".into(),
        );
    } else if identity.expires <= now {
        let found = format!("expired {}", ago(identity.expires, now));
        findings.exit.get_or_insert(Exit::Denied);
        findings.checks.push(Check {
            name: "certificate",
            health: Health::Failed,
            found,
            next_step: Some(renew),
        });
    } else {
        let left = identity.expires.since(now);
        let found = format!("holds for {}", short(left));
        if left < LIFE_SHORT {
            findings.warning("certificate", found, renew);
        } else {
            findings.ok("certificate", found);
        }
    }
}

fn account(me: &Me, findings: &mut Findings) {
    let team = if me.team.is_empty() {
        "no team".into()
    } else {
        format!("team {}", me.team)
    };
    findings.ok(
        "account",
        format!(
            "{}, role {}, {team}; jobs run as {}",
            me.user, me.role, me.unix_account
        ),
    );
}

fn skew(status: &FleetStatus, now: WallTime, findings: &mut Findings) {
    let Some(theirs) = status.now else {
        findings.not_checked(&["clock"], "the fleet does not tell its time");
        return;
    };
    let (ahead, behind) = (now.since(theirs.0), theirs.0.since(now));
    let (skew, word) = if ahead > behind {
        (ahead, "ahead of")
    } else {
        (behind, "behind")
    };
    if skew > SKEW_MAX {
        let found = format!("this machine is {} {word} the fleet", short(skew));
        findings.warning(
            "clock",
            found,
            "set the clock (`timedatectl set-ntp true`): certificates are judged by it".into(),
        );
    } else {
        findings.ok("clock", format!("within {} of the fleet's", short(SKEW_MAX)));
    }
}

fn fleet(status: &FleetStatus, findings: &mut Findings) {
    let FleetStatus {
        nodes_ready,
        nodes_silent,
        jobs_queued,
        jobs_running,
        version,
        store,
        ..
    } = status;
    let found = format!(
        "fleetd {version} on {store}: {} ready, {nodes_silent} silent; {} running, {jobs_queued} waiting",
        count(*nodes_ready, "node"),
        count(*jobs_running, "job"),
    );
    match (nodes_ready, nodes_silent) {
        (0, 0) => findings.warning(
            "fleet",
            found,
            "let a node join: an operator types `fleet token node NAME`".into(),
        ),
        (_, 0) => findings.ok("fleet", found),
        _ => findings.warning(
            "fleet",
            found,
            "`fleet nodes` says which nodes are silent and since when".into(),
        ),
    }
}
