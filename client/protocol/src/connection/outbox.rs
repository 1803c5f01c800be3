//! What waits to be written to one peer.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use super::Body;
use crate::{
    frame::{self, Head},
    header::Encode,
};

/// Bodies up to this size are copied behind their header; longer ones are sent from where they are.
const COPY_MAX_BYTES: usize = 512;
/// Slices of one vectored write.
const WRITE_SLICES: usize = 64;

/// Frames that wait to be written: whole pieces, then small frames gathered behind them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    gathered: BytesMut,
    /// Bytes not yet taken by the socket.
    pub(super) bytes: usize,
    /// Bytes that the socket ever took.
    pub(super) taken: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, head: &Head<'_>, header: &(impl Encode + ?Sized), body: Body) {
        let before = self.gathered.len();
        let slices = match body {
            Body::Empty => Vec::new(),
            Body::Bytes(bytes) => vec![bytes],
            Body::Slices(slices) => slices,
        };
        let body_len = slices.iter().map(Bytes::len).sum();
        frame::write(&mut self.gathered, head, header, body_len);
        self.bytes += self.gathered.len() - before + body_len;
        if body_len <= COPY_MAX_BYTES {
            slices.iter().for_each(|slice| self.gathered.extend_from_slice(slice));
        } else {
            self.seal();
            self.pieces.extend(slices);
        }
    }

    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push_back(self.gathered.split().freeze());
        }
    }

    /// Writes as much as the socket takes.
    pub(super) fn write(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.seal();
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let mut count = 0;
            for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
                *slot = IoSlice::new(piece);
                count += 1;
            }
            match stream.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        self.taken += u64::try_from(written).unwrap_or_default();
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > written {
                let _ = piece.split_to(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}
