//! The JSON protocol's requests and answers.

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};

use super::call::{Ask, Page, Reply, Unreadable};

/// A request: `target` is the operation with its service's prefix, `AmazonSSM.GetParameter`.
pub(crate) fn ask(target: String, body: &Value) -> Ask {
    Ask {
        method: Method::POST,
        path: "/".to_owned(),
        query: Vec::new(),
        headers: vec![
            ("content-type".into(), "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target".into(), target),
        ],
        body: Bytes::from(body.to_string()),
    }
}

/// Puts a text in, when there is one.
pub(crate) fn put_some(body: &mut Value, name: &str, value: Option<&String>) {
    if let (Some(object), Some(value)) = (body.as_object_mut(), value) {
        object.insert(name.to_owned(), Value::String(value.clone()));
    }
}

/// The answer's object.
pub(crate) fn read(reply: &Reply) -> Result<Map<String, Value>, Unreadable> {
    match serde_json::from_slice(&reply.body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Unreadable("the answer is no JSON object".to_owned())),
        Err(why) => Err(Unreadable(format!("the answer is not JSON: {why}"))),
    }
}

/// A text.
pub(crate) fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_owned)
}

/// A text that has to be there.
pub(crate) fn need(object: &Map<String, Value>, name: &str) -> Result<String, Unreadable> {
    text(object, name).ok_or_else(|| Unreadable(format!("the answer lacks {name}")))
}

/// A page: `list` names its objects.
pub(crate) fn page<T>(
    reply: &Reply,
    list: &str,
    read_one: impl Fn(&Map<String, Value>) -> Result<T, Unreadable>,
) -> Result<Page<T>, Unreadable> {
    let object = read(reply)?;
    let items = object
        .get(list)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let one = |item: &Value| match item.as_object() {
        Some(item) => read_one(item),
        None => Err(Unreadable(format!("{list} has what is no object"))),
    };
    Ok(Page {
        items: items.iter().map(one).collect::<Result<Vec<T>, Unreadable>>()?,
        // SSM's last page has an empty token at times.
        next: text(&object, "NextToken").filter(|token| !token.is_empty()),
    })
}
