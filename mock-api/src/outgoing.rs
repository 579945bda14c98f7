//! An answer on its way out: headers, and the faults of the transport.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::answer::Answer;
use crate::fault::Spelling;
use crate::limit::Standing;

/// An answer on its way out, with what faults still do to it.
pub(crate) struct Outgoing {
    pub(crate) answer: Answer,
    pub(crate) standing: Option<Standing>,
    pub(crate) retry_after: Option<(u64, Spelling)>,
    pub(crate) period: Option<String>,
    pub(crate) html: bool,
    pub(crate) cut: bool,
    pub(crate) truncate: bool,
}

impl Outgoing {
    pub(crate) fn of(answer: Answer) -> Self {
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

pub(crate) fn respond(outgoing: Outgoing) -> Response {
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
            let at = jiff::Timestamp::now() + Duration::from_secs(seconds);
            put("retry-after", httpdate::fmt_http_date(at.into()));
        }
        Some((_, Spelling::Absent)) | None => {}
    }
}
