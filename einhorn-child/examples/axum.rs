//! An axum server as a worker.
//!
//! ```text
//! einhyrningsins -n 4 -b 127.0.0.1:8000 -m -- target/release/examples/axum
//! target/release/examples/axum                     # alone
//! ```

use std::error::Error;

use axum::Router;
use axum::routing::get;
use einhorn_child::Stop;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stop = Stop::install()?;
    let listener: TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:8000")?;
    let app = Router::new().route("/", get(hello));
    einhorn_child::ack()?;
    einhorn_child::serve(listener, app, stop).await?;
    Ok(())
}

async fn hello() -> String {
    let generation = einhorn_child::generation().unwrap_or_default();
    format!("hello from process {}, generation {generation}\n", std::process::id())
}
