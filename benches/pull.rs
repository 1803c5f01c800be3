//! Reading 32 messages of one queue: from the tail, from sealed blocks, and with a tag filter.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use benches::Scratch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::{Mode, QueueOffset, ReadLimits};

const MESSAGES: u64 = 10_000;

fn pull(criterion: &mut Criterion) {
    let scratch = Scratch::new();
    let topic = scratch.topic("TopicTest", 1);
    scratch.fill(&topic, 1, MESSAGES, &[b'x'; 1024]);
    let queue = topic.queue(0).unwrap();
    let limits = ReadLimits { max_messages: 32, max_bytes: 256 << 10 };
    let mut group = criterion.benchmark_group("pull");
    group.throughput(Throughput::Elements(32));
    for (name, from) in [("tail", MESSAGES - 32), ("blocks", 1_000)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let read =
                    queue.read(QueueOffset(from), limits, Mode::MayBlock, &|_| true).unwrap();
                assert_eq!(read.messages, 32);
                read
            });
        });
    }
    group.bench_function("filtered_out", |bencher| {
        bencher
            .iter(|| queue.read(QueueOffset(1_000), limits, Mode::MayBlock, &|_| false).unwrap());
    });
    group.finish();
}

criterion_group!(benches, pull);
criterion_main!(benches);
