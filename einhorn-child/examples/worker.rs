//! The worker of the README.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stop = einhorn_child::Stop::install()?; // SIGUSR2, SIGTERM, SIGINT
    let listener: TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:8000")?;
    einhorn_child::ack()?;
    std::thread::scope(|threads| {
        while let Some((client, _)) = stop.accept(&listener)? {
            threads.spawn(move || answer(&client));
        }
        Ok(()) // The scope waits for its threads: what was accepted is answered.
    })
}

fn answer(mut client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = BufReader::new(client).lines();
    while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = format!("hello from Rust, process {}\n", std::process::id());
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
    let answer = format!("{head} {}\r\n\r\n{body}", body.len());
    client.write_all(answer.as_bytes())
}
