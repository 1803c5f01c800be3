use std::{net::TcpListener, thread};

use protocol::{
    code::{RequestCode, ResponseCode},
    frame::{Encoding, Head},
    header::NoFields,
};

use super::*;

/// Requests without content; every answer is worth one message.
struct Pings;

impl Workload for Pings {
    fn request(&mut self, ask: Ask, out: &mut BytesMut) {
        let code = RequestCode::HeartBeat.as_i32();
        let head = Head::request(code, ask.slot, Encoding::Binary, ask.oneway);
        frame::write(out, &head, &NoFields, 0);
    }

    fn answer(&mut self, _: i32, frame: &Frame) -> Result<Worth, String> {
        match frame.response_code() {
            ResponseCode::SUCCESS => Ok(Worth { messages: 1, bytes: 10 }),
            code => Err(code.to_string()),
        }
    }
}

/// A server that reads, waits, and then answers all that it has read with this code.
/// Returns how many requests it has seen at most at a time.
fn server(pause: Duration, code: ResponseCode) -> (TcpStream, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let serve = move || {
        let mut most = 0;
        let (mut input, mut read) = (BytesMut::new(), [0; 4096]);
        loop {
            match stream.read(&mut read) {
                Ok(0) | Err(_) => return most,
                Ok(length) => input.extend_from_slice(&read[..length]),
            }
            thread::sleep(pause);
            let mut out = BytesMut::new();
            let mut seen = 0;
            while let Some(bytes) = frame::split(&mut input).unwrap() {
                let ticket = Frame::decode(bytes).unwrap().ticket();
                if !ticket.oneway {
                    frame::write(&mut out, &Head::reply(ticket, code, None), &NoFields, 0);
                }
                seen += 1;
            }
            most = most.max(seen);
            if stream.write_all(&out).is_err() {
                return most;
            }
        }
    };
    (client, thread::spawn(serve))
}

fn plan(in_flight: usize, pace: Option<Duration>, measured: Duration) -> Plan {
    let start = Instant::now();
    Plan {
        in_flight,
        pace: pace.map(|interval| Pace::new(start, interval)),
        write_each: false,
        oneway: false,
        requests_max: u64::MAX,
        from: start,
        end: start + measured,
    }
}

#[test]
fn a_closed_loop_keeps_its_requests_in_flight_and_no_more() {
    let (client, server) = server(Duration::from_millis(2), ResponseCode::SUCCESS);
    let tally = run(client, plan(8, None, Duration::from_millis(200)), &mut Pings).unwrap();
    assert_eq!(server.join().unwrap(), 8);
    assert!(tally.requests >= 8, "{} requests", tally.requests);
    assert_eq!(tally.worth.messages, tally.requests);
    assert!(tally.latency.min() >= 1_000_000, "{} ns", tally.latency.min());
    assert_eq!((tally.lost, tally.missed, tally.refused), (0, 0, 0));
}

#[test]
fn an_open_loop_counts_latency_from_when_a_request_was_due() {
    // One request in flight, one due every 2 ms, 20 ms each: they queue up at the generator.
    let (client, server) = server(Duration::from_millis(20), ResponseCode::SUCCESS);
    let every = Some(Duration::from_millis(2));
    let tally = run(client, plan(1, every, Duration::from_millis(400)), &mut Pings).unwrap();
    server.join().unwrap();
    assert!(tally.latency.max() > 100_000_000, "{} ns hide the queue", tally.latency.max());
    assert!(tally.missed > 100, "{} missed", tally.missed);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let (client, server) = server(Duration::ZERO, ResponseCode::SUCCESS);
    let every = Some(Duration::from_millis(1));
    let tally = run(client, plan(64, every, Duration::from_millis(300)), &mut Pings).unwrap();
    server.join().unwrap();
    assert_eq!(tally.latency.len() + tally.missed, 300);
}

#[test]
fn a_oneway_loop_waits_for_the_last_of_each_window() {
    let (client, server) = server(Duration::from_millis(2), ResponseCode::SUCCESS);
    let plan = Plan { oneway: true, ..plan(8, None, Duration::from_millis(200)) };
    let tally = run(client, plan, &mut Pings).unwrap();
    assert_eq!(server.join().unwrap(), 8);
    assert!(tally.requests >= 8 && tally.requests.is_multiple_of(8), "{}", tally.requests);
    assert_eq!(tally.worth.messages, tally.requests);
    assert!(tally.latency.len() <= tally.issued / 8, "only the last of a window is timed");
    assert_eq!((tally.lost, tally.refused), (0, 0));
}

#[test]
fn a_connection_ends_after_its_requests() {
    let (client, server) = server(Duration::ZERO, ResponseCode::SUCCESS);
    let plan = Plan { requests_max: 100, ..plan(8, None, Duration::from_secs(60)) };
    let tally = run(client, plan, &mut Pings).unwrap();
    server.join().unwrap();
    assert_eq!((tally.issued, tally.requests, tally.latency.len()), (100, 100, 100));
}

#[test]
fn refusals_are_counted_apart() {
    let (client, server) = server(Duration::from_millis(1), ResponseCode::SYSTEM_BUSY);
    let tally = run(client, plan(2, None, Duration::from_millis(50)), &mut Pings).unwrap();
    server.join().unwrap();
    assert_eq!((tally.requests, tally.latency.len()), (0, 0));
    assert!(tally.refused > 0);
    assert_eq!(tally.first_refusal.as_deref(), Some("SYSTEM_BUSY (2)"));
}

#[test]
fn a_closed_connection_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    let outcome = run(client, plan(1, None, Duration::from_secs(60)), &mut Pings);
    assert!(matches!(outcome, Err(Broken::Closed | Broken::Socket(_))), "{outcome:?}");
}
