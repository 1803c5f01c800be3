//! Looking at everything that a store serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use protocol::record;
use storage::{LogOffset, Mode, QueueOffset, Read, ReadError, ReadLimits, ReadStatus, Store};

use crate::{
    Random,
    image::{Differing, Image, Place, State},
};

/// A derived family is rebuilt in less.
const REBUILT_WITHIN: Duration = Duration::from_secs(20);
/// Keys that are asked for, apart from the ones of messages that are missing.
const KEYS: usize = 60;

/// What is not as it was.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Messages that are not served under their offset.
    pub(crate) lost: Vec<usize>,
    /// Messages that their key does not find.
    pub(crate) keyless: Vec<usize>,
    /// Messages that are served with other bytes, and how.
    pub(crate) changed: Vec<(usize, String)>,
    /// Topics, groups or offsets that differ.
    pub(crate) differing: Vec<Differing>,
    /// Why they cannot be read.
    pub(crate) refused: Option<String>,
    /// Errors of reading.
    errors: BTreeSet<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some =
            |of: &[usize]| format!("{} ({:?})", of.len(), of.iter().take(5).collect::<Vec<_>>());
        let (lost, keyless) = (some(&self.lost), some(&self.keyless));
        write!(f, "{lost} lost, {keyless} without key, errors {:?}", self.errors)
    }
}

impl Seen {
    pub(crate) fn is_whole(&self) -> bool {
        self.has_all_messages() && self.differing.is_empty()
    }

    fn has_all_messages(&self) -> bool {
        self.lost.is_empty() && self.keyless.is_empty() && self.changed.is_empty()
    }

    /// Whether nothing is wrong but what [`Image::may_be_outdated`].
    pub(crate) fn only_outdated(&self, image: &Image, place: &Place) -> bool {
        let outdated = |differing| image.may_be_outdated(place, differing);
        self.has_all_messages() && self.refused.is_none() && self.differing.iter().all(outdated)
    }

    /// # Errors
    /// A promise that is broken whatever was hit.
    pub(crate) fn look(store: &Store, image: &Image, random: &mut Random) -> Result<Self, String> {
        let mut seen = Self::default();
        match patient(|| State::of(store)) {
            Ok(state) => seen.differing = image.state.differing(&state),
            Err(error) => seen.refused = Some(error),
        }
        let served = seen.served(store)?;
        let places: BTreeMap<_, _> =
            image.sent.iter().enumerate().map(|(at, sent)| (sent.log_offset, at)).collect();
        if let Some(ghost) = served.keys().find(|at| !places.contains_key(at)) {
            return Err(format!("a record at {ghost} that nobody sent"));
        }
        let mut asked: BTreeSet<_> = (0..KEYS).map(|_| random.below(image.sent.len())).collect();
        for (message, sent) in image.sent.iter().enumerate() {
            let direct = store.record_at(LogOffset(sent.log_offset)).ok().flatten();
            let queue = served.get(&sent.log_offset).map(Vec::as_slice);
            for found in [direct.as_deref(), queue] {
                match found {
                    None => seen.lost.push(message),
                    Some(found) if found != sent.record => {
                        seen.change(message, &sent.record, found)
                    }
                    Some(_) => {}
                }
            }
            if seen.lost.last() == Some(&message) {
                asked.insert(message);
            }
        }
        seen.lost.dedup();
        for message in asked.into_iter().take(4 * KEYS) {
            seen.ask(store, image, message);
        }
        seen.changed.dedup_by_key(|(message, _)| *message);
        Ok(seen)
    }

    fn change(&mut self, message: usize, expected: &[u8], found: &[u8]) {
        let at = expected.iter().zip(found).position(|(one, other)| one != other);
        let what = format!(
            "message {message} is served with byte {at:?} changed, {} bytes instead of {}",
            found.len(),
            expected.len()
        );
        self.changed.push((message, what));
    }

    /// All records that the queues serve, by log offset.
    fn served(&mut self, store: &Store) -> Result<BTreeMap<u64, Vec<u8>>, String> {
        let mut served = BTreeMap::new();
        let limits = ReadLimits { max_messages: 64, max_bytes: 1 << 20 };
        for topic in store.topics() {
            for queue in 0..topic.config.read_queues {
                let Some(queue) = topic.queue(queue) else { continue };
                let mut next = QueueOffset(0);
                loop {
                    match patient(|| queue.read(next, limits, Mode::MayBlock, &|_| true)) {
                        Ok(read) if goes_on(&read, next) => next = collect(&read, &mut served)?,
                        Ok(_) => break,
                        Err(error) => {
                            self.errors.insert(error);
                            break;
                        }
                    }
                }
            }
        }
        Ok(served)
    }

    fn ask(&mut self, store: &Store, image: &Image, message: usize) {
        let sent = &image.sent[message];
        let topic = format!("T{}", sent.topic);
        match patient(|| store.query_key(&topic, &sent.key, 8, 0, i64::MAX)) {
            Ok(found) => match found.records.first() {
                Some(found) if found[..] == sent.record => {}
                Some(found) => self.change(message, &sent.record, found),
                None => self.keyless.push(message),
            },
            Err(error) => {
                self.errors.insert(error);
                self.keyless.push(message);
            }
        }
    }
}

/// Whether there may be more behind this read.
fn goes_on(read: &Read, from: QueueOffset) -> bool {
    let more = read.next > from && read.next <= read.max;
    more && matches!(
        read.status,
        ReadStatus::Found
            | ReadStatus::MessageWasRemoving
            | ReadStatus::OffsetFoundNull
            // The first message of the queue is the one that was hit.
            | ReadStatus::OffsetTooSmall
    )
}

fn collect(read: &Read, served: &mut BTreeMap<u64, Vec<u8>>) -> Result<QueueOffset, String> {
    for slice in &read.slices {
        let mut rest = &slice[..];
        for record in record::iter(slice) {
            let record = record.map_err(|error| format!("no record is served: {error}"))?;
            record.verify().map_err(|error| format!("a bad record is served: {error}"))?;
            let size = usize::try_from(record.total_size).unwrap();
            let at = u64::try_from(record.log_offset).map_err(|error| error.to_string())?;
            served.insert(at, rest[..size].to_vec());
            rest = &rest[size..];
        }
    }
    Ok(read.next)
}

/// Asks again while the store says that it is rebuilding.
fn patient<T, E: Into<Trouble>>(mut ask: impl FnMut() -> Result<T, E>) -> Result<T, String> {
    let began = Instant::now();
    loop {
        match ask().map_err(Into::into) {
            Ok(answer) => return Ok(answer),
            Err(Trouble(_, true)) if began.elapsed() < REBUILT_WITHIN => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(Trouble(reason, _)) => return Err(reason),
        }
    }
}

/// An error, and whether it passes.
pub(crate) struct Trouble(String, bool);

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        let passes = matches!(error, ReadError::Rebuilding | ReadError::Lost { .. });
        Self(error.to_string(), passes)
    }
}

impl From<String> for Trouble {
    fn from(error: String) -> Self {
        Self(error, false)
    }
}
