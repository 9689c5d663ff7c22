//! The server: the pages' files, calls, and the WebSocket of streams, all behind the [`Guard`].

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, Request, State, ws::WebSocketUpgrade},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use rorqual_backend::{Backend, contract::Failure};
use serde::Deserialize;

use super::{assets, guard::Guard, streams};

/// Maximum size of a call's parameters.
const LARGEST_CALL: usize = 1 << 20;
/// Allows only these pages' own files and requests to this server. Inline styles are xterm's.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const STRANGER: &str = "<!doctype html><html lang=\"en\"><title>Rorqual</title><h1>No access</h1>\
    <p>Open the address that <code>rorqual web</code> prints. It works once; \
    run <code>rorqual web</code> again for a new one.</p></html>";

struct Served {
    backend: Backend,
    guard: Guard,
    assets: PathBuf,
}

type Shared = State<Arc<Served>>;

pub(super) fn router(backend: Backend, guard: Guard, assets: PathBuf) -> Router {
    let served = Arc::new(Served { backend, guard, assets });
    Router::new()
        .route("/open", get(open))
        .route("/api/call/{name}", post(call).layer(DefaultBodyLimit::max(LARGEST_CALL)))
        .route("/api/streams", any(open_streams))
        .fallback(page)
        .layer(from_fn_with_state(served.clone(), check))
        .with_state(served)
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Checks every request.
async fn check(State(served): Shared, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = text(headers, header::HOST);
    let path = request.uri().path();
    let mut response = if !served.guard.is_host(host) {
        refuse(StatusCode::MISDIRECTED_REQUEST, "wrong-host", "this server answers only to the name localhost", None)
    } else if path == "/open" {
        next.run(request).await
    } else if !served.guard.knows(text(headers, header::COOKIE)) {
        if path.starts_with("/api/") {
            refuse(
                StatusCode::UNAUTHORIZED,
                "http-401",
                "this browser has no access to these pages",
                Some("open the address that `rorqual web` prints"),
            )
        } else {
            (StatusCode::UNAUTHORIZED, Html(STRANGER)).into_response()
        }
    } else if (path.starts_with("/api/") && !served.guard.is_origin(text(headers, header::ORIGIN), host))
        || !matches!(text(headers, HeaderName::from_static("sec-fetch-site")), "" | "none" | "same-origin")
    {
        refuse(StatusCode::FORBIDDEN, "wrong-origin", "only Rorqual's own pages may make this request", None)
    } else {
        next.run(request).await
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refuse(status: StatusCode, code: &str, message: &str, fix: Option<&str>) -> Response {
    let failure = Failure { code: code.to_owned(), message: message.to_owned(), fix: fix.map(str::to_owned) };
    (status, Json(failure)).into_response()
}

#[derive(Deserialize)]
struct Opening {
    #[serde(default)]
    token: String,
}

/// Exchanges the printed token for a cookie, and redirects to an address without it.
async fn open(State(served): Shared, Query(opening): Query<Opening>, headers: HeaderMap) -> Response {
    if served.guard.knows(text(&headers, header::COOKIE)) {
        return Redirect::to("/").into_response();
    }
    match served.guard.redeem(&opening.token) {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        None => (StatusCode::UNAUTHORIZED, Html(STRANGER)).into_response(),
    }
}

/// Handles a call. If the browser disconnects, the call is dropped.
async fn call(State(served): Shared, Path(name): Path<String>, body: Bytes) -> Response {
    let params = match serde_json::from_slice(&body) {
        Ok(params) => params,
        Err(error) => {
            return refuse(StatusCode::BAD_REQUEST, "bad-request", &format!("the request is not JSON: {error}"), None);
        }
    };
    match served.backend.call(&name, params).await {
        Ok(result) => Json(result).into_response(),
        Err(failure) => {
            let status = match failure.code.as_str() {
                "bad-request" => StatusCode::BAD_REQUEST,
                "not-found" => StatusCode::NOT_FOUND,
                "conflict" => StatusCode::CONFLICT,
                "engine-not-running" | "daemon-not-running" => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            (status, Json(failure)).into_response()
        }
    }
}

async fn open_streams(State(served): Shared, upgrade: WebSocketUpgrade) -> Response {
    let backend = served.backend.clone();
    upgrade.max_message_size(streams::MAX_MESSAGE).on_upgrade(move |socket| streams::serve(socket, backend))
}

/// Serves a file of the pages.
async fn page(State(served): Shared, request: Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "bad-request", "files support only GET and HEAD", None);
    }
    let path = request.uri().path();
    let Some(file) = assets::file(&served.assets, path) else { return StatusCode::NOT_FOUND.into_response() };
    match tokio::fs::read(&file).await {
        Ok(content) => {
            // Names under assets/ contain a hash of the content.
            let keep = if path.starts_with("/assets/") { "private, max-age=31536000, immutable" } else { "no-cache" };
            ([(header::CONTENT_TYPE, assets::media_type(&file)), (header::CACHE_CONTROL, keep)], Body::from(content))
                .into_response()
        }
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
