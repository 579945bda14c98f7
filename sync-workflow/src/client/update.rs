//! Updates: requests to a run, with answers.

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    Client, Error, new_signal,
    published::{ChainWatch, Shown},
};
use crate::{failure::Failure, journal::SignalOutcome, payload, update};

/// Why an update has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The workflow refused it.
    #[error("the update was rejected: {0}")]
    Rejected(Failure),
    /// The run ended, and had not answered.
    #[error("the run ended without an answer")]
    Unanswered,
    /// It could not be sent, or its answer could not be read.
    #[error("the update failed")]
    Client(#[from] Error),
}

impl Client {
    /// Asks the open run of a workflow id for something, and waits for its answer: see
    /// [`Context::update`](crate::Context::update). The types are the caller's claim.
    ///
    /// ```no_run
    /// # async fn example(client: sync_workflow::Client) -> Result<(), sync_workflow::client::UpdateError> {
    /// let limit: u32 = client.update("cart-7", "set limit", &100_u32).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Cancel safe, but whoever was asked answers nevertheless; with [`Self::update_once`] the answer can be
    /// asked for again.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Rejected`] when the workflow refuses it, [`UpdateError::Unanswered`] when the run ends
    /// first, [`Error::NotOpen`] when no run of the id is open.
    pub async fn update<I, O>(
        &self,
        workflow_id: &str,
        name: &str,
        input: &I,
    ) -> Result<O, UpdateError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let id = Uuid::new_v4().to_string();
        self.update_once(workflow_id, name, &id, input).await
    }

    /// As [`Self::update`], and what is asked for again with this update id is not done again: the answer is
    /// the first one. The id is unique among the updates and signals of a chain of runs.
    ///
    /// # Errors
    ///
    /// As [`Self::update`].
    pub async fn update_once<I, O>(
        &self,
        workflow_id: &str,
        name: &str,
        update_id: &str,
        input: &I,
    ) -> Result<O, UpdateError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let request = update::Request {
            id: update_id.to_owned(),
            input,
        };
        let signal = update::signal_name(name);
        let signal = new_signal(workflow_id, &signal, update_id, &request)?;
        let outcome = self.journal.signal(&signal).await.map_err(Error::from)?;
        let run = match outcome {
            SignalOutcome::Delivered(woken) => {
                self.announce(woken).await;
                woken.run
            }
            // It was sent before, to this run or to one that it continues.
            SignalOutcome::Duplicate => self.describe(workflow_id).await?.run,
            SignalOutcome::NotOpen => return Err(Error::NotOpen.into()),
        };
        let mut answer = ChainWatch::new(self.clone(), run, &update::answer_name(update_id));
        match answer.published(|_| true).await? {
            Shown::Value(shown) => {
                let answer = payload::decode(&shown.payload).map_err(Error::Undecodable)?;
                match answer {
                    update::Answer::Accepted(value) => Ok(value),
                    update::Answer::Rejected(failure) => Err(UpdateError::Rejected(failure)),
                }
            }
            Shown::Ended => Err(UpdateError::Unanswered),
        }
    }
}
