//! Reads AWS's XML answers: children by name, namespaces left aside. Over roxmltree, which refuses document types.

use std::str;

use roxmltree::{Document, Node, ParsingOptions};

use super::call::Unreadable;

/// The most nodes an answer may have. The longest page (1000 instances with all they say) has some 200,000.
const MAX_NODES: u32 = 1_000_000;

/// Reads an answer's root element.
///
/// # Errors
/// It is not XML, or `read` says so.
pub(crate) fn read<T>(body: &[u8], read: impl FnOnce(Element<'_, '_>) -> Result<T, Unreadable>) -> Result<T, Unreadable> {
    let text = str::from_utf8(body).map_err(|why| Unreadable(format!("the answer is not UTF-8: {why}")))?;
    let options = ParsingOptions {
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    let document =
        Document::parse_with_options(text, options).map_err(|why| Unreadable(format!("the answer is not XML: {why}")))?;
    read(Element(document.root_element()))
}

/// A text as it may stand in an element.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'d, 'i>(Node<'d, 'i>);

impl<'d, 'i> Element<'d, 'i> {
    /// Its name without a namespace.
    pub(crate) fn name(self) -> &'d str {
        self.0.tag_name().name()
    }

    /// Its children of that name.
    pub(crate) fn all(self, name: &str) -> impl Iterator<Item = Element<'d, 'i>> {
        self.0
            .children()
            .filter(move |node| node.is_element() && node.tag_name().name() == name)
            .map(Element)
    }

    /// Its first child of that name.
    pub(crate) fn child(self, name: &str) -> Option<Element<'d, 'i>> {
        self.all(name).next()
    }

    /// Its first child of that name, which has to be there.
    pub(crate) fn need(self, name: &str) -> Result<Element<'d, 'i>, Unreadable> {
        self.child(name)
            .ok_or_else(|| Unreadable(format!("<{}> lacks <{name}>", self.name())))
    }

    /// The text in it, without the white space around it; an empty one counts as none.
    pub(crate) fn own_text(self) -> Option<String> {
        let text: String = self
            .0
            .children()
            .filter(|node| node.is_text())
            .filter_map(|node| node.text())
            .collect();
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The text of a child.
    pub(crate) fn text(self, name: &str) -> Option<String> {
        self.child(name).and_then(Element::own_text)
    }

    /// The text of a child that has to be there.
    pub(crate) fn need_text(self, name: &str) -> Result<String, Unreadable> {
        self.text(name)
            .ok_or_else(|| Unreadable(format!("<{}> lacks <{name}>", self.name())))
    }

    /// A child's text as anything that can be read from text.
    pub(crate) fn parsed<T: str::FromStr>(self, name: &str) -> Result<Option<T>, Unreadable> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Unreadable(format!("<{name}> is {text:?}"))),
        }
    }

    /// A list: the `inner` elements (`item`, `member`) of a child; none when it is absent.
    pub(crate) fn list(self, name: &str, inner: &'static str) -> impl Iterator<Item = Element<'d, 'i>> {
        self.child(name).into_iter().flat_map(move |list| list.all(inner))
    }
}
