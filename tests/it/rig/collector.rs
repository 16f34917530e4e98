//! A server that takes events by HTTP as the collectors of the field do, and misbehaves on request.

use super::oracle;
use super::port::{Port, free_port};
use std::collections::{HashSet, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A request, its body decoded.
#[derive(Clone, Debug, Default)]
pub struct Post {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// As it came.
    pub wire_bytes: usize,
}

impl Post {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<String>) -> Reply {
        Reply { status, headers: Vec::new(), body: body.into() }
    }
}

/// An event as it came.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: String,
    pub text: String,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item {
    Created,
    Duplicate,
    Poison,
    Busy,
}

/// How a kind of server is spoken to.
pub trait Protocol: Send + Sync + 'static {
    /// The events of a request, or the reply to one that brings none.
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply>;
    /// The reply to a request that was taken.
    fn reply(&self, items: &[Item]) -> Reply;
    /// Whether it reports an outcome for each event. Otherwise a poison event causes the whole request to be refused.
    fn reports_each_event(&self) -> bool {
        false
    }
    /// Whether it detects an event that is sent again.
    fn detects_duplicates(&self) -> bool {
        false
    }
    /// The reply to a request with poison events; the first is at this index.
    fn refusal(&self, _at: usize) -> Reply {
        Reply::new(400, "{\"error\":\"no such field\"}")
    }
    /// Whether it stores the events before the one for which it refuses a request.
    fn keeps_events_before_refused(&self) -> bool {
        false
    }
    /// The reply to a request that contains no events, with or without authorization.
    fn reply_to_other(&self, _post: &Post) -> Option<Reply> {
        None
    }
    /// The reply to a request with another `Authorization` than the required one.
    fn unauthorized_reply(&self) -> Reply {
        Reply::new(401, "{\"error\":\"who are you?\"}")
    }
}

/// What is to be done with the next request that brings events.
#[derive(Clone, Debug)]
pub enum Do {
    Take,
    /// Nothing of it is stored.
    Refuse(Reply),
    TakeAndHangUp,
    HangUp,
    /// Nothing of it is stored, and the connection stays open without an answer.
    Stall,
    /// Each other event is not taken yet; of servers that name events.
    BusyInParts,
}

type Poison = Arc<dyn Fn(&Sent) -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    stored: Vec<Sent>,
    ids: HashSet<String>,
    posts: Vec<Post>,
    script: VecDeque<Do>,
    poison: Option<Poison>,
    refusal: Option<Reply>,
    bytes_max: Option<usize>,
    authorization: Option<String>,
    connections: Vec<TcpStream>,
    stopped: bool,
}

/// Listens on 127.0.0.1 until it is dropped.
pub struct Collector {
    port: Port,
    state: Arc<Mutex<State>>,
    protocol: Arc<dyn Protocol>,
    accept: Option<JoinHandle<()>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector {
    pub fn start(protocol: impl Protocol) -> Collector {
        let mut collector = Collector {
            port: free_port(),
            state: Arc::default(),
            protocol: Arc::new(protocol),
            accept: None,
        };
        collector.start_again();
        collector
    }

    /// Listens, again where it did before.
    pub fn start_again(&mut self) {
        let listener = self.port.listen();
        let (state, protocol) = (self.state.clone(), self.protocol.clone());
        lock(&state).stopped = false;
        self.accept = Some(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&state).stopped {
                    return;
                }
                lock(&state).connections.push(stream.try_clone().unwrap());
                let (state, protocol) = (state.clone(), protocol.clone());
                std::thread::spawn(move || {
                    // A caller that goes away is no concern of the server.
                    let _ = serve_connection(&stream, &state, &*protocol);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        }));
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Nobody listens any more, and all connections end; what is stored stays.
    pub fn stop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.stopped = true;
            for stream in state.connections.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        // `accept` has to be woken to see that.
        let _ = TcpStream::connect(self.port.address());
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
    }

    /// The next requests that bring events are answered so.
    pub fn script(&self, script: impl IntoIterator<Item = Do>) {
        lock(&self.state).script.extend(script);
    }

    /// What was scripted is not done any more.
    pub fn clear_script(&self) {
        lock(&self.state).script.clear();
    }

    /// How many of the next requests are not answered as usual.
    pub fn scripted(&self) -> usize {
        lock(&self.state).script.len()
    }

    /// The reply to a request with a refused event, in place of the protocol's own.
    pub fn refuse_with(&self, reply: Option<Reply>) {
        lock(&self.state).refusal = reply;
    }

    /// These events are refused.
    pub fn refuse(&self, poison: impl Fn(&Sent) -> bool + Send + Sync + 'static) {
        lock(&self.state).poison = Some(Arc::new(poison));
    }

    /// Larger bodies are refused with 413.
    pub fn take_at_most(&self, bytes: Option<usize>) {
        lock(&self.state).bytes_max = bytes;
    }

    /// Requests with another `Authorization` are refused with 401.
    pub fn require_authorization(&self, authorization: Option<&str>) {
        lock(&self.state).authorization = authorization.map(str::to_owned);
    }

    /// Requests so far, those that were refused included.
    pub fn posts(&self) -> Vec<Post> {
        lock(&self.state).posts.clone()
    }

    pub fn post_count(&self) -> usize {
        lock(&self.state).posts.len()
    }

    pub fn stored(&self) -> Vec<Sent> {
        lock(&self.state).stored.clone()
    }

    pub fn stored_count(&self) -> usize {
        lock(&self.state).stored.len()
    }

    /// Removes what is stored and the requests, so that a long test needs no memory for them. The ids stay.
    pub fn take_stored(&self) -> Vec<Sent> {
        let mut state = lock(&self.state);
        state.posts.clear();
        std::mem::take(&mut state.stored)
    }

    /// How many different events are stored.
    pub fn distinct(&self) -> usize {
        lock(&self.state).ids.len()
    }

    /// What is stored, for the oracle.
    pub fn events(&self) -> Vec<oracle::Event> {
        let lines: Vec<String> = self.stored().into_iter().map(|sent| sent.text + "\n").collect();
        oracle::events(lines.concat().as_bytes())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve_connection(stream: &TcpStream, state: &Mutex<State>, protocol: &dyn Protocol) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(post) = read_request(&mut reader)? {
        match answer(post, state, protocol) {
            Answer::Reply(reply) => write(stream, &reply)?,
            Answer::HangUp => return Ok(()),
            // Until the caller goes away.
            Answer::Stall => return io::copy(&mut reader, &mut io::sink()).map(drop),
        }
    }
    Ok(())
}

/// How a request ends.
enum Answer {
    Reply(Reply),
    HangUp,
    Stall,
}

fn answer(post: Post, state: &Mutex<State>, protocol: &dyn Protocol) -> Answer {
    let mut state = lock(state);
    state.posts.push(post.clone());
    if let Some(reply) = protocol.reply_to_other(&post) {
        return Answer::Reply(reply);
    }
    let demanded = state.authorization.as_deref();
    if demanded.is_some_and(|demanded| post.header("authorization") != Some(demanded)) {
        return Answer::Reply(protocol.unauthorized_reply());
    }
    let sent = match protocol.events(&post) {
        Ok(sent) => sent,
        Err(reply) => return Answer::Reply(reply),
    };
    if state.bytes_max.is_some_and(|max| post.body.len() > max) {
        return Answer::Reply(Reply::new(413, ""));
    }
    let todo = state.script.pop_front().unwrap_or(Do::Take);
    match &todo {
        Do::Refuse(reply) => return Answer::Reply(reply.clone()),
        Do::HangUp => return Answer::HangUp,
        Do::Stall => return Answer::Stall,
        Do::Take | Do::TakeAndHangUp | Do::BusyInParts => {}
    }
    let poison = state.poison.clone();
    let is_poison = |sent: &Sent| poison.as_ref().is_some_and(|poison| poison(sent));
    if !protocol.reports_each_event()
        && let Some(at) = sent.iter().position(is_poison)
    {
        if protocol.keeps_events_before_refused() {
            for sent in sent.into_iter().take(at) {
                state.ids.insert(sent.id.clone());
                state.stored.push(sent);
            }
        }
        return Answer::Reply(state.refusal.clone().unwrap_or_else(|| protocol.refusal(at)));
    }
    let mut items = Vec::new();
    for (at, sent) in sent.into_iter().enumerate() {
        items.push(if is_poison(&sent) {
            Item::Poison
        } else if matches!(todo, Do::BusyInParts) && at % 2 == 1 {
            Item::Busy
        } else if !state.ids.insert(sent.id.clone()) && protocol.detects_duplicates() {
            Item::Duplicate
        } else {
            state.stored.push(sent);
            Item::Created
        });
    }
    match todo {
        Do::TakeAndHangUp => Answer::HangUp,
        _ => Answer::Reply(protocol.reply(&items)),
    }
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Post>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut post = Post {
        method: first.next().unwrap_or_default().into(),
        path: first.next().unwrap_or_default().into(),
        ..Post::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        post.headers.push((name.to_ascii_lowercase(), value.trim().into()));
    }
    let length = post.header("content-length").and_then(|v| v.parse().ok());
    let mut body = Vec::new();
    reader.take(length.unwrap_or(0)).read_to_end(&mut body)?;
    post.wire_bytes = body.len();
    post.body = match post.header("content-encoding") {
        Some("gzip") => {
            let mut whole = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut whole)?;
            whole
        }
        Some("zstd") => zstd::decode_all(&body[..])?,
        _ => body,
    };
    Ok(Some(post))
}

fn write(mut stream: &TcpStream, reply: &Reply) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Simulated\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    // Where there is none no body may be announced.
    if reply.status != 204 {
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", reply.body.len());
    }
    stream.write_all(format!("{head}\r\n{}", reply.body).as_bytes())
}

/// A server of no particular kind: lines or an array of events in, an empty object out.
pub struct Plain;

impl Protocol for Plain {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        let text = String::from_utf8(post.body.clone()).map_err(|e| Reply::new(400, e.to_string()))?;
        let texts: Vec<String> = match text.starts_with('[') {
            false => text.lines().map(str::to_owned).collect(),
            true => {
                let values: Vec<Box<serde_json::value::RawValue>> =
                    serde_json::from_str(&text).map_err(|e| Reply::new(400, e.to_string()))?;
                values.iter().map(|value| value.get().to_owned()).collect()
            }
        };
        Ok(texts.into_iter().map(|text| Sent { id: id_of(&text), text }).collect())
    }

    fn reply(&self, _items: &[Item]) -> Reply {
        Reply::new(200, "{}")
    }
}

/// Of an event in ECS.
pub fn id_of(text: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(text).expect("an event is JSON");
    json.pointer("/event/id").and_then(|id| id.as_str()).expect("an event has an id").to_owned()
}
