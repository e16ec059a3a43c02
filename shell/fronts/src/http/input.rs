//! What a request says in its path, its query and its header.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use model::{CertificateName, InstanceId, NameError, Namespace, ServiceKey, ServiceName};

use super::fault::{Faults, unknown};
use super::problem::Problem;
use super::serve::Spare;

/// Parameters of a request, and whatever is wrong with it so far.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) headers: HeaderMap,
    pub(crate) faults: Faults,
    /// Whether its connection is there for one short answer.
    spare: bool,
    path: Vec<(Box<str>, Box<str>)>,
    query: Vec<(String, String)>,
    known: Vec<&'static str>,
}

/// The most parameters in a query; nothing takes more than a few.
const MAX_PARAMETERS: usize = 100;

impl<S: Send + Sync> FromRequestParts<S> for Input {
    type Rejection = Box<Problem>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
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
            spare: parts.extensions.get::<Spare>().is_some(),
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

    /// For requests that hold their connection for as long as it takes.
    ///
    /// # Errors
    ///
    /// If that is there for one short answer.
    pub(crate) fn may_last(&self) -> Result<(), Box<Problem>> {
        match self.spare {
            true => Err(Problem::full()),
            false => Ok(()),
        }
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
