//! `rorqual web`: serves the pages to browsers on this computer. [`server`] handles requests, [`guard`] authorises
//! them, [`streams`] carries streams over one WebSocket a page, [`assets`] finds the pages' files.

mod assets;
mod guard;
mod server;
mod streams;

use std::{env, process::Stdio};

use rorqual_backend::{Backend, contract::Platform};
use serde_json::json;
use tokio::{net::TcpListener, process::Command, signal::ctrl_c};

use crate::{
    arguments::WebOptions,
    error::CommandError,
    failure::Failure,
    session::{self, Session},
};

/// Serves until Ctrl-C.
pub(crate) async fn web(session: &Session, options: &WebOptions) -> Result<(), Failure> {
    let program = env::current_exe().map_err(CommandError::PagesProgram)?;
    let assets = assets::find(&program)?;
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await;
    let listener = listener.map_err(|source| CommandError::Port { port: options.port, source })?;
    let port = listener.local_addr().map_err(|error| CommandError::Server(error.to_string()))?.port();
    let guard = guard::Guard::new(port).map_err(|error| CommandError::Server(format!("no random numbers: {error}")))?;
    let url = format!("http://localhost:{port}/open?token={}", guard.new_token());
    if session.json {
        session::print_json(&json!({"url": url, "port": port}))?;
    } else {
        session::print_text(&format!(
            "Open Rorqual in a browser: {url}\nThe address works once, within ten minutes. Press Ctrl-C to stop.\n"
        ))?;
    }
    if !options.no_open {
        open_browser(&url);
    }
    let backend = Backend::new(session.home.clone(), Platform::Web, program);
    let router = server::router(backend, guard, assets);
    let end = async {
        // If signals cannot be awaited, the server runs until it is killed.
        if ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = axum::serve(listener, router) => {
            served.map_err(|error| CommandError::Server(format!("it stopped: {error}")).into())
        }
        // Open pages hold connections that never close by themselves, so the shutdown does not wait for them.
        () = end => Ok(()),
    }
}

/// Opens the browser if there is one; the printed address serves everyone else.
fn open_browser(url: &str) {
    let opened =
        Command::new("xdg-open").arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    drop(opened);
}
