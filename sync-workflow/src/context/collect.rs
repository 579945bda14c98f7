//! Collecting signals: many that arrive one by one, in few batches.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::Context;
use crate::failure::CallError;

impl Context {
    /// Collects signals of this name, in the order of their arrival: waits for a first one, and then until there are `max`
    /// of them or the time `within` has passed since the first was received, whichever comes first. So it gives at
    /// least one, and at most `max`; what arrives later is kept for who asks next.
    ///
    /// A cancellation ends it early, with what it has if that is anything. Dropped before it is ready, or left behind by
    /// [`continue_as_new`](Context::continue_as_new), it has read nothing: what it had goes to who asks next. So nothing
    /// that was received is lost.
    /// A signal that is not a `T` parks the run, until it meets code that can read it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sync_workflow::{Context, Failure};
    ///
    /// async fn write(rows: Vec<String>) -> Result<(), Failure> { Ok(()) }
    ///
    /// /// Writes rows that many callers send, a hundred at once or what came in a second.
    /// async fn writer(ctx: Context, (): ()) -> Result<(), Failure> {
    ///     for _ in 0..1_000 {
    ///         let rows = ctx.collect("row", 100, Duration::from_secs(1)).await?;
    ///         ctx.shield().activity(write, rows).await?;
    ///     }
    ///     // What has arrived meanwhile goes along.
    ///     ctx.continue_as_new(writer, ()).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`FailureKind::Cancelled`](crate::FailureKind::Cancelled) when the run, or the scope, is cancelled before the
    /// first signal.
    pub fn collect<T: DeserializeOwned>(
        &self,
        signal: &str,
        max: usize,
        within: Duration,
    ) -> impl Future<Output = Result<Vec<T>, CallError>> {
        let (context, signal) = (self.clone(), signal.to_owned());
        // Numbered where it is asked for, as every call is.
        let mut first = self.wait::<T>(&signal);
        async move {
            let value = poll_fn(|cx| first.poll_kept(cx)).await?;
            let mut batch = vec![(value, first)];
            if max > 1 {
                let mut timer = pin!(context.sleep(within));
                while batch.len() < max {
                    let mut next = context.wait::<T>(&signal);
                    let received = poll_fn(|cx| match next.poll_kept(cx) {
                        Poll::Ready(received) => Poll::Ready(received.ok()),
                        Poll::Pending => timer.as_mut().poll(cx).map(|_over| None),
                    });
                    match received.await {
                        Some(value) => batch.push((value, next)),
                        None => break,
                    }
                }
            }
            let read = batch.into_iter().map(|(value, wait)| {
                wait.consume();
                value
            });
            Ok(read.collect())
        }
    }
}
