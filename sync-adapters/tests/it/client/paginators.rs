//! Paginators that Planning Center does not have.

use futures_util::{StreamExt, TryStreamExt};
use sync_adapters::{
    ApiClient, ListRequest,
    client::{Error, ProtocolProblem},
};

use super::{entity, stub::Stub};

async fn names(client: &ApiClient) -> Result<Vec<String>, Error> {
    let rows: Vec<_> = client
        .stream_all(ListRequest::new(entity("Thing")))
        .try_collect()
        .await?;
    Ok(rows.iter().map(|row| row.get().to_owned()).collect())
}

fn param(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let pair = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)?;
    Some(pair.1.to_owned())
}

#[tokio::test]
async fn page_numbers_end_at_a_short_page() {
    let stub = Stub::start(|_, target| match param(target, "page").as_deref() {
        None => (String::new(), r#"[{"id":1},{"id":2}]"#.into()),
        Some("2") => (String::new(), r#"[{"id":3}]"#.into()),
        other => panic!("{other:?}"),
    })
    .await;
    let client = stub.client(
        "{ paginator: { kind: page, param: page }, stop: { kind: short_page }, page_size: 2 }",
    );
    assert_eq!(names(&client).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_cursor_is_sent_back_until_the_flag_is_false() {
    let stub = Stub::start(|_, target| match param(target, "after").as_deref() {
        None => (
            String::new(),
            r#"{"rows":[{"id":1}],"more":true,"next":"a b"}"#.into(),
        ),
        Some("a+b") => (String::new(), r#"{"rows":[],"more":true,"next":7}"#.into()),
        Some("7") => (
            String::new(),
            r#"{"rows":[{"id":2}],"more":false,"next":null}"#.into(),
        ),
        other => panic!("{other:?}"),
    })
    .await;
    let client = stub.client(
        "{ paginator: { kind: cursor_param, param: after, next: next }, \
         stop: { kind: has_more_false, flag: more }, page_size: 1, records: rows }",
    );
    assert_eq!(
        names(&client).await.unwrap(),
        [r#"{"id":1}"#, r#"{"id":2}"#]
    );
}

#[tokio::test]
async fn a_cursor_that_stands_still_is_a_stalled_walk() {
    let stub = Stub::start(|_, _| {
        (
            String::new(),
            r#"{"rows":[{"id":1}],"more":true,"next":"same"}"#.into(),
        )
    })
    .await;
    let client = stub.client(
        "{ paginator: { kind: cursor_param, param: after, next: next }, \
         stop: { kind: has_more_false, flag: more }, page_size: 1, records: rows }",
    );
    assert!(matches!(
        names(&client).await,
        Err(Error::PaginationStalled { .. })
    ));
    assert_eq!(stub.targets.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn link_headers_are_followed_on_the_same_server_only() {
    let stub = Stub::start(|base, target| match param(target, "page").as_deref() {
        None => (
            format!("link: <{base}/things?page=2>; rel=\"next\"\r\n"),
            r#"[{"id":1}]"#.into(),
        ),
        Some("2") => {
            let next = "link: <https://elsewhere.example/things?page=3>; rel=\"next\"\r\n";
            (next.into(), r#"[{"id":2}]"#.into())
        }
        other => panic!("{other:?}"),
    })
    .await;
    let client = stub
        .client("{ paginator: { kind: link_header }, stop: { kind: missing_next }, page_size: 1 }");
    let rows = client.stream_all(ListRequest::new(entity("Thing")));
    let rows: Vec<_> = rows.collect().await;
    assert_eq!(rows.len(), 3);
    assert!(
        matches!(rows[2], Err(Error::Protocol(ProtocolProblem::ForeignUrl))),
        "{:?}",
        rows[2]
    );
}

#[tokio::test]
async fn the_last_id_is_sent_back_until_there_is_no_more() {
    let stub = Stub::start(
        |_, target| match param(target, "starting_after").as_deref() {
            None => (
                String::new(),
                r#"{"data":[{"id":"a"},{"id":"b"}],"has_more":true}"#.into(),
            ),
            Some("b") => (
                String::new(),
                r#"{"data":[{"id":"c"}],"has_more":false}"#.into(),
            ),
            other => panic!("{other:?}"),
        },
    )
    .await;
    let client = stub.client(
        "{ paginator: { kind: last_id, param: starting_after }, \
         stop: { kind: has_more_false, flag: has_more }, page_size: 2, records: data }",
    );
    assert_eq!(names(&client).await.unwrap().len(), 3);
}

#[tokio::test]
async fn urls_in_the_body_may_be_relative() {
    let stub = Stub::start(|_, target| match target {
        "/things" => (
            String::new(),
            r#"{"data":[{"id":1}],"links":{"next":"/things?p=2"}}"#.into(),
        ),
        "/things?p=2" => (String::new(), r#"{"data":[{"id":2}],"links":{}}"#.into()),
        other => panic!("{other:?}"),
    })
    .await;
    let client = stub.client(
        "{ paginator: { kind: json_next, next: links.next }, \
         stop: { kind: missing_next, next: links.next }, page_size: 1, records: data }",
    );
    assert_eq!(names(&client).await.unwrap().len(), 2);
}
