//! Notifications of the desktop, and what a click on one does.

use notify_rust::{Notification, NotificationResponse, Timeout};
use rorqual_backend::contract::Failure;
use tauri::{AppHandle, Manager};

use crate::{links::Target, notices::Notice};

/// What a click on a notification does, with the target of the notification. Managed by the application, so that
/// notifications need not know the window.
pub(crate) struct OnClick(pub(crate) fn(&AppHandle, Option<Target>));

/// Shows a notification.
pub(crate) fn show(app: &AppHandle, title: &str, body: &str, target: Option<Target>) {
    let mut notification = Notification::new();
    notification.appname("Rorqual").icon("rorqual").summary(title).body(&plain(body)).timeout(Timeout::Default);
    #[cfg(target_os = "linux")]
    notification.action("default", "Show").hint(notify_rust::Hint::DesktopEntry("rorqual".to_owned()));
    let (app, title) = (app.clone(), title.to_owned());
    tauri::async_runtime::spawn(async move {
        match notification.show_async().await {
            Ok(shown) => {
                let clicked = app.clone();
                let answer = move |response: &NotificationResponse| {
                    if matches!(response, NotificationResponse::Default) {
                        clicked.state::<OnClick>().0(&clicked, target);
                    }
                };
                shown.wait_for_action_async(answer).await;
            }
            // On a desktop without notifications, the log has it.
            Err(error) => eprintln!("{title} (not shown: {error})"),
        }
    });
}

/// Shows a notice from [`crate::notices`].
pub(crate) fn notice(app: &AppHandle, notice: Notice) {
    show(app, &notice.title, &notice.body, notice.target);
}

/// Shows why an action of the tray failed.
pub(crate) fn failure(app: &AppHandle, title: &str, failure: &Failure) {
    let body = match &failure.fix {
        Some(fix) => format!("{}\n{fix}", failure.message),
        None => failure.message.clone(),
    };
    show(app, title, &body, None);
}

/// Escapes a body: most desktops treat it as markup, which a container's name or an error must not be.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
