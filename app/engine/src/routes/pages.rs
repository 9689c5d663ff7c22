//! The pages made here: the list of containers, and the answer when a container cannot give one. They are plain HTML
//! without scripts; names are escaped, and the policy lets a page load nothing at all.

use std::{fmt::Write, sync::LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, VARY},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{DOMAIN, Scheme, error::RouteError, table::Entry, url};
use crate::error::Failure;

/// The body of a response, created here or forwarded.
pub(super) type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Colours meet WCAG AA on both backgrounds.
const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fafafa;--text:#1d1f23;--quiet:#585d66;--line:#d9dce1;--link:#0b5cad}\
@media(prefers-color-scheme:dark){:root{--ground:#17181b;--text:#e8e9ec;--quiet:#a4a9b3;--line:#34373d;--link:#7db8f5}}\
body{margin:0;background:var(--ground);color:var(--text);font:16px/1.5 system-ui,sans-serif}\
main{max-width:60rem;margin:0 auto;padding:3rem 1.5rem}\
h1{font-size:1.5rem;margin:0 0 1rem}p{max-width:44rem}\
a{color:var(--link)}a:focus-visible{outline:2px solid var(--link);outline-offset:2px}\
.quiet{color:var(--quiet)}code{font:.9em ui-monospace,monospace}\
div{overflow-x:auto}table{width:100%;border-collapse:collapse}\
th,td{text-align:left;padding:.5rem 1rem .5rem 0;border-bottom:1px solid var(--line);\
vertical-align:top;overflow-wrap:anywhere}\
th{font-weight:600;color:var(--quiet)}";

/// Allows this style, and no script, frame, form or address.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The answer in a container's place: JSON for clients that prefer it, otherwise a page. `list` is the address of the
/// list of all containers.
pub(super) fn problem(error: &RouteError, headers: &HeaderMap, list: &str) -> Answer {
    let (status, failure) = (error.status(), Failure::of(error));
    if wants_json(headers) {
        return of_json(status, &json!({ "error": failure }));
    }
    let mut main = format!("<h1>{}</h1>\n", escape(&failure.message));
    if let Some(fix) = &failure.fix {
        let _ = writeln!(main, "<p>{}</p>", with_code(fix));
    }
    let _ = writeln!(main, "<p class=\"quiet\">Rorqual, {status}. <a href=\"{}\">All containers</a></p>", escape(list));
    of_html(status, &failure.message, &main)
}

/// The list of running containers, with addresses on `port`.
pub(super) fn list(headers: &HeaderMap, running: &[&Entry], scheme: Scheme, port: u16) -> Answer {
    let addresses = |entry: &Entry| -> Vec<String> {
        entry.hosts.iter().map(|host| url(scheme, &format!("{host}.{DOMAIN}"), port)).collect()
    };
    if wants_json(headers) {
        let containers: Vec<Value> = running
            .iter()
            .map(|entry| {
                let port = entry.port.as_ref().ok();
                json!({"name": entry.name, "image": entry.image, "addresses": addresses(entry), "port": port})
            })
            .collect();
        return of_json(StatusCode::OK, &json!({ "containers": containers }));
    }
    let mut main = "<h1>Running containers</h1>\n".to_owned();
    if running.is_empty() {
        main.push_str(
            "<p>No container is running. Try <code>docker run -d --name hello rorqual/hello</code> \
             and reload this page.</p>\n",
        );
    } else {
        main.push_str(
            "<div><table>\n\
             <thead><tr><th scope=\"col\">Container</th><th scope=\"col\">Address</th>\
             <th scope=\"col\">Port</th><th scope=\"col\">Image</th></tr></thead>\n\
             <tbody>\n",
        );
        for entry in running {
            let links: Vec<String> = addresses(entry).iter().map(|link| anchor(link)).collect();
            let port = entry.port.as_ref().map_or_else(|text| format!("{text:?} is no port"), ToString::to_string);
            let _ = writeln!(
                main,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&entry.name),
                links.join("<br>"),
                escape(&port),
                escape(&entry.image)
            );
        }
        main.push_str("</tbody>\n</table></div>\n");
    }
    main.push_str(
        "<p class=\"quiet\">An address reaches port 80 of its container, or the port its label \
         <code>dev.rorqual.http-port</code> names.</p>\n",
    );
    of_html(StatusCode::OK, "Running containers", &main)
}

fn anchor(link: &str) -> String {
    let link = escape(link);
    format!("<a href=\"{link}\">{link}</a>")
}

/// Whether the request prefers JSON to a page.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("application/json") && !accept.contains("text/html")
}

fn of_json(status: StatusCode, document: &Value) -> Answer {
    answer(status, "application/json", format!("{document}\n"))
}

fn of_html(status: StatusCode, title: &str, main: &str) -> Answer {
    let title = escape(title);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title} - Rorqual</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{main}</main>\n</body>\n</html>\n"
    );
    answer(status, "text/html; charset=utf-8", page)
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    answer
}

/// Text, escaped for a page or an attribute.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            sign => safe.push(sign),
        }
    }
    safe
}

/// The same, with text between backquotes marked as a command.
fn with_code(text: &str) -> String {
    let mut parts = text.split('`').map(escape);
    let mut page = parts.next().unwrap_or_default();
    for (index, part) in parts.enumerate() {
        page.push_str(if index % 2 == 0 { "<code>" } else { "</code>" });
        page.push_str(&part);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(answer: Answer) -> String {
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_users_name_is_text_and_nothing_else() {
        let error = RouteError::Paused("<script>alert('x')\"&\"</script>".to_owned());
        let answer = problem(&error, &HeaderMap::new(), "http://rorqual.localhost/?\"");
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let page = text(answer).await;
        let name = "&lt;script&gt;alert(&#39;x&#39;)&quot;&amp;&quot;&lt;/script&gt;";
        assert!(page.contains(&format!("<h1>the container {name} is paused</h1>")), "{page}");
        assert!(page.contains(&format!("resume it with <code>docker unpause {name}</code>")), "{page}");
        assert!(page.contains("href=\"http://rorqual.localhost/?&quot;\"") && !page.contains("<script"), "{page}");
    }

    #[tokio::test]
    async fn a_program_that_asks_for_json_gets_it() {
        let error = RouteError::WithoutNetwork("web".to_owned());
        let accept = |text: &'static str| HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))]);
        let document: Value =
            serde_json::from_str(&text(problem(&error, &accept("application/json"), "/")).await).unwrap();
        assert_eq!(document, json!({"error": Failure::of(&error)}));
        let page = text(problem(&error, &accept("text/html,application/json"), "/")).await;
        assert!(page.starts_with("<!doctype html>"));
    }
}
