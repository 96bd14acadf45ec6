use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;

/// Bytes that say their own position.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A file of `len` patterned bytes, written through to the device.
fn file_of(len: usize) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let bytes = pattern(len);
    fs::write(&path, &bytes).unwrap();
    fs::File::open(&path).unwrap().sync_all().unwrap();
    (dir, path, bytes)
}

#[test]
fn page_size_is_the_systems() {
    assert!(page_size().is_power_of_two() && page_size() >= 4096);
}

#[test]
fn outward_ranges() {
    assert_eq!(outward(0, 1, 512), Some(0..512));
    assert_eq!(outward(511, 2, 512), Some(0..1024));
    assert_eq!(outward(512, 512, 512), Some(512..1024));
    assert_eq!(outward(513, 0, 512), Some(512..1024));
    assert_eq!(outward(u64::MAX - 10, 11, 512), None);
    assert_eq!(outward(u64::MAX - 10, 20, 512), None);
}

#[test]
fn reads_at_any_offset() {
    let (_dir, path, bytes) = file_of((3 << 20) + 77);
    reads_everywhere(&DataFile::open(&path).unwrap(), &bytes);
}

#[test]
fn bytes_of_the_program_are_read_as_a_file_is() {
    let bytes = pattern((3 << 20) + 77).leak();
    let file = DataFile::constant("built in", bytes);
    reads_everywhere(&file, bytes);
    file.check_unchanged().unwrap();
    let direct = DirectFile::open(&file).unwrap();
    let mut buffer = direct.buffer(4096).unwrap();
    for (offset, n) in [(0, 1), (33_333, 4096), (bytes.len() - 5, 5), (bytes.len(), 0)] {
        assert_eq!(direct.read(offset as u64, n, &mut buffer).unwrap(), &bytes[offset..offset + n]);
        assert_eq!(direct.span(offset as u64, n).unwrap(), offset as u64..(offset + n) as u64);
    }
    for offset in [bytes.len() as u64 - 4, u64::MAX - 3] {
        let e = direct.read(offset, 5, &mut buffer).unwrap_err();
        assert!(matches!(e, StorageError::PastEnd { .. }), "{e}");
    }
    assert!(format!("{file:?} {direct:?} {:?}", file.map(0, 9).unwrap()).len() < 400);
}

fn reads_everywhere(file: &DataFile, bytes: &[u8]) {
    assert_eq!(file.len(), bytes.len() as u64);
    for (offset, len) in
        [(0, 1), (1, 4096), (12_345, 2 << 20), (bytes.len() - 5, 5), (7, 0), (0, bytes.len())]
    {
        let mut exact = vec![0; len];
        file.read_exact_at(&mut exact, offset as u64).unwrap();
        assert_eq!(exact, bytes[offset..offset + len]);
        let mut bulk = AlignedBytes::zeroed(len).unwrap();
        file.read_bulk(offset as u64, &mut bulk).unwrap();
        assert_eq!(*bulk, bytes[offset..offset + len]);
        let mut rest = vec![];
        file.reader(offset as u64).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[offset..]);
        let map = file.map(offset as u64, len).unwrap();
        map.populate(0..len).unwrap();
        assert_eq!(*map, bytes[offset..offset + len]);
    }
    let e = file.read_exact_at(&mut [0; 6], bytes.len() as u64 - 5).unwrap_err();
    assert_eq!(
        e.to_string(),
        format!(
            "{}: reading 6 bytes at offset {}: the file ends before",
            file.path().display(),
            bytes.len() - 5
        )
    );
    assert!(matches!(file.read_bulk(1, &mut vec![0; bytes.len()]), Err(StorageError::PastEnd { .. })));
    assert!(matches!(file.map(1, bytes.len()), Err(StorageError::PastEnd { .. })));
    assert!(matches!(file.map(u64::MAX, 2), Err(StorageError::PastEnd { .. })));
}

#[test]
fn what_cannot_be_opened() {
    let (dir, path, _) = file_of(1);
    let absent = DataFile::open(&dir.path().join("absent")).unwrap_err();
    assert_eq!(absent.errno(), Some(2));
    assert!(absent.to_string().contains("absent: cannot open: No such file or directory"), "{absent}");
    assert!(matches!(DataFile::open(dir.path()), Err(StorageError::NotRegular { .. })));
    // Would wait for ever if the opening waited for a writer.
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert!(matches!(DataFile::open(&pipe), Err(StorageError::NotRegular { .. })));

    let file = DataFile::open(&path).unwrap();
    fs::rename(&path, dir.path().join("old")).unwrap();
    fs::write(&path, b"new").unwrap();
    assert!(matches!(DirectFile::open(&file), Err(StorageError::Replaced { .. })));
}

#[test]
fn aligned_bytes_are_zero_and_aligned() {
    for len in [0, 1, 4095, 70_000, 5 << 20] {
        let mut bytes = AlignedBytes::zeroed(len).unwrap();
        assert_eq!(bytes.len(), len);
        assert_eq!(bytes.as_ptr() as usize % page_size(), 0);
        assert!(bytes.iter().all(|&b| b == 0));
        bytes.fill(7);
        assert!(bytes.iter().all(|&b| b == 7));
    }
    let e = AlignedBytes::zeroed(usize::MAX / 2).unwrap_err();
    assert!(matches!(e, StorageError::Allocate { .. }), "{e}");
}

/// Every file that a [`DirectFile`] may turn out to be: direct if this file system can, and buffered.
fn both_kinds(file: &DataFile) -> Vec<DirectFile> {
    let data_file::Content::Disk(disk) = file.content() else { panic!("{file:?}") };
    DirectFile::open_direct(disk).unwrap().into_iter().chain(DirectFile::open_buffered(disk)).collect()
}

#[test]
fn direct_reads_at_any_offset() {
    let len = 3 * 65_536 + 1234;
    let (_dir, path, bytes) = file_of(len);
    let file = DataFile::open(&path).unwrap();
    for direct in both_kinds(&file) {
        let mut buffer = direct.buffer(20_000).unwrap();
        let align = direct.alignment();
        for (offset, n) in [(0, 1), (0, 20_000), (align - 1, 2), (align, align), (33_333, 7350), (7, 0)] {
            assert_eq!(direct.read(offset as u64, n, &mut buffer).unwrap(), &bytes[offset..offset + n]);
        }
        // Up to the end, which is at no multiple of anything, and beyond.
        for n in [1, 1234, 1235, 20_000] {
            assert_eq!(direct.read((len - n) as u64, n, &mut buffer).unwrap(), &bytes[len - n..]);
            let e = direct.read((len - n + 1) as u64, n, &mut buffer).unwrap_err();
            assert!(matches!(e, StorageError::PastEnd { .. }), "{e}");
        }
        for offset in [len as u64 + 100_000, u64::MAX - 3] {
            let e = direct.read(offset, 10, &mut buffer).unwrap_err();
            assert!(matches!(e, StorageError::PastEnd { .. }), "{e}");
        }
    }
}

#[test]
fn direct_reads_of_a_file_that_shrinks() {
    let (_dir, path, bytes) = file_of(100_000);
    let file = DataFile::open(&path).unwrap();
    for direct in both_kinds(&file) {
        fs::write(&path, &bytes).unwrap();
        let mut buffer = direct.buffer(50_000).unwrap();
        direct.read(50_000, 50_000, &mut buffer).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(70_001).unwrap();
        let e = direct.read(50_000, 50_000, &mut buffer).unwrap_err();
        assert!(matches!(e, StorageError::PastEnd { .. }), "{e}");
        assert_eq!(direct.read(50_000, 20_001, &mut buffer).unwrap(), &bytes[50_000..70_001]);
    }
}

#[test]
fn a_mapping_of_a_file_that_shrinks_is_an_error_not_a_signal() {
    let (_dir, path, _) = file_of(1 << 20);
    let file = DataFile::open(&path).unwrap();
    let map = file.map(0, 1 << 20).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 19).unwrap();
    map.populate(0..1 << 19).unwrap();
    let outcome = map.populate((1 << 19) - 1..(1 << 19) + 1);
    assert!(matches!(outcome, Err(StorageError::PastEnd { .. })), "{outcome:?}");
}

/// How many pages of the file lie in the page cache: a read that must not wait gets only those.
/// `None` if the system has no such reads (an emulated one may not).
fn cached_pages(path: &std::path::Path) -> Option<usize> {
    let file = fs::File::open(path).unwrap();
    // Without the advice a miss would begin to read ahead.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let mut page = vec![0; page_size()];
    let mut n = 0;
    for at in (0..file.metadata().unwrap().len()).step_by(page.len()) {
        let mut parts = [std::io::IoSliceMut::new(&mut page)];
        match rustix::io::preadv2(&file, &mut parts, at, rustix::io::ReadWriteFlags::NOWAIT) {
            Ok(_) => n += 1,
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => return None,
        }
    }
    Some(n)
}

/// The kernel does not drop a page that another processor has in its hands at that moment. Beside what is read this is
/// nothing.
const BUSY_PAGES: usize = 2;

#[test]
fn bulk_and_direct_reads_leave_no_pages_behind() {
    let (_dir, path, bytes) = file_of((5 << 20) + 4321);
    let file = DataFile::open(&path).unwrap();
    let plain = fs::File::open(&path).unwrap();
    let drop_all = || {
        // Pages on their way into the cache (the look into it may have sent for them) cannot be
        // dropped, so wait until all are there.
        plain.read_exact_at(&mut vec![0; bytes.len()], 0).unwrap();
        data_file::advise(&plain, 0, file.len(), rustix::fs::Advice::DontNeed);
    };
    drop_all();
    if cached_pages(&path) != Some(0) {
        // A file system that lives in the page cache, or no way to look: nothing to be seen here.
        return;
    }
    drop_all();
    plain.read_at(&mut vec![0; 1 << 20], 0).unwrap();
    assert!(cached_pages(&path).unwrap() >= (1 << 20) / page_size(), "plain reads are seen in the cache");

    drop_all();
    file.read_bulk(333, &mut AlignedBytes::zeroed(bytes.len() - 400).unwrap()).unwrap();
    assert!(cached_pages(&path) <= Some(BUSY_PAGES), "bulk");
    drop_all();
    std::io::copy(&mut file.reader(100), &mut std::io::sink()).unwrap();
    assert!(cached_pages(&path) <= Some(BUSY_PAGES), "reader");
    for direct in both_kinds(&file) {
        drop_all();
        let mut buffer = direct.buffer(300_000).unwrap();
        direct.read(99_999, 300_000, &mut buffer).unwrap();
        assert!(cached_pages(&path) <= Some(BUSY_PAGES), "{direct:?}");
    }
}

#[test]
fn a_mapping_that_is_released_leaves_no_pages_behind() {
    let (_dir, path, bytes) = file_of(1 << 20);
    let file = DataFile::open(&path).unwrap();
    let map = file.map(0, bytes.len()).unwrap();
    let drop_all =
        || data_file::advise(&fs::File::open(&path).unwrap(), 0, file.len(), rustix::fs::Advice::DontNeed);
    drop_all();
    let is_seen = cached_pages(&path) == Some(0);
    map.populate(0..bytes.len()).unwrap();
    assert!(map[..] == bytes[..]);
    drop_all();
    assert!(!is_seen || cached_pages(&path) > Some(2), "what is mapped stays");
    map.release();
    // Looking may send for one.
    assert!(!is_seen || cached_pages(&path) <= Some(2), "{:?}", cached_pages(&path));
    assert!(map[..] == bytes[..], "they come again");
    // There is nothing to let go.
    DataFile::constant("built in", b"bytes").map(0, 5).unwrap().release();
}
