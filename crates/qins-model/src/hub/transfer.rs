//! From the hub to the cache: transfers that go on where they stopped, and the checksum at their end.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
};

use futures_util::StreamExt;
use hf_hub::{HFError, repository::download::HFByteStream};

use super::{
    HubFailure,
    backoff::Backoff,
    cache::{create_parent, has_size},
    checksum::checksum,
    listing::Entry,
    snapshot::Snapshot,
};

/// The requests that one transfer makes, each of which may take its time: hf-hub asks for a file's properties before it asks
/// for its bytes, and either may be redirected.
const REQUESTS: u32 = 4;

impl Snapshot<'_> {
    /// Brings a file into the snapshot unless it is there whole; tells whether it was transferred. A transfer that breaks off is
    /// taken up where it stopped, now or by the next run.
    pub(super) async fn ensure_file(&self, file: &str, entry: &Entry) -> Result<bool, HubFailure> {
        let (folder, is_forced) = (self.request.folder, self.request.is_forced);
        let (blob, pointer) = (folder.blob(&entry.checksum), self.dir.join(file));
        if !is_forced && has_size(&pointer, entry.size) {
            return Ok(false);
        }
        for path in [&blob, &pointer] {
            create_parent(path).map_err(|e| HubFailure::io(path, e))?;
        }
        let _lock = folder.lock(file, &entry.checksum, self.request.reporter)?;
        // Meanwhile another program may have fetched it, or earlier another revision have had the same file.
        let is_new = is_forced || !(has_size(&blob, entry.size) || has_size(&pointer, entry.size));
        if is_new {
            let part = blob.with_extension("incomplete");
            if is_forced {
                let _ = fs::remove_file(&part);
            }
            self.complete_part(file, entry, &part).await?;
            let found = checksum(&part, entry.checksum.len()).map_err(|e| HubFailure::io(&part, e))?;
            if found != entry.checksum {
                fs::remove_file(&part).map_err(|e| HubFailure::io(&part, e))?;
                return Err(HubFailure::Checksum { expected: entry.checksum.clone(), found });
            }
            fs::rename(&part, &blob).map_err(|e| HubFailure::io(&blob, e))?;
        }
        if has_size(&blob, entry.size) {
            folder.link(&blob, &pointer).map_err(|e| HubFailure::io(&pointer, e))?;
        }
        Ok(is_new)
    }

    async fn complete_part(&self, file: &str, entry: &Entry, part: &Path) -> Result<(), HubFailure> {
        let name: Arc<str> = file.into();
        let (mut backoff, mut furthest) = (Backoff::default(), 0);
        loop {
            let Err(cause) = self.transfer(&name, entry, part).await else { return Ok(()) };
            let position = part.metadata().map_or(0, |part| part.len());
            if position > furthest {
                backoff.reset();
                furthest = position;
            }
            match backoff.wait(cause, self.request.reporter).await {
                Ok(()) => {}
                Err(cause) if cause.is_transient() => return Err(HubFailure::Interrupted(Box::new(cause))),
                Err(cause) => return Err(cause),
            }
        }
    }

    /// Appends to `part` what it lacks.
    async fn transfer(&self, file: &Arc<str>, entry: &Entry, part: &Path) -> Result<(), HubFailure> {
        let io = |e| HubFailure::io(part, e);
        let mut output = OpenOptions::new().create(true).append(true).open(part).map_err(io)?;
        let start = output.metadata().map_err(io)?.len();
        if start == entry.size {
            return Ok(());
        }
        if start > entry.size {
            output.set_len(0).map_err(io)?;
        }
        let start = if start > entry.size { 0 } else { start };
        match self.bytes(file, entry, start).await {
            Ok(stream) => self.append(file, entry, &mut output, part, start, stream).await,
            // The next attempt, or the next run, begins anew.
            Err(cause @ (HubFailure::NotContinued(_) | HubFailure::Size { .. })) => {
                output.set_len(0).map_err(io).and(Err(cause))
            }
            Err(cause) => Err(cause),
        }
    }

    /// The bytes of a file from one on.
    async fn bytes(&self, file: &str, entry: &Entry, start: u64) -> Result<HFByteStream, HubFailure> {
        let client = self.request.client;
        let repository = client.repository(self.request.name);
        let range = (start > 0).then_some(start..entry.size);
        let request = repository.download_file_stream().filename(file).revision(&self.commit).maybe_range(range).send();
        let answer = tokio::time::timeout(client.longest_wait.saturating_mul(REQUESTS), request).await;
        let (length, stream) = match answer.map_err(|late| HubFailure::Unreachable(late.into()))? {
            Ok(answer) => answer,
            // Nothing is left after this byte.
            Err(HFError::Http { context }) if context.status == 416 => {
                return Err(HubFailure::Size { expected: entry.size, found: start });
            }
            Err(error) => return Err(error.into()),
        };
        // hf-hub does not tell a part from the whole, which some servers send whatever they are asked for. Where the length
        // does not tell either, it is not taken for the part.
        if start > 0 && length != Some(entry.size - start) {
            return Err(HubFailure::NotContinued(start));
        }
        Ok(stream)
    }

    async fn append(
        &self,
        file: &Arc<str>,
        entry: &Entry,
        output: &mut File,
        part: &Path,
        start: u64,
        mut stream: HFByteStream,
    ) -> Result<(), HubFailure> {
        let (size, mut position) = (entry.size, start);
        let io = |e| HubFailure::io(part, e);
        let source = loop {
            self.request.reporter.bytes(file, position, size);
            // The client has such a limit itself; Xet, to which hf-hub may go over, has not.
            let bytes = match tokio::time::timeout(self.request.client.longest_wait, stream.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(Some(Err(error))) => break Some(HubFailure::from(error).into()),
                Ok(None) => break None,
                Err(late) => break Some(late.into()),
            };
            if bytes.len() as u64 > size - position {
                output.set_len(0).map_err(io)?;
                return Err(HubFailure::Size { expected: size, found: position + bytes.len() as u64 });
            }
            output.write_all(&bytes).map_err(io)?;
            position += bytes.len() as u64;
        };
        if position < size {
            return Err(HubFailure::BrokenOff { position, size, source });
        }
        output.sync_all().map_err(io)
    }
}
