//! Packs: what changes a tree, as one compressed stream of records.
//!
//! After the magic come records in a raw deflate stream: a tag byte, then its fields, integers little-endian:
//!
//! ```text
//! D path                                   delete, with what lies below
//! F path                                   forget: leaves the manifest, stays in the tree
//! d origin path mode:u32                   directory, as earlier versions wrote it
//! n origin path mode:u32 mtime_ns:i64      directory
//! l origin path target                     symbolic link
//! f origin path mode:u32 mtime_ns:i64 size:u64 (len:u32 bytes)* 0:u32 size:u64 hash   file; the second size and the
//!                                          hash are those of what was sent
//! t origin path mode:u32 mtime_ns:i64 back:u8 size:u64 hash   file with this content on both sides: only its time is new
//! R len:u32 repository                     the small repository (postcard), once at most
//! E generation                             end: the generation of the tree after
//! ```
//!
//! Paths and targets are a `u16` length and bytes. A path occurs once at most. Deletions come before what they make room
//! for, directories before what lies in them.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::beneath::{self, Beneath};
use super::gitmeta::GitMeta;
use super::stage::Origin;
use crate::plan::delta::{Delta, Touched};
use crate::plan::manifest::{Entry, Generation, Hash, Manifest, RelPath, generation};

/// First bytes of a pack; the digit is its version.
pub(crate) const MAGIC: &[u8] = b"cxpack1\n";

/// The largest piece of a file in one record.
pub(crate) const PIECE: usize = 64 << 10;

/// What a pack holds.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Files sent.
    pub files: u64,
    /// Their bytes, uncompressed.
    pub bytes: u64,
    /// The wanted manifest as actually sent: a file that changed since the scan stands with what was sent, one that
    /// vanished is not in it.
    pub manifest: Manifest,
}

/// Writes the pack that brings a mirror to `want`, reading the changed files below `root`.
///
/// # Errors
/// Those of `out`, and those of reading a file that exists but cannot be read.
pub fn write_pack(root: &Path, delta: &Delta, want: &Manifest, out: &mut dyn Write) -> io::Result<Packed> {
    write_pack_with(root, delta, want, None, out)
}

/// The same, with the small repository that the mirror is to have beside the tree.
///
/// # Errors
/// As [`write_pack`].
pub fn write_pack_with(
    root: &Path,
    delta: &Delta,
    want: &Manifest,
    repository: Option<&GitMeta>,
    out: &mut dyn Write,
) -> io::Result<Packed> {
    let mut tree = Beneath::open(root)?;
    let mut pack = PackWriter::new(out)?;
    if let Some(repository) = repository {
        pack.repository(repository)?;
    }
    let mut other = Vec::new();
    for path in &delta.deletions {
        pack.delete(path)?;
    }
    for path in &delta.forgets {
        pack.forget(path)?;
    }
    for path in &delta.upserts {
        let Some(entry) = want.get(path) else { continue };
        match pack.put(&mut tree, path, entry, Origin::Synced)? {
            Some(sent) => {
                if sent != *entry {
                    other.push((path.clone(), Some(sent)));
                }
            }
            None => {
                // The mirror may hold an older one.
                pack.delete(path)?;
                other.push((path.clone(), None));
            }
        }
    }
    for (path, touched) in &delta.touches {
        if let Some(entry @ Entry::File { .. }) = want.get(path) {
            pack.touch(path, entry, Origin::Synced, *touched)?;
        }
    }
    let manifest = want.with(other);
    let (files, bytes) = (pack.files, pack.bytes);
    pack.end(generation(&manifest))?;
    Ok(Packed {
        files,
        bytes,
        manifest,
    })
}

/// Writes records.
pub(crate) struct PackWriter<'a> {
    out: BufWriter<DeflateEncoder<&'a mut dyn Write>>,
    pub files: u64,
    pub bytes: u64,
}

impl<'a> PackWriter<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        let out = BufWriter::with_capacity(PIECE, DeflateEncoder::new(out, Compression::fast()));
        Ok(PackWriter {
            out,
            files: 0,
            bytes: 0,
        })
    }

    fn repository(&mut self, repository: &GitMeta) -> io::Result<()> {
        let bytes = postcard::to_stdvec(repository).map_err(io::Error::other)?;
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.out.write_all(b"R")?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&bytes)
    }

    pub(crate) fn delete(&mut self, path: &RelPath) -> io::Result<()> {
        self.out.write_all(b"D")?;
        self.text(path.as_bytes())
    }

    pub(crate) fn forget(&mut self, path: &RelPath) -> io::Result<()> {
        self.out.write_all(b"F")?;
        self.text(path.as_bytes())
    }

    /// Writes what stands at `path` in the tree, which is expected to be `entry`. What was sent; `None` where something
    /// of another kind, or nothing, stands there now (then nothing was written).
    pub(crate) fn put(
        &mut self,
        tree: &mut Beneath,
        path: &RelPath,
        entry: &Entry,
        origin: Origin,
    ) -> io::Result<Option<Entry>> {
        match entry {
            Entry::Dir { mode } => {
                // Where it is gone or hidden by now, its time does not matter.
                let stat = tree.stat(path).ok().flatten();
                self.head(b'n', origin, path)?;
                self.out.write_all(&mode.to_le_bytes())?;
                self.out
                    .write_all(&stat.map_or(0, |s| s.mtime_ns).to_le_bytes())?;
                Ok(Some(entry.clone()))
            }
            Entry::Symlink { .. } => {
                let target = match tree.read_link(path) {
                    Ok(target) => target,
                    // Not a link any more.
                    Err(e) if e.kind() == io::ErrorKind::InvalidInput || beneath::is_absent(&e) => {
                        return Ok(None);
                    }
                    Err(e) => return Err(named(tree, path, e)),
                };
                self.head(b'l', origin, path)?;
                self.text(&target)?;
                Ok(Some(Entry::Symlink { target }))
            }
            Entry::File { .. } => {
                let (mut file, stat) = match tree.read(path) {
                    Ok(opened) => opened,
                    Err(e) if beneath::is_absent(&e) => return Ok(None),
                    Err(e) => return Err(named(tree, path, e)),
                };
                let mode = stat.permissions();
                self.head(b'f', origin, path)?;
                self.out.write_all(&mode.to_le_bytes())?;
                self.out.write_all(&stat.mtime_ns.to_le_bytes())?;
                self.out.write_all(&stat.size.to_le_bytes())?;
                let (size, hash) = self.content(&mut file).map_err(|e| named(tree, path, e))?;
                self.files += 1;
                self.bytes += size;
                Ok(Some(Entry::File { mode, size, hash }))
            }
        }
    }

    /// Writes that the file `entry` at `path` got another time.
    pub(crate) fn touch(
        &mut self,
        path: &RelPath,
        entry: &Entry,
        origin: Origin,
        touched: Touched,
    ) -> io::Result<()> {
        let Entry::File { mode, size, hash } = entry else {
            return Ok(());
        };
        self.head(b't', origin, path)?;
        self.out.write_all(&mode.to_le_bytes())?;
        self.out.write_all(&touched.mtime_ns.to_le_bytes())?;
        self.out.write_all(&[u8::from(touched.back)])?;
        self.out.write_all(&size.to_le_bytes())?;
        self.out.write_all(hash)
    }

    fn content(&mut self, file: &mut impl Read) -> io::Result<(u64, Hash)> {
        let mut hasher = blake3::Hasher::new();
        let mut size = 0u64;
        let mut buf = vec![0u8; PIECE];
        loop {
            let n = match file.read(&mut buf) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.out.write_all(&(n as u32).to_le_bytes())?;
            if n == 0 {
                break;
            }
            self.out.write_all(&buf[..n])?;
            hasher.update(&buf[..n]);
            size += n as u64;
        }
        let hash = *hasher.finalize().as_bytes();
        self.out.write_all(&size.to_le_bytes())?;
        self.out.write_all(&hash)?;
        Ok((size, hash))
    }

    /// Ends the pack: the tree is then at `generation`.
    pub(crate) fn end(mut self, generation: Generation) -> io::Result<()> {
        self.out.write_all(b"E")?;
        self.out.write_all(&generation.0)?;
        let deflate = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        deflate.finish()?.flush()
    }

    fn head(&mut self, tag: u8, origin: Origin, path: &RelPath) -> io::Result<()> {
        self.out.write_all(&[tag, origin.to_byte()])?;
        self.text(path.as_bytes())
    }

    fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u16::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(bytes)
    }
}

fn named(tree: &Beneath, path: &RelPath, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", tree.display(path).display()))
}
