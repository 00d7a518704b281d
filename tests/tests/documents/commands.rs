//! Every command that the documentation shows is run by a test, and typed as the programs take it.
//!
//! A command is a line of a `sh` block, or a code span of several words that begins with one of [`PROGRAMS`]. Each
//! belongs to one row of [`ROWS`], which names the test and the text with which that test runs it; a command without a
//! row, a row without a command and a row whose test is gone all fail. What no test runs stands there with the reason.

use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory};
use loadline_tests::scenarios::SUITES;
use loadline_tests::tidy::Tree;

use super::{has_scenario, spans, tree};

const PROGRAMS: &[&str] = &[
    "apt",
    "cargo",
    "cd",
    "fleet",
    "fleetd",
    "git",
    "loadline-agent",
    "loadline-warden",
    "make",
    "python3",
    "systemctl",
    "systemd-analyze",
    "testbed",
];

/// Who runs a command.
enum By {
    /// A scenario of `make test`, or a whole suite by its name; the file has the text with which it does.
    Guests(&'static str, &'static str, &'static str),
    /// `make test` runs this target.
    Target(&'static str),
    /// This very test: it needs no machine.
    Here,
    /// A test of `cargo test` that runs the program itself, and the text with which it does.
    Program(&'static str, &'static str),
    /// Nobody, and why.
    Nobody(&'static str),
}

use By::{Guests, Here, Nobody, Program, Target};

const COMMAND: &str = "fleet/cli/tests/command/words.rs";
const FOLLOWING: &str = "fleet/cli/tests/command/following.rs";
const DEPLOY: &str = "tests/src/deploy.rs";
const LEND: &str = "tests/src/scenarios/fleet/lend.rs";
const MISTAKES: &str = "tests/src/scenarios/fleet/mistakes.rs";
const PACKAGES: &str = "tests/src/scenarios/packages.rs";
const SHARING: &str = "tests/src/scenarios/fleet/sharing.rs";
const TEAMS: &str = "fleet/cli/tests/command/sharing.rs";
/// The scenario of teams and quotas.
const TWO_TEAMS: &str = "fleet::two_teams_share_a_node_by_weight_quota_and_rank";
const PROVE: &str = "tests/src/scenarios/fleet/prove.rs";

/// The first words of a command, and who runs it.
const ROWS: &[(&str, By)] = &[
    (
        "git clone",
        Nobody("the repository's public address is not known yet"),
    ),
    ("cd loadline", Nobody("belongs to `git clone`")),
    (
        "make demo",
        Nobody("the whole of it takes minutes; the scenarios of `make test` run its steps"),
    ),
    ("make bench", Nobody("measures and judges nothing")),
    ("make bench-NAME", Nobody("measures and judges nothing")),
    (
        "make clean-cache",
        Nobody("empties the cache that the other targets live on"),
    ),
    ("make check", Target("check")),
    ("make test", Target("test")),
    ("make packages", Target("packages")),
    ("cargo test", Target("unit")),
    ("python3 -m unittest discover -s tests", Target("python")),
    ("testbed test", Target("guests")),
    ("cargo run -p loadline-tests --bin testbed -- --help", Here),
    ("apt install", Guests("fleet", DEPLOY, "apt-get install")),
    (
        "fleetd init --name",
        Guests("fleet", DEPLOY, "fleetd init --name"),
    ),
    (
        "systemctl enable --now fleetd",
        Guests("fleet", DEPLOY, "systemctl enable --now fleetd"),
    ),
    ("fleet token node", Guests("fleet", DEPLOY, "fleet token node")),
    (
        "loadline-agent join",
        Guests("fleet", DEPLOY, "loadline-agent join {token}"),
    ),
    ("fleet login", Guests("fleet", DEPLOY, "fleet login {token}")),
    (
        "fleet run",
        Guests(
            "fleet::a_job_s_words_and_exit_code_come_back",
            LEND,
            "fleet run --quiet",
        ),
    ),
    (
        "fleet explain",
        Guests(
            "fleet::exclusive_workers_never_share_a_cpu",
            LEND,
            "fleet explain",
        ),
    ),
    (
        "loadline-warden check",
        Guests(
            "fleet::a_wrong_node_toml_keeps_the_last_good_one",
            MISTAKES,
            "loadline-warden check",
        ),
    ),
    ("fleet nodes", Program(COMMAND, "\"nodes")),
    ("fleet logs", Program(FOLLOWING, "logs 412")),
    ("fleet headroom", Program(COMMAND, "\"headroom\"")),
    ("fleet node show", Program(COMMAND, "node show n1")),
    ("fleet node shadow", Program(COMMAND, "node shadow n1")),
    ("fleet node enforce", Program(COMMAND, "node enforce n1")),
    ("fleet node off", Program(COMMAND, "node off n1")),
    ("fleet node line", Program(COMMAND, "node line n1 0")),
    ("fleet job", Program(COMMAND, "job 412")),
    ("fleet node label", Program(COMMAND, "node label n1 zone=eu old-")),
    ("fleet node taint", Program(COMMAND, "node taint n1 only=gpu")),
    (
        "fleet team set",
        Guests(TWO_TEAMS, SHARING, "fleet team set vision"),
    ),
    ("fleet team list", Guests(TWO_TEAMS, SHARING, "fleet team list")),
    (
        "fleet team remove",
        Guests(TWO_TEAMS, SHARING, "fleet team remove"),
    ),
    (
        "fleet quota set",
        Guests(TWO_TEAMS, SHARING, "fleet quota set vision"),
    ),
    (
        "fleet quota remove",
        Guests(TWO_TEAMS, SHARING, "fleet quota remove"),
    ),
    (
        "fleet user set",
        Guests(TWO_TEAMS, SHARING, "fleet user set alice"),
    ),
    ("fleet user show", Program(TEAMS, "user show ada")),
    (
        "loadline-warden line",
        Nobody("no guest runs it yet; what it calls is tested over a real socket (warden/socket/tests.rs)"),
    ),
    (
        "loadline-warden mode",
        Nobody("no guest runs it yet; what it calls is tested over a real socket (warden/socket/tests.rs)"),
    ),
    (
        "loadline-warden status",
        Nobody("no guest runs it yet; what it calls is tested over a real socket (warden/socket/tests.rs)"),
    ),
    (
        "fleet prove",
        Guests(
            "fleet::prove_from_the_fleet_runs_beside_the_warden_and_ends_when_told",
            PROVE,
            "fleet prove {NEW}",
        ),
    ),
    (
        "loadline-warden prove",
        Guests(
            "fleet::prove_from_the_fleet_runs_beside_the_warden_and_ends_when_told",
            PROVE,
            "loadline-warden prove --verify",
        ),
    ),
    (
        "LOADLINE_REMOVE=drain apt remove loadline-node",
        Guests(
            "packages::removal_refuses_with_the_list_and_drains_when_told",
            PACKAGES,
            "LOADLINE_REMOVE=drain apt-get remove -q -y loadline-node",
        ),
    ),
    (
        "systemd-analyze security",
        Guests(
            "packages::units_are_sound_and_as_closed_as_promised",
            PACKAGES,
            "systemd-analyze security",
        ),
    ),
];

/// A command as a document shows it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    place: String,
    text: String,
    /// A line of a block is typed as it stands; a span may only name the command.
    whole: bool,
}

impl Shown {
    fn words(&self) -> Vec<&str> {
        self.text.split_whitespace().collect()
    }

    fn is(&self, row: &str) -> bool {
        self.words()
            .starts_with(&row.split_whitespace().collect::<Vec<_>>())
    }
}

fn shown(tree: &Tree) -> Vec<Shown> {
    let documents = tree.sources.iter().filter(|source| source.path.ends_with(".md"));
    documents
        .flat_map(|source| commands(&source.path, &source.text))
        .collect()
}

fn commands(path: &str, text: &str) -> Vec<Shown> {
    let mut found = Vec::new();
    let mut block: Option<&str> = None;
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() { None } else { Some(kind.trim()) };
            continue;
        }
        let mut add = |text: &str, whole| {
            found.push(Shown {
                place: format!("{path}:{number}"),
                text: text.trim().to_owned(),
                whole,
            });
        };
        match block {
            Some("sh") => line
                .split(" #")
                .next()
                .unwrap_or_default()
                .split("&&")
                .filter(|part| !part.trim().is_empty() && !part.trim().starts_with('#'))
                .for_each(|part| add(part, true)),
            Some(_) => {}
            None => spans(line)
                .filter(|span| is_command(span))
                .for_each(|span| add(span, false)),
        }
    }
    found
}

/// Several words, of which the first that is no assignment is a program.
fn is_command(span: &str) -> bool {
    let mut words = span.split_whitespace().skip_while(|word| word.contains('='));
    words.next().is_some_and(|word| PROGRAMS.contains(&word)) && words.next().is_some()
}

/// The row with the most words that fit.
fn row_of(shown: &Shown) -> Option<&'static (&'static str, By)> {
    ROWS.iter()
        .filter(|(row, _)| shown.is(row))
        .max_by_key(|(row, _)| row.split_whitespace().count())
}

/// Does `make test` run that suite or scenario?
fn in_guests(name: &str) -> bool {
    SUITES.iter().any(|suite| suite.name == name) || has_scenario(SUITES, name)
}

/// A target of the Makefile and what it needs first; `bench-NAME` is meant by `bench-%`.
fn target<'a>(makefile: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let pattern = name.split_once('-').map(|(start, _)| format!("{start}-%"));
    makefile.lines().find_map(|line| {
        let (target, rest) = line.split_once(':')?;
        let meant = target == name || name.ends_with("NAME") && pattern.as_deref() == Some(target);
        let needs = rest.split("##").next().unwrap_or_default();
        (meant && !rest.starts_with('=')).then(|| needs.split_whitespace().collect())
    })
}

/// Does `make test` come by there?
fn in_test(makefile: &str, wanted: &str) -> bool {
    let mut open = vec!["test"];
    while let Some(name) = open.pop() {
        if name == wanted {
            return true;
        }
        open.extend(target(makefile, name).into_iter().flatten());
    }
    false
}

fn makefile() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Makefile")).expect("the Makefile")
}

#[test]
fn every_documented_command_has_a_test() {
    let missing: Vec<String> = shown(&tree())
        .iter()
        .filter(|shown| row_of(shown).is_none())
        .map(|shown| format!("{}: `{}`", shown.place, shown.text))
        .collect();
    assert!(
        missing.is_empty(),
        "commands of which ROWS does not say who runs them:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_row_has_a_command_and_a_test_that_runs_it() {
    let (tree, makefile) = (tree(), makefile());
    let shown = shown(&tree);
    let runs = |file: &str, text: &str| tree.get(file).is_some_and(|source| source.text.contains(text));
    for (row, by) in ROWS {
        assert!(
            shown
                .iter()
                .any(|shown| row_of(shown).is_some_and(|(of, _)| of == row)),
            "`{row}` stands in no document any more: take the row away"
        );
        match by {
            Guests(scenario, file, text) => {
                assert!(in_guests(scenario), "`{row}`: `make test` has no {scenario}");
                assert!(runs(file, text), "`{row}`: {file} does not run {text:?}");
            }
            Target(name) => assert!(
                in_test(&makefile, name),
                "`{row}`: `make test` does not come by {name}"
            ),
            Program(file, text) => assert!(runs(file, text), "`{row}`: {file} does not run {text:?}"),
            Here => {}
            Nobody(why) => assert!(!why.is_empty(), "`{row}`: say why"),
        }
    }
}

#[test]
fn documented_targets_exist() {
    let makefile = makefile();
    for shown in shown(&tree()) {
        if let ["make", name] = shown.words()[..] {
            assert!(
                target(&makefile, name).is_some(),
                "{}: no target {name}",
                shown.place
            );
        }
    }
}

#[test]
fn documented_commands_parse() {
    let programs: Vec<Command> = vec![
        loadline_cli::args::Cli::command(),
        loadline_fleet::run::Arguments::command(),
        loadline_node::agent::command(),
        loadline_node::warden::command(),
        loadline_tests::cli::Arguments::command(),
    ];
    let mut parsed = 0;
    for shown in shown(&tree()) {
        let words: Vec<&str> = shown
            .words()
            .into_iter()
            .skip_while(|word| word.contains('='))
            .collect();
        let words = match words[..] {
            ["cargo", "run", ..] => words
                .into_iter()
                .skip_while(|word| *word != "testbed")
                .filter(|word| *word != "--")
                .collect(),
            _ => words,
        };
        let Some(program) = programs
            .iter()
            .find(|program| Some(&program.get_name()) == words.first())
        else {
            continue;
        };
        parsed += 1;
        let Err(error) = program.clone().try_get_matches_from(&words) else {
            continue;
        };
        let named_only = !shown.whole
            && matches!(
                error.kind(),
                ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelp | ErrorKind::MissingSubcommand
            );
        assert!(named_only, "{}: `{}`: {error}", shown.place, shown.text);
    }
    assert!(parsed > 5, "only {parsed} commands of ours were found");
}

#[test]
fn commands_are_found_in_blocks_and_spans() {
    let text = "Type `fleet run -- x` or `fleet`, not `a b`.\n```sh\na b && c   # why\n# no\n\n```\n```text\nd e\n```\n`X=1 apt remove y`\n";
    let found = commands("a.md", text);
    let found: Vec<(&str, &str, bool)> = found
        .iter()
        .map(|shown| (&*shown.place, &*shown.text, shown.whole))
        .collect();
    assert_eq!(
        found,
        [
            ("a.md:1", "fleet run -- x", false),
            ("a.md:3", "a b", true),
            ("a.md:3", "c", true),
            ("a.md:10", "X=1 apt remove y", false),
        ]
    );
}

#[test]
fn the_row_that_says_most_is_meant() {
    let shown = |text: &str| Shown {
        place: String::new(),
        text: text.into(),
        whole: true,
    };
    let row = |text| row_of(&shown(text)).map(|(row, _)| *row);
    assert_eq!(row("make bench-NAME"), Some("make bench-NAME"));
    assert_eq!(row("fleet token node web1"), Some("fleet token node"));
    assert_eq!(row("fleet frobnicate"), None);
    let makefile = "test: check\ncheck: fmt unit ## all\nbench-%: packages\nstep := x\n";
    assert!(in_test(makefile, "unit") && !in_test(makefile, "packages"));
    assert!(target(makefile, "bench-NAME").is_some() && target(makefile, "bench-x").is_none());
    assert_eq!(target(makefile, "step "), None);
}
