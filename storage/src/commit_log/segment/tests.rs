//! Tests of the segment.

use super::*;

const PAGE_BYTES: usize = 4096;

fn scratch(size_bytes: usize) -> DiskFile {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let file = DiskFile::open(&path).unwrap();
    file.allocate(to_u64(size_bytes)).unwrap();
    file
}

fn create(size_bytes: usize) -> Writer {
    Writer::open(scratch(size_bytes), 1000, size_bytes).expect("a small segment maps")
}

#[test]
fn read_returns_what_append_wrote() {
    let mut writer = create(64);
    let offset = writer.end_offset();
    writer.append(b"hello").expect("room for five bytes");
    assert_eq!(offset, 1000);
    assert_eq!(writer.segment().read(offset, 5).as_deref(), Some(&b"hello"[..]));
    assert_eq!(writer.segment().read(1001, 3).as_deref(), Some(&b"ell"[..]));
    assert_eq!(writer.remaining(), 59);
}

#[test]
fn append_refuses_what_does_not_fit() {
    let mut writer = create(4);
    writer.append(b"hello").expect_err("no room");
    assert_eq!(writer.segment().end_offset(), 1000);
}

#[test]
fn read_refuses_unpublished_and_foreign_offsets() {
    let mut writer = create(64);
    writer.append(b"hello").expect("room for five bytes");
    assert_eq!(writer.segment().read(1000, 6), None);
    assert_eq!(writer.segment().read(999, 1), None);
    assert_eq!(writer.segment().read(u64::MAX, 1), None);
    assert_eq!(writer.segment().read(1000, usize::MAX), None);
}

#[test]
fn readers_see_whole_records_while_the_writer_appends() {
    let mut writer = create(4096);
    let segment = Arc::clone(writer.segment());
    let reader = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < 64 {
            let end = segment.end_offset();
            while 1000 + (seen + 1) * 8 <= end {
                let record = segment.read(1000 + seen * 8, 8).expect("published");
                assert_eq!(&record[..], seen.to_be_bytes());
                seen += 1;
            }
            std::thread::yield_now();
        }
    });
    for i in 0..64_u64 {
        writer.append(&i.to_be_bytes()).expect("room for 512 bytes");
    }
    reader.join().expect("the reader saw every record whole");
}

#[test]
fn bytes_outlive_the_writer() {
    let mut writer = create(64);
    writer.append(b"hello").expect("room for five bytes");
    let bytes = writer.segment().read(1000, 5).expect("published");
    drop(writer);
    assert_eq!(&bytes[..], b"hello");
}

#[test]
fn fill_publishes_up_to_the_end() {
    let mut writer = create(64);
    writer.append(b"hello").expect("room for five bytes");
    writer.fill(b"blank").unwrap();
    assert_eq!(writer.remaining(), 0);
    assert_eq!(writer.segment().read(1005, 6).as_deref(), Some(&b"blank\0"[..]));
    assert_eq!(writer.segment().end_offset(), writer.segment().limit_offset());
}

#[test]
fn fill_publishes_even_without_room_for_the_head() {
    let mut writer = create(8);
    writer.append(b"hello").expect("room for five bytes");
    writer.fill(b"blank").unwrap();
    assert_eq!(writer.segment().read(1005, 3).as_deref(), Some(&b"\0\0\0"[..]));
}

#[test]
fn adopt_publishes_without_changing_bytes() {
    let mut first = create(3 * PAGE_BYTES);
    first.adopt(1000 + 10, 1000 + to_u64(PAGE_BYTES) + 7).unwrap();
    assert_eq!(first.segment().end_offset(), 1007 + to_u64(PAGE_BYTES));
    let zeros = vec![0; PAGE_BYTES + 7];
    assert_eq!(first.segment().read(1000, PAGE_BYTES + 7).as_deref(), Some(&zeros[..]));
    first.append(b"next").expect("room");
    assert_eq!(first.segment().read(1007 + to_u64(PAGE_BYTES), 4).as_deref(), Some(&b"next"[..]));
}

#[test]
fn copy_is_what_the_mapping_shows() {
    let mut writer = create(4096);
    writer.append(b"hello").expect("room for five bytes");
    let segment = writer.segment();
    segment.sync().expect("a temporary file syncs");
    assert_eq!(segment.read_copy(1001, 3).unwrap().as_deref(), Some(&b"ell"[..]));
    assert_eq!(segment.read_copy(1001, 5).unwrap(), None);
}

#[test]
fn open_refuses_a_short_file() {
    let error = Writer::open(scratch(10), 0, 64).expect_err("the file is shorter");
    assert_eq!(error.to_string(), "the file has 10 bytes, 64 were expected");
}

#[test]
fn what_was_just_written_is_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let file = DiskFile::create(&dir.path().join("file")).unwrap();
    file.allocate(1 << 20).unwrap();
    file.write_at(&[1], 700_000).unwrap();
    assert!(is_in_memory(&file, 1 << 20).unwrap());
    assert!(is_in_memory(&file, 1 << 21).is_err(), "the file is shorter");
}
