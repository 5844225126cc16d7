//! Cuts a child's output into lines for people. Pure.

/// The longest line that is shown in one piece, in bytes: longer ones (a minified bundle, a base64 dump) come in several.
const MAX_LINE: usize = 8 * 1024;

/// What came since the last line's end.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes in and hands out the lines that are complete, without their end.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let (head, rest) = end.map_or((bytes, &bytes[bytes.len()..]), |at| (&bytes[..at], &bytes[at + 1..]));
            let room = MAX_LINE - self.partial.len();
            if head.len() > room {
                self.partial.extend_from_slice(&head[..room]);
                line(self.cut());
                bytes = &bytes[room..];
                continue;
            }
            self.partial.extend_from_slice(head);
            if end.is_some() {
                line(text(&std::mem::take(&mut self.partial)));
            }
            bytes = rest;
        }
    }

    /// The last line, when it has no end.
    pub(super) fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| text(&rest))
    }

    /// The full buffer as a piece that does not end inside a character.
    fn cut(&mut self) -> String {
        let whole = match std::str::from_utf8(&self.partial) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.partial.len(),
        };
        let rest = self.partial.split_off(whole);
        text(&std::mem::replace(&mut self.partial, rest))
    }
}

/// Text as a terminal line: without the `\r` of a Windows line end, and what a progress bar painted over left away.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let last = memchr::memrchr(b'\r', bytes).map_or(bytes, |at| &bytes[at + 1..]);
    String::from_utf8_lossy(last).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting() {
        let check = |pieces: &[&[u8]], expected: &[&str]| {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in pieces {
                lines.push(piece, |line| found.push(line));
            }
            found.extend(lines.finish());
            assert_eq!(found, expected, "{pieces:?}");
        };
        check(&[], &[]);
        check(&[b"one\ntwo"], &["one", "two"]);
        check(&[b"\n\n"], &["", ""]);
        check(&[b"a\r\nb\r", b"\n"], &["a", "b"]);
        check(&[b" 1%\r 2%\r 3%\n"], &[" 3%"]);
        check(&["ä".as_bytes().split_at(1).0, "ä\n".as_bytes().split_at(1).1], &["ä"]);
        check(&[b"bad \xff byte\n"], &["bad \u{fffd} byte"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_that_are_whole_characters() {
        let long = format!("x{}", "ä".repeat(MAX_LINE));
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        lines.push(long.as_bytes(), |line| found.push(line));
        found.extend(lines.finish());
        assert!(found.len() >= 2 && found.iter().all(|piece| piece.len() <= MAX_LINE));
        assert_eq!(found.concat(), long);
    }
}
