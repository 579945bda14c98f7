//! Texts by which runs are found.

use std::sync::Arc;

use super::world::{World, appending, child_of, closing, continuing, going_on, new_run, successor};
use crate::{
    id::RunId,
    journal::{
        Journal, NewRun, ParentCloses, Placement, Result, RunCommit, RunFilter, StartOutcome,
    },
    status::RunStatus,
    tag::{TagChange, Tags},
};

fn tags<const N: usize>(tags: [(&str, &str); N]) -> Tags {
    tags.iter().fold(Tags::new(), |tags, (name, value)| {
        tags.with(name, value).expect("the tags of the cases are valid")
    })
}

fn tagged<const N: usize>(id: &str, of: [(&str, &str); N]) -> NewRun {
    NewRun {
        tags: tags(of),
        ..new_run(id)
    }
}

fn set(name: &str, value: &str) -> TagChange {
    TagChange {
        name: name.into(),
        value: Some(value.into()),
    }
}

fn remove(name: &str) -> TagChange {
    TagChange {
        name: name.into(),
        value: None,
    }
}

async fn found<const N: usize>(world: &World, by: [(&str, &str); N]) -> Result<Vec<RunId>> {
    let filter = RunFilter {
        tags: tags(by),
        ..RunFilter::default()
    };
    let page = world.list(&filter).await?;
    Ok(page.items.iter().map(|info| info.run).collect())
}

pub async fn a_run_has_the_tags_that_it_is_started_with(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let odd = "\u{e9}=\"'{}\\\n";
    let one = tagged("a", [("tenant", "42"), ("stage", odd)]);
    assert_eq!(world.start(&one).await?, StartOutcome::Started);
    let two = NewRun {
        placement: Placement::Here,
        ..tagged("b", [("tenant", "42"), ("empty", "")])
    };
    world.start_by_batch(two.clone()).await?;
    let none = world.born("c").await?;
    assert_eq!(world.info(one.run).await?.tags, one.tags);
    assert_eq!(world.info(two.run).await?.tags, two.tags);
    assert_eq!(world.info(none).await?.tags, Tags::new());
    assert_eq!(
        found(&world, [("tenant", "42")]).await?,
        [two.run, one.run]
    );
    assert_eq!(
        found(&world, [("tenant", "42"), ("stage", odd)]).await?,
        [one.run]
    );
    assert_eq!(found(&world, [("tenant", "4")]).await?, []);
    assert_eq!(found(&world, [("empty", "")]).await?, [two.run]);

    // A start that finds a run changes nothing.
    let again = tagged("a", [("tenant", "7")]);
    let outcome = world.start(&again).await?;
    assert!(matches!(outcome, StartOutcome::Existing { .. }));
    world.start(&one).await?;
    assert_eq!(world.info(one.run).await?.tags, one.tags);
    Ok(())
}

pub async fn a_run_sets_and_removes_tags_with_its_records(
    journal: Arc<dyn Journal>,
) -> Result<()> {
    let world = World::new(journal).await?;
    let run = NewRun {
        placement: Placement::Here,
        ..tagged("a", [("stage", "new"), ("tenant", "42")])
    };
    let run = world.start_by_batch(run).await?;
    let other = world.born("b").await?;
    let with_record = RunCommit {
        tags: vec![set("stage", "paid"), remove("tenant"), set("paid by", "card")],
        ..appending(run, [1])
    };
    let alone = RunCommit {
        tags: vec![set("stage", "new"), remove("unknown")],
        ..going_on(other)
    };
    world.push_all([with_record, alone]).await?;
    let expected = tags([("paid by", "card"), ("stage", "paid")]);
    assert_eq!(world.info(run).await?.tags, expected);
    assert_eq!(found(&world, [("stage", "new")]).await?, [other]);
    assert_eq!(found(&world, [("tenant", "42")]).await?, []);
    let last = RunCommit {
        tags: vec![set("stage", "done")],
        ..closing(run, 2)
    };
    world.push(last).await?;
    assert_eq!(found(&world, [("stage", "done")]).await?, [run]);
    Ok(())
}

pub async fn what_a_lost_run_tags_is_not_kept(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let run = world.another().await?.born("a").await?;
    let lost = RunCommit {
        tags: vec![set("stage", "paid")],
        ..going_on(run)
    };
    world.push(lost).await?;
    assert_eq!(world.info(run).await?.tags, Tags::new());
    Ok(())
}

pub async fn a_run_that_continues_as_new_keeps_its_tags(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let first = NewRun {
        placement: Placement::Here,
        ..tagged("a", [("a", "1"), ("b", "1"), ("c", "1")])
    };
    let run = world.start_by_batch(first).await?;
    let next = successor("a", run);
    let commit = RunCommit {
        tags: vec![set("b", "2"), remove("c"), set("d", "2")],
        ..continuing(run, 1, next.clone())
    };
    world.push(commit).await?;
    let kept = tags([("a", "1"), ("b", "2"), ("d", "2")]);
    assert_eq!(world.info(next.run).await?.tags, kept);
    assert_eq!(world.info(run).await?.tags, kept);

    // No more than a run may be started with: those whose names come first.
    let many: Vec<_> = (0..Tags::MAX).map(|n| set(&format!("m{n:02}"), "")).collect();
    let last = successor("a", run);
    let commit = RunCommit {
        tags: many,
        ..continuing(next.run, 1, last.clone())
    };
    world.push(commit).await?;
    let kept = world.info(last.run).await?.tags;
    assert_eq!(kept.len(), Tags::MAX);
    assert_eq!((kept.get("a"), kept.get("m28")), (Some("1"), Some("")));
    assert_eq!(kept.get("m29"), None);
    assert_eq!(world.info(next.run).await?.tags.len(), Tags::MAX + 3);
    Ok(())
}

pub async fn a_child_has_its_own_tags(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let parent = NewRun {
        placement: Placement::Here,
        ..tagged("a", [("tenant", "42")])
    };
    let parent = world.start_by_batch(parent).await?;
    let plain = child_of(parent, ParentCloses::Cancel, "b");
    let asked = NewRun {
        tags: tags([("tenant", "7")]),
        ..child_of(parent, ParentCloses::Cancel, "c")
    };
    let taken = NewRun {
        tags: tags([("tenant", "8")]),
        ..child_of(parent, ParentCloses::Cancel, "a")
    };
    let commit = RunCommit {
        children: vec![plain.clone(), asked.clone(), taken.clone()],
        ..going_on(parent)
    };
    assert_eq!(world.push(commit).await?.rejected_children, [taken.run]);
    assert_eq!(world.info(plain.run).await?.tags, Tags::new());
    assert_eq!(found(&world, [("tenant", "7")]).await?, [asked.run]);
    assert_eq!(found(&world, [("tenant", "8")]).await?, []);
    assert_eq!(found(&world, [("tenant", "42")]).await?, [parent]);
    Ok(())
}

pub async fn a_list_by_tags_is_in_order_and_paged(journal: Arc<dyn Journal>) -> Result<()> {
    let world = World::new(journal).await?;
    let mut runs = Vec::new();
    for n in 0..7 {
        let group = if n % 2 == 0 { "even" } else { "odd" };
        let new = NewRun {
            placement: Placement::Here,
            ..tagged(&n.to_string(), [("group", group), ("tenant", "42")])
        };
        runs.push(world.start_by_batch(new).await?);
    }
    world.close(runs[2], 1).await?;
    let even = |before, limit| RunFilter {
        tags: tags([("group", "even"), ("tenant", "42")]),
        before,
        limit,
        ..RunFilter::default()
    };
    let page = world.list(&even(None, 3)).await?;
    let found: Vec<_> = page.items.iter().map(|info| info.run).collect();
    assert_eq!((found, page.more), (vec![runs[6], runs[4], runs[2]], true));
    let page = world.list(&even(Some(runs[2]), 3)).await?;
    let found: Vec<_> = page.items.iter().map(|info| info.run).collect();
    assert_eq!((found, page.more), (vec![runs[0]], false));
    let open = RunFilter {
        statuses: vec![RunStatus::Running, RunStatus::Parked],
        ..even(None, 0)
    };
    let page = world.list(&open).await?;
    let found: Vec<_> = page.items.iter().map(|info| info.run).collect();
    assert_eq!(found, [runs[6], runs[4], runs[0]]);
    Ok(())
}
