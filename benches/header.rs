//! Reading the header of a send in both encodings, and writing its reply.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use std::hint::black_box;

use benches::{send_frame, sent};
use bytes::{Buf as _, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use protocol::{
    code::ResponseCode,
    frame::{self, Encoding, Frame, Head},
    request::send::Send,
};

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    for (name, encoding) in [("json", Encoding::Json), ("binary", Encoding::Binary)] {
        let mut bytes = send_frame(encoding);
        // As it is once it is split off.
        bytes.advance(4);
        group.bench_function(format!("read_send/{name}"), |bencher| {
            bencher.iter(|| {
                let frame = Frame::decode(black_box(bytes.clone())).unwrap();
                let send = Send::decode(&frame.fields).unwrap();
                black_box((send.queue_id, send.topic.len()));
            });
        });
        let ticket = Frame::decode(bytes).unwrap().ticket();
        let sent = sent();
        let mut out = BytesMut::with_capacity(1024);
        group.bench_function(format!("write_reply/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let head = Head::reply(ticket, ResponseCode::SUCCESS, None);
                frame::write(&mut out, &head, black_box(&sent), 0);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
