//! A caller of a running server.

use std::collections::BTreeMap;

use mock_api::{Builder, Control, Entity, MockApi};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// A server and a client that knows its token.
pub(crate) struct Source {
    pub(crate) api: MockApi,
    pub(crate) client: reqwest::Client,
}

/// A whole answer.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Source {
    pub(crate) async fn of(people: usize) -> Self {
        Self::start(MockApi::builder().seed(7).people(people).rate_limit(None)).await
    }

    pub(crate) async fn start(builder: Builder) -> Self {
        let api = builder.start().await.unwrap();
        Self {
            api,
            client: client(),
        }
    }

    pub(crate) fn control(&self) -> Control {
        self.api.control()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api.base_url());
        self.client
            .request(method, url)
            .bearer_auth(self.api.token())
    }

    pub(crate) async fn try_get(&self, path: &str) -> reqwest::Result<Got> {
        receive(self.request(Method::GET, path)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.try_get(path).await.unwrap()
    }

    /// The body of a successful answer.
    pub(crate) async fn body(&self, path: &str) -> Value {
        let got = self.get(path).await;
        assert_eq!(got.status, 200, "{path}: {}", got.body);
        got.body
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Got {
        receive(self.request(method, path).json(&body))
            .await
            .unwrap()
    }

    /// Every row of a list, by following `links.next`.
    pub(crate) async fn walk(&self, path: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut next = Some(format!("{}{path}", self.api.base_url()));
        while let Some(url) = next {
            let request = self.client.get(&url).bearer_auth(self.api.token());
            let got = receive(request).await.unwrap();
            assert_eq!(got.status, 200, "{url}");
            rows.extend(data(&got.body).iter().cloned());
            next = got.body["links"]["next"].as_str().map(str::to_owned);
        }
        rows
    }

    pub(crate) fn truth(&self, entity: Entity) -> BTreeMap<String, mock_api::Row> {
        let rows = self.control().dump(entity).into_iter();
        rows.map(|row| (row.id.clone(), row)).collect()
    }

    /// The id of some record, `nth` in the order of ids.
    pub(crate) fn id(&self, entity: Entity, nth: usize) -> u64 {
        self.control().dump(entity)[nth].id.parse().unwrap()
    }
}

/// A client that gives up long after any answer is due.
pub(crate) fn client() -> reqwest::Client {
    let timeout = std::time::Duration::from_secs(60);
    reqwest::Client::builder().timeout(timeout).build().unwrap()
}

pub(crate) async fn receive(request: RequestBuilder) -> reqwest::Result<Got> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?;
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
    Ok(Got {
        status,
        headers,
        body,
    })
}

pub(crate) fn data(body: &Value) -> &[Value] {
    body["data"]
        .as_array()
        .unwrap_or_else(|| panic!("no list in {body}"))
}

pub(crate) fn id_of(row: &Value) -> String {
    row["id"].as_str().unwrap().to_owned()
}

pub(crate) fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter().map(id_of).collect()
}

/// The text of an attribute of each row.
pub(crate) fn texts<'r>(rows: &'r [Value], attribute: &str) -> Vec<&'r str> {
    rows.iter()
        .map(|row| row["attributes"][attribute].as_str().unwrap())
        .collect()
}
