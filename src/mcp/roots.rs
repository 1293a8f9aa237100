//! The directories that a client works in, as far as it declares them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::service::RequestContext;

use crate::node::printable;

/// How long a client may take to say them.
const ASK: Duration = Duration::from_secs(2);

/// So many are named where none will do.
const NAMED: usize = 5;

/// Asks for them; `None` where the client declares none, or does not say which.
///
/// # Errors
/// Where it declares some and none is a directory here: a command that ran elsewhere would not run where its caller means.
#[expect(
    deprecated,
    reason = "clients of the revisions before 2026-07-28 know of roots"
)]
pub async fn of(context: &RequestContext<RoleServer>) -> Result<Option<Vec<PathBuf>>, String> {
    let declares = |c: &rmcp::service::Peer<RoleServer>| c.peer_info()?.capabilities.roots.clone();
    if declares(&context.peer).is_none() {
        return Ok(None);
    }
    match tokio::time::timeout(ASK, context.peer.list_roots()).await {
        Ok(Ok(list)) => usable(list.roots.iter().map(|r| r.uri.as_str())),
        _ => Ok(None),
    }
}

fn usable<'a>(uris: impl Iterator<Item = &'a str> + Clone) -> Result<Option<Vec<PathBuf>>, String> {
    let dirs = uris.clone().filter_map(|uri| path(uri)?.canonicalize().ok());
    let dirs: Vec<PathBuf> = dirs.filter(|d| d.is_dir()).collect();
    let named: Vec<String> = uris.map(|uri| format!("`{}`", printable(uri, 200))).collect();
    match (dirs.is_empty(), named.len()) {
        (false, _) => Ok(Some(dirs)),
        (true, 0) => Ok(None),
        (true, n) => Err(format!(
            "none of the roots that the client declares is a directory on this machine: {}{}",
            named[..n.min(NAMED)].join(", "),
            if n > NAMED { " ..." } else { "" }
        )),
    }
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
        let of = |uris: &[&str]| usable(uris.iter().copied());
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["file:///nosuch", &there]), Ok(Some(vec![dir])));
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
