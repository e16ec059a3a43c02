//! What is wrong with a request, all of it at once.

use serde::Serialize;

/// Ten thousand wrong fields are one mistake; listing them all would turn a small request into a large answer.
const MAX_FAULTS: usize = 50;

/// One thing wrong with a request: where it is, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    #[serde(flatten)]
    place: Place,
    detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// A JSON pointer into the body, as a URI fragment (RFC 6901 §6), as RFC 9457 §3 does it.
    Pointer(String),
    /// The name of a parameter in the path or the query.
    Parameter(String),
    /// The name of a header field.
    Header(String),
}

/// Everything wrong with a request.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Something is wrong in the body at `path`.
    pub(crate) fn pointer(&mut self, path: &str, detail: impl Into<String>) {
        self.push(Place::Pointer(fragment(path)), detail.into());
    }

    /// Something is wrong with a parameter.
    pub(crate) fn parameter(&mut self, name: &str, detail: impl Into<String>) {
        self.push(Place::Parameter(clip(name)), detail.into());
    }

    /// Something is wrong with a header field.
    pub(crate) fn header(&mut self, name: &str, detail: impl Into<String>) {
        self.push(Place::Header(name.into()), detail.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_list(self) -> Vec<Fault> {
        self.0
    }

    fn push(&mut self, place: Place, detail: String) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(Fault { place, detail });
        }
    }
}

/// A part of a JSON pointer: `~` and `/` have a meaning there (RFC 6901 §3).
pub(crate) fn segment(name: &str) -> String {
    clip(name).replace('~', "~0").replace('/', "~1")
}

/// What a name that is not known probably stands for, and what would be known.
pub(crate) fn unknown(name: &str, known: &[&str]) -> String {
    // A name of hundreds of characters is near to nothing, and comparing it takes time.
    let near = known
        .iter()
        .filter(|_| name.len() <= 64)
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min();
    match (near, known) {
        (Some((_, near)), _) => format!("is not known; did you mean {near:?}?"),
        (None, []) => "is not known; none are".into(),
        (None, known) => format!("is not known; known are {}", known.join(", ")),
    }
}

/// The first characters of a text that may be a megabyte long.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn fragment(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    out.push('#');
    for byte in path.bytes() {
        // RFC 3986 §3.5; the JSON pointer's own '/' and '~' are among them.
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
