//! Requests that a foreign web page has its visitor's browser send.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::fault::clip;
use super::problem::Problem;
use crate::Names;

/// Lets through what is no foreign page's.
pub(crate) async fn refuse(State(api): Shared, request: Request, next: Next) -> Response {
    let names = &api.options.names;
    let judged = called_by_name(names, &request).and_then(|()| same_origin(names, &request));
    match judged {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Refuses to answer by a name that may be anybody's, not even reads: see [`Names`].
fn called_by_name(names: &Names, request: &Request) -> Result<(), Box<Problem>> {
    let Some(stranger) = names.stranger(request.uri(), request.headers()) else {
        return Ok(());
    };
    let detail = format!(
        "The API does not go by the name {}, which a web page may have led here. Call it by its address or as localhost; or, if the \
         name is yours, add it to api.names in the configuration.",
        clip(&stranger)
    );
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "unknown-host",
        "The API does not go by this name",
        detail,
    ))
}

/// Refuses changes that a foreign page asks for. A browser names the page's origin in every such request (Fetch §3.2), other clients
/// name none. Where any name is answered to, one that was not said to be the API's own may still be anybody's.
fn same_origin(names: &Names, request: &Request) -> Result<(), Box<Problem>> {
    let headers = request.headers();
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let host = headers
        .get(header::HOST)
        .map_or(&[][..], |host| host.as_bytes());
    let host = String::from_utf8_lossy(host);
    let authority = origin
        .split_once("://")
        .map_or("", |(_, authority)| authority);
    let is_own = authority.eq_ignore_ascii_case(&host) && names.own(&host);
    if request.method().is_safe() || is_own {
        return Ok(());
    }
    let detail = format!(
        "A page from {} may not change anything here.",
        clip(&origin)
    );
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "foreign-origin",
        "The request comes from a foreign web page",
        detail,
    ))
}
