//! A report on a loopback port, rendered again when a run has grown. Read-only: one page under a random path; requests
//! that name another host are refused, so that no web site can reach it by a name of its own.

use crate::escape;
use crate::report::page::{self, Pictures, to_html};
use crate::runs::finished::{self, FinishedRun};
use robust_core::{Error, Result};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Seconds after which a page of a growing run asks again.
const REFRESH: u32 = 5;

/// Bytes of a request that are read; browsers send less than half.
const REQUEST: usize = 16 * 1024;

/// Connections at once: a browser opens a few, and some of them say nothing.
const CONNECTIONS: usize = 32;

/// A page, and whether there will be another.
pub struct Rendered {
    pub html: String,
    pub growing: bool,
}

/// What tells that a file was written again.
type Stamp = Vec<Option<(u64, SystemTime)>>;

/// The report of some folders, kept until one of them changes.
pub struct Live {
    roots: Vec<PathBuf>,
    pictures: Pictures,
    last: Mutex<Option<(Stamp, Arc<Rendered>)>>,
}

impl Live {
    pub fn new(roots: Vec<PathBuf>, pictures: Pictures) -> Self {
        Self { roots, pictures, last: Mutex::new(None) }
    }

    fn stamp(&self) -> Stamp {
        let files = self.roots.iter().flat_map(|r| [r.join("run.json"), r.join("outcomes.jsonl")]);
        let facts = files.map(|f| f.metadata().ok().and_then(|m| Some((m.len(), m.modified().ok()?))));
        facts.collect()
    }

    /// The page as the folders are now.
    ///
    /// # Errors
    /// Those of reading run folders.
    pub fn page(&self) -> Result<Arc<Rendered>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.stamp();
        if let Some((_, page)) = last.as_ref().filter(|(then, _)| *then == stamp) {
            return Ok(page.clone());
        }
        let runs = finished::open_all(&self.roots)?;
        let html = to_html(&page::page(&runs, &self.pictures))?;
        let page = Arc::new(Rendered { html, growing: runs.iter().any(|r: &FinishedRun| r.missing > 0) });
        *last = Some((stamp, page.clone()));
        Ok(page)
    }
}

/// Opens `PORT`, `localhost:PORT` or `ADDRESS:PORT`; port 0 is any free one.
///
/// # Errors
/// Kind `Usage` for an address that other machines can reach, and for one that is taken.
pub fn bind(text: &str) -> Result<TcpListener> {
    let full = match text.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => text.replacen("localhost:", "127.0.0.1:", 1),
    };
    let address: SocketAddr = full.parse().map_err(|_| {
        Error::usage(format!("`{text}` is not an address to serve on"))
            .hint("--serve, --serve=8080 or --serve=127.0.0.1:8080")
    })?;
    if !address.ip().is_loopback() {
        return Err(Error::usage(format!("{address} can be reached from other machines"))
            .hint("reports are served on 127.0.0.1 or [::1] only; send the HTML file, or use an ssh tunnel"));
    }
    TcpListener::bind(address)
        .map_err(|e| Error::usage(format!("cannot serve on {address}: {e}")).hint("choose another port"))
}

/// 128 bits that nobody can guess: SipHash under keys of the operating system's randomness.
pub fn token() -> String {
    let keys = RandomState::new();
    format!("{:016x}{:016x}", keys.hash_one("robust"), keys.hash_one("report"))
}

/// Where the page is.
///
/// # Errors
/// Kind `Internal` when the socket has no address.
pub fn url(listener: &TcpListener, token: &str) -> Result<String> {
    let address = listener.local_addr().map_err(|e| Error::internal(format!("serve: {e}")))?;
    Ok(format!("http://{address}/{token}/"))
}

/// Answers until `stop` is set.
///
/// # Errors
/// Kind `Internal` when the socket fails.
pub fn run(listener: &TcpListener, token: &str, live: &Live, stop: &AtomicBool) -> Result<()> {
    let broken = |e: std::io::Error| Error::internal(format!("serve: {e}"));
    listener.set_nonblocking(true).map_err(broken)?;
    let address = listener.local_addr().map_err(broken)?;
    let open = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        while !stop.load(SeqCst) {
            match listener.accept() {
                Ok((stream, peer)) if peer.ip().is_loopback() && open.load(SeqCst) < CONNECTIONS => {
                    open.fetch_add(1, SeqCst);
                    let open = &open;
                    scope.spawn(move || {
                        // A reader that goes away is no matter of ours.
                        answer(stream, address, token, live).ok();
                        open.fetch_sub(1, SeqCst);
                    });
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(e) => return Err(broken(e)),
            }
        }
        Ok(())
    })
}

struct Reply {
    status: &'static str,
    refresh: bool,
    body: String,
}

fn answer(mut stream: TcpStream, address: SocketAddr, token: &str, live: &Live) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut request = vec![];
    let mut part = [0; 2048];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < REQUEST {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            n => request.extend_from_slice(&part[..n]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let reply = reply(&request, address, token, live);
    let refresh = if reply.refresh { format!("Refresh: {REFRESH}\r\n") } else { String::new() };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n{refresh}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
        reply.status,
        reply.body.len()
    );
    stream.write_all(head.as_bytes())?;
    if !request.starts_with("HEAD ") {
        stream.write_all(reply.body.as_bytes())?;
    }
    stream.flush()
}

fn reply(request: &str, address: SocketAddr, token: &str, live: &Live) -> Reply {
    let refuse = |status: &'static str| Reply {
        status,
        refresh: false,
        body: format!("<!doctype html><title>{status}</title>"),
    };
    let mut lines = request.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let named = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_string())
    };
    let host = lines.find_map(named).unwrap_or_default();
    if host != address.to_string() && host != format!("localhost:{}", address.port()) {
        return refuse("403 Forbidden");
    }
    if !same(path.trim_matches('/'), token) {
        return refuse("404 Not Found");
    }
    if !matches!(method, "GET" | "HEAD") {
        return refuse("405 Method Not Allowed");
    }
    match live.page() {
        Ok(page) => Reply { status: "200 OK", refresh: page.growing, body: page.html.clone() },
        Err(e) => {
            let why = escape::html(&escape::line(&e.to_string()));
            let body = format!("<!doctype html><title>No report</title><p>{why}</p>");
            Reply { status: "500 Internal Server Error", refresh: true, body }
        }
    }
}

/// Equality whose time does not tell where two texts differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served() {
        for refused in ["0.0.0.0:0", "192.0.2.1:80", "[::]:0", "example.org:80", "x"] {
            assert!(bind(refused).is_err(), "{refused}");
        }
        assert!(bind("0").is_ok() && bind("127.0.0.1:0").is_ok());
        let (a, b) = (token(), token());
        assert!(a.len() == 32 && a != b);
    }

    #[test]
    fn other_paths_hosts_and_methods_are_refused() {
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let live = Live::new(vec![PathBuf::from("nowhere")], Pictures::default());
        let status = |request: &str| reply(request, address, "secret", &live).status;
        assert_eq!(status("GET / HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n"), "404 Not Found");
        assert_eq!(status("GET /secret/../x HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n"), "404 Not Found");
        assert_eq!(status("GET /secret/ HTTP/1.1\r\nHost: evil.example:9\r\n\r\n"), "403 Forbidden");
        assert_eq!(status("GET /secret/ HTTP/1.1\r\n\r\n"), "403 Forbidden");
        assert_eq!(status("POST /secret/ HTTP/1.1\r\nHost: localhost:9\r\n\r\n"), "405 Method Not Allowed");
        assert_eq!(status("GET /secret/ HTTP/1.1\r\nhost: localhost:9\r\n\r\n"), "500 Internal Server Error");
    }
}
