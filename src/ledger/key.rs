//! Keys of signed notes: Ed25519, over a text, or over a text and a time.

use std::{
    error::Error,
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::{
    hash::sha256,
    ledger_error::LedgerError,
    note::{NoteSignature, problem_of_name},
    origin::Origin,
    signer::Signer,
};

/// Begins the line of a private key.
const PRIVATE: &str = "PRIVATE+KEY+";

/// Separates the seed of the second key from everything else that is hashed.
const COSIGNER: &[u8] = b"tracing-audit/cosigner@v1\n";

/// The message that a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureType {
    /// The text: `0x01` of the [C2SP](https://c2sp.org/signed-note).
    Text = 1,
    /// The text and the time at which it was signed: a [cosignature](https://c2sp.org/tlog-cosignature), `0x04`.
    TextAndTime = 4,
}

/// The public half of a key, which verifies its signatures.
///
/// `Display` and `FromStr` are a verifier key of the [C2SP](https://c2sp.org/signed-note): the name, the id, and the type with the
/// public key in base64, with a `+` between them.
///
/// ```
/// use tracing_audit::ledger::VerifierKey;
///
/// let key: VerifierKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse()?;
/// assert_eq!(key.name(), "example.com/foo");
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    signs: SignatureType,
    public: VerifyingKey,
}

/// A key that signs checkpoints, and what else a ledger states. Its name is the origin of the ledger.
///
/// It is two keys, made of the same 32 bytes: one that signs texts, and one that signs texts with their time. Nothing prints the
/// private half but [`to_secret`](Self::to_secret).
pub struct PrivateKey {
    origin: Origin,
    log: SigningKey,
    cosigner: SigningKey,
}

fn spelled(id: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// The message that a cosignature signs.
fn with_time(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The type of a key and its 32 bytes, from their base64.
fn typed(base64: &str) -> Result<(u8, [u8; 32]), &'static str> {
    let bytes = STANDARD.decode(base64).map_err(|_| "it is not base64, or not all of it is there")?;
    let (signs, key) = bytes.split_first().ok_or("it has no key")?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| "its key does not have 32 bytes")?;
    Ok((*signs, key))
}

impl VerifierKey {
    fn of(name: &str, signs: SignatureType, public: VerifyingKey) -> Self {
        let mut message = name.as_bytes().to_vec();
        message.extend_from_slice(&[b'\n', signs as u8]);
        message.extend_from_slice(public.as_bytes());
        let [a, b, c, d, ..] = sha256(&message);
        Self { name: name.to_owned(), id: [a, b, c, d], signs, public }
    }

    /// The name. For the key of a ledger it is the origin in its checkpoints.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id, which distinguishes the keys of one name. It is no secret, and no proof.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The message that the key signs.
    #[must_use]
    pub fn signs(&self) -> SignatureType {
        self.signs
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes()
    }

    /// The name and the id, for people.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}+{}", self.name, spelled(self.id))
    }

    /// Whether a signature says that it is by this key.
    #[must_use]
    pub fn is_named_by(&self, signature: &NoteSignature) -> bool {
        self.name == signature.name() && self.id == signature.key_id()
    }

    /// Verifies that this key has signed the text so. Returns the time that the signature has, in seconds since 1970, if it has one.
    ///
    /// # Errors
    ///
    /// [`LedgerError::BadSignature`] if it has not.
    pub fn verify(&self, text: &str, signature: &NoteSignature) -> Result<Option<u64>, LedgerError> {
        let bad = || LedgerError::BadSignature { key: self.short() };
        if !self.is_named_by(signature) {
            return Err(bad());
        }
        let (time, bytes) = match self.signs {
            SignatureType::Text => (None, signature.bytes()),
            SignatureType::TextAndTime => {
                let (time, bytes) = signature.bytes().split_first_chunk().ok_or_else(bad)?;
                (Some(u64::from_be_bytes(*time)), bytes)
            }
        };
        let message = time.map_or_else(|| text.to_owned(), |time| with_time(text, time));
        let bytes = <[u8; 64]>::try_from(bytes).map_err(|_| bad())?;
        let held = self.public.verify_strict(message.as_bytes(), &Signature::from_bytes(&bytes));
        held.map(|()| time).map_err(|_| bad())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.signs as u8][..], self.public.as_bytes()].concat();
        write!(f, "{}+{}", self.short(), STANDARD.encode(key))
    }
}

impl FromStr for VerifierKey {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("verifier key", problem);
        if text.starts_with(PRIVATE) {
            return Err(malformed(
                "it is a private key, which only its owner may have: `tracing-audit key show` prints its verifier key".into(),
            ));
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed(format!(
                "{text:?} does not have the form <name>+<id in hexadecimal digits>+<type and key in base64>"
            )));
        };
        if let Some(problem) = problem_of_name(name) {
            return Err(malformed(problem));
        }
        let (signs, key) = typed(key).map_err(|problem| malformed(format!("{text:?}: {problem}")))?;
        let signs = match signs {
            1 => SignatureType::Text,
            4 => SignatureType::TextAndTime,
            other => {
                return Err(malformed(format!("{text:?}: signatures of type {other} are not known here")));
            }
        };
        let public = VerifyingKey::from_bytes(&key).ok().filter(|public| !public.is_weak());
        let public = public.ok_or_else(|| malformed(format!("{text:?}: it is no key of Ed25519")))?;
        let read = Self::of(name, signs, public);
        if spelled(read.id) == id {
            Ok(read)
        } else {
            Err(malformed(format!(
                "{text:?}: the id of this name and this key is {}: one of them was changed",
                spelled(read.id)
            )))
        }
    }
}

impl PrivateKey {
    /// The key that these 32 bytes make. They must be random, and nobody else may have them.
    #[must_use]
    pub fn from_seed(origin: Origin, seed: [u8; 32]) -> Self {
        let cosigner = SigningKey::from_bytes(&sha256(&[COSIGNER, &seed[..]].concat()));
        Self { origin, log: SigningKey::from_bytes(&seed), cosigner }
    }

    /// The origin of the ledger, which is the name of the key.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The verifier key of the signatures over texts: the one of the log in a trust file.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey::of(self.origin.as_str(), SignatureType::Text, self.log.verifying_key())
    }

    /// The verifier key of the signatures over texts and times: that of a witness in a trust file.
    #[must_use]
    pub fn cosigner(&self) -> VerifierKey {
        VerifierKey::of(self.origin.as_str(), SignatureType::TextAndTime, self.cosigner.verifying_key())
    }

    /// Signs a text.
    ///
    /// # Errors
    ///
    /// None, as long as an [`Origin`] is the name of a key.
    pub fn sign_text(&self, text: &str) -> Result<NoteSignature, LedgerError> {
        let signature: Signature = self.log.sign(text.as_bytes());
        let bytes = [&self.verifier().id()[..], &signature.to_bytes()].concat();
        NoteSignature::from_bytes(self.origin.as_str(), &bytes)
    }

    /// Signs a text and a time, in seconds since 1970. For a checkpoint it says: at that time this was the largest tree.
    ///
    /// # Errors
    ///
    /// The same as those of [`sign_text`](Self::sign_text).
    pub fn cosign(&self, text: &str, time: u64) -> Result<NoteSignature, LedgerError> {
        let signature: Signature = self.cosigner.sign(with_time(text, time).as_bytes());
        let bytes = [&self.cosigner().id()[..], &time.to_be_bytes(), &signature.to_bytes()].concat();
        NoteSignature::from_bytes(self.origin.as_str(), &bytes)
    }

    /// The private key as the line that its file has, without a line feed: a person who has it can sign as the ledger.
    #[must_use]
    pub fn to_secret(&self) -> String {
        let key = [&[SignatureType::Text as u8][..], &self.log.to_bytes()].concat();
        format!("{PRIVATE}{}+{}", self.verifier().short(), STANDARD.encode(key))
    }
}

impl FromStr for PrivateKey {
    type Err = LedgerError;

    /// Reads the line of a private key. A line feed may follow it. No error repeats what was read.
    fn from_str(line: &str) -> Result<Self, LedgerError> {
        let malformed = |problem: &'static str| LedgerError::malformed("private key", problem);
        let line = line.strip_suffix('\n').unwrap_or(line);
        let rest = line.strip_prefix(PRIVATE).ok_or_else(|| {
            malformed("it is not one line that begins with PRIVATE+KEY+: `tracing-audit key new` makes one")
        })?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("it is cut off"));
        };
        let (signs, seed) = typed(key).map_err(malformed)?;
        if signs != SignatureType::Text as u8 {
            return Err(malformed("it is of a type that is not known here"));
        }
        let origin = Origin::new(name).map_err(|_| malformed("its name is no origin of a ledger"))?;
        let read = Self::from_seed(origin, seed);
        if spelled(read.verifier().id()) == id {
            Ok(read)
        } else {
            Err(malformed("its id is not that of its name and its key: one of them was changed"))
        }
    }
}

impl fmt::Debug for PrivateKey {
    /// Shows the verifier key alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("verifier", &self.verifier().to_string()).finish_non_exhaustive()
    }
}

impl Signer for PrivateKey {
    /// Signs the text, and the text with the time of the system's clock.
    fn sign(&mut self, text: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(format!("{}\n{}\n", self.sign_text(text)?, self.cosign(text, now)?))
    }

    fn verifier_keys(&self) -> Vec<String> {
        vec![self.verifier().to_string(), self.cosigner().to_string()]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::super::{batch_statement, note::Note};
    use super::*;

    fn vectors() -> Json {
        serde_json::from_str(include_str!("../../tests/data/ledger/vectors.json")).unwrap()
    }

    fn seed(hex: &Json) -> [u8; 32] {
        bytes(hex.as_str().unwrap()).try_into().unwrap()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        hex.as_bytes().chunks(2).map(byte).collect()
    }

    fn keys(vectors: &Json) -> [PrivateKey; 2] {
        ["seed", "next_seed"].map(|name| {
            let origin = Origin::new(vectors["origin"].as_str().unwrap()).unwrap();
            PrivateKey::from_seed(origin, seed(&vectors["keys"][name]))
        })
    }

    #[test]
    fn keys_and_signatures_are_those_of_the_vectors() {
        let vectors = vectors();
        let [key, next] = keys(&vectors);
        for (of, name) in
            [(key.verifier(), "vkey"), (key.cosigner(), "cosigner_vkey"), (next.verifier(), "next_vkey")]
        {
            let text = vectors["keys"][name].as_str().unwrap();
            assert_eq!(of.to_string(), text);
            assert_eq!(text.parse(), Ok(of));
        }
        let note: Note = vectors["checkpoint"]["note"].as_str().unwrap().parse().unwrap();
        let rotation: Note = vectors["checkpoint"]["rotation"].as_str().unwrap().parse().unwrap();
        let text = note.text();
        assert_eq!(rotation.text(), text);
        let made = [key.sign_text(text).unwrap(), key.cosign(text, 1_764_000_060).unwrap()];
        assert_eq!(note.signatures(), made);
        assert_eq!(key.verifier().verify(text, &made[0]), Ok(None));
        assert_eq!(key.cosigner().verify(text, &made[1]), Ok(Some(1_764_000_060)));
        assert_eq!(rotation.signatures(), [made[0].clone(), next.sign_text(text).unwrap()]);

        let statement = vectors["batch_statement"]["text"].as_str().unwrap();
        let signed = bytes(vectors["batch_statement"]["signature"].as_str().unwrap());
        assert_eq!(key.sign_text(statement).unwrap().to_bytes(), signed);
        let signature = NoteSignature::from_bytes(key.origin().as_str(), &signed).unwrap();
        assert_eq!(key.verifier().verify(statement, &signature), Ok(None));
        // The statement has its form, whatever the leaves are; those of the vectors are compared where they are made.
        let made = batch_statement(key.origin(), 500, &[[0; 32]; 100]);
        let lines = |text: &str| text.lines().take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!((lines(&made), made.lines().count()), (lines(statement), 5));
    }

    /// The keys and the notes of Go's `golang.org/x/mod/sumdb/note`, and the one of the C2SP.
    #[test]
    fn published_notes_are_verified_and_made_again() {
        let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let secret = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let key: PrivateKey = secret.parse().unwrap();
        let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!((key.verifier().to_string(), key.to_secret()), (verifier.to_owned(), secret.to_owned()));
        let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert_eq!(key.sign_text(text).unwrap().to_string(), line);

        let published = &vectors()["published"];
        let note: Note = published["signed_note"].as_str().unwrap().parse().unwrap();
        let key: VerifierKey = published["signed_note_vkey"].as_str().unwrap().parse().unwrap();
        assert_eq!(key.verify(note.text(), &note.signatures()[0]), Ok(None));
        assert_eq!(note.to_string(), published["signed_note"].as_str().unwrap());
    }

    #[test]
    fn no_changed_byte_of_a_text_or_of_a_signature_is_verified() {
        let vectors = vectors();
        let [key, next] = keys(&vectors);
        let text = "audit.example.com/payments\n600\n";
        for (by, signature) in
            [(key.verifier(), key.sign_text(text).unwrap()), (key.cosigner(), key.cosign(text, 7).unwrap())]
        {
            assert!(by.verify(text, &signature).is_ok());
            for at in 0..text.len() {
                let mut changed = text.as_bytes().to_vec();
                changed[at] ^= 1;
                assert!(by.verify(&String::from_utf8(changed).unwrap(), &signature).is_err(), "text {at}");
            }
            let whole = signature.to_bytes();
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                let changed = NoteSignature::from_bytes(by.name(), &changed).unwrap();
                assert!(by.verify(text, &changed).is_err(), "signature {at}");
            }
            for length in 5..whole.len() {
                let cut = NoteSignature::from_bytes(by.name(), &whole[..length]).unwrap();
                assert!(by.verify(text, &cut).is_err(), "{length} bytes");
            }
            let longer = NoteSignature::from_bytes(by.name(), &[&whole[..], &[0]].concat()).unwrap();
            assert!(by.verify(text, &longer).is_err());
            let renamed = NoteSignature::from_bytes("another", &whole).unwrap();
            assert!(by.verify(text, &renamed).is_err());
            for other in [next.verifier(), next.cosigner()] {
                assert!(other.verify(text, &signature).is_err());
                // A signature that claims to be by that key is refused too.
                let forged = [&other.id()[..], signature.bytes()].concat();
                let forged = NoteSignature::from_bytes(other.name(), &forged).unwrap();
                assert!(other.verify(text, &forged).is_err());
            }
        }
    }

    #[test]
    fn a_malformed_key_says_why_and_never_what_is_secret() {
        let key = PrivateKey::from_seed(Origin::new("a.b/c").unwrap(), [7; 32]);
        let verifier = key.verifier().to_string();
        for (wrong, why) in [
            (String::new(), "does not have the form"),
            ("a.b/c".into(), "does not have the form"),
            (verifier.replacen("a.b/c", "", 1), "is empty"),
            (verifier.replacen("a.b/c", "a b", 1), "contains ' '"),
            (verifier.replacen("a.b/c", "a.b/d", 1), "one of them was changed"),
            (verifier.to_uppercase().replacen("A.B/C", "a.b/c", 1), ""),
            (format!("{verifier}\n"), "not base64"),
            (verifier.replacen("+A", "+B", 2), ""),
            (format!("a+00000000+{}", STANDARD.encode([1_u8; 32])), "does not have 32 bytes"),
            (format!("a+00000000+{}", STANDARD.encode([6_u8; 33])), "signatures of type 6 are not known"),
            ("a+00000000+".into(), "it has no key"),
            // A point of a small order, for which almost everything is a signature.
            (
                format!("a+00000000+{}", STANDARD.encode([&[1_u8, 1][..], &[0; 31]].concat())),
                "no key of Ed25519",
            ),
        ] {
            let error = wrong.parse::<VerifierKey>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
        let secret = key.to_secret();
        assert_eq!(format!("{secret}\n").parse::<PrivateKey>().unwrap().to_secret(), secret);
        let base64 = secret.rsplit('+').next().unwrap().to_owned();
        for (wrong, why) in [
            (String::new(), "begins with PRIVATE+KEY+"),
            (verifier.clone(), "begins with PRIVATE+KEY+"),
            (secret.replacen("+a.b/c+", "+a.b/d+", 1), "one of them was changed"),
            (secret.replacen("+a.b/c+", "+a b+", 1), "no origin"),
            (secret.get(..secret.len() - 1).unwrap().to_owned(), "not base64"),
            (secret.get(..20).unwrap().to_owned(), ""),
            (format!("{secret}\n{secret}\n"), "not base64"),
            (format!("{secret}\r\n"), "not base64"),
            ("PRIVATE+KEY+a.b/c".into(), "it is cut off"),
        ] {
            let error = wrong.parse::<PrivateKey>().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains(&base64), "{why}: {error}");
        }
        let error = secret.parse::<VerifierKey>().unwrap_err().to_string();
        assert!(error.contains("private key") && !error.contains(&base64), "{error}");
        let shown = format!("{key:?}");
        assert!(shown.contains(&verifier) && !shown.contains(&base64), "{shown}");
    }

    /// Whether another implementation says that the key has signed this. `None` if it says that this is no note.
    fn verified_elsewhere(note: &[u8], key: &VerifierKey) -> Option<bool> {
        let note = signed_note::Note::from_bytes(note).ok()?;
        let verifier = signed_note::StandardVerifier::new(&key.to_string()).unwrap();
        Some(note.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).is_ok())
    }

    proptest! {
        #[test]
        fn another_implementation_makes_and_verifies_the_same_notes(
            name in "[a-z/.]{1,8}", seed: [u8; 32], text in "[a-z \u{2014}\n]{0,12}\n", spoilt: Option<(usize, u8)>,
        ) {
            let Ok(origin) = Origin::new(name) else { return Ok(()) };
            let key = PrivateKey::from_seed(origin, seed);
            let note = Note::new(&text, &format!("{}\n", key.sign_text(&text).unwrap())).unwrap();
            let mut made = signed_note::Note::new(text.as_bytes(), &[]).unwrap();
            made.add_sigs(&[&signed_note::StandardSigner::new(&key.to_secret()).unwrap()]).unwrap();
            let mut bytes = note.to_string().into_bytes();
            prop_assert_eq!(made.to_bytes(), &*bytes);
            if let Some((at, bit)) = spoilt {
                let at = at % bytes.len();
                bytes[at] ^= 1 << (bit % 8);
            }
            let elsewhere = verified_elsewhere(&bytes, &key.verifier());
            let note = String::from_utf8(bytes).ok().and_then(|text| text.parse::<Note>().ok());
            let here = note.map(|note| key.verifier().verify(note.text(), &note.signatures()[0]).is_ok());
            prop_assert_eq!((here, spoilt.is_none()), (elsewhere, elsewhere == Some(true)));
        }

        #[test]
        fn what_is_signed_is_verified_and_what_is_written_is_read(name in "[a-z/.é]{1,12}", seed: [u8; 32], text: String, time: u64) {
            let Ok(origin) = Origin::new(name) else { return Ok(()) };
            let key = PrivateKey::from_seed(origin, seed);
            prop_assert_eq!(key.to_secret().parse::<PrivateKey>().unwrap().to_secret(), key.to_secret());
            for of in [key.verifier(), key.cosigner()] {
                prop_assert_eq!(of.to_string().parse(), Ok(of));
            }
            prop_assert_eq!(key.verifier().verify(&text, &key.sign_text(&text).unwrap()), Ok(None));
            prop_assert_eq!(key.cosigner().verify(&text, &key.cosign(&text, time).unwrap()), Ok(Some(time)));
        }

        #[test]
        fn no_text_makes_a_reader_panic(any: String, near in "[a+/ ]{0,3}\\+[0-9a-f]{8}\\+A[A-Za-z0-9+/]{43}") {
            for text in [&any, &near, &format!("PRIVATE+KEY+{near}")] {
                drop(text.parse::<PrivateKey>());
                if let Ok(key) = text.parse::<VerifierKey>() {
                    prop_assert_eq!(&key.to_string(), text);
                }
            }
        }
    }
}
