//! Encoding, patching and reading one stored record.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use std::hint::black_box;

use benches::{properties, record};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::record::{RecordView, patch};

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let properties = properties(1);
    for size in [128, 1024, 65_536] {
        let body = vec![b'x'; size];
        let pieces = [properties.as_str()];
        let record = record("TopicTest", &body, &pieces);
        group.throughput(Throughput::Bytes(u64::try_from(record.encoded_len()).unwrap()));
        let mut out = BytesMut::with_capacity(record.encoded_len());
        group.bench_function(format!("encode/{size}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&record).encode(&mut out).unwrap();
                patch(&mut out, 7, 4096, 1_700_000_000_123).unwrap();
            });
        });
        group.bench_function(format!("parse_and_verify/{size}"), |bencher| {
            bencher.iter(|| RecordView::parse(black_box(&out)).unwrap().verify().unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
