use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use sync_core::{
    ContentHash, Cursor, CursorWalk, ExternalId,
    cursor::{Error, KeysetPage, KeysetPosition, MAX_TIED, Paging, Row},
    manifest::CursorSpec,
};

fn spec(direction: Option<&str>, op: &str, overlap: u32) -> CursorSpec {
    let sort =
        direction.map(|it| json!({"direction": it, "param": "order", "value": "updated_at"}));
    serde_json::from_value(json!({
        "field": "updated_at", "granularity": "second", "overlap_seconds": overlap,
        "filter": {"param": "since", "op": op}, "sort": sort,
    }))
    .unwrap()
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// An id, a second and a version.
type Item = (u64, i64, u8);

fn observe(walk: &mut CursorWalk, items: &[Item]) -> sync_core::cursor::Findings {
    try_observe(walk, items, None).unwrap()
}

fn try_observe(
    walk: &mut CursorWalk,
    items: &[Item],
    now: Option<i64>,
) -> Result<sync_core::cursor::Findings, Error> {
    let ids: Vec<ExternalId> = items
        .iter()
        .map(|(id, _, _)| ExternalId::from(*id))
        .collect();
    let rows = ids.iter().zip(items).map(|(id, (_, at, version))| Row {
        id,
        at: Some(second(*at)),
        hash: ContentHash([*version; 16]),
    });
    walk.observe(rows, now.map(second))
}

fn at(cursor: Option<&Cursor>) -> Option<i64> {
    cursor.map(|cursor| cursor.at().as_second())
}

#[test]
fn a_verified_ascending_keyset_moves_the_cursor_page_by_page() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, Paging::Keyset);
    assert_eq!(at(walk.durable()), None);
    observe(&mut walk, &[(1, 10, 0), (2, 20, 0)]);
    assert_eq!(at(walk.durable()), Some(20));
    observe(&mut walk, &[(2, 20, 0), (3, 20, 0)]);
    assert_eq!(walk.durable().unwrap().tied(), 2);
}

#[test]
fn a_broken_order_holds_the_cursor_until_the_walk_is_complete() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, Paging::Keyset);
    let findings = observe(&mut walk, &[(1, 10, 0), (2, 30, 0), (3, 20, 0)]);
    assert!(findings.order_ignored());
    observe(&mut walk, &[(4, 40, 0)]);
    assert_eq!(at(walk.durable()), None);
    assert_eq!(at(walk.complete().as_ref()), Some(40));
}

#[test]
fn a_walk_by_position_or_newest_first_moves_the_cursor_only_at_its_end() {
    for (direction, paging) in [
        (Some("asc"), Paging::Positions),
        (Some("desc"), Paging::Keyset),
        (None, Paging::Keyset),
    ] {
        let mut walk = CursorWalk::begin(&spec(direction, "gte", 0), None, paging);
        observe(&mut walk, &[(1, 10, 0)]);
        assert_eq!(at(walk.durable()), None, "{direction:?} {paging:?}");
        assert_eq!(at(walk.complete().as_ref()), Some(10));
    }
}

#[test]
fn a_delta_asks_from_before_the_cursor_and_never_moves_it_back() {
    let first = CursorWalk::begin(&spec(Some("asc"), "gte", 60), None, Paging::Keyset);
    let mut first = first;
    observe(&mut first, &[(1, 1_000, 0)]);
    let cursor = first.complete();

    let mut delta = CursorWalk::begin(
        &spec(Some("asc"), "gte", 60),
        cursor.clone(),
        Paging::Keyset,
    );
    assert_eq!(delta.asked_from(), Some(second(940)));
    let findings = observe(&mut delta, &[(2, 950, 0)]);
    assert_eq!(findings.older_than_asked, 0);
    assert_eq!(at(delta.durable()), Some(1_000));
    assert_eq!(at(delta.complete().as_ref()), Some(1_000));

    let exclusive = CursorWalk::begin(&spec(Some("asc"), "gt", 60), cursor, Paging::Keyset);
    assert_eq!(exclusive.asked_from(), Some(second(939)));
}

#[test]
fn an_ignored_filter_is_noticed() {
    let mut first = CursorWalk::begin(&spec(Some("asc"), "gte", 60), None, Paging::Keyset);
    observe(&mut first, &[(1, 1_000, 0)]);
    let mut delta = CursorWalk::begin(
        &spec(Some("asc"), "gte", 60),
        first.complete(),
        Paging::Keyset,
    );
    assert!(observe(&mut delta, &[(2, 100, 0), (1, 1_000, 0)]).filter_ignored());
}

#[test]
fn a_second_version_in_the_same_second_is_no_repeat() {
    let mut first = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, Paging::Keyset);
    observe(&mut first, &[(1, 10, 0)]);
    let mut delta = CursorWalk::begin(
        &spec(Some("asc"), "gte", 0),
        first.complete(),
        Paging::Keyset,
    );
    assert_eq!(observe(&mut delta, &[(1, 10, 0)]).repeated, 1);
    assert_eq!(observe(&mut delta, &[(1, 10, 1), (2, 10, 0)]).repeated, 0);
    assert_eq!(delta.complete().unwrap().tied(), 2);
}

#[test]
fn a_row_from_the_future_does_not_move_the_cursor() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, Paging::Keyset);
    let findings =
        try_observe(&mut walk, &[(1, 100, 0), (2, 4_000_000_000, 0)], Some(101)).unwrap();
    assert_eq!(findings.from_the_future, 1);
    assert_eq!(at(walk.complete().as_ref()), Some(100));
}

#[test]
fn a_tie_that_no_cursor_can_hold_is_an_error() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, Paging::Keyset);
    let items: Vec<Item> = (0..=MAX_TIED as u64).map(|id| (id, 10, 0)).collect();
    let error = try_observe(&mut walk, &items, None).unwrap_err();
    assert_eq!(error, Error::TooManyTied { at: second(10) });
}

#[test]
fn a_newest_first_walk_knows_when_it_has_come_to_the_known() {
    let mut first = CursorWalk::begin(&spec(Some("desc"), "gte", 60), None, Paging::Positions);
    observe(&mut first, &[(1, 1_000, 0)]);
    let mut delta = CursorWalk::begin(
        &spec(Some("desc"), "gte", 60),
        first.complete(),
        Paging::Positions,
    );
    observe(&mut delta, &[(2, 1_200, 0), (1, 1_000, 0)]);
    assert!(
        !delta.has_reached_start(),
        "the overlap is still to be read"
    );
    observe(&mut delta, &[(3, 900, 0)]);
    assert!(delta.has_reached_start());
    assert_eq!(at(delta.complete().as_ref()), Some(1_200));
}

#[test]
fn a_walk_goes_on_after_a_restart() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 5), None, Paging::Keyset);
    observe(&mut walk, &[(1, 10, 0), (2, 10, 3)]);
    let json = serde_json::to_string(&walk).unwrap();
    assert_eq!(serde_json::from_str::<CursorWalk>(&json).unwrap(), walk);
}

/// A source that answers a keyset page: rows at or after an instant, oldest first, ties by id.
fn page(source: &[Item], position: &KeysetPosition, size: usize) -> Vec<Item> {
    let mut rows: Vec<Item> = source.to_vec();
    rows.sort_by_key(|(id, at, _)| (*at, *id));
    let from = position.from.map_or(i64::MIN, Timestamp::as_second);
    rows.retain(|(_, at, _)| *at >= from);
    rows.into_iter()
        .skip(position.offset as usize)
        .take(size)
        .collect()
}

fn step(
    walk: &CursorWalk,
    position: &KeysetPosition,
    rows: &[Item],
    ended: bool,
) -> Result<Option<KeysetPosition>, Error> {
    let ids: Vec<ExternalId> = rows
        .iter()
        .map(|(id, _, _)| ExternalId::from(*id))
        .collect();
    let ids: Vec<&ExternalId> = ids.iter().collect();
    walk.next_keyset(position, KeysetPage { ids: &ids, ended })
}

#[test]
fn a_keyset_goes_into_an_instant_that_fills_pages_and_starts_it_again_when_rows_move() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, Paging::Keyset);
    let first = [(1, 5, 0), (2, 9, 0), (3, 9, 0)];
    observe(&mut walk, &first);
    let tied = step(&walk, &KeysetPosition::default(), &first, false)
        .unwrap()
        .unwrap();
    assert_eq!((tied.from, tied.offset), (Some(second(9)), 0));
    let full = [(2, 9, 0), (3, 9, 0), (4, 9, 0)];
    observe(&mut walk, &full);
    let deeper = step(&walk, &tied, &full, false).unwrap().unwrap();
    assert_eq!(
        (deeper.offset, deeper.anchor.clone()),
        (2, Some(ExternalId::from(4_u64)))
    );
    // Row 3 has moved away: row 4 is no longer at its place, though the source says that this is the end.
    assert_eq!(
        step(&walk, &deeper, &[(6, 9, 0)], true).unwrap().unwrap(),
        tied
    );
    assert_eq!(
        step(&walk, &deeper, &[(4, 9, 0), (5, 9, 0)], true),
        Ok(None)
    );
    assert_eq!(step(&walk, &tied, &[], false), Err(Error::Stalled));
}

proptest! {
    /// Records that change during a keyset walk move behind it; every record that is there from beginning
    /// to end is met, however many share a second.
    #[test]
    fn a_keyset_walk_meets_every_record_while_others_change(
        times in prop::collection::vec(0..6_i64, 1..40),
        size in 2..7_usize,
        touches in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut source: Vec<Item> = times.iter().enumerate().map(|(id, at)| (id as u64, *at, 0)).collect();
        let spec = spec(Some("asc"), "gte", 0);
        let mut walk = CursorWalk::begin(&spec, None, Paging::Keyset);
        let (mut position, mut met, mut touches, mut now) = (KeysetPosition::default(), BTreeSet::new(), touches.into_iter(), 10);
        loop {
            let rows = page(&source, &position, size);
            observe(&mut walk, &rows);
            met.extend(rows.iter().map(|(id, _, _)| *id));
            let Some(next) = step(&walk, &position, &rows, rows.len() < size).unwrap() else { break };
            position = next;
            if let Some(touch) = touches.next() {
                let index = touch.index(source.len());
                source[index] = (source[index].0, now, 1);
                now += 1;
            }
        }
        prop_assert_eq!(met.len(), source.len());
    }

    /// However the pages fall, a stored cursor never claims more than was applied.
    #[test]
    fn the_durable_cursor_never_passes_what_was_applied(
        pages in prop::collection::vec(prop::collection::vec((0..50_u64, 0..20_i64, 0..2_u8), 0..6), 0..8),
        ascending in any::<bool>(),
    ) {
        let spec = spec(Some(if ascending { "asc" } else { "desc" }), "gte", 3);
        let mut walk = CursorWalk::begin(&spec, None, Paging::Keyset);
        let (mut newest, mut sorted, mut last) = (None, true, i64::MIN);
        for page in pages {
            observe(&mut walk, &page);
            for (_, at, _) in page {
                newest = newest.max(Some(at));
                sorted &= at >= last;
                last = at;
            }
            let expected = if ascending && sorted { newest } else { None };
            prop_assert_eq!(at(walk.durable()), expected);
        }
        prop_assert_eq!(at(walk.complete().as_ref()), newest);
    }
}
