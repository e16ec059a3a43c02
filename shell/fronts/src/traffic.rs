//! What fronts ask of the data plane.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use model::{CertificateName, Endpoint, Health, InstanceId, Role, ServiceKey, View};
use serde::Serialize;
use thiserror::Error;

/// The data plane's decisions and numbers.
pub trait Traffic: Send + Sync + 'static {
    /// An instance of the service, or of a role in it, chosen by its policy, that is none of `except`.
    ///
    /// # Errors
    ///
    /// [`NoInstance`] says why each was passed over.
    fn pick(&self, view: &View, except: &[InstanceId]) -> Result<Endpoint, NoInstance>;

    /// Makes what is picked by true to the registry as it is now: it follows that a moment later otherwise.
    fn catch_up(&self, service: &ServiceKey);

    /// Host names of instances that this node finds no address for, and why, as its resolver says it.
    fn unresolved(&self) -> Unresolved;

    /// What would be done with a request or a connection, and why.
    fn explain(&self, question: &Question) -> Explanation;

    /// All metrics, in Prometheus' text format 0.0.4.
    fn metrics(&self) -> String;

    /// Whether the node is fit to be sent work.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    fn ready(&self) -> Result<(), String>;

    /// Every certificate that this node shows to others, or was given, or is to be given. Reads files.
    fn certificates(&self) -> Vec<SeenCertificate>;

    /// Gives the node a certificate, PEM, with those that lead from it to a root, and its key. Whoever's configuration names it uses it
    /// from then on, after a restart too; nobody's connection ends. Writes files. Returns whether there was none of that name.
    ///
    /// # Errors
    ///
    /// [`CertificateRefused`] says why not; what was there before stays.
    fn set_certificate(
        &self,
        name: &CertificateName,
        certificate: &str,
        key: &str,
    ) -> Result<(bool, SeenCertificate), CertificateRefused>;

    /// Has the node forget a certificate that it was given; false if there is none.
    ///
    /// # Errors
    ///
    /// [`CertificateRefused`] says why not.
    fn remove_certificate(&self, name: &CertificateName) -> Result<bool, CertificateRefused>;
}

/// Host names without an address, and why they have none.
pub type Unresolved = BTreeMap<Box<str>, Arc<str>>;

/// A certificate as others may know it: without its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenCertificate {
    /// The name under which the node is given it; none for one from a file of the configuration's.
    pub name: Option<CertificateName>,
    /// The configuration's file.
    pub file: Option<String>,
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// The last second at which it is good; none as long as there is none of the name.
    pub expires: Option<SystemTime>,
    /// Who shows it to others: `listener web`.
    pub used_by: Vec<String>,
}

/// Why a node does not take a certificate, or keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateRefused {
    /// It cannot be used, and why.
    #[error("{0}")]
    Unusable(String),
    /// The configuration names it for these.
    #[error("it is used by {}: take it out of the configuration first", .0.join(", "))]
    InUse(Vec<String>),
    /// The disk did not take it.
    #[error("{0}")]
    NotWritten(String),
}

/// Why no instance could be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoInstance {
    /// Every instance, and why not that one. Empty when the service has none.
    pub passed_over: Vec<PassedOver>,
}

/// An instance or a route that was not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// The instance, or the route's name.
    pub id: String,
    /// Why not this one.
    pub why: String,
}

/// A request or a connection that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `http` or `https`; `None` for a bare connection to an address.
    pub scheme: Option<String>,
    /// The host asked for, lower case, without port and brackets.
    pub host: String,
    /// The port asked for, if it was named or the scheme has a customary one.
    pub port: Option<u16>,
    /// The path with its query; `/` when there is none.
    pub path: String,
    /// The method.
    pub method: String,
    /// The protocols that its TLS hello offers.
    pub alpn: Vec<String>,
    /// Where the client is.
    pub client: Option<IpAddr>,
    /// Its header fields.
    pub headers: Vec<(String, String)>,
}

/// What would be done with a request, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// The outcome in one sentence.
    pub verdict: String,
    /// Whether an instance would get it.
    pub reaches_instance: bool,
    /// The listener that takes it, if there is one.
    pub listener: Option<String>,
    /// The route that matches, if there is one.
    pub route: Option<ExplainedRoute>,
    /// The routes that come before it in the order in which they are tried, and why each does not match.
    pub passed_over: Vec<PassedOver>,
    /// What is done with the request and its answer on the way, in this order.
    pub filters: Vec<String>,
    /// The service it is sent to, if it is.
    pub service: Option<Choice>,
}

/// A route as it is explained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExplainedRoute {
    /// Its name.
    pub name: String,
    /// The hosts it serves.
    pub host: String,
    /// The paths it serves.
    pub path: String,
    /// What it does.
    pub action: String,
    /// Why this one and none of the others.
    pub why: String,
}

/// A choice among the instances of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Choice {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The role that an instance must have, if the route asks for one.
    pub role: Option<Role>,
    /// The policy that decides.
    pub policy: String,
    /// Every instance.
    pub instances: Vec<Standing>,
    /// The instance that would be chosen now.
    pub chosen: Option<String>,
}

/// How an instance stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The instance.
    pub id: String,
    /// Address and port.
    pub address: String,
    /// The registry's verdict.
    pub health: Health,
    /// Why its host name has no address at this node, if it has none.
    pub unresolved: Option<String>,
    /// What its check found it to be to the others.
    pub role: Option<Role>,
    /// Its share of the traffic.
    pub weight: u16,
    /// When its turn comes: 0 first.
    pub tier: u8,
    /// Requests and connections being served there now.
    pub in_flight: u32,
    /// Whether it could be chosen.
    pub eligible: bool,
    /// Why, or why not.
    pub why: String,
}
