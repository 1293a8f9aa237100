//! Messages over stdin and stdout, one a line; with the one revision that has them, also arrays of messages (batches).
//!
//! In the place of the SDK's own transport, which is silent about what it cannot read, takes any first message but a request for
//! the end of everything, and reads on however far its answers are behind.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, JsonRpcMessage, ProtocolVersion, ServerResult,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Semaphore, watch};

use super::open::{Batch, Open, Out};
use super::refusal::{self, error};
use crate::node::printable;

/// The longest message, bytes. 32 commands of the longest kind, escaped, stay below it.
const MAX_MESSAGE: usize = 16 << 20;

/// Requests without an answer, beyond which nothing more is read: a peer that asks and never reads must not fill the memory.
const MAX_OPEN: usize = 1024;

/// The most messages in one batch. Their answers wait for the last of them, so that one must not take all requests that may be open.
const MAX_BATCH: usize = 100;

/// The only revision whose peers send batches, and must be able to take them. The one before does not know of them
/// (<https://modelcontextprotocol.io/specification/2025-03-26/changelog>), and the one after took them out again.
const HAS_BATCHES: ProtocolVersion = ProtocolVersion::V_2025_03_26;

/// The longest text of an error, characters.
const MAX_ERROR: usize = 1000;

/// Answers to what can't be read that may wait for a peer that does not read.
const MAX_COMPLAINTS: usize = 64;

/// While nothing more is read, whether the peer has gone is asked so often.
const LOOK: Duration = Duration::from_millis(100);

/// The two streams.
pub struct Wire<R, W> {
    read: BufReader<R>,
    /// Whether the peer has closed its end, though there is more to read.
    hung_up: fn() -> bool,
    line: Vec<u8>,
    /// Messages of a batch that are yet to be passed on.
    queue: VecDeque<ClientJsonRpcMessage>,
    /// The rest of a message that was too long is being passed over.
    skipping: bool,
    write: Arc<tokio::sync::Mutex<W>>,
    open: Arc<Open>,
    /// Room for answers to what can't be read.
    complaints: Arc<Semaphore>,
    /// A request has said which kind of session this is.
    begun: bool,
    ended: watch::Sender<bool>,
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> Wire<R, W> {
    /// `ended` becomes true when either stream has ended.
    pub fn new(read: R, write: W, hung_up: fn() -> bool, ended: watch::Sender<bool>) -> Wire<R, W> {
        Wire {
            read: BufReader::with_capacity(64 << 10, read),
            hung_up,
            line: Vec::new(),
            queue: VecDeque::new(),
            skipping: false,
            write: Arc::new(tokio::sync::Mutex::new(write)),
            open: Arc::default(),
            complaints: Arc::new(Semaphore::new(MAX_COMPLAINTS)),
            begun: false,
            ended,
        }
    }

    /// Reads on to the next whole line; false at the end of the stream. What was read before a cancellation is kept.
    async fn next_line(&mut self) -> bool {
        loop {
            let Ok(piece) = self.read.fill_buf().await else {
                return false;
            };
            if piece.is_empty() {
                return false;
            }
            let newline = piece.iter().position(|b| *b == b'\n');
            let used = newline.map_or(piece.len(), |n| n + 1);
            if !self.skipping {
                self.line.extend_from_slice(&piece[..newline.unwrap_or(used)]);
            }
            self.read.consume(used);
            if self.line.len() > MAX_MESSAGE {
                self.line = Vec::new();
                self.skipping = true;
                self.complain(Value::Null, -32600, "the message is too long");
            }
            if newline.is_some() {
                if std::mem::take(&mut self.skipping) {
                    self.line.clear();
                    continue;
                }
                return true;
            }
        }
    }

    /// Answers what can't be taken as a message.
    fn complain(&self, id: Value, code: i32, message: &str) {
        self.say(error(id, code, message), 0);
    }

    /// Writes what the protocol's library knows nothing of: the answers to so many requests. Where it is to none, nothing else keeps a
    /// peer that reads nothing from asking for more of it: of that only so much waits.
    fn say(&self, answer: Value, requests: usize) {
        let complaint = match requests {
            0 => match self.complaints.clone().try_acquire_owned() {
                Ok(room) => Some(room),
                Err(_) => return,
            },
            _ => None,
        };
        let (write, open) = (self.write.clone(), self.open.clone());
        tokio::spawn(async move {
            let _ = write_line(&write, answer.to_string().into_bytes()).await;
            open.written(requests);
            drop(complaint);
        });
    }

    /// Writes what there is of a batch that is whole without another answer.
    fn finish(&self, batch: Batch) {
        if let Some((n, answers)) = self.open.out(batch) {
            self.say(answers, n);
        }
    }

    /// Takes in what the line that was read says.
    fn parse(&mut self) {
        let whole = std::mem::take(&mut self.line);
        let line = whole.trim_ascii();
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if line.first() == Some(&b'[') {
            self.parse_batch(line);
        } else if !line.is_empty() {
            match self.parse_one(line) {
                Ok(message) => self.queue.extend(message),
                Err(error) => self.say(error, 0),
            }
        }
        self.line = whole;
        self.line.clear();
    }

    /// Takes in an array of messages: each as if it had come alone, but for its answer.
    fn parse_batch(&mut self, text: &[u8]) {
        let Ok(members) = serde_json::from_slice::<Vec<&RawValue>>(text) else {
            return self.complain(Value::Null, -32700, "this line is no JSON");
        };
        if !self.open.has_batches.load(Ordering::Relaxed) {
            let why = format!(
                "arrays of messages belong to protocol revision {HAS_BATCHES}, which is not spoken here"
            );
            return self.complain(Value::Null, -32600, &why);
        }
        if members.is_empty() || members.len() > MAX_BATCH {
            let why = format!("a batch has 1 to {MAX_BATCH} messages, not {}", members.len());
            return self.complain(Value::Null, -32600, &why);
        }
        // Where it is found by a member that takes back one before it.
        self.open.begin_batch();
        for member in members {
            let mut taken = self.parse_one(member.get().as_bytes());
            if let Ok(Some(JsonRpcMessage::Request(r))) = &taken
                && matches!(r.request, ClientRequest::InitializeRequest(_))
            {
                self.open.close(&r.id);
                taken = Err(error(
                    json!(r.id),
                    -32600,
                    "initialize must not be part of a batch",
                ));
            }
            match &taken {
                Ok(Some(JsonRpcMessage::Request(r))) => self.open.put(Ok(&r.id)),
                Err(error) => self.open.put(Err(error)),
                Ok(_) => {}
            }
            self.queue.extend(taken.ok().flatten());
        }
        if let Some(batch) = self.open.end_batch() {
            self.finish(batch);
        }
    }

    /// What one message says; `None` where it has been dealt with.
    ///
    /// # Errors
    /// The answer to what is no message.
    fn parse_one(&mut self, text: &[u8]) -> Result<Option<ClientJsonRpcMessage>, Value> {
        if let Ok(message) = serde_json::from_slice::<ClientJsonRpcMessage>(text) {
            // Which of the two counts, one reader sees so and another otherwise.
            if let JsonRpcMessage::Request(r) = &message
                && let Some(name) = refusal::doubled(text)
            {
                let why = format!("`{}` is there more than once", printable(&name, 60));
                return Err(error(json!(r.id), -32600, &why));
            }
            return self.admit(message);
        }
        refusal::of(text).map_or(Ok(None), Err)
    }

    fn admit(&mut self, message: ClientJsonRpcMessage) -> Result<Option<ClientJsonRpcMessage>, Value> {
        match &message {
            JsonRpcMessage::Request(r) => {
                // The SDK takes what it can't read as a method that nobody knows.
                if let ClientRequest::CustomRequest(c) = &r.request
                    && let Some(why) = refusal::wrong_params(&c.method, c.params.clone())
                {
                    return Err(error(json!(r.id), -32602, &why));
                }
                self.begun |= !matches!(
                    r.request,
                    ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_)
                );
                if !self.open.add(&r.id) {
                    // The first of the two would lose its way to be cancelled.
                    return Err(error(json!(r.id), -32600, "a request of this id is still open"));
                }
            }
            JsonRpcMessage::Notification(n) => {
                if let ClientNotification::CancelledNotification(c) = &n.notification
                    && let Some(id) = &c.params.request_id
                    && let Some(rest) = self.open.cancelled(id)
                {
                    self.finish(rest);
                }
                if !self.begun {
                    return Ok(None);
                }
            }
            _ if !self.begun => return Ok(None),
            _ => {}
        }
        Ok(Some(message))
    }
}

/// Whether whoever writes to this process's stdin has closed it.
pub fn stdin_hung_up() -> bool {
    #[cfg(target_os = "linux")]
    let asked = PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let asked = PollFlags::empty();
    let stdin = std::io::stdin();
    let mut polled = [PollFd::new(&stdin, asked)];
    let now = Timespec::default();
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(asked | PollFlags::HUP)
}

async fn write_line<W: AsyncWrite + Unpin>(
    write: &tokio::sync::Mutex<W>,
    mut bytes: Vec<u8>,
) -> io::Result<()> {
    bytes.push(b'\n');
    let mut write = write.lock().await;
    write.write_all(&bytes).await?;
    write.flush().await
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> Transport<RoleServer>
    for Wire<R, W>
{
    type Error = io::Error;

    fn send(
        &mut self,
        mut item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let (write, open, ended) = (self.write.clone(), self.open.clone(), self.ended.clone());
        if let JsonRpcMessage::Error(e) = &mut item {
            // The SDK repeats names in it as they came.
            e.error.message = printable(&e.error.message, MAX_ERROR).into();
        }
        async move {
            let id = match &item {
                JsonRpcMessage::Response(r) => Some(r.id.clone()),
                JsonRpcMessage::Error(e) => e.id.clone(),
                _ => None,
            };
            if let JsonRpcMessage::Response(r) = &item
                && let ServerResult::InitializeResult(agreed) = &r.result
            {
                let has_batches = agreed.protocol_version == HAS_BATCHES;
                open.has_batches.store(has_batches, Ordering::Relaxed);
            }
            let answer = || serde_json::to_value(&item).unwrap_or_default();
            let (bytes, requests) = match id.as_ref().map(|id| open.answered(id, answer)) {
                None => (serde_json::to_vec(&item)?, 0),
                Some(Out::Alone) => (serde_json::to_vec(&item)?, 1),
                Some(Out::All(n, answers)) => (answers.to_string().into_bytes(), n),
                Some(Out::Later | Out::Nowhere) => return Ok(()),
            };
            let written = write_line(&write, bytes).await;
            open.written(requests);
            if written.is_err() {
                ended.send_replace(true);
            }
            written
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Some(message);
            }
            while self.open.count() >= MAX_OPEN {
                // The end of the stream stands behind what is not read.
                let fewer = tokio::time::timeout(LOOK, self.open.fewer.notified()).await;
                if fewer.is_err() && (self.hung_up)() {
                    self.ended.send_replace(true);
                    return None;
                }
            }
            if !self.next_line().await {
                self.ended.send_replace(true);
                return None;
            }
            self.parse();
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::RequestId;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What is passed on of `input`, as method names or kinds, and what is answered to the rest.
    fn talk(input: &[u8]) -> (Vec<String>, Vec<Value>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (write, mut answers) = tokio::io::duplex(1 << 20);
            let (ended, _) = watch::channel(false);
            let mut wire = Wire::new(input, write, || false, ended.clone());
            let mut passed = Vec::new();
            while let Some(message) = wire.receive().await {
                let value = serde_json::to_value(&message).unwrap();
                passed.push(value["method"].as_str().unwrap_or("answer").to_owned());
            }
            assert!(*ended.borrow());
            drop(wire);
            let mut text = String::new();
            // The writers hold the other end until they are done.
            answers.read_to_string(&mut text).await.unwrap();
            let lines = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            (passed, lines)
        })
    }

    #[test]
    fn what_is_no_message_is_answered_and_passed_over() {
        let (passed, answers) = talk(
            b"junk\n\n{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":3}\n[]\n{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":5,\"x\":\
              \n\xff\xfe\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n",
        );
        assert_eq!(passed, ["ping"]);
        let codes: Vec<(Value, i64)> = answers
            .iter()
            .map(|a| (a["id"].clone(), a["error"]["code"].as_i64().unwrap()))
            .collect();
        assert_eq!(
            codes,
            [
                (Value::Null, -32700),
                (json!(7), -32600),
                (Value::Null, -32600),
                (Value::Null, -32700),
                (Value::Null, -32700),
            ]
        );
    }

    #[test]
    fn params_that_are_not_as_they_must_be_are_said_to_be_so() {
        for (method, params, why) in [
            ("tools/call", json!({}), "missing field `name`"),
            (
                "tools/call",
                json!({"name": 5}),
                "invalid type: integer `5`, expected a string",
            ),
            (
                "tools/call",
                json!({"name": "cluster_bash", "arguments": [1]}),
                "expected a map",
            ),
            (
                "tools/call",
                json!({"name": "cluster_bash", "arguments": "x"}),
                "expected a map",
            ),
            ("tools/call", json!([]), ""),
            ("tools/call", Value::Null, ""),
            ("initialize", json!({"protocolVersion": 5}), ""),
            ("ping", json!(7), "must be an object"),
        ] {
            let mut request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
            if !params.is_null() {
                request["params"] = params.clone();
            }
            let (passed, answers) = talk(format!("{request}\n").as_bytes());
            assert_eq!((passed.len(), answers.len()), (0, 1), "{request}: {passed:?}");
            assert_eq!(answers[0]["error"]["code"], -32602, "{request}: {answers:?}");
            let told = answers[0]["error"]["message"].as_str().unwrap();
            assert!(told.contains(why) && told.contains(method), "{request}: {told}");
        }
        // One that is not ours is for the SDK to refuse.
        let (passed, _) = talk(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no/such\",\"params\":{}}\n");
        assert_eq!(passed, ["no/such"]);
    }

    #[test]
    fn what_can_not_be_read_is_answered_with_its_id() {
        let call = |id: &str, argument: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"cluster_bash","arguments":{argument}}}}}"#
            )
        };
        for (message, id, code, why) in [
            (
                call("4", r#"{"command":"\ud800"}"#),
                json!(4),
                -32700,
                "surrogate",
            ),
            (
                call("\"a\"", r#"{"timeout":1e400}"#),
                json!("a"),
                -32700,
                "number out of range",
            ),
            (call(r#""\ud800""#, "{}"), Value::Null, -32700, "surrogate"),
            (ping("18446744073709551615"), json!(u64::MAX), -32600, "64 bits"),
            (ping("1.5"), json!(1.5), -32600, "64 bits"),
            (ping("184467440737095516150"), Value::Null, -32600, "64 bits"),
            (ping("null"), Value::Null, -32600, "64 bits"),
            (ping("[1]"), Value::Null, -32600, "64 bits"),
            (
                ping(r#"1,"id":2"#),
                Value::Null,
                -32600,
                "`id` is there more than once",
            ),
            (
                ping(r#"3,"method":"x""#),
                json!(3),
                -32600,
                "`method` is there more than once",
            ),
            (
                ping(r#"3,"i\u0064":3"#),
                Value::Null,
                -32600,
                "`id` is there more than once",
            ),
            (
                r#"{"jsonrpc":"2.0","id":6,"method":"server/discover"}"#.to_owned(),
                json!(6),
                -32602,
                "the params of server/discover are missing",
            ),
        ] {
            let (passed, answers) = talk(format!("{message}\n").as_bytes());
            assert_eq!((passed.len(), answers.len()), (0, 1), "{message}: {passed:?}");
            assert_eq!(answers[0]["id"], id, "{message}: {answers:?}");
            assert_eq!(answers[0]["error"]["code"], code, "{message}: {answers:?}");
            let told = answers[0]["error"]["message"].as_str().unwrap();
            assert!(told.contains(why), "{message}: {told}");
        }
        // Neither is answered.
        for message in [
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"a":"\ud800"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":1e400}}"#,
        ] {
            assert_eq!(
                talk(format!("{message}\n").as_bytes()),
                (vec![], vec![]),
                "{message}"
            );
        }
    }

    #[test]
    fn another_jsonrpc_is_told_as_such() {
        for (message, id) in [
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, json!(1)),
            (
                r#"{"jsonrpc":"1.0","id":"a","method":"tools/call","params":{"name":"cluster_status"}}"#,
                json!("a"),
            ),
            (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, json!(1)),
            (r#"{"id":3,"method":"ping"}"#, json!(3)),
        ] {
            let (passed, answers) = talk(format!("{message}\n").as_bytes());
            assert_eq!((passed.len(), answers.len()), (0, 1), "{message}: {passed:?}");
            assert_eq!(answers[0]["id"], id, "{message}: {answers:?}");
            assert_eq!(answers[0]["error"]["code"], -32600, "{message}: {answers:?}");
            let told = answers[0]["error"]["message"].as_str().unwrap();
            assert_eq!(told, "`jsonrpc` must be \"2.0\"", "{message}");
        }
    }

    #[test]
    fn notifications_before_the_beginning_are_not_its_end() {
        let (passed, answers) = talk(
            b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n\
              {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\
              {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n",
        );
        assert_eq!(passed, ["ping"]);
        assert_eq!(answers.len(), 1, "the same id twice: {answers:?}");
    }

    fn ping(id: impl std::fmt::Display) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)
    }

    fn cancel(id: i64) -> String {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
    }

    fn pong(id: &RequestId) -> TxJsonRpcMessage<RoleServer> {
        let value = json!({"jsonrpc": "2.0", "id": id, "result": {}});
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn a_batch_that_ends_another_stays_the_one_that_is_read() {
        let input = format!(
            "[{}]\n[{}]\n[{},{},{}]\n",
            ping(1),
            ping(2),
            ping(3),
            cancel(1),
            ping(4)
        );
        let (write, mut answers) = tokio::io::duplex(1 << 20);
        let (ended, _) = watch::channel(false);
        let mut wire = Wire::new(input.as_bytes(), write, || false, ended);
        wire.open.has_batches.store(true, Ordering::Relaxed);
        let mut ids = Vec::new();
        while let Some(message) = wire.receive().await {
            if let JsonRpcMessage::Request(r) = message {
                ids.push(r.id);
            }
        }
        assert_eq!(ids, [1, 2, 3, 4].map(RequestId::Number));
        // The first one was cancelled, and is answered all the same.
        for id in &ids {
            wire.send(pong(id)).await.unwrap();
        }
        assert_eq!((wire.open.count(), wire.open.batches().len()), (0, 0));
        drop(wire);
        let mut text = String::new();
        answers.read_to_string(&mut text).await.unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let answer = |id: i64| json!({"jsonrpc": "2.0", "id": id, "result": {}});
        assert_eq!(lines, [json!([answer(2)]), json!([answer(3), answer(4)])]);
    }

    #[tokio::test]
    async fn who_never_reads_and_cancels_what_it_asks_is_not_read_for_ever() {
        for is_batch in [false, true] {
            let line = |i: i64| match is_batch {
                false => format!("{}\n{}\n", ping(i), cancel(i)),
                true => format!("[{}]\n[{}]\n", ping(i), cancel(i)),
            };
            let input: String = (0..3 * MAX_OPEN as i64).map(line).collect();
            let (write, _answers) = tokio::io::duplex(16);
            let (ended, _) = watch::channel(false);
            let mut wire = Wire::new(input.as_bytes(), write, || false, ended);
            wire.open.has_batches.store(true, Ordering::Relaxed);
            wire.begun = true;
            let mut asked = 0;
            while let Ok(Some(message)) = tokio::time::timeout(2 * LOOK, wire.receive()).await {
                if let JsonRpcMessage::Request(r) = message {
                    asked += 1;
                    tokio::spawn(wire.send(pong(&r.id)));
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(asked, MAX_OPEN);
        }
    }

    #[test]
    fn a_message_without_end_is_cut_off() {
        let mut input = vec![b'x'; MAX_MESSAGE + 100];
        input.extend_from_slice(b"\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n");
        let (passed, answers) = talk(&input);
        assert_eq!((passed.len(), answers.len()), (1, 1));
        assert_eq!(answers[0]["error"]["message"], "the message is too long");
    }
}
