//! Notifying the driver of a device that its configuration space changed, whatever attaches the device.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

type Way = Box<dyn FnMut() -> io::Result<()> + Send>;

/// The way to a device's driver. The attachment sets it.
#[derive(Default)]
pub struct ConfigurationNotice(Mutex<Option<Way>>);

impl fmt::Debug for ConfigurationNotice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConfigurationNotice").finish_non_exhaustive()
    }
}

impl ConfigurationNotice {
    /// Notifies the guest that the device's configuration space changed. False if no way was set.
    pub fn configuration_changed(&self) -> io::Result<bool> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(way) => way().map(|()| true),
            None => Ok(false),
        }
    }

    /// Sets the way: `way` notifies the guest from now on.
    pub fn set(&self, way: impl FnMut() -> io::Result<()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(way));
    }
}
