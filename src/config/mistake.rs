//! One mistake of ephemwork.toml: where, what, and what was probably meant.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Exit};

/// How much of a line is shown around a mistake, in characters: a terminal's width less the margin.
const MAX_SHOWN: usize = 100;

/// How many mistakes [`render`] shows; who has more repairs these first.
const MAX_RENDERED: usize = 50;

/// A mistake in the file's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters from 1; a byte order mark counts for nothing, a tab for one.
    pub column: usize,
    /// How many characters of the line it covers, at least 1.
    pub width: usize,
    /// What is wrong, a sentence without a full stop.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// From byte offsets to lines and columns. Lines end with LF or CRLF, as in TOML.
pub(super) struct Lines<'t> {
    text: &'t str,
    /// The offset at which each line begins; the first is behind a byte order mark.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Lines<'t> {
        let first = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        let newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let starts = std::iter::once(first).chain(newlines.map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    /// The index (from 0) of the line in which the offset lies.
    pub(super) fn index(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// A line without its end; empty beyond the last.
    pub(super) fn line(&self, index: usize) -> &'t str {
        let Some(&start) = self.starts.get(index) else {
            return "";
        };
        let end = self.starts.get(index + 1).map_or(self.text.len(), |&next| next - 1);
        let line = &self.text[start..end];
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// The lines (from 1) that look like a `[header]`, ascending.
    pub(super) fn headers(&self) -> Vec<usize> {
        let header = |&index: &usize| self.line(index).trim_start().starts_with('[');
        (0..self.starts.len()).filter(header).map(|index| index + 1).collect()
    }

    /// A mistake at a span of bytes. A span that begins behind the text, inside a character or at a line's end is moved to
    /// where something can be shown.
    pub(super) fn mistake(&self, span: Range<usize>, what: String, hint: Option<String>) -> Mistake {
        let at = span.start.min(self.text.len());
        let index = self.index(at);
        let line = self.line(index);
        let within = boundary(line, at.saturating_sub(self.starts[index]));
        let covered = boundary(line, span.end.saturating_sub(self.starts[index]));
        Mistake {
            line: index + 1,
            column: line[..within].chars().count() + 1,
            width: line[within..covered.max(within)].chars().count().max(1),
            what,
            hint,
        }
    }
}

/// The nearest offset from `at` down to which `line` can be cut.
fn boundary(line: &str, at: usize) -> usize {
    (0..=at.min(line.len()))
        .rev()
        .find(|&at| line.is_char_boundary(at))
        .unwrap_or(0)
}

/// All mistakes as a person reads them: for each `file:line:column: what; hint`, its line of the file, and a mark below it.
pub fn render(mistakes: &[Mistake], text: &str, file: &Path) -> String {
    let lines = Lines::of(text);
    let mut out = String::new();
    let shown = mistakes.iter().take(MAX_RENDERED);
    let margin = shown.clone().map(|mistake| mistake.line.to_string().len()).max().unwrap_or(1);
    for mistake in shown {
        if let Err(never) = one(&mut out, mistake, &lines, file, margin) {
            unreachable!("a String takes everything: {never}");
        }
    }
    if mistakes.len() > MAX_RENDERED {
        out.push_str(&format!("… and {} more\n", mistakes.len() - MAX_RENDERED));
    }
    out
}

fn one(out: &mut String, mistake: &Mistake, lines: &Lines<'_>, file: &Path, margin: usize) -> std::fmt::Result {
    write!(
        out,
        "{}:{}:{}: {}",
        file.display(),
        mistake.line,
        mistake.column,
        mistake.what
    )?;
    if let Some(hint) = &mistake.hint {
        write!(out, "; {hint}")?;
    }
    out.push('\n');
    let line = lines.line(mistake.line - 1);
    // A window of the line, so that a mistake far to the right of a long line is in it.
    let skipped = (mistake.column + mistake.width.min(MAX_SHOWN / 2)).saturating_sub(MAX_SHOWN);
    let window = || line.chars().skip(skipped).take(MAX_SHOWN);
    // What a terminal would act on is not shown to it; a tab stays, and stands in the mark's line too.
    let shown: String = window()
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .collect();
    let until = (mistake.column - 1).saturating_sub(skipped);
    let blank: String = window().take(until).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let mark = "^".repeat(mistake.width.min(MAX_SHOWN.saturating_sub(until)).max(1));
    writeln!(out, "{:margin$} |", "")?;
    writeln!(out, "{:margin$} | {shown}", mistake.line)?;
    writeln!(out, "{:margin$} | {blank}{mark}", "")
}

/// The error that a command ends with when the file has mistakes.
pub fn failure(mistakes: &[Mistake], text: &str, file: &Path) -> Error {
    let what = match mistakes.len() {
        1 => format!("there is a mistake in {}", file.display()),
        count => format!("there are {count} mistakes in {}", file.display()),
    };
    Error::new(Exit::Config, what).because(format_args!("\n{}", render(mistakes, text, file).trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let check = |text: &str, at: &str, expected: (usize, usize, usize)| {
            let start = text.find(at).unwrap();
            let mistake = Lines::of(text).mistake(start..start + at.len(), String::new(), None);
            assert_eq!((mistake.line, mistake.column, mistake.width), expected, "{text:?}");
        };
        check("abc", "abc", (1, 1, 3));
        check("abc\nx = 1", "x", (2, 1, 1));
        check("abc\r\nx = 1\r\n", "1", (2, 5, 1));
        check("\u{feff}abc", "b", (1, 2, 1));
        check("\tä日x", "x", (1, 4, 1));
        check("a\nb\nc", "b\nc", (2, 1, 1));
        let past = Lines::of("a\n").mistake(99..120, String::new(), None);
        assert_eq!((past.line, past.column, past.width), (2, 1, 1));
        let empty = Lines::of("").mistake(0..0, String::new(), None);
        assert_eq!((empty.line, empty.column, empty.width), (1, 1, 1));
        let bom = Lines::of("\u{feff}").mistake(0..3, String::new(), None);
        assert_eq!((bom.line, bom.column, bom.width), (1, 1, 1));
    }

    #[test]
    fn rendered_with_a_mark() {
        let text = "[service.api]\n\tprot = 1\n";
        let start = text.find("prot").unwrap();
        let hint = Some("did you mean \"port\"?".to_owned());
        let mistake = Lines::of(text).mistake(start..start + 4, "unknown key \"prot\" in [service.api]".into(), hint);
        assert_eq!(
            render(&[mistake], text, Path::new("ephemwork.toml")),
            "ephemwork.toml:2:2: unknown key \"prot\" in [service.api]; did you mean \"port\"?\n  |\n2 | \tprot = 1\n  | \t^^^^\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let text = format!("run_command = \"{}\u{1b}[31m\" bad", "x".repeat(500));
        let start = text.find("bad").unwrap();
        let mistake = Lines::of(&text).mistake(start..start + 3, "wrong".into(), None);
        let shown = render(&[mistake], &text, Path::new("f"));
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[2].ends_with("\u{fffd}[31m\" bad"), "{shown}");
        assert_eq!(lines[2].chars().count(), lines[3].chars().count(), "{shown}");
        assert!(lines[2].chars().count() < 110, "{shown}");
    }
}
