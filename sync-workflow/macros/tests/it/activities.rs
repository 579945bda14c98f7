//! Activities that are methods, and durable tests of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use sync_workflow::{
    ActivityContext, Context, Failure, RetryPolicy, Worker, WorkerBuilder, activities,
    testing::{TestEnvironment, durable_test},
};

/// Cents by idempotency key.
type Ledger = Mutex<BTreeMap<String, u64>>;

pub(crate) struct Bank(Arc<Ledger>);

#[activities]
impl Bank {
    #[activity(retry = RetryPolicy::none())]
    pub(crate) async fn charge(
        &self,
        ctx: ActivityContext,
        card: String,
        cents: u64,
    ) -> Result<u64, Failure> {
        self.book(format!("{card} {}", ctx.idempotency_key()), cents);
        Ok(cents)
    }

    #[activity(name = "close the books")]
    async fn close(&self) -> Result<u64, Failure> {
        Ok(self.0.lock().unwrap().values().sum())
    }

    fn book(&self, key: String, cents: u64) {
        self.0.lock().unwrap().insert(key, cents);
    }
}

async fn order(ctx: Context, cents: u64) -> Result<u64, Failure> {
    let charged = ctx.activity(Bank::CHARGE, ("1".into(), cents)).await?;
    let tip: u64 = ctx.wait("tip").await?;
    ctx.activity(Bank::CHARGE, ("1".into(), tip)).await?;
    Ok(charged + ctx.activity(Bank::CLOSE, ()).await?)
}

fn shop(ledger: &Arc<Ledger>) -> WorkerBuilder {
    Worker::builder()
        .workflow(order)
        .activities(Bank(Arc::clone(ledger)))
}

async fn buys(env: &TestEnvironment) -> u64 {
    let handle = env.client().start(order, "order", 100).await.unwrap();
    env.client()
        .signal_once("order", "tip", "the tip", &5_u64)
        .await
        .unwrap();
    handle.result().await.unwrap()
}

#[test]
fn methods_share_their_value() {
    let ledger = Arc::default();
    TestEnvironment::run(shop(&ledger), async |env| {
        assert_eq!(buys(env).await, 205);
        let run = env.client().describe("order").await.unwrap().run;
        let history = env.client().history(run, 0, 100).await.unwrap();
        let names: Vec<_> = history
            .items
            .iter()
            .map(|item| &*item.record.name)
            .collect();
        assert!(
            names.contains(&"Bank::charge") && names.contains(&"close the books"),
            "{names:?}"
        );
    });
    let keys: Vec<_> = ledger.lock().unwrap().keys().cloned().collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
}

#[test]
fn a_method_is_mocked_by_its_constant() {
    let worker = shop(&Arc::default()).mock(Bank::CLOSE, async |()| Ok(1));
    assert_eq!(TestEnvironment::run(worker, buys), 101);
}

#[durable_test(worker = shop, seeds = 0..8)]
async fn an_order_is_charged_once(env: &TestEnvironment, ledger: &Ledger) -> u64 {
    let charged = buys(env).await;
    assert_eq!(ledger.lock().unwrap().values().sum::<u64>(), 105);
    charged
}

static PLAYS: AtomicU32 = AtomicU32::new(0);

#[durable_test(worker = || shop(&Arc::default()), seeds = 0..8)]
async fn a_durable_test_needs_no_effects(env: &TestEnvironment) {
    PLAYS.fetch_add(1, Ordering::SeqCst);
    buys(env).await;
}

#[test]
fn a_durable_test_is_played_at_every_commit() {
    a_durable_test_needs_no_effects();
    let plays = PLAYS.load(Ordering::SeqCst);
    assert!(plays > 8 + 2 * 3, "{plays}");
}

#[durable_test(worker = Worker::builder)]
#[should_panic(expected = "nobody expects this")]
async fn attributes_stay_with_the_test(_env: &TestEnvironment) {
    panic!("nobody expects this");
}
