//! Files that end, are kept, deleted and found again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use super::files::Files;
use super::names::PART;
use crate::config::FolderUrl;
use crate::sink::writing::{Target as _, Write};

/// A folder that keeps few and small files.
fn url(folder: &Path) -> FolderUrl {
    FolderUrl {
        file_bytes: 100,
        keep_bytes: 500,
        ..FolderUrl::new(folder.to_owned())
    }
}

/// The names in a folder and their contents, without the lock, in order.
fn contents(folder: &Path) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "lock")
        .map(|entry| {
            let bytes = fs::read(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect();
    found.sort();
    found
}

#[track_caller]
fn write(files: &mut Files, lines: &str, now: Instant) {
    let written = files.write(lines.as_bytes(), 1, now);
    assert!(matches!(written, Write::Done), "{written:?}");
}

#[test]
fn a_file_ends_at_its_size_its_time_and_its_calls() {
    let line = format!("{}\n", "x".repeat(59));
    let (now, hour) = (Instant::now(), Duration::from_hours(1));
    for (bounds, times, expected) in [
        // Two lines reach 100 bytes, the third begins the next file.
        (|_: &mut FolderUrl| {}, [0, 0, 0, 0, 0], vec![2, 2, 1]),
        (|url| url.file_bytes = 1000, [0, 1, 0, 0, 0], vec![1, 4]),
        (
            |url| (url.file_bytes, url.file_calls) = (1000, 3),
            [0; 5],
            vec![3, 2],
        ),
    ] as [(fn(&mut FolderUrl), [u32; 5], Vec<usize>); 3]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut url = url(folder.path());
        bounds(&mut url);
        let mut files = Files::open("lake", &url).unwrap();
        let mut at = now;
        for more in times {
            at += hour * more;
            write(&mut files, &line, at);
        }
        let (growing, complete): (Vec<_>, Vec<_>) = contents(folder.path())
            .into_iter()
            .partition(|(name, _)| name.ends_with(PART));
        assert_eq!((growing.len(), complete.len()), (1, expected.len() - 1));
        files.close().unwrap();
        let found = contents(folder.path());
        let lines = found.iter().map(|(_, text)| text.lines().count());
        assert_eq!(lines.collect::<Vec<_>>(), expected);
        assert!(found.iter().all(|(name, _)| name.ends_with(".ndjson")));
    }
}

#[test]
fn a_file_without_new_lines_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::open("lake", &url(folder.path())).unwrap();
    let now = Instant::now();
    write(&mut files, "one\n", now);
    files.tick(now + Duration::from_secs(3599)).unwrap();
    assert!(contents(folder.path())[0].0.ends_with(PART));
    files.tick(now + Duration::from_secs(3600)).unwrap();
    assert!(contents(folder.path())[0].0.ends_with(".ndjson"));
}

#[test]
fn the_oldest_are_deleted_and_what_is_not_ours_stays() {
    let folder = tempfile::tempdir().unwrap();
    for other in ["notes.ndjson", "rake-20200101T000000Z-000001.ndjson"] {
        fs::write(folder.path().join(other), "x".repeat(1000)).unwrap();
    }
    let mut files = Files::open("lake", &url(folder.path())).unwrap();
    let now = Instant::now();
    for number in 0..20 {
        write(&mut files, &format!("{number:0>99}\n"), now);
        let found = contents(folder.path()).into_iter();
        let ours = found.filter(|(name, _)| name.starts_with("lake-"));
        let bytes: usize = ours.map(|(_, text)| text.len()).sum();
        assert!(bytes <= 500, "{bytes} bytes");
    }
    files.close().unwrap();
    assert_eq!(files.counts().deleted(), 15);
    assert_eq!(files.counts().completed(), 20);
    let found = contents(folder.path());
    assert_eq!(found.len(), 5 + 2);
    assert!(found[0].1.trim_end().ends_with("15") && found[4].1.trim_end().ends_with("19"));

    // Age: what has ended long ago goes, whatever room there is.
    drop(files);
    let mut old = url(folder.path());
    old.keep_time = Duration::from_nanos(1);
    std::thread::sleep(Duration::from_millis(2));
    Files::open("lake", &old).unwrap().tick(now).unwrap();
    assert_eq!(contents(folder.path()).len(), 2);
}

#[test]
fn what_a_killed_process_left_is_completed_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Files::open("lake", &url(folder.path())).unwrap();
    write(&mut files, "one\ntwo\n", Instant::now());
    let (growing, _) = contents(folder.path()).remove(0);
    // As after a kill: nothing is closed, and a line is not whole.
    drop(files);
    let path = folder.path().join(&growing);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"thr").unwrap();
    let complete = growing.strip_suffix(PART).unwrap().to_owned();

    // A file that has the name already, however that came about, is not replaced.
    fs::write(folder.path().join(&complete), "older\n").unwrap();
    assert!(Files::open("lake", &url(folder.path())).is_err());
    fs::remove_file(folder.path().join(&complete)).unwrap();

    let mut files = Files::open("lake", &url(folder.path())).unwrap();
    write(&mut files, "four\n", Instant::now());
    files.close().unwrap();
    let found = contents(folder.path());
    assert_eq!(found[0], (complete, "one\ntwo\n".to_owned()));
    assert_eq!(found[1].1, "four\n");
    assert!(found[1].0.ends_with("-000002.ndjson"), "{}", found[1].0);
}

#[test]
fn files_are_private_and_a_folder_serves_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("calls");
    let mut files = Files::open("lake", &url(&inner)).unwrap();
    write(&mut files, "one\n", Instant::now());
    for path in [&inner, &inner.join(&contents(&inner)[0].0)] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    assert!(Files::open("rake", &url(&inner)).is_err(), "it is in use");
    drop(files);
    assert!(Files::open("rake", &url(&inner)).is_ok());
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        Files::open("lake", &url(&inner)).is_err(),
        "others may write"
    );
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_file(inner.join("lock")).unwrap();
    symlink("/dev/null", inner.join("lock")).unwrap();
    assert!(Files::open("lake", &url(&inner)).is_err(), "a link");
}

#[test]
fn what_is_compressed_is_a_concatenation_of_frames() {
    let folder = tempfile::tempdir().unwrap();
    let url = FolderUrl {
        is_compressed: true,
        ..FolderUrl::new(folder.path().to_owned())
    };
    let mut files = Files::open("lake", &url).unwrap();
    let lines: Vec<String> = (0..50)
        .map(|number| format!("[[\"n\",\"{number}\"]]\n").repeat(40))
        .collect();
    for lines in &lines {
        write(&mut files, lines, Instant::now());
    }
    files.close().unwrap();
    let (name, _) = contents(folder.path()).remove(0);
    assert!(name.ends_with(".ndjson.zst"));
    let file = fs::File::open(folder.path().join(name)).unwrap();
    let mut text = String::new();
    let length = file.metadata().unwrap().len() as usize;
    let mut reader = zstd::Decoder::new(file).unwrap();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, lines.concat());
    assert!(length < text.len() / 4, "{length} of {}", text.len());
}
