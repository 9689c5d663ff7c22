//! Raw mode of the terminal, for a remote shell. Every exit path restores the terminal.

use std::{io, panic, sync::Mutex};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal's settings before raw mode, while it is raw.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps the terminal raw; dropping it restores the settings. A panic restores them too, even if it aborts.
#[derive(Debug)]
pub(crate) struct RawTerminal(());

impl RawTerminal {
    /// Switches the terminal of standard input to raw mode.
    pub(crate) fn enter() -> io::Result<Self> {
        let original = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = original.clone();
        raw.make_raw();
        if let Ok(mut kept) = ORIGINAL.lock() {
            *kept = Some(original);
        }
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            restore();
            before(information);
        }));
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Ok(mut kept) = ORIGINAL.lock()
        && let Some(original) = kept.take()
    {
        // If this fails the terminal is gone, and nothing needs restoring.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &original);
    }
}

/// Whether standard input and output are both a terminal.
pub(crate) fn is_interactive() -> bool {
    isatty(rustix::stdio::stdin()) && isatty(rustix::stdio::stdout())
}

/// Columns and rows of the terminal of standard output.
pub(crate) fn size() -> Option<(u32, u32)> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}
