//! Harness of the window's suite: the application as a user has it ([`application`]), its pages by WebDriver
//! ([`webdriver`]), its tray and notifications by the desktop's protocols
//! ([`tray`], [`notifications`]), its window by the X server's ([`screen`]).
//!
//! `make test-window` gives it a display and a session bus of its own.

pub mod application;
pub mod notifications;
pub mod screen;
pub mod tray;
pub mod webdriver;

pub use application::Application;
pub use notifications::Notifications;
pub use tray::Tray;
