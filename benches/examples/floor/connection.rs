//! One connection: read, answer every whole frame, write.

use std::{
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use rustix::event::epoll::EventFlags;

use super::{
    Floor,
    log::{Host, host},
    reply::Output,
    request::Request,
    scan::{self, Next},
};

pub(crate) struct Connection {
    stream: TcpStream,
    peer: Host,
    /// The start of a frame that has not come whole.
    rest: Vec<u8>,
    output: Output,
}

pub(crate) enum State {
    Open,
    Closed,
}

impl Connection {
    pub(crate) fn accept(listener: &TcpListener) -> io::Result<Self> {
        let (stream, peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let SocketAddr::V4(peer) = peer else {
            return Err(io::Error::other("the listener is of IPv4, its peers are too"));
        };
        Ok(Self { stream, peer: host(peer), rest: Vec::new(), output: Output::default() })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Whoever does not read answers gets no more of them.
    pub(crate) fn waits_for(&self) -> EventFlags {
        if self.output.is_empty() { EventFlags::IN } else { EventFlags::OUT }
    }

    /// Does what the socket is ready for.
    pub(crate) fn turn(&mut self, floor: &mut Floor) -> io::Result<State> {
        if self.output.is_empty() {
            let Some(length) = self.read(&mut floor.input)? else { return Ok(State::Closed) };
            let mut input = floor.input.get(..length).unwrap_or_default();
            let now_ms = floor.clock.now_ms();
            loop {
                match scan::frame(input) {
                    Next::Frame(frame, rest) => {
                        Request { frame: &frame, peer: self.peer, now_ms }
                            .answer(&mut floor.log, &mut self.output);
                        input = rest;
                    }
                    Next::Partial => break,
                    Next::Malformed => return Ok(State::Closed),
                }
            }
            self.rest.clear();
            self.rest.extend_from_slice(input);
        }
        self.output.write(&self.stream, &floor.log)?;
        Ok(State::Open)
    }

    /// Reads behind the rest of the last turn; returns how many bytes there are, `None` at the end.
    fn read(&mut self, input: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let kept = self.rest.len();
        let needed = scan::frame_len(&self.rest).unwrap_or_default();
        if input.len() < needed {
            input.resize(needed, 0);
        }
        let (head, free) = input.split_at_mut(kept);
        head.copy_from_slice(&self.rest);
        match self.stream.read(free) {
            Ok(0) => Ok(None),
            Ok(read) => Ok(Some(kept + read)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(Some(kept))
            }
            Err(error) => Err(error),
        }
    }
}
