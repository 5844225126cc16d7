//! A Rust file with comments and literals blanked out, so that a rule sees only code. It is a lexer, not a parser.

/// The code of a file.
#[derive(Debug)]
pub(crate) struct Source {
    /// The text, as long and with the same lines as the file, comments and the insides of literals replaced by spaces.
    pub code: String,
    /// Where the tests at the file's end begin, in bytes; the file's length when there are none.
    pub tests: usize,
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn of(text: &str) -> Source {
        let code = blank(text);
        let tests = code.find("#[cfg(test)]\nmod ").unwrap_or(code.len());
        Source { code, tests }
    }

    /// The line of a byte of the code, counted from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.code.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    /// Where `path` (`tokio`, `std::fs`) starts as a path of its own: not inside a longer word or path.
    pub(crate) fn paths(&self, path: &str) -> impl Iterator<Item = usize> {
        let bytes = self.code.as_bytes();
        self.code.match_indices(path).map(|(at, _)| at).filter(move |&at| {
            let before = at.checked_sub(1).map(|index| bytes[index]);
            let after = bytes.get(at + path.len()).copied();
            !before.is_some_and(|byte| is_word(byte) || byte == b'.')
                && !after.is_some_and(is_word)
                && !self.code[..at].trim_end().ends_with("::")
        })
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Only whole literals and comments were replaced, byte by byte with ASCII.
    String::from_utf8(code).unwrap_or_default()
}

/// The end of the comment or literal that starts at `at`; `at` itself when none does.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + comment(rest),
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !word_before => at + raw(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !word_before => at + raw(rest, 2),
        // A char literal; a lifetime has no second quote this near.
        [b'\'', b'\\', ..] => at + quoted(rest, b'\''),
        [b'\'', first, ..] => {
            let length = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if rest.get(1 + length) == Some(&b'\'') {
                at + length + 2
            } else {
                at
            }
        }
        _ => at,
    }
}

fn comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(rest.len())
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A raw string; `prefix` letters stand before its hashes. `r#name` is no string and ends at once.
fn raw(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.extend(std::iter::repeat_n(b'#', hashes));
    let inside = prefix + hashes + 1;
    let length = rest[inside..].windows(end.len()).position(|window| window == end);
    length.map_or(rest.len(), |length| inside + length + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanked() {
        let check = |text: &str, expected: &str| assert_eq!(blank(text), expected, "{text}");
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ \n */ d", "a              \n    d");
        check(r#"f("a\"b", c)"#, r#"f(      , c)"#);
        check(r##"f(r#"a"b"#, c)"##, r##"f(        , c)"##);
        check("f('\"', 'a)", "f(   , 'a)");
        check("f('\\'', '/', r#fn)", "f(    ,    , r#fn)");
        check("'é' x", "     x");
        check("\"never ends", "           ");
    }

    #[test]
    fn paths_of_their_own() {
        let source = Source::of("use tokio::io; my_tokio::x; crate::tokio::x; (tokio::y) a.tokio tokios \"tokio::\"");
        let found: Vec<usize> = source.paths("tokio").collect();
        assert_eq!(found, [4, 46]);
    }
}
