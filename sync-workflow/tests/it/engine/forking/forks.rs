//! Forks beside their origin, from each of its places.

use std::time::Duration;

use sync_workflow::{
    Context, Failure, FailureKind, RetryPolicy, Tx,
    client::{ForkError, ForkPoint},
    id::{CommandId, Position},
    journal::RunFilter,
    testing::ReplayCheck,
    worker::WorkerBuilder,
};

use super::{
    Storage,
    code::{collects, double, doubled},
    echo, fails, history, on_every_journal, quick,
};

on_every_journal![
    a_fork_at_every_place_comes_to_the_same_end,
    a_place_that_a_history_does_not_have_is_refused,
];

/// Asks for everything that there is, and gives to activities whatever follows from the run.
async fn everything(ctx: Context, n: u64) -> Result<u64, Failure> {
    let long = Duration::from_secs(3_600);
    let drawn = ctx.random();
    let mut sum = u64::from(ctx.activity(echo, drawn).await? == drawn);
    let me = format!("{} {} {}", ctx.run_id(), ctx.workflow_id(), ctx.uuid());
    sum += ctx.activity(note, me).await?;
    let version = ctx.version("a change", 0..=1);
    let (at, seven) = (ctx.now(), ctx.side_effect("draw", || 7_u64));
    let together = futures::join!(
        ctx.activity(echo, seven),
        ctx.sleep(Duration::from_millis(1)),
        ctx.activity(note, ctx.uuid().to_string()),
    );
    together.1?;
    sum += together.0? + together.2? + u64::from(version);
    let raced = ctx.timeout(long, ctx.activity(echo, ctx.random())).await;
    sum += u64::from(raced.is_ok());
    match ctx.activity(echo, n).at_most_once().await {
        Ok(value) => sum += value,
        // The place was between the attempt and its end.
        Err(error) if error.is_kind(FailureKind::Interrupted) => sum += n,
        Err(error) => return Err(error.into()),
    }
    ctx.transaction("nothing", async |_: Tx| Ok::<_, Failure>(()))
        .await?;
    let mut saga = ctx.saga();
    saga.on_undo(async move |ctx: Context| ctx.activity(note, ctx.uuid().to_string()).await);
    let refused = ctx.activity(fails, 1).retry(RetryPolicy::none()).await;
    let undone = saga.undo(refused.unwrap_err().into()).await;
    sum += u64::from(undone.message.contains("no"));
    let child = ctx.child(doubled, 5).start();
    let named = ctx.activity(note, child.workflow_id().to_string());
    let (five, named, six) = futures::join!(child, named, ctx.child(doubled, 6));
    sum += five? + named? + six?;
    ctx.child(doubled, 7).detach();
    let scope = ctx.scope();
    let slow = scope.context().sleep(long);
    let ends = async {
        let drawn = ctx.random();
        let echoed = ctx.activity(echo, drawn).await;
        scope.cancel();
        echoed.map(|echoed| echoed == drawn)
    };
    let (slept, is_same) = futures::join!(slow, ends);
    sum += u64::from(slept.is_err()) + u64::from(is_same?);
    sum += ctx.fan_out(doubled, 0..4).all().await?.iter().sum::<u64>();
    let myself = ctx.workflow_id();
    let (first, second): (u64, u64) = (ctx.wait("number").await?, ctx.wait("number").await?);
    sum += 10 * first + second;
    let _origin_may_be_closed = ctx.signal(&myself, "own", &ctx.random()).await;
    let last = ctx.uuid();
    sum += ctx.activity(note, last.to_string()).await?;
    Ok(sum + u64::from(at <= ctx.now()))
}

fn all_code() -> WorkerBuilder {
    quick()
        .workflow(everything)
        .workflow(doubled)
        .activity(echo)
        .activity(note)
        .activity(fails)
        .activity(double)
}

async fn note(_: String) -> Result<u64, Failure> {
    Ok(1)
}

async fn a_fork_at_every_place_comes_to_the_same_end(storage: Storage) {
    let worker = storage.start(all_code()).await;
    let client = worker.client();
    let origin = client.start(everything, "origin", 3).await.unwrap();
    for n in [4_u64, 2] {
        client.signal("origin", "number", &n).await.unwrap();
    }
    let expected = origin.result().await.unwrap();
    let records = history(&client, origin.run_id()).await;
    let end = u32::try_from(records.len()).unwrap() - 1;
    assert!(end > 30, "{end}");

    let mut forks = Vec::new();
    for place in 1..=end {
        let id = format!("fork-{place}");
        let run = client.fork(origin.run_id(), Position(place), &id).await;
        forks.push((place, run.unwrap(), id));
    }
    let middle = forks[forks.len() / 2].clone();
    for (place, run, id) in &forks {
        let fork = client.handle(everything, id).await.unwrap();
        assert_eq!(fork.result().await.unwrap(), expected, "forked at {place}");
        let exported = client.export(*run).await.unwrap();
        let check = ReplayCheck::of_history(everything, &exported).unwrap();
        check
            .whole()
            .unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    // Forks of a fork: before and after the place at which it became itself.
    for place in [5, middle.0, middle.0 + 1, middle.0 + 5] {
        let id = format!("fork-of-fork-{place}");
        client.fork(middle.1, Position(place), &id).await.unwrap();
        let fork = client.handle(everything, &id).await.unwrap();
        assert_eq!(fork.result().await.unwrap(), expected, "forked at {place}");
        let exported = client.export(fork.run_id()).await.unwrap();
        let check = ReplayCheck::of_history(everything, &exported).unwrap();
        check.whole().unwrap();
    }
    assert_eq!(history(&client, origin.run_id()).await.len(), records.len());
    worker.shutdown().await;
}

async fn a_place_that_a_history_does_not_have_is_refused(storage: Storage) {
    let worker = storage
        .start(
            quick()
                .workflow(doubled)
                .workflow(collects)
                .activity(double),
        )
        .await;
    let client = worker.client();
    let handle = client.start(doubled, "a", 2).await.unwrap();
    handle.result().await.unwrap();
    let run = handle.run_id();
    // The start, the activity, and the end, which cannot be kept.
    for point in [
        ForkPoint::Position(Position(3)),
        ForkPoint::Position(Position(u32::MAX)),
        ForkPoint::Command(CommandId(1)),
        ForkPoint::Command(CommandId(u32::MAX)),
        ForkPoint::LastFailure,
    ] {
        let refused = client.fork(run, point, "b").await;
        assert!(
            matches!(refused, Err(ForkError::NoPlace { records: 2, .. })),
            "{refused:?}"
        );
    }
    let unknown = client.reset("nobody", ForkPoint::Start).await;
    assert!(
        matches!(
            unknown,
            Err(ForkError::Client(sync_workflow::client::Error::NotFound))
        ),
        "{unknown:?}"
    );
    let taken = client.fork(run, ForkPoint::Start, "a").await;
    assert!(
        matches!(taken, Err(ForkError::Existing { run: found, .. }) if found == run),
        "{taken:?}"
    );
    let nameless = client.fork(run, ForkPoint::Start, "").await;
    assert!(
        matches!(nameless, Err(ForkError::Client(_))),
        "{nameless:?}"
    );
    assert_eq!(
        client
            .list(&RunFilter::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    worker.shutdown().await;
}
