//! How often and how soon a request is repeated.

use std::time::Duration;

use super::{HubFailure, HubNote, progress::Reporter};

/// So often in a row a request may fail.
pub(super) const ATTEMPTS: u32 = 4;
/// A hub that wishes a longer wait than this is waited for by whoever runs the program.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something has come: what failed before is over.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// When there is to be none: the failure would come again, came too often, or asks for a long wait.
    pub(super) async fn wait(&mut self, cause: HubFailure, reporter: &Reporter) -> Result<(), HubFailure> {
        if !cause.is_transient() {
            return Err(cause);
        }
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            return Err(HubFailure::Repeated { attempts: ATTEMPTS, cause: Box::new(cause) });
        }
        let wish = match &cause {
            HubFailure::Busy { retry_after, .. } => *retry_after,
            _ => None,
        };
        let wait = wish.unwrap_or(Duration::from_millis(125 << self.failures));
        if wait > LONGEST {
            return Err(cause);
        }
        if wish.is_some() {
            reporter.note(HubNote::Retrying { wait, cause });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
