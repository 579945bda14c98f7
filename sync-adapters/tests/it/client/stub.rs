//! A server of a few lines, for shapes that the mock API never has.

use std::sync::{Arc, Mutex};

use sync_adapters::{ApiClient, Credentials};
use sync_core::Manifest;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

/// What is answered to a request line's target: headers and a body.
pub(super) type Answer = (String, String);

/// A server that answers every request by one function, and the targets that it was asked for.
pub(super) struct Stub {
    pub(super) base_url: String,
    pub(super) targets: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    pub(super) async fn start(
        answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let targets = Arc::new(Mutex::new(Vec::new()));
        let (log, base) = (targets.clone(), base_url.clone());
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut socket = BufReader::new(socket);
                let (mut first, mut line) = (String::new(), String::new());
                socket.read_line(&mut first).await.unwrap();
                while socket.read_line(&mut line).await.unwrap() > 2 {
                    line.clear();
                }
                let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let (headers, body) = answer(&base, &target);
                log.lock().unwrap().push(target);
                let response = format!(
                    "HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                socket
                    .get_mut()
                    .write_all(response.as_bytes())
                    .await
                    .unwrap();
            }
        });
        Self {
            base_url,
            targets,
            task,
        }
    }

    /// A client of one entity `Thing`, paged as the YAML says.
    pub(super) fn client(&self, pagination: &str) -> ApiClient {
        let manifest = format!(
            r#"
adapter: stub
version: "1"
base_url: {}
rate_limit: {{ requests: 1000000, period_seconds: 1 }}
entities:
  - name: Thing
    record_type: thing
    schema: [{{ name: name, type: text }}]
    mapping: {{ id: id, fields: [{{ column: name, from: name }}] }}
    endpoints: {{ list: {{ method: GET, path: /things }} }}
    pagination: {pagination}
"#,
            self.base_url
        );
        let manifest = Manifest::from_yaml(&manifest).unwrap();
        ApiClient::builder(manifest, Credentials::Anonymous)
            .retries(0)
            .build()
            .unwrap()
    }
}
