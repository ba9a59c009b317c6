//! Panics of a library that reads a model's files, as errors: the file, not the program, is at fault.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether a panic of this thread becomes an error, and is not reported.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f`, which uses a `what` of the model's files; a panic in it becomes an error with its message.
pub(crate) fn guarded<T>(what: &str, f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                report(info);
            }
        }));
    });
    let before = IS_GUARDED.replace(true);
    // What `f` changed is not used after a panic.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    IS_GUARDED.set(before);
    result.unwrap_or_else(|panic| {
        Err(format!("expected a valid {what}, found one that cannot be used: {}", message(&*panic)))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    // One line, as every error.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_becomes_an_error_and_what_follows_is_reported_again() {
        assert_eq!(guarded("file", || Ok(1)), Ok(1));
        assert_eq!(guarded::<()>("file", || Err("an error".to_owned())), Err("an error".to_owned()));
        let error = guarded::<()>("file", || panic!("no\nentry {}", 5)).unwrap_err();
        assert!(error.ends_with("valid file, found one that cannot be used: no entry 5"), "{error}");
        assert!(!IS_GUARDED.get());
    }
}
