use proptest::prelude::*;

use super::*;

fn frame() -> impl Strategy<Value = Frame> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let number = any::<u64>;
    let body = prop_oneof![
        (number(), number(), number(), bytes()).prop_map(|(offset, base, len, bytes)| {
            Body::Log(LogBytes { offset, segment_base: base, segment_bytes: len, bytes })
        }),
        (number(), number(), number(), bytes()).prop_map(|(first, needs, rest, batch)| {
            Body::Delta(WalDelta {
                first_sequence: first,
                last_sequence: first,
                needs,
                batch,
                rest_bytes: rest,
            })
        }),
        number().prop_map(Body::Confirm),
        number().prop_map(Body::Heartbeat),
        (number(), number()).prop_map(|(taken, durable)| {
            Body::Ack(Ack { taken, received: taken, durable, ..Ack::default() })
        }),
        (".{0,20}", number(), any::<bool>()).prop_map(|(cluster, received, diverged)| {
            Body::Hello(Hello {
                version: VERSION,
                cluster,
                received,
                diverged,
                epochs: vec![Epoch { number: 1, leader: received, ..Epoch::default() }; 3],
                ..Hello::default()
            })
        }),
        (number(), any::<bool>()).prop_map(|(at, snapshot)| {
            Body::Welcome(Welcome { log: Some(LogPlan::Cut(at)), snapshot, ..Welcome::default() })
        }),
    ];
    (number(), number(), body).prop_map(|(epoch, number, body)| Frame {
        epoch,
        number,
        body: Some(body),
    })
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode_into(&mut bytes));
    bytes
}

proptest! {
    #[test]
    fn frames_come_back_however_they_are_cut(frames in proptest::collection::vec(frame(), 1..4)) {
        let bytes = encoded(&frames);
        for cut in 0..=bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let mut got = Vec::new();
            while let Some(frame) = take(&mut buffer, MESSAGE_MAX_BYTES).unwrap() {
                got.push(frame);
            }
            prop_assert_eq!(&got[..], &frames[..got.len()]);
            prop_assert!(got.len() == frames.len() || cut < bytes.len());
            buffer.extend_from_slice(&bytes[cut..]);
            while let Some(frame) = take(&mut buffer, MESSAGE_MAX_BYTES).unwrap() {
                got.push(frame);
            }
            prop_assert_eq!(&got, &frames);
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_flipped_bit_never_gives_a_frame(frame in frame()) {
        let bytes = encoded(std::slice::from_ref(&frame));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut buffer = BytesMut::from(&damaged[..]);
            // A larger length waits for bytes that never come.
            let got = take(&mut buffer, MESSAGE_MAX_BYTES);
            prop_assert!(!matches!(got, Ok(Some(_))), "bit {} went unnoticed", bit);
            prop_assert!(got.is_err() || bit < 32);
        }
    }

    #[test]
    fn noise_is_an_error_and_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&noise[..]);
        while let Ok(Some(_)) = take(&mut buffer, MESSAGE_MAX_BYTES) {}
    }

    #[test]
    fn a_message_with_a_right_checksum_may_still_be_nonsense(
        noise in proptest::collection::vec(any::<u8>(), 1..200)
    ) {
        let len = u32::try_from(noise.len()).unwrap();
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&noise).to_be_bytes());
        bytes.extend_from_slice(&noise);
        let mut buffer = BytesMut::from(&bytes[..]);
        if let Ok(Some(frame)) = take(&mut buffer, MESSAGE_MAX_BYTES) {
            prop_assert!(frame.body.is_some());
        }
    }
}

#[test]
fn lengths_are_checked_before_anything_is_allocated() {
    for (len, max) in [(0, 100), (101, 100), (u32::MAX, MESSAGE_MAX_BYTES)] {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        let mut buffer = BytesMut::from(&bytes[..]);
        assert_eq!(take(&mut buffer, max), Err(FrameError::Length { bytes: len, max }));
        assert!(buffer.capacity() < 1000);
    }
}

#[test]
fn the_largest_part_fits_into_a_frame() {
    let bytes = Bytes::from(vec![0xFF; PART_MAX_BYTES]);
    let max = u64::MAX;
    let log = LogBytes { offset: max, segment_base: max, segment_bytes: max, bytes };
    let frame = Frame { epoch: max, number: max, body: Some(Body::Log(log)) };
    let mut buffer = BytesMut::from(&encoded(std::slice::from_ref(&frame))[..]);
    assert_eq!(take(&mut buffer, MESSAGE_MAX_BYTES), Ok(Some(frame)));
}

#[test]
fn a_frame_of_another_version_is_named() {
    let mut buffer = BytesMut::from(&encoded(&[Frame { epoch: 1, number: 1, body: None }])[..]);
    let error = take(&mut buffer, MESSAGE_MAX_BYTES).unwrap_err();
    assert!(error.to_string().contains("this version"), "{error}");
}
