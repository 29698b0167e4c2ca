//! Private keys in files, which nobody else may read.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Origin, PrivateKey};
use crate::platform::{Access, file_open_to_others, open_regular, secret};

/// The most bytes of a file that may hold a key.
const MOST_BYTES: u64 = 4096;

/// Makes a new private key, and a file for it that only the user of this process may read (mode 0600). Its name is the origin of the
/// ledger whose checkpoints it is to sign. A file that exists is not touched.
///
/// ```
/// use tracing_audit::{evidence::{create_key, open_key}, ledger::Origin};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("audit.key");
/// let key = create_key(&path, Origin::new("audit.example.com/payments")?)?;
/// assert_eq!(open_key(&path)?.verifier(), key.verifier());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`is_config`](AuditError::is_config) if there is such a file already, [`is_output`](AuditError::is_output) if it cannot be written.
pub fn create_key(path: impl AsRef<Path>, origin: Origin) -> Result<PrivateKey, AuditError> {
    let path = path.as_ref();
    let mut seed = [0_u8; 32];
    for half in seed.as_chunks_mut::<16>().0 {
        *half = secret().map_err(|cause| {
            AuditError::new(ErrorKind::Store, "the system gives no random bytes for a key").because(cause)
        })?;
    }
    let key = PrivateKey::from_seed(origin, seed);
    let written = Access::Owner.create(path).and_then(|mut file| {
        let written = file.write_all(format!("{}\n", key.to_secret()).as_bytes());
        let written = written.and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a key is of no use to anybody.
            drop(fs::remove_file(path));
        }
        written
    });
    match written {
        Ok(()) => Ok(key),
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
            let message =
                format!("{} is there already, and no key is overwritten: name another file", path.display());
            Err(AuditError::new(ErrorKind::Config, message))
        }
        Err(cause) => {
            let message = format!("cannot write the key to {}", path.display());
            Err(AuditError::new(ErrorKind::Output, message).because(cause))
        }
    }
}

/// Reads a private key from its file: one line that begins with `PRIVATE+KEY+`.
///
/// # Errors
/// [`is_config`](AuditError::is_config) if it cannot be read, if anybody but the user of this process and root may read it or replace
/// what is in it, or if it holds no key.
pub fn open_key(path: impl AsRef<Path>) -> Result<PrivateKey, AuditError> {
    let path = path.as_ref();
    let failed = |cause: std::io::Error| {
        AuditError::new(ErrorKind::Config, format!("cannot read the key {}", path.display())).because(cause)
    };
    let file = open_regular(path).map_err(failed)?;
    if let Some(others) = file_open_to_others(&file).map_err(failed)? {
        let message = format!(
            "the key {} {others}: whoever has read it can sign in its name. Make a new one, or, if nobody has read it, let only the \
             user of this process read it (chmod 600)",
            path.display()
        );
        return Err(AuditError::new(ErrorKind::Config, message));
    }
    let mut line = String::new();
    file.take(MOST_BYTES).read_to_string(&mut line).map_err(failed)?;
    line.parse::<PrivateKey>().map_err(|cause| {
        AuditError::new(ErrorKind::Config, format!("{} holds no key: {cause}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::new("audit.example.com/payments").unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::{PermissionsExt, chown, symlink};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.key");
        create_key(&path, origin()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let link = directory.path().join("link.key");
        symlink(&path, &link).unwrap();
        for (mode, says) in [
            (0o640, "is open to its group (mode 640)"),
            (0o604, "is open to every user (mode 604)"),
            (0o644, "is open to every user (mode 644)"),
            (0o620, "is open to its group"),
            (0o601, "is open to every user"),
        ] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            for path in [&path, &link] {
                let error = open_key(path).unwrap_err();
                assert!(error.is_config() && error.to_string().contains(says), "{error}");
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
        }
        for mode in [0o600, 0o400, 0o700] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(open_key(&link).is_ok(), "{mode:o}");
        }
        // Only root may give a file away.
        if chown(&path, Some(12345), None).is_ok() {
            let error = open_key(&path).unwrap_err().to_string();
            assert!(error.contains("belongs to user 12345"), "{error}");
        }
    }

    #[test]
    fn a_key_is_made_once_for_its_user_alone_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.key");
        let key = create_key(&path, origin()).unwrap();
        assert_eq!(open_key(&path).unwrap().to_secret(), key.to_secret());
        let other = create_key(directory.path().join("other.key"), origin()).unwrap();
        assert_ne!(other.to_secret(), key.to_secret());
        let error = create_key(&path, origin()).unwrap_err();
        assert!(error.is_config() && error.to_string().contains("no key is overwritten"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", key.to_secret()));
        let error = create_key(directory.path().join("none/audit.key"), origin()).unwrap_err();
        assert!(error.is_output(), "{error}");
        for (text, why) in
            [(String::new(), "begins with PRIVATE+KEY+"), (key.verifier().to_string(), "begins with")]
        {
            fs::write(&path, text).unwrap();
            let error = open_key(&path).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(why), "{error}");
        }
        for wrong in [directory.path().join("none"), directory.path().to_owned()] {
            let error = open_key(&wrong).unwrap_err();
            assert!(error.is_config() && error.to_string().contains("cannot read the key"), "{error}");
        }
    }
}
