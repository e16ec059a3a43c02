//! Talks to a node's API.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use super::Remote;

/// A node's API.
pub(super) struct Client<'a> {
    remote: &'a Remote,
    agent: ureq::Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(remote: &'a Remote) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(3)))
            .build();
        Self {
            remote,
            agent: config.into(),
        }
    }

    /// The URL of an API path in the chosen namespace. Segments are encoded.
    pub(super) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> String {
        let namespace = [("namespace", self.remote.namespace.as_str())];
        self.url_of_all(segments, &[&namespace, query].concat())
    }

    /// The URL of an API path that is about no namespace.
    pub(super) fn url_of_all(&self, segments: &[&str], query: &[(&str, &str)]) -> String {
        let mut url = self.remote.api.trim_end_matches('/').to_owned();
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

    pub(super) fn read(&self, url: &str) -> anyhow::Result<Value> {
        self.answer(self.agent.get(url).call())
    }

    pub(super) fn remove(&self, url: &str) -> anyhow::Result<Value> {
        self.answer(self.agent.delete(url).call())
    }

    pub(super) fn put(&self, url: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.agent.put(url).send_json(body))
    }

    pub(super) fn post(&self, url: &str) -> anyhow::Result<Value> {
        self.answer(self.agent.post(url).send_empty())
    }

    pub(super) fn patch(&self, url: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self
            .agent
            .patch(url)
            .content_type("application/merge-patch+json");
        self.answer(request.send(body.to_string()))
    }

    /// Bytes of a known end.
    pub(super) fn download(&self, url: &str) -> anyhow::Result<impl Read + use<>> {
        let response = self.agent.get(url).call();
        let response = response.map_err(|fault| self.unreachable(&fault))?;
        if response.status() != 200 {
            self.answer(Ok(response))?;
            bail!("the node answered something else than a snapshot");
        }
        Ok(response.into_body().into_reader())
    }

    /// A stream of bytes that goes on until the node ends it.
    pub(super) fn stream(
        &self,
        url: &str,
        last: Option<&str>,
    ) -> anyhow::Result<impl Read + use<>> {
        let mut request = self.agent.get(url);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.call().map_err(|fault| self.unreachable(&fault))?;
        if response.status() != 200 {
            self.answer(Ok(response))?;
            bail!("the node answered something else than a stream");
        }
        Ok(response.into_body().into_reader())
    }

    fn answer(
        &self,
        outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<Value> {
        let mut response = outcome.map_err(|fault| self.unreachable(&fault))?;
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
        let detail = problem["detail"].as_str().unwrap_or(text.trim());
        let mut message = format!("{status}: {detail}");
        for fault in problem["errors"].as_array().into_iter().flatten() {
            let place = ["pointer", "parameter", "header"]
                .iter()
                .find_map(|p| fault[p].as_str());
            let detail = fault["detail"].as_str().unwrap_or_default();
            message.push_str(&format!("\n  {}: {detail}", place.unwrap_or("the body")));
        }
        Err(anyhow!(message))
    }

    fn unreachable(&self, fault: &ureq::Error) -> anyhow::Error {
        anyhow!("{fault}").context(format!(
            "no node answers at {}; start one with `pointsman serve`, or name another with --api",
            self.remote.api
        ))
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
