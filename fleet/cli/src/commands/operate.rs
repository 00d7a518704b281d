//! What operators do: nodes, tokens, people.

use loadline_model::{Labels, Mark, Span};

use super::Session;
use crate::args::{NodeCommand, TokenCommand, UserCommand};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::view::UserRow;

pub(super) async fn node(session: &mut Session, command: NodeCommand) -> Result<Exit, Problem> {
    let mut client = session.connect().await?;
    let lent;
    let (row, what) = match command {
        NodeCommand::Shadow { node } => (
            client.set_mode(&node, "shadow").await?,
            "only watches from now on: it starts nothing, and what runs goes on",
        ),
        NodeCommand::Enforce { node } => (
            client.set_mode(&node, "enforce").await?,
            "lends again, as far as its owner allows",
        ),
        NodeCommand::Off { node } => (
            client.set_mode(&node, "off").await?,
            "lends nothing from now on: what runs is evicted",
        ),
        NodeCommand::Line { node, percent } => {
            let row = client.set_line(&node, percent).await?;
            let what = match percent {
                0 => "is closed to lent work: burst ends at once, standard within its grace",
                100 => "lends its whole line again",
                part => {
                    lent = format!("lends {part} % of its line from now on");
                    lent.as_str()
                }
            };
            (row, what)
        }
        NodeCommand::Label { node, labels } => {
            check_marks(&labels)?;
            let row = client.mark(&node, labels, Vec::new()).await?;
            lent = format!("has the labels {}", marks(&row.labels));
            (row, lent.as_str())
        }
        NodeCommand::Taint { node, taints } => {
            check_marks(&taints)?;
            let row = client.mark(&node, Vec::new(), taints).await?;
            lent = match row.taints.is_empty() {
                true => "is open to all work again".into(),
                false => format!("is kept for work that tolerates {}", marks(&row.taints)),
            };
            (row, lent.as_str())
        }
        NodeCommand::Show { node } => {
            let node = client.node(&node).await?;
            session.out.node(&node)?;
            return Ok(Exit::Done);
        }
        NodeCommand::Drain { node } => (
            client.drain(&node).await?,
            "is being drained: it gets nothing new, what runs goes on",
        ),
        NodeCommand::Resume { node } => (client.resume(&node).await?, "takes new work again"),
        NodeCommand::Forget { node } => (
            client.forget(&node).await?,
            "is given up: what waited for it goes on elsewhere",
        ),
        NodeCommand::Ban { node } => (
            client.ban_node(&node).await?,
            "is banned: its certificate is refused from now on",
        ),
    };
    session.out.node_changed(&row, what)?;
    Ok(Exit::Done)
}

/// What is no label is said before anything is asked of the fleet.
fn check_marks(words: &[String]) -> Result<(), Problem> {
    let wrong = words.iter().find_map(|word| word.parse::<Mark>().err());
    wrong.map_or(Ok(()), |problem| {
        Err(Problem::Word {
            flag: "label",
            problem: problem.to_string(),
        })
    })
}

fn marks(labels: &Labels) -> String {
    let one = |(key, value): (&String, &String)| match value.as_str() {
        "" => key.clone(),
        value => format!("{key}={value}"),
    };
    labels.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(super) async fn token(session: &mut Session, command: TokenCommand) -> Result<Exit, Problem> {
    let life = match &command {
        TokenCommand::Node { life: Some(life), .. } => Some(span("--life", life)?),
        _ => None,
    };
    let mut client = session.connect().await?;
    match command {
        TokenCommand::Node { node, pool, life: _ } => {
            let token = client.node_token(&node, pool, life).await?;
            session.out.token(&token)?;
        }
        TokenCommand::Login { user } => {
            let token = client.login_token(&user).await?;
            session.out.token(&token)?;
        }
        TokenCommand::List => {
            let tokens = client.tokens().await?;
            session.out.tokens(&tokens)?;
        }
        TokenCommand::Revoke { token } => {
            client.revoke_token(&token).await?;
            session.out.revoked(&token)?;
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn user(session: &mut Session, command: UserCommand) -> Result<Exit, Problem> {
    let mut client = session.connect().await?;
    let (row, what) = match command {
        UserCommand::List => {
            let users = client.users().await?;
            session.out.users(&users)?;
            return Ok(Exit::Done);
        }
        UserCommand::Show { name } => {
            let user = client.user(&name).await?;
            session.out.user_shown(&user)?;
            return Ok(Exit::Done);
        }
        UserCommand::Set { name, team, role } => {
            let team = team.map(|team| if team == "none" { String::new() } else { team });
            let user = client.set_user(&name, team, role).await?;
            session.out.user_changed(&user)?;
            return Ok(Exit::Done);
        }
        UserCommand::Add {
            name,
            role,
            account,
            team,
        } => {
            let new = UserRow {
                name,
                role,
                unix_account: account.unwrap_or_default(),
                team: team.unwrap_or_default(),
                banned: false,
            };
            (client.add_user(new).await?, "was added")
        }
        UserCommand::Ban { name } => (client.set_banned(&name, true).await?, "is shut out"),
        UserCommand::Unban { name } => (client.set_banned(&name, false).await?, "may log in again"),
    };
    session.out.user(&row, what)?;
    Ok(Exit::Done)
}

/// A length of time that was written behind a flag.
pub(super) fn span(flag: &'static str, text: &str) -> Result<Span, Problem> {
    text.parse()
        .map_err(|error: loadline_model::ParseQuantityError| Problem::Word {
            flag,
            problem: error.to_string(),
        })
}
