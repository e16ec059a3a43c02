//! What a route's filters do with a request before it goes anywhere, and with its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use balance::{Entry, Turn};

use http::filter::compress::{self, preferred};
use http::filter::cors::{self, Crossing};
use http::filter::{
    Credentials, Scene, credentials, remove_from_request, remove_from_response, render, rewritten,
};
use http::h1;
use http::route::normal_path;
use model::{
    Bandwidth, BasicAuth, Coding, Compress, ConcurrencyLimit, Cors, ErrorPage, Filters,
    HeaderEdits, KeyTable, LimitKey, Moment, RateLimit, Refusal, Template,
};

use super::begin::Answer;
use super::session::Session;
use crate::verify::Verdict;
use crate::worker::Worker;

/// How late a timer may be.
pub(super) const COARSE: Duration = Duration::from_millis(35);

/// How long a password may take to be verified: as many as may wait, and each of the dearest kind.
const VERIFYING: Duration = Duration::from_secs(60);

/// A request that filters look after, until its answer is over.
pub(super) struct Filtered {
    filters: Arc<Filters>,
    /// Fields that its answer gets.
    fields: Vec<(Box<str>, Box<str>)>,
    /// How the client likes answers to be compressed.
    coding: Option<Coding>,
    /// The cookie that an instance's answer sets beside its own.
    cookie: Option<Box<str>>,
    /// Why a filter answered it, if one did.
    refused: Option<Refusal>,
    /// When it may go on.
    until: Moment,
    /// Its password, which is being verified, and what good credentials are remembered by.
    verdict: Option<(Arc<Verdict>, u128)>,
    /// Its places where only so many may be at a time.
    places: Vec<Place>,
}

/// What a filter answers, and why; nothing is wrong with a browser that asks beforehand.
type Refused = (Option<Refusal>, Answer);

/// A place that is given back when it is dropped.
struct Place {
    limit: Arc<ConcurrencyLimit>,
    slot: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        balance::leave(&self.limit, self.slot);
    }
}

impl Filtered {
    fn new(filters: Arc<Filters>, fields: Vec<(Box<str>, Box<str>)>) -> Self {
        Self {
            filters,
            fields,
            coding: None,
            cookie: None,
            refused: None,
            until: Moment::ZERO,
            verdict: None,
            places: Vec::new(),
        }
    }

    /// How fast its bodies move.
    pub(super) fn bandwidth(&self) -> &Bandwidth {
        &self.filters.bandwidth
    }

    /// Names of fields that the answer is not to have from elsewhere.
    fn gone(&self) -> impl Iterator<Item = &str> {
        let cors = self.filters.cors.iter().flat_map(|_| cors::FIELDS);
        self.filters.response_headers.gone().chain(cors)
    }

    /// The page for an answer with this status, if there is one.
    fn page(&self, status: u16, intercepted: bool) -> Option<&ErrorPage> {
        let mut pages = self.filters.error_pages.iter();
        pages.find(|page| page.is_for(status) && (page.intercept || !intercepted))
    }

    /// Takes away what the answer is not to have; says how its body is to be compressed, if it is.
    fn prepare(&mut self, response: &mut h1::Response<'_>) -> Option<Coding> {
        for name in self.gone() {
            remove_from_response(response, name);
        }
        let compress = self.filters.compress.as_ref()?;
        let (dress, coding) = compress::dress(compress, self.coding, response);
        self.fields.extend(dress);
        coding
    }

    /// Changes the fields of an answer of our own.
    fn dress<'a>(&'a self, fields: &mut Vec<(&'a str, &'a str)>) {
        for gone in self.gone() {
            fields.retain(|(name, _)| !name.eq_ignore_ascii_case(gone));
        }
        fields.extend(self.fields.iter().map(|(name, value)| (&**name, &**value)));
    }
}

impl Session {
    /// Puts a request in the filters' care; what one of them answers, if one does.
    pub(super) fn filter(
        &self,
        filters: &Arc<Filters>,
        scene: &Scene<'_>,
        credentials: Option<&Credentials>,
    ) -> Option<Answer> {
        let fields = rendered(&filters.response_headers, scene);
        let mut filtered = Box::new(Filtered::new(filters.clone(), fields));
        let compress = filters.compress.as_ref();
        let likes = |compress: &Compress| preferred(&scene.request.fields, &compress.codings);
        filtered.coding = compress.and_then(likes);
        let admitted = filtered.admit(scene, credentials, &self.worker);
        let answer = admitted.err().map(|(refusal, answer)| {
            filtered.refused = refusal;
            answer
        });
        self.filtered.set(Some(filtered));
        answer
    }

    /// Holds the body to its limit; says whether the request has to wait.
    pub(super) fn bind(&self, body: &mut h1::BodyDecoder) -> bool {
        let Some(filtered) = self.filtered.take() else {
            return false;
        };
        if let Some(most) = filtered.filters.max_body {
            body.limit(most);
        }
        let waits = filtered.verdict.is_some() || filtered.until > self.worker.now();
        self.filtered.set(Some(filtered));
        waits
    }

    /// Waits for the request's turn, and for what becomes of its password; the answer, if that is not the right one.
    pub(super) async fn hold_up(&self) -> Option<Answer> {
        let (until, verdict) = self.filtered.take().map(|mut filtered| {
            let waits_for = (filtered.until, filtered.verdict.take());
            self.filtered.set(Some(filtered));
            waits_for
        })?;
        let reactor = self.worker.reactor();
        self.pause(until).await;
        let (verdict, print) = verdict?;
        let most = self.worker.now() + VERIFYING;
        loop {
            match verdict.get() {
                Some(true) => {
                    self.worker.known.add(print);
                    return None;
                }
                Some(false) => return Some(self.wrong_password()),
                None if self.worker.now() > most => return Some(busy()),
                None => reactor.a_moment().await,
            }
        }
    }

    /// Waits, unless the client leaves.
    pub(super) async fn pause(&self, until: Moment) {
        let reactor = self.worker.reactor();
        loop {
            let left = until.since(self.worker.now());
            if left.is_zero() || self.client.is_hung_up() {
                return;
            }
            // Timers are coarse, and late rather than early.
            match left.checked_sub(COARSE) {
                Some(most) if !most.is_zero() => reactor.sleep(most).await,
                _ => reactor.a_moment().await,
            }
        }
    }

    fn wrong_password(&self) -> Answer {
        let filtered = self.filtered.take().map(|mut filtered| {
            filtered.refused = Some(Refusal::Password);
            filtered
        });
        let realm = filtered
            .as_ref()
            .and_then(|f| Some(f.filters.basic_auth.as_ref()?.realm.clone()));
        self.filtered.set(filtered);
        unauthorized(&realm.unwrap_or_default())
    }

    /// The answer to a body over its limit.
    pub(super) fn too_long(&self) -> Answer {
        if let Some(mut filtered) = self.filtered.take() {
            filtered.refused = Some(Refusal::Body);
            self.filtered.set(Some(filtered));
        }
        too_long()
    }

    /// What becomes of an instance's answer before its head is written; how its body is to be compressed, if it is, and
    /// `may` be.
    pub(super) fn prepare(&self, response: &mut h1::Response<'_>, may: bool) -> Option<Coding> {
        let mut filtered = self.filtered.take()?;
        filtered.coding = filtered.coding.filter(|_| may);
        let coding = filtered.prepare(response);
        self.filtered.set(Some(filtered));
        coding
    }

    /// The answer of the instance that is asked now sets this cookie.
    pub(super) fn give_cookie(&self, cookie: Option<Box<str>>) {
        let filtered = self.filtered.take();
        // A route without filters has none to look after its requests.
        let new = || Box::new(Filtered::new(Arc::default(), Vec::new()));
        let filtered = filtered.or_else(|| cookie.is_some().then(new));
        self.filtered.set(filtered.map(|mut filtered| {
            filtered.cookie = cookie;
            filtered
        }));
    }

    /// The answer gets this field, whoever makes it.
    pub(super) fn answer_with(&self, name: &str, value: String) {
        let filtered = self.filtered.take();
        let new = || Box::new(Filtered::new(Arc::default(), Vec::new()));
        let mut filtered = filtered.unwrap_or_else(new);
        filtered.fields.push((name.into(), value.into()));
        self.filtered.set(Some(filtered));
    }

    /// Lends the fields that an instance's answer gets beside its own.
    pub(super) fn with_fields<T>(&self, f: impl FnOnce(&[(Box<str>, Box<str>)]) -> T) -> T {
        let Some(mut filtered) = self.filtered.take() else {
            return f(&[]);
        };
        if let Some(cookie) = filtered.cookie.take() {
            filtered.fields.push(("set-cookie".into(), cookie));
        }
        let result = f(&filtered.fields);
        self.filtered.set(Some(filtered));
        result
    }

    /// Lends the fields of an answer of our own, as filters leave them.
    pub(super) fn with_dressed<T>(
        &self,
        answer: &Answer,
        f: impl FnOnce(&[(&str, &str)]) -> T,
    ) -> T {
        let filtered = self.filtered.take();
        let own = answer.fields.iter().map(|(name, value)| (*name, &**value));
        let mut fields: Vec<_> = own.collect();
        if let Some(filtered) = &filtered {
            filtered.dress(&mut fields);
        }
        let result = f(&fields);
        self.filtered.set(filtered);
        result
    }

    /// Whether a page takes the place of what an instance answers with this status.
    pub(super) fn intercepts(&self, status: u16) -> bool {
        let filtered = self.filtered.take();
        let page = filtered
            .as_ref()
            .and_then(|filtered| filtered.page(status, true));
        let intercepts = page.is_some();
        self.filtered.set(filtered);
        intercepts
    }

    /// An answer of our own with the page that the route has for it.
    pub(super) fn paged(&self, answer: &Answer) -> Option<Answer> {
        let filtered = self.filtered.take();
        let page = filtered
            .as_ref()
            .and_then(|filtered| filtered.page(answer.status, false));
        let paged = page.map(|page| {
            let mut fields = answer.fields.clone();
            fields.retain(|(name, _)| *name != "content-type");
            fields.push(("content-type", page.content_type.clone()));
            Answer {
                status: answer.status,
                fields,
                body: (&*page.body).into(),
                why: answer.why,
            }
        });
        self.filtered.set(filtered);
        paged
    }

    /// The request is over: why a filter answered it, if one did.
    pub(super) fn unfilter(&self) -> Option<Refusal> {
        self.filtered.take()?.refused
    }
}

/// Appends the request as the filters want it to go to an instance, and with the field of this name that tells the time left, if
/// it `tells`.
pub(super) fn write_changed(
    filters: Option<&Filters>,
    time_left: Option<(&str, bool)>,
    scene: &Scene<'_>,
    forward: &h1::ForwardRequest<'_>,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let mut request = scene.request.clone();
    let (mut target, mut host, mut fields) = (None, None, Vec::new());
    if let Some(filters) = filters {
        for name in filters.request_headers.gone() {
            remove_from_request(&mut request, name);
        }
        let rewrite = filters.rewrite.as_ref();
        target = rewrite.map(|rewrite| rewritten(rewrite, scene.request));
        host = filters.host.as_ref().map(|host| {
            let mut authority = Vec::new();
            render(host, scene, &mut authority);
            authority
        });
        for (name, value) in rendered(&filters.request_headers, scene) {
            fields.extend_from_slice(name.as_bytes());
            fields.extend_from_slice(b": ");
            fields.extend_from_slice(value.as_bytes());
            fields.extend_from_slice(b"\r\n");
        }
    }
    if let Some((name, tells)) = time_left {
        // Behind all others: see `deadline::told`.
        remove_from_request(&mut request, name);
        if tells {
            fields.extend_from_slice(name.as_bytes());
            fields.extend_from_slice(b": 0\r\n");
        }
    }
    let forward = h1::ForwardRequest {
        changed: h1::Changed {
            target: target.as_deref(),
            host: host.as_deref(),
            fields: &fields,
        },
        ..*forward
    };
    h1::write_request(&request, &forward, out)
}

/// The fields that a message gets.
fn rendered(edits: &HeaderEdits, scene: &Scene<'_>) -> Vec<(Box<str>, Box<str>)> {
    let field = |(name, template): &(Box<str>, Template)| {
        let mut value = Vec::new();
        render(template, scene, &mut value);
        // What comes from a request is ASCII wherever a template can name it.
        let value = String::from_utf8_lossy(&value);
        (name.clone(), value.into())
    };
    edits.set.iter().chain(&edits.add).map(field).collect()
}

impl Filtered {
    /// Asks one filter after the other whether the request may go on.
    fn admit(
        &mut self,
        scene: &Scene<'_>,
        credentials: Option<&Credentials>,
        worker: &Worker,
    ) -> Result<(), Refused> {
        let (filters, now) = (self.filters.clone(), worker.now());
        if !filters.access.allows(scene.client) {
            let answer = Answer::text(403, "clients at this address have no access");
            return Err((Some(Refusal::Address), answer));
        }
        if let Some(cors) = &filters.cors {
            self.cross(cors, scene)?;
        }
        for limit in &filters.rate_limits {
            self.take_turn(limit, scene, now)?;
        }
        if let (Some(most), h1::Framing::Length(length)) = (filters.max_body, scene.request.framing)
            && length > most
        {
            return Err((Some(Refusal::Body), too_long()));
        }
        if let Some(auth) = &filters.basic_auth {
            self.check_password(auth, credentials, worker)?;
        }
        for limit in &filters.concurrency {
            self.take_place(limit, scene)?;
        }
        Ok(())
    }

    /// Asks for the request's origin, and answers a browser that asks beforehand: it has neither a password nor a cookie yet.
    fn cross(&mut self, cors: &Cors, scene: &Scene<'_>) -> Result<(), Refused> {
        match cors::cross(cors, scene.request) {
            Crossing::Goes(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name.into(), value));
                self.fields.extend(fields);
                Ok(())
            }
            Crossing::Asked(fields) => {
                let mut answer = Answer::text(204, "");
                (answer.body, answer.fields) = ("".into(), Vec::new());
                let fields = fields.into_iter().map(|(name, value)| (name.into(), value));
                self.fields.extend(fields);
                Err((None, answer))
            }
            Crossing::Refused => {
                let answer = Answer::text(403, "pages of this site may not ask for this");
                Err((Some(Refusal::Origin), answer))
            }
        }
    }

    /// Whether the password is the right one, as far as that can be said at once.
    fn check_password(
        &mut self,
        auth: &BasicAuth,
        credentials: Option<&Credentials>,
        worker: &Worker,
    ) -> Result<(), Refused> {
        let wrong = || Err((Some(Refusal::Password), unauthorized(&auth.realm)));
        let Some(credentials) = credentials else {
            return wrong();
        };
        let password = &credentials.password;
        let (verdict, print) = match auth.users.get(&credentials.user) {
            Some(hashed) => {
                let print = worker.known.print(hashed, credentials);
                if worker.known.has(print) {
                    return Ok(());
                }
                (worker.verifier.verify(hashed, password), print)
            }
            // As if it were somebody's: who is a user must not be told by the time it takes.
            None => match auth.users.values().next() {
                Some(somebody) => (worker.verifier.refuse(somebody, password), 0),
                None => return wrong(),
            },
        };
        let verdict = verdict.ok_or_else(|| (Some(Refusal::Busy), busy()))?;
        self.verdict = Some((verdict, print));
        Ok(())
    }

    fn take_turn(
        &mut self,
        limit: &RateLimit,
        scene: &Scene<'_>,
        now: Moment,
    ) -> Result<(), Refused> {
        let Some(key) = key_of(&limit.rate.key, &limit.keys, scene) else {
            return Ok(());
        };
        match balance::take_turn(limit, key, now) {
            Turn::Now => Ok(()),
            Turn::At(at) => {
                self.until = self.until.max(at);
                Ok(())
            }
            Turn::Refused(again) => {
                let wait = again.since(now).as_secs_f64().ceil().max(1.0);
                let answer = too_many("there were too many requests lately", wait as u64);
                Err((Some(Refusal::Rate), answer))
            }
        }
    }

    fn take_place(
        &mut self,
        limit: &Arc<ConcurrencyLimit>,
        scene: &Scene<'_>,
    ) -> Result<(), Refused> {
        let Some(key) = key_of(&limit.limit.key, &limit.keys, scene) else {
            return Ok(());
        };
        match balance::enter(limit, key) {
            Entry::Counted(slot) => {
                let limit = limit.clone();
                self.places.push(Place { limit, slot });
                Ok(())
            }
            Entry::Uncounted => Ok(()),
            Entry::Refused => {
                let answer = too_many("there are too many requests at a time", 1);
                Err((Some(Refusal::Concurrency), answer))
            }
        }
    }
}

/// The hash of what a limit goes by; `None` where the request has no such thing.
fn key_of(key: &LimitKey, table: &KeyTable, scene: &Scene<'_>) -> Option<u64> {
    let hash = |bytes: &[u8]| balance::key(table.secret, bytes);
    Some(match key {
        LimitKey::Source => match balance::holder(scene.client) {
            IpAddr::V4(ip) => hash(&ip.octets()),
            IpAddr::V6(ip) => hash(&ip.octets()),
        },
        LimitKey::Header(name) => hash(scene.request.fields.find(name)?),
        LimitKey::Path => hash(&normal_path(scene.request.target.path())),
        LimitKey::Route => 1,
    })
}

/// The credentials of a request to a route that asks for them.
pub(super) fn asked_credentials(
    filters: &Filters,
    request: &h1::Request<'_>,
) -> Option<Credentials> {
    filters.basic_auth.as_ref()?;
    credentials(request.fields.find("authorization")?)
}

fn busy() -> Answer {
    let mut answer = Answer::text(503, "too many passwords are being verified; try again");
    answer.fields.push(("retry-after", "1".into()));
    answer
}

fn unauthorized(realm: &str) -> Answer {
    let mut answer = Answer::text(
        401,
        "a name and a password are needed, and those given are not right",
    );
    let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
    answer.fields.push(("www-authenticate", challenge.into()));
    answer
}

fn too_many(why: &str, seconds: u64) -> Answer {
    let mut answer = Answer::text(429, why);
    answer
        .fields
        .push(("retry-after", seconds.to_string().into()));
    answer
}

fn too_long() -> Answer {
    Answer::text(413, "the request's body is longer than it may be")
}
