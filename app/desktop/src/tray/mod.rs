//! The tray icon: the machine's state, starting and stopping it, running containers, opening the window, quitting.

mod menu;

use std::sync::{Mutex, PoisonError};

use tauri::{
    AppHandle, Manager, Wry,
    image::Image,
    menu::{CheckMenuItem, IsMenuItem, Menu, MenuItem, PredefinedMenuItem, Submenu},
    tray::TrayIconBuilder,
};

use crate::{desktop::Desktop, login, overview::Overview, window};
use menu::{Action, Entry};

const ID: &str = "rorqual";
const ICON: &[u8] = include_bytes!("../../icons/tray.png");

/// The entries shown, so that an unchanged menu is not rebuilt while the user is about to click.
#[derive(Default)]
pub(crate) struct Shown(Mutex<Vec<Entry>>);

/// Puts the icon in the tray.
pub(crate) fn build(app: &AppHandle) -> tauri::Result<()> {
    app.manage(Shown::default());
    let builder = TrayIconBuilder::with_id(ID).icon(Image::from_bytes(ICON)?).on_menu_event(|app, event| {
        // Other menus, such as the window's own, have other identifiers.
        if let Ok(action) = serde_json::from_str(&event.id.0) {
            carry_out(app, action);
        }
    });
    builder.build(app)?;
    show(app, &Overview::default());
    Ok(())
}

/// Shows the known state.
pub(crate) fn show(app: &AppHandle, overview: &Overview) {
    let entries = menu::menu(overview, login::is_on(app));
    let state = menu::state(overview);
    let handle = app.clone();
    let laid_out = app.run_on_main_thread(move || {
        if let Err(error) = lay_out(&handle, entries, &state) {
            eprintln!("could not show the tray: {error}");
        }
    });
    if let Err(error) = laid_out {
        eprintln!("could not show the tray: {error}");
    }
}

fn lay_out(app: &AppHandle, entries: Vec<Entry>, state: &str) -> tauri::Result<()> {
    let shown = app.state::<Shown>();
    let mut shown = shown.0.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(icon) = app.tray_by_id(ID).filter(|_| *shown != entries) else { return Ok(()) };
    let items = entries.iter().map(|entry| item(app, entry)).collect::<tauri::Result<Vec<_>>>()?;
    let items: Vec<&dyn IsMenuItem<Wry>> = items.iter().map(AsRef::as_ref).collect();
    icon.set_menu(Some(Menu::with_items(app, &items)?))?;
    icon.set_tooltip(Some(format!("Rorqual: {state}")))?;
    *shown = entries;
    Ok(())
}

fn item(app: &AppHandle, entry: &Entry) -> tauri::Result<Box<dyn IsMenuItem<Wry>>> {
    let id = |action: &Action| serde_json::to_string(action);
    Ok(match entry {
        Entry::Text(text) => Box::new(MenuItem::new(app, literal(text), false, None::<&str>)?),
        Entry::Item(text, action) => Box::new(MenuItem::with_id(app, id(action)?, literal(text), true, None::<&str>)?),
        Entry::Check(text, on, action) => {
            Box::new(CheckMenuItem::with_id(app, id(action)?, literal(text), true, *on, None::<&str>)?)
        }
        Entry::Submenu(text, entries) => {
            let items = entries.iter().map(|entry| item(app, entry)).collect::<tauri::Result<Vec<_>>>()?;
            let items: Vec<&dyn IsMenuItem<Wry>> = items.iter().map(AsRef::as_ref).collect();
            Box::new(Submenu::with_items(app, literal(text), true, &items)?)
        }
        Entry::Line => Box::new(PredefinedMenuItem::separator(app)?),
    })
}

/// Escapes ampersands, which would mark the next letter as an access key.
fn literal(text: &str) -> String {
    text.replace('&', "&&")
}

fn carry_out(app: &AppHandle, action: Action) {
    let desktop = app.state::<Desktop>();
    match action {
        Action::Open => window::show(app),
        Action::StartMachine => desktop.start_machine(app),
        Action::StopMachine => desktop.stop_machine(app),
        Action::ShowContainer { id } => window::show_target(app, crate::links::Target::Container(id)),
        Action::StopContainer { id } => desktop.stop_container(app, id),
        Action::OpenPort { url } => {
            if let Ok(url) = url.parse() {
                desktop.open_published(app, &url);
            }
        }
        Action::OpenAtLogin => {
            login::switch(app);
            show(app, &desktop.overview());
        }
        Action::Quit => app.exit(0),
    }
}
