//! What must hold after every step.

use std::collections::HashMap;

use super::{
    cluster::{Cluster, NODES},
    disk::{Disk, Kind, QUEUES},
};

/// What nobody in the model knows.
#[derive(Default)]
pub(super) struct Ghost {
    /// Where each record lies whose producer was told that it is safe.
    pub(super) acked: HashMap<u32, u64>,
    /// What was shown at a queue's offset.
    shown: HashMap<(u8, u16), u32>,
    next_offsets: HashMap<(usize, u8), u16>,
    largest: [u16; QUEUES as usize],
    confirmed: [u64; NODES],
    noted: [u64; NODES],
    /// Up to here the current master has made promises.
    promised: u64,
    /// Somebody flipped a bit of its disk.
    pub(super) rotten: [bool; NODES],
}

impl Ghost {
    pub(super) fn opened(&mut self, i: usize) {
        self.confirmed[i] = 0;
        self.noted[i] = 0;
        self.next_offsets.retain(|(node, _), _| *node != i);
    }

    /// The offset of a queue's next record on a master.
    pub(super) fn next_offset(&mut self, i: usize, queue: u8, disk: &Disk) -> u16 {
        let next = self.next_offsets.entry((i, queue)).or_insert_with(|| {
            let last = disk.records(0).filter(|it| it.queue == queue).last();
            // Where the log was deleted, a store takes the number from its rows.
            last.map_or(self.largest[usize::from(queue)], |it| it.offset) + 1
        });
        let offset = *next;
        *next += 1;
        let largest = &mut self.largest[usize::from(queue)];
        *largest = offset.max(*largest);
        offset
    }

    /// Nothing that was promised is missing on a new master.
    pub(super) fn new_master(&mut self, disk: &Disk, i: usize) {
        self.promised = 0;
        for (id, at) in &self.acked {
            let here = disk.record(*at).map(|record| record.id);
            assert!(
                *at < disk.log_min || here == Some(*id),
                "record {id} at {at} was acknowledged, the new master {i} has {here:?}: log {} to {}",
                disk.log_min,
                disk.end()
            );
        }
    }
}

impl Cluster {
    /// Looks at one broker.
    pub(super) fn check(&mut self, i: usize) {
        let Some(store) = self.nodes[i].store.clone() else { return };
        self.check_prefix(i);
        let disk = store.disk();
        let confirmed = store.confirmed();
        assert!(confirmed <= disk.end(), "{i} shows {confirmed} of {}", disk.end());
        assert!(confirmed >= self.ghost.confirmed[i], "{i} shows less than before");
        self.ghost.confirmed[i] = confirmed;
        let index_end = disk.index_end();
        drop(disk);
        if !store.serves() {
            return;
        }
        let disk = store.disk();
        assert!(
            index_end <= disk.end(),
            "{i} serves rows of {index_end}, its log ends at {}",
            disk.end()
        );
        let mut cut = u64::MAX;
        for row in disk.rows.iter().rev() {
            match row.kind {
                Kind::Cut(at) => cut = cut.min(at),
                Kind::Entry { at, id } if at < cut && at >= disk.log_min => {
                    let here = disk.record(at).map(|record| record.id);
                    assert_eq!(here, Some(id), "{i} shows record {id} at {at}");
                }
                _ => {}
            }
        }
        // Of two masters at a time only the newer one promises anything.
        let link = self.nodes[i].link.as_ref().filter(|link| link.streams());
        let master = link.map_or(i, |link| link.conn.borrow().master);
        if master != self.master {
            return;
        }
        let from = self.ghost.noted[i];
        for record in disk.records(from).take_while(|record| record.end <= confirmed) {
            self.ghost.noted[i] = record.end;
            if self.setup.promises() {
                let shown = self.ghost.shown.entry((record.queue, record.offset));
                let shown = *shown.or_insert(record.id);
                assert_eq!(
                    shown, record.id,
                    "{i} shows two records at one queue offset: {record:?}"
                );
            }
        }
        if self.setup.promises() && i == self.master {
            // What it showed when it was opened may have been promised by nobody.
            let (from, to) = (self.ghost.promised, confirmed.min(store.replicated.get()));
            for record in disk.records(from).take_while(|record| record.end <= to) {
                self.ghost.promised = record.end;
                self.ghost.acked.insert(record.id, record.at);
            }
        }
        drop(disk);
        // A master that syncs late may lose what its slaves have.
        let all_have = self.setup.copies == NODES && (self.setup.sync_flush || !self.setup.power);
        if all_have && self.setup.promises() && self.random.one_in(8) {
            self.check_everywhere();
        }
    }

    /// A slave in session has the beginning of its master's log, and its master's rows.
    fn check_prefix(&self, i: usize) {
        let Some(link) = self.nodes[i].link.as_ref().filter(|link| link.streams()) else { return };
        let master = link.conn.borrow().master;
        let Some(theirs) = self.nodes[master].store.as_ref() else { return };
        if !link.conn.borrow().open || self.ghost.rotten[i] {
            return;
        }
        let (ours, theirs) = (self.nodes[i].store.as_ref().unwrap().disk(), theirs.disk());
        let from = ours.log_min.max(theirs.log_min);
        assert!(ours.end() <= theirs.end(), "{i} has more log than its master {master}");
        if from < ours.end() {
            assert_eq!(ours.slice(from, ours.end()), theirs.slice(from, ours.end()), "log of {i}");
        }
        let sequence = ours.sequence();
        let at = theirs.rows.partition_point(|row| row.last < sequence);
        let row = theirs.rows.get(at);
        assert!(row.is_none_or(|row| row.last == sequence), "{i} is within a change");
        let chain = row.map_or(0, |row| row.chain);
        assert_eq!(ours.rows.last().map_or(0, |row| row.chain), chain, "rows of {i} at {sequence}");
    }

    /// With as many copies as brokers, each disk has what was acknowledged.
    fn check_everywhere(&self) {
        for i in 0..NODES {
            self.with_disk(i, |disk| {
                for (id, at) in &self.ghost.acked {
                    let here = disk.record(*at).map(|record| record.id);
                    assert!(*at < disk.log_min || here == Some(*id), "{i} lacks {id}");
                }
            });
        }
    }
}
