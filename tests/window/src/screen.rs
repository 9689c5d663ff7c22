//! The window as the X server sees it: whether it is visible, and the close request of a title bar's button.

use anyhow::{Context, Result};
use x11rb::{
    connection::Connection,
    protocol::xproto::{AtomEnum, ClientMessageEvent, ConnectionExt, EventMask, MapState, Window},
    rust_connection::RustConnection,
};

/// The display.
#[derive(Debug)]
pub struct Screen {
    connection: RustConnection,
    root: Window,
}

impl Screen {
    /// Connects to `DISPLAY`.
    pub fn open() -> Result<Self> {
        let (connection, number) = x11rb::connect(None).context("no display: run this by make test-window")?;
        let root = connection.setup().roots[number].root;
        Ok(Self { connection, root })
    }

    /// Whether a window titled `title` is visible.
    pub fn shows(&self, title: &str) -> Result<bool> {
        let Some(window) = self.window(title)? else { return Ok(false) };
        let attributes = self.connection.get_window_attributes(window)?.reply()?;
        Ok(attributes.map_state == MapState::VIEWABLE)
    }

    /// Asks the window to close, like the button in its title bar.
    pub fn close(&self, title: &str) -> Result<()> {
        let window = self.window(title)?.with_context(|| format!("there is no window {title:?}"))?;
        let protocols = self.atom("WM_PROTOCOLS")?;
        let data = [self.atom("WM_DELETE_WINDOW")?, x11rb::CURRENT_TIME, 0, 0, 0];
        let message = ClientMessageEvent::new(32, window, protocols, data);
        self.connection.send_event(false, window, EventMask::NO_EVENT, message)?.check()?;
        Ok(())
    }

    /// The window with that title that supports closing; toolkits keep others that are never shown.
    fn window(&self, title: &str) -> Result<Option<Window>> {
        let protocols = self.atom("WM_PROTOCOLS")?;
        for window in self.connection.query_tree(self.root)?.reply()?.children {
            let name = self.property(window, AtomEnum::WM_NAME.into(), AtomEnum::ANY.into());
            let closes = self.property(window, protocols, AtomEnum::ATOM.into());
            // Skip a window that has just disappeared.
            if name.is_ok_and(|name| name == title.as_bytes()) && closes.is_ok_and(|atoms| !atoms.is_empty()) {
                return Ok(Some(window));
            }
        }
        Ok(None)
    }

    fn property(&self, window: Window, name: u32, kind: u32) -> Result<Vec<u8>> {
        Ok(self.connection.get_property(false, window, name, kind, 0, 1024)?.reply()?.value)
    }

    fn atom(&self, name: &str) -> Result<u32> {
        Ok(self.connection.intern_atom(false, name.as_bytes())?.reply()?.atom)
    }
}
