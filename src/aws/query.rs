//! The query protocol's requests: one form, with lists and structures spelled out in the names.

use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::call::{Ask, Tags};

/// What RFC 3986 calls unreserved stays as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as it may stand in a form or a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A percent-encoded text as it was; `None` when that is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// A form that grows.
#[derive(Clone, Debug)]
pub(crate) struct Form(String);

impl Form {
    /// For an action of one version of a service's API.
    pub(crate) fn new(action: &str, version: &str) -> Form {
        let mut form = Form(String::new());
        form.put("Action", action);
        form.put("Version", version);
        form
    }

    /// One field.
    pub(crate) fn put(&mut self, name: &str, value: impl AsRef<str>) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(utf8_percent_encode(name, RESERVED));
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value.as_ref(), RESERVED));
    }

    /// One field, when there is a value.
    pub(crate) fn put_some(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// `name.1=..&name.2=..`; for iam and elbv2 the name ends with `.member`.
    pub(crate) fn list<T: AsRef<str>>(&mut self, name: &str, values: &[T]) {
        for (index, value) in values.iter().enumerate() {
            self.put(&format!("{name}.{}", index + 1), value);
        }
    }

    /// `name.1.Key=..&name.1.Value=..`.
    pub(crate) fn tags(&mut self, name: &str, tags: &Tags) {
        for (index, (key, value)) in tags.iter().enumerate() {
            self.put(&format!("{name}.{}.Key", index + 1), key);
            self.put(&format!("{name}.{}.Value", index + 1), value);
        }
    }

    /// The request.
    pub(crate) fn ask(self) -> Ask {
        Ask {
            method: Method::POST,
            path: "/".to_owned(),
            query: Vec::new(),
            headers: vec![(
                "content-type".into(),
                "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
            )],
            body: Bytes::from(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let mut form = Form::new("CreateTags", "2016-11-15");
        form.put("Name", "a b&c=é~");
        form.put_some("Absent", None::<String>);
        form.list("ResourceId", &["i-1", "i-2"]);
        form.tags("Tag", &Tags::from([("k".to_owned(), "v/w".to_owned())]));
        let expected = "Action=CreateTags&Version=2016-11-15&Name=a%20b%26c%3D%C3%A9~\
                        &ResourceId.1=i-1&ResourceId.2=i-2&Tag.1.Key=k&Tag.1.Value=v%2Fw";
        assert_eq!(form.ask().body, expected);
    }
}
