//! Spans, metrics and log lines of a worker. Each test has one thread, so that what it installs there is its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use opentelemetry::trace::{SpanId, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, RunError, TraceContext, Tx,
    id::WorkflowId,
    status::RunStatus,
    telemetry::{METRICS, MetricKind, ReplayFilter},
    worker::WorkerBuilder,
};
use tokio::sync::Notify;
use tracing::{Event, Instrument as _, Subscriber, field::Visit};
use tracing_subscriber::{Layer, layer::SubscriberExt as _};

use super::{Storage, eventually, faults::Faulty, quick};

macro_rules! on_one_thread {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(super::Storage::memory()).await })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Storage::sqlite().await).await })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Storage::postgres().await).await })*
        }
    };
}

on_one_thread![
    a_workflow_that_sleeps_and_wakes_logs_once,
    one_trace_leads_from_the_client_to_activities_on_two_workers_and_is_linked_after_a_sleep,
    children_and_continued_runs_inherit_the_trace,
    a_worker_counts_what_it_does,
    runs_of_a_build_without_workers_are_counted_and_told_of,
];

async fn work((): ()) -> Result<(), Failure> {
    tracing::info!("works");
    Ok(())
}

async fn tells(ctx: Context, (): ()) -> Result<(), Failure> {
    tracing::info!("begins");
    ctx.wait::<()>("work").await?;
    tracing::info!("was told to work");
    ctx.activity(work, ()).await?;
    tracing::info!("has worked");
    ctx.wait::<()>("end").await?;
    tracing::info!("ends");
    Ok(())
}

async fn a_workflow_that_sleeps_and_wakes_logs_once(storage: Storage) {
    let (all, once, once_by_filter) = (Lines::default(), Lines::default(), Lines::default());
    let filtered = once_by_filter.clone().with_filter(ReplayFilter);
    // A layer holds for every layer, so the lines that it keeps out are heard by another subscriber.
    let heard = tracing_subscriber::registry()
        .with(all.clone())
        .with(filtered);
    let guard = tracing::subscriber::set_default(heard);
    told_twice(&storage, "by a filter").await;
    drop(guard);
    let silenced = tracing_subscriber::registry()
        .with(ReplayFilter)
        .with(once.clone());
    let _guard = tracing::subscriber::set_default(silenced);
    told_twice(&storage, "by a layer").await;

    let expected = ["begins", "was told to work", "works", "has worked", "ends"];
    assert_eq!(once.of_this_file(), expected);
    assert_eq!(once_by_filter.of_this_file(), expected);
    assert!(all.of_this_file().len() > expected.len(), "it was replayed");
}

/// Runs a workflow that is out of memory each time before something arrives.
async fn told_twice(storage: &Storage, id: &str) {
    let worker = storage.start(quick().workflow(tells).activity(work)).await;
    let client = worker.client();
    let handle = client.start(tells, id, ()).await.unwrap();
    for signal in ["work", "end"] {
        asleep(&client, id).await;
        client.signal(id, signal, &()).await.unwrap();
        // It is asleep again before it is looked at again.
        eventually("it took the signal", || async {
            let history = client.history(handle.run_id(), 0, 100).await.unwrap();
            let received = |kind| history.items.iter().any(|item| &*item.record.name == kind);
            received(signal)
        })
        .await;
    }
    handle.result().await.unwrap();
    worker.shutdown().await;
}

async fn asleep(client: &Client, id: &str) {
    eventually("it sleeps", || async {
        client.describe(id).await.unwrap().status == RunStatus::Pending
    })
    .await;
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn of_this_file(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Message(Option<String>);
        impl Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = Some(format!("{value:?}"));
                }
            }
        }
        if event.metadata().target() != module_path!() {
            return;
        }
        let mut message = Message(None);
        event.record(&mut message);
        self.0.lock().unwrap().extend(message.0);
    }
}

/// Hangs at its first attempt, and tells which trace it sees.
#[derive(Clone, Default)]
struct Hangs {
    attempts: Arc<AtomicU32>,
    begun: Arc<Notify>,
    seen: Arc<Mutex<Vec<TraceContext>>>,
}

impl Activity for Hangs {
    const NAME: &'static str = "hangs";
    type Input = ();
    type Output = ();
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, (): ()) -> Result<(), Failure> {
        self.seen.lock().unwrap().extend(ctx.trace());
        if self.attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            self.begun.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

async fn travels(ctx: Context, (): ()) -> Result<(), Failure> {
    ctx.activity(work, ()).await?;
    ctx.activity(Hangs::activity(), ()).await?;
    ctx.wait::<()>("go on").await?;
    ctx.activity(work, ()).await?;
    Ok(())
}

async fn one_trace_leads_from_the_client_to_activities_on_two_workers_and_is_linked_after_a_sleep(
    storage: Storage,
) {
    let traces = Traces::default();
    let _guard = traces.install();
    let hangs = Hangs::default();
    let lease = Duration::from_millis(300);
    let builder = || {
        let builder = quick().lease(lease).workflow(travels);
        builder.activity(work).activity(hangs.clone())
    };
    let first = storage.start(builder()).await;
    let client = first.client();
    let start = async { client.start(travels, "a", ()).await.unwrap() };
    let handle = start.instrument(tracing::info_span!("caller")).await;
    hangs.begun.notified().await;
    first.abandon().await;

    let second = storage.start(builder()).await;
    eventually("the second worker runs the activity again", || async {
        hangs.attempts.load(Ordering::SeqCst) == 2
    })
    .await;
    asleep(&second.client(), "a").await;
    second.client().signal("a", "go on", &()).await.unwrap();
    let again = second.client().handle(travels, "a").await.unwrap();
    assert_eq!(again.run_id(), handle.run_id());
    again.result().await.unwrap();
    second.shutdown().await;

    let spans = traces.finished();
    let caller = &of(&spans, "caller")[0];
    let slices = of(&spans, "run travels");
    let [taken, over, awake] = &slices[..] else {
        panic!("three slices: {slices:#?}");
    };
    for slice in [taken, over] {
        assert_eq!(slice.parent_span_id, caller.span_context.span_id());
        assert_eq!(trace_of(slice), trace_of(caller));
        assert!(slice.links.is_empty());
    }
    assert_eq!(awake.parent_span_id, SpanId::INVALID);
    assert_ne!(trace_of(awake), trace_of(caller));
    let links: Vec<_> = awake.links.iter().map(|link| &link.span_context).collect();
    assert_eq!(links.len(), 1);
    assert_eq!(links[0].trace_id(), caller.span_context.trace_id());
    assert_eq!(links[0].span_id(), caller.span_context.span_id());

    let parents = |name: &str| -> Vec<_> {
        let spans = of(&spans, name);
        spans.iter().map(|span| span.parent_span_id).collect()
    };
    let [taken, over, awake] = [taken, over, awake].map(|slice| slice.span_context.span_id());
    // What was replayed left no span.
    assert_eq!(parents("activity work"), [taken, awake]);
    assert_eq!(parents("activity hangs"), [taken, over]);
    let attempts = of(&spans, "activity hangs");
    let attempts = attempts.iter().map(|attempt| {
        let context = &attempt.span_context;
        format!("00-{}-{}-01", context.trace_id(), context.span_id())
    });
    let seen = hangs.seen.lock().unwrap();
    assert_eq!(
        attempts.collect::<Vec<_>>(),
        seen.iter()
            .map(TraceContext::traceparent)
            .collect::<Vec<_>>()
    );
}

async fn parent(ctx: Context, (): ()) -> Result<(), Failure> {
    let id = WorkflowId::new("child").map_err(|invalid| Failure::new(invalid.to_string()))?;
    ctx.child(turns, 1).id(id).await?;
    Ok(())
}

async fn turns(ctx: Context, left: u32) -> Result<(), Failure> {
    match left {
        0 => Ok(()),
        left => ctx.continue_as_new(turns, left - 1).await,
    }
}

async fn children_and_continued_runs_inherit_the_trace(storage: Storage) {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceContext::new(PARENT)
        .unwrap()
        .with_state("vendor=1")
        .unwrap();
    let worker = storage
        .start(quick().workflow(parent).workflow(turns))
        .await;
    let client = worker.client();
    let handle = client
        .start(parent, "parent", ())
        .trace(trace.clone())
        .await;
    handle.unwrap().result().await.unwrap();
    for id in ["parent", "child"] {
        assert_eq!(
            client.describe(id).await.unwrap().trace,
            Some(trace.clone()),
            "{id}"
        );
    }
    worker.shutdown().await;
}

/// Spans as OpenTelemetry exports them.
#[derive(Default)]
struct Traces(InMemorySpanExporter);

impl Traces {
    fn install(&self) -> tracing::subscriber::DefaultGuard {
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(self.0.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
    }

    /// The spans that have ended, in the order of their beginning.
    fn finished(&self) -> Vec<SpanData> {
        let mut spans = self.0.get_finished_spans().unwrap();
        spans.sort_by_key(|span| span.start_time);
        spans
    }
}

fn of(spans: &[SpanData], name: &str) -> Vec<SpanData> {
    let named = spans.iter().filter(|span| span.name == name);
    named.cloned().collect()
}

fn trace_of(span: &SpanData) -> opentelemetry::trace::TraceId {
    span.span_context.trace_id()
}

async fn fails((): ()) -> Result<(), Failure> {
    Err(Failure::final_error("it does"))
}

async fn breaks(ctx: Context, (): ()) -> Result<(), Failure> {
    ctx.sleep(Duration::from_millis(1)).await?;
    ctx.activity(fails, ()).await?;
    Ok(())
}

async fn panics(_ctx: Context, (): ()) -> Result<(), Failure> {
    panic!("no words")
}

async fn a_worker_counts_what_it_does(storage: Storage) {
    let traces = Traces::default();
    let _traces = traces.install();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let builder = quick().workflow(tells).workflow(breaks).workflow(panics);
    let worker = storage.start(builder.activity(work).activity(fails)).await;
    let client = worker.client();
    told(&client).await;
    let broken = client.start(breaks, "breaks", ()).await.unwrap();
    assert!(matches!(broken.result().await, Err(RunError::Failed(_))));
    let parked = client.start(panics, "panics", ()).await.unwrap();
    assert!(matches!(
        parked.result().await,
        Err(RunError::Parked { .. })
    ));
    worker.shutdown().await;

    let counted = Counted::read(&snapshotter);
    counted.check("run_slices_total breaks failed", 1);
    counted.check("run_slices_total panics parked", 1);
    counted.check("run_slices_total tells asleep", 2);
    counted.check("run_slices_total tells completed", 1);
    counted.check("claimed_runs_total tells", 2);
    counted.check("schedule_to_start_seconds tells", 2);
    // The first time it had its start alone, which is no replay.
    counted.check("replay_seconds tells", 1);
    counted.check("timer_lateness_seconds breaks", 1);
    counted.check("activity_attempts_total work completed", 1);
    counted.check("activity_attempts_total fails failed", 1);
    counted.check("activity_attempt_seconds work", 1);
    for idle in [
        "resident_runs",
        "places",
        "activity_slots",
        "activity_slots_used",
    ] {
        counted.check(idle, 0);
    }
    assert!(counted.of("commit_seconds") > 3 && counted.of("claims_total runs") >= 2);
    let failed = &of(&traces.finished(), "activity fails")[0];
    assert!(matches!(failed.status, Status::Error { .. }));
}

async fn told(client: &Client) {
    let handle = client.start(tells, "told", ()).await.unwrap();
    for signal in ["work", "end"] {
        asleep(client, "told").await;
        client.signal("told", signal, &()).await.unwrap();
        if signal == "work" {
            eventually("it has worked", || async {
                let history = client.history(handle.run_id(), 0, 100).await.unwrap();
                history
                    .items
                    .iter()
                    .any(|item| &*item.record.name == "work" && item.record.command.0 == 1)
            })
            .await;
        }
    }
    handle.result().await.unwrap();
}

/// The warnings of the engine, each with its fields.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn install(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    /// Those of this name.
    fn named(&self, name: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let named = lines.iter().filter(|line| line.starts_with(name));
        named.cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                match field.name() {
                    "message" => self.0 = format!("{value:?}{}", self.0),
                    name => self.0 += &format!(" {name}={value:?}"),
                }
            }
        }
        if *event.metadata().level() == tracing::Level::WARN {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }
}

fn of_build(build: &str) -> WorkerBuilder {
    let builder = quick().workflow(tells).activity(work);
    builder.build_id(build)
}

/// Leaves a run of this build, and no worker of it.
async fn strands_a_run(storage: &Storage, build: &str) {
    let worker = storage.start(of_build(build)).await;
    let client = worker.client();
    client.start(tells, "stranded", ()).await.unwrap();
    eventually("it is the build's", async || {
        client.describe("stranded").await.unwrap().build.is_some()
    })
    .await;
    worker.shutdown().await;
}

const STRANDED: &str = "build_without_workers queue=default build=old open_runs=1";

async fn runs_of_a_build_without_workers_are_counted_and_told_of(storage: Storage) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let warnings = Warnings::default();
    let _warnings = warnings.install();
    strands_a_run(&storage, "old").await;
    assert!(warnings.named("build_without_workers").is_empty());
    let counts = async |expected| {
        eventually("the runs are counted", async || {
            Counted::read(&snapshotter).of("stranded_runs") == expected
        })
        .await;
    };
    let new = storage.start(of_build("new")).await;
    counts(1).await;
    assert_eq!(warnings.named("build_without_workers"), [STRANDED]);
    let old = storage.start(of_build("old")).await;
    counts(0).await;
    assert_eq!(warnings.named("build_without_workers"), [STRANDED]);
    old.shutdown().await;
    new.shutdown().await;
}

/// Time passes by itself here whenever nothing else happens.
const MINUTES: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn a_build_without_workers_is_told_of_once_each_time() {
    let warnings = Warnings::default();
    let _warnings = warnings.install();
    let storage = Storage::memory();
    strands_a_run(&storage, "old").await;
    let new = storage.start(of_build("new")).await;
    for time in 1..=2 {
        tokio::time::sleep(MINUTES).await;
        assert_eq!(
            warnings.named("build_without_workers"),
            vec![STRANDED; time]
        );
        let old = storage.start(of_build("old")).await;
        tokio::time::sleep(MINUTES).await;
        old.shutdown().await;
    }
    new.shutdown().await;
}

async fn books(ctx: Context, (): ()) -> Result<(), Failure> {
    let book = async |tx: Tx| {
        drop(tx);
        Ok::<_, Failure>(())
    };
    Ok(ctx.transaction("book", book).await?)
}

#[tokio::test(start_paused = true)]
async fn a_step_that_gives_way_again_and_again_is_told_of() {
    let warnings = Warnings::default();
    let _warnings = warnings.install();
    let journal = Faulty::new(Storage::memory().journal);
    journal.contend(15, 30);
    let worker = quick().workflow(books).start_on(journal).await.unwrap();
    let handle = worker.client().start(books, "a", ()).await.unwrap();
    handle.result().await.unwrap();
    let run = handle.run_id();
    let words = "a transaction was rolled back in favour of another";
    let told = [20, 40].map(|tries| {
        format!(
            "transaction_contended run_id={run} workflow_id=a command=0 tries={tries} failure={words}: as planned"
        )
    });
    assert_eq!(warnings.named("transaction_contended"), told);
    worker.shutdown().await;
}

/// Metrics by their names and the values of their labels.
struct Counted(BTreeMap<String, i64>);

impl Counted {
    fn read(snapshotter: &Snapshotter) -> Self {
        let metrics = snapshotter.snapshot().into_vec().into_iter();
        let counted = metrics.map(|(key, _, meaning, value)| {
            let key = key.key();
            let metric = METRICS.iter().find(|metric| metric.name == key.name());
            let metric = metric.unwrap_or_else(|| panic!("{} is in no list", key.name()));
            assert_eq!(meaning.as_deref(), Some(metric.meaning));
            let labels: Vec<_> = key.labels().map(metrics::Label::key).collect();
            assert_eq!(labels, metric.labels);
            let (count, kind) = match value {
                DebugValue::Counter(count) => (count as i64, MetricKind::Counter),
                DebugValue::Gauge(value) => (value.0 as i64, MetricKind::Gauge),
                DebugValue::Histogram(values) => (values.len() as i64, metric.kind),
            };
            assert!(metric.kind == kind || metric.kind == MetricKind::GaugeOfSeconds);
            let name = key.name().trim_start_matches("sync_workflow_");
            let values = key.labels().map(metrics::Label::value);
            let name = std::iter::once(name)
                .chain(values)
                .collect::<Vec<_>>()
                .join(" ");
            (name, count)
        });
        Self(counted.collect())
    }

    fn of(&self, name: &str) -> i64 {
        *self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:#?}", self.0))
    }

    fn check(&self, name: &str, expected: i64) {
        assert_eq!(self.of(name), expected, "{name} in {:#?}", self.0);
    }
}
