//! The directories that a client works in, as far as it declares them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use rmcp::model::{InputRequest, InputRequests, InputRequiredResult, InputResponses, ProtocolVersion};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use serde::Deserialize;
use tokio::sync::watch;

use crate::node::printable;

/// How long a call waits at most for its client to say them.
const ASK: Duration = Duration::from_secs(10);

/// How long an answer still counts for calls to come.
const LATE: Duration = Duration::from_secs(600);

/// So many are named where none will do.
const NAMED: usize = 5;

/// The name under which they are asked for, and said, where the client calls again with them.
const KEY: &str = "roots";

/// What a call says of them.
#[derive(Debug)]
pub enum Said {
    /// These; empty where the client has none.
    Roots(Vec<PathBuf>),
    /// The client is to say them with the same call once more.
    Ask(InputRequiredResult),
}

/// Whether a call's client has some to say.
pub fn are_declared(context: &RequestContext<RoleServer>) -> bool {
    context.client_capabilities().is_some_and(|c| c.roots.is_some())
}

/// Whether they come with each call, as from revision 2026-07-28 on, where no request builds upon one before it and the server sends none
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>).
pub fn come_with_the_call(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version() >= Some(ProtocolVersion::V_2026_07_28)
}

/// What a client of the revisions before is known to have said.
#[derive(Clone, Default)]
pub struct Standing {
    known: watch::Sender<Known>,
}

#[derive(Default)]
struct Known {
    /// How often the client has said that they changed: answers to what was asked before count no more.
    changes: u64,
    /// How often it was asked.
    asked: u64,
    /// A call waits for the answer to the last question.
    is_awaited: bool,
    /// To which question the last answer came, and what it was.
    answer: Option<(u64, Result<Vec<PathBuf>, String>)>,
}

impl Known {
    /// What is to be said to a call that waits for the answer to question `asked`; `None` while there is nothing.
    fn to(&self, asked: u64) -> Option<&Result<Vec<PathBuf>, String>> {
        let (to, answer) = self.answer.as_ref()?;
        (answer.is_ok() || *to >= asked).then_some(answer)
    }
}

impl Standing {
    /// Forgets them: the client has others now.
    pub fn forget(&self) {
        self.known.send_modify(|known| {
            *known = Known {
                changes: known.changes + 1,
                asked: known.asked,
                ..Known::default()
            };
        });
    }

    /// Those that the client has said, which is asked for them where it has not, for at most `limit`. What it says later counts for the
    /// next call; where that finds nothing that will do, it asks again.
    ///
    /// # Errors
    /// Where there is no answer, or none names a directory here: a command that ran elsewhere would not run where its caller means.
    pub async fn get(
        &self,
        context: &RequestContext<RoleServer>,
        limit: Duration,
    ) -> Result<Vec<PathBuf>, String> {
        let limit = limit.min(ASK);
        let answered = async {
            loop {
                let (asked, changes) = self.question(context);
                let mut known = self.known.subscribe();
                let done = |k: &Known| k.changes != changes || k.to(asked).is_some();
                let Ok(known) = known.wait_for(done).await else {
                    return Err("the client is gone".to_owned());
                };
                if known.changes == changes
                    && let Some(answer) = known.to(asked)
                {
                    return answer.clone();
                }
            }
        };
        let why = tokio::select! {
            answer = answered => return answer,
            () = context.ct.cancelled() => "the call was cancelled".into(),
            () = tokio::time::sleep(limit) => format!(
                "the client declares roots and has not said them within {} s, so where this may run is not known. Nothing was \
                 run; the client is asked again with the next call",
                limit.as_secs()
            ),
        };
        self.known.send_modify(|known| known.is_awaited = false);
        Err(why)
    }

    /// The question whose answer a call waits for, asked now unless others wait for one already or it has been answered; and how often they
    /// had changed then.
    fn question(&self, context: &RequestContext<RoleServer>) -> (u64, u64) {
        let (mut question, mut is_new) = ((0, 0), false);
        self.known.send_modify(|known| {
            is_new = !known.is_awaited && !matches!(known.answer, Some((_, Ok(_))));
            if is_new {
                known.asked += 1;
                known.is_awaited = true;
            }
            question = (known.asked, known.changes);
        });
        if is_new {
            let (standing, peer) = (self.clone(), context.peer.clone());
            tokio::spawn(async move {
                let answer = ask(&peer).await;
                standing.take_in(question, answer);
            });
        }
        question
    }

    fn take_in(&self, (asked, changes): (u64, u64), answer: Result<Vec<PathBuf>, String>) {
        self.known.send_modify(|known| {
            if known.changes != changes {
                return;
            }
            known.is_awaited &= known.asked != asked;
            if answer.is_ok() || known.to(asked).is_none() {
                known.answer = Some((asked, answer));
            }
        });
    }
}

/// Asks the client for them.
#[expect(
    deprecated,
    reason = "clients of the revisions before 2026-07-28 know of roots"
)]
async fn ask(peer: &Peer<RoleServer>) -> Result<Vec<PathBuf>, String> {
    match tokio::time::timeout(LATE, peer.list_roots()).await {
        Ok(Ok(list)) => usable(list.roots.iter().map(|r| r.uri.as_str())),
        Ok(Err(e)) => Err(format!(
            "the client declares roots and does not say them: {}",
            printable(&e.to_string(), 200)
        )),
        Err(_) => Err("the client declares roots and has not said them".into()),
    }
}

/// Reads what came with a call.
///
/// # Errors
/// As for [`Standing::get`], and where it can't be read.
pub fn with_the_call(answers: Option<&InputResponses>) -> Result<Said, String> {
    let Some(answer) = answers.and_then(|a| a.get(KEY)) else {
        let asked = InputRequests::from([(KEY.to_owned(), InputRequest::ListRoots(Default::default()))]);
        return Ok(Said::Ask(InputRequiredResult::from_input_requests(asked)));
    };
    let list: List = serde_json::from_value(answer.clone()).map_err(|e| {
        let why = printable(&e.to_string(), 200);
        format!("the roots that came with this call can't be read: {why}")
    })?;
    usable(list.roots.iter().map(|r| &*r.uri)).map(Said::Roots)
}

/// The part that is wanted of an answer to `roots/list`.
#[derive(Deserialize)]
struct List {
    roots: Vec<Root>,
}

#[derive(Deserialize)]
struct Root {
    uri: String,
}

fn usable<'a>(uris: impl Iterator<Item = &'a str> + Clone) -> Result<Vec<PathBuf>, String> {
    let dirs = uris.clone().filter_map(|uri| path(uri)?.canonicalize().ok());
    let dirs: Vec<PathBuf> = dirs.filter(|d| d.is_dir()).collect();
    let named: Vec<String> = uris.map(|uri| format!("`{}`", printable(uri, 200))).collect();
    if dirs.is_empty() && !named.is_empty() {
        return Err(format!(
            "none of the roots that the client declares is a directory on this machine: {}{}",
            named[..named.len().min(NAMED)].join(", "),
            if named.len() > NAMED { " ..." } else { "" }
        ));
    }
    Ok(dirs)
}

/// The path that a `file` URI names on this machine (RFC 8089, also in its short form, `file:/path`).
fn path(uri: &str) -> Option<PathBuf> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (host, _) = rest.split_at(rest.find('/')?);
            (host.is_empty() || host.eq_ignore_ascii_case("localhost")).then(|| &rest[host.len()..])?
        }
        None => rest,
    };
    path.starts_with('/').then(|| unescaped(path))
}

/// Resolves `%20` and its like.
fn unescaped(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = text
            .get(i + 1..i + 3)
            .filter(|_| bytes[i] == b'%')
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match hex {
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn file_uris_name_paths() {
        for (uri, want) in [
            ("file:///a%20b", Some("/a b")),
            ("file:///%", Some("/%")),
            ("file:///%zz", Some("/%zz")),
            ("file:///%C3%A9", Some("/é")),
            ("file://localhost/a", Some("/a")),
            ("FILE://LocalHost/a", Some("/a")),
            ("file:/a", Some("/a")),
            ("file://elsewhere/a", None),
            ("file://localhost", None),
            ("file://a", None),
            ("file:a", None),
            ("https://localhost/a", None),
            ("/a", None),
            ("", None),
        ] {
            assert_eq!(path(uri), want.map(PathBuf::from), "{uri}");
        }
    }

    #[test]
    fn what_is_no_directory_here_is_not_worked_in() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        let (there, file) = (
            format!("file://localhost{}", dir.display()),
            format!("file://{}/file", dir.display()),
        );
        let of = |uris: &[&str]| {
            let roots: Vec<_> = uris.iter().map(|uri| json!({ "uri": uri })).collect();
            let answers = InputResponses::from([(KEY.to_owned(), json!({ "roots": roots }))]);
            match with_the_call(Some(&answers))? {
                Said::Roots(dirs) => Ok(dirs),
                Said::Ask(_) => Err("asked again".to_owned()),
            }
        };
        assert_eq!(of(&[]), Ok(Vec::new()));
        assert_eq!(of(&["file:///nosuch", &there]), Ok(vec![dir]));
        let why = of(&["file:///nosuch", &file, "https://a/b"]).unwrap_err();
        assert!(
            why.contains("`file:///nosuch`") && why.contains("/file`") && why.contains("`https://a/b`"),
            "{why}"
        );
        let many = vec!["file:///\u{1b}nosuch"; 1000];
        let why = of(&many).unwrap_err();
        assert!(why.len() < 2000 && !why.contains('\u{1b}'), "{why}");
    }
}
