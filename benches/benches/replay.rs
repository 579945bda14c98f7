//! Replay of a long journal: from a signal to a run that is out of memory, to the first thing that it
//! does after its 10,000 records were loaded and replayed.

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sync_workflow::{Activity, ActivityContext, Context, Failure, Worker};
use tokio::{runtime::Runtime, sync::mpsc, time::timeout};

const RECORDS: u64 = 10_000;
/// Nothing here takes as long, whatever the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Draws as many pure values as the journal is to have records, then answers each signal.
async fn answers(ctx: Context, records: u64) -> Result<(), Failure> {
    for n in 0..records {
        ctx.side_effect("drawn", || n);
    }
    loop {
        let n = ctx.wait::<u64>("question").await?;
        ctx.activity(Answer::activity(), n).await?;
    }
}

struct Answer(mpsc::UnboundedSender<u64>);

impl Activity for Answer {
    const NAME: &'static str = "answer";
    type Input = u64;
    type Output = ();
    type Error = Failure;

    async fn run(&self, _ctx: ActivityContext, n: u64) -> Result<(), Failure> {
        self.0.send(n).map_err(|_gone| Failure::new("nobody asks"))
    }
}

struct Setting {
    worker: Worker,
    answers: mpsc::UnboundedReceiver<u64>,
    asked: u64,
}

impl Setting {
    async fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let worker = Worker::builder()
            .evict_after(Duration::from_millis(1))
            .workflow(answers)
            .activity(Answer(sender))
            .start("memory:")
            .await
            .expect("a journal in memory opens");
        let started = worker.client().start(answers, "long", RECORDS).await;
        started.expect("a journal in memory takes a start");
        Self {
            worker,
            answers: receiver,
            asked: 0,
        }
    }

    /// The time from a signal to its answer, when the run was out of memory.
    async fn question(&mut self) -> Duration {
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        while self.worker.resident_runs() > 0 {
            looks.tick().await;
        }
        self.asked += 1;
        let started = Instant::now();
        let client = self.worker.client();
        let sent = client.signal("long", "question", &self.asked).await;
        sent.expect("the run is open");
        let answer = timeout(PATIENCE, self.answers.recv()).await;
        assert_eq!(answer.expect("an answer in time"), Some(self.asked));
        started.elapsed()
    }
}

fn replay(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("threads can be started");
    let mut setting = runtime.block_on(Setting::new());
    criterion.bench_function("replay/10,000 records", |bencher| {
        bencher.iter_custom(|iterations| {
            runtime.block_on(async {
                let mut sum = Duration::ZERO;
                for _ in 0..iterations {
                    sum += setting.question().await;
                }
                sum
            })
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = replay
}
criterion_main!(benches);
