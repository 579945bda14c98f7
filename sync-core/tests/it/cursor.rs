use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use sync_core::{
    ContentHash, Cursor, CursorWalk, ExternalId,
    cursor::{Anchor, Error, KeysetPage, KeysetPosition, MAX_TIED, Paging, Row},
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

const KEYSET: Paging = Paging::Keyset { max_window: None };

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
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, KEYSET);
    assert_eq!(at(walk.durable()), None);
    observe(&mut walk, &[(1, 10, 0), (2, 20, 0)]);
    assert_eq!(at(walk.durable()), Some(20));
    observe(&mut walk, &[(2, 20, 0), (3, 20, 0)]);
    assert_eq!(walk.durable().unwrap().tied(), 2);
}

#[test]
fn a_broken_order_holds_the_cursor_until_the_walk_is_complete() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, KEYSET);
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
        (Some("desc"), KEYSET),
        (None, KEYSET),
    ] {
        let mut walk = CursorWalk::begin(&spec(direction, "gte", 0), None, paging);
        observe(&mut walk, &[(1, 10, 0)]);
        assert_eq!(at(walk.durable()), None, "{direction:?} {paging:?}");
        assert_eq!(at(walk.complete().as_ref()), Some(10));
    }
}

#[test]
fn a_delta_asks_from_before_the_cursor_and_never_moves_it_back() {
    let first = CursorWalk::begin(&spec(Some("asc"), "gte", 60), None, KEYSET);
    let mut first = first;
    observe(&mut first, &[(1, 1_000, 0)]);
    let cursor = first.complete();

    let mut delta = CursorWalk::begin(&spec(Some("asc"), "gte", 60), cursor.clone(), KEYSET);
    assert_eq!(delta.asked_from(), Some(second(940)));
    let findings = observe(&mut delta, &[(2, 950, 0)]);
    assert_eq!(findings.older_than_asked, 0);
    assert_eq!(at(delta.durable()), Some(1_000));
    assert_eq!(at(delta.complete().as_ref()), Some(1_000));
}

#[test]
fn an_ignored_filter_is_noticed() {
    let mut first = CursorWalk::begin(&spec(Some("asc"), "gte", 60), None, KEYSET);
    observe(&mut first, &[(1, 1_000, 0)]);
    let mut delta = CursorWalk::begin(&spec(Some("asc"), "gte", 60), first.complete(), KEYSET);
    assert!(observe(&mut delta, &[(2, 100, 0), (1, 1_000, 0)]).filter_ignored());
}

#[test]
fn a_second_version_in_the_same_second_is_no_repeat() {
    let mut first = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, KEYSET);
    observe(&mut first, &[(1, 10, 0)]);
    let mut delta = CursorWalk::begin(&spec(Some("asc"), "gte", 0), first.complete(), KEYSET);
    assert_eq!(observe(&mut delta, &[(1, 10, 0)]).repeated, 1);
    assert_eq!(observe(&mut delta, &[(1, 10, 1), (2, 10, 0)]).repeated, 0);
    assert_eq!(delta.complete().unwrap().tied(), 2);
}

#[test]
fn a_row_from_the_future_does_not_move_the_cursor() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, KEYSET);
    let findings =
        try_observe(&mut walk, &[(1, 100, 0), (2, 4_000_000_000, 0)], Some(101)).unwrap();
    assert_eq!(findings.from_the_future, 1);
    assert_eq!(at(walk.complete().as_ref()), Some(100));
}

#[test]
fn a_tie_that_no_cursor_can_hold_is_an_error() {
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, KEYSET);
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
    let mut walk = CursorWalk::begin(&spec(Some("asc"), "gte", 5), None, KEYSET);
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
    walk: &mut CursorWalk,
    position: &KeysetPosition,
    items: &[Item],
    ended: bool,
) -> Result<Option<KeysetPosition>, Error> {
    let ids: Vec<ExternalId> = items
        .iter()
        .map(|(id, _, _)| ExternalId::from(*id))
        .collect();
    let rows = ids.iter().zip(items).map(|(id, (_, at, version))| Row {
        id,
        at: Some(second(*at)),
        hash: ContentHash([*version; 16]),
    });
    let anchor = |(id, at, _): &Item| Anchor {
        id: (*id).into(),
        at: Some(second(*at)),
    };
    let page = KeysetPage {
        received: items.len() as u64,
        first: items.first().map(anchor),
        last: items.last().map(anchor),
        ended,
    };
    walk.observe_keyset(position, &page, rows, None)
        .map(|(_, next)| next)
}

fn keyset(max_window: u64) -> CursorWalk {
    let paging = Paging::Keyset {
        max_window: Some(max_window),
    };
    CursorWalk::begin(&spec(Some("asc"), "gte", 0), None, paging)
}

#[test]
fn each_page_of_a_keyset_begins_with_the_last_row_of_the_one_before() {
    let mut walk = keyset(100);
    let first = walk.first_position();
    let next = step(&mut walk, &first, &[(1, 5, 0), (2, 9, 0), (3, 9, 0)], false)
        .unwrap()
        .unwrap();
    assert_eq!((next.from, next.offset), (None, 2));
    assert_eq!(
        next.anchor,
        Some(Anchor {
            id: 3_u64.into(),
            at: Some(second(9))
        })
    );
    assert_eq!(
        step(&mut walk, &next, &[(3, 9, 0), (4, 9, 0)], true),
        Ok(None)
    );
    assert_eq!(step(&mut walk, &first, &[], false), Err(Error::Stalled));
}

#[test]
fn when_rows_move_the_walk_goes_back_and_the_cursor_stays() {
    let mut walk = keyset(100);
    let first = walk.first_position();
    let next = step(&mut walk, &first, &[(1, 5, 0), (2, 9, 0), (3, 9, 0)], false)
        .unwrap()
        .unwrap();
    // Two rows have moved to the end: this page passes over what came behind row 3.
    let restart = step(&mut walk, &next, &[(5, 11, 0), (6, 12, 0)], true)
        .unwrap()
        .unwrap();
    assert_eq!(
        (restart.from, restart.offset, restart.anchor.clone()),
        (Some(second(9)), 0, None)
    );
    assert_eq!(
        at(walk.durable()),
        Some(9),
        "what was passed over is not claimed"
    );
    step(
        &mut walk,
        &restart,
        &[(3, 9, 0), (4, 10, 0), (5, 11, 0)],
        false,
    )
    .unwrap();
    assert_eq!(at(walk.durable()), Some(11));
}

#[test]
fn a_row_that_changed_is_no_anchor_any_more() {
    let mut walk = keyset(100);
    let first = walk.first_position();
    let next = step(&mut walk, &first, &[(1, 5, 0), (2, 9, 0)], false)
        .unwrap()
        .unwrap();
    let restart = step(&mut walk, &next, &[(2, 30, 1)], true)
        .unwrap()
        .unwrap();
    assert_eq!((restart.from, restart.offset), (Some(second(9)), 0));
}

#[test]
fn a_full_window_is_followed_by_one_at_the_newest_instant() {
    let mut walk = keyset(2);
    let first = walk.first_position();
    let next = step(&mut walk, &first, &[(1, 5, 0), (2, 9, 0), (3, 9, 0)], false)
        .unwrap()
        .unwrap();
    assert_eq!((next.from, next.offset), (Some(second(9)), 0));
    let tied = [(2, 9, 0), (3, 9, 0), (4, 9, 0)];
    let error = step(&mut walk, &next, &tied, false);
    assert_eq!(error, Err(Error::InstantTooLarge { max_window: 2 }));
}

#[test]
fn a_source_that_keeps_no_order_is_not_read_forever() {
    let mut walk = keyset(100);
    let mut position = KeysetPosition {
        anchor: Some(Anchor {
            id: 99_u64.into(),
            at: None,
        }),
        ..walk.first_position()
    };
    let error = loop {
        match step(&mut walk, &position, &[(1, 5, 0), (2, 5, 0)], false) {
            Ok(next) => {
                position = KeysetPosition {
                    anchor: Some(Anchor {
                        id: 99_u64.into(),
                        at: None,
                    }),
                    ..next.unwrap()
                }
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Unstable);
}

/// The newest instant up to which every record has been met.
fn newest_without_gap(source: &[Item], met: &BTreeSet<u64>) -> Option<i64> {
    let missed = source
        .iter()
        .filter(|(id, _, _)| !met.contains(id))
        .map(|(_, at, _)| *at)
        .min();
    Some(missed.unwrap_or(i64::MAX))
}

proptest! {
    /// Records that change during a keyset walk move behind it; every record that is there from beginning
    /// to end is met, however many share a second.
    #[test]
    fn a_keyset_walk_meets_every_record_while_others_change(
        times in prop::collection::vec(0..6_i64, 1..40),
        size in 2..7_usize,
        touches in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        window in prop::option::of(4..30_u64),
    ) {
        let mut source: Vec<Item> = times.iter().enumerate().map(|(id, at)| (id as u64, *at, 0)).collect();
        let spec = spec(Some("asc"), "gte", 0);
        let paging = Paging::Keyset { max_window: window };
        let mut walk = CursorWalk::begin(&spec, None, paging);
        let (mut position, mut met) = (walk.first_position(), BTreeSet::new());
        let (mut touches, mut now) = (touches.into_iter(), 10);
        loop {
            let rows = page(&source, &position, size);
            met.extend(rows.iter().map(|(id, _, _)| *id));
            let ended = rows.len() < size;
            let next = match step(&mut walk, &position, &rows, ended) {
                Err(Error::InstantTooLarge { .. }) => return Ok(()),
                next => next.unwrap(),
            };
            let Some(next) = next else { break };
            prop_assert!(at(walk.durable()) <= newest_without_gap(&source, &met));
            position = next;
            if let Some(touch) = touches.next() {
                for index in [touch.index(source.len()), touch.index(source.len().div_ceil(2))] {
                    source[index] = (source[index].0, now, 1);
                }
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
        let mut walk = CursorWalk::begin(&spec, None, KEYSET);
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
