//! The way to a node: an ssh connection shared by all cx processes, the agent on its other end, and the stream of
//! packets between them.

pub mod agents;
mod embedded;
pub mod hold;
pub mod link;
mod packets;
pub mod ssh;

pub use link::Link;

/// Why a node can't be talked to. Each text is one clause; [`LinkError::hint`] is the next step.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LinkError {
    /// The login was refused.
    #[error("login refused: {0}")]
    Auth(String),
    /// The host key is unknown or another one than before.
    #[error("{0}")]
    HostKey(String),
    /// Nobody answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// The alias means nothing to ssh.
    #[error("{0}")]
    Unknown(String),
    /// The agent can't be had there.
    #[error("{0}")]
    Agent(String),
    /// Something on this machine: no ssh, no room for sockets.
    #[error("{0}")]
    Here(String),
}

impl LinkError {
    /// What to do about it.
    pub fn hint(&self, node: &str) -> String {
        match self {
            LinkError::Auth(_) => format!(
                "make `ssh -o BatchMode=yes {node} true` work first: add your key there with `ssh-copy-id {node}`, \
                 or load it with `ssh-add`"
            ),
            LinkError::HostKey(_) => format!(
                "log in once with `ssh {node}` and check the key's fingerprint; if the key has really changed, \
                 `ssh-keygen -R` removes the old one"
            ),
            LinkError::Unreachable(_) => {
                format!("check that the machine is on and that `ssh {node} true` answers")
            }
            LinkError::Unknown(_) => {
                format!("give {node} a Host entry in ~/.ssh/config, or correct the name")
            }
            LinkError::Agent(_) => format!(
                "`cx nodes add {node}` installs the agent; for a platform other than this one it has it built there, which needs \
                 cargo and its registry on {node}"
            ),
            LinkError::Here(_) => "mend that here, then try again".to_owned(),
        }
    }
}

/// Whether a character changes the direction of a text or marks its bytes, so that it could show another text than it is.
pub fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
}

/// Text of a node or of ssh, made fit for one line on a terminal: printable, one line, at most `max` characters.
pub fn printable(text: &str, max: usize) -> String {
    let line: String = text
        .trim()
        .chars()
        .filter(|c| !turns(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
