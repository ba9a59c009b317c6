//! SIGINT (Ctrl-C) and SIGTERM.
//!
//! A thread receives them. It removes what the process has begun to write and ends it with 130 or 143, at once unless a command has
//! called [`install`]: then the first signal is only noted, for the command to come to an end by itself, and a second one ends it.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
};

/// Whether the first signal is only noted.
static IS_HANDLED: AtomicBool = AtomicBool::new(false);
static IS_REQUESTED: AtomicBool = AtomicBool::new(false);
/// The exit code for the last signal.
static CODE: AtomicU8 = AtomicU8::new(130);
/// What is printed when the first signal is noted.
static NOTE: OnceLock<&str> = OnceLock::new();

/// Begins to receive signals.
#[cfg(unix)]
pub(crate) fn watch() -> std::io::Result<()> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
        low_level::exit,
    };

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            CODE.store(if signal == SIGTERM { 143 } else { 130 }, SeqCst);
            if !IS_HANDLED.load(SeqCst) || IS_REQUESTED.swap(true, SeqCst) {
                qins_quant::output::remove_unfinished();
                exit(i32::from(CODE.load(SeqCst)));
            }
            NOTE.get().into_iter().for_each(|text| crate::progress::note(text));
        }
    })?;
    Ok(())
}

/// Elsewhere signals end the process as the system does.
#[cfg(not(unix))]
pub(crate) fn watch() -> std::io::Result<()> {
    Ok(())
}

/// From now on the first signal is noted for [`requested`] and [`take`]; a second one before it was taken ends the process.
#[cfg(feature = "burn")]
pub(crate) fn install() {
    IS_HANDLED.store(true, SeqCst);
}

/// As [`install`], and says when a signal is noted what happens next.
#[cfg(feature = "burn")]
pub(crate) fn install_saying(note: &'static str) {
    // The first text stays.
    let _ = NOTE.set(note);
    install();
}

/// Whether a signal was noted.
#[cfg(feature = "burn")]
pub(crate) fn requested() -> bool {
    IS_REQUESTED.load(SeqCst)
}

/// Whether a signal was noted since the last call.
#[cfg(feature = "burn")]
pub(crate) fn take() -> bool {
    IS_REQUESTED.swap(false, SeqCst)
}

/// The exit code after a signal.
#[cfg(feature = "burn")]
pub(crate) fn exit_code() -> std::process::ExitCode {
    CODE.load(SeqCst).into()
}
