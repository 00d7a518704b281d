//! Port 7717 as the network sees it: who is let in, who is not, and under which word each refusal is counted.

use anyhow::{Context, Result, ensure};

use super::NEW;
use super::operator::{Operator, STATE};
use crate::testbed::{Fleet, Guest};

/// Makes certificates with the fleet's own authority (`issue NAME URI FROM UNTIL`), and with another of the same name.
const CERTIFICATES: &str = r#"
set -e; rm -rf /root/door; mkdir /root/door; cd /root/door
keys=STATE/keys; cp $keys/ca.pem $keys/ca.key.pem .
fleet=$(sed -n 's/.*"fleet_id": *"\([^"]*\)".*/\1/p' $keys/fleet.json)
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key
openssl x509 -in ca.pem -key other.key -days 2 -out other.pem
at() { date -u -d "$1" +%Y%m%d%H%M%SZ; }
issue() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.csr -subj /CN=door 2>/dev/null
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nsubjectAltName=URI:%s\n' "$2" > $1.ext
    openssl x509 -req -in $1.csr -CA ${5:-ca.pem} -CAkey ${6:-ca.key.pem} -not_before $(at "$3") -not_after $(at "$4") \
        -extfile $1.ext -out $1.pem 2>/dev/null
}
node=spiffe://$fleet/node/NODE
issue right $node '-1 hour' '+1 hour'
issue stranger $node '-1 hour' '+1 hour' other.pem other.key
issue expired $node '-2 hours' '-1 hour'
issue early $node '+1 hour' '+2 hours'
issue abroad spiffe://00000000-0000-4000-8000-0000000000ff/node/NODE '-1 hour' '+1 hour'
issue nobody spiffe://$fleet/person/nobody '-1 hour' '+1 hour'
rm ca.key.pem
"#;

/// With TLS 1.3 a client learns of its refusal after the handshake. Who is let in hears HTTP/2's settings first: a
/// frame of type 4.
const KNOCK: &str = r#"
cd /root/door; rm -f heard; mkfifo heard
timeout 60 openssl s_client -connect fleet:7717 -servername fleetd.loadline -CAfile ca.pem -verify_return_error \
    -alpn h2 -quiet WITH </dev/null >heard 2>said & client=$!
head -c 4 <heard | od -An -tx1; kill $client 2>/dev/null; wait $client; cat said
"#;

/// Who knocks, with what, and the word under which the refusal is counted.
const TABLE: &[(&str, &str, &str)] = &[
    ("without a certificate", "", "no_certificate"),
    (
        "of another authority of the same name",
        "-cert stranger.pem -key stranger.key",
        "unknown_issuer",
    ),
    (
        "with an expired certificate",
        "-cert expired.pem -key expired.key",
        "expired",
    ),
    (
        "with a certificate from the future",
        "-cert early.pem -key early.key",
        "not_valid_yet",
    ),
    (
        "of another fleet",
        "-cert abroad.pem -key abroad.key",
        "wrong_name",
    ),
    (
        "as a person nobody added",
        "-cert nobody.pem -key nobody.key",
        "wrong_name",
    ),
    (
        "with TLS 1.2",
        "-tls1_2 -cert right.pem -key right.key",
        "tls_version",
    ),
];

fn is_let_in(heard: &str) -> bool {
    let first: Vec<&str> = heard
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    first.len() == 4 && first[3] == "04"
}

fn knock(admin: &Guest, with: &str) -> Result<String> {
    admin.ok(&KNOCK.replace("WITH", with))
}

pub(super) fn table(fleet: &Fleet) -> Result<()> {
    let operator = Operator::of(fleet)?;
    let admin = operator.guest();
    let node = operator.node(NEW)?;
    let id = node["node_id"].as_str().context("a node without an id")?;
    admin.ok(&CERTIFICATES.replace("STATE", STATE).replace("NODE", id))?;
    let right = "-cert right.pem -key right.key";
    let heard = knock(admin, right)?;
    ensure!(is_let_in(&heard), "the right one is not let in: {heard}");
    for (who, with, word) in TABLE {
        let metric = format!("loadline_manager_auth_failures_total{{reason=\"{word}\"}}");
        let before = operator.metric(&metric)?;
        let heard = knock(admin, with)?;
        ensure!(!is_let_in(&heard), "let in {who}: {heard}");
        ensure!(heard.contains("alert"), "closed without a word {who}: {heard}");
        let after = operator.metric(&metric)?;
        ensure!(
            after == before + 1,
            "{who}: {word} went from {before} to {after}: {heard}"
        );
    }
    plaintext(&operator)?;
    let heard = knock(admin, right)?;
    ensure!(is_let_in(&heard), "the right one is not let in any more: {heard}");
    admin.ok("rm -r /root/door").map(drop)
}

fn plaintext(operator: &Operator<'_>) -> Result<()> {
    let metric = "loadline_manager_auth_failures_total{reason=\"not_tls\"}";
    let before = operator.metric(metric)?;
    let answer = operator
        .guest()
        .ok("curl -s -m 60 --http0.9 http://fleet:7717/ | od -An -c | head -3")?;
    ensure!(
        !answer.contains("H   T   T   P"),
        "plaintext is answered in plaintext: {answer}"
    );
    let after = operator.metric(metric)?;
    ensure!(
        after == before + 1,
        "plaintext: {before} and then {after}: {answer}"
    );
    Ok(())
}
