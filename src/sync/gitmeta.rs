//! The small repository that a mirror of a git workspace gets, so that `git describe`, `git rev-parse HEAD`, `git status`
//! and tools that take their version from tags work there.
//!
//! It holds commits back to the nearest tag (all of them where only that is exact and they are few), the trees of HEAD,
//! HEAD itself, those tags, the index and the ignore rules from outside the tree. No blobs, no hooks, no remotes, and
//! never the user's `.git/config`, which can hold credentials and commands.
//!
//! The submodules that are checked out have one each, in `.git/modules/N`, and a `.git` file that names it: without, git in
//! them would answer with the commit of the repository around them. `.git/modules/paths` lists where they are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::beneath::{self, Beneath};
use super::git::{self, GitDirs, git_with_input};
use super::index;
use super::stat::Stat;
use crate::plan::manifest::{Hash, RelPath};

/// Version of the remembered snapshot.
const VERSION: u32 = 3;

/// Histories up to this length go whole where a cut would make `git describe` count wrong.
const MAX_COMMITS: usize = 5000;

/// A repository of more bytes than this is not sent.
const MAX_BYTES: usize = 64 << 20;

/// The files of a small repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitMeta {
    /// Names its content: another id means that a mirror needs it again.
    pub id: Hash,
    /// Paths relative to `.git`, and what they hold.
    #[serde(with = "in_one_piece")]
    pub files: Vec<(RelPath, Vec<u8>)>,
}

/// The list of submodules, relative to `.git`: their directories, each ended by NUL, in the order of their numbers.
const SUBMODULES: &str = "modules/paths";

/// Directories that every repository has.
const DIRS: [&str; 4] = ["refs/heads", "refs/tags", "objects/pack", "info"];

#[derive(Serialize, Deserialize)]
struct Remembered {
    /// The workspace's own repository, and those that its indexes name.
    seen: Vec<Seen>,
    /// That of the repository, whose files lie beside.
    id: Option<Hash>,
}

/// What tells whether a repository is still what it was.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Its top; `None`: the workspace's.
    dir: Option<RelPath>,
    head: Option<Hash>,
    stamps: Vec<Option<Stat>>,
}

impl Seen {
    fn of(root: &Path, dir: Option<RelPath>) -> Seen {
        let dirs = git::dirs(&below(root, dir.as_ref()));
        let stat = |p: PathBuf| rustix::fs::stat(&p).ok().map(|s| Stat::new(&s));
        let watched = dirs.as_ref().map(|dirs| {
            [
                dirs.own.join("index"),
                dirs.common.join("packed-refs"),
                dirs.common.join("refs/tags"),
                dirs.common.join("info/exclude"),
            ]
        });
        Seen {
            dir,
            head: dirs.as_ref().and_then(git::head),
            stamps: watched.into_iter().flatten().map(stat).collect(),
        }
    }
}

fn below(root: &Path, dir: Option<&RelPath>) -> PathBuf {
    dir.map_or_else(|| root.to_owned(), |d| root.join(OsStr::from_bytes(d.as_bytes())))
}

/// The small repository of a workspace. Its files, many megabytes in a large tree, are read only where a mirror lacks them.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Names its content, as [`GitMeta::id`].
    pub id: Hash,
    /// Where the files lie, unless they are here.
    file: PathBuf,
    meta: Option<GitMeta>,
}

impl Repository {
    /// Its files; `None` where they were lost or replaced in the meantime. The next run then makes them anew.
    pub fn load(&self) -> Option<GitMeta> {
        let meta = self.meta.clone().or_else(|| index::load(&self.file, VERSION));
        meta.filter(|m: &GitMeta| m.id == self.id)
    }
}

/// Contents as byte strings instead of element by element.
mod in_one_piece {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::RelPath;

    struct Bytes<'a>(&'a [u8]);
    struct Owned(Vec<u8>);

    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_bytes(self.0)
        }
    }

    impl<'de> Deserialize<'de> for Owned {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            d.deserialize_bytes(Visitor)
        }
    }

    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = Owned;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("bytes")
        }
        fn visit_bytes<E>(self, v: &[u8]) -> Result<Owned, E> {
            Ok(Owned(v.to_vec()))
        }
    }

    pub(super) fn serialize<S: Serializer>(files: &[(RelPath, Vec<u8>)], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(files.iter().map(|(p, content)| (p, Bytes(content))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(RelPath, Vec<u8>)>, D::Error> {
        let files = Vec::<(RelPath, Owned)>::deserialize(d)?;
        Ok(files.into_iter().map(|(p, content)| (p, content.0)).collect())
    }
}

/// Makes the small repository of the workspace whose top is `root`; `None` where there is no commit or no usable git.
///
/// `cache` is a file that remembers the last one (another one beside it, its files), so that nothing is started while HEAD,
/// tags and index stand still.
///
/// # Errors
/// Those of the temporary files; what git refuses is no error.
pub fn repository(root: &Path, cache: &Path) -> io::Result<Option<Repository>> {
    if git::dirs(root).is_none() {
        return Ok(None);
    }
    let file = cache.with_extension("repository-files");
    if let Some(r) = index::load::<Remembered>(cache, VERSION)
        && r.seen.iter().all(|s| Seen::of(root, s.dir.clone()) == *s)
        && (r.id.is_none() || file.exists())
    {
        return Ok(r.id.map(|id| Repository { id, file, meta: None }));
    }
    let began = super::now_ns();
    let scratch = cache.with_extension(format!("{:016x}", super::unique()));
    let (meta, seen) = make(root, &scratch)?;
    let settled = seen
        .iter()
        .flat_map(|s| &s.stamps)
        .all(|s| s.is_none_or(|s| s.is_settled(began)));
    let id = meta.as_ref().map(|m| m.id);
    // Only time is lost without it.
    if settled
        && meta
            .as_ref()
            .is_none_or(|m| index::save(&file, VERSION, m).is_ok())
    {
        let _ = index::save(cache, VERSION, &Remembered { seen, id });
    }
    Ok(meta.map(|meta| Repository {
        id: meta.id,
        file,
        meta: Some(meta),
    }))
}

/// The small repository with those of the submodules in it, and what it was made from.
fn make(root: &Path, scratch: &Path) -> io::Result<(Option<GitMeta>, Vec<Seen>)> {
    let mut seen = vec![Seen::of(root, None)];
    let Some(top) = Single::of(root, scratch)? else {
        return Ok((None, seen));
    };
    let mut named: VecDeque<RelPath> = top.submodules().collect();
    let mut id = blake3::Hasher::new();
    top.name(&mut id);
    let mut files = top.files;
    let mut paths = Vec::new();
    while let Some(dir) = named.pop_front() {
        let at = below(root, Some(&dir));
        seen.push(Seen::of(root, Some(dir.clone())));
        // One that is not checked out is an empty directory.
        let Some(sub) = Single::of(&at, scratch)? else {
            continue;
        };
        named.extend(
            sub.submodules()
                .filter_map(|d| RelPath::new([dir.as_bytes(), b"/", d.as_bytes()].concat())),
        );
        sub.name(&mut id);
        let number = paths.iter().filter(|b| **b == 0).count();
        paths.extend([dir.as_bytes(), b"\0"].concat());
        files.extend(
            sub.files
                .into_iter()
                .map(|(p, c)| (format!("modules/{number}/{p}"), c)),
        );
    }
    if !paths.is_empty() {
        id.update(&paths);
        files.insert(SUBMODULES.into(), paths);
    }
    if files.values().map(Vec::len).sum::<usize>() > MAX_BYTES {
        return Ok((None, seen));
    }
    let files = files
        .into_iter()
        .filter_map(|(p, content)| Some((RelPath::new(p)?, content)))
        .collect();
    let id = *id.finalize().as_bytes();
    Ok((Some(GitMeta { id, files }), seen))
}

/// The small copy of one repository.
struct Single {
    files: BTreeMap<String, Vec<u8>>,
    /// `git ls-files --stage -z`: the stats in the index change without meaning; what it lists tells whether it must go again.
    listed: Vec<u8>,
}

impl Single {
    /// That of the repository whose worktree's top is `root`; `None` where there is none, or none that git can tell about.
    fn of(root: &Path, scratch: &Path) -> io::Result<Option<Single>> {
        let Some(dirs) = git::dirs(root) else {
            return Ok(None);
        };
        let text = |args: &[&str]| git::git(root, args).and_then(|t| String::from_utf8(t).ok());
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let head = text(&["rev-parse", "--verify", "-q", "HEAD^{commit}"]).map(|h| h.trim().to_owned());
        let branch = text(&["symbolic-ref", "-q", "HEAD"]).map(|b| b.trim().to_owned());
        match (&head, &branch) {
            (Some(head), _) => {
                if !add_history(root, &text, head, scratch, &mut files)? {
                    return Ok(None);
                }
            }
            // No commit yet on a branch that does not exist yet: there is nothing but the index.
            (None, Some(branch)) if is_unborn(&text, &dirs, branch) => {}
            (None, _) => return Ok(None),
        }
        let head_file = branch.map_or_else(
            || format!("{}\n", head.as_deref().unwrap_or_default()),
            |name| format!("ref: {name}\n"),
        );
        files.insert("HEAD".into(), head_file.into_bytes());
        let rules = git::facts(root, &dirs, None).extra_ignore;
        files.insert(
            "info/exclude".into(),
            [rules.join(&b'\n'), b"\n".to_vec()].concat(),
        );
        // A split index is in two files; without one git takes all files as deleted and untracked.
        let split = listed_dir(&dirs.own).any(|n| n.starts_with("sharedindex."));
        match fs::read(dirs.own.join("index")) {
            Ok(bytes) if !split => {
                files.insert("index".into(), bytes);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && head.is_none() => {}
            _ => return Ok(None),
        }
        let listed = git::git(root, &["ls-files", "--stage", "-z"]).unwrap_or_default();
        let mut made = Single { files, listed };
        let checked_out = made
            .submodules()
            .filter(|d| git::dirs(&below(root, Some(d))).is_some());
        let config = config(&text, &checked_out.collect::<Vec<_>>());
        made.files.insert("config".into(), config.into_bytes());
        Ok(Some(made))
    }

    /// The directories of submodules that the index names.
    fn submodules(&self) -> impl Iterator<Item = RelPath> {
        let entries = self.listed.split(|b| *b == 0);
        entries.filter_map(|entry| {
            let tab = entry.iter().position(|b| *b == b'\t')?;
            let is_commit = entry.starts_with(b"160000 ");
            is_commit.then(|| RelPath::new(&entry[tab + 1..])).flatten()
        })
    }

    /// Adds what it holds, as far as that has a meaning.
    fn name(&self, id: &mut blake3::Hasher) {
        id.update(&self.listed);
        for (path, content) in self.files.iter().filter(|(p, _)| *p != "index") {
            id.update(path.as_bytes());
            // Packs of the same objects may differ in their bytes, but are named by the objects.
            if !path.ends_with(".pack") && !path.ends_with(".idx") {
                id.update(&(content.len() as u64).to_le_bytes());
                id.update(content);
            }
        }
    }
}

/// Whether no commit was made on a branch yet. One that is there and cannot be read is another matter.
fn is_unborn(text: &dyn Fn(&[&str]) -> Option<String>, dirs: &GitDirs, branch: &str) -> bool {
    let packed = fs::read_to_string(dirs.common.join("packed-refs")).unwrap_or_default();
    !dirs.common.join(branch).exists()
        && !packed.lines().any(|l| l.split(' ').nth(1) == Some(branch))
        && text(&["show-ref", "--verify", branch]).is_none()
}

/// Adds the commits that go, their trees and the refs; whether git could tell and pack them.
fn add_history(
    root: &Path,
    text: &dyn Fn(&[&str]) -> Option<String>,
    head: &str,
    scratch: &Path,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> io::Result<bool> {
    let Some(history) = history(text) else {
        return Ok(false);
    };
    let Some((refs, tag_objects)) = refs(text, head, &history) else {
        return Ok(false);
    };
    let format = "--format=%(objecttype) %(objectname)";
    let Some(trees) = text(&["ls-tree", "-r", "-t", "-z", format, head]) else {
        return Ok(false);
    };
    let mut objects: BTreeSet<&str> = history.commits.iter().map(String::as_str).collect();
    objects.extend(trees.split('\0').filter_map(|l| l.strip_prefix("tree ")));
    objects.extend(tag_objects.iter().map(String::as_str));
    let top = text(&["rev-parse", &format!("{head}^{{tree}}")]).unwrap_or_default();
    objects.insert(top.trim());
    let list = objects.into_iter().fold(String::new(), |l, o| l + o + "\n");
    if !pack(root, &list, scratch, files)? {
        return Ok(false);
    }
    files.insert("packed-refs".into(), refs.into_bytes());
    if !history.shallow.is_empty() {
        files.insert("shallow".into(), (history.shallow.join("\n") + "\n").into_bytes());
    }
    Ok(true)
}

fn listed_dir(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok())
}

struct History {
    commits: BTreeSet<String>,
    /// Commits whose parents do not go.
    shallow: Vec<String>,
}

/// The commits that go.
fn history(text: &dyn Fn(&[&str]) -> Option<String>) -> Option<History> {
    // The nearest tag of any kind, the nearest annotated one, and the nearest that looks like a version: the tools ask for
    // one of these. The farthest is where the history may end.
    let tags = [
        text(&["describe", "--tags", "--abbrev=0"]),
        text(&["describe", "--abbrev=0"]),
        text(&["describe", "--tags", "--abbrev=0", "--match", "*[0-9]*"]),
    ];
    let tags: BTreeSet<String> = tags.into_iter().flatten().map(|t| t.trim().to_owned()).collect();
    let limit = format!("--max-count={}", MAX_COMMITS + 1);
    let list = |end: Option<&str>| -> Option<Vec<(String, Vec<String>)>> {
        let mut args = vec!["rev-list", "--parents", &limit, "HEAD"];
        let parents = end.map(|t| format!("refs/tags/{t}^@"));
        args.extend(parents.as_ref().map(|_| "--not"));
        args.extend(parents.as_deref());
        let lines = text(&args)?;
        let split = |l: &str| {
            let mut ids = l.split(' ').map(str::to_owned);
            Some((ids.next()?, ids.collect()))
        };
        Some(lines.lines().filter_map(split).collect())
    };
    let to_tag = tags.iter().filter_map(|t| list(Some(t))).max_by_key(Vec::len);
    if let Some(commits) = to_tag.filter(|c| c.len() <= MAX_COMMITS) {
        let ids: BTreeSet<String> = commits.iter().map(|c| c.0.clone()).collect();
        let outside = |c: &&(String, Vec<String>)| c.1.iter().any(|p| !ids.contains(p));
        let cut: Vec<&(String, Vec<String>)> = commits.iter().filter(outside).collect();
        // A cut commit loses all its parents: right only for those whose parents all stay behind.
        if cut.iter().all(|c| c.1.iter().all(|p| !ids.contains(p))) {
            let shallow = cut.iter().map(|c| c.0.clone()).collect();
            return Some(History {
                commits: ids,
                shallow,
            });
        }
    }
    let all = list(None)?;
    if all.len() <= MAX_COMMITS {
        // The workspace may be shallow itself: what it lacks is cut here too.
        let ids: BTreeSet<String> = all.iter().map(|c| c.0.clone()).collect();
        let grafted = text(&["rev-parse", "--is-shallow-repository"]).is_some_and(|t| t.trim() == "true");
        let roots = all
            .iter()
            .filter(|c| grafted && c.1.is_empty())
            .map(|c| c.0.clone())
            .collect();
        return Some(History {
            commits: ids,
            shallow: roots,
        });
    }
    let head = all.into_iter().next()?.0;
    Some(History {
        commits: BTreeSet::from([head.clone()]),
        shallow: vec![head],
    })
}

/// The `packed-refs` file: the branch that HEAD names, and the tags on commits that go; and the tag objects.
fn refs(
    text: &dyn Fn(&[&str]) -> Option<String>,
    head: &str,
    history: &History,
) -> Option<(String, Vec<String>)> {
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    if let Some(branch) = text(&["symbolic-ref", "-q", "HEAD"]) {
        lines.insert(branch.trim().to_owned(), format!("{head} {}\n", branch.trim()));
    }
    let mut objects = Vec::new();
    let format = "--format=%(objectname) %(objecttype) %(*objectname) %(refname)";
    for line in text(&["for-each-ref", "refs/tags", format])?.lines() {
        let mut fields = line.splitn(4, ' ');
        let (Some(object), Some(kind), Some(peeled), Some(name)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let commit = if kind == "tag" { peeled } else { object };
        if !history.commits.contains(commit) {
            continue;
        }
        let mut entry = format!("{object} {name}\n");
        if kind == "tag" {
            entry += &format!("^{peeled}\n");
            objects.push(object.to_owned());
        }
        lines.insert(name.to_owned(), entry);
    }
    let body: String = lines.into_values().collect();
    Some((
        format!("# pack-refs with: peeled fully-peeled sorted \n{body}"),
        objects,
    ))
}

/// Packs the objects of the list; whether git could.
fn pack(root: &Path, list: &str, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<bool> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let base = dir.join("pack");
    let packed = git_with_input(
        root,
        &["pack-objects", "-q", &base.to_string_lossy()],
        list.as_bytes(),
    );
    let mut done = false;
    if packed.is_some() {
        for name in listed_dir(dir).filter(|n| n.ends_with(".pack") || n.ends_with(".idx")) {
            files.insert(format!("objects/pack/{name}"), fs::read(dir.join(&name))?);
            done = true;
        }
    }
    // What a crash leaves here lies in the cache.
    let _ = fs::remove_dir_all(dir);
    Ok(done)
}

/// A configuration of our own making, with the few settings that decide whether a file counts as changed.
fn config(text: &dyn Fn(&[&str]) -> Option<String>, checked_out: &[RelPath]) -> String {
    let format = text(&["rev-parse", "--show-object-format"]).unwrap_or_default();
    let sha256 = format.trim() == "sha256";
    let mut config = format!(
        "[core]\n\trepositoryformatversion = {}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n",
        u8::from(sha256)
    );
    let simple = |v: &String| v.bytes().all(|b| b.is_ascii_alphanumeric());
    for key in ["autocrlf", "eol", "ignorecase"] {
        let value = text(&["config", "--get", &format!("core.{key}")]).map(|v| v.trim().to_owned());
        if let Some(value) = value.filter(simple) {
            config += &format!("\t{key} = {value}\n");
        }
    }
    if sha256 {
        config += "[extensions]\n\tobjectformat = sha256\n";
    }
    let names = checked_out
        .iter()
        .filter_map(|d| std::str::from_utf8(d.as_bytes()).ok());
    for name in names.filter(|n| !n.contains(char::is_control)) {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        config += &format!("[submodule]\n\tactive = \":(literal){quoted}\"\n");
    }
    config
}

/// Puts the repository at `root/.git`, replacing what cx put there before. `stage` is a new path on the same file system.
///
/// # Errors
/// Those of writing.
pub(crate) fn install(root: &Path, meta: &GitMeta, stage: &Path) -> io::Result<()> {
    let make_dir = |p: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(p);
    let new = stage.join("new");
    let submodules = meta
        .files
        .iter()
        .find(|(p, _)| p.as_bytes() == SUBMODULES.as_bytes());
    let submodules = submodules.map_or(0, |(_, list)| listed_paths(list).count());
    let tops = (0..submodules).map(|n| new.join(format!("modules/{n}")));
    for top in tops.chain([new.clone()]) {
        for dir in DIRS {
            make_dir(&top.join(dir))?;
        }
    }
    for (path, content) in &meta.files {
        if !is_expected(path) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} is no part of a small repository"),
            ));
        }
        let at = below(&new, Some(path));
        make_dir(at.parent().unwrap_or(&new))?;
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&at)?;
        io::Write::write_all(&mut file, content)?;
    }
    let git = root.join(".git");
    match fs::rename(&git, stage.join("old")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => fs::rename(&new, &git)?,
    }
    fs::remove_dir_all(stage)
}

/// Gives the submodules of the small repository at `root/.git` the `.git` files that name theirs, where their directories are.
///
/// # Errors
/// Those of writing.
pub(crate) fn point(root: &Path, tree: &mut Beneath) -> io::Result<()> {
    for (number, dir) in submodules(root).iter().enumerate() {
        let up = "../".repeat(dir.components().count());
        let text = format!("gitdir: {up}.git/modules/{number}\n");
        match point_at(tree, dir, &text) {
            // Something else stands where the directory was.
            Err(e) if beneath::is_absent(&e) => {}
            done => done?,
        }
    }
    Ok(())
}

fn point_at(tree: &mut Beneath, dir: &RelPath, text: &str) -> io::Result<()> {
    let (Some(stat), Some(path)) = (tree.stat(dir)?, RelPath::below(Some(dir), b".git")) else {
        return Ok(());
    };
    if !stat.is_dir() {
        return Ok(());
    }
    let place = tree.place(&path)?;
    let mut there = String::new();
    let read = place
        .read()
        .and_then(|(mut f, _)| io::Read::read_to_string(&mut f, &mut there));
    if read.is_ok() && there == text {
        return Ok(());
    }
    place.remove_all()?;
    io::Write::write_all(&mut place.create(path.name(), 0o600)?, text.as_bytes())
}

/// The submodules of the small repository at `root/.git`.
fn submodules(root: &Path) -> Vec<RelPath> {
    let list = fs::read(root.join(".git").join(SUBMODULES)).unwrap_or_default();
    listed_paths(&list).collect()
}

fn listed_paths(list: &[u8]) -> impl Iterator<Item = RelPath> {
    list.split(|b| *b == 0).filter_map(RelPath::new)
}

/// Tells an intact small repository from one that was damaged: its files that no ordinary command there changes, with size and
/// modification time. `None` where it lacks what every repository has.
pub(crate) fn signature(root: &Path) -> Option<Vec<(String, u64, i64)>> {
    let git = root.join(".git");
    let mut found = Vec::new();
    sign(&git, "", &mut found)?;
    let submodules = submodules(root);
    for (number, dir) in submodules.iter().enumerate() {
        sign(&git, &format!("modules/{number}/"), &mut found)?;
        let at = below(root, Some(dir));
        // Without the file, git would ask the repository around it.
        if at.is_dir() && !at.join(".git").is_file() {
            return None;
        }
    }
    Some(found)
}

/// The files below `dir` in `top`, relative to `top`.
fn files_below(top: &Path, dir: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for name in listed_dir(&top.join(&dir)) {
            let path = format!("{dir}/{name}");
            if top.join(&path).is_dir() {
                dirs.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort_unstable();
    files
}

/// The part of a signature that is for the repository `prefix` in `git`.
fn sign(git: &Path, prefix: &str, found: &mut Vec<(String, u64, i64)>) -> Option<()> {
    let top = git.join(prefix);
    let mut names: Vec<String> = ["HEAD", "config", "packed-refs", "shallow", "info/exclude"]
        .map(str::to_owned)
        .into();
    let mut packs: Vec<String> = listed_dir(&top.join("objects/pack")).collect();
    packs.sort_unstable();
    names.extend(packs.into_iter().map(|p| format!("objects/pack/{p}")));
    // A commit, a tag or a branch that a command made there is none here.
    names.extend(files_below(&top, "refs"));
    let had = found.len();
    for name in names {
        if let Ok(s) = rustix::fs::lstat(top.join(&name)) {
            let s = Stat::new(&s);
            found.push((format!("{prefix}{name}"), s.size, s.mtime_ns));
        }
    }
    let has = |name: &str| {
        found[had..]
            .iter()
            .any(|(n, ..)| n.strip_prefix(prefix) == Some(name))
    };
    let mut head = [0u8; 4];
    let index = fs::File::open(top.join("index")).and_then(|mut f| io::Read::read_exact(&mut f, &mut head));
    let index_ok = match index {
        Ok(()) => head == *b"DIRC",
        Err(e) => e.kind() == io::ErrorKind::NotFound && !has("packed-refs"),
    };
    (index_ok && has("HEAD") && top.join("refs").is_dir()).then_some(())
}

/// Only these files are ever put in a `.git`: no hooks, nothing that git would run.
fn is_expected(path: &RelPath) -> bool {
    let known: [&[u8]; 6] = [
        b"HEAD",
        b"packed-refs",
        b"shallow",
        b"config",
        b"info/exclude",
        b"index",
    ];
    let numbered = path.as_bytes().strip_prefix(b"modules/").and_then(|rest| {
        let slash = rest.iter().position(|b| *b == b'/')?;
        rest[..slash]
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| &rest[slash + 1..])
    });
    let bytes = numbered.unwrap_or(path.as_bytes());
    let pack = bytes
        .strip_prefix(b"objects/pack/pack-")
        .is_some_and(|rest| !rest.contains(&b'/'));
    known.contains(&bytes) || pack || path.as_bytes() == SUBMODULES.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::testing::{Pair, git};
    use crate::sync::{stage, write_pack_with};

    /// Syncs the pair with its repository.
    fn sync_with_repository(p: &mut Pair) -> GitMeta {
        let meta = repository(&p.here(), &p.dir.path().join("git-cache"))
            .unwrap()
            .and_then(|r| r.load())
            .unwrap();
        let scan = p.scan().clone();
        let mut pack = Vec::new();
        let delta = scan.delta(&p.believed);
        p.believed = write_pack_with(&p.here(), &delta, &scan.manifest, Some(&meta), &mut pack)
            .unwrap()
            .manifest;
        let mut mirror = p.mirror();
        let staged = stage(&mut &pack[..], &mirror.stage_dir(), 1 << 30).unwrap();
        mirror.apply(staged).unwrap();
        meta
    }

    fn same(p: &Pair, args: &[&str]) -> String {
        let (here, there) = (git(&p.here(), args), git(&p.there(), args));
        assert_eq!(here, there, "git {args:?}");
        there
    }

    fn commit(p: &Pair, n: u32) {
        p.write("f", &n.to_string());
        git(&p.here(), &["add", "."]);
        git(&p.here(), &["commit", "-qm", &n.to_string()]);
    }

    #[test]
    fn describe_and_status_say_there_what_they_say_here() {
        let mut p = Pair::new();
        p.git = true;
        git(&p.here(), &["init", "-q", "-b", "main"]);
        git(
            &p.here(),
            &["config", "remote.o.url", "https://user:SECRET@example.org/r"],
        );
        p.write("dir/g", "g");
        p.write(".gitignore", "*.o\n");
        for n in 0..5 {
            commit(&p, n);
        }
        git(&p.here(), &["tag", "-am", "one", "v1.0"]);
        for n in 5..8 {
            commit(&p, n);
        }
        fs::write(p.here().join(".git/info/exclude"), "private\n").unwrap();
        p.write("private", "x");
        p.write("x.o", "o");
        let meta = sync_with_repository(&mut p);
        assert!(same(&p, &["describe", "--tags", "--long"]).starts_with("v1.0-3-g"));
        assert_eq!(same(&p, &["status", "--porcelain"]), "");
        same(&p, &["rev-parse", "HEAD"]);
        same(&p, &["rev-parse", "--abbrev-ref", "HEAD"]);
        same(&p, &["ls-files", "-s"]);
        same(&p, &["ls-tree", "-r", "HEAD"]);
        assert_eq!(
            git(&p.there(), &["rev-list", "--count", "HEAD"]).trim(),
            "4",
            "cut at the tag"
        );
        let config = fs::read_to_string(p.there().join(".git/config")).unwrap();
        assert!(!config.contains("SECRET"));

        // Dirty, staged and untracked files are told alike.
        p.write("f", "changed");
        p.write("new", "n");
        p.write("staged", "s");
        git(&p.here(), &["add", "staged"]);
        let second = sync_with_repository(&mut p);
        assert_ne!(second.id, meta.id);
        assert_eq!(same(&p, &["status", "--porcelain"]), " M f\nA  staged\n?? new\n");
        assert!(same(&p, &["describe", "--dirty"]).ends_with("-dirty\n"));
        // The same again has the same name, with and without what was remembered.
        assert_eq!(
            repository(&p.here(), &p.dir.path().join("git-cache"))
                .unwrap()
                .unwrap()
                .id,
            second.id
        );
        assert_eq!(
            repository(&p.here(), &p.dir.path().join("other"))
                .unwrap()
                .unwrap()
                .id,
            second.id
        );
        // The repository is no part of what is compared or comes back.
        assert_eq!(p.collect().0.files, 0);
        git(&p.there(), &["status"]);
        assert_eq!(p.collect().0.files, 0);
    }

    #[test]
    fn merges_from_before_the_tag_are_counted_right() {
        let mut p = Pair::new();
        p.git = true;
        git(&p.here(), &["init", "-q", "-b", "main"]);
        commit(&p, 0);
        git(&p.here(), &["branch", "side"]);
        commit(&p, 1);
        git(&p.here(), &["tag", "v1"]);
        commit(&p, 2);
        git(&p.here(), &["checkout", "-q", "side"]);
        p.write("s", "s");
        git(&p.here(), &["add", "s"]);
        git(&p.here(), &["commit", "-qm", "side"]);
        git(&p.here(), &["checkout", "-q", "main"]);
        git(&p.here(), &["merge", "-q", "--no-edit", "side"]);
        sync_with_repository(&mut p);
        assert!(same(&p, &["describe", "--tags"]).starts_with("v1-3-g"));
        git(&p.here(), &["checkout", "-q", "--detach"]);
        git(&p.here(), &["tag", "-d", "v1"]);
        sync_with_repository(&mut p);
        same(&p, &["rev-list", "--count", "HEAD"]);
        same(&p, &["rev-parse", "--abbrev-ref", "HEAD"]);
    }

    #[test]
    fn a_repository_without_a_commit_is_one_there_too() {
        let mut p = Pair::new();
        p.git = true;
        let cache = p.dir.path().join("cache/g");
        assert!(repository(&p.here(), &cache).unwrap().is_none());
        git(&p.here(), &["init", "-q", "-b", "trunk"]);
        p.write("a", "a");
        sync_with_repository(&mut p);
        same(&p, &["symbolic-ref", "HEAD"]);
        git(&p.here(), &["add", "a"]);
        p.write("b", "b");
        sync_with_repository(&mut p);
        assert_eq!(same(&p, &["status", "--porcelain"]), "A  a\n?? b\n");
        // A branch whose commit cannot be read is no unborn one.
        fs::write(p.here().join(".git/refs/heads/trunk"), format!("{:040x}\n", 1)).unwrap();
        assert!(repository(&p.here(), &cache).unwrap().is_none());
    }

    #[test]
    fn only_known_files_are_installed() {
        let dir = tempfile::tempdir().unwrap();
        for bad in [
            "hooks/post-checkout",
            "config.worktree",
            "objects/pack/pack-x/../y",
            "info/attributes",
            "modules/m/config",
            "modules/1/hooks/post-checkout",
            "modules/1/modules/2/config",
        ] {
            let Some(path) = RelPath::new(bad) else { continue };
            let meta = GitMeta {
                id: [0; 32],
                files: vec![(path, vec![])],
            };
            assert!(
                install(dir.path(), &meta, &dir.path().join("s")).is_err(),
                "{bad}"
            );
            assert!(!dir.path().join(".git").exists());
            let _ = fs::remove_dir_all(dir.path().join("s"));
        }
    }
}
