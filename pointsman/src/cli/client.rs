//! Talks to a node's API.

use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use ureq::http::{StatusCode, Uri};

use super::Remote;

/// How long a node may take until its answer begins: one that is frozen must not keep a command from the next, or for ever. What
/// waits for a leader is refused after five seconds.
const ANSWER: Duration = Duration::from_secs(10);
/// The same, where the cluster is changed: a new node gets all that there is before it votes.
const CHANGE: Duration = Duration::from_secs(120);

/// The API of a node, or of several that are asked in turn until one answers.
pub(super) struct Client<'a> {
    remote: &'a Remote,
    agent: ureq::Agent,
    /// Which of them answered last: it is asked first.
    at: Cell<usize>,
}

/// A node answered, and does not do what it was asked for.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl std::error::Error for Refused {}

type Response = ureq::http::Response<ureq::Body>;

/// Reads where an API is.
pub(super) fn api(text: &str) -> Result<String, String> {
    let url = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let detail = "write http://HOST:PORT, or HOST:PORT";
    let uri = url.parse::<Uri>().map_err(|e| format!("{e}; {detail}"))?;
    match uri.scheme_str() {
        Some("http") => Ok(url.trim_end_matches('/').to_owned()),
        _ => Err(format!("an API speaks http; {detail}")),
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(remote: &'a Remote) -> Self {
        Self::with(remote, ANSWER, None)
    }

    /// One for changes of the cluster.
    pub(super) fn patient(remote: &'a Remote) -> Self {
        Self::with(remote, CHANGE, None)
    }

    /// One that asks the next node where one takes longer than `patience` until all of its answer is there.
    pub(super) fn waiting(remote: &'a Remote, patience: Duration) -> Self {
        Self::with(remote, patience, Some(patience))
    }

    fn with(remote: &'a Remote, answer: Duration, whole: Option<Duration>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(3)))
            .timeout_recv_response(Some(answer))
            .timeout_global(whole)
            .build();
        Self {
            remote,
            agent: config.into(),
            at: Cell::new(0),
        }
    }

    /// Asks the nodes in turn, as long as one cannot be reached, or has others to do what it cannot do at present.
    fn ask(
        &self,
        call: impl Fn(&str) -> Result<Response, ureq::Error>,
    ) -> anyhow::Result<Response> {
        let apis = &self.remote.api;
        let first = self.at.get();
        let mut answer = None;
        for at in (first..apis.len()).chain(0..first) {
            let found = call(&apis[at]);
            if found
                .as_ref()
                .is_ok_and(|r| r.status() != StatusCode::SERVICE_UNAVAILABLE)
            {
                self.at.set(at);
                return found.map_err(|fault| self.unreachable(&fault));
            }
            // What a node said tells more than that another is not there.
            if found.is_ok() || answer.is_none() {
                answer = Some(found);
            }
        }
        let answer = answer.context("no API is named")?;
        answer.map_err(|fault| self.unreachable(&fault))
    }

    /// An API path in the chosen namespace, with its query. Segments are encoded.
    pub(super) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> String {
        let namespace = [("namespace", self.remote.namespace.as_str())];
        self.url_of_all(segments, &[&namespace, query].concat())
    }

    /// An API path that is about no namespace.
    pub(super) fn url_of_all(&self, segments: &[&str], query: &[(&str, &str)]) -> String {
        let mut url = String::new();
        for segment in segments {
            url.push('/');
            url.push_str(&encoded(segment));
        }
        for (i, (name, value)) in query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&encoded(value));
        }
        url
    }

    pub(super) fn read(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.ask(|api| self.agent.get(format!("{api}{path}")).call())?)
    }

    pub(super) fn remove(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.ask(|api| self.agent.delete(format!("{api}{path}")).call())?)
    }

    pub(super) fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.ask(|api| self.agent.put(format!("{api}{path}")).send_json(body))?)
    }

    pub(super) fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.ask(|api| self.agent.post(format!("{api}{path}")).send_empty())?)
    }

    pub(super) fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = body.to_string();
        self.answer(self.ask(|api| {
            let request = self.agent.patch(format!("{api}{path}"));
            request
                .content_type("application/merge-patch+json")
                .send(&body)
        })?)
    }

    /// Bytes of a known end.
    pub(super) fn download(&self, path: &str) -> anyhow::Result<impl Read + use<>> {
        let response = self.ask(|api| self.agent.get(format!("{api}{path}")).call())?;
        if response.status() != 200 {
            self.answer(response)?;
            bail!("the node answered something else than a snapshot");
        }
        Ok(response.into_body().into_reader())
    }

    /// A stream of bytes that goes on until the node ends it.
    pub(super) fn stream(
        &self,
        path: &str,
        last: Option<&str>,
    ) -> anyhow::Result<ureq::BodyReader<'static>> {
        self.streamed(self.ask(|api| self.follow(api, path, last))?)
    }

    /// The same, from the node whose API is there.
    pub(super) fn stream_at(
        &self,
        api: &str,
        path: &str,
        last: Option<&str>,
    ) -> anyhow::Result<ureq::BodyReader<'static>> {
        let response = self.follow(api, path, last);
        self.streamed(response.map_err(|fault| self.unreachable(&fault))?)
    }

    fn follow(&self, api: &str, path: &str, last: Option<&str>) -> Result<Response, ureq::Error> {
        let mut request = self.agent.get(format!("{api}{path}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.call()
    }

    fn streamed(&self, response: Response) -> anyhow::Result<ureq::BodyReader<'static>> {
        if response.status() != 200 {
            self.answer(response)?;
            bail!("the node answered something else than a stream");
        }
        Ok(response.into_body().into_reader())
    }

    fn answer(&self, mut response: Response) -> anyhow::Result<Value> {
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string();
        let text = text.context("the node's answer broke off")?;
        if status.is_success() {
            return match text.is_empty() {
                true => Ok(Value::Null),
                false => serde_json::from_str(&text).context("the node's answer is no JSON"),
            };
        }
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut detail = { problem["detail"].as_str() }
            .unwrap_or(text.trim())
            .to_owned();
        for fault in problem["errors"].as_array().into_iter().flatten() {
            let place = ["pointer", "parameter", "header"]
                .iter()
                .find_map(|p| fault[p].as_str());
            let what = fault["detail"].as_str().unwrap_or_default();
            detail.push_str(&format!("\n  {}: {what}", place.unwrap_or("the body")));
        }
        Err(Refused { status, detail }.into())
    }

    fn unreachable(&self, fault: &ureq::Error) -> anyhow::Error {
        let at = self.remote.api.join(" or ");
        let late = matches!(fault, ureq::Error::Timeout(ureq::Timeout::RecvResponse));
        let what = match late {
            true => format!(
                "no node answers in time at {at}; what was asked for may have been done. See whether the node is frozen or \
                 overloaded, or name another with --api"
            ),
            false => format!(
                "no node answers at {at}; start one with `pointsman serve`, or name another with --api"
            ),
        };
        anyhow!("{fault}").context(what)
    }
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:@".contains(&b);
    let mut out = String::new();
    for byte in text.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
