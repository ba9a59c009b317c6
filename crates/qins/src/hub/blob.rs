//! From the hub to the cache: transfers that go on where they stopped, and the checksum at their end.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::Path,
    thread,
    time::Duration,
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{
    Snapshot,
    client::{Announced, Failure, header, refusal},
    create_parent, local, note,
};
use crate::progress::bytes_progress;

/// So often in a row a transfer may fail without having come further.
const ATTEMPTS: u32 = 4;

impl Snapshot<'_> {
    /// Brings a file into the snapshot unless it is there; tells whether it was transferred. A transfer that breaks off is
    /// taken up where it stopped, now or by the next run.
    pub(super) fn bring(&self, file: &str) -> Result<bool, String> {
        if self.dir.join(file).exists() {
            return Ok(false);
        }
        let (mut failures, mut furthest) = (0, 0);
        loop {
            let mut position = 0;
            match self.attempt(file, &mut position) {
                Ok(is_new) => return Ok(is_new),
                Err(Failure::Lasting(why)) => return Err(why),
                Err(Failure::Passing(why)) => {
                    failures = if position > furthest { 1 } else { failures + 1 };
                    furthest = furthest.max(position);
                    if failures == ATTEMPTS {
                        return Err(format!("{why}, {ATTEMPTS} times: run this again to go on"));
                    }
                    thread::sleep(Duration::from_millis(125 << failures));
                }
            }
        }
    }

    fn attempt(&self, file: &str, position: &mut u64) -> Result<bool, Failure> {
        let lasting = |path: &Path, e: io::Error| Failure::Lasting(local(path, &e));
        let announced = self.client.announced(self.name, &self.commit, file)?;
        let blob = self.folder.join("blobs").join(&announced.checksum);
        let pointer = self.dir.join(file);
        for path in [&blob, &pointer] {
            create_parent(path).map_err(Failure::Lasting)?;
        }
        let _lock = self.lock(file, &announced.checksum).map_err(Failure::Lasting)?;
        // Another revision may have had the same file.
        let is_new = !blob.metadata().is_ok_and(|found| announced.size.is_none_or(|size| found.len() == size));
        if is_new {
            let part = blob.with_extension("incomplete");
            self.transfer(file, &announced, &part, position)?;
            let found = checksum(&part, announced.checksum.len()).map_err(|e| lasting(&part, e))?;
            if found != announced.checksum {
                fs::remove_file(&part).map_err(|e| lasting(&part, e))?;
                let expected = announced.checksum;
                return Err(Failure::Lasting(format!("expected checksum {expected}, found {found}: run this again")));
            }
            fs::rename(&part, &blob).map_err(|e| lasting(&blob, e))?;
        }
        link(&blob, &pointer).map_err(|e| lasting(&pointer, e))?;
        Ok(is_new)
    }

    /// Completes `part`, and tells how far it has come whether or not it does.
    fn transfer(&self, file: &str, announced: &Announced, part: &Path, position: &mut u64) -> Result<(), Failure> {
        let lasting = |e| Failure::Lasting(local(part, &e));
        let mut output = OpenOptions::new().create(true).append(true).open(part).map_err(lasting)?;
        let mut start = output.metadata().map_err(lasting)?.len();
        if announced.size == Some(start) {
            return Ok(());
        }
        if announced.size.is_some_and(|size| start > size) {
            output.set_len(0).map_err(lasting)?;
            start = 0;
        }
        let other_size = |found: u64| {
            let _ = fs::remove_file(part);
            let expected = announced.size.map_or("another size".to_owned(), |size| format!("{size} bytes"));
            Failure::Lasting(format!("expected {expected}, found {found}: run this again"))
        };
        let answer = self.client.bytes(self.name, &self.commit, file, start)?;
        let goes_on = |range: &str| range.starts_with(&format!("bytes {start}-"));
        *position = match answer.status().as_u16() {
            206 if header(&answer, "content-range").is_some_and(goes_on) => start,
            200 if start == 0 => 0,
            // All of it, whatever was asked for.
            200 => {
                output.set_len(0).map_err(lasting)?;
                0
            }
            // Nothing is left, or something else than was asked for.
            206 | 416 => return Err(other_size(start)),
            status => return Err(refusal(status)),
        };
        let bar = bytes_progress(announced.size.unwrap_or(0), file.to_owned());
        let limit = announced.size.map_or(u64::MAX, |size| size - *position + 1);
        let (mut input, mut buffer) = (answer.into_body().into_reader().take(limit), vec![0; 1 << 16]);
        let error = loop {
            bar.set_position(*position);
            match input.read(&mut buffer) {
                Ok(0) => break None,
                Ok(read) => {
                    output.write_all(&buffer[..read]).map_err(lasting)?;
                    *position += read as u64;
                }
                Err(e) => break Some(e),
            }
        };
        if announced.size.map_or(error.is_some(), |size| *position < size) {
            let why = error.map_or(String::new(), |e| format!(" ({e})"));
            return Err(Failure::Passing(format!("the transfer broke off at byte {position}{why}")));
        }
        if announced.size.is_some_and(|size| *position > size) {
            return Err(other_size(*position));
        }
        output.sync_all().map_err(lasting)
    }

    /// Lets one program at a time fetch a file; the hub's own keep to the same lock.
    fn lock(&self, file: &str, checksum: &str) -> Result<File, String> {
        let folder = self.folder.file_name().unwrap_or_default();
        let path = self.client.cache.join(".locks").join(folder).join(format!("{checksum}.lock"));
        create_parent(&path)?;
        let lock = File::create(&path).map_err(|e| local(&path, &e))?;
        // Where a file system has no locks, two transfers in one file would show in its checksum.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            note(&format!("{}: waiting for another program that fetches {file}", self.name));
            lock.lock().map_err(|e| local(&path, &e))?;
        }
        Ok(lock)
    }
}

/// A file's SHA-256, or where 40 digits are wanted the SHA-1 of a git blob.
fn checksum(path: &Path, digits: usize) -> io::Result<String> {
    fn digest<D: Digest + Write>(mut digest: D, file: &mut File) -> io::Result<String> {
        io::copy(file, &mut digest)?;
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
    let mut file = File::open(path)?;
    match digits {
        40 => digest(Sha1::new_with_prefix(format!("blob {}\0", file.metadata()?.len())), &mut file),
        _ => digest(Sha256::new(), &mut file),
    }
}

/// Gives a blob its name in a snapshot.
fn link(blob: &Path, pointer: &Path) -> io::Result<()> {
    // What was there led nowhere.
    let _ = fs::remove_file(pointer);
    #[cfg(unix)]
    return std::os::unix::fs::symlink(Path::new("../../blobs").join(blob.file_name().unwrap_or_default()), pointer);
    // Where links take a privilege, the hub's own programs move the file.
    #[cfg(not(unix))]
    return fs::rename(blob, pointer);
}
