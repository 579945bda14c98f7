//! What can be called and registered: functions, and types that hold their dependencies.

use std::{any::type_name, future::Future, marker::PhantomData, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::Context;
use crate::{failure::ErrorValue, replay::ActivityOptions};

/// An activity as a type that holds what it needs in `&self`.
///
/// Small activities are plain async functions instead; see [`ActivityCallee`].
///
/// ```
/// use sync_workflow::{Activity, ActivityContext, Context, Failure};
///
/// struct Charge { endpoint: String }
///
/// impl Activity for Charge {
///     const NAME: &'static str = "charge";
///     type Input = u64;
///     type Output = String;
///     type Error = Failure;
///
///     async fn run(&self, _ctx: ActivityContext, cents: u64) -> Result<String, Failure> {
///         Ok(format!("{} cents at {}", cents, self.endpoint))
///     }
/// }
///
/// async fn pay(ctx: Context, cents: u64) -> Result<String, Failure> {
///     Ok(ctx.activity(Charge::activity(), cents).await?)
/// }
/// ```
#[cfg(feature = "runtime")]
pub trait Activity: Send + Sync + 'static {
    /// The name under which its results are journaled. Changing it parks the runs that used it.
    const NAME: &'static str;
    /// What it is given.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// How it fails.
    type Error: ErrorValue;

    /// One attempt.
    fn run(
        &self,
        context: crate::worker::ActivityContext,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// How its calls are tried, unless they say otherwise: the defaults of the methods of
    /// [`ActivityCall`](super::ActivityCall).
    #[must_use]
    fn options() -> ActivityOptions {
        ActivityOptions::default()
    }

    /// How workflow code names it.
    #[must_use]
    fn activity() -> ActivityType<Self>
    where
        Self: Sized,
    {
        ActivityType::new()
    }
}

/// A workflow as a type that holds what it needs in `&self`.
///
/// Small workflows are plain async functions instead; see [`WorkflowCallee`].
pub trait Workflow: Send + Sync + 'static {
    /// The name under which runs are stored. Changing it strands open runs.
    const NAME: &'static str;
    /// What it is given.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// How it fails.
    type Error: ErrorValue;

    /// The workflow's code. It runs again from the start at each replay: everything that depends
    /// on the outside goes through the context.
    fn run(
        &self,
        context: Context,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// How clients and other workflows name it.
    #[must_use]
    fn workflow() -> WorkflowType<Self>
    where
        Self: Sized,
    {
        WorkflowType(PhantomData)
    }
}

/// Names an [`Activity`] in a call, without an instance of it.
#[cfg(feature = "runtime")]
#[derive(Debug)]
pub struct ActivityType<A>(PhantomData<fn() -> A>);

#[cfg(feature = "runtime")]
impl<A: Activity> ActivityType<A> {
    /// The name, as [`Activity::activity`] gives it.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

#[cfg(feature = "runtime")]
impl<A: Activity> Default for ActivityType<A> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "runtime")]
impl<A> Clone for ActivityType<A> {
    fn clone(&self) -> Self {
        *self
    }
}

#[cfg(feature = "runtime")]
impl<A> Copy for ActivityType<A> {}

/// Names a [`Workflow`] in a call, without an instance of it.
#[derive(Debug)]
pub struct WorkflowType<W>(PhantomData<fn() -> W>);

/// What workflow code can call as an activity: an async function of one input, with or without an
/// activity context before it, or [`Activity::activity`].
///
/// `Marker` tells the shapes apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called as an activity",
    label = "not an activity",
    note = "an activity is an `async fn` that takes one owned input that serde reads and writes, with or without an \
            `ActivityContext` before it, and returns a `Result` whose error is a `Failure` or a `TypedError`",
    note = "an activity that is a type is called by `Charge::activity()`, a method with `#[activity]` by its constant, \
            as in `Mailer::SEND`"
)]
pub trait ActivityCallee<Marker> {
    /// What it is given.
    type Input: Serialize;
    /// What it returns.
    type Output: DeserializeOwned;
    /// How it fails.
    type Error: ErrorValue;

    /// The name under which it is registered.
    fn name(&self) -> Arc<str>;

    /// How a call of it is tried, unless it says otherwise.
    fn options(&self) -> ActivityOptions {
        ActivityOptions::default()
    }
}

/// What can be started as a workflow: an async function of a [`Context`] and one input, or
/// [`Workflow::workflow`].
///
/// `Marker` tells the shapes apart and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be started as a workflow",
    label = "not a workflow",
    note = "a workflow is an `async fn` that takes a `Context` and one owned input that serde reads and writes, and \
            returns a `Result` whose error is a `Failure` or a `TypedError`",
    note = "a workflow that is a type is started by `Order::workflow()`"
)]
pub trait WorkflowCallee<Marker> {
    /// What it is given.
    type Input: Serialize;
    /// What it returns.
    type Output: DeserializeOwned + 'static;
    /// How it fails.
    type Error: ErrorValue;

    /// The name under which it is registered.
    fn name(&self) -> Arc<str>;
}

/// What the code of activities and workflows returns: a [`Result`]. The attributes take its sides apart.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "the code of an activity or workflow returns a `Result`, and not `{Self}`",
    label = "not a `Result`",
    note = "its error is a `Failure` or a `TypedError`; where nothing can fail, return `Ok(…)` and `Result<_, Failure>`"
)]
pub trait Outcome {
    /// What it returns.
    type Output;
    /// How it fails.
    type Error;
}

impl<O, E> Outcome for Result<O, E> {
    type Output = O;
    type Error = E;
}

/// The name of a plain function: the last part of its path, without generic arguments.
///
/// Closures have no name of their own, and give the empty text.
#[must_use]
pub fn function_name<F>() -> &'static str {
    let path = type_name::<F>();
    let path = path.split('<').next().unwrap_or(path);
    let name = path.rsplit("::").next().unwrap_or(path);
    if name.starts_with('{') { "" } else { name }
}

impl<F, I, Fut, O, E> ActivityCallee<fn(I) -> Fut> for F
where
    F: Fn(I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
    I: Serialize,
    O: DeserializeOwned,
    E: ErrorValue,
{
    type Input = I;
    type Output = O;
    type Error = E;

    fn name(&self) -> Arc<str> {
        function_name::<F>().into()
    }
}

#[cfg(feature = "runtime")]
impl<F, I, Fut, O, E> ActivityCallee<fn(crate::worker::ActivityContext, I) -> Fut> for F
where
    F: Fn(crate::worker::ActivityContext, I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
    I: Serialize,
    O: DeserializeOwned,
    E: ErrorValue,
{
    type Input = I;
    type Output = O;
    type Error = E;

    fn name(&self) -> Arc<str> {
        function_name::<F>().into()
    }
}

#[cfg(feature = "runtime")]
impl<A: Activity> ActivityCallee<A> for ActivityType<A> {
    type Input = A::Input;
    type Output = A::Output;
    type Error = A::Error;

    fn name(&self) -> Arc<str> {
        A::NAME.into()
    }

    fn options(&self) -> ActivityOptions {
        A::options()
    }
}

/// What `#[activity]` makes of a function.
#[cfg(feature = "runtime")]
impl<F: Fn() -> A, A: Activity> ActivityCallee<fn() -> A> for F {
    type Input = A::Input;
    type Output = A::Output;
    type Error = A::Error;

    fn name(&self) -> Arc<str> {
        A::NAME.into()
    }

    fn options(&self) -> ActivityOptions {
        A::options()
    }
}

/// What `#[workflow]` makes of a function.
impl<F: Fn() -> W, W: Workflow> WorkflowCallee<fn() -> W> for F {
    type Input = W::Input;
    type Output = W::Output;
    type Error = W::Error;

    fn name(&self) -> Arc<str> {
        W::NAME.into()
    }
}

impl<F, I, Fut, O, E> WorkflowCallee<fn(Context, I) -> Fut> for F
where
    F: Fn(Context, I) -> Fut,
    Fut: Future<Output = Result<O, E>>,
    I: Serialize,
    O: DeserializeOwned + 'static,
    E: ErrorValue,
{
    type Input = I;
    type Output = O;
    type Error = E;

    fn name(&self) -> Arc<str> {
        function_name::<F>().into()
    }
}

impl<W: Workflow> WorkflowCallee<W> for WorkflowType<W> {
    type Input = W::Input;
    type Output = W::Output;
    type Error = W::Error;

    fn name(&self) -> Arc<str> {
        W::NAME.into()
    }
}
