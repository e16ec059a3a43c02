//! Makes routes' filters out of the configuration. What limits remember is kept as long as the limit stays what it is.

use std::sync::Arc;

use config::PageSource;
use model::{
    BasicAuth, Concurrency, ConcurrencyLimit, ErrorPage, Filters, KeyTable, LimitKey, RateLimit,
};

use super::files::Files;

/// The filters of a route; `None` if they do nothing. `before` are those that the route had.
pub(super) fn made_of(
    config: &config::Filters,
    before: Option<&Filters>,
    secret: [u64; 2],
    files: &Files,
) -> Option<Arc<Filters>> {
    if *config == config::Filters::default() {
        return None;
    }
    let rate_limit = |limit: &config::RateLimit| {
        let rate = limit.rate();
        let known = before.and_then(|b| b.rate_limits.iter().find(|l| l.rate == rate));
        let new = || {
            let keys = KeyTable::new(rate.max_keys, secret);
            Arc::new(RateLimit { rate, keys })
        };
        known.cloned().unwrap_or_else(new)
    };
    let concurrency = |limit: &Concurrency| {
        let known = before.and_then(|b| b.concurrency.iter().find(|l| l.limit == *limit));
        let new = || {
            let keys = match limit.key {
                // One for all needs one.
                LimitKey::Route => 1,
                _ => limit.max_keys,
            };
            Arc::new(ConcurrencyLimit {
                limit: limit.clone(),
                keys: KeyTable::new(keys, secret),
            })
        };
        known.cloned().unwrap_or_else(new)
    };
    Some(Arc::new(Filters {
        access: config.access.clone(),
        rate_limits: config.rate_limits.iter().map(rate_limit).collect(),
        bandwidth: config.bandwidth,
        compress: config.compress.clone(),
        cors: config.cors.clone(),
        error_pages: config
            .error_pages
            .iter()
            .map(|page| error_page(page, files))
            .collect(),
        max_body: config.max_body.map(|size| size.0),
        basic_auth: config
            .basic_auth
            .as_ref()
            .map(|auth| basic_auth(auth, files)),
        concurrency: config.concurrency.iter().map(concurrency).collect(),
        rewrite: config.rewrite.clone(),
        host: config.host.clone(),
        request_headers: config.request_headers.clone(),
        response_headers: config.response_headers.clone(),
    }))
}

/// Users of the file and of the configuration; whoever is in both has the configuration's password.
fn basic_auth(auth: &config::BasicAuth, files: &Files) -> BasicAuth {
    let file = auth.file.as_ref().and_then(|path| files.users(path));
    let users = match file {
        Some(file) if auth.users.is_empty() => file.clone(),
        file => {
            let mut users = file.map(|file| (**file).clone()).unwrap_or_default();
            users.extend(auth.users.clone());
            Arc::new(users)
        }
    };
    BasicAuth {
        realm: auth.realm.clone(),
        users,
    }
}

fn error_page(page: &config::ErrorPage, files: &Files) -> ErrorPage {
    ErrorPage {
        status: page.status.clone(),
        body: match &page.page {
            PageSource::Text(text) => (**text).into(),
            // It was read before the configuration was taken over.
            PageSource::File(path) => files.page(path).cloned().unwrap_or_default(),
        },
        content_type: page.content_type.clone(),
        intercept: page.intercept,
    }
}
