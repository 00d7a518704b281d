//! Just enough of Rust's lexical rules to tell code, comments and string literals apart.

/// A string literal: the line it begins on (from 1) and what stands between its quotes, escapes not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    pub line: usize,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Text,
}

/// The source with comments and the contents of string literals blanked out; lines stay where they are.
pub(super) fn code(source: &str) -> String {
    let kinds = classify(source);
    source
        .chars()
        .zip(kinds)
        .map(|(c, kind)| if kind == Kind::Code || c == '\n' { c } else { ' ' })
        .collect()
}

/// All string literals.
pub(super) fn literals(source: &str) -> Vec<Literal> {
    let mut found: Vec<Literal> = Vec::new();
    let (mut line, mut inside) = (1, false);
    for (c, kind) in source.chars().zip(classify(source)) {
        match (kind, inside) {
            (Kind::Text, false) => found.push(Literal { line, text: c.into() }),
            (Kind::Text, true) => {
                if let Some(last) = found.last_mut() {
                    last.text.push(c);
                }
            }
            _ => {}
        }
        inside = kind == Kind::Text;
        line += usize::from(c == '\n');
    }
    found
}

/// What each character belongs to. Quotes count as code, so that neighbouring literals stay apart.
fn classify(source: &str) -> Vec<Kind> {
    let chars: Vec<char> = source.chars().collect();
    let mut kinds = vec![Kind::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let (skip, marked, kind) = match rest {
            ['/', '/', ..] => (0, line_end(rest), Kind::Comment),
            ['/', '*', ..] => (0, block_end(rest), Kind::Comment),
            ['"', ..] => (1, text_end(&rest[1..]), Kind::Text),
            ['r', '#' | '"', ..] if !follows_word(&chars, at) => raw(rest),
            ['\'', '\\', ..] => (char_end(rest), 0, Kind::Code),
            ['\'', _, '\'', ..] => (3, 0, Kind::Code),
            _ => (1, 0, Kind::Code),
        };
        for place in kinds.iter_mut().skip(at + skip).take(marked) {
            *place = kind;
        }
        at += skip + marked;
        // The closing quote is code and must not open another literal.
        at += usize::from(kind == Kind::Text && at < chars.len());
    }
    kinds
}

fn follows_word(chars: &[char], at: usize) -> bool {
    // `br"…"` is a raw literal too.
    let before = |back: usize| at.checked_sub(back).map(|place| chars[place]);
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if before(1) == Some('b') {
        is_word(before(2))
    } else {
        is_word(before(1))
    }
}

fn line_end(rest: &[char]) -> usize {
    rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_end(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Characters up to the closing quote.
fn text_end(rest: &[char]) -> usize {
    let mut at = 0;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at.min(rest.len())
}

/// `r"…"`, `r#"…"#`; `r#word` is a plain name.
fn raw(rest: &[char]) -> (usize, usize, Kind) {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return (1 + hashes, 0, Kind::Code);
    }
    let start = hashes + 2;
    let body = &rest[start..];
    let closes = |at: usize| {
        body[at] == '"' && body[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    let length = (0..body.len()).find(|&at| closes(at)).unwrap_or(body.len());
    (start, length, Kind::Text)
}

/// `'\n'`, `'\u{1F600}'`: up to the closing quote.
fn char_end(rest: &[char]) -> usize {
    rest[3.min(rest.len())..]
        .iter()
        .position(|c| *c == '\'')
        .map_or(rest.len(), |at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        literals(source).into_iter().map(|literal| literal.text).collect()
    }

    #[test]
    fn comments_are_neither_code_nor_literals() {
        let source = "let a = 1; // \"no\"\n/* /* \"no\" */ todo */ let b = \"yes // yes\";";
        assert_eq!(texts(source), ["yes // yes"]);
        assert!(!code(source).contains("todo"));
        assert!(code(source).contains("let b"));
    }

    #[test]
    fn raw_literals_end_at_their_own_hashes() {
        assert_eq!(
            texts(r##"f(r#"a "quoted" b"#, r"c\", br"d", r#type, "e\"f")"##),
            ["a \"quoted\" b", "c\\", "d", "e\\\"f"]
        );
    }

    #[test]
    fn quotes_as_characters_and_lifetimes_open_nothing() {
        assert_eq!(
            texts("fn f<'a>(c: char) { c == '\"' || c == '\\'' || c == '\\u{22}'; g(\"x\") }"),
            ["x"]
        );
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let found = literals("a\n\"b\nc\"\n\"d\"");
        assert_eq!(
            found[0],
            Literal {
                line: 2,
                text: "b\nc".into()
            }
        );
        assert_eq!(
            found[1],
            Literal {
                line: 4,
                text: "d".into()
            }
        );
    }
}
