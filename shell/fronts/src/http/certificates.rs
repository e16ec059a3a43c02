//! `/v1/certificates`: the certificates that this node shows to others. Keys go in, and never come out.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::CertificateName;
use serde::Serialize;
use serde_json::json as value;

use super::answer::{internal, json};
use super::fault::Faults;
use super::fields::Fields;
use super::input::Input;
use super::instances::{incomplete, parse};
use super::json::Node;
use super::problem::Problem;
use super::values::text;
use super::{Api, Shared};
use crate::{CertificateRefused, SeenCertificate, Traffic};

/// `GET /v1/certificates`: all of them, and who uses them.
pub(crate) async fn list(State(api): Shared, input: Input) -> Result<Response, Box<Problem>> {
    input.finish()?;
    let seen = api.on_files(<dyn Traffic>::certificates).await?;
    let views: Vec<_> = seen.iter().map(View::of).collect();
    Ok(json(StatusCode::OK, &value!({ "certificates": views })))
}

/// `PUT /v1/certificates/{certificate}`: gives the node a certificate, or another in its place.
pub(crate) async fn set(
    State(api): Shared,
    mut input: Input,
    body: Body,
) -> Result<Response, Box<Problem>> {
    let name = input.certificate_name();
    let whole = api.body(&input, body).await?;
    let read =
        parse(&whole.bytes, &mut input.faults).and_then(|body| given(&body, &mut input.faults));
    input.finish()?;
    let (Some(name), Some((certificate, key))) = (name, read) else {
        return Err(incomplete());
    };
    let set = move |traffic: &dyn Traffic| traffic.set_certificate(&name, &certificate, &key);
    let (new, seen) = api.on_files(set).await??;
    let status = match new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(json(status, &View::of(&seen)))
}

/// `DELETE /v1/certificates/{certificate}`: has the node forget it.
pub(crate) async fn remove(State(api): Shared, mut input: Input) -> Result<Response, Box<Problem>> {
    let name = input.certificate_name();
    input.finish()?;
    let name = name.ok_or_else(incomplete)?;
    match api
        .on_files(move |traffic| traffic.remove_certificate(&name))
        .await??
    {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-certificate",
            "No such certificate",
            "This node was not given one of that name; PUT gives it.",
        )),
    }
}

fn given(body: &Node<'_>, faults: &mut Faults) -> Option<(String, String)> {
    let mut fields = Fields::of(body, String::new(), faults)?;
    let owned = |node: &Node<'_>| text(node).map(str::to_owned);
    let certificate = fields.required("certificate", faults, owned);
    let key = fields.required("key", faults, owned);
    fields.finish(faults);
    Some((certificate?, key?))
}

impl Api {
    /// Has work done that waits for the disk.
    async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Traffic) -> T + Send + 'static,
    ) -> Result<T, Box<Problem>> {
        let traffic = Arc::clone(&self.traffic);
        let done = tokio::task::spawn_blocking(move || work(&*traffic)).await;
        done.map_err(|fault| internal(format!("It was broken off: {fault}.")))
    }
}

/// A certificate as it is told of.
#[derive(Serialize)]
struct View<'a> {
    name: Option<&'a str>,
    file: Option<&'a str>,
    hosts: &'a [String],
    expires: Option<String>,
    used_by: &'a [String],
}

impl<'a> View<'a> {
    fn of(seen: &'a SeenCertificate) -> Self {
        let time = |at: SystemTime| Some(jiff::Timestamp::try_from(at).ok()?.to_string());
        Self {
            name: seen.name.as_ref().map(CertificateName::as_str),
            file: seen.file.as_deref(),
            hosts: &seen.hosts,
            expires: seen.expires.and_then(time),
            used_by: &seen.used_by,
        }
    }
}

impl From<CertificateRefused> for Box<Problem> {
    fn from(refused: CertificateRefused) -> Self {
        let (status, name, title) = match &refused {
            CertificateRefused::Unusable(_) => (
                StatusCode::BAD_REQUEST,
                "certificate-unusable",
                "The certificate cannot be used",
            ),
            CertificateRefused::InUse(_) => (
                StatusCode::CONFLICT,
                "certificate-in-use",
                "The certificate is in use",
            ),
            CertificateRefused::NotWritten(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not-written",
                "The disk did not take it",
            ),
        };
        Problem::new(
            status,
            name,
            title,
            format!("{refused}. Nothing was changed."),
        )
    }
}
