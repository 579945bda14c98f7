//! Updates: requests that a workflow answers.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Context, call::Call};
use crate::{
    failure::{CallError, Failure},
    payload,
    replay::{Request, lock},
    tag::InvalidTag,
    update::{self, Answer},
};

impl Context {
    /// Shows a value under a name to whoever asks, from any process and without waking the run: see
    /// `Client::published` and `Client::watch`. It is committed together with the run's records and replaces
    /// what was shown under the name before; runs that continue this one as new show it on.
    ///
    /// It costs no round trip of its own, and no record: a replay shows nothing again.
    ///
    /// ```
    /// # use sync_workflow::{Context, Failure};
    /// # async fn copy(page: u64) -> Result<u64, Failure> { Ok(page) }
    /// async fn import(ctx: Context, pages: u64) -> Result<(), Failure> {
    ///     for page in 0..pages {
    ///         ctx.activity(copy, page).await?;
    ///         ctx.publish("progress", &(100 * (page + 1) / pages))?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When the value has no JSON form.
    pub fn publish<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), Failure> {
        let payload = payload::encode(value)?;
        lock(&self.machine).publish(name, payload);
        Ok(())
    }

    /// Sets a tag of the run: [`RunFilter::tags`](crate::journal::RunFilter::tags) finds the run by it from the commit of the
    /// run's next records on. Runs that continue this one as new keep it; children do not get it.
    ///
    /// It costs no round trip of its own, and no record: a replay sets nothing again.
    ///
    /// ```
    /// # use sync_workflow::{Context, Failure};
    /// # async fn charge(cents: u64) -> Result<(), Failure> { Ok(()) }
    /// async fn order(ctx: Context, cents: u64) -> Result<(), Failure> {
    ///     ctx.set_tag("stage", "charging")?;
    ///     ctx.activity(charge, cents).await?;
    ///     ctx.set_tag("stage", "paid")?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidTag`] when name or value is out of bounds, or the code has set [`Tags::MAX`](crate::tag::Tags::MAX) other names.
    pub fn set_tag(&self, name: &str, value: &str) -> Result<(), InvalidTag> {
        lock(&self.machine).tag(name, Some(value))
    }

    /// Takes a tag away, whoever set it.
    ///
    /// # Errors
    ///
    /// As [`Self::set_tag`].
    pub fn remove_tag(&self, name: &str) -> Result<(), InvalidTag> {
        lock(&self.machine).tag(name, None)
    }

    /// Waits for the next update of this name: a request that some client waits to be answered.
    ///
    /// Updates arrive like signals: in order, once each, and kept until somebody waits. The workflow checks
    /// what is asked for, and accepts or rejects it; what it does between is durable like everything else.
    ///
    /// ```
    /// # use sync_workflow::{Context, Failure};
    /// async fn cart(ctx: Context, mut limit: u32) -> Result<u32, Failure> {
    ///     while limit > 0 {
    ///         let update = ctx.update::<u32, u32>("set limit").await?;
    ///         if *update.input() > 1_000 {
    ///             update.reject(Failure::new("at most 1,000"))?;
    ///             continue;
    ///         }
    ///         limit = *update.input();
    ///         update.accept(&limit)?;
    ///     }
    ///     Ok(limit)
    /// }
    /// ```
    pub fn update<I, O>(&self, name: &str) -> UpdateCall<I, O>
    where
        I: DeserializeOwned,
        O: Serialize,
    {
        let name = update::signal_name(name);
        UpdateCall {
            call: Call::new(self, Request::Signal { received: None }, name.into(), 0),
            context: self.clone(),
            types: PhantomData,
        }
    }
}

/// A wait for an update. Awaiting it gives the update.
#[must_use = "an update is received when it is awaited"]
pub struct UpdateCall<I, O> {
    call: Call,
    context: Context,
    types: PhantomData<fn() -> (I, O)>,
}

impl<I: DeserializeOwned, O: Serialize> Future for UpdateCall<I, O> {
    type Output = Result<Update<I, O>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let payload = match ready!(self.call.poll(cx)) {
            Ok(payload) => payload,
            Err(failure) => return Poll::Ready(Err(CallError::from_failure(failure))),
        };
        let request = payload::decode::<update::Request<I>>(&payload);
        Poll::Ready(match request {
            Ok(update::Request { id, input }) => Ok(Update {
                id,
                input,
                context: self.context.clone(),
                types: PhantomData,
            }),
            Err(failure) => Err(CallError::Other(failure)),
        })
    }
}

/// An update that was received and waits for its answer. Whoever asked waits until it is accepted or rejected,
/// or the run ends.
#[must_use = "somebody waits for the answer"]
pub struct Update<I, O> {
    id: String,
    input: I,
    context: Context,
    types: PhantomData<fn(&O)>,
}

impl<I, O: Serialize> Update<I, O> {
    /// What is asked for.
    pub const fn input(&self) -> &I {
        &self.input
    }

    /// The id that the client gave it, or a random one.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Answers, with the run's next commit.
    ///
    /// # Errors
    ///
    /// When the value has no JSON form.
    pub fn accept(self, value: &O) -> Result<(), Failure> {
        self.answer(&Answer::Accepted(value))
    }

    /// Refuses, with the run's next commit.
    ///
    /// # Errors
    ///
    /// When the failure cannot be stored.
    pub fn reject(self, failure: Failure) -> Result<(), Failure> {
        self.answer(&Answer::<()>::Rejected(failure))
    }

    fn answer<T: Serialize>(&self, answer: &Answer<T>) -> Result<(), Failure> {
        self.context.publish(&update::answer_name(&self.id), answer)
    }
}

impl<I, O> std::fmt::Debug for Update<I, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Update")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
