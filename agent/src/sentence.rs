//! Sentences for people: an error with its causes (its own `Display` never repeats its source), and how they are said.

use std::fmt::Display;
use std::io::{self, Write};

/// A line on standard output. Who reads it may stop reading (`| head`), which is no fault of ours.
pub(crate) fn say(line: impl Display) {
    if let Err(error) = writeln!(io::stdout().lock(), "{line}")
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("standard output cannot be written: {error}");
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
