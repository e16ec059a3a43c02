//! `[[listener.NAME.route.header]]` and `[[…query]]`: what a route wants of a part of a request.

use model::{Expected, PartCondition};

use crate::declare::{declare, resolved};
use crate::reader::Reader;
use crate::rule::{absent, default, required};
use crate::text::WholeRegex;
use crate::tree::Node;
use crate::value::Resolved;

declare! {
    /// What a part of the request must be: one of `value`, `regex` and `present`, or any value.
    pub(crate) struct PartKeys {
        /// The name of the header field, in any case, or of the query parameter.
        name: Box<str> => required(),
        /// The value that it must have.
        value: Option<Box<str>> => absent("see regex and present"),
        /// A regular expression that the whole value must match, such as `"v[0-9]+"`.
        regex: Option<WholeRegex> => absent("see value and present"),
        /// Whether it must be there, with whatever value; `false`: it must not.
        // What naming it without more most likely means.
        present: bool => default(true),
    }
}

resolved!(PartCondition);

impl Resolved for PartCondition {
    type Keys = PartKeys;

    fn resolve(keys: PartKeys, node: &Node, cx: &mut Reader<'_, '_>) -> Option<Self> {
        let value = match (keys.value, keys.regex, keys.present) {
            (None, None, true) => Expected::Present,
            (None, None, false) => Expected::Absent,
            (Some(value), None, true) => Expected::Exact(value),
            (None, Some(WholeRegex(regex)), true) => Expected::Regex(regex),
            _ => {
                let what = "has more than one of value, regex and present = false";
                cx.error(node.at, what, "keep one of them");
                return None;
            }
        };
        if keys.name.is_empty() {
            cx.error(node.at, "has an empty name", "write the name");
            return None;
        }
        Some(Self {
            name: keys.name,
            value,
        })
    }

    fn keys(&self) -> PartKeys {
        let (value, regex) = match &self.value {
            Expected::Present | Expected::Absent => (None, None),
            Expected::Exact(value) => (Some(value.clone()), None),
            Expected::Regex(regex) => (None, Some(WholeRegex(regex.clone()))),
        };
        PartKeys {
            name: self.name.clone(),
            value,
            regex,
            present: self.value != Expected::Absent,
        }
    }
}
