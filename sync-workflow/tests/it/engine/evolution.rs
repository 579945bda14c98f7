//! Types of payloads that change while runs are open.

use serde::{Deserialize, Serialize};
use sync_workflow::{
    CallError, Context, Failure, FailureKind, RunError, replay::Fault, status::RunStatus,
    worker::Outcome,
};

use super::{Storage, eventually, on_every_journal, quick};

on_every_journal![
    payloads_from_before_are_read_by_types_that_grew,
    an_input_that_does_not_fit_parks_the_run_until_it_does,
    a_value_that_does_not_fit_parks_the_run_until_it_does,
    a_signal_that_does_not_fit_is_an_error_of_the_code_s,
];

/// The code that the runs begin with.
mod before {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        pub(super) id: u64,
        pub(super) amount: u64,
        pub(super) note: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Quote {
        total: u64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum Method {
        Card,
    }

    pub(super) async fn quote(id: u64) -> Result<Quote, Failure> {
        Ok(Quote { total: id * 10 })
    }

    pub(super) async fn order(ctx: Context, order: Order) -> Result<u64, Failure> {
        let quote = ctx.activity(quote, order.id).await?;
        let _method: Method = ctx.wait("paid").await?;
        Ok(quote.total + order.amount)
    }
}

/// The code that goes on with them.
mod after {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        id: u64,
        #[serde(alias = "amount")]
        cents: u64,
        #[serde(default)]
        express: bool,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Quote {
        total: u64,
        discount: Option<u64>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum Method {
        Card,
        #[serde(other)]
        Other,
    }

    pub(super) async fn quote(id: u64) -> Result<Quote, Failure> {
        Ok(Quote {
            total: id,
            discount: Some(1),
        })
    }

    pub(super) async fn order(ctx: Context, order: Order) -> Result<u64, Failure> {
        let quote = ctx.activity(quote, order.id).await?;
        let method: Method = ctx.wait("paid").await?;
        let is_as_before = !order.express && quote.discount.is_none() && method == Method::Other;
        Ok(quote.total + order.cents + u64::from(is_as_before))
    }
}

/// Code that asks for more than there was.
mod demanding {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        id: u64,
        currency: String,
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Quote {
        currency: String,
    }

    pub(super) async fn order(_ctx: Context, order: Order) -> Result<u64, Failure> {
        Ok(order.id)
    }

    pub(super) async fn quote(_id: u64) -> Result<Quote, Failure> {
        Err(Failure::new("it has its value"))
    }

    pub(super) async fn quoted(ctx: Context, order: before::Order) -> Result<u64, Failure> {
        let quote = ctx.activity(quote, order.id).await?;
        Ok(quote.currency.len() as u64)
    }
}

/// Starts an order with the code of before, and leaves it where it waits to be paid.
async fn ordered(storage: &Storage) {
    let builder = quick().workflow(before::order).activity(before::quote);
    let worker = storage.start(builder).await;
    let client = worker.client();
    let order = before::Order {
        id: 7,
        amount: 500,
        note: "gone later".into(),
    };
    client.start(before::order, "order-7", order).await.unwrap();
    eventually("it waits", || async {
        client.describe("order-7").await.unwrap().status == RunStatus::Pending
    })
    .await;
    worker.shutdown().await;
}

/// Goes on with the code of after, and ends.
async fn ends_with_later_code(storage: &Storage) {
    let builder = quick().workflow(after::order).activity(after::quote);
    let worker = storage.start(builder).await;
    let handle = worker
        .client()
        .handle(after::order, "order-7")
        .await
        .unwrap();
    assert_eq!(
        handle.result().await.unwrap(),
        571,
        "what was quoted before counts"
    );
    worker.shutdown().await;
}

async fn payloads_from_before_are_read_by_types_that_grew(storage: Storage) {
    ordered(&storage).await;
    let report = quick().workflow(after::order).activity(after::quote);
    assert!(
        report
            .replay_check(&*storage.journal)
            .await
            .unwrap()
            .holds()
    );
    let client = sync_workflow::Client::new(storage.journal.clone());
    client.signal("order-7", "paid", "by_phone").await.unwrap();
    ends_with_later_code(&storage).await;
}

async fn an_input_that_does_not_fit_parks_the_run_until_it_does(storage: Storage) {
    ordered(&storage).await;
    let builder = || quick().workflow(demanding::order);
    let report = builder().replay_check(&*storage.journal).await.unwrap();
    let [difference] = &report.differences[..] else {
        panic!("{report}");
    };
    let Outcome::Parked(Fault::UndecodableInput { message }) = &difference.outcome else {
        panic!("{report}");
    };
    assert!(message.contains("missing field `currency`"), "{message}");

    let worker = storage.start(builder()).await;
    let client = worker.client();
    client.signal("order-7", "paid", "by_phone").await.unwrap();
    let handle = client.handle(demanding::order, "order-7").await.unwrap();
    let parked = handle.result().await;
    assert!(matches!(parked, Err(RunError::Parked { .. })), "{parked:?}");
    worker.shutdown().await;
    client.unpark("order-7").await.unwrap();
    ends_with_later_code(&storage).await;
}

async fn a_value_that_does_not_fit_parks_the_run_until_it_does(storage: Storage) {
    ordered(&storage).await;
    let builder = || {
        let builder = quick().workflow_named("order", demanding::quoted);
        builder.activity(demanding::quote)
    };
    let report = builder().replay_check(&*storage.journal).await.unwrap();
    let [difference] = &report.differences[..] else {
        panic!("{report}");
    };
    let parked = &difference.outcome;
    assert!(
        matches!(parked, Outcome::Parked(Fault::UndecodableValue { .. })),
        "{report}"
    );

    let worker = storage.start(builder()).await;
    let client = worker.client();
    client.signal("order-7", "paid", "by_phone").await.unwrap();
    let handle = client.handle(before::order, "order-7").await.unwrap();
    let Err(RunError::Parked { reason }) = handle.result().await else {
        panic!("it cannot be read");
    };
    assert!(reason.contains("missing field `currency`"), "{reason}");
    worker.shutdown().await;
    client.unpark("order-7").await.unwrap();
    ends_with_later_code(&storage).await;
}

async fn paid(ctx: Context, (): ()) -> Result<bool, Failure> {
    match ctx.wait::<before::Method>("paid").await {
        Err(CallError::Other(failure)) => Ok(failure.kind == FailureKind::Undecodable),
        other => Err(Failure::new(format!("{other:?}"))),
    }
}

async fn a_signal_that_does_not_fit_is_an_error_of_the_code_s(storage: Storage) {
    let worker = storage.start(quick().workflow(paid)).await;
    let client = worker.client();
    let handle = client.start(paid, "a", ()).await.unwrap();
    client.signal("a", "paid", "by_phone").await.unwrap();
    assert!(handle.result().await.unwrap());
    worker.shutdown().await;
}
