//! The repository keeps its own rules; the rules themselves are tested in `loadline_tests::tidy`.

use std::path::Path;

use loadline_tests::tidy::{EXCEPTIONS, Tree, check};

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let tree = Tree::read(root).expect("a readable tree");
    assert!(
        tree.get("tests/tests/tidy.rs").is_some(),
        "looked at the wrong tree: {}",
        root.display()
    );
    let findings = check(&tree, EXCEPTIONS);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} broken rules:\n{}",
        lines.len(),
        lines.join("\n")
    );
}
