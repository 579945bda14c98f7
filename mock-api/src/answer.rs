//! What the API answers: a status and a body, errors in the API's own shape.

use serde_json::{Value, json};

/// An answer before headers and faults.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// How many rows its `data` holds.
    pub(crate) rows: usize,
}

impl Answer {
    pub(crate) fn ok(body: Vec<u8>, rows: usize) -> Self {
        Self {
            status: 200,
            body,
            rows,
        }
    }

    pub(crate) fn no_content() -> Self {
        Self {
            status: 204,
            body: Vec::new(),
            rows: 0,
        }
    }

    fn error(status: u16, error: Value) -> Self {
        let body = json!({ "errors": [error] }).to_string().into_bytes();
        Self {
            status,
            body,
            rows: 0,
        }
    }

    pub(crate) fn plain(status: u16, title: &str, detail: &str) -> Self {
        let error = json!({ "status": status.to_string(), "title": title, "detail": detail });
        Self::error(status, error)
    }

    pub(crate) fn bad_request(detail: &str) -> Self {
        Self::plain(400, "Bad Request", detail)
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        let error = json!({
            "code": "401",
            "status": "401",
            "title": "Unauthorized",
            "detail": detail,
        });
        Self::error(401, error)
    }

    pub(crate) fn forbidden(product: &str) -> Self {
        let detail = format!("Your token does not have access to the {product} product (PELICAN)");
        Self::plain(403, "Forbidden", &detail)
    }

    pub(crate) fn not_found() -> Self {
        Self::plain(
            404,
            "Not Found",
            "The resource you requested could not be found",
        )
    }

    pub(crate) fn not_allowed() -> Self {
        Self::plain(
            405,
            "Method Not Allowed",
            "This resource does not support that method",
        )
    }

    pub(crate) fn too_many_requests(count: u32, limit: u32, period: u64) -> Self {
        let detail =
            format!("Rate limit exceeded: {count} of {limit} requests per {period} seconds");
        let error = json!({ "code": "429", "title": "Too Many Requests", "detail": detail });
        Self::error(429, error)
    }

    /// One item per attribute that was refused.
    pub(crate) fn unprocessable(kind: &str, refused: &[Refusal]) -> Self {
        let errors: Vec<Value> = refused.iter().map(|it| it.item(kind)).collect();
        let body = json!({ "errors": errors }).to_string().into_bytes();
        Self {
            status: 422,
            body,
            rows: 0,
        }
    }

    /// What an armed status fault answers.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            401 => Self::unauthorized("The access token expired (BABOON)"),
            403 => Self::forbidden("requested"),
            404 => Self::not_found(),
            405 => Self::not_allowed(),
            409 => Self::plain(
                409,
                "Conflict",
                "The resource is being changed by another request",
            ),
            422 => Self::plain(
                422,
                "Unprocessable Entity",
                "The request could not be processed",
            ),
            429 => Self::too_many_requests(118, 100, 20),
            503 => Self::plain(503, "Service Unavailable", "Planned maintenance"),
            other => Self::plain(other, "Internal Server Error", "Something went wrong"),
        }
    }

    pub(crate) fn html(status: u16) -> Self {
        let page = "<html><head><title>Bad Gateway</title></head>\
                    <body><h1>We are sorry, but something went wrong.</h1></body></html>\n";
        Self {
            status,
            body: page.as_bytes().to_vec(),
            rows: 0,
        }
    }
}

/// Why an attribute was refused.
pub(crate) struct Refusal {
    pub(crate) attribute: String,
    pub(crate) detail: &'static str,
}

impl Refusal {
    fn item(&self, kind: &str) -> Value {
        json!({
            "status": "422",
            "title": "Validation Error",
            "detail": format!("{} {}", self.attribute, self.detail),
            "source": { "parameter": self.attribute },
            "meta": { "resource": kind },
        })
    }
}
