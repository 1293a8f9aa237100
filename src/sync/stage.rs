//! Reads a pack: everything lands in a directory of cx's own first, outside of any tree.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use serde::{Deserialize, Serialize};

use super::SyncError;
use super::gitmeta::GitMeta;
use super::pack::{MAGIC, PIECE};
use crate::plan::manifest::{Entry, Generation, Hash, Manifest, RelPath};

/// How a path that travels stands to the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Part of what is synced.
    Synced,
    /// An ignored file that the command made: part of the manifest from now on.
    Joined,
    /// An output that is not part of the manifest, e.g. a program in `target/`.
    Apart,
}

impl Origin {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Origin::Synced => 0,
            Origin::Joined => 1,
            Origin::Apart => 2,
        }
    }

    fn from_byte(b: u8) -> Option<Origin> {
        [Origin::Synced, Origin::Joined, Origin::Apart]
            .get(usize::from(b))
            .copied()
    }
}

/// One change to a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Delete a path and what lies below.
    Delete {
        /// The path.
        path: RelPath,
    },
    /// The path leaves the manifest and stays in the tree.
    Forget {
        /// The path.
        path: RelPath,
    },
    /// A new or changed path.
    Put {
        /// The path.
        path: RelPath,
        /// What stands there then.
        entry: Entry,
        /// How it stands to the manifest.
        origin: Origin,
        /// For files and directories: modification time in the sender's clock, nanoseconds since the epoch; 0 where it is not told.
        mtime_ns: i64,
        /// For files: number of the staged content.
        blob: u32,
    },
    /// A file whose content is the same on both sides got another time.
    Touch {
        /// The path.
        path: RelPath,
        /// What stands there.
        entry: Entry,
        /// How it stands to the manifest.
        origin: Origin,
        /// As for [`Op::Put`].
        mtime_ns: i64,
        /// It is older than the one before.
        back: bool,
    },
}

impl Op {
    /// The path that changes.
    pub fn path(&self) -> &RelPath {
        match self {
            Op::Delete { path } | Op::Forget { path } | Op::Put { path, .. } | Op::Touch { path, .. } => path,
        }
    }
}

/// The manifest of a tree that held `manifest` once the changes are made.
pub fn after(manifest: &Manifest, ops: &[Op]) -> Manifest {
    manifest.with(ops.iter().filter_map(|op| match op {
        Op::Delete { path } | Op::Forget { path } => Some((path.clone(), None)),
        Op::Put {
            origin: Origin::Apart,
            ..
        }
        | Op::Touch { .. } => None,
        Op::Put { path, entry, .. } => Some((path.clone(), Some(entry.clone()))),
    }))
}

/// The paths of `ops`, and all directories above them.
pub fn touched(ops: &[Op]) -> BTreeSet<RelPath> {
    let mut paths = BTreeSet::new();
    for path in ops.iter().map(Op::path) {
        paths.insert(path.clone());
        // What lies above one that is in there already is, too.
        for dir in path.above() {
            if !paths.insert(dir) {
                break;
            }
        }
    }
    paths
}

/// A pack that was received whole. Removes its files when dropped.
#[derive(Debug)]
pub struct Staged {
    dir: PathBuf,
    ops: Vec<Op>,
    generation: Generation,
    repository: Option<GitMeta>,
    files: u64,
    bytes: u64,
    keep: bool,
}

impl Staged {
    /// The small repository that came along.
    pub fn repository(&self) -> Option<&GitMeta> {
        self.repository.as_ref()
    }

    /// The changes, in the order in which they are to be made.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The generation of the sender's tree after the changes.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Files that came.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// From here on a journal answers for the files.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    /// The file that holds the content with this number, in the stage directory `dir`.
    pub(crate) fn blob(dir: &Path, number: u32) -> PathBuf {
        dir.join(number.to_string())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A small repository of more bytes than this is none.
const MAX_REPOSITORY: u64 = 80 << 20;

/// Paths and targets may take this many bytes in all: some millions of paths.
const MAX_NAMES: u64 = 512 << 20;

/// So many zeros in a row are left out of a file that is written.
const HOLE: usize = 4 << 10;

/// Receives a pack whose files take at most `limit` bytes into `stage_dir`, which must not exist yet (it is made, with
/// its parents, for the owner only).
///
/// # Errors
/// A pack that is cut short, damaged or too large leaves nothing behind.
pub fn stage(input: &mut dyn Read, stage_dir: &Path, limit: u64) -> Result<Staged, SyncError> {
    let make = || {
        if let Some(parent) = stage_dir.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        fs::DirBuilder::new().mode(0o700).create(stage_dir)
    };
    make().map_err(|e| SyncError::io("failed to create", stage_dir, e))?;
    let mut staged = Staged {
        dir: stage_dir.to_path_buf(),
        ops: Vec::new(),
        generation: Generation::empty(),
        repository: None,
        files: 0,
        bytes: 0,
        keep: false,
    };
    let mut magic = [0u8; MAGIC.len()];
    input.read_exact(&mut magic).map_err(cut)?;
    if magic != MAGIC {
        return Err(SyncError::Pack("it does not start like one".into()));
    }
    let mut reader = Reader {
        input: DeflateDecoder::new(input),
        names: 0,
        seen: HashSet::new(),
    };
    reader.read_all(&mut staged, limit)?;
    Ok(staged)
}

struct Reader<'a> {
    input: DeflateDecoder<&'a mut dyn Read>,
    names: u64,
    seen: HashSet<RelPath>,
}

impl Reader<'_> {
    fn read_all(&mut self, staged: &mut Staged, limit: u64) -> Result<(), SyncError> {
        loop {
            let [tag] = self.array()?;
            let op = match tag {
                b'D' => Op::Delete { path: self.path()? },
                b'F' => Op::Forget { path: self.path()? },
                b'd' | b'n' | b'l' | b'f' | b't' => self.put(tag, staged, limit)?,
                b'R' if staged.repository.is_none() => {
                    staged.repository = Some(self.repository(limit)?);
                    continue;
                }
                b'E' => {
                    staged.generation = Generation(self.array()?);
                    let mut more = [0u8];
                    // Reads the end of the deflate stream too.
                    if self.input.read(&mut more).map_err(cut)? != 0 {
                        return Err(SyncError::Pack("bytes after its end".into()));
                    }
                    return Ok(());
                }
                other => return Err(SyncError::Pack(format!("unknown record {other:#04x}"))),
            };
            staged.ops.push(op);
        }
    }

    fn put(&mut self, tag: u8, staged: &mut Staged, limit: u64) -> Result<Op, SyncError> {
        let [origin] = self.array()?;
        let origin = Origin::from_byte(origin).ok_or_else(|| SyncError::Pack("unknown origin".into()))?;
        let path = self.path()?;
        if tag == b'l' {
            let target = self.text()?;
            if target.is_empty() || target.contains(&0) {
                return Err(SyncError::Pack(format!("the link {path} has no usable target")));
            }
            return Ok(Op::Put {
                path,
                entry: Entry::Symlink { target },
                origin,
                mtime_ns: 0,
                blob: 0,
            });
        }
        let mode = u32::from_le_bytes(self.array()?) & 0o777;
        let mtime_ns = if tag == b'd' {
            0
        } else {
            i64::from_le_bytes(self.array()?)
        };
        if tag == b'd' || tag == b'n' {
            return Ok(Op::Put {
                path,
                entry: Entry::Dir { mode },
                origin,
                mtime_ns,
                blob: 0,
            });
        }
        if tag == b't' {
            let [back] = self.array()?;
            let size = u64::from_le_bytes(self.array()?);
            let hash = self.array()?;
            return Ok(Op::Touch {
                path,
                entry: Entry::File { mode, size, hash },
                origin,
                mtime_ns,
                back: back != 0,
            });
        }
        let announced = u64::from_le_bytes(self.array()?);
        if announced.saturating_add(staged.bytes) > limit {
            return Err(SyncError::TooLarge(limit));
        }
        let blob = u32::try_from(staged.files).map_err(|_| SyncError::Pack("too many files".into()))?;
        let (size, hash) = self.content(&Staged::blob(&staged.dir, blob), limit - staged.bytes, limit)?;
        let sent = u64::from_le_bytes(self.array()?);
        let named: Hash = self.array()?;
        if (size, hash) != (sent, named) {
            return Err(SyncError::Pack(format!(
                "the content of {path} does not match its hash"
            )));
        }
        staged.files += 1;
        staged.bytes += size;
        Ok(Op::Put {
            path,
            entry: Entry::File { mode, size, hash },
            origin,
            mtime_ns,
            blob,
        })
    }

    fn content(&mut self, blob: &Path, left: u64, limit: u64) -> Result<(u64, Hash), SyncError> {
        let failed = |e| SyncError::io("failed to write", blob, e);
        let mut options = fs::OpenOptions::new();
        let mut file: File = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(blob)
            .map_err(failed)?;
        let mut buf = [0u8; 8 << 10];
        let mut hasher = blake3::Hasher::new();
        let mut size = 0u64;
        let mut hole = 0u64;
        loop {
            let mut piece = u32::from_le_bytes(self.array()?) as usize;
            if piece == 0 {
                if hole > 0 {
                    file.set_len(size).map_err(failed)?;
                }
                return Ok((size, *hasher.finalize().as_bytes()));
            }
            if piece > PIECE {
                return Err(SyncError::Pack("a piece is too long".into()));
            }
            size += piece as u64;
            if size > left {
                return Err(SyncError::TooLarge(limit));
            }
            while piece > 0 {
                let part = &mut buf[..piece.min(8 << 10)];
                self.input.read_exact(part).map_err(cut)?;
                hasher.update(part);
                // Whole blocks of zeros become holes; writing over them would cost the disk what nobody stored.
                if part.len() >= HOLE && part.iter().all(|b| *b == 0) {
                    hole += part.len() as u64;
                } else {
                    if hole > 0 {
                        let past = i64::try_from(hole).unwrap_or(i64::MAX);
                        file.seek(SeekFrom::Current(past)).map_err(failed)?;
                        hole = 0;
                    }
                    file.write_all(part).map_err(failed)?;
                }
                piece -= part.len();
            }
        }
    }

    fn repository(&mut self, limit: u64) -> Result<GitMeta, SyncError> {
        let len = u32::from_le_bytes(self.array()?);
        if u64::from(len) > limit.min(MAX_REPOSITORY) {
            return Err(SyncError::TooLarge(limit));
        }
        let mut bytes = Vec::new();
        self.input
            .by_ref()
            .take(u64::from(len))
            .read_to_end(&mut bytes)
            .map_err(cut)?;
        postcard::from_bytes(&bytes).map_err(|_| SyncError::Pack("its repository cannot be read".into()))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SyncError> {
        let mut a = [0u8; N];
        self.input.read_exact(&mut a).map_err(cut)?;
        Ok(a)
    }

    fn text(&mut self) -> Result<Vec<u8>, SyncError> {
        let len = u16::from_le_bytes(self.array()?);
        self.names += u64::from(len) + 64;
        if self.names > MAX_NAMES {
            return Err(SyncError::Pack("too many paths".into()));
        }
        let mut text = vec![0u8; usize::from(len)];
        self.input.read_exact(&mut text).map_err(cut)?;
        Ok(text)
    }

    fn path(&mut self) -> Result<RelPath, SyncError> {
        let text = self.text()?;
        let printable = String::from_utf8_lossy(&text).escape_debug().to_string();
        let path =
            RelPath::new(text).ok_or_else(|| SyncError::Pack(format!("unsafe path \"{printable}\"")))?;
        if !self.seen.insert(path.clone()) {
            return Err(SyncError::Pack(format!("{path} occurs twice")));
        }
        Ok(path)
    }
}

fn cut(e: io::Error) -> SyncError {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => SyncError::Pack("it is cut short".into()),
        _ => SyncError::Pack(format!("it cannot be read: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sync::testing::rel;

    /// A stream with these bytes as its records.
    fn raw(records: &[u8]) -> Vec<u8> {
        let mut pack = MAGIC.to_vec();
        let mut deflate = flate2::write::DeflateEncoder::new(&mut pack, flate2::Compression::fast());
        deflate.write_all(records).unwrap();
        deflate.finish().unwrap();
        pack
    }

    fn text(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
    }

    /// Receives into a new directory; nothing may be left of what was refused.
    fn receive(pack: &[u8], limit: u64) -> Result<Vec<Op>, SyncError> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("s/1");
        let result = stage(&mut &pack[..], &at, limit).map(|s| s.ops().to_vec());
        assert!(!at.exists(), "the stage is removed with its value");
        result
    }

    fn file_record(path: &[u8], announced: u64, content: &[u8], hash: Hash) -> Vec<u8> {
        let mut r = [
            b"f\0",
            &text(path)[..],
            &0o644u32.to_le_bytes(),
            &0i64.to_le_bytes(),
            &announced.to_le_bytes(),
        ]
        .concat();
        for piece in content.chunks(PIECE) {
            r.extend((piece.len() as u32).to_le_bytes());
            r.extend(piece);
        }
        r.extend([0; 4]);
        r.extend((content.len() as u64).to_le_bytes());
        r.extend(hash);
        r
    }

    fn end() -> Vec<u8> {
        [&b"E"[..], &[0; 32]].concat()
    }

    #[test]
    fn hostile_packs_are_refused() {
        let good = *blake3::hash(b"hello").as_bytes();
        let piece = |len: u32| {
            [
                b"f\0",
                &text(b"a")[..],
                &[0; 12],
                &5u64.to_le_bytes(),
                &len.to_le_bytes(),
            ]
            .concat()
        };
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("leaves the tree", [&b"D"[..], &text(b"../x")].concat()),
            ("absolute", [&b"d\0"[..], &text(b"/etc"), &[0; 4]].concat()),
            (
                "dots inside",
                [&b"l\0"[..], &text(b"a/../../b"), &text(b"t")].concat(),
            ),
            ("empty path", [&b"D"[..], &text(b"")].concat()),
            ("NUL in a path", [&b"D"[..], &text(b"a\0b")].concat()),
            (
                "NUL in a target",
                [&b"l\0"[..], &text(b"a"), &text(b"t\0")].concat(),
            ),
            ("twice", [&b"D"[..], &text(b"a"), b"D", &text(b"a")].concat()),
            ("unknown tag", b"X".to_vec()),
            ("unknown origin", [&b"d\x07"[..], &text(b"a"), &[0; 4]].concat()),
            ("piece too long", piece(1 << 31)),
            ("wrong hash", file_record(b"a", 5, b"hello", [9; 32])),
        ];
        for (what, records) in cases {
            let pack = raw(&[records, end()].concat());
            assert!(
                matches!(receive(&pack, 1 << 20), Err(SyncError::Pack(_))),
                "{what}"
            );
        }
        let huge = raw(&[file_record(b"a", u64::MAX, b"hello", good), end()].concat());
        assert!(matches!(receive(&huge, 1 << 20), Err(SyncError::TooLarge(_))));
        let lies = raw(&[
            file_record(b"a", 0, &[0; 4096], *blake3::hash(&[0; 4096]).as_bytes()),
            end(),
        ]
        .concat());
        assert!(matches!(receive(&lies, 4095), Err(SyncError::TooLarge(4095))));
        assert_eq!(receive(&lies, 4096).unwrap().len(), 1);
        let more = raw(&[end(), vec![0]].concat());
        assert!(matches!(receive(&more, 1), Err(SyncError::Pack(_))));
        assert!(matches!(receive(b"", 1), Err(SyncError::Pack(_))));
        assert!(matches!(
            receive(b"not a pack at all", 1),
            Err(SyncError::Pack(_))
        ));
    }

    #[test]
    fn a_pack_cut_anywhere_is_refused() {
        let hash = *blake3::hash(b"hello").as_bytes();
        let pack = raw(&[
            [&b"D"[..], &text(b"gone")].concat(),
            file_record(b"a", 5, b"hello", hash),
            end(),
        ]
        .concat());
        assert_eq!(receive(&pack, 5).unwrap()[0], Op::Delete { path: rel("gone") });
        for cut in 0..pack.len() {
            assert!(receive(&pack[..cut], 5).is_err(), "{cut} of {}", pack.len());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn no_records_make_it_panic(records in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = receive(&raw(&records), 1000);
        }
    }
}
