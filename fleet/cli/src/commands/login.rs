//! `fleet login`: a key of one's own, a certificate for it, and a first call to see that it works.

use std::io::Read;

use rcgen::{CertificateParams, DnType, KeyPair};

use super::Session;
use crate::exit::Exit;
use crate::identity::{Membership, NewIdentity};
use crate::problem::Problem;
use crate::tls;
use crate::token::LoginToken;
use crate::wire::Access;

pub(super) async fn login(session: &mut Session, token: &str) -> Result<Exit, Problem> {
    let token = LoginToken::parse(&text(token)?)?;
    // A token works once: what would keep the identity from being written is found before it is used.
    session.home.prepare()?;
    let mut access = Access::new(tls::connect_pinned(&token).await?).await?;
    let key = KeyPair::generate().map_err(|source| Problem::Key { source })?;
    let request = request(&token.user, &key).map_err(|source| Problem::Key { source })?;
    let login = access.login(token.secret, request).await?;
    session.home.save(&NewIdentity {
        membership: Membership {
            session_address: login.session_address.clone(),
            user: login.user,
            role: login.role,
        },
        key_pem: key.serialize_pem(),
        certificate_pem: login.certificate_pem,
        ca_pem: login.ca_pem,
    })?;
    let me = session.connect().await?.who_am_i().await?;
    session.out.logged_in(&me, &login.session_address)?;
    Ok(Exit::Done)
}

/// The token, from standard input if it shall not stand in the shell's history.
fn text(token: &str) -> Result<String, Problem> {
    if token != "-" {
        return Ok(token.into());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
    read.map_err(|source| Problem::File {
        what: "read the token from standard input".into(),
        source,
    })?;
    Ok(text)
}

/// The name in it is for people who look at it; the fleet takes the one that the token is bound to.
fn request(user: &str, key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    Ok(params.serialize_request(key)?.der().to_vec())
}
