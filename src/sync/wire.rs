//! A manifest on its way between the two sides: postcard, deflated.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::plan::manifest::Manifest;

/// The most that a manifest may unfold to.
const MAX: u64 = 1 << 30;

/// A manifest as bytes.
///
/// # Errors
/// None that memory does not give.
pub fn manifest_bytes(manifest: &Manifest) -> io::Result<Vec<u8>> {
    let plain = postcard::to_stdvec(manifest).map_err(io::Error::other)?;
    let mut out = DeflateEncoder::new(Vec::new(), Compression::fast());
    out.write_all(&plain)?;
    out.finish()
}

/// Reads it back.
///
/// # Errors
/// `InvalidData` for anything that is not a manifest, or that unfolds past a gigabyte.
pub fn manifest_from_bytes(bytes: &[u8]) -> io::Result<Manifest> {
    let mut plain = Vec::new();
    DeflateDecoder::new(bytes).take(MAX).read_to_end(&mut plain)?;
    postcard::from_bytes(&plain)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("not a manifest: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::manifest::{Entry, RelPath};

    #[test]
    fn a_manifest_survives_the_wire_and_a_hostile_one_does_not() {
        let mut m = Manifest::new();
        m.insert(RelPath::new("a/b").unwrap(), Entry::Dir { mode: 0o755 });
        m.insert(
            RelPath::new(vec![0xff]).unwrap(),
            Entry::Symlink {
                target: b"/x".to_vec(),
            },
        );
        let bytes = manifest_bytes(&m).unwrap();
        assert_eq!(manifest_from_bytes(&bytes).unwrap(), m);
        assert!(manifest_from_bytes(b"nonsense").is_err());
        let mut out = DeflateEncoder::new(Vec::new(), Compression::fast());
        // One entry whose path leaves the tree.
        out.write_all(&[1, 4, b'.', b'.', b'/', b'x', 2, 0]).unwrap();
        assert!(manifest_from_bytes(&out.finish().unwrap()).is_err());
    }
}
