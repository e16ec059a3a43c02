//! What a request says in its path, its query and its header.

use std::borrow::Cow;
use std::net::IpAddr;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use model::{CertificateName, InstanceId, NameError, Namespace, ServiceKey, ServiceName};

use super::fault::{Faults, clip, unknown};
use super::problem::Problem;

/// Parameters of a request, and whatever is wrong with it so far.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) headers: HeaderMap,
    pub(crate) faults: Faults,
    path: Vec<(Box<str>, Box<str>)>,
    query: Vec<(String, String)>,
    known: Vec<&'static str>,
}

/// The most parameters in a query; nothing takes more than a few.
const MAX_PARAMETERS: usize = 100;

impl<S: Send + Sync> FromRequestParts<S> for Input {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        same_origin(parts)?;
        let mut faults = Faults::default();
        let mut path = Vec::new();
        match RawPathParams::from_request_parts(parts, state).await {
            Ok(params) => path.extend(params.iter().map(|(n, v)| (n.into(), v.into()))),
            Err(_) => faults.parameter("path", "is not UTF-8 once it is decoded"),
        }
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let query: Vec<_> = form_urlencoded::parse(query)
            .take(MAX_PARAMETERS)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        Ok(Self {
            headers: std::mem::take(&mut parts.headers),
            faults,
            path,
            query,
            known: Vec::new(),
        })
    }
}

impl Input {
    /// The service named in the path, and the namespace of the query.
    pub(crate) fn service_key(&mut self) -> Option<ServiceKey> {
        let service = self.in_path::<ServiceName>("service");
        let namespace = self.namespace();
        Some(ServiceKey {
            namespace: namespace?,
            service: service?,
        })
    }

    /// The instance named in the path.
    pub(crate) fn instance_id(&mut self) -> Option<InstanceId> {
        self.in_path("id")
    }

    /// The certificate named in the path.
    pub(crate) fn certificate_name(&mut self) -> Option<CertificateName> {
        self.in_path("certificate")
    }

    /// The node named in the path.
    pub(crate) fn node_name(&mut self) -> Option<Box<str>> {
        let (_, name) = self.path.iter().find(|(n, _)| **n == *"name")?;
        let name = name.clone();
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            let detail = "is no name of a node: 1 to 255 bytes, without control characters";
            self.faults.parameter("name", detail);
            return None;
        }
        Some(name)
    }

    /// The namespace of the query.
    pub(crate) fn namespace(&mut self) -> Option<Namespace> {
        match self.parameter("namespace") {
            None => Some(Namespace::default()),
            Some(text) => self.read("namespace", &text, |text| {
                text.parse().map_err(|e: NameError| e.to_string())
            }),
        }
    }

    /// A parameter of the query that may be given once.
    pub(crate) fn parameter(&mut self, name: &'static str) -> Option<String> {
        let mut given = self.parameters(name);
        if given.len() > 1 {
            self.faults.parameter(name, "is given twice; once is meant");
        }
        (!given.is_empty()).then(|| given.swap_remove(0))
    }

    /// A parameter of the query that may be given several times.
    pub(crate) fn parameters(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let named = |(n, v): &(String, String)| (n == name).then(|| v.clone());
        self.query.iter().filter_map(named).collect()
    }

    /// A parameter of the query, read by `read`, which says what is wrong with it.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.parameter(name)?;
        self.read(name, &text, read)
    }

    /// All parameters have been asked for. Whatever else is given is a fault: a filter that is misspelled would
    /// let everything through.
    ///
    /// # Errors
    ///
    /// If anything is wrong with the request.
    pub(crate) fn finish(mut self) -> Result<HeaderMap, Box<Problem>> {
        for (name, _) in &self.query {
            if !self.known.contains(&name.as_str()) {
                self.faults.parameter(name, unknown(name, &self.known));
            }
        }
        match self.faults.is_empty() {
            true => Ok(self.headers),
            false => Err(Problem::invalid(self.faults)),
        }
    }

    fn in_path<T: FromStr<Err = NameError>>(&mut self, name: &'static str) -> Option<T> {
        let found = self.path.iter().find(|(n, _)| **n == *name)?;
        match found.1.parse() {
            Ok(value) => Some(value),
            Err(e) => {
                self.faults.parameter(name, e.to_string());
                None
            }
        }
    }

    fn read<T>(
        &mut self,
        name: &str,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(text) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.faults.parameter(name, detail);
                None
            }
        }
    }
}

/// Refuses changes that a foreign web page asks its visitor's browser for. A browser names the page's origin
/// in every such request (Fetch §3.2), other clients name none.
///
/// A page from here has an address or `localhost` for its origin: a name may be anybody's, who has it lead to this address once
/// the page is loaded (DNS rebinding).
fn same_origin(parts: &Parts) -> Result<(), Box<Problem>> {
    let Some(origin) = parts.headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let host = parts.headers.get(header::HOST);
    let host = host.map_or(Cow::Borrowed(""), |host| {
        String::from_utf8_lossy(host.as_bytes())
    });
    let authority = origin
        .split_once("://")
        .map_or("", |(_, authority)| authority);
    let is_own = authority.eq_ignore_ascii_case(&host) && is_nobody_elses(&host);
    if parts.method.is_safe() || is_own {
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

/// Whether a host, with its port or without, is no name that somebody could lead elsewhere.
fn is_nobody_elses(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}
