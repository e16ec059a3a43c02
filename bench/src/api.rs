//! A client of pointsman's API, for what is not measured itself.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::Value;
use ureq::Agent;

/// The API of one node.
pub(crate) struct Api {
    agent: Agent,
    base: String,
}

impl Api {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            agent: Agent::new_with_defaults(),
            base: format!("http://{address}"),
        }
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.agent.put(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json");
        let mut answer = request
            .send(body.to_string().as_bytes())
            .with_context(|| format!("PUT {path}"))?;
        // Read, so that the connection can be used again.
        answer.body_mut().read_to_vec()?;
        Ok(())
    }

    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<()> {
        let mut answer = self
            .agent
            .delete(format!("{}{path}", self.base))
            .call()
            .with_context(|| format!("DELETE {path}"))?;
        answer.body_mut().read_to_vec()?;
        Ok(())
    }

    pub(crate) fn read(&self, path: &str) -> anyhow::Result<String> {
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.base))
            .call()
            .with_context(|| format!("GET {path}"))?;
        Ok(answer
            .body_mut()
            .with_config()
            .limit(u64::MAX)
            .read_to_string()?)
    }

    /// The registry's numbers: `pointsman_registry_NAME` by name.
    pub(crate) fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(self.read("/metrics")?))
    }
}

/// The metrics at a moment.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of the samples of a metric of the registry.
    pub(crate) fn registry(&self, name: &str) -> f64 {
        let name = format!("pointsman_registry_{name}");
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(&name)?;
            let sample = rest.starts_with([' ', '{']);
            sample.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    }
}
