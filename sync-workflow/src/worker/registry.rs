//! What a worker can run: workflows and activities by name, their types erased.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{activity::ActivityContext, error::Error};
use crate::{
    context::{
        Activity, Context, Workflow,
        fan_out::{self, Branch},
        function_name,
        remote::{self, RemoteActivity},
    },
    failure::{ErrorValue, Failure},
    payload,
    replay::{BodyFuture, Fault},
};

/// Makes the future of a run from its context and encoded input.
pub(crate) type WorkflowFactory =
    Arc<dyn Fn(Context, &[u8]) -> Result<BodyFuture, Fault> + Send + Sync>;

/// Makes the future of one attempt from its context and encoded input.
pub(crate) type ActivityFactory = Arc<
    dyn Fn(ActivityContext, Bytes) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>>
        + Send
        + Sync,
>;

/// The names that a worker knows.
pub(crate) struct Registry {
    workflows: HashMap<Arc<str>, WorkflowFactory>,
    activities: HashMap<Arc<str>, ActivityFactory>,
}

impl Default for Registry {
    /// The workflows of the engine itself.
    fn default() -> Self {
        let branch: WorkflowFactory = Arc::new(|context, input| {
            let branch: Branch = decode_input(input)?;
            Ok(Box::pin(branch.run(context)))
        });
        Self {
            workflows: HashMap::from([(fan_out::BRANCH.into(), branch)]),
            activities: HashMap::new(),
        }
    }
}

impl Registry {
    pub(crate) fn add_workflow(
        &mut self,
        name: &str,
        factory: WorkflowFactory,
    ) -> Result<(), Error> {
        add(&mut self.workflows, "workflow", name, factory)
    }

    pub(crate) fn add_activity(
        &mut self,
        name: &str,
        factory: ActivityFactory,
    ) -> Result<(), Error> {
        add(&mut self.activities, "activity", name, factory)
    }

    /// Registers the workflow that runs an activity for other queues.
    pub(crate) fn serve_activity(&mut self, name: &str) -> Result<(), Error> {
        let activity: Arc<str> = name.into();
        let factory: WorkflowFactory = Arc::new(move |context, input| {
            let remote: RemoteActivity = decode_input(input)?;
            Ok(Box::pin(remote.run(context, Arc::clone(&activity))))
        });
        self.add_workflow(&remote::workflow_name(name), factory)
    }

    /// Registers an activity in the place of the one that has the name, if any has.
    #[cfg(feature = "testing")]
    pub(crate) fn replace_activity(
        &mut self,
        name: &str,
        factory: ActivityFactory,
    ) -> Result<(), Error> {
        self.activities.remove(name);
        self.add_activity(name, factory)
    }

    /// Registers, for every activity, the workflow that runs it for other queues.
    #[cfg(feature = "testing")]
    pub(crate) fn serve_every_activity(&mut self) -> Result<(), Error> {
        let names: Vec<_> = self.activities.keys().cloned().collect();
        for name in names {
            if self.workflow(&remote::workflow_name(&name)).is_none() {
                self.serve_activity(&name)?;
            }
        }
        Ok(())
    }

    /// Puts something around every activity.
    #[cfg(feature = "testing")]
    pub(crate) fn wrap_activities(&mut self, wrap: impl Fn(ActivityFactory) -> ActivityFactory) {
        for factory in self.activities.values_mut() {
            *factory = wrap(Arc::clone(factory));
        }
    }

    pub(crate) fn workflow(&self, name: &str) -> Option<&WorkflowFactory> {
        self.workflows.get(name)
    }

    pub(crate) fn activity(&self, name: &str) -> Option<&ActivityFactory> {
        self.activities.get(name)
    }

    pub(crate) fn activity_names(&self) -> Vec<Arc<str>> {
        self.activities.keys().cloned().collect()
    }

    pub(crate) fn workflow_names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.workflows.keys().cloned().collect();
        names.sort_unstable();
        names
    }
}

fn add<T>(
    known: &mut HashMap<Arc<str>, T>,
    what: &'static str,
    name: &str,
    factory: T,
) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Unnamed { what });
    }
    if known.insert(name.into(), factory).is_some() {
        return Err(Error::DuplicateName {
            what,
            name: name.into(),
        });
    }
    Ok(())
}

/// What a worker can register as a workflow: an async function of a [`Context`] and one input, or a
/// [`Workflow`]. `Marker` tells the shapes apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be registered as a workflow",
    label = "not a workflow",
    note = "a workflow is an `async fn` that takes a `Context` and one owned input that serde reads and writes, and \
            returns a `Result` whose error is a `Failure` or a `TypedError`",
    note = "its future must be `Send`: no `Rc`, no guard of a lock across an `.await`"
)]
pub trait IntoWorkflow<Marker> {
    /// The name that it is registered under, unless another is given.
    fn default_name(&self) -> &'static str;
    /// Erases its types.
    #[doc(hidden)]
    fn into_factory(self) -> Factory<WorkflowFactory>;
}

/// What a worker can register as an activity: an async function of one input, with or without an
/// [`ActivityContext`] before it, or an [`Activity`]. `Marker` tells the shapes apart and is always
/// inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be registered as an activity",
    label = "not an activity",
    note = "an activity is an `async fn` that takes one owned input that serde reads and writes, with or without an \
            `ActivityContext` before it, and returns a `Result` whose error is a `Failure` or a `TypedError`; or a \
            value whose type implements `Activity`",
    note = "its future must be `Send`: no `Rc`, no guard of a lock across an `.await`"
)]
pub trait IntoActivity<Marker> {
    /// The name that it is registered under, unless another is given.
    fn default_name(&self) -> &'static str;
    /// Erases its types.
    #[doc(hidden)]
    fn into_factory(self) -> Factory<ActivityFactory>;
}

/// Several activities that share one value: what `#[activities]` makes of a type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no activities",
    label = "no impl block of it has `#[activities]`"
)]
pub trait Activities: Send + Sync + 'static {
    /// Registers each of them.
    fn register(self: Arc<Self>, worker: super::WorkerBuilder) -> super::WorkerBuilder;
}

/// An erased workflow or activity. Opaque.
#[doc(hidden)]
#[expect(unnameable_types, reason = "nobody but this crate makes or opens one")]
pub struct Factory<T>(pub(crate) T);

async fn encode_output<O, E>(result: impl Future<Output = Result<O, E>>) -> Result<Bytes, Failure>
where
    O: Serialize,
    E: ErrorValue,
{
    let output = result.await.map_err(ErrorValue::into_failure)?;
    payload::encode(&output)
}

fn decode_input<I: DeserializeOwned>(input: &[u8]) -> Result<I, Fault> {
    payload::decode(input).map_err(|failure| Fault::UndecodableInput {
        message: failure.message,
    })
}

impl<F, I, Fut, O, E> IntoWorkflow<fn(Context, I) -> Fut> for F
where
    F: Fn(Context, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    I: DeserializeOwned,
    O: Serialize + Send + 'static,
    E: ErrorValue,
{
    fn default_name(&self) -> &'static str {
        function_name::<F>()
    }

    fn into_factory(self) -> Factory<WorkflowFactory> {
        Factory(Arc::new(move |context, input| {
            let body = self(context, decode_input(input)?);
            Ok(Box::pin(encode_output(body)))
        }))
    }
}

impl<W: Workflow> IntoWorkflow<W> for W {
    fn default_name(&self) -> &'static str {
        W::NAME
    }

    fn into_factory(self) -> Factory<WorkflowFactory> {
        let workflow = Arc::new(self);
        Factory(Arc::new(move |context, input| {
            let input = decode_input(input)?;
            let workflow = Arc::clone(&workflow);
            Ok(Box::pin(async move {
                encode_output(workflow.run(context, input)).await
            }))
        }))
    }
}

/// What `#[workflow]` makes of a function.
impl<F: Fn() -> W, W: Workflow> IntoWorkflow<fn() -> W> for F {
    fn default_name(&self) -> &'static str {
        W::NAME
    }

    fn into_factory(self) -> Factory<WorkflowFactory> {
        IntoWorkflow::<W>::into_factory(self())
    }
}

/// What `#[activity]` makes of a function.
impl<F: Fn() -> A, A: Activity> IntoActivity<fn() -> A> for F {
    fn default_name(&self) -> &'static str {
        A::NAME
    }

    fn into_factory(self) -> Factory<ActivityFactory> {
        IntoActivity::<A>::into_factory(self())
    }
}

impl<F, I, Fut, O, E> IntoActivity<fn(I) -> Fut> for F
where
    F: Fn(I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: ErrorValue,
{
    fn default_name(&self) -> &'static str {
        function_name::<F>()
    }

    fn into_factory(self) -> Factory<ActivityFactory> {
        let activity = Arc::new(self);
        Factory(Arc::new(move |_context, input| {
            let activity = Arc::clone(&activity);
            Box::pin(async move { encode_output(activity(payload::decode(&input)?)).await })
        }))
    }
}

impl<F, I, Fut, O, E> IntoActivity<fn(ActivityContext, I) -> Fut> for F
where
    F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    E: ErrorValue,
{
    fn default_name(&self) -> &'static str {
        function_name::<F>()
    }

    fn into_factory(self) -> Factory<ActivityFactory> {
        let activity = Arc::new(self);
        Factory(Arc::new(move |context, input| {
            let activity = Arc::clone(&activity);
            Box::pin(
                async move { encode_output(activity(context, payload::decode(&input)?)).await },
            )
        }))
    }
}

impl<A: Activity> IntoActivity<A> for A {
    fn default_name(&self) -> &'static str {
        A::NAME
    }

    fn into_factory(self) -> Factory<ActivityFactory> {
        let activity = Arc::new(self);
        Factory(Arc::new(move |context, input| {
            let activity = Arc::clone(&activity);
            Box::pin(async move {
                let input = payload::decode(&input)?;
                encode_output(activity.run(context, input)).await
            })
        }))
    }
}
