//! Which of the names that matter mean a function or alias where the client runs a text: by the client's snapshot of the user's shell, or
//! the files that it will be made from; by what the client puts in front of each command; and by what the text itself reads. The last two may
//! set PATH as well.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{search_path, snapshot};

/// A longer file than this, in bytes, is not read: it may define anything. `nvm.sh` has 150 KB.
const MAX_FILE: u64 = 256 << 10;

/// So many files of a session are read at most.
const MAX_SESSION_FILES: usize = 16;

/// So many files are read at most, those that others read included.
const MAX_FILES: usize = 48;

/// Where to look.
pub struct Places<'a> {
    /// The user's home directory.
    pub home: Option<&'a Path>,
    /// The client's own directory.
    pub client_dir: Option<&'a Path>,
    /// The session's id.
    pub session: &'a str,
    /// The value of `CLAUDE_ENV_FILE`.
    pub env_file: Option<PathBuf>,
    /// The directories in which the text may read a file by a relative path.
    pub dirs: Vec<PathBuf>,
    /// The shell: `bash` or `zsh`.
    pub shell: &'a str,
}

/// What the files of a session and of a text do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Defined {
    /// Names that mean a function or alias.
    pub names: Vec<String>,
    /// PATH may be another one than the client's.
    pub path: bool,
}

impl Defined {
    /// Whether `name` means a function or alias.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }
}

impl Places<'_> {
    /// What is defined: all that a snapshot has, and those of the names `wanted` that another file defines. `sources` are files that
    /// the text reads, `~/` standing for the home directory. PATH is the client's where a snapshot is made, whatever rc files do.
    pub fn look(&self, sources: &[String], wanted: &[&str]) -> Defined {
        let snapshot = self.client_dir.and_then(|d| snapshot::names(d, self.shell));
        let mut files: Vec<(PathBuf, bool)> = match snapshot {
            Some(_) => Vec::new(),
            None => self.rc_files().into_iter().map(|f| (f, false)).collect(),
        };
        let mut found = Defined {
            names: snapshot.unwrap_or_default(),
            path: false,
        };
        let session = self.env_file.iter().cloned().chain(self.session_files());
        files.extend(session.map(|f| (f, true)));
        for source in sources {
            let places = self.resolved(source);
            // It may lie on PATH, or be made by the text.
            found.path |= !places.iter().any(|f| f.exists());
            files.extend(places.into_iter().map(|f| (f, true)));
        }
        let mut at = 0;
        while let Some((file, sets)) = files.get(at).filter(|_| at < MAX_FILES).cloned() {
            at += 1;
            let text = read(&file);
            let long = is_long(&file);
            let defined = |name: &&&str| text.as_deref().is_some_and(|t| defines(t, name)) || long;
            found
                .names
                .extend(wanted.iter().filter(defined).map(|n| (*n).to_owned()));
            found.path |= sets
                && match &text {
                    Some(text) => long || search_path::is_replaced(text),
                    None => file.try_exists().unwrap_or(true),
                };
            for named in text.iter().flat_map(|t| reads(t)).flat_map(|f| self.resolved(&f)) {
                let named = (named, sets);
                if !files.contains(&named) {
                    files.push(named);
                }
            }
        }
        found.path |= files.iter().skip(at).any(|(_, sets)| *sets);
        found
    }

    /// Where a file may lie that shell text names.
    fn resolved(&self, named: &str) -> Vec<PathBuf> {
        match named.strip_prefix("~/") {
            Some(below) => self.home.iter().map(|h| h.join(below)).collect(),
            None => self.dirs.iter().map(|d| d.join(named)).collect(),
        }
    }

    /// What the client's snapshot will be made from. `.bash_aliases` is what Debian's `.bashrc` reads.
    fn rc_files(&self) -> Vec<PathBuf> {
        let names: &[&str] = match self.shell {
            "zsh" => &[".zshenv", ".zprofile", ".zshrc"],
            _ => &[".bash_profile", ".profile", ".bashrc", ".bash_aliases"],
        };
        let home = self.home.iter();
        home.flat_map(|h| names.iter().map(|n| h.join(n))).collect()
    }

    /// What hooks of this session wrote for the client to put in front of each command.
    fn session_files(&self) -> Vec<PathBuf> {
        let Some(dir) = self.client_dir.filter(|_| !self.session.is_empty()) else {
            return Vec::new();
        };
        let dir = dir.join("session-env").join(self.session.replace('/', "_"));
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        files.map(|f| f.path()).take(MAX_SESSION_FILES).collect()
    }
}

fn is_long(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() > MAX_FILE)
}

/// A file's text. None of what is no file, lest it be waited for.
fn read(file: &Path) -> Option<String> {
    fs::metadata(file).ok().filter(|m| m.is_file())?;
    let mut bytes = Vec::new();
    File::open(file)
        .ok()?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files that shell text seems to read, as far as they are named in full; `~/` stands for the home directory.
fn reads(text: &str) -> impl Iterator<Item = String> {
    let commands = text.split(['\n', ';', '&', '|']);
    commands.filter_map(|command| {
        let mut words = command.split([' ', '\t']).filter(|w| !w.is_empty());
        let keywords = ["then", "else", "do", "{", "builtin", "command"];
        let first = words.find(|w| !keywords.contains(w))?;
        if !matches!(first, "source" | "." | "\\source" | "\\.") {
            return None;
        }
        let file = words.next()?.trim_matches(['"', '\'']);
        let below_home = ["$HOME/", "${HOME}/"].iter().find_map(|h| file.strip_prefix(h));
        let file = below_home.map_or_else(|| file.to_owned(), |rest| format!("~/{rest}"));
        (!file.contains(['$', '`', '(', '*'])).then_some(file)
    })
}

/// Whether shell text seems to make `name` a function or alias. It is not parsed: that it may not get there, or that it stands in
/// quotes, does no harm.
fn defines(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        let (before, after) = (line.trim_end_matches(['\'', '"']), &text[at + name.len()..]);
        if line.ends_with(|c: char| c.is_alphanumeric() || "_-./+".contains(c))
            || line.trim_start().starts_with('#')
        {
            return false;
        }
        // The functions of cx's own, which a session may have as well, lead to it too.
        if after.lines().next().is_some_and(|rest| rest.contains("__cx_")) {
            return false;
        }
        let value = after.trim_start_matches(['\'', '"']).starts_with('=');
        let keywords = |words: &[&str]| {
            before
                .split(|c: char| !c.is_alphanumeric())
                .any(|w| words.contains(&w))
        };
        let parentheses = after.trim_start_matches([' ', '\t']).strip_prefix('(');
        let keyword = before.trim_end_matches([' ', '\t']).strip_suffix("function");
        parentheses.is_some_and(|rest| rest.trim_start().starts_with(')'))
            || (value && keywords(&["alias", "hash"]))
            || (keyword.is_some_and(|k| !k.ends_with(char::is_alphanumeric))
                && after.starts_with([' ', '\t', '\n', '{', '(']))
            || ["aliases[", "functions[", "commands[", "ALIASES[", "CMDS["]
                .iter()
                .any(|t| before.ends_with(t))
            || (keywords(&["autoload"]) && (after.is_empty() || after.starts_with([' ', '\n', ';'])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_in_the_text() {
        for (text, is) in [
            ("make() { x; }", true),
            ("if true; then\n\tmake ()\n{", true),
            ("function make {", true),
            ("function make() {", true),
            ("alias make='make -j8'", true),
            ("alias a=b 'make'=x", true),
            ("alias -- make=x", true),
            ("test -f x && alias make=x", true),
            ("hash make=/x", true),
            ("functions[make]=x", true),
            ("BASH_ALIASES[make]=x", true),
            ("autoload -Uz make", true),
            ("", false),
            ("make all", false),
            ("# make() { x; }", false),
            ("cmake() { x; }", false),
            ("make_it() { x; }", false),
            ("make-it() { x; }", false),
            ("alias cmake=x", false),
            ("export make=x", false),
            ("MAKE=make", false),
            ("x=$(make)", false),
            ("disfunction make", false),
            ("function make { \"${__cx_tool-command}\" make \"$@\"; }", false),
        ] {
            assert_eq!(defines(text, "make"), is, "{text}");
        }
    }

    #[test]
    fn files_that_others_read_are_found_in_the_text() {
        let text = "source ~/a.sh\n. \"$HOME/b\"\n[ -f ~/c ] && . ~/c; x\nif test -f d; then source ./d; fi\n# source e\n\
            source $ZSH/f\n. <(g)\necho . h\n\\. '/i'\n";
        assert_eq!(
            reads(text).collect::<Vec<_>>(),
            ["~/a.sh", "~/b", "~/c", "./d", "/i"]
        );
    }

    #[test]
    fn what_is_no_file_is_not_waited_for_and_what_is_long_may_define_anything() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(read(&at("fifo")), None);
        fs::write(at("long"), " ".repeat(MAX_FILE as usize + 1)).unwrap();
        let places = Places {
            home: None,
            client_dir: None,
            session: "",
            env_file: None,
            dirs: vec![dir.path().to_owned()],
            shell: "bash",
        };
        fs::write(at("short"), "A=1\n").unwrap();
        for (file, names, path) in [
            ("long", &["make"][..], true),
            ("fifo", &[], true),
            ("none", &[], true),
            ("short", &[], false),
        ] {
            let found = places.look(&[file.to_owned()], &["make"]);
            assert_eq!(found.names, names, "{file}");
            assert_eq!(found.path, path, "{file}");
        }
    }
}
