//! Teams, quotas and people: what is asked of the fleet, and what is told.

use crate::World;
use crate::wire::Script;

#[tokio::test]
async fn teams_and_quotas_are_asked_for_as_they_are_written() {
    let world = World::new(Script::default()).await;
    let cases = [
        ("team list", "teams"),
        ("team show vision", "team vision"),
        (
            "team set vision --weight 200 --add ada --add bob --remove eve",
            r#"set team vision Some(200) +["ada", "bob"] -["eve"] [] false"#,
        ),
        ("team set vision --always", "set team vision None +[] -[] [] true"),
        ("team remove vision", "remove team vision"),
        ("quota show vision", "team vision"),
        (
            "quota set vision --cpus 8 --user-memory 4GiB --gpu-hours 500 --per week --gpus none",
            r#"set quota vision Some(8000) Some(4294967296) Some(500) 2 ["team.gpus"] false"#,
        ),
        ("quota remove vision", "set quota vision None None None 0 [] true"),
        ("user show ada", "show ada"),
        ("user set ada --team vision", r#"set ada Some("vision") None"#),
        (
            "user set ada --team none --role viewer",
            r#"set ada Some("") Some("viewer")"#,
        ),
    ];
    for (words, asked) in cases {
        let ran = world.fleet(words).await;
        assert_eq!(ran.code, 0, "{words}: {ran:?}");
        let last = world.fake.script(|script| script.asked.pop());
        assert_eq!(last.as_deref(), Some(asked), "{words}");
    }
    // What follows from a quota is told beside the table, and stands in the JSON.
    let ran = world.fleet("quota set vision --cpus 4").await;
    assert!(
        ran.err
            .contains("fleet: 5 CPUs are held where 4 CPUs are allowed"),
        "{ran:?}"
    );
    assert!(ran.out.contains("TEAM MAY"), "{ran:?}");
    let ran = world.fleet("team show vision -o json").await;
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["team"], "vision");
    assert_eq!(json["members"], serde_json::json!(["ada"]));
}

#[tokio::test]
async fn what_cannot_be_is_told_without_asking() {
    let world = World::new(Script::default()).await;
    let long = "a".repeat(10_240);
    let long_set = format!("team set {long}");
    for (words, part) in [
        (long_set.as_str(), "cannot name a team"),
        ("team show Vision", "`Vision` cannot name a team"),
        ("quota set vision", "say which limit"),
        (
            "quota set vision --cpus many",
            "--cpus: `many` is not an amount of CPU",
        ),
        ("quota set vision --memory 4", "--memory: "),
        ("quota set vision --workers -1", "unexpected argument"),
        (
            "quota set vision --gpu-hours 1 --per year",
            "invalid value 'year'",
        ),
        ("user set ada", "required arguments were not provided"),
        (
            "run --priority urgent -- true",
            "--priority: `urgent` is not a priority",
        ),
        ("run --team A -- true", "--team: a team's name is"),
    ] {
        let ran = world.fleet(words).await;
        let shown = &words[..words.len().min(60)];
        assert_eq!(ran.code, 2, "{shown}: {ran:?}");
        assert!(ran.err.contains(part), "{shown}: {ran:?}");
        assert!(ran.err.len() < 2000, "{shown}: the name is told in full");
    }
    assert!(world.fake.script(|script| script.asked.is_empty()));
}
