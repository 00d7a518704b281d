//! Teams and quotas through the edge: seen by everyone, changed by operators, audited, bounded.

use loadline_proto::fleet::v1 as fleet;
use loadline_proto::types::v1 as types;
use tonic::Code;

use crate::jobs::submission;
use crate::world::{Person, World, reason};

fn set(name: &str) -> fleet::SetTeamRequest {
    fleet::SetTeamRequest {
        name: name.into(),
        ..Default::default()
    }
}

/// Sets a quota, and finds it as it was written.
async fn quota_by(operator: &mut Person) {
    let quota = fleet::SetQuotaRequest {
        team: "vision".into(),
        set: Some(types::Quota {
            team: Some(types::AtOnce {
                workers: Some(2),
                ..Default::default()
            }),
            period: types::Period::Week.into(),
            gpu_hours: Some(500),
            ..Default::default()
        }),
        ..Default::default()
    };
    let team = operator.sharing.set_quota(quota).await.unwrap().into_inner();
    let written = team.quota.unwrap();
    assert_eq!(
        (written.period(), written.gpu_hours),
        (types::Period::Week, Some(500))
    );
    assert_eq!(written.team.unwrap().workers, Some(2));
    assert!(team.period_ends_us.is_some());
}

#[tokio::test]
async fn teams_are_changed_by_operators_and_it_is_audited() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut olga = world.person(&mut admin, "olga", "operator").await;
    let mut bob = world.person(&mut admin, "bob", "user").await;
    let request = fleet::SetTeamRequest {
        weight: Some(300),
        add: vec!["bob".into()],
        windows: vec!["Mon-Fri 19:00-07:00".into()],
        ..set("vision")
    };
    let denied = bob.sharing.set_team(request.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let team = olga.sharing.set_team(request).await.unwrap().into_inner();
    assert_eq!(
        (team.weight, team.members.as_slice()),
        (300, ["bob".to_owned()].as_slice())
    );
    assert_eq!(team.windows, ["Mon-Fri 19:00-07:00"]);
    // What is not said stays as it is.
    let always = fleet::SetTeamRequest {
        always: true,
        ..set("vision")
    };
    let team = olga.sharing.set_team(always).await.unwrap().into_inner();
    assert_eq!((team.weight, team.members.len(), team.windows.len()), (300, 1, 0));
    quota_by(&mut olga).await;
    let name = || fleet::TeamRef {
        name: "vision".into(),
    };
    assert_eq!(
        bob.sharing.get_team(name()).await.unwrap().into_inner().weight,
        300
    );
    let me = fleet::UserRef { name: "bob".into() };
    let detail = bob.admin.get_user(me).await.unwrap().into_inner();
    assert_eq!(detail.teams, ["vision"]);
    let other = fleet::UserRef { name: "olga".into() };
    assert_eq!(
        bob.admin.get_user(other).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    olga.sharing.remove_team(name()).await.unwrap();
    let gone = bob.sharing.get_team(name()).await.unwrap_err();
    assert_eq!(
        (gone.code(), reason(&gone).as_str()),
        (Code::NotFound, "TEAM_UNKNOWN")
    );
    let text = std::fs::read_to_string(world.state("audit.log")).unwrap();
    let told = |parts: [&str; 4]| {
        text.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    };
    assert!(
        told(["team.set", "denied", "person/bob", "team/vision"]),
        "{text}"
    );
    for word in ["team.set", "quota.set", "team.remove"] {
        assert!(
            told([word, "allowed", "person/olga", "team/vision"]),
            "{word}: {text}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_one_sentence() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut bob = world.person(&mut admin, "bob", "user").await;
    let long = "a".repeat(10_240);
    for request in [
        set(&long),
        set(""),
        set("Vision"),
        fleet::SetTeamRequest {
            weight: Some(0),
            ..set("vision")
        },
        fleet::SetTeamRequest {
            windows: vec!["at night".into()],
            ..set("vision")
        },
        fleet::SetTeamRequest {
            add: vec![long.clone()],
            ..set("vision")
        },
    ] {
        let refused = admin.sharing.set_team(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().len() < 300, "{}", refused.message().len());
        reason(&refused);
    }
    let unknown = fleet::SetTeamRequest {
        add: vec!["eve".into()],
        ..set("vision")
    };
    let refused = admin.sharing.set_team(unknown).await.unwrap_err();
    assert_eq!(reason(&refused), "USER_UNKNOWN");
    let quota = fleet::SetQuotaRequest {
        team: "vision".into(),
        ..Default::default()
    };
    let refused = admin.sharing.set_quota(quota).await.unwrap_err();
    assert_eq!(reason(&refused), "TEAM_UNKNOWN", "half a change was kept");
    // A job for a team that does not pay for its submitter, or with a priority that there is not.
    admin.sharing.set_team(set("vision")).await.unwrap();
    let mut job = submission(1, &["/usr/bin/true"]);
    job.spec.as_mut().unwrap().team = "vision".into();
    let refused = bob.jobs.submit(job.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "NOT_IN_TEAM")
    );
    assert_eq!(refused.message(), "bob is not in team vision");
    job.spec.as_mut().unwrap().team = String::new();
    job.spec.as_mut().unwrap().priority = 5000;
    let refused = bob.jobs.submit(job.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    // Whoever is free to outrank others has the whole fleet; an operator may.
    job.spec.as_mut().unwrap().priority = 1;
    let refused = bob.jobs.submit(job.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "PRIORITY_TOO_HIGH")
    );
    assert_eq!(
        refused.message(),
        "bob may ask for priority normal at most, not 1"
    );
    admin.jobs.submit(job).await.unwrap();
}
