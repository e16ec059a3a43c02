//! What a route's filters do with a request before it goes anywhere, and with its answer.

use std::sync::Arc;

use http::filter::{Scene, remove_from_request, remove_from_response, render, rewritten};
use http::h1;
use model::{Filters, HeaderEdits, Refusal, Template};

use super::begin::Answer;
use super::session::Session;

/// A request that filters look after, until its answer is over.
pub(super) struct Filtered {
    filters: Arc<Filters>,
    /// Fields that its answer gets.
    fields: Vec<(Box<str>, Box<str>)>,
    /// Why a filter answered it, if one did.
    refused: Option<Refusal>,
}

impl Filtered {
    /// Takes away what the answer is not to have.
    fn prepare(&self, response: &mut h1::Response<'_>) {
        for name in self.filters.response_headers.gone() {
            remove_from_response(response, name);
        }
    }

    /// Changes the fields of an answer of our own.
    fn dress<'a>(&'a self, fields: &mut Vec<(&'a str, &'a str)>) {
        for gone in self.filters.response_headers.gone() {
            fields.retain(|(name, _)| !name.eq_ignore_ascii_case(gone));
        }
        fields.extend(self.fields.iter().map(|(name, value)| (&**name, &**value)));
    }
}

impl Session {
    /// Puts a request in the filters' care; what one of them answers, if one does.
    pub(super) fn filter(&self, filters: &Arc<Filters>, scene: &Scene<'_>) -> Option<Answer> {
        let mut filtered = Box::new(Filtered {
            filters: filters.clone(),
            fields: rendered(&filters.response_headers, scene),
            refused: None,
        });
        let refused = refusal(filters, scene);
        let answer = refused.map(|(refusal, answer)| {
            filtered.refused = Some(refusal);
            answer
        });
        self.filtered.set(Some(filtered));
        answer
    }

    /// What becomes of an instance's answer before its head is written.
    pub(super) fn prepare(&self, response: &mut h1::Response<'_>) {
        if let Some(filtered) = self.filtered.take() {
            filtered.prepare(response);
            self.filtered.set(Some(filtered));
        }
    }

    /// Lends the fields that the present answer gets beside its own.
    pub(super) fn with_fields<T>(&self, f: impl FnOnce(&[(Box<str>, Box<str>)]) -> T) -> T {
        let filtered = self.filtered.take();
        let fields = filtered
            .as_ref()
            .map_or(&[][..], |filtered| &filtered.fields);
        let result = f(fields);
        self.filtered.set(filtered);
        result
    }

    /// Lends the fields of an answer of our own, as filters leave them.
    pub(super) fn with_dressed<T>(
        &self,
        answer: &Answer,
        f: impl FnOnce(&[(&str, &str)]) -> T,
    ) -> T {
        let filtered = self.filtered.take();
        let own = answer.fields.iter().map(|(name, value)| (*name, &**value));
        let mut fields: Vec<_> = own.collect();
        if let Some(filtered) = &filtered {
            filtered.dress(&mut fields);
        }
        let result = f(&fields);
        self.filtered.set(filtered);
        result
    }

    /// The request is over: why a filter answered it, if one did.
    pub(super) fn unfilter(&self) -> Option<Refusal> {
        self.filtered.take()?.refused
    }
}

/// Appends the request as the filters want it to go to an instance.
pub(super) fn write_changed(
    filters: &Filters,
    scene: &Scene<'_>,
    forward: &h1::ForwardRequest<'_>,
    out: &mut Vec<u8>,
) {
    let mut request = scene.request.clone();
    for name in filters.request_headers.gone() {
        remove_from_request(&mut request, name);
    }
    let target = filters
        .rewrite
        .as_ref()
        .map(|rewrite| rewritten(rewrite, scene.request));
    let host = filters.host.as_ref().map(|host| {
        let mut authority = Vec::new();
        render(host, scene, &mut authority);
        authority
    });
    let mut fields = Vec::new();
    for (name, value) in rendered(&filters.request_headers, scene) {
        fields.extend_from_slice(name.as_bytes());
        fields.extend_from_slice(b": ");
        fields.extend_from_slice(value.as_bytes());
        fields.extend_from_slice(b"\r\n");
    }
    let forward = h1::ForwardRequest {
        changed: h1::Changed {
            target: target.as_deref(),
            host: host.as_deref(),
            fields: &fields,
        },
        ..*forward
    };
    h1::write_request(&request, &forward, out);
}

/// The fields that a message gets.
fn rendered(edits: &HeaderEdits, scene: &Scene<'_>) -> Vec<(Box<str>, Box<str>)> {
    let field = |(name, template): &(Box<str>, Template)| {
        let mut value = Vec::new();
        render(template, scene, &mut value);
        // What comes from a request is ASCII wherever a template can name it.
        let value = String::from_utf8_lossy(&value);
        (name.clone(), value.into())
    };
    edits.set.iter().chain(&edits.add).map(field).collect()
}

/// Whether a filter answers the request, and why.
fn refusal(filters: &Filters, scene: &Scene<'_>) -> Option<(Refusal, Answer)> {
    if !filters.access.allows(scene.client) {
        let answer = Answer::text(403, "clients at this address have no access");
        return Some((Refusal::Address, answer));
    }
    None
}
