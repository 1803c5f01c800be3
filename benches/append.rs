//! Appending to the log with its dispatch into tails, one message and 32 at a time.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use benches::{Scratch, properties, push};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::AppendBatch;

const QUEUES: u32 = 4;

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    let properties = properties(1);
    for (size, messages) in [(128, 1), (1024, 1), (1024, 32)] {
        let scratch = Scratch::new();
        let topic = scratch.topic("TopicTest", QUEUES);
        let body = vec![b'x'; size];
        let mut batch = AppendBatch::default();
        group.throughput(Throughput::Elements(u64::from(messages)));
        group.bench_function(format!("{size}_bytes_by_{messages}"), |bencher| {
            bencher.iter(|| {
                batch.clear();
                for number in 0..messages {
                    push(&mut batch, &topic, number % QUEUES, &properties, &body);
                }
                scratch.store.append(&mut batch).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // Every iteration fills disk; short runs keep a run of all benches below a few GiB.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = append
}
criterion_main!(benches);
