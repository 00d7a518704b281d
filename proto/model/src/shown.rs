//! What is repeated of a text that is wrong: whoever wrote it knows it again, and a sentence stays one however long the
//! text is.

use alloc::string::String;

/// So many characters of it.
const SHOWN_MAX: usize = 40;

/// The beginning of a text, on one line.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).filter(|c| !c.is_control()).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}
