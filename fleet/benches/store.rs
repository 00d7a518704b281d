//! `cargo bench -p loadline-fleet --bench store -- FOLDER [ROUNDS] [SECONDS]`: the store against bare SQLite, on
//! the disk of FOLDER, interleaved.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use loadline_fleet::store::bench;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let folder = PathBuf::from(arguments.first().map_or("/var/tmp", String::as_str));
    let number = |index: usize, default: u64| match arguments.get(index) {
        Some(text) => text.parse().with_context(|| format!("`{text}` is not a number")),
        None => Ok(default),
    };
    let (rounds, length) = (number(1, 5)?, Duration::from_secs(number(2, 2)?));
    for round in 1..=rounds {
        let folder = tempfile::tempdir_in(&folder)?;
        let one = bench::ours(&folder.path().join(""), 1, length).await?;
        std::fs::remove_file(folder.path().join("ours.db"))?;
        let folder = tempfile::tempdir_in(folder.path().parent().context("no parent")?)?;
        let hundred = bench::ours(folder.path(), 100, length).await?;
        let path = folder.path().to_owned();
        let peer = tokio::task::spawn_blocking(move || bench::peer(&path, length)).await??;
        println!(
            "round {round}: 1 client {:.0}/s, 100 clients {:.0}/s ({:.0} a commit), peer {:.0}/s, ratio {:.2}",
            one.per_s,
            hundred.per_s,
            hundred.per_commit,
            peer.per_s,
            hundred.per_s / peer.per_s
        );
    }
    Ok(())
}
