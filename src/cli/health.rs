//! `health`: a probe of a running sidecar that needs no curl. 0 or 1.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::json;

use super::args::Global;
use super::output::Output;
use super::{Failure, load_config};

pub(super) fn run(global: &Global, ready: bool, output: &Output) -> Result<u8, Failure> {
    let config = load_config(global)?;
    let addresses = [&config.http.health_listen, &config.http.listen];
    let Some(address) = addresses.into_iter().find(|address| !address.is_empty()) else {
        return Err(Failure::usage("[http] listens nowhere").hint("set http.listen or http.health_listen"));
    };
    let path = if ready { "/readyz" } else { "/livez" };
    let answer = fetch(address, path, global.timeout.unwrap_or(Duration::from_secs(5)));
    let (ok, text) = match &answer {
        Ok(answer) => (answer.starts_with("HTTP/1.1 200"), answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim()),
        Err(_) => (false, "no answer"),
    };
    output.object(&json!({ "ok": ok, "answer": text }), || text.to_owned())?;
    Ok(u8::from(!ok))
}

fn fetch(address: &str, path: &str, wait: Duration) -> std::io::Result<String> {
    let address = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, wait)?;
    stream.set_read_timeout(Some(wait))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}
