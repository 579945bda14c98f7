//! The pure parts of a sync: dependency graph, mapping with its content hash, delta cursor.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use sync_adapters::planning_center;
use sync_core::{
    ContentHash, CursorWalk, DependencyGraph, EntityName, ExternalId, Manifest,
    cursor::{Paging, Row},
};

/// As large as one page of the API.
const PAGE: u32 = 100;

fn manifest(criterion: &mut Criterion) {
    let text = planning_center::manifest().spec().clone();
    criterion.bench_function("manifest/check", |bencher| {
        bencher.iter_batched(|| text.clone(), Manifest::new, BatchSize::SmallInput);
    });
}

fn graph(criterion: &mut Criterion) {
    let manifest = planning_center::manifest();
    criterion.bench_function("graph/planning center", |bencher| {
        bencher.iter(|| DependencyGraph::new(black_box(&manifest)).expect("it has an order"));
    });
}

/// A page of people in the shape of the API.
fn people() -> Vec<Box<RawValue>> {
    let document = |n: u32| {
        let text = format!(
            r#"{{"type":"Person","id":"{n}","attributes":{{"first_name":"Ada {n}","last_name":"Lovelace",
            "nickname":null,"status":"active","gender":"Female","birthdate":"1990-12-{:02}","child":false,
            "created_at":"2024-01-02T03:04:05Z","updated_at":"2025-03-04T05:06:{:02}Z"}},
            "relationships":{{"primary_campus":{{"data":{{"type":"PrimaryCampus","id":"3"}}}}}}}}"#,
            n % 28 + 1,
            n % 60,
        );
        RawValue::from_string(text).expect("it is JSON")
    };
    (0..PAGE).map(document).collect()
}

fn mapping(criterion: &mut Criterion) {
    let name = EntityName::new("Person").expect("it is a name");
    let mapper = planning_center::manifest()
        .mapper(&name)
        .expect("the manifest has people");
    let page = people();
    let mut group = criterion.benchmark_group("mapping");
    group.throughput(Throughput::Elements(PAGE.into()));
    group.bench_function("map and hash a page of 100 people", |bencher| {
        bencher.iter(|| {
            for document in &page {
                black_box(mapper.map(document, None).expect("it fits the schema"));
            }
        });
    });
    group.finish();
}

fn cursor(criterion: &mut Criterion) {
    let name = EntityName::new("Person").expect("it is a name");
    let manifest = planning_center::manifest();
    let entity = manifest.entity(&name).expect("the manifest has people");
    let spec = entity
        .cursor
        .clone()
        .expect("people are followed by a cursor");
    let ids: Vec<_> = (0..10_000)
        .map(|n| ExternalId::new(n.to_string()).expect("it is an id"))
        .collect();
    let start = Timestamp::from_second(1_700_000_000).expect("it is in range");
    let rows: Vec<_> = ids
        .iter()
        .zip(0..)
        .map(|(id, n)| Row {
            id,
            at: Some(start + SignedDuration::from_secs(n / 3)),
            hash: ContentHash([7; 16]),
        })
        .collect();
    let mut group = criterion.benchmark_group("cursor");
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("follow 10,000 rows in pages of 100", |bencher| {
        bencher.iter(|| {
            let mut walk = CursorWalk::begin(&spec, None, Paging::Positions);
            for page in rows.chunks(PAGE as usize) {
                walk.observe(page.iter().copied(), None)
                    .expect("few rows share an instant");
            }
            walk.complete()
        });
    });
    group.finish();
}

criterion_group!(benches, manifest, graph, mapping, cursor);
criterion_main!(benches);
