//! Finding one message by key among many, over the slices of the key index.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use benches::Scratch;
use criterion::{Criterion, criterion_group, criterion_main};

const MESSAGES: u64 = 100_000;

fn key_query(criterion: &mut Criterion) {
    let scratch = Scratch::new();
    let topic = scratch.topic("TopicTest", 4);
    scratch.fill(&topic, 4, MESSAGES, &[b'x'; 128]);
    let mut group = criterion.benchmark_group("key_query");
    for (name, key, found) in [("present", "k777", 1), ("absent", "nothing", 0)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let answer = scratch.store.query_key("TopicTest", key, 32, 0, i64::MAX).unwrap();
                assert_eq!(answer.records.len(), found);
                answer
            });
        });
    }
    group.finish();
}

criterion_group!(benches, key_query);
criterion_main!(benches);
