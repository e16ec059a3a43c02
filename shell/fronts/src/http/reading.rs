//! How new what is read must be.

use std::time::Duration;

use model::Period;

use super::Api;
use super::input::Input;
use super::problem::Problem;
use crate::Demand;

/// Nobody waits for what is older than an hour.
const MAX_STALE: Duration = Duration::from_secs(3_600);

impl Input {
    /// What the parameters `consistency` and `max_stale` demand.
    pub(crate) fn demand(&mut self) -> Option<Demand> {
        let consistency = self.optional("consistency", |text| match text {
            "local" => Ok(None),
            "linearizable" => Ok(Some(Demand::Linearizable)),
            _ => Err("must be local or linearizable".into()),
        });
        let max_stale = self.optional("max_stale", max_stale);
        if consistency.flatten().is_some() && max_stale.is_some() {
            let detail = "is nothing beside consistency=linearizable, which is newer than any; leave out one of the two";
            self.faults.parameter("max_stale", detail);
        }
        consistency.flatten().or(max_stale.map(Demand::NoOlder))
    }
}

impl Api {
    /// Waits until what is read is as new as demanded.
    pub(crate) async fn meet(&self, demand: Option<Demand>) -> Result<(), Box<Problem>> {
        match demand {
            Some(demand) => Ok(self.directory.catch_up(demand).await?),
            None => Ok(()),
        }
    }
}

fn max_stale(text: &str) -> Result<Duration, String> {
    let Period(age) = text.parse().map_err(|e: model::UnitError| e.to_string())?;
    match age <= MAX_STALE {
        true => Ok(age),
        false => Err(format!(
            "is {text}; {} at most is possible",
            Period(MAX_STALE)
        )),
    }
}
