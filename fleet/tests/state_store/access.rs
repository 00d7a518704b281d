//! Tokens and people: one use, one name, a short time.

use crate::world::{World, draft, job_id, spec};
use loadline_fleet::state::{Code, Command, Refused, Reply, Sha256, TokenId, TokenState};
use loadline_fleet::trust::Role;
use loadline_model::Span;

const SECRET: Sha256 = [7; 32];

fn node_token(world: &mut World, secret: Sha256, life: Span) -> Result<Reply, Refused> {
    let token = TokenId(format!("t{}", secret[0]));
    let (by, node, pool) = ("ada".into(), "n1".into(), "gold".into());
    world.step(Command::CreateNodeToken {
        by,
        token,
        secret,
        node,
        pool,
        life,
    })
}

fn redeem(world: &mut World, secret: Sha256, node: &str) -> Result<Reply, Refused> {
    world.step(Command::RedeemNodeToken {
        secret,
        node: node.into(),
    })
}

#[test]
fn a_node_token_works_once_in_time_for_its_name() {
    let mut world = World::new();
    node_token(&mut world, SECRET, Span::ZERO).unwrap();
    assert_eq!(
        redeem(&mut world, [8; 32], "n1"),
        Err(Refused::TokenInvalid),
        "unknown"
    );
    assert_eq!(
        redeem(&mut world, SECRET, "n2"),
        Err(Refused::TokenInvalid),
        "other name"
    );
    let login = world.step(Command::RedeemLoginToken { secret: SECRET });
    assert_eq!(login, Err(Refused::TokenInvalid), "other door");
    world.restart();
    let Ok(Reply::Joined { node, pool }) = redeem(&mut world, SECRET, "n1") else {
        panic!("refused")
    };
    assert_eq!(pool, "gold");
    assert_eq!(
        redeem(&mut world, SECRET, "n1"),
        Err(Refused::TokenInvalid),
        "second use"
    );
    world.restart();
    assert_eq!(
        redeem(&mut world, SECRET, "n1"),
        Err(Refused::TokenInvalid),
        "also after a restart"
    );

    node_token(&mut world, [9; 32], Span::from_secs(60)).unwrap();
    world.pass(61);
    assert_eq!(
        redeem(&mut world, [9; 32], "n1"),
        Err(Refused::TokenInvalid),
        "late"
    );
    node_token(&mut world, [10; 32], Span::ZERO).unwrap();
    world
        .step(Command::RevokeToken {
            by: "ada".into(),
            token: TokenId("t10".into()),
        })
        .unwrap();
    assert_eq!(
        redeem(&mut world, [10; 32], "n1"),
        Err(Refused::TokenInvalid),
        "revoked"
    );
    node_token(&mut world, [11; 32], Span::ZERO).unwrap();
    let again = redeem(&mut world, [11; 32], "n1");
    assert_eq!(
        again,
        Ok(Reply::Joined { node, pool }),
        "the same name is the same node"
    );

    let states: Vec<_> = world
        .state
        .tokens(world.now)
        .iter()
        .map(|token| token.state)
        .collect();
    for state in [TokenState::Used, TokenState::Expired, TokenState::Revoked] {
        assert!(states.contains(&state), "{state:?} in {states:?}");
    }
}

#[test]
fn a_node_token_lives_at_most_ten_minutes() {
    let mut world = World::new();
    let refused = node_token(&mut world, SECRET, Span::from_secs(601)).unwrap_err();
    assert_eq!(
        (refused.code(), refused.reason()),
        (Code::InvalidArgument, "TOKEN_LIFE")
    );
    let Ok(Reply::Token(token)) = node_token(&mut world, SECRET, Span::ZERO) else {
        panic!("refused")
    };
    assert_eq!(token.expires, world.now.wall.plus(Span::from_secs(600)));
    let unknown = Command::RevokeToken {
        by: "ada".into(),
        token: TokenId("x".into()),
    };
    assert_eq!(world.step(unknown), Err(Refused::TokenUnknown("x".into())));
}

fn login_token(world: &mut World, secret: Sha256, user: &str) -> Result<Reply, Refused> {
    let token = TokenId(format!("l{}", secret[0]));
    let (by, user, life) = ("ada".into(), user.into(), Span::from_secs(600));
    world.step(Command::CreateLoginToken {
        by,
        token,
        secret,
        user,
        life,
    })
}

fn add(world: &mut World, name: &str, role: Role) -> Result<Reply, Refused> {
    let (by, name, unix_account) = ("ada".into(), name.into(), "bobby".into());
    world.step(Command::AddUser {
        by,
        name,
        role,
        unix_account,
        team: "red".into(),
    })
}

fn ban(world: &mut World, name: &str, banned: bool) -> Result<Reply, Refused> {
    world.step(Command::BanUser {
        by: "ada".into(),
        name: name.into(),
        banned,
    })
}

#[test]
fn people_log_in_once_a_token_and_banned_ones_do_nothing() {
    let mut world = World::new();
    assert_eq!(
        login_token(&mut world, SECRET, "bob"),
        Err(Refused::UserUnknown("bob".into()))
    );
    add(&mut world, "bob", Role::User).unwrap();
    assert_eq!(
        add(&mut world, "bob", Role::User),
        Err(Refused::UserExists("bob".into()))
    );
    login_token(&mut world, SECRET, "bob").unwrap();
    login_token(&mut world, [8; 32], "bob").unwrap();
    let Ok(Reply::User(user)) = world.step(Command::RedeemLoginToken { secret: SECRET }) else {
        panic!("refused")
    };
    assert_eq!(
        (user.name.as_str(), user.unix_account.as_str(), user.team.as_str()),
        ("bob", "bobby", "red")
    );
    let again = world.step(Command::RedeemLoginToken { secret: SECRET });
    assert_eq!(again, Err(Refused::TokenInvalid));

    ban(&mut world, "bob", true).unwrap();
    assert!(world.state.directory().people["bob"].banned);
    let login = world.step(Command::RedeemLoginToken { secret: [8; 32] });
    assert_eq!(login, Err(Refused::TokenInvalid));
    let submit = Command::Submit {
        by: "bob".into(),
        job: job_id(1),
        spec: spec(draft()),
    };
    assert_eq!(world.step(submit.clone()), Err(Refused::UserBanned("bob".into())));
    ban(&mut world, "bob", false).unwrap();
    world.step(submit).unwrap();
    assert_eq!(world.detail(1).summary.team, "red");
}

#[test]
fn the_last_administrator_cannot_be_banned() {
    let mut world = World::new();
    assert_eq!(
        ban(&mut world, "ada", true),
        Err(Refused::LastAdmin("ada".into()))
    );
    add(&mut world, "eve", Role::Admin).unwrap();
    ban(&mut world, "ada", true).unwrap();
    assert_eq!(
        ban(&mut world, "eve", true),
        Err(Refused::LastAdmin("eve".into()))
    );
}
