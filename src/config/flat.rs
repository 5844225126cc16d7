//! A TOML file of plain `key = value` lines, as the daemon's settings are: every value as the text of the flag of the same name.

use std::borrow::Cow;

use toml::de::{DeTable, DeValue};

use super::MAX_BYTES;
use super::keys::nearest;
use super::mistake::{Lines, Mistake};

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub key: &'static str,
    /// The texts of an array, else one.
    pub values: Vec<String>,
    /// Counted from 1.
    pub line: usize,
}

/// Reads a flat file whose keys are some of `known`. A value is a text, a whole number, `true`, `false`, or an array of texts.
pub(crate) fn flat(text: &str, known: &[&'static str]) -> Result<Vec<Entry>, Vec<Mistake>> {
    let lines = Lines::of(text);
    if text.len() > MAX_BYTES {
        return Err(vec![lines.mistake(
            0..0,
            format!("the file is longer than {MAX_BYTES} bytes"),
            None,
        )]);
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut mistakes: Vec<Mistake> = Vec::new();
    for error in errors {
        let mistake = lines.mistake(error.span().unwrap_or(0..0), error.message().to_owned(), None);
        if !mistakes.iter().any(|other| other.line == mistake.line) {
            mistakes.push(mistake);
        }
    }
    let broken: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
    let mut entries = Vec::new();
    for (key, value) in root.get_ref().iter() {
        let line = lines.index(key.span().start) + 1;
        if broken.contains(&line) {
            continue;
        }
        let name = key.get_ref().as_ref();
        let Some(&key_name) = known.iter().find(|&&one| one == name) else {
            let hint = nearest(name, known).map(|near| format!("did you mean {near:?}?"));
            mistakes.push(lines.mistake(key.span(), format!("{name:?} is not a setting"), hint));
            continue;
        };
        match texts(value.get_ref()) {
            Some(values) => entries.push(Entry {
                key: key_name,
                values,
                line,
            }),
            None => {
                let what = format!("{name:?} is neither a text, a whole number, true, false, nor a list of texts");
                mistakes.push(lines.mistake(value.span(), what, None));
            }
        }
    }
    mistakes.sort();
    if mistakes.is_empty() { Ok(entries) } else { Err(mistakes) }
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(items) => items.iter().map(|item| one(item.get_ref()).map(Cow::into_owned)).collect(),
        single => Some(vec![one(single)?.into_owned()]),
    }
}

fn one<'v>(value: &'v DeValue<'_>) -> Option<Cow<'v, str>> {
    match value {
        DeValue::String(text) => Some(Cow::Borrowed(text)),
        DeValue::Integer(number) if number.radix() == 10 => Some(Cow::Borrowed(number.as_str())),
        DeValue::Boolean(true) => Some(Cow::Borrowed("true")),
        DeValue::Boolean(false) => Some(Cow::Borrowed("false")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        type Expected<'a> = Result<&'a [(&'a str, &'a [&'a str], usize)], &'a [(usize, &'a str)]>;
        let check = |text: &str, expected: Expected<'_>| {
            let found = flat(text, &["http", "lease", "cors_origin", "local"]);
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let mut found: Vec<_> = found
                        .iter()
                        .map(|entry| (entry.line, entry.key, entry.values.clone()))
                        .collect();
                    found.sort();
                    let expected: Vec<_> = expected
                        .iter()
                        .map(|(key, values, line)| (*line, *key, values.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()))
                        .collect();
                    assert_eq!(found, expected, "{text:?}");
                }
                (Err(found), Err(expected)) => {
                    assert_eq!(found.len(), expected.len(), "{text:?}: {found:?}");
                    for (found, (line, part)) in found.iter().zip(expected) {
                        assert_eq!(found.line, *line, "{text:?}: {found:?}");
                        let whole = format!("{}; {}", found.what, found.hint.as_deref().unwrap_or_default());
                        assert!(whole.contains(part), "{text:?}: {whole}");
                    }
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        };
        check(
            "htp = 1\nlocal = 1.5\n",
            Err(&[(1, "did you mean \"http\"?"), (2, "\"local\" is neither")]),
        );
        check("http = \n", Err(&[(1, "")]));
        check("[http]\n", Err(&[(1, "neither")]));
        check("", Ok(&[]));
        check("# nothing\nlocal = true\n", Ok(&[("local", &["true"], 2)]));
        check(
            "http = \"127.0.0.1:1\"\nlease = 60\ncors_origin = [\"a\", \"b\"]",
            Ok(&[
                ("http", &["127.0.0.1:1"], 1),
                ("lease", &["60"], 2),
                ("cors_origin", &["a", "b"], 3),
            ]),
        );
    }
}
