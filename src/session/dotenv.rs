//! The text of an `env_file` becomes variables. Pure.
//!
//! What is understood, which is what docker compose and the dotenv libraries agree on: `NAME=value` lines, `export` before them,
//! empty lines and `#` comments, also behind an unquoted value after white space; values in single quotes, taken as they are; values in
//! double quotes, with `\n`, `\r`, `\t`, `\"`, `\\` and `\$`; quoted values over several lines. `$NAME` is not replaced by
//! anything. The last of two equal names counts.

/// The variables in their order.
///
/// # Errors
/// A sentence with the line's number.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    let (mut rest, mut number) = (text, 1);
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            (rest, number) = (after, number + 1);
            continue;
        }
        let begun = line.trim_start();
        let declared = begun.strip_prefix("export ").unwrap_or(begun);
        let Some((name, _)) = declared.split_once('=') else {
            return Err(format!("line {number}: there is no '=' in {trimmed:?}; write NAME=value"));
        };
        let name = name.trim();
        if name.is_empty()
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        {
            return Err(format!("line {number}: {name:?} is not a variable's name; write NAME=value"));
        }
        // The value may go over several lines, so it is read from the whole rest.
        let equals = rest.find('=').unwrap_or(0);
        let value = rest[equals + 1..].trim_start_matches([' ', '\t']);
        let (value, left) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                quoted(&value[1..], quote).ok_or(format!("line {number}: the {quote} of {name} is not closed"))?
            }
            _ => (unquoted(value.split('\n').next().unwrap_or("")), after),
        };
        if value.contains('\0') {
            return Err(format!(
                "line {number}: the value of {name} holds a NUL byte, which no environment can"
            ));
        }
        variables.push((name.to_owned(), value));
        number += rest[..rest.len() - left.len()].matches('\n').count();
        rest = left;
    }
    Ok(variables)
}

/// A value without quotes: to a comment or the line's end.
fn unquoted(line: &str) -> String {
    if line.starts_with('#') {
        return String::new();
    }
    let end = line.find(" #").or_else(|| line.find("\t#")).unwrap_or(line.len());
    line[..end].trim().to_owned()
}

/// A value behind its opening quote, and what follows the closing quote's line.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            _ if c == quote => {
                let rest = &text[at + 1..];
                return Some((value, rest.split_once('\n').map_or("", |(_, after)| after)));
            }
            '\\' if quote == '"' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let check = |text: &str, expected: Result<&[(&str, &str)], &str>| {
            let found = parse(text);
            let expected = expected
                .map(|list| {
                    list.iter()
                        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                        .collect()
                })
                .map_err(str::to_owned);
            assert_eq!(found, expected, "{text:?}");
        };
        check("", Ok(&[]));
        check("\n# note\n\n", Ok(&[]));
        check("A=1\nB=two words \n", Ok(&[("A", "1"), ("B", "two words")]));
        check("export A=1", Ok(&[("A", "1")]));
        check(
            "A = 1 # one\nB=a#b\nC=#x\nD=",
            Ok(&[("A", "1"), ("B", "a#b"), ("C", ""), ("D", "")]),
        );
        check("A='a\\n $X # b' # c\r\nB=1\r\n", Ok(&[("A", "a\\n $X # b"), ("B", "1")]));
        check("A=\"a\\n\\\"b\\\" \\$c \\d\"", Ok(&[("A", "a\n\"b\" $c \\d")]));
        check("A=\"one\ntwo\"\nB=3", Ok(&[("A", "one\ntwo"), ("B", "3")]));
        check("URL=postgres://u:p@h/db?a=b", Ok(&[("URL", "postgres://u:p@h/db?a=b")]));
        check("A=1\nwrong\n", Err("line 2: there is no '=' in \"wrong\"; write NAME=value"));
        check(
            "A=\"x\ny\"\n=1",
            Err("line 3: \"\" is not a variable's name; write NAME=value"),
        );
        check("A B=1", Err("line 1: \"A B\" is not a variable's name; write NAME=value"));
        check("A=\"x", Err("line 1: the \" of A is not closed"));
        // Windows: the line's end is no part of a value, but for a quoted one over several lines.
        check(
            "A=1\r\nB='2'\r\nexport C=\"3\"\r\n",
            Ok(&[("A", "1"), ("B", "2"), ("C", "3")]),
        );
        check("# note\r\n\r\nA=1 # one\r\n", Ok(&[("A", "1")]));
        // Of equal names the last counts; both are handed on in their order.
        check("A=1\nA=2\n", Ok(&[("A", "1"), ("A", "2")]));
        check("\u{feff}A=1", Ok(&[("A", "1")]));
        check("export  A=1", Ok(&[("A", "1")]));
        check("exported=1", Ok(&[("exported", "1")]));
        check("A='it is' # \"quoted\"\nB=\"a # b\"", Ok(&[("A", "it is"), ("B", "a # b")]));
        check("A=\"\"\nB=''", Ok(&[("A", ""), ("B", "")]));
        check("A='x\nB=1", Err("line 1: the ' of A is not closed"));
        check(
            "\n\nA=\0",
            Err("line 3: the value of A holds a NUL byte, which no environment can"),
        );
    }
}
