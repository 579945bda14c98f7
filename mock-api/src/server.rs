//! Answers requests: authentication, limit, faults, data, log, in this order.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::error::Error;
use crate::fault::{Effect, Faults, Spelling, Target};
use crate::limit::{Limiter, RateLimit, Standing};
use crate::log::{Log, Request};
use crate::mutation::Mutation;
use crate::organisation::Organisation;
use crate::page::{Bend, Reader, beneath};
use crate::query::Query;
use crate::route::{Place, Route};
use crate::seconds::Seconds;
use crate::select::{select, select_nested};
use crate::spec::{By, Create, Nested, Spec};
use crate::token::{Token, Tokens};
use crate::write;

/// The largest body of a write that is read.
const MAX_BODY: usize = 1 << 20;

/// `X-PCO-API-Version` before this date is refused.
const OLDEST_VERSION: &str = "2018-08-01";

/// Everything that requests and the control plane share.
pub(crate) struct Server {
    organisations: Vec<RwLock<Organisation>>,
    now: AtomicI64,
    changes: AtomicU64,
    tokens: Mutex<Tokens>,
    limiter: Mutex<Limiter>,
    faults: Mutex<Faults>,
    log: Mutex<Log>,
}

impl Server {
    pub(crate) fn new(organisations: Vec<Organisation>, limit: Option<RateLimit>) -> Self {
        let mut tokens = Tokens::default();
        for number in 0..organisations.len() {
            tokens.add(Token::first_of(number));
        }
        Self {
            organisations: organisations.into_iter().map(RwLock::new).collect(),
            now: AtomicI64::new(Seconds::START.0),
            changes: AtomicU64::new(0),
            tokens: Mutex::new(tokens),
            limiter: Mutex::new(Limiter::new(limit)),
            faults: Mutex::default(),
            log: Mutex::default(),
        }
    }

    pub(crate) fn organisations(&self) -> usize {
        self.organisations.len()
    }

    pub(crate) fn now(&self) -> Seconds {
        Seconds(self.now.load(Ordering::Acquire))
    }

    pub(crate) fn advance(&self, seconds: i64) -> Seconds {
        Seconds(self.now.fetch_add(seconds, Ordering::AcqRel) + seconds)
    }

    pub(crate) fn read(&self, organisation: usize) -> RwLockReadGuard<'_, Organisation> {
        self.organisations[organisation]
            .read()
            .expect("no change of the data panics")
    }

    fn write(&self, organisation: usize) -> RwLockWriteGuard<'_, Organisation> {
        self.organisations[organisation]
            .write()
            .expect("no change of the data panics")
    }

    pub(crate) fn mutate(
        &self,
        organisation: usize,
        mutation: Mutation,
    ) -> Result<Vec<u64>, Error> {
        let serial = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        let now = self.now();
        mutation.apply(&mut self.write(organisation), now, serial)
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens
            .lock()
            .expect("nothing panics while it holds the tokens")
    }

    pub(crate) fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter
            .lock()
            .expect("nothing panics while it holds the limiter")
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults
            .lock()
            .expect("nothing panics while it holds the faults")
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log
            .lock()
            .expect("nothing panics while it holds the log")
    }
}

/// A request after its body was read.
struct Asked {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer on its way out, with what faults still do to it.
struct Outgoing {
    answer: Answer,
    standing: Option<Standing>,
    retry_after: Option<(u64, Spelling)>,
    period: Option<String>,
    html: bool,
    cut: bool,
    truncate: bool,
}

impl Outgoing {
    fn of(answer: Answer) -> Self {
        Self {
            answer,
            standing: None,
            retry_after: None,
            period: None,
            html: false,
            cut: false,
            truncate: false,
        }
    }
}

/// The handler of every request to the API.
pub(crate) async fn serve(
    State(server): State<Arc<Server>>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = match parts.method {
        Method::GET => Bytes::new(),
        _ => axum::body::to_bytes(body, MAX_BODY)
            .await
            .unwrap_or_default(),
    };
    let asked = Asked {
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        method: parts.method,
        headers: parts.headers,
        body,
    };
    let route = Route::parse(&asked.path);
    let token = authenticate(&server, &asked.headers);
    let outgoing = match &token {
        None => Outgoing::of(Answer::unauthorized(
            "Unknown or missing credentials (CAPUCHIN)",
        )),
        Some(token) => handle(&server, &asked, route.as_ref(), token).await,
    };
    log(&server, asked, route, token.as_deref(), &outgoing.answer);
    respond(outgoing)
}

fn authenticate(server: &Server, headers: &HeaderMap) -> Option<Arc<Token>> {
    let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    server.tokens().find(authorization)
}

fn log(
    server: &Server,
    asked: Asked,
    route: Option<Route>,
    token: Option<&Token>,
    answer: &Answer,
) {
    let entity = route.as_ref().and_then(Route::entity);
    let template = route.map_or_else(|| "unknown".to_owned(), |route| route.template);
    let template = format!("{} {template}", asked.method);
    tracing::debug!(
        path = asked.path,
        query = asked.query,
        status = answer.status,
        "request_answered"
    );
    let request = Request {
        method: asked.method.to_string(),
        path: asked.path,
        query: asked.query,
        entity,
        token: token.map(|token| token.name.clone()),
        status: answer.status,
        rows: answer.rows,
    };
    server.log().add(request, template);
}

async fn handle(server: &Server, asked: &Asked, route: Option<&Route>, token: &Token) -> Outgoing {
    let query = query_of(route, &asked.query);
    let target = target(asked, route, &query, token);
    let lowered = server.faults().limit(&target);
    let standing = server.limiter().count(&token.name, lowered, Instant::now());
    if let Some(standing) = standing.filter(Standing::exceeded) {
        return refuse(server, &target, standing);
    }
    let effects = server.faults().strike(&target);
    let mut outgoing = Outgoing {
        standing,
        ..Outgoing::of(Answer::no_content())
    };
    let mut bend = Bend::default();
    let mut query = query;
    let mut instead = None;
    for effect in effects {
        match effect {
            Effect::Delay { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            }
            Effect::Mutate { mutations } => mutate(server, token.organisation, mutations),
            Effect::Status {
                status,
                retry_after_seconds,
                spelling,
            } => {
                outgoing.retry_after = retry_after_seconds.map(|seconds| (seconds, spelling));
                instead = Some(Answer::of_status(status));
            }
            Effect::Html { status } => {
                outgoing.html = true;
                instead = Some(Answer::html(status));
            }
            Effect::Cut => outgoing.cut = true,
            Effect::Truncate => outgoing.truncate = true,
            Effect::EmptyPage => bend.empty = true,
            Effect::DropNext => bend.drop_next = true,
            Effect::CapTotal { rows } => bend.cap_total = Some(rows),
            Effect::IgnoreFilters => {
                query.conditions.clear();
                query.filters.clear();
            }
            Effect::IgnoreOrder => query.order.clear(),
            Effect::Spell { period, .. } => outgoing.period = period,
            Effect::Limit { .. } => {}
        }
    }
    outgoing.answer = match instead {
        Some(answer) => answer,
        None => answer(server, asked, route, token, &query, bend),
    };
    outgoing
}

fn query_of(route: Option<&Route>, text: &str) -> Query {
    let spec = route.and_then(Route::entity).map(crate::Entity::spec);
    spec.map_or_else(Query::default, |spec| Query::parse(text, spec))
}

fn target<'r>(
    asked: &'r Asked,
    route: Option<&Route>,
    query: &Query,
    token: &'r Token,
) -> Target<'r> {
    let listed = matches!(
        route.map(|route| route.place),
        Some(Place::List(_) | Place::Nested(..))
    );
    let page = query.offset.checked_div(query.per_page).filter(|_| listed);
    Target {
        method: asked.method.as_str(),
        path: &asked.path,
        entity: route.and_then(Route::entity),
        page,
        offset: query.offset,
        token: &token.name,
    }
}

/// The answer to a request over the limit. Only the spelling of its headers can still be bent.
fn refuse(server: &Server, target: &Target<'_>, standing: Standing) -> Outgoing {
    let (spelling, spelled_period) = match server.faults().spell(target) {
        Some(Effect::Spell {
            retry_after,
            period,
        }) => (retry_after, period),
        _ => (Spelling::default(), None),
    };
    let Standing {
        count,
        limit,
        period_seconds,
        seconds_left,
    } = standing;
    let answer = Answer::too_many_requests(count, limit, period_seconds);
    Outgoing {
        standing: Some(standing),
        retry_after: Some((seconds_left, spelling)),
        period: spelled_period,
        ..Outgoing::of(answer)
    }
}

fn mutate(server: &Server, organisation: usize, mutations: Vec<Mutation>) {
    for mutation in mutations {
        if let Err(error) = server.mutate(organisation, mutation) {
            tracing::warn!(%error, "armed_mutation_failed");
        }
    }
}

fn answer(
    server: &Server,
    asked: &Asked,
    route: Option<&Route>,
    token: &Token,
    query: &Query,
    bend: Bend,
) -> Answer {
    let Some(route) = route else {
        return Answer::not_found();
    };
    if !token.reaches(route.product) {
        return Answer::forbidden(route.product.path());
    }
    let version = asked
        .headers
        .get("x-pco-api-version")
        .and_then(|it| it.to_str().ok());
    if version.is_some_and(|version| version < OLDEST_VERSION) {
        return Answer::bad_request("This version of the API is no longer supported");
    }
    if asked.method == Method::GET {
        let organisation = server.read(token.organisation);
        let now = server.now();
        return get(&organisation, route.place, query, &asked.path, bend, now);
    }
    change(server, asked, route.place, token.organisation)
}

fn get(
    organisation: &Organisation,
    place: Place,
    query: &Query,
    path: &str,
    bend: Bend,
    now: Seconds,
) -> Answer {
    let reader = Reader {
        organisation,
        query,
    };
    let parent = ("Organization", organisation.home.organisation);
    match place {
        Place::Organisation => about(organisation),
        Place::List(spec) => {
            let selection = select(organisation, spec.entity, query, now);
            reader.list(spec, &selection, path, parent, bend)
        }
        Place::One(spec, id) => {
            let record = organisation.store(spec.entity).find(id);
            record.map_or_else(Answer::not_found, |record| reader.single(spec, record))
        }
        Place::Nested(spec, id, nested) => get_nested(&reader, (spec, id), nested, path, bend, now),
        Place::NestedOne(spec, id, nested, nested_id) => {
            let parent = organisation.store(spec.entity).find(id);
            let named =
                parent.is_some_and(|it| beneath(organisation, it, nested).contains(&nested_id));
            let record = organisation
                .store(nested.entity)
                .find(nested_id)
                .filter(|_| named);
            let spec = nested.entity.spec();
            record.map_or_else(Answer::not_found, |record| reader.single(spec, record))
        }
    }
}

fn get_nested(
    reader: &Reader<'_>,
    (spec, id): (&'static Spec, u64),
    nested: &Nested,
    path: &str,
    bend: Bend,
    now: Seconds,
) -> Answer {
    let organisation = reader.organisation;
    let Some(parent) = organisation.store(spec.entity).find(id) else {
        return Answer::not_found();
    };
    let ids = beneath(organisation, parent, nested);
    let store = organisation.store(nested.entity);
    let target = nested.entity.spec();
    if let By::One(_) = nested.by {
        let record = ids.first().and_then(|id| store.find(*id));
        return record.map_or_else(Answer::not_found, |record| reader.single(target, record));
    }
    let mut positions: Vec<u32> = ids
        .iter()
        .filter_map(|id| store.position(*id))
        .map(|position| u32::try_from(position).expect("a store holds fewer than 2^32 records"))
        .collect();
    positions.sort_unstable();
    let selection = select_nested(organisation, nested.entity, positions, reader.query, now);
    reader.list(target, &selection, path, (spec.kind, id), bend)
}

fn about(organisation: &Organisation) -> Answer {
    let id = organisation.home.organisation.to_string();
    let name = format!("Mock Church {id}");
    let data = json!({ "type": "Organization", "id": id, "attributes": { "name": name } });
    Answer::ok(json!({ "data": data }).to_string().into_bytes(), 1)
}

fn change(server: &Server, asked: &Asked, place: Place, organisation: usize) -> Answer {
    let now = server.now();
    let mut organisation = server.write(organisation);
    let (spec, id) = match place {
        Place::List(spec) if asked.method == Method::POST && spec.create == Create::Top => {
            return with_body(asked, |body| {
                write::create(&mut organisation, spec, None, body, now)
            });
        }
        Place::Nested(parent, id, nested) if asked.method == Method::POST => {
            let Some(owner) = owner_of(parent, id, nested) else {
                return Answer::not_allowed();
            };
            if organisation.store(parent.entity).find(id).is_none() {
                return Answer::not_found();
            }
            let spec = nested.entity.spec();
            return with_body(asked, |body| {
                write::create(&mut organisation, spec, Some(owner), body, now)
            });
        }
        Place::One(spec, id) => (spec, id),
        Place::NestedOne(parent, id, nested, nested_id) => {
            let record = organisation.store(parent.entity).find(id);
            if !record.is_some_and(|it| beneath(&organisation, it, nested).contains(&nested_id)) {
                return Answer::not_found();
            }
            (nested.entity.spec(), nested_id)
        }
        Place::Organisation | Place::List(_) | Place::Nested(..) => return Answer::not_allowed(),
    };
    match asked.method {
        Method::PATCH if spec.update => with_body(asked, |body| {
            write::update(&mut organisation, spec, id, body, now)
        }),
        Method::DELETE if spec.delete => write::delete(&mut organisation, spec, id, now),
        _ => Answer::not_allowed(),
    }
}

/// The reference that the path of a nested create sets.
fn owner_of(parent: &Spec, id: u64, nested: &Nested) -> Option<(&'static str, u64)> {
    let spec = nested.entity.spec();
    let By::Slot(slot) = nested.by else {
        return None;
    };
    let reference = spec.references.iter().find(|it| it.slot == slot)?;
    let created_here = spec.create == Create::Under(slot) && reference.entity == parent.entity;
    created_here.then_some((reference.key, id))
}

fn with_body(asked: &Asked, then: impl FnOnce(write::Body) -> Answer) -> Answer {
    match serde_json::from_slice(&asked.body) {
        Ok(body) => then(body),
        Err(_) => Answer::bad_request("The body is not a JSON:API document"),
    }
}

fn respond(outgoing: Outgoing) -> Response {
    let Outgoing {
        answer,
        html,
        cut,
        truncate,
        ..
    } = &outgoing;
    let content_type = if *html {
        "text/html; charset=utf-8"
    } else {
        "application/json"
    };
    let status = answer.status;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    limit_headers(&mut headers, &outgoing);
    let half = answer.body.len() / 2;
    let (cut, truncate) = (*cut, *truncate);
    let body = match outgoing.answer.body {
        body if cut => cut_body(Bytes::from(body).slice(..half)),
        body if truncate => Body::from(Bytes::from(body).slice(..half)),
        body => Body::from(body),
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

/// A body that breaks off, and the connection with it.
fn cut_body(start: Bytes) -> Body {
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
    Body::from_stream(futures_util::stream::iter([Ok(start), Err(broken)]))
}

fn limit_headers(headers: &mut HeaderMap, outgoing: &Outgoing) {
    let mut put = |name: &'static str, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(standing) = outgoing.standing {
        let period = outgoing.period.clone();
        let period = period.unwrap_or_else(|| standing.period_seconds.to_string());
        put("x-pco-api-request-rate-limit", standing.limit.to_string());
        put("x-pco-api-request-rate-period", period);
        put("x-pco-api-request-rate-count", standing.count.to_string());
    }
    match outgoing.retry_after {
        Some((seconds, Spelling::Seconds)) => put("retry-after", seconds.to_string()),
        Some((seconds, Spelling::Date)) => {
            let at = SystemTime::now() + Duration::from_secs(seconds);
            put("retry-after", httpdate::fmt_http_date(at));
        }
        Some((_, Spelling::Absent)) | None => {}
    }
}
