//! Children and their parents.

use sync_workflow::{Context, Failure, FailureKind, id::WorkflowId, status::RunStatus};

use super::{
    Storage,
    code::{collects, double, doubled},
    on_every_journal, quick,
};

on_every_journal![
    a_parent_gets_the_results_of_its_children,
    a_child_whose_workflow_id_is_taken_is_an_error,
    an_open_child_is_cancelled_when_its_parent_closes,
];

async fn family(ctx: Context, children: u64) -> Result<u64, Failure> {
    let started: Vec<_> = (0..children)
        .map(|n| ctx.child(doubled, n).start())
        .collect();
    let mut sum = 0;
    for child in started {
        sum += child.await?;
    }
    Ok(sum)
}

async fn a_parent_gets_the_results_of_its_children(storage: Storage) {
    let worker = storage
        .start(quick().workflow(family).workflow(doubled).activity(double))
        .await;
    let handle = worker.client().start(family, "a", 100).await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 9_900);
    worker.shutdown().await;
}

async fn adopts(ctx: Context, id: String) -> Result<bool, Failure> {
    let id = WorkflowId::new(id)?;
    let result = ctx.child(doubled, 1).id(id).await;
    Ok(result.is_err_and(|error| error.is_kind(FailureKind::Rejected)))
}

async fn a_child_whose_workflow_id_is_taken_is_an_error(storage: Storage) {
    let worker = storage
        .start(quick().workflow(adopts).workflow(doubled).activity(double))
        .await;
    let client = worker.client();
    client
        .start(doubled, "taken", 1)
        .await
        .unwrap()
        .result()
        .await
        .unwrap();
    assert!(
        client
            .start(adopts, "a", "taken".into())
            .await
            .unwrap()
            .result()
            .await
            .unwrap()
    );
    assert!(
        !client
            .start(adopts, "b", "free".into())
            .await
            .unwrap()
            .result()
            .await
            .unwrap()
    );
    worker.shutdown().await;
}

async fn leaves_children(ctx: Context, (): ()) -> Result<(), Failure> {
    drop(
        ctx.child(collects, 1)
            .id(WorkflowId::new("dependent")?)
            .start(),
    );
    ctx.child(collects, 1)
        .id(WorkflowId::new("independent")?)
        .detach();
    ctx.activity(double, 1).await?;
    Ok(())
}

async fn an_open_child_is_cancelled_when_its_parent_closes(storage: Storage) {
    let worker = storage
        .start(
            quick()
                .workflow(leaves_children)
                .workflow(collects)
                .activity(double),
        )
        .await;
    let client = worker.client();
    client
        .start(leaves_children, "a", ())
        .await
        .unwrap()
        .result()
        .await
        .unwrap();
    let dependent = client.handle(collects, "dependent").await.unwrap();
    assert!(dependent.result().await.is_err());
    assert_eq!(
        dependent.describe().await.unwrap().status,
        RunStatus::Cancelled
    );
    client.signal("independent", "number", &7).await.unwrap();
    assert_eq!(
        client
            .handle(collects, "independent")
            .await
            .unwrap()
            .result()
            .await
            .unwrap(),
        [7]
    );
    worker.shutdown().await;
}
