//! Follows the engine for the tray and the notifications, whether or not a window is open.

use std::time::Duration;

use rorqual_backend::{
    contract::{Container, EngineEvent, ListEvent, MachinesEvent},
    stream::{OpenStream, Output},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tauri::{AppHandle, Manager};

use crate::{
    desktop::Desktop,
    notices::Notices,
    notification,
    overview::{Engine, Overview},
    tray, window,
};

/// Pause before reopening a stream of a running engine that has ended. The daemon reports the engine's end a moment
/// later, and until then every attempt would fail immediately.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Follows the engine for as long as the application lives.
pub(crate) async fn follow(app: AppHandle) {
    let desktop = app.state::<Desktop>();
    let mut notices = Notices::default();
    let mut machines = desktop.backend.open("machines", json!({}));
    let mut engine: Option<OfEngine> = None;
    loop {
        tokio::select! {
            event = next::<MachinesEvent>(&mut machines) => {
                let Some(event) = event else {
                    tokio::time::sleep(REOPEN_AFTER).await;
                    machines = desktop.backend.open("machines", json!({}));
                    continue;
                };
                let overview = learn(&app, |overview| overview.take_machines(event));
                let machine = match &overview.engine {
                    Engine::Machine(machine) => Some(machine.as_ref()),
                    Engine::Unknown | Engine::Unreachable => None,
                };
                notify(&app, notices.take_machine(machine));
                match (overview.is_running(), &engine) {
                    (true, None) => engine = Some(OfEngine::open(&desktop)),
                    (false, Some(_)) => engine = None,
                    _ => {}
                }
            }
            news = next_of(&mut engine) => match news {
                News::Containers(event) => drop(learn(&app, |overview| overview.take_containers(event))),
                News::Event(event) => notify(&app, notices.take_event(&event)),
                News::End => {
                    tokio::time::sleep(REOPEN_AFTER).await;
                    engine = desktop.overview().is_running().then(|| OfEngine::open(&desktop));
                }
            },
        }
    }
}

/// The streams open while the engine runs.
struct OfEngine {
    containers: OpenStream,
    events: OpenStream,
}

enum News {
    Containers(ListEvent<Container>),
    Event(EngineEvent),
    End,
}

impl OfEngine {
    fn open(desktop: &Desktop) -> Self {
        Self {
            containers: desktop.backend.open("containers", json!({})),
            events: desktop.backend.open("engine.events", json!({})),
        }
    }
}

async fn next_of(engine: &mut Option<OfEngine>) -> News {
    let Some(engine) = engine else { return std::future::pending().await };
    tokio::select! {
        event = next(&mut engine.containers) => event.map_or(News::End, News::Containers),
        event = next(&mut engine.events) => event.map_or(News::End, News::Event),
    }
}

/// The next event; `None` when the stream has ended, for whatever reason.
async fn next<T: DeserializeOwned>(stream: &mut OpenStream) -> Option<T> {
    match stream.output.recv().await? {
        Output::Event(event) => serde_json::from_value(event).ok(),
        Output::Bytes(_) | Output::Failed(_) => None,
    }
}

fn learn(app: &AppHandle, take: impl FnOnce(&mut Overview)) -> Overview {
    let overview = app.state::<Desktop>().learn(take);
    tray::show(app, &overview);
    overview
}

fn notify(app: &AppHandle, notice: Option<crate::notices::Notice>) {
    if let Some(notice) = notice.filter(|_| !window::is_in_front(app)) {
        notification::notice(app, notice);
    }
}
