//! The attributes of `sync-workflow`, which re-exports them under its feature `macros`.
//!
//! - [`macro@workflow`] and [`macro@activity`] give a function a name that outlives its renaming, several arguments,
//!   and the options of its calls.
//! - [`macro@activities`] makes activities of the methods of a type that holds what they need.
//! - [`macro@durable_test`] plays a test with a crash at every commit.
//!
//! What they write is what one would write by hand: a type that implements `Activity` or `Workflow`. Everything else goes on
//! as without them.

mod activities;
mod arguments;
mod durable_test;
mod function;
mod options;

use proc_macro::TokenStream;
use quote::{ToTokens, quote};
use syn::{ItemFn, ItemImpl, parse_macro_input};

use crate::options::Options;

/// Makes a workflow of an async function, with a name of its own and any number of arguments.
///
/// ```
/// use sync_workflow::{Context, Failure, Worker, testing::TestEnvironment, workflow};
///
/// /// Counts down; the function may be renamed, the runs that are stored keep their name.
/// #[workflow(name = "count down")]
/// async fn counts(ctx: Context, from: u32, step: u32) -> Result<u32, Failure> {
///     if from < step {
///         return Ok(from);
///     }
///     ctx.continue_as_new(counts, (from - step, step)).await
/// }
///
/// TestEnvironment::run(Worker::builder().workflow(counts), async |env| {
///     let handle = env.client().start(counts, "a", (17, 5)).await.unwrap();
///     assert_eq!(handle.result().await.unwrap(), 2);
/// });
/// ```
///
/// The function becomes a type of its name that implements `Workflow`: registered, started and called like a
/// plain function. `counts::call(ctx, 17, 5)` is the code itself, to be awaited from another workflow as a part of it. The
/// input of a workflow with one argument is that argument; with several it is their tuple, stored as a JSON array; with
/// none it is `()`.
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"` | the name under which runs are stored; the function's if it is not given |
///
/// It refuses what could not work: a function that is not async, that takes no `Context` first, has references in what it
/// takes or returns, or is generic.
#[proc_macro_attribute]
pub fn workflow(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options with Options::of_workflow);
    let function = parse_macro_input!(item as ItemFn);
    written(function::workflow(&options, &function), &function)
}

/// Makes an activity of an async function, with a name of its own, any number of arguments, and the options of its calls.
///
/// ```
/// use std::time::Duration;
/// use sync_workflow::{ActivityContext, Context, Failure, RetryPolicy, Worker, activity, testing::TestEnvironment};
///
/// #[activity(name = "charge card", timeout = Duration::from_secs(30), retry = RetryPolicy::none())]
/// async fn charge(ctx: ActivityContext, card: String, cents: u64) -> Result<String, Failure> {
///     Ok(format!("{cents} from {card} by {}", ctx.idempotency_key().len()))
/// }
///
/// async fn order(ctx: Context, cents: u64) -> Result<String, Failure> {
///     // This call has a longer time limit than the others.
///     let charge = ctx.activity(charge, ("1234".into(), cents));
///     Ok(charge.timeout(Duration::from_secs(60)).await?)
/// }
///
/// TestEnvironment::run(Worker::builder().workflow(order).activity(charge), async |env| {
///     let handle = env.client().start(order, "a", 7).await.unwrap();
///     assert_eq!(handle.result().await.unwrap(), "7 from 1234 by 38");
/// });
/// ```
///
/// The function becomes a type of its name that implements `Activity`: registered, called and mocked like a plain
/// function. `charge::call(…)` is the code itself. An `ActivityContext` may be the first argument. Of the others, one is the
/// input itself, several are their tuple, stored as a JSON array, and none is `()`.
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"` | the name under which results are journaled; the function's if it is not given |
/// | `retry = policy` | how failed attempts are repeated: a `RetryPolicy` |
/// | `timeout = duration` | the limit of one attempt |
/// | `deadline = duration` | the limit of all attempts together |
/// | `heartbeat_timeout = duration` | the limit of an attempt's silence |
/// | `queue = "…"` | the queue whose workers run it |
/// | `at_most_once` | an attempt is journaled before it starts, and never repeated |
/// | `park_when_exhausted` | the run is parked for a person when the attempts are used up |
///
/// Values are expressions of Rust. They are the defaults of all calls; a call's own methods of the same names go before them.
///
/// It refuses what could not work: a function that is not async, takes a `Context`, has references in what it takes or
/// returns, or is generic.
#[proc_macro_attribute]
pub fn activity(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options with Options::of_activity);
    let function = parse_macro_input!(item as ItemFn);
    written(function::activity(&options, &function), &function)
}

/// Makes activities of the methods of a type that holds what they need, such as connections and keys.
///
/// Methods with `#[activity]` are activities, with the options that [`macro@activity`] has; the others are left alone. A
/// method `send` of `Mailer` is named `Mailer::SEND` in workflow code, and `"Mailer::send"` in the journal unless it is given
/// a name. `WorkerBuilder::activities` registers all of them with one value, which they share.
///
/// ```
/// use sync_workflow::{Context, Failure, RetryPolicy, Worker, activities, testing::TestEnvironment};
///
/// struct Mailer { sender: String }
///
/// #[activities]
/// impl Mailer {
///     #[activity(retry = RetryPolicy::none())]
///     async fn send(&self, to: String, body: String) -> Result<String, Failure> {
///         Ok(format!("{} to {to}: {body}", self.sender))
///     }
///
///     #[activity(name = "forget address")]
///     async fn forget(&self, _address: String) -> Result<(), Failure> { Ok(()) }
/// }
///
/// async fn farewell(ctx: Context, to: String) -> Result<String, Failure> {
///     let sent = ctx.activity(Mailer::SEND, (to.clone(), "bye".into())).await?;
///     ctx.activity(Mailer::FORGET, to).await?;
///     Ok(sent)
/// }
///
/// let mailer = Mailer { sender: "us".into() };
/// TestEnvironment::run(Worker::builder().workflow(farewell).activities(mailer), async |env| {
///     let handle = env.client().start(farewell, "a", "Ada".into()).await.unwrap();
///     assert_eq!(handle.result().await.unwrap(), "us to Ada: bye");
/// });
/// ```
#[proc_macro_attribute]
pub fn activities(options: TokenStream, item: TokenStream) -> TokenStream {
    let _none = parse_macro_input!(options with Options::none);
    let mut block = parse_macro_input!(item as ItemImpl);
    let result = activities::activities(&mut block);
    written(result, &block)
}

/// Makes a test of an async function that is played once as it is, then with a crash of the worker before and after every
/// commit of the journal, and then under random schedules with a crash somewhere. What it returns must be the same each time,
/// and what it asserts must hold.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use sync_workflow::{
///     ActivityContext, Context, Failure, Worker, WorkerBuilder, activities,
///     testing::{TestEnvironment, durable_test},
/// };
///
/// /// Cents by the idempotency key of the charge: the outside world of this test.
/// type Ledger = Mutex<std::collections::BTreeMap<String, u64>>;
///
/// struct Bank(Arc<Ledger>);
///
/// #[activities]
/// impl Bank {
///     #[activity]
///     async fn charge(&self, ctx: ActivityContext, cents: u64) -> Result<u64, Failure> {
///         self.0.lock().unwrap().insert(ctx.idempotency_key(), cents);
///         Ok(cents)
///     }
/// }
///
/// async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
///     let charged = ctx.activity(Bank::CHARGE, cents).await?;
///     Ok(charged + ctx.activity(Bank::CHARGE, 5).await?)
/// }
///
/// fn shop(ledger: &Arc<Ledger>) -> WorkerBuilder {
///     Worker::builder().workflow(order).activities(Bank(Arc::clone(ledger)))
/// }
///
/// #[durable_test(worker = shop)]
/// async fn an_order_is_charged_once(env: &TestEnvironment, ledger: &Ledger) -> u64 {
///     let handle = env.client().start(order, "order-1", 100).await.unwrap();
///     let charged = handle.result().await.unwrap();
///     assert_eq!(ledger.lock().unwrap().values().sum::<u64>(), 105);
///     charged
/// }
/// ```
///
/// The second argument is what the activities keep their effects in: a new `Default` value for each play, which the
/// function `worker` is given in an `Arc`. Without it, `worker` takes nothing. `seeds = 0..100` sets the seeds of the random
/// schedules; 16 are played if it is not given. A failure tells its crash or its seed.
#[proc_macro_attribute]
pub fn durable_test(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options with Options::of_durable_test);
    let function = parse_macro_input!(item as ItemFn);
    written(durable_test::durable_test(&options, &function), &function)
}

/// What an attribute wrote. Where it could not, the item stays as it is, so that nothing else is missing.
fn written(result: syn::Result<proc_macro2::TokenStream>, item: &impl ToTokens) -> TokenStream {
    let written = result.unwrap_or_else(|error| {
        let refused = error.into_compile_error();
        quote!(#refused #item)
    });
    written.into()
}
