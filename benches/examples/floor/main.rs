//! The least that a broker must do for a message: a yardstick to measure beside our broker, in the
//! same run, with the same generator.
//!
//! ```text
//! cargo run --release --example floor -- --dir /var/tmp   # prints: ready broker=127.0.0.1:PORT
//! mqtool bench send --broker 127.0.0.1:PORT --server-pid PID
//! ```
//!
//! One thread: it reads what a socket has, up to 256 KiB, scans each whole frame for the few fields
//! that matter, checks bodies' sums, writes RocketMQ records into a mapped file, remembers where
//! they lie, and answers all of a read in one write. Sends (10, 310), batches (320) and pulls (11);
//! everything else is answered as not supported.
//!
//! **A lower bound, not a design.** It leaves out: topics (a queue is known by its number alone),
//! checks of what was sent, filters, held pulls, consumer offsets, keys, tags, transactions,
//! statistics, routes, replication, and everything that survives its end: the log is a file without
//! a name, nothing is synced, nothing is indexed on disk. The log has 512 MiB, which are made and
//! touched before the first message, so pages never cost what they cost a broker whose log grows.
//! When it is full it begins again at its start, over the oldest messages; a pull that is being
//! written meanwhile may carry bytes of the new ones.
//!
//! A pull is as cheap as it can be when its 32 messages lie side by side: fill the log with
//! `bench send --batch 32`. It ends on SIGTERM and leaves nothing behind.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that says where it is")]

mod connection;
mod log;
mod reply;
mod request;
mod scan;

use std::{
    io,
    net::{SocketAddrV4, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use protocol::clock::Clock;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

use connection::{Connection, State};
use log::Log;

/// Bytes of one read.
const READ_BYTES: usize = 256 << 10;
/// Sockets that one wait tells of.
const EVENTS: usize = 256;
/// The listener among the sockets.
const LISTENER: u64 = u64::MAX;

/// The least that a broker must do for a message: a lower bound to compare a broker with
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddrV4,
    /// Where the log lies while the program runs; it needs 512 MiB
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { listen, dir } = Arguments::parse();
    let bound = TcpListener::bind(listen).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    let (listener, address) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            eprintln!("cannot listen on {listen}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let log = match Log::new(&dir, SocketAddrV4::new(*listen.ip(), address.port())) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("cannot make a log of 512 MiB in {}: {error}", dir.display());
            return ExitCode::FAILURE;
        }
    };
    println!("ready broker={address}");
    let mut floor = Floor { log, clock: Clock::system(), input: vec![0; READ_BYTES] };
    let served = floor.serve(&listener);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot go on: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All that there is besides the connections.
struct Floor {
    log: Log,
    clock: Clock,
    /// What a turn reads; grows when a frame is longer.
    input: Vec<u8>,
}

impl Floor {
    fn serve(&mut self, listener: &TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut connections: Vec<Option<Connection>> = Vec::new();
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let data = event.data;
                if data.u64() == LISTENER {
                    let connection = Connection::accept(listener)?;
                    let place = connections.iter().position(Option::is_none);
                    let place = place.unwrap_or(connections.len());
                    let data = EventData::new_u64(u64::try_from(place).unwrap_or(LISTENER));
                    epoll::add(&epoll, connection.socket(), data, EventFlags::IN)?;
                    match connections.get_mut(place) {
                        Some(free) => *free = Some(connection),
                        None => connections.push(Some(connection)),
                    }
                    continue;
                }
                let place = usize::try_from(data.u64()).unwrap_or(usize::MAX);
                let Some(slot) = connections.get_mut(place) else { continue };
                let Some(connection) = slot else { continue };
                let before = connection.waits_for();
                match connection.turn(self) {
                    // Closing the socket takes it off the list.
                    Ok(State::Closed) | Err(_) => *slot = None,
                    Ok(State::Open) if connection.waits_for() == before => {}
                    Ok(State::Open) => {
                        epoll::modify(&epoll, connection.socket(), data, connection.waits_for())?;
                    }
                }
            }
        }
    }
}
