//! What indexing costs beside the append itself: the same messages over few and many queues, until
//! the index on disk has all of them.

use benches::Scratch;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const MESSAGES: u64 = 20_000;

fn dispatch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatch");
    group.sample_size(10);
    group.throughput(Throughput::Elements(MESSAGES));
    for queues in [4, 64, 1024] {
        group.bench_function(format!("append_and_checkpoint/{queues}_queues"), |bencher| {
            bencher.iter_batched(
                || {
                    let scratch = Scratch::new();
                    let topic = scratch.topic("TopicTest", queues);
                    (scratch, topic)
                },
                |(scratch, topic)| {
                    scratch.fill(&topic, queues, MESSAGES, b"x");
                    scratch.store.close();
                    scratch
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
