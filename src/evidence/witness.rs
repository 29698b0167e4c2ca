//! `Witness`: a program elsewhere that cosigns what continues all that it has seen of a ledger.

use std::{error::Error, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, Hash, Note, NoteSignature, SignatureType, VerifierKey};

/// The most bytes of an answer. The signatures of a hundred keys have fewer.
const MOST_BYTES: usize = 64 * 1024;

/// The most characters of an answer, or of what is wrong with it, that are repeated.
const MOST_SHOWN: usize = 200;

/// Carries requests to a witness, such as an HTTP client does.
///
/// Any `FnMut(&str) -> Result<WitnessAnswer, Box<dyn Error + Send + Sync>>` is one.
pub trait WitnessTransport: Send + 'static {
    /// Sends the body of a request `add-checkpoint`, by POST, and gives back the answer, whatever its status is. A
    /// redirect is an answer too, and is not followed. It must end after a time of its own: the notary waits for it. Of
    /// an answer with more than 64 KiB no more need be read.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    fn add_checkpoint(&mut self, body: &str) -> Result<WitnessAnswer, Box<dyn Error + Send + Sync>>;
}

impl<F> WitnessTransport for F
where
    F: FnMut(&str) -> Result<WitnessAnswer, Box<dyn Error + Send + Sync>> + Send + 'static,
{
    fn add_checkpoint(&mut self, body: &str) -> Result<WitnessAnswer, Box<dyn Error + Send + Sync>> {
        self(body)
    }
}

/// The answer of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WitnessAnswer {
    /// The status of HTTP, such as 200.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl WitnessAnswer {
    /// The answer with this status and this body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into() }
    }
}

/// A witness of the [C2SP](https://c2sp.org/tlog-witness): it cosigns a checkpoint only if the ledger was appended to,
/// and nothing else, since the last one that it has cosigned.
///
/// A verifier who asks for its cosignature need not trust the holder of the ledger's key: nobody has two pasts
/// cosigned. No answer is believed but a cosignature that the key verifies.
///
/// ```
/// use std::error::Error;
/// use tracing_audit::{evidence::{Witness, WitnessAnswer}, ledger::VerifierKey};
///
/// let key: VerifierKey = "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs".parse()?;
/// let post = |_body: &str| -> Result<WitnessAnswer, Box<dyn Error + Send + Sync>> {
///     // Here an HTTP client posts the body to https://witness.example/add-checkpoint.
///     Ok(WitnessAnswer::new(404, "unknown log\n"))
/// };
/// let witness = Witness::new("https://witness.example", key, post)?;
/// assert_eq!(witness.name(), "https://witness.example");
/// # Ok::<(), Box<dyn Error>>(())
/// ```
pub struct Witness {
    name: String,
    key: VerifierKey,
    transport: Box<dyn WitnessTransport>,
    /// The size of the tree that it has cosigned last, as far as it has told this process.
    cosigned: u64,
}

/// A request to cosign a checkpoint.
pub(super) struct Request {
    /// The text of the checkpoint without signatures, and its size.
    text: String,
    size: u64,
    /// The size from which the proof leads to it.
    from: u64,
    body: String,
}

/// An answer that is of use.
pub(super) enum Answered {
    /// The cosignature, which was verified.
    Cosigned(NoteSignature),
    /// The witness has last cosigned a tree of this size, and asks for a proof from there.
    From(u64),
}

impl Request {
    /// Asks for a cosignature of a signed checkpoint. The proof is that the tree continues the one of the size `from`.
    pub(super) fn new(checkpoint: &Checkpoint, note: &str, from: u64, proof: &[Hash]) -> Self {
        let hashes: String = proof.iter().flat_map(|hash| [STANDARD.encode(hash), "\n".to_owned()]).collect();
        Self {
            text: checkpoint.to_string(),
            size: checkpoint.size(),
            from,
            body: format!("old {from}\n{hashes}\n{note}"),
        }
    }
}

impl Witness {
    /// The witness with this key, which is asked by this transport. The name is for people: its URL says most.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) if the key signs texts without a time: it is the key of a ledger, and no
    /// witness's.
    pub fn new(
        name: impl Into<String>,
        key: VerifierKey,
        transport: impl WitnessTransport,
    ) -> Result<Self, AuditError> {
        if key.signs() != SignatureType::TextAndTime {
            let message = format!(
                "the key {} is no witness's: it signs no time. A witness's key has type 4, and begins with a B after the last +",
                key.short()
            );
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        Ok(Self { name: name.into(), key, transport: Box::new(transport), cosigned: 0 })
    }

    /// The name that it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key of its cosignatures.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The size of the tree that it has cosigned last, as far as is known. 0 if nothing is.
    pub(super) fn cosigned(&self) -> u64 {
        self.cosigned
    }

    /// Sends a request, and verifies what comes back.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Answered, AuditError> {
        let answer = self.transport.add_checkpoint(&request.body);
        let WitnessAnswer { status, body } = answer.map_err(|cause| {
            let message = format!("the witness {} has not cosigned the checkpoint: no answer", self.name);
            AuditError::new(ErrorKind::Output, message).because(cause)
        })?;
        if body.len() > MOST_BYTES {
            return Err(self.refusal("its answer has more than 64 KiB, and none of a witness has"));
        }
        match status {
            200 => {
                let signature = self.cosignature(request, &body).map_err(|why| self.refusal(&why))?;
                self.cosigned = request.size;
                Ok(Answered::Cosigned(signature))
            }
            409 => self.conflict(request, size_of(&body)),
            422 => Err(self.contradiction(request.from)),
            _ => Err(self.refusal(&refused(status, request, &body))),
        }
    }

    /// The error of a witness that asks for a proof from another size each time.
    pub(super) fn undecided(&self, size: u64) -> AuditError {
        let why = format!(
            "it has asked for a proof from another size twice, now from {size}: more than one notary asks it"
        );
        self.refusal(&why)
    }

    /// The error of a checkpoint that this witness has not cosigned.
    pub(super) fn refusal(&self, why: &str) -> AuditError {
        let message = format!("the witness {} has not cosigned the checkpoint: {why}", self.name);
        AuditError::new(ErrorKind::Output, message)
    }

    /// The error of a witness that has cosigned another tree.
    fn contradiction(&self, size: u64) -> AuditError {
        let message = format!(
            "the witness {} has cosigned another tree of {size} entries, which this ledger does not continue: the ledger was changed \
             or exchanged since, or the key has signed another one. Hold it against a checkpoint that was kept elsewhere: \
             `tracing-audit verify`",
            self.name
        );
        AuditError::new(ErrorKind::Altered, message)
    }

    /// Decides what it means that the witness has cosigned a tree of another size than the proof leads from.
    fn conflict(&self, request: &Request, cosigned: Option<u64>) -> Result<Answered, AuditError> {
        let size = request.size;
        match cosigned {
            Some(more) if more > size => {
                let message = format!(
                    "the witness {} has cosigned a tree of {more} entries, and this one has {size}: the ledger was rolled back, or \
                     another notary is ahead",
                    self.name
                );
                Err(AuditError::new(ErrorKind::Altered, message))
            }
            Some(known) if known != request.from => Ok(Answered::From(known)),
            // The sizes are equal, so the roots are not.
            _ if request.from == size => Err(self.contradiction(size)),
            Some(known) => Err(self.refusal(&format!(
                "it has answered with status 409 and {known}, the size from which the proof leads"
            ))),
            None => Err(self.refusal("it has answered with status 409 and no size")),
        }
    }

    /// The signature by the witness's key in an answer. Signatures by other keys count for nothing.
    fn cosignature(&self, request: &Request, body: &[u8]) -> Result<NoteSignature, String> {
        let unreadable = |why: String| format!("its answer cannot be read: {}", shown(why.chars()));
        let lines = str::from_utf8(body).map_err(|error| unreadable(error.to_string()))?;
        let note = Note::new(&request.text, lines).map_err(|error| unreadable(error.to_string()))?;
        let mut wrong = None;
        for signature in note.signatures().iter().filter(|signature| self.key.is_named_by(signature)) {
            match self.key.verify(&request.text, signature) {
                // A time beyond those of the standard is none.
                Ok(time) if time.is_some_and(|time| i64::try_from(time).is_ok()) => {
                    return Ok(signature.clone());
                }
                Ok(_) => wrong = Some("the time of its signature is beyond all times".to_owned()),
                Err(error) => wrong = Some(error.to_string()),
            }
        }
        Err(wrong.unwrap_or_else(|| {
            let names = note.signatures().iter().map(NoteSignature::name).collect::<Vec<_>>().join(", ");
            format!("none of the signatures is by {}, they are by {}", self.key.short(), shown(names.chars()))
        }))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness")
            .field("name", &self.name)
            .field("key", &self.key.to_string())
            .field("cosigned", &self.cosigned)
            .finish_non_exhaustive()
    }
}

/// The size that an answer with status 409 gives.
fn size_of(body: &[u8]) -> Option<u64> {
    let text = str::from_utf8(body).ok()?;
    let digits = text.strip_suffix('\n').unwrap_or(text);
    digits.parse().ok().filter(|size: &u64| size.to_string() == digits)
}

/// The status by which nothing was cosigned, its reason with the remedy, and what the witness has said.
fn refused(status: u16, request: &Request, body: &[u8]) -> String {
    let origin = request.text.lines().next().unwrap_or_default();
    let why = match status {
        300..400 => ", it is elsewhere: give the URL to which it leads".to_owned(),
        400 => ", it takes the request for malformed".to_owned(),
        403 => format!(", it trusts none of the keys that have signed: give it the verifier key of {origin}"),
        404 => format!(", it does not know {origin}: give it the verifier key, or correct the URL"),
        429 => ", it is asked too often".to_owned(),
        _ => String::new(),
    };
    let said = String::from_utf8_lossy(body.get(..4 * MOST_SHOWN).unwrap_or(body));
    let said = shown(said.trim().chars());
    if said.is_empty() { format!("status {status}{why}") } else { format!("status {status}{why} ({said})") }
}

/// The beginning of a text that somebody else has written, in one line.
fn shown(text: impl Iterator<Item = char>) -> String {
    let mut text = text.map(|c| if c.is_control() { ' ' } else { c });
    let mut begin: String = text.by_ref().take(MOST_SHOWN).collect();
    if text.next().is_some() {
        begin.push('…');
    }
    begin
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{Origin, PrivateKey};

    type Failed = Box<dyn Error + Send + Sync>;

    const TEXT: &str = "audit.example.com/payments\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";

    fn key(name: &str, seed: u8) -> PrivateKey {
        PrivateKey::from_seed(Origin::new(name).unwrap(), [seed; 32])
    }

    fn request(from: u64) -> Request {
        let note = format!("{TEXT}\n{}\n", key("audit.example.com/payments", 1).sign_text(TEXT).unwrap());
        Request::new(&TEXT.parse().unwrap(), &note, from, &[[7; 32]; 2])
    }

    /// The result of a witness that answers so. The size of a proof that it asks for, or the error.
    fn asked(from: u64, status: u16, body: impl Into<Vec<u8>>) -> Result<Option<u64>, AuditError> {
        let answer = WitnessAnswer::new(status, body);
        let transport = move |_: &str| -> Result<WitnessAnswer, Failed> { Ok(answer.clone()) };
        let mut witness =
            Witness::new("https://w.example", key("w.example/w", 2).cosigner(), transport).unwrap();
        let answered = witness.ask(&request(from))?;
        Ok(match answered {
            Answered::Cosigned(signature) => {
                assert_eq!((witness.cosigned(), signature.name()), (7, "w.example/w"));
                None
            }
            Answered::From(size) => Some(size),
        })
    }

    fn cosigned(by: &PrivateKey, text: &str, time: u64) -> String {
        format!("{}\n", by.cosign(text, time).unwrap())
    }

    #[test]
    fn a_request_has_the_size_the_proof_and_the_signed_checkpoint() {
        let body = request(3).body;
        let hash = STANDARD.encode([7; 32]);
        assert!(body.starts_with(&format!("old 3\n{hash}\n{hash}\n\n{TEXT}\n\u{2014} ")), "{body}");
        assert!(body.ends_with('\n'));
        let empty = Request::new(&TEXT.parse().unwrap(), "note\n", 0, &[]).body;
        assert_eq!(empty, "old 0\n\nnote\n");
    }

    #[test]
    fn a_cosignature_of_the_right_key_is_taken_and_everything_else_is_told() {
        let (own, other) = (key("w.example/w", 2), key("w.example/w", 3));
        let good = cosigned(&own, TEXT, 1000);
        let by_other = cosigned(&other, TEXT, 1000);
        for body in [good.clone(), [&*by_other, &good].concat(), [&*good, &by_other].concat()] {
            assert_eq!(asked(3, 200, body).unwrap(), None);
        }
        let changed = TEXT.replace("\n7\n", "\n8\n");
        for (status, body, why) in [
            (200, String::new(), "its answer cannot be read: "),
            (200, "garbage".repeat(1000), "its answer cannot be read: "),
            (200, by_other.clone(), "none of the signatures is by w.example/w+"),
            (200, cosigned(&own, &changed, 1000), "the signature of the key w.example/w+"),
            (200, cosigned(&own, TEXT, 1 << 63), "beyond all times"),
            (200, format!("{}\n", own.sign_text(TEXT).unwrap()), "none of the signatures is by"),
            (200, format!("\n{good}"), "its answer cannot be read: "),
            (200, format!("{good}\u{7}"), "its answer cannot be read: "),
            (200, "x".repeat(1 << 20), "more than 64 KiB"),
            (201, good.clone(), "status 201"),
            (302, String::new(), "give the URL to which it leads"),
            (400, "what\u{1b}[31m\nis this?\n".into(), "(what [31m is this?)"),
            (403, String::new(), "status 403, it trusts none of the keys that have signed"),
            (404, "\n".into(), "status 404, it does not know audit.example.com/payments"),
            (409, String::new(), "status 409 and no size"),
            (409, "3\n".into(), "status 409 and 3, the size from which the proof leads"),
            (409, "03\n".into(), "status 409 and no size"),
            (409, "-1\n".into(), "status 409 and no size"),
            (409, "18446744073709551616\n".into(), "status 409 and no size"),
            (500, "x".repeat(5000), "status 500"),
        ] {
            let error = asked(3, status, body).unwrap_err();
            let said = error.to_string();
            assert!(error.is_output() && said.contains(why), "{status}: {said}");
            assert!(said.contains("the witness https://w.example has not cosigned"), "{said}");
            assert!(said.chars().count() < 600 && !said.contains(char::is_control), "{said}");
        }
        let error = asked(3, 200, vec![0xff; 9]).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }

    #[test]
    fn another_size_is_asked_for_or_says_that_the_ledger_is_another_one() {
        for size in [0, 2, 4, 7] {
            assert_eq!(asked(3, 409, format!("{size}\n")).unwrap(), Some(size));
        }
        for (from, status, body, why) in [
            (
                3,
                409,
                "8\n",
                "has cosigned a tree of 8 entries, and this one has 7: the ledger was rolled back",
            ),
            (3, 409, "18446744073709551615\n", "has cosigned a tree of 18446744073709551615 entries"),
            (7, 409, "7\n", "has cosigned another tree of 7 entries"),
            (7, 409, "", "has cosigned another tree of 7 entries"),
            (3, 422, "", "has cosigned another tree of 3 entries"),
        ] {
            let error = asked(from, status, body).unwrap_err();
            assert!(error.is_altered() && error.to_string().contains(why), "{from} {body:?}: {error}");
        }
    }

    #[test]
    fn a_key_that_signs_no_time_is_refused_and_a_transport_that_fails_is_told() {
        let dead = |_: &str| -> Result<WitnessAnswer, Failed> { Err("no route".into()) };
        let error = Witness::new("w", key("w", 2).verifier(), dead).unwrap_err();
        assert!(error.is_config() && error.to_string().contains("it signs no time"), "{error}");
        let mut witness = Witness::new("w", key("w", 2).cosigner(), dead).unwrap();
        let Err(error) = witness.ask(&request(3)) else { panic!("it has no answer") };
        assert!(error.is_output() && error.source().unwrap().to_string() == "no route", "{error}");
        assert_eq!(witness.cosigned(), 0);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic_or_is_believed(from in 0..9_u64, status: u16, body: Vec<u8>, near in "(\u{2014} w.example/w [A-Za-z0-9+/]{0,120}=?\n){0,3}") {
            for (status, body) in [(status, &*body), (200, &*body), (200, near.as_bytes()), (409, &*body)] {
                prop_assert!(asked(from, status, body).map_or(true, |asked| asked.is_some()));
            }
        }
    }
}
