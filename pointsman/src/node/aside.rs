//! What a route has beside one service, as the data plane gets it.

use std::sync::Arc;

use model::{
    Action, Aside, Cannot, Fallback, ListenerTable, Mirror, Route, Share, Split, View, Weight,
};

use super::tables::Tables;

impl Tables {
    pub(super) fn split(
        &mut self,
        route: &config::Route,
        split: &config::Split,
        before: Option<&ListenerTable>,
    ) -> Split {
        let known = known(route, before);
        let known = match known.map(|route| &route.action) {
            Some(Action::Split(split)) => &split.shares[..],
            _ => &[],
        };
        let shares = split.shares.iter().map(|(view, weight)| {
            let service = self.service_number(view);
            let same = known.iter().find(|share| share.service == service);
            Share {
                service,
                weight: Weight(*weight),
                identity: balance::key([0; 2], view.to_string().as_bytes()),
                given: same.map_or_else(|| self.fresh(), |share| share.given.clone()),
            }
        });
        Split {
            shares: shares.collect(),
            sticky: split.sticky.clone(),
            secret: self.hash_secret(),
        }
    }

    pub(super) fn aside(
        &mut self,
        route: &config::Route,
        before: Option<&ListenerTable>,
    ) -> Option<Arc<Aside>> {
        let aside = &route.aside;
        if aside.is_empty() {
            return None;
        }
        let known = known(route, before).and_then(|route| route.aside.as_deref());
        let known_fallback = known.and_then(|aside| aside.fallback.as_ref());
        let fallback = aside.fallback.as_ref().map(|view| {
            let service = self.service_number(view);
            let same = known_fallback.filter(|fallback| fallback.service == service);
            Fallback {
                service,
                on: Cannot::ALL.map(|why| aside.fallback_on.contains(&why)),
                given: same.map_or_else(|| self.fresh(), |fallback| fallback.given.clone()),
            }
        });
        let known_mirror = known.and_then(|aside| aside.mirror.as_ref());
        let mirror = aside.mirror.as_ref().map(|mirror| {
            let service = self.service_number(&View {
                service: mirror.service.clone(),
                role: None,
            });
            let same = known_mirror.filter(|mirror| mirror.service == service);
            Mirror {
                service,
                share: mirror.share.0,
                mark_host: mirror.mark_host,
                most: mirror.max_in_flight,
                max_body: mirror.max_body.0 as usize,
                stats: same.map_or_else(|| self.fresh(), |mirror| mirror.stats.clone()),
            }
        });
        Some(Arc::new(Aside {
            fallback,
            mirror,
            timeout: aside.timeout,
        }))
    }
}

/// The route as it was.
fn known<'a>(route: &config::Route, before: Option<&'a ListenerTable>) -> Option<&'a Route> {
    before?.routes.iter().find(|r| r.name == route.name)
}
