//! A witness of the C2SP, made from <https://c2sp.org/tlog-witness> alone. It shares no code with the crate.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

pub(crate) type Root = [u8; 32];

/// The way in which a witness answers.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// As the specification says.
    Honest,
    /// Not at all, until another manner is set.
    Silent,
    /// With these bytes, which may be no HTTP.
    Says(Vec<u8>),
}

/// A log that the witness knows: its keys, and the latest checkpoint that was cosigned.
struct Log {
    keys: Vec<(String, [u8; 4], VerifyingKey)>,
    size: u64,
    root: Root,
}

struct Inner {
    name: String,
    key: SigningKey,
    logs: Mutex<HashMap<String, Log>>,
    manner: Mutex<Manner>,
    /// The status of each answer.
    answered: Mutex<Vec<u16>>,
    /// The requests that have come, answered or not.
    asked: Mutex<usize>,
    is_over: AtomicBool,
}

/// A witness, which listens on a port of its own once it is asked for its URL.
pub(crate) struct TestWitness {
    inner: Arc<Inner>,
    address: SocketAddr,
}

fn sha256(parts: &[&[u8]]) -> Root {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn node(left: &Root, right: &Root) -> Root {
    sha256(&[&[1], left, right])
}

/// The Merkle Tree Hash over hashes of leaves: RFC 6962, section 2.1.
pub(crate) fn root_of(leaves: &[Root]) -> Root {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node(&root_of(left), &root_of(right))
        }
    }
}

/// The id of a key: <https://c2sp.org/signed-note>.
fn key_id(name: &str, kind: u8, key: &VerifyingKey) -> [u8; 4] {
    sha256(&[name.as_bytes(), &[b'\n', kind], key.as_bytes()])[..4].try_into().unwrap()
}

/// RFC 9162, section 2.1.4.2, word for word. Empty proofs are those of the sizes for which the specification asks for
/// none.
pub(crate) fn is_consistent(first: u64, second: u64, roots: (&Root, &Root), proof: &[Root]) -> bool {
    if first == 0 {
        return proof.is_empty();
    }
    if first == second {
        return proof.is_empty() && roots.0 == roots.1;
    }
    let mut path = proof.to_vec();
    if first.is_power_of_two() {
        path.insert(0, *roots.0);
    }
    let (mut number, mut last) = (first - 1, second - 1);
    while number & 1 == 1 {
        (number, last) = (number >> 1, last >> 1);
    }
    let Some((start, rest)) = path.split_first() else { return false };
    let (mut earlier, mut later) = (*start, *start);
    for hash in rest {
        if last == 0 {
            return false;
        }
        if number & 1 == 1 || number == last {
            (earlier, later) = (node(hash, &earlier), node(hash, &later));
            while number & 1 == 0 && number != 0 {
                (number, last) = (number >> 1, last >> 1);
            }
        } else {
            later = node(&later, hash);
        }
        (number, last) = (number >> 1, last >> 1);
    }
    earlier == *roots.0 && later == *roots.1 && last == 0
}

/// A request as it is written.
struct Asked {
    old: u64,
    proof: Vec<Root>,
    origin: String,
    size: u64,
    root: Root,
    /// What was signed, and the signatures: name, id, bytes.
    text: String,
    signatures: Vec<(String, [u8; 4], Vec<u8>)>,
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn hash(text: &str) -> Option<Root> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn parse(body: &str) -> Option<Asked> {
    let (head, note) = body.split_once("\n\n")?;
    let mut lines = head.split('\n');
    let old = number(lines.next()?.strip_prefix("old ")?)?;
    let proof = lines.map(hash).collect::<Option<Vec<_>>>()?;
    let (text, signatures) = note.rsplit_once("\n\n")?;
    let [origin, size, root] = text.split('\n').collect::<Vec<_>>()[..] else { return None };
    let signatures = signatures.strip_suffix('\n')?.split('\n').map(|line| {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(signature).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        Some((name.to_owned(), *id, bytes.to_vec()))
    });
    Some(Asked {
        old,
        proof,
        origin: origin.to_owned(),
        size: number(size)?,
        root: hash(root)?,
        text: format!("{text}\n"),
        signatures: signatures.collect::<Option<_>>()?,
    })
    .filter(|asked| asked.proof.len() <= 63)
}

impl Inner {
    fn answer(&self, body: &str) -> (u16, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        let Some(asked) = parse(body) else { return (400, TEXT, "malformed\n".into()) };
        let mut logs = self.logs.lock().unwrap();
        let Some(log) = logs.get_mut(&asked.origin) else { return (404, TEXT, "unknown log\n".into()) };
        let is_signed = asked.signatures.iter().any(|(name, id, bytes)| {
            let key = log.keys.iter().find(|(known, known_id, _)| known == name && known_id == id);
            let signature = Signature::from_slice(bytes);
            key.is_some_and(|(.., key)| {
                signature.is_ok_and(|it| key.verify(asked.text.as_bytes(), &it).is_ok())
            })
        });
        if !is_signed {
            return (403, TEXT, String::new());
        }
        if asked.old > asked.size {
            return (400, TEXT, "the old size is larger\n".into());
        }
        if asked.old != log.size {
            return (409, "text/x.tlog.size", format!("{}\n", log.size));
        }
        if asked.old == asked.size && asked.old > 0 && asked.root != log.root {
            return (409, TEXT, String::new());
        }
        if !is_consistent(asked.old, asked.size, (&log.root, &asked.root), &asked.proof) {
            return (422, TEXT, String::new());
        }
        (log.size, log.root) = (asked.size, asked.root);
        (200, TEXT, self.cosignature(&asked.text))
    }

    /// <https://c2sp.org/tlog-cosignature>
    fn cosignature(&self, text: &str) -> String {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let signature = self.key.sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
        let id = key_id(&self.name, 4, &self.key.verifying_key());
        let bytes = [&id[..], &time.to_be_bytes(), &signature.to_bytes()].concat();
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes))
    }

    /// Answers requests on a connection until it ends. `None` if it has ended, or is to end.
    fn serve(&self, connection: &TcpStream) -> Option<()> {
        let mut lines = BufReader::new(connection);
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let is_request = line.starts_with("POST ") && line.contains("/add-checkpoint HTTP/1.1");
            let mut length = 0;
            while line != "\r\n" {
                line.clear();
                lines.read_line(&mut line).ok().filter(|read| *read > 0)?;
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            lines.read_exact(&mut body).ok()?;
            *self.asked.lock().unwrap() += 1;
            while matches!(*self.manner.lock().unwrap(), Manner::Silent) {
                if self.is_over.load(Ordering::Relaxed) {
                    return None;
                }
                thread::sleep(Duration::from_millis(5));
            }
            let manner = self.manner.lock().unwrap().clone();
            if let Manner::Says(bytes) = manner {
                let mut connection = connection;
                connection.write_all(&bytes).ok()?;
                return None;
            }
            let answer = match String::from_utf8(body) {
                Ok(body) if is_request => self.answer(&body),
                _ => (404, "text/plain", String::new()),
            };
            self.answered.lock().unwrap().push(answer.0);
            let (status, kind, body) = answer;
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut connection = connection;
            connection.write_all(head.as_bytes()).ok()?;
        }
    }
}

impl TestWitness {
    /// A witness with this name and the key of this seed.
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            key: SigningKey::from_bytes(&[seed; 32]),
            logs: Mutex::default(),
            manner: Mutex::new(Manner::Honest),
            answered: Mutex::default(),
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (shared, connection) = (Arc::clone(&shared), connection.unwrap());
                thread::spawn(move || shared.serve(&connection));
            }
        });
        Self { inner, address }
    }

    /// Lets the witness know a log by its verifier key: `<name>+<id>+<base64>`.
    pub(crate) fn knows(&self, verifier_key: &str) {
        let (name, rest) = verifier_key.split_once('+').unwrap();
        let (id, key) = rest.split_once('+').unwrap();
        let key = STANDARD.decode(key).unwrap();
        let [1, key @ ..] = &*key else { panic!("{verifier_key}") };
        let key = VerifyingKey::from_bytes(key.try_into().unwrap()).unwrap();
        let own = key_id(name, 1, &key);
        assert_eq!(u32::from_str_radix(id, 16).unwrap().to_be_bytes(), own);
        let mut logs = self.inner.logs.lock().unwrap();
        let empty = || Log { keys: Vec::new(), size: 0, root: sha256(&[]) };
        let log = logs.entry(name.to_owned()).or_insert_with(empty);
        log.keys.push((name.to_owned(), own, key));
    }

    pub(crate) fn behaves(&self, manner: Manner) {
        *self.inner.manner.lock().unwrap() = manner;
    }

    /// The submission prefix.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/witness", self.address)
    }

    /// The verifier key of its cosignatures.
    pub(crate) fn verifier_key(&self) -> String {
        let (name, key) = (&self.inner.name, self.inner.key.verifying_key());
        let id = u32::from_be_bytes(key_id(name, 4, &key));
        format!("{name}+{id:08x}+{}", STANDARD.encode([&[4], &key.as_bytes()[..]].concat()))
    }

    /// Its answer to a request, without HTTP: the status, the content type and the body.
    pub(crate) fn answer(&self, body: &str) -> (u16, &'static str, String) {
        self.inner.answer(body)
    }

    /// The statuses of its answers over HTTP since the last time.
    pub(crate) fn answered(&self) -> Vec<u16> {
        std::mem::take(&mut *self.inner.answered.lock().unwrap())
    }

    /// The number of requests over HTTP, answered or not.
    pub(crate) fn asked(&self) -> usize {
        *self.inner.asked.lock().unwrap()
    }

    /// The size and the root of the checkpoint that it has cosigned last.
    pub(crate) fn latest(&self, origin: &str) -> (u64, Root) {
        let logs = self.inner.logs.lock().unwrap();
        (logs[origin].size, logs[origin].root)
    }

    /// A handle on the same witness, for a transport without HTTP.
    pub(crate) fn handle(&self) -> impl FnMut(&str) -> (u16, String) + Send + use<> {
        let inner = Arc::clone(&self.inner);
        move |body| {
            let (status, _, body) = inner.answer(body);
            inner.answered.lock().unwrap().push(status);
            (status, body)
        }
    }
}

impl Drop for TestWitness {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that listens.
        drop(TcpStream::connect(self.address));
    }
}
