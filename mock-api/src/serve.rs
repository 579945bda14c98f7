//! Answers requests: authentication, limit, faults, data, log, in this order.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::fault::{Effect, Spelling, Strike, Target};
use crate::limit::Standing;
use crate::log::Request;
use crate::mutation::Mutation;
use crate::outgoing::{Outgoing, respond};
use crate::page::Bend;
use crate::query::Query;
use crate::read::get;
use crate::route::{Place, Route};
use crate::server::Server;
use crate::token::Token;
use crate::write;

/// The largest body of a write that is read.
const MAX_BODY: usize = 1 << 20;

/// `X-PCO-API-Version` before this date is refused.
const OLDEST_VERSION: &str = "2018-08-01";

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
    let strikes = server.faults().strike(&target);
    let mut outgoing = Outgoing {
        standing,
        ..Outgoing::of(Answer::no_content())
    };
    let mut bend = Bend::default();
    let mut query = query;
    let mut instead = None;
    for Strike { fault, effect } in strikes {
        match effect {
            Effect::Hold => server.until_disarmed(fault).await,
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
    let now = server.now();
    let mut organisation = server.write(token.organisation);
    write::change(
        &mut organisation,
        &asked.method,
        route.place,
        &asked.body,
        now,
    )
}

/// A request after its body was read.
struct Asked {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}
