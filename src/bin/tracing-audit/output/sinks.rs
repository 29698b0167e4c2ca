//! Hashes and compresses an export on its way to the file.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// Counts and hashes the bytes that are written through it.
pub(crate) struct Hashing<W> {
    pub(crate) inner: W,
    pub(crate) hash: Sha256,
    pub(crate) bytes: u64,
}

impl<W> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The hash as hexadecimal digits.
pub(crate) fn hex(hash: &Sha256) -> String {
    let digest = hash.clone().finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

pub(crate) enum GzipIf<W: Write> {
    Plain(io::BufWriter<W>),
    Gzip(io::BufWriter<GzEncoder<W>>),
}

impl<W: Write> GzipIf<W> {
    pub(crate) fn new(inner: W, gzip: bool) -> Self {
        if gzip {
            Self::Gzip(io::BufWriter::new(GzEncoder::new(inner, Compression::default())))
        } else {
            Self::Plain(io::BufWriter::new(inner))
        }
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(plain) => plain.into_inner().map_err(io::IntoInnerError::into_error),
            Self::Gzip(gzip) => gzip.into_inner().map_err(io::IntoInnerError::into_error)?.finish(),
        }
    }
}

impl<W: Write> Write for GzipIf<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
        }
    }

    /// Does nothing: to flush after each ledger would make the compression worse. [`finish`](Self::finish) writes the
    /// rest.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
