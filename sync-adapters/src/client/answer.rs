//! From an HTTP answer to a typed success or error.

use std::time::Duration;

use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;
use sync_core::{Manifest, manifest::ErrorKind};

use super::{Error, FieldProblem, NetworkProblem, error::ProtocolProblem};

/// The longest text of the API that an error carries.
const LONGEST_DETAIL: usize = 300;
/// Most fields that a validation error names.
const MOST_FIELDS: usize = 50;

/// An answer, complete.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The answer itself, if it is a success by its status and the manifest's rules.
    pub(super) fn judge(self, manifest: &Manifest, wait: Option<Duration>) -> Result<Self, Error> {
        // Only what rules can speak of is looked at as text: error bodies, which are small.
        let text = match self.status {
            200..=299 => std::borrow::Cow::Borrowed(""),
            _ => String::from_utf8_lossy(&self.body),
        };
        match manifest.error_kind(self.status, &text) {
            None => Ok(self),
            Some(kind) => Err(self.error(kind, wait)),
        }
    }

    fn error(&self, kind: ErrorKind, wait: Option<Duration>) -> Error {
        let said = Said::read(&self.body);
        let status = self.status;
        let detail = said.detail();
        match kind {
            ErrorKind::BadRequest => Error::BadRequest { status, detail },
            ErrorKind::Unauthenticated => Error::Unauthenticated { detail },
            ErrorKind::Forbidden => Error::Forbidden { detail },
            ErrorKind::NotFound => Error::NotFound { detail },
            ErrorKind::Unsupported => Error::Unsupported { status },
            ErrorKind::Conflict => Error::Conflict { detail },
            ErrorKind::Validation => Error::Validation {
                fields: said.fields(),
            },
            ErrorKind::RateLimited => Error::RateLimited {
                retry_after: wait.unwrap_or_default(),
            },
            ErrorKind::Unavailable => Error::Unavailable {
                status,
                retry_after: wait,
            },
            ErrorKind::Protocol => ProtocolProblem::Status { status }.into(),
            ErrorKind::Network => Error::Network(NetworkProblem::Timeout {
                after: Duration::ZERO,
            }),
        }
    }

    /// The `rel="next"` entry of the `Link` header.
    pub(super) fn next_link(&self) -> Option<String> {
        self.headers
            .get_all(LINK)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(next_of)
    }
}

fn next_of(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, entry)) = rest.split_once('<') {
        let (url, after) = entry.split_once('>')?;
        let params = after.split('<').next().unwrap_or_default();
        let is_next = params.split([';', ',']).any(|param| {
            let (name, value) = param.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .trim()
                    .trim_matches('"')
                    .split(' ')
                    .any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(url.trim().to_owned());
        }
        rest = after;
    }
    None
}

/// What an error body says, in any of the usual shapes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    errors: Vec<SaidError>,
    message: Option<String>,
    error_description: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidError {
    title: Option<String>,
    detail: Option<String>,
    source: Option<SaidSource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SaidSource {
    parameter: Option<String>,
    pointer: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    fn detail(&self) -> String {
        let of_error = self.errors.first().and_then(SaidError::text);
        let text = of_error
            .or(self.message.as_deref())
            .or(self.error_description.as_deref());
        shorten(text.unwrap_or("no detail"))
    }

    fn fields(&self) -> Vec<FieldProblem> {
        let problems = self
            .errors
            .iter()
            .take(MOST_FIELDS)
            .map(|error| FieldProblem {
                field: shorten(error.field().unwrap_or_default()),
                problem: shorten(error.text().unwrap_or("refused")),
            });
        problems.collect()
    }
}

impl SaidError {
    fn text(&self) -> Option<&str> {
        self.detail.as_deref().or(self.title.as_deref())
    }

    fn field(&self) -> Option<&str> {
        let source = self.source.as_ref()?;
        source.parameter.as_deref().or(source.pointer.as_deref())
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(LONGEST_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        let header = r#"<https://a.example/x?page=1>; rel="prev", <https://a.example/x?page=3&q=a,b>; rel="next""#;
        assert_eq!(
            next_of(header).as_deref(),
            Some("https://a.example/x?page=3&q=a,b")
        );
        assert_eq!(next_of(r#"<https://a.example/x>; rel="last""#), None);
        assert_eq!(next_of("nonsense"), None);
    }

    #[test]
    fn a_validation_error_names_its_fields() {
        let body = br#"{"errors":[{"status":"422","title":"Unprocessable","detail":"is not a number",
            "source":{"parameter":"grade"}},{"title":"can't be blank","source":{"pointer":"/name"}}]}"#;
        let fields = Said::read(body).fields();
        assert_eq!(fields[0].field, "grade");
        assert_eq!(fields[0].problem, "is not a number");
        assert_eq!(fields[1].field, "/name");
    }

    #[test]
    fn any_shape_of_error_body_gives_a_short_detail() {
        assert_eq!(Said::read(b"<html>").detail(), "no detail");
        assert_eq!(Said::read(br#"{"message":"no"}"#).detail(), "no");
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(5_000));
        assert_eq!(Said::read(long.as_bytes()).detail().len(), LONGEST_DETAIL);
    }
}
