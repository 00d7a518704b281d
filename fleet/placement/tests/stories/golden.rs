//! Stories in text files, and what comes of them in golden files beside; `LOADLINE_GOLDEN=write` writes those anew.

use std::path::Path;

/// Plays every `.txt` of a folder below `tests`, of which there have to be so many, and compares with its `.out`.
pub(crate) fn compare(folder: &str, at_least: usize, play: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let write = std::env::var("LOADLINE_GOLDEN").as_deref() == Ok("write");
    let mut wrong = Vec::new();
    let mut played = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        played += 1;
        let got = play(&std::fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("out");
        if write {
            std::fs::write(&golden, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if got != expected {
            wrong.push(format!("{}: expected\n{expected}\ngot\n{got}", path.display()));
        }
    }
    assert!(
        played >= at_least,
        "only {played} stories in {}",
        folder.display()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lines of a story that say something.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}
