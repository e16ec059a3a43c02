//! `[[listener.NAME.route.filters.error_page]]`: what people see when something went wrong.

use std::path::PathBuf;

use model::StatusRange;

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::{absent, default, required};
use crate::text::FieldValue;
use crate::tree::Node;
use crate::value::Resolved;

/// A page in the place of an answer's own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// The status codes it is for, from 400 on.
    pub status: Vec<StatusRange>,
    /// What it says.
    pub page: PageSource,
    /// Its `Content-Type`.
    pub content_type: Box<str>,
    /// Whether it also takes the place of what instances say.
    pub intercept: bool,
}

/// Where a page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageSource {
    /// In this file.
    File(PathBuf),
    /// Here.
    Text(Box<str>),
}

declare! {
    /// A page in the place of an answer's own text: `file` or `body`. The status stays.
    pub(crate) struct ErrorPageKeys {
        /// The status codes it is for, from 400 on: `"404"` or `"500-599"`.
        status: Vec<StatusRange> => required(),
        /// The file with the page, in UTF-8 and up to 1 MiB. It is watched.
        file: Option<PathBuf> => absent("see body"),
        /// The page itself.
        body: Option<Box<str>> => absent("see file"),
        /// Its `Content-Type`.
        // What people look at.
        content_type: FieldValue => default(FieldValue("text/html; charset=utf-8".into())),
        /// Whether it also takes the place of answers of instances; else it is for those that are made here: no instance, no
        /// answer, no access.
        // An API's errors have bodies that somebody reads.
        intercept: bool => default(false),
    }
}

resolved!(ErrorPage);

impl Resolved for ErrorPage {
    type Keys = ErrorPageKeys;

    fn resolve(keys: ErrorPageKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        if keys.status.is_empty() || keys.status.iter().any(|range| range.first < 400) {
            cx.error(
                node.at,
                "is for no error",
                "name status codes from 400 to 599",
            );
            return None;
        }
        let page = match (keys.file, keys.body) {
            (Some(file), None) => PageSource::File(file),
            (None, Some(body)) => PageSource::Text(body),
            _ => {
                cx.error(node.at, "is not one of file and body", "keep one of them");
                return None;
            }
        };
        let FieldValue(content_type) = keys.content_type;
        Some(Self {
            status: keys.status,
            page,
            content_type,
            intercept: keys.intercept,
        })
    }

    fn keys(&self) -> ErrorPageKeys {
        let (file, body) = match self.page.clone() {
            PageSource::File(file) => (Some(file), None),
            PageSource::Text(body) => (None, Some(body)),
        };
        ErrorPageKeys {
            status: self.status.clone(),
            file,
            body,
            content_type: FieldValue(self.content_type.clone()),
            intercept: self.intercept,
        }
    }
}
