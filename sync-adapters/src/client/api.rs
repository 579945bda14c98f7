//! The client itself: calls of a manifest, made with a credential.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use sync_core::{
    Entity, EntityName, ExternalId, Manifest,
    manifest::{Endpoint, Method},
};
use url::Url;

use super::{
    Credentials, Draft, Error, LimitKey, LimitStore, ListRequest, MemoryLimits, Page, PageToken,
    answer::Answer,
    credentials::CREDENTIAL_HEADER,
    envelope::{self, Envelope},
    page::Position,
    request::{endpoint_url, invalid},
    retry_after::server_date,
    transport::{Call, Patience, Transport},
    walk::Outlook,
};

/// Calls the API that a manifest describes. Cheap to clone; holds no state but its budget's store.
///
/// ```no_run
/// use futures_util::{TryStreamExt, pin_mut};
/// use sync_adapters::{ApiClient, Credentials, ListRequest};
/// use sync_core::{EntityName, Manifest};
///
/// # async fn example(manifest: Manifest) -> Result<(), Box<dyn std::error::Error>> {
/// let client = ApiClient::builder(manifest, Credentials::bearer("token")).build()?;
/// let people = client.stream_all(ListRequest::new(EntityName::new("Person")?));
/// pin_mut!(people);
/// while let Some(person) = people.try_next().await? {
///     println!("{person}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ApiClient {
    transport: Arc<Transport>,
    base: Url,
}

/// Makes an [`ApiClient`].
#[derive(Debug)]
pub struct ApiClientBuilder {
    manifest: Manifest,
    credentials: Credentials,
    identity: Option<String>,
    limits: Option<Arc<dyn LimitStore>>,
    patience: Patience,
    max_body: usize,
    user_agent: String,
}

/// A page as it came, before the walk's bookkeeping.
#[derive(Debug)]
pub(super) struct Fetched {
    envelope: Envelope,
    link: Option<String>,
    fetched_at: Timestamp,
    server_date: Option<Timestamp>,
}

impl ApiClientBuilder {
    /// The name under which the credential's budget is kept; by default [`Credentials::identity`].
    /// A credential that rotates needs a name of its own.
    #[must_use]
    pub fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// Where budgets are kept; by default in the memory of this client alone. Clients that share a
    /// credential share a store.
    #[must_use]
    pub fn limits(mut self, limits: Arc<dyn LimitStore>) -> Self {
        self.limits = Some(limits);
        self
    }

    /// The time that one call has, retries and waits included; 120 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.patience.deadline = deadline;
        self
    }

    /// The time that one attempt has, from sending to the last byte; 30 s by default.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.patience.attempt = timeout;
        self
    }

    /// The longest wait for the budget, or for an unavailable API, that a call sits out; 30 s by default.
    /// A longer one is returned as [`Error::RateLimited`], for the caller to wait durably.
    #[must_use]
    pub fn longest_wait(mut self, wait: Duration) -> Self {
        self.patience.wait = wait;
        self
    }

    /// How often a safe call is repeated after a passing failure; 4 times by default.
    #[must_use]
    pub fn retries(mut self, retries: usize) -> Self {
        self.patience.retries = retries;
        self
    }

    /// The pause before the first repetition, which doubles each time; 200 ms by default.
    #[must_use]
    pub fn retry_pause(mut self, pause: Duration) -> Self {
        self.patience.pause = pause;
        self
    }

    /// The largest body that is read; 32 MiB by default.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// The `User-Agent` that the API sees.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::InvalidClient`] when the address, a header or the credential cannot be sent.
    pub fn build(self) -> Result<ApiClient, Error> {
        let unusable = |reason: &str| Error::InvalidClient {
            reason: reason.to_owned(),
        };
        let base = Url::parse(self.manifest.base_url())
            .map_err(|_| unusable("the base address is no URL"))?;
        if !self.credentials.is_sendable() {
            return Err(unusable(
                "the token holds characters that no header can carry",
            ));
        }
        let http = reqwest::Client::builder()
            .user_agent(self.user_agent)
            .default_headers(default_headers(&self.manifest)?)
            // A redirect could carry the credential elsewhere; the manifest names the true address.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|_| unusable("the TLS library does not start"))?;
        let credential = self.identity.unwrap_or_else(|| self.credentials.identity());
        let key = LimitKey {
            adapter: self.manifest.adapter().clone(),
            credential,
        };
        let transport = Transport {
            http,
            manifest: Arc::new(self.manifest),
            credentials: self.credentials,
            limits: self.limits.unwrap_or_else(|| Arc::new(MemoryLimits::new())),
            key,
            patience: self.patience,
            max_body: self.max_body,
        };
        Ok(ApiClient {
            transport: Arc::new(transport),
            base,
        })
    }
}

fn default_headers(manifest: &Manifest) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in manifest.headers() {
        let unusable = || Error::InvalidClient {
            reason: format!("the header {name} cannot be sent"),
        };
        let header = HeaderName::try_from(name).map_err(|_| unusable())?;
        if header == CREDENTIAL_HEADER {
            return Err(unusable());
        }
        headers.insert(
            header,
            HeaderValue::try_from(value).map_err(|_| unusable())?,
        );
    }
    Ok(headers)
}

impl ApiClient {
    /// A client of the API that the manifest describes.
    pub fn builder(manifest: Manifest, credentials: Credentials) -> ApiClientBuilder {
        ApiClientBuilder {
            manifest,
            credentials,
            identity: None,
            limits: None,
            patience: Patience {
                deadline: Duration::from_secs(120),
                attempt: Duration::from_secs(30),
                wait: Duration::from_secs(30),
                retries: 4,
                pause: Duration::from_millis(200),
            },
            max_body: 32 << 20,
            user_agent: concat!("main-sync/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// The manifest that the client follows.
    pub fn manifest(&self) -> &Manifest {
        &self.transport.manifest
    }

    /// One page: the step between which a durable walk checkpoints. Without a token, the first one.
    ///
    /// # Errors
    /// What the API answers; [`Error::PaginationStalled`] when the walk does not move.
    pub async fn fetch_page(
        &self,
        request: &ListRequest,
        token: Option<&PageToken>,
    ) -> Result<Page, Error> {
        let start = PageToken::start();
        let token = token.unwrap_or(&start);
        let fetched = self.fetch(request, &token.position).await?;
        self.conclude(request, token, fetched)
    }

    /// Reads one record.
    ///
    /// # Errors
    /// What the API answers; [`Error::NotFound`] when there is no such record.
    pub async fn get(
        &self,
        entity: &EntityName,
        id: &ExternalId,
        parent: Option<&ExternalId>,
    ) -> Result<Box<RawValue>, Error> {
        let entity = self.entity(entity)?;
        let endpoint = offered(entity, entity.endpoints.get.as_ref(), "get")?;
        let call = self.single(entity, endpoint, Some(id), parent, None)?;
        self.transport
            .call(&call, |answer| read_single(answer, entity))
            .await
    }

    /// Creates a record, once: an unknown outcome is returned, never repeated.
    ///
    /// # Errors
    /// [`Error::Validation`] when the draft does not fit the schema, before anything is sent, or when the
    /// API refuses it; otherwise what the API answers. [`Error::outcome_is_unknown`] tells whether the
    /// record may exist.
    pub async fn create(
        &self,
        entity: &EntityName,
        parent: Option<&ExternalId>,
        draft: &Draft,
    ) -> Result<Box<RawValue>, Error> {
        let entity = self.entity(entity)?;
        let endpoint = offered(entity, entity.endpoints.create.as_ref(), "create")?;
        let call = self.single(entity, endpoint, None, parent, Some(draft))?;
        self.transport
            .call(&call, |answer| read_single(answer, entity))
            .await
    }

    /// Changes fields of a record.
    ///
    /// # Errors
    /// As for [`ApiClient::create`].
    pub async fn update(
        &self,
        entity: &EntityName,
        id: &ExternalId,
        parent: Option<&ExternalId>,
        draft: &Draft,
    ) -> Result<Box<RawValue>, Error> {
        let entity = self.entity(entity)?;
        let endpoint = offered(entity, entity.endpoints.update.as_ref(), "update")?;
        let call = self.single(entity, endpoint, Some(id), parent, Some(draft))?;
        self.transport
            .call(&call, |answer| read_single(answer, entity))
            .await
    }

    /// Deletes a record.
    ///
    /// # Errors
    /// What the API answers; [`Error::NotFound`] when the record is already gone.
    pub async fn delete(
        &self,
        entity: &EntityName,
        id: &ExternalId,
        parent: Option<&ExternalId>,
    ) -> Result<(), Error> {
        let entity = self.entity(entity)?;
        let endpoint = offered(entity, entity.endpoints.delete.as_ref(), "delete")?;
        let call = self.single(entity, endpoint, Some(id), parent, None)?;
        self.transport.call(&call, |_| Ok(())).await
    }

    /// The page at a place of the list.
    pub(super) async fn fetch(
        &self,
        request: &ListRequest,
        position: &Position,
    ) -> Result<Fetched, Error> {
        let entity = self.entity(request.entity())?;
        let url = request.url(&self.base, entity, position)?;
        let method = method_of(entity.endpoints.list.method);
        let call = Call {
            method,
            url,
            body: None,
        };
        let read = |answer: &Answer| {
            Ok(Fetched {
                envelope: envelope::read(&answer.body, &entity.pagination)?,
                link: answer.next_link(),
                fetched_at: Timestamp::now(),
                server_date: server_date(&answer.headers).and_then(|date| date.try_into().ok()),
            })
        };
        let fetched = self.transport.call(&call, read).await?;
        tracing::trace!(entity = %entity.name, rows = fetched.envelope.records.len(), "page_fetched");
        Ok(fetched)
    }

    /// Places a page in its walk.
    pub(super) fn conclude(
        &self,
        request: &ListRequest,
        token: &PageToken,
        fetched: Fetched,
    ) -> Result<Page, Error> {
        let entity = self.entity(request.entity())?;
        let outlook = Outlook {
            entity: &entity.name,
            pagination: &entity.pagination,
            asked: request.asked(entity),
            token,
            envelope: &fetched.envelope,
            link: fetched.link.as_deref(),
            last_id: self.last_id(entity, &fetched.envelope),
        };
        let next = outlook.next()?;
        let rows = fetched.envelope.records.len() as u64;
        Ok(Page {
            records: fetched.envelope.records,
            included: fetched.envelope.included,
            next,
            total: fetched.envelope.total,
            received: token.received + rows,
            fetched_at: fetched.fetched_at,
            server_date: fetched.server_date,
        })
    }

    pub(super) fn entity(&self, name: &EntityName) -> Result<&Entity, Error> {
        let unknown = || Error::UnknownEntity {
            entity: name.clone(),
        };
        self.manifest().entity(name).ok_or_else(unknown)
    }

    /// The id of the last row, when the paginator goes by it.
    fn last_id(&self, entity: &Entity, envelope: &Envelope) -> Option<ExternalId> {
        let sync_core::manifest::Paginator::LastId { .. } = entity.pagination.paginator else {
            return None;
        };
        self.manifest()
            .mapper(&entity.name)?
            .identify(envelope.records.last()?)
            .ok()
    }

    fn single(
        &self,
        entity: &Entity,
        endpoint: &Endpoint,
        id: Option<&ExternalId>,
        parent: Option<&ExternalId>,
        draft: Option<&Draft>,
    ) -> Result<Call, Error> {
        let mut url = endpoint_url(&self.base, entity, endpoint, id, parent)?;
        if !endpoint.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&endpoint.query);
        }
        let document = draft
            .map(|draft| draft.document(self.manifest(), entity, id))
            .transpose()?;
        let body = document.map(|document| Bytes::from(document.to_string()));
        Ok(Call {
            method: method_of(endpoint.method),
            url,
            body,
        })
    }
}

fn read_single(answer: &Answer, entity: &Entity) -> Result<Box<RawValue>, Error> {
    Ok(envelope::read_single(&answer.body, &entity.pagination)?)
}

fn offered<'e>(
    entity: &Entity,
    endpoint: Option<&'e Endpoint>,
    name: &str,
) -> Result<&'e Endpoint, Error> {
    endpoint.ok_or_else(|| invalid(entity, &format!("the API offers no {name}")))
}

fn method_of(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}
