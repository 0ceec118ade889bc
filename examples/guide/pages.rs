//! Many pages fetched at the same time, by workers, from a server that this program starts; one page is missing, one never comes.
//!
//! ```text
//! cargo run --release --example guide_pages
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use swath::prelude::*;

const PAGES: usize = 30;

/// Answers every connection in a thread of its own, each after a moment, as far-away servers do.
fn serve(listener: TcpListener) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || reply(stream));
    }
}

fn reply(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request)?;
    let page = request.split(' ').nth(1).and_then(|path| path.strip_prefix("/page/")?.parse::<usize>().ok());
    std::thread::sleep(match page {
        Some(13) => Duration::from_secs(600),
        _ => Duration::from_millis(20),
    });
    match page.filter(|page| *page < PAGES - 1) {
        Some(page) => write!(stream, "HTTP/1.0 200 OK\r\n\r\n{}", "text ".repeat(page)),
        None => write!(stream, "HTTP/1.0 404 Not Found\r\n\r\n"),
    }
}

/// What a worker does: one page, its length.
fn fetch((server, page): (SocketAddr, usize)) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET /page/{page} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    match head.strip_prefix("HTTP/1.0 ") {
        Some("200 OK") => Ok(body.len()),
        other => Err(std::io::Error::other(other.unwrap_or("no answer").to_owned())),
    }
}

/// The parent only waits, so many tasks may be under way as there are workers; each has a limit.
async fn fetch_all(pool: &Pool, server: SocketAddr) -> Result<()> {
    let fetch = |page| pool.try_submit_with(fetch, (server, page)).timeout(Duration::from_secs(2)).submit();
    let tasks = (0..PAGES).map(fetch).collect::<Result<Vec<_>>>()?;
    let (mut pages, mut bytes) = (0, 0);
    for (page, task) in tasks.into_iter().enumerate() {
        match task.await {
            Ok(length) => (pages, bytes) = (pages + 1, bytes + length),
            Err(error) => println!("page {page}: {}", error.causes()[0].what),
        }
    }
    println!("{pages} pages, {bytes} bytes");
    Ok(())
}

/// Wakes the thread that waits for the future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn main() -> Result<()> {
    swath::init();
    let failed = |error: std::io::Error| Error::other(error.to_string());
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let server = listener.local_addr().map_err(failed)?;
    std::thread::spawn(|| serve(listener));

    // More workers than processors: they mostly wait.
    let pool = Pool::builder().workers(10).build()?;
    block_on(fetch_all(&pool, server))
}
