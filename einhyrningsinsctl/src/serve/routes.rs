//! What `serve` answers to which request.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};

use super::Shared;
use super::history::rows;
use super::reader::Cut;
use crate::live::Link;

/// Prometheus' text format.
///
/// # Source
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#basic-info>
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What the page may do: use its own style and script, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of the page: path, type and content.
const PAGE: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/parts.js", "text/javascript; charset=utf-8", include_str!("page/parts.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Every route. Those that say more of a pool than its metrics want the token.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let secret = Router::new()
        .route("/status.json", get(status))
        .route("/history.json", get(history))
        .route("/events", get(events))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), want_token));
    let open = Router::new().route("/metrics", get(metrics));
    let open = PAGE.into_iter().fold(open, |open, (path, kind, content)| {
        open.route(path, get(move || async move { answer(StatusCode::OK, kind, content) }))
    });
    open.merge(secret)
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), want_host))
        .layer(middleware::from_fn(secure))
        .with_state(shared)
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, kind)], body.into()).into_response()
}

fn refusal(status: StatusCode, why: &str) -> Response {
    answer(status, TEXT, format!("{why}\n"))
}

fn unavailable(why: &str) -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// Headers of every answer, refusals too.
async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = response.headers().get(ALLOW).cloned();
        response = refusal(StatusCode::METHOD_NOT_ALLOWED, "this server only shows things: use GET");
        response.headers_mut().extend(allowed.map(|allowed| (ALLOW, allowed)));
    }
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

async fn want_host(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match shared.hosts.check(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err((status, why)) => refusal(status, &why),
    }
}

async fn want_token(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (Some(given), None) if shared.token.is_in(given) => next.run(request).await,
        _ => {
            let why = "give the token of this server, as in \"Authorization: Bearer TOKEN\"";
            let mut response = refusal(StatusCode::UNAUTHORIZED, why);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.keeper.metrics().await {
        Ok((text, picture)) => {
            shared.hub.note(&picture);
            answer(StatusCode::OK, PROMETHEUS, text.to_string())
        }
        Err(why) => unavailable(&why),
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let picture = match shared.keeper.picture().await {
        Ok((picture, _)) => picture,
        Err(why) => return unavailable(&why),
    };
    shared.hub.note(&picture);
    match (&picture.link, serde_json::to_vec(&*picture)) {
        (Link::Lost { why, .. }, _) => unavailable(why),
        (Link::Found { .. }, Ok(json)) => answer(StatusCode::OK, JSON, json),
        (Link::Found { .. }, Err(error)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn history(State(shared): State<Arc<Shared>>) -> Response {
    match shared.keeper.history().await.map(|history| rows(&history)) {
        Ok(rows) => answer(StatusCode::OK, JSON, Bytes::from(rows)),
        Err(why) => unavailable(&why),
    }
}

async fn events(State(shared): State<Arc<Shared>>, Extension(cut): Extension<Cut>) -> Response {
    answer(StatusCode::OK, "text/event-stream", Body::new(shared.hub.add_reader(cut)))
}
