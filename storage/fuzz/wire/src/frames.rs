//! Frames: the stream that a peer sends, and one frame of it.

use bytes::{Bytes, BytesMut};
use protocol::{
    frame::{self, Encoding, Frame, Head},
    limits,
};

/// Bytes of a peer as they come from the socket, then the same bytes as the inside of one frame.
pub fn stream(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(bytes)) = frame::split(&mut buffer) {
        if let Ok(frame) = Frame::decode(bytes) {
            repeat(&frame);
        }
    }
    if let Ok(frame) = Frame::decode(Bytes::copy_from_slice(data)) {
        repeat(&frame);
    }
}

/// The rest of `data` as a header of the encoding that the first byte chooses.
pub fn header(data: &[u8]) -> Option<Frame> {
    let (&encoding, header) = data.split_first()?;
    let length = u32::try_from(header.len()).ok()?;
    let mut bytes = BytesMut::from(&(u32::from(encoding & 1) << 24 | length).to_be_bytes()[..]);
    bytes.extend_from_slice(header);
    Frame::decode(bytes.freeze()).ok()
}

/// Encodes a frame that was read and reads it again.
pub fn repeat(frame: &Frame) -> Frame {
    assert!(frame.fields.len() <= limits::HEADER_FIELDS_MAX);
    let fields: Vec<_> = frame.fields.iter().collect();
    for &(name, _) in &fields {
        let last = fields.iter().rev().find(|(other, _)| *other == name).map(|(_, value)| *value);
        assert_eq!(frame.fields.get(name), last);
    }
    let head = Head {
        code: frame.code,
        language: frame.language,
        version: frame.version,
        opaque: frame.opaque,
        flag: frame.flag,
        remark: frame.remark.as_deref(),
        encoding: frame.encoding,
    };
    let mut out = BytesMut::new();
    frame::write(&mut out, &head, fields.as_slice(), frame.body.len());
    out.extend_from_slice(&frame.body);
    let bytes = frame::split(&mut out).expect("a small frame").expect("a whole frame");
    assert!(out.is_empty(), "nothing follows the frame");
    let again = Frame::decode(bytes).expect("what we write, we read");
    assert_eq!(
        (again.code, again.language, again.version, again.opaque, again.flag, again.encoding),
        (frame.code, frame.language, frame.version, frame.opaque, frame.flag, frame.encoding),
    );
    assert_eq!((&again.remark, &again.body), (&frame.remark, &frame.body));
    assert!(again.fields.iter().eq(fields), "the fields survive in their order");
    again
}

/// A frame of `encoding` with this header, read again.
pub fn send(encoding: Encoding, header: &impl protocol::header::Encode) -> Frame {
    let mut out = BytesMut::new();
    frame::write(&mut out, &Head::request(1, 2, encoding, false), header, 0);
    let bytes = frame::split(&mut out).expect("a small frame").expect("a whole frame");
    Frame::decode(bytes).expect("what we write, we read")
}
