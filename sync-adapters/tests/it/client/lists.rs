//! Walking lists of the mock.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use mock_api::{Effect, Entity, Fault};
use sync_adapters::{
    ListRequest, PageToken,
    client::{Error, Incomplete, Next},
};

use super::{client, entity, id_of, mock};

fn ids(api: &mock_api::MockApi, entity: Entity) -> BTreeSet<String> {
    api.control()
        .dump(entity)
        .into_iter()
        .map(|row| row.id)
        .collect()
}

#[tokio::test]
async fn a_stream_gives_every_row_once() {
    let api = mock(730).await;
    let client = client(&api);
    for (name, kind) in [
        ("Person", Entity::Person),
        ("Address", Entity::Address),
        ("Group", Entity::Group),
    ] {
        let rows: Vec<_> = client
            .stream_all(ListRequest::new(entity(name)))
            .try_collect()
            .await
            .unwrap();
        let seen: BTreeSet<_> = rows.iter().map(|row| id_of(row)).collect();
        assert_eq!(rows.len(), seen.len(), "{name}");
        assert_eq!(seen, ids(&api, kind), "{name}");
    }
}

#[tokio::test]
async fn pages_fetched_side_by_side_come_in_order_and_are_asked_for_once() {
    let api = mock(1_050).await;
    let client = client(&api);
    let walk = async |ahead| {
        let pages = client.stream_pages(ListRequest::new(entity("Person")), None, ahead);
        let pages: Vec<_> = pages.try_collect().await.unwrap();
        pages
            .iter()
            .flat_map(|page| page.records.iter().map(|row| id_of(row)))
            .collect::<Vec<_>>()
    };
    let one_by_one = walk(0).await;
    let requests = api.control().log().requests;
    assert_eq!(requests, 11);
    for ahead in [1, 2, 5, 32] {
        api.control().clear_log();
        assert_eq!(walk(ahead).await, one_by_one, "{ahead} ahead");
        assert_eq!(api.control().log().requests, requests, "{ahead} ahead");
    }
}

#[tokio::test]
async fn a_walk_continues_from_a_token_that_was_stored() {
    let api = mock(450).await;
    let client = client(&api);
    let request = ListRequest::new(entity("Person")).sorted();
    let first = client.fetch_page(&request, None).await.unwrap();
    let stored = serde_json::to_string(first.next.token().unwrap()).unwrap();
    assert!(stored.len() < 100, "{stored}");
    let token: PageToken = serde_json::from_str(&stored).unwrap();
    let rest: Vec<_> = client
        .stream_pages(request, Some(token), 3)
        .try_collect()
        .await
        .unwrap();
    let rows: usize = rest.iter().map(|page| page.records.len()).sum();
    assert_eq!(first.records.len() + rows, ids(&api, Entity::Person).len());
    let last = rest.last().unwrap();
    assert_eq!(last.next, Next::End);
    assert_eq!(last.received, last.total.unwrap());
    assert!(last.server_date.is_some());
}

#[tokio::test]
async fn a_filter_by_change_keeps_what_changed_since() {
    let api = mock(300).await;
    let client = client(&api);
    api.control().advance(3_600);
    let since = api.control().now().to_string().parse().unwrap();
    let touched = api.control().touch_share(Entity::Person, 10.0).unwrap();
    let request = ListRequest::new(entity("Person"))
        .changed_since(since)
        .sorted();
    let rows: Vec<_> = client.stream_all(request).try_collect().await.unwrap();
    let touched: BTreeSet<String> = touched.into_iter().map(|id| id.to_string()).collect();
    assert_eq!(
        rows.iter().map(|row| id_of(row)).collect::<BTreeSet<_>>(),
        touched
    );
}

#[tokio::test]
async fn a_nested_list_is_walked_under_its_parent() {
    let api = mock(300).await;
    let client = client(&api);
    let memberships = api.control().dump(Entity::Membership);
    let group = memberships[0].references["group_id"].clone().unwrap();
    let of_group = memberships
        .iter()
        .filter(|row| row.references["group_id"].as_ref() == Some(&group));
    let request = ListRequest::new(entity("Membership")).under(super::id(&group));
    let rows: Vec<_> = client.stream_all(request).try_collect().await.unwrap();
    assert_eq!(rows.len(), of_group.count());
    let orphan = client
        .fetch_page(&ListRequest::new(entity("Membership")), None)
        .await;
    assert!(matches!(orphan, Err(Error::InvalidRequest { .. })));
}

#[tokio::test]
async fn passing_faults_are_sat_out() {
    let api = mock(1_200).await;
    let client = client(&api);
    let faults = [
        Fault::new(Effect::status(503)).page(1).once(),
        Fault::new(Effect::Html { status: 200 }).page(2).once(),
        Fault::new(Effect::Truncate).page(3).once(),
        Fault::new(Effect::Cut).page(4).once(),
        Fault::new(Effect::Html { status: 502 }).page(5).times(2),
    ];
    for fault in faults {
        api.control().arm(fault.entity(Entity::Person));
    }
    let request = ListRequest::new(entity("Person"));
    let pages: Vec<_> = client
        .stream_pages(request, None, 4)
        .try_collect()
        .await
        .unwrap();
    let rows: usize = pages.iter().map(|page| page.records.len()).sum();
    assert_eq!(rows, ids(&api, Entity::Person).len());
}

#[tokio::test]
async fn a_fault_that_stays_ends_the_stream_with_its_kind() {
    let api = mock(500).await;
    let client = client(&api);
    api.control().arm(
        Fault::new(Effect::status(500))
            .entity(Entity::Person)
            .page(2),
    );
    let pages = client.stream_pages(ListRequest::new(entity("Person")), None, 2);
    let pages: Vec<_> = pages.collect().await;
    assert_eq!(pages.len(), 3);
    assert!(matches!(
        pages[2],
        Err(Error::Unavailable { status: 500, .. })
    ));
}

#[tokio::test]
async fn a_missing_next_is_no_end_when_the_total_says_more() {
    let api = mock(500).await;
    let client = client(&api);
    api.control()
        .arm(Fault::new(Effect::DropNext).entity(Entity::Person).page(1));
    let request = ListRequest::new(entity("Person"));
    let pages: Vec<_> = client
        .stream_pages(request.clone(), None, 3)
        .try_collect()
        .await
        .unwrap();
    assert!(matches!(
        pages.last().unwrap().next,
        Next::Incomplete(Incomplete::FewerThanTotal { received: 200, .. })
    ));
    let rows: Vec<_> = client.stream_all(request).collect().await;
    assert!(matches!(rows.last(), Some(Err(Error::Incomplete { .. }))));
    assert_eq!(rows.len(), 201);
}

#[tokio::test]
async fn a_short_page_in_the_middle_does_not_misplace_what_was_fetched_ahead() {
    let api = mock(650).await;
    let client = client(&api);
    // Deleting ahead of the walk shortens the list while pages are in flight.
    let before = ids(&api, Entity::Person).len() as u64;
    let request = ListRequest::new(entity("Person"));
    let pages = client.stream_pages(request, None, 3);
    futures_util::pin_mut!(pages);
    let first = pages.try_next().await.unwrap().unwrap();
    assert_eq!(first.total, Some(before));
    let last_id = ids(&api, Entity::Person)
        .iter()
        .filter_map(|id| id.parse::<u64>().ok())
        .max()
        .unwrap();
    api.control().delete(Entity::Person, last_id).unwrap();
    let rest: Vec<_> = pages.try_collect().await.unwrap();
    let rows: usize = rest.iter().map(|page| page.records.len()).sum();
    assert!(first.records.len() + rows >= ids(&api, Entity::Person).len());
    assert_eq!(rest.last().unwrap().next, Next::End);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_without_being_read() {
    let api = mock(200).await;
    let client = super::builder(&api, 1_000_000)
        .max_body(10_000)
        .build()
        .unwrap();
    let refused = client
        .fetch_page(&ListRequest::new(entity("Person")), None)
        .await;
    assert!(matches!(refused, Err(Error::Protocol(_))), "{refused:?}");
    assert!(!refused.unwrap_err().is_retryable());
}
