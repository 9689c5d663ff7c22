//! The guest's console: [`GuestConsole`] collects what its writers print, whole lines at a time, and appends it to a
//! log of bounded size.

mod lines;
mod log;

pub(crate) use self::lines::GuestConsole;
