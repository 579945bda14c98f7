//! The control plane over HTTP, on a listener of its own.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::Control;
use crate::entity::Entity;
use crate::error::Error;
use crate::fault::{Armed, Fault};
use crate::limit::RateLimit;
use crate::log::Log;
use crate::mutation::Mutation;
use crate::organisation::Row;
use crate::seconds::Seconds;
use crate::token::Token;

pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/counts", get(counts))
        .route("/records/{entity}", get(records))
        .route("/records/{entity}/{id}", get(record))
        .route("/mutations", post(mutations))
        .route("/clock", get(clock).post(advance))
        .route("/faults", get(faults).post(arm).delete(disarm_all))
        .route("/faults/{id}", delete(disarm))
        .route("/log", get(log).delete(clear_log))
        .route("/rate-limit", put(rate_limit))
        .route("/tokens", post(add_token))
        .route("/tokens/{name}", delete(revoke_token))
        .route("/reset", post(reset))
        .with_state(control)
}

/// The control plane of the organisation that `?organisation=` names; the first one without it.
struct Chosen(Control);

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    organisation: usize,
}

impl FromRequestParts<Control> for Chosen {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Response> {
        let choice = Query::<Choice>::from_request_parts(parts, control).await;
        let Query(choice) = choice.map_err(IntoResponse::into_response)?;
        let chosen = control.organisation(choice.organisation);
        chosen.map(Self).map_err(IntoResponse::into_response)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Self::UnknownEntity(_) | Self::UnknownRecord { .. } | Self::UnknownOrganisation(_) => {
                StatusCode::NOT_FOUND
            }
            Self::MissingReference { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Listen { .. } | Self::Generate => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

async fn counts(Chosen(control): Chosen) -> Json<BTreeMap<Entity, usize>> {
    Json(control.counts())
}

async fn records(
    Chosen(control): Chosen,
    Path(entity): Path<String>,
) -> Result<Json<Vec<Row>>, Error> {
    Ok(Json(control.dump(entity.parse()?)))
}

async fn record(
    Chosen(control): Chosen,
    Path((entity, id)): Path<(String, u64)>,
) -> Result<Json<Row>, Error> {
    control.row(entity.parse()?, id).map(Json)
}

/// Applies the changes in order, and answers the ids of each.
async fn mutations(
    Chosen(control): Chosen,
    Json(mutations): Json<Vec<Mutation>>,
) -> Result<Json<Vec<Vec<u64>>>, Error> {
    let ids: Result<Vec<_>, Error> = mutations.into_iter().map(|it| control.mutate(it)).collect();
    ids.map(Json)
}

async fn clock(State(control): State<Control>) -> Json<Seconds> {
    Json(control.now())
}

#[derive(Deserialize)]
struct Advance {
    seconds: u32,
}

async fn advance(State(control): State<Control>, Json(by): Json<Advance>) -> Json<Seconds> {
    Json(control.advance(by.seconds))
}

async fn faults(State(control): State<Control>) -> Json<Vec<Armed>> {
    Json(control.faults())
}

async fn arm(State(control): State<Control>, Json(fault): Json<Fault>) -> Json<Value> {
    Json(json!({ "id": control.arm(fault) }))
}

async fn disarm_all(State(control): State<Control>) -> StatusCode {
    control.disarm_all();
    StatusCode::NO_CONTENT
}

async fn disarm(State(control): State<Control>, Path(id): Path<u64>) -> StatusCode {
    match control.disarm(id) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}

async fn log(State(control): State<Control>) -> Json<Log> {
    Json(control.log())
}

async fn clear_log(State(control): State<Control>) -> StatusCode {
    control.clear_log();
    StatusCode::NO_CONTENT
}

async fn rate_limit(
    State(control): State<Control>,
    Json(limit): Json<Option<RateLimit>>,
) -> StatusCode {
    control.set_rate_limit(limit);
    StatusCode::NO_CONTENT
}

async fn add_token(
    State(control): State<Control>,
    Json(token): Json<Token>,
) -> Result<StatusCode, Error> {
    control.add_token(token)?;
    Ok(StatusCode::CREATED)
}

async fn revoke_token(State(control): State<Control>, Path(name): Path<String>) -> StatusCode {
    control.revoke_token(&name);
    StatusCode::NO_CONTENT
}

async fn reset(State(control): State<Control>) -> StatusCode {
    control.reset();
    StatusCode::NO_CONTENT
}
