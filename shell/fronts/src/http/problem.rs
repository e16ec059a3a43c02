//! Errors as RFC 9457 describes them.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::fault::{Fault, Faults};
use crate::{NoInstance, PassedOver, Reason, Refused};

/// An answer that says what went wrong.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    body: Body,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Serialize)]
struct Body {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passed_over: Vec<PassedOver>,
}

impl Problem {
    /// A problem of the kind `name`, which programs may rely on.
    pub(crate) fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            status,
            body: Body {
                r#type: format!("urn:pointsman:problem:{name}"),
                title,
                status: status.as_u16(),
                detail: detail.into(),
                errors: Vec::new(),
                passed_over: Vec::new(),
            },
            header: None,
        })
    }

    /// Something in the request is wrong; nothing was changed.
    pub(crate) fn invalid(faults: Faults) -> Box<Self> {
        let errors = faults.into_list();
        let detail = match errors.len() {
            1 => "One thing in the request is wrong; nothing was changed.".into(),
            n => format!("{n} things in the request are wrong; nothing was changed."),
        };
        let title = "The request is not valid";
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid", title, detail);
        problem.body.errors = errors;
        problem
    }

    /// The connection is one more than there may be, and the request would hold it.
    pub(crate) fn full() -> Box<Self> {
        let detail = "As many clients are connected to this node as api.max_connections allows. What is answered at once still is; \
                      watches, long polls and what is forwarded have to go to another node, or wait until others have left.";
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(busy, "full", "Too many connections", detail).retry_after(1)
    }

    /// There is no such instance.
    pub(crate) fn no_such_instance() -> Box<Self> {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-instance",
            "No such instance",
            "It was never registered, or was removed since; register it with PUT.",
        )
    }

    /// No instance of the service can be sent work.
    pub(crate) fn no_instance(service: &str, none: NoInstance) -> Box<Self> {
        let detail = match none.passed_over.len() {
            0 => format!("{service} has no instances."),
            n => format!("{service} has {n} instances, and none can be sent work now."),
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let title = "No instance is available";
        Self::new(status, "no-instance", title, detail)
            .passed_over(none)
            .retry_after(1)
    }

    /// Adds the instances that were passed over.
    pub(crate) fn passed_over(mut self: Box<Self>, none: NoInstance) -> Box<Self> {
        self.body.passed_over = none.passed_over;
        self
    }

    /// Adds the seconds after which trying again makes sense (RFC 9110 §10.2.3).
    pub(crate) fn retry_after(self: Box<Self>, seconds: u32) -> Box<Self> {
        self.with(header::RETRY_AFTER, seconds.into())
    }

    /// Adds a header field.
    pub(crate) fn with(mut self: Box<Self>, name: HeaderName, value: HeaderValue) -> Box<Self> {
        self.header = Some((name, value));
        self
    }
}

impl From<Refused> for Box<Problem> {
    fn from(refused: Refused) -> Self {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        let (status, name, title, seconds) = match refused.reason {
            Reason::Overloaded => (busy, "overloaded", "Too many writes at once", 1),
            Reason::TooLarge => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                return Problem::new(status, "too-large", "Too large", refused.detail);
            }
            Reason::NotWritten => (busy, "not-written", "It was not written", 5),
            // Somebody has to look at the disk first.
            Reason::ReadOnly => (busy, "read-only", "The node takes no writes", 60),
            Reason::NoLeader => (busy, "no-leader", "No node leads the cluster", 1),
            Reason::Stale => (busy, "too-stale", "This node may not be new enough", 1),
            Reason::Unchanged => {
                let status = StatusCode::CONFLICT;
                let title = "The cluster was not changed";
                return Problem::new(status, "cluster-unchanged", title, refused.detail);
            }
            Reason::Interrupted => (busy, "interrupted", "It may have been written, or not", 1),
            Reason::TooNew => {
                let status = StatusCode::CONFLICT;
                let title = "Not all nodes of the cluster could read it";
                return Problem::new(status, "older-nodes", title, refused.detail);
            }
            // Another node may be there at once, and this one in seconds.
            Reason::Closing => (busy, "closing", "The node is shutting down", 2),
        };
        Problem::new(status, name, title, refused.detail).retry_after(seconds)
    }
}

impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// No such path.
pub(crate) async fn not_found() -> Box<Problem> {
    let detail = "The paths there are are listed at / and described at /openapi.json.";
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-path",
        "No such path",
        detail,
    )
}

/// No such method on this path; the router adds the `Allow` header.
pub(crate) async fn method_not_allowed() -> Box<Problem> {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "This method is not possible here",
        "The header Allow names the methods that are.",
    )
}
