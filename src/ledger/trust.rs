//! Trust: whose signatures a checkpoint must have.

use std::{ops::Range, str::FromStr};

use super::{
    checkpoint::Checkpoint,
    key::{SignatureType, VerifierKey},
    ledger_error::LedgerError,
    note::Note,
    noted::{NotedCheckpoint, Trusts},
};

/// The keys that a verifier trusts: which may sign checkpoints of which ledger, and how many witnesses must have signed too.
///
/// `FromStr` reads a policy of the [C2SP](https://c2sp.org/tlog-policy), such as
///
/// ```text
/// log audit.example.com/payments+0cde8dab+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
/// quorum none
/// ```
///
/// Each `log` is a key that may sign, and its name is the origin of the ledger. Keys that follow each other are bounded by a comment of
/// this crate's own on the line before, which other programs skip. The first one here may sign trees of fewer than 120 000
/// entries, the second one all that are not smaller:
///
/// ```text
/// # tracing-audit: sizes 0..120000
/// log audit.example.com/payments+0cde8dab+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
/// # tracing-audit: sizes 120000..
/// log audit.example.com/payments+f6f2852e+ASmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X
/// quorum none
/// ```
///
/// Without the bound, a person who gets hold of a key that is not in use any more could sign another past with it.
#[derive(Clone, Debug)]
pub struct Trust {
    logs: Vec<Log>,
    members: Vec<Member>,
    /// The place of the quorum among the members. `None` if no witness is asked for.
    quorum: Option<usize>,
}

#[derive(Clone, Debug)]
struct Log {
    key: VerifierKey,
    sizes: Range<u64>,
}

/// A witness, or a group of witnesses and groups.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    /// A key, and the URL at which the witness is asked, if it has one.
    Witness(Box<VerifierKey>, Option<String>),
    /// At least this number of these members, which all stand before the group.
    Group(usize, Vec<usize>),
}

/// A signed checkpoint whose signatures were verified: see [`Trust::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedCheckpoint {
    checkpoint: Checkpoint,
    keys: Vec<VerifierKey>,
    time: Option<u64>,
}

impl Trust {
    /// Trust in one key alone, for trees of any size.
    #[must_use]
    pub fn in_key(key: VerifierKey) -> Self {
        Self { logs: vec![Log { key, sizes: 0..u64::MAX }], members: Vec::new(), quorum: None }
    }

    /// The lines of a trust file that let a key sign trees from a size on, and below another one if that is given.
    #[must_use]
    pub fn lines_of(key: &VerifierKey, from: u64, until: Option<u64>) -> String {
        let until = until.map(|until| until.to_string()).unwrap_or_default();
        format!("# tracing-audit: sizes {from}..{until}\nlog {key}\n")
    }

    /// The witnesses that it names, in the order of their lines: the name, the key, and the URL if there is one.
    /// Whether the URL is that at which the witness is asked, the writer of the file knows.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &VerifierKey, Option<&str>)> {
        self.members.iter().filter_map(|member| match &member.rule {
            Rule::Witness(key, url) => Some((&*member.name, &**key, url.as_deref())),
            Rule::Group(..) => None,
        })
    }

    /// Verifies the signatures of a checkpoint.
    ///
    /// # Errors
    ///
    /// [`LedgerError::BadSignature`] if one by a known key does not hold, [`LedgerError::UnknownKey`] if none is by a key that is trusted
    /// for the origin, [`LedgerError::KeyOutOfInterval`] if only such have signed as may not sign a tree of this size,
    /// [`LedgerError::Unwitnessed`] if witnesses are missing, [`LedgerError::Malformed`] if the text is no checkpoint.
    pub fn open(&self, note: &Note) -> Result<OpenedCheckpoint, LedgerError> {
        let checkpoint: Checkpoint = note.text().parse()?;
        let origin = checkpoint.origin().as_str();
        let (mut keys, mut time, mut out_of_interval) = (Vec::new(), None::<u64>, None);
        for log in &self.logs {
            // This is checked also for the key of another log: a signature by a known key must be valid.
            let times = verified(&log.key, note)?;
            if times.is_empty() || log.key.name() != origin {
                continue;
            }
            if log.sizes.contains(&checkpoint.size()) {
                keys.push(log.key.clone());
                time = times.into_iter().fold(time, Ord::max);
            } else {
                out_of_interval.get_or_insert(log);
            }
        }
        if keys.is_empty() {
            return Err(match out_of_interval {
                Some(Log { key, sizes }) => LedgerError::KeyOutOfInterval {
                    key: key.short(),
                    size: checkpoint.size(),
                    from: sizes.start,
                    until: Some(sizes.end).filter(|end| *end != u64::MAX),
                },
                None => LedgerError::UnknownKey { origin: origin.to_owned(), signed_by: signed_by(note) },
            });
        }
        let mut hold: Vec<bool> = Vec::new();
        for member in &self.members {
            let holds = match &member.rule {
                Rule::Witness(key, _) => {
                    let times = verified(key, note)?;
                    let has_signed = !times.is_empty();
                    keys.extend(Some(&**key).filter(|_| has_signed).cloned());
                    time = times.into_iter().fold(time, Ord::max);
                    has_signed
                }
                Rule::Group(least, of) => {
                    of.iter().filter(|member| hold.get(**member) == Some(&true)).count() >= *least
                }
            };
            hold.push(holds);
        }
        match self.quorum.filter(|quorum| hold.get(*quorum) != Some(&true)) {
            None => Ok(OpenedCheckpoint { checkpoint, keys, time }),
            Some(quorum) => {
                let quorum = self.members.get(quorum).map(|member| member.name.clone()).unwrap_or_default();
                Err(LedgerError::Unwitnessed { quorum })
            }
        }
    }
}

impl Trusts for Trust {
    /// Trusts a checkpoint whose signatures are those that [`open`](Trust::open) asks for.
    fn trusts(&self, noted: &NotedCheckpoint) -> Result<(), LedgerError> {
        let Some(note) = noted.note() else {
            let origin = noted.checkpoint().origin().to_string();
            return Err(LedgerError::UnknownKey { origin, signed_by: Vec::new() });
        };
        self.open(note).map(drop)
    }
}

/// Verifies all signatures that say that they are by this key. Returns the time of each, if it has one.
fn verified(key: &VerifierKey, note: &Note) -> Result<Vec<Option<u64>>, LedgerError> {
    let by_key = note.signatures().iter().filter(|signature| key.is_named_by(signature));
    by_key.map(|signature| key.verify(note.text(), signature)).collect()
}

/// The keys that a note says it is signed by.
fn signed_by(note: &Note) -> Vec<String> {
    let short = |id: [u8; 4]| format!("{:08x}", u32::from_be_bytes(id));
    let mut names: Vec<String> = Vec::new();
    for signature in note.signatures() {
        let name = format!("{}+{}", signature.name(), short(signature.key_id()));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl OpenedCheckpoint {
    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The keys that have signed it, of the ledger and of witnesses.
    #[must_use]
    pub fn keys(&self) -> &[VerifierKey] {
        &self.keys
    }

    /// The latest time, in seconds since 1970, at which a trusted key says that it has signed. `None` if none of them says a time.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        self.time
    }
}

/// A trust file, as far as it was read.
#[derive(Default)]
struct Reading {
    logs: Vec<Log>,
    members: Vec<Member>,
    /// The members that are in a group.
    used: Vec<bool>,
    quorum: Option<usize>,
    has_quorum: bool,
    /// The sizes that the comment on the line before bounds.
    sizes: Option<Range<u64>>,
}

impl FromStr for Trust {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("trust file", problem);
        let mut reading = Reading::default();
        for (number, line) in (1_usize..).zip(text.split('\n')) {
            reading.line(line).map_err(|problem| malformed(format!("line {number}: {problem}")))?;
        }
        let Reading { logs, members, quorum, has_quorum, sizes, .. } = reading;
        if sizes.is_some() {
            return Err(malformed("the sizes at its end are of no log".into()));
        }
        if logs.is_empty() {
            return Err(malformed("it has no line `log` with a verifier key".into()));
        }
        if !has_quorum {
            let problem = "it has no line `quorum`: if no witness is asked for, add `quorum none`";
            return Err(malformed(problem.into()));
        }
        Ok(Self { logs, members, quorum })
    }
}

impl Reading {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.chars().find(|c| c.is_ascii_control() && *c != '\t') {
            None => {}
            Some('\r') => return Err("it ends with a carriage return: save it with line feeds alone".into()),
            Some(wrong) => return Err(format!("it contains the control character {wrong:?}")),
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let is_comment = words.first().is_none_or(|first| first.starts_with('#'));
        if self.sizes.is_some() && (is_comment || words.first() != Some(&"log")) {
            return Err(
                "the line after the comment with sizes must be that of the log which they bound".into()
            );
        }
        if is_comment {
            self.sizes = sizes(&words.join(" "))?;
            return Ok(());
        }
        match words.as_slice() {
            ["log", key] | ["log", key, _] => self.log(key),
            ["witness", name, key] => self.witness(name, key, None),
            ["witness", name, key, url] => self.witness(name, key, Some(url)),
            ["group", name, least, of @ ..] => self.group(name, least, of),
            ["quorum", name] => self.quorum(name),
            [known @ ("log" | "witness" | "quorum" | "group"), ..] => {
                Err(format!("`{known}` has another number of words: see https://c2sp.org/tlog-policy"))
            }
            _ => Err("it begins with none of `log`, `witness`, `group` and `quorum`".into()),
        }
    }

    fn log(&mut self, key: &str) -> Result<(), String> {
        let key: VerifierKey = key.parse().map_err(|error: LedgerError| error.to_string())?;
        if self.logs.iter().any(|log| log.key.public() == key.public()) {
            return Err(format!("the key {} is there twice", key.short()));
        }
        let sizes = self.sizes.take().unwrap_or(0..u64::MAX);
        self.logs.push(Log { key, sizes });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&str>) -> Result<(), String> {
        let key: VerifierKey = key.parse().map_err(|error: LedgerError| error.to_string())?;
        if key.signs() != SignatureType::TextAndTime {
            return Err(format!("the key {} is no witness's: it signs no time", key.short()));
        }
        let is_same = |member: &Member| matches!(&member.rule, Rule::Witness(known, _) if known.public() == key.public());
        if self.members.iter().any(is_same) {
            return Err(format!("the key {} is there twice", key.short()));
        }
        self.add(name, Rule::Witness(Box::new(key), url.map(str::to_owned)))
    }

    fn group(&mut self, name: &str, least: &str, of: &[&str]) -> Result<(), String> {
        let of = of.iter().map(|member| self.used_once(member)).collect::<Result<Vec<_>, _>>()?;
        let least = match least {
            "all" => of.len(),
            "any" => 1,
            number => number.parse().map_err(|_| format!("{number:?} is not all, any or a number"))?,
        };
        if least == 0 || least > of.len() {
            return Err(format!("a group of {} cannot be held by {least} of them", of.len()));
        }
        self.add(name, Rule::Group(least, of))
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.has_quorum {
            return Err("there is a quorum already".into());
        }
        self.quorum = if name == "none" { None } else { Some(self.place(name)?) };
        self.has_quorum = true;
        Ok(())
    }

    fn add(&mut self, name: &str, rule: Rule) -> Result<(), String> {
        if name == "none" || self.members.iter().any(|member| member.name == name) {
            return Err(format!("the name {name:?} is taken"));
        }
        self.members.push(Member { name: name.to_owned(), rule });
        self.used.push(false);
        Ok(())
    }

    fn place(&self, name: &str) -> Result<usize, String> {
        let place = self.members.iter().position(|member| member.name == name);
        place.ok_or_else(|| format!("there is no witness and no group {name:?} before it"))
    }

    /// The place of a member that is in no group yet.
    fn used_once(&mut self, name: &str) -> Result<usize, String> {
        let place = self.place(name)?;
        match self.used.get_mut(place) {
            Some(used) if !*used => {
                *used = true;
                Ok(place)
            }
            _ => Err(format!("{name:?} is in a group already")),
        }
    }
}

/// The sizes that a comment of this crate's gives. `None` for a comment of others.
fn sizes(comment: &str) -> Result<Option<Range<u64>>, String> {
    let own = comment.trim_start_matches('#').split_once(':');
    let Some((_, rest)) = own.filter(|(name, _)| name.trim().eq_ignore_ascii_case("tracing-audit")) else {
        return Ok(None);
    };
    let bounds = rest.trim().strip_prefix("sizes ").and_then(|sizes| sizes.trim().split_once(".."));
    let read = bounds.and_then(|(from, until)| {
        let until = if until.is_empty() { Some(u64::MAX) } else { until.parse().ok() };
        Some(from.parse().ok()?..until?)
    });
    match read {
        Some(sizes) if !sizes.is_empty() => Ok(Some(sizes)),
        _ => Err(format!("{:?} is not of the form `sizes 0..120000` or `sizes 120000..`", rest.trim())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::super::{key::PrivateKey, origin::Origin};
    use super::*;

    const ORIGIN: &str = "audit.example.com/payments";

    fn vectors() -> Json {
        serde_json::from_str(include_str!("../../tests/data/ledger/vectors.json")).unwrap()
    }

    fn key(number: u8) -> PrivateKey {
        PrivateKey::from_seed(Origin::new(ORIGIN).unwrap(), [number; 32])
    }

    fn named(name: &str, number: u8) -> PrivateKey {
        PrivateKey::from_seed(Origin::new(name).unwrap(), [number; 32])
    }

    fn trust(text: &str) -> Trust {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn text(size: u64) -> String {
        format!("{ORIGIN}\n{size}\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
    }

    /// The checkpoint of this size, signed by these keys, and cosigned by others at their time.
    fn note(size: u64, by: &[&PrivateKey], cosigned: &[(&PrivateKey, u64)]) -> Note {
        let text = text(size);
        let mut lines = String::new();
        for key in by {
            lines.extend([key.sign_text(&text).unwrap().to_string(), "\n".into()]);
        }
        for (key, time) in cosigned {
            lines.extend([key.cosign(&text, *time).unwrap().to_string(), "\n".into()]);
        }
        Note::new(&text, &lines).unwrap()
    }

    #[test]
    fn the_checkpoints_of_the_vectors_are_opened_and_no_changed_one_is() {
        let vectors = vectors();
        let [vkey, cosigner, next] =
            ["vkey", "cosigner_vkey", "next_vkey"].map(|name| vectors["keys"][name].as_str().unwrap());
        let whole = vectors["checkpoint"]["note"].as_str().unwrap();
        let alone = trust(&format!("log {vkey}\nquorum none\n"));
        let both = trust(&format!("log {vkey}\nwitness own {cosigner}\nquorum own"));
        let noted: NotedCheckpoint = whole.parse().unwrap();
        for (trust, keys, time) in [(&alone, 1, None), (&both, 2, Some(1_764_000_060))] {
            let opened = trust.open(&whole.parse::<Note>().unwrap()).unwrap();
            assert_eq!(trust.trusts(&noted), Ok(()));
            assert_eq!((opened.checkpoint().size(), opened.keys().len(), opened.time()), (600, keys, time));
        }
        let rotation: Note = vectors["checkpoint"]["rotation"].as_str().unwrap().parse().unwrap();
        let after = trust(&format!(
            "# tracing-audit: sizes 0..600\nlog {vkey}\n# tracing-audit: sizes 600..\nlog {next}\nquorum none\n"
        ));
        let opened = after.open(&rotation).unwrap();
        assert_eq!(opened.keys().iter().map(ToString::to_string).collect::<Vec<_>>(), [next]);
        let error = after.open(&whole.parse::<Note>().unwrap()).unwrap_err();
        assert!(
            matches!(error, LedgerError::KeyOutOfInterval { size: 600, until: Some(600), .. }),
            "{error}"
        );

        let bare: NotedCheckpoint = noted.checkpoint().clone().into();
        let error = alone.trusts(&bare).unwrap_err();
        assert!(error.to_string().ends_with("has signed the checkpoint; it is not signed"), "{error}");
        let error = after.trusts(&noted).unwrap_err();
        assert!(matches!(error, LedgerError::KeyOutOfInterval { .. }), "{error}");

        // Every byte, each changed in one bit: it is no note, or is not signed so.
        for at in 0..whole.len() {
            let mut changed = whole.as_bytes().to_vec();
            changed[at] ^= 1;
            let note = String::from_utf8(changed).ok().and_then(|text| text.parse::<Note>().ok());
            assert!(note.is_none_or(|note| both.open(&note).is_err()), "byte {at}");
        }
        for lines in 3..whole.lines().count() {
            let cut: String = whole.lines().take(lines).flat_map(|line| [line, "\n"]).collect();
            assert!(!cut.parse::<Note>().is_ok_and(|note| both.open(&note).is_ok()), "{lines} lines");
        }
    }

    #[test]
    fn an_old_key_another_key_and_the_key_of_another_log_are_told_apart() {
        let (old, new) = (key(1), key(2));
        let rotated = trust(&format!(
            "{}{}quorum none\n",
            Trust::lines_of(&old.verifier(), 0, Some(100)),
            Trust::lines_of(&new.verifier(), 100, None)
        ));
        for (size, by, accepted) in [
            (0, &[&old][..], true),
            (99, &[&old], true),
            (100, &[&old], false),
            (100, &[&new], true),
            (100, &[&old, &new], true),
            (i64::MAX as u64, &[&new], true),
            (i64::MAX as u64, &[&old], false),
            (99, &[&new], false),
        ] {
            match rotated.open(&note(size, by, &[])) {
                Ok(opened) => assert!(accepted && opened.keys().len() == 1, "{size}"),
                Err(error) => {
                    assert!(
                        !accepted && matches!(error, LedgerError::KeyOutOfInterval { .. }),
                        "{size}: {error}"
                    );
                    assert!(error.to_string().contains(&format!("a tree of {size} entries")), "{error}");
                }
            }
        }
        // The keys have the same name, another name, and a trusted name that is not the origin.
        for by in [key(3), named("audit.example.com/other", 4)] {
            let error = rotated.open(&note(7, &[&by], &[])).unwrap_err();
            assert!(
                matches!(&error, LedgerError::UnknownKey { signed_by, .. } if *signed_by == [by.verifier().short()])
            );
            // Together with a signature that is trusted it counts as nobody's.
            assert_eq!(rotated.open(&note(7, &[&by, &old], &[])).unwrap().keys(), [old.verifier()]);
        }
        let other = named("audit.example.com/other", 4);
        let of_two = trust(&format!("log {}\nlog {}\nquorum none", old.verifier(), other.verifier()));
        let error = of_two.open(&note(7, &[&other], &[])).unwrap_err();
        assert!(matches!(error, LedgerError::UnknownKey { .. }), "{error}");
        // A wrong signature by a known key counts, together with right ones too.
        let wrong = note(8, &[&old], &[]).signatures()[0].to_string();
        let lines = format!("{}\n{wrong}\n", old.sign_text(&text(7)).unwrap());
        let error = rotated.open(&Note::new(&text(7), &lines).unwrap()).unwrap_err();
        assert_eq!(error, LedgerError::BadSignature { key: old.verifier().short() });
        // A text that is signed well and is no checkpoint of a ledger.
        let lines = format!("{}\n", old.sign_text("a note\n").unwrap());
        let error = rotated.open(&Note::new("a note\n", &lines).unwrap()).unwrap_err();
        assert!(matches!(error, LedgerError::Malformed { what: "checkpoint", .. }), "{error}");
    }

    #[test]
    fn a_quorum_asks_for_as_many_witnesses_as_it_says() {
        let log = key(1);
        let witnesses = [named("w.example/a", 11), named("w.example/b", 12), named("w.example/c", 13)];
        let line = |(name, key): (&str, &PrivateKey)| {
            format!("  witness\t{name}  {} https://w.example/{name}\n", key.cosigner())
        };
        let lines = ["a", "b", "c"].into_iter().zip(&witnesses).map(line).collect::<Vec<_>>().concat();
        let named = trust(&format!("log {}\n{lines}group g any a\nquorum none", log.verifier()));
        let named: Vec<_> = named.witnesses().map(|(name, key, url)| (name, key.clone(), url)).collect();
        let urls = ["a", "b", "c"].map(|name| format!("https://w.example/{name}"));
        let keys = witnesses.each_ref().map(PrivateKey::cosigner);
        let expected: Vec<_> = ["a", "b", "c"].into_iter().zip(keys).zip(&urls).collect();
        let expected: Vec<_> =
            expected.into_iter().map(|((name, key), url)| (name, key, Some(&**url))).collect();
        assert_eq!(named, expected);
        for (quorum, enough) in [
            ("quorum a", &[1, 3, 5, 7][..]),
            ("group g any a b\nquorum g", &[1, 2, 3, 5, 6, 7]),
            ("group g all a b c\nquorum g", &[7]),
            ("group g 2 a b c\nquorum g", &[3, 5, 6, 7]),
            ("group g all a b\ngroup h any g c\nquorum h", &[3, 4, 5, 6, 7]),
            ("quorum none", &[0, 1, 2, 3, 4, 5, 6, 7]),
        ] {
            let trust = trust(&format!(
                "# whom we trust\n{lines}\nlog {} https://a.example\n{quorum}\n",
                log.verifier()
            ));
            for signed in 0..8_usize {
                let at = |n: usize| (&witnesses[n], 1000 + n as u64);
                let cosigned: Vec<_> = (0..3).filter(|n| signed >> n & 1 == 1).map(at).collect();
                match trust.open(&note(7, &[&log], &cosigned)) {
                    Ok(opened) => {
                        assert!(enough.contains(&signed), "{quorum}: {signed}");
                        assert_eq!(opened.time(), cosigned.last().map(|(_, time)| *time));
                        assert_eq!(opened.keys().len(), 1 + cosigned.len());
                    }
                    Err(error) => {
                        assert!(!enough.contains(&signed), "{quorum}: {signed}: {error}");
                        assert!(matches!(error, LedgerError::Unwitnessed { .. }), "{error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_malformed_trust_file_says_which_line_is_wrong() {
        let (log, witness) = (key(1).verifier(), key(1).cosigner());
        let secret = key(1).to_secret();
        for (lines, why) in [
            (String::new(), "no line `log`"),
            ("quorum none".into(), "no line `log`"),
            (format!("log {log}"), "add `quorum none`"),
            (format!("log {log}\r\nquorum none"), "line 1: it ends with a carriage return"),
            (format!("log {log}\u{b}\nquorum none"), "line 1: it contains the control character '\\u{b}'"),
            (format!("\n\nlog {log}x\nquorum none"), "line 3: malformed verifier key"),
            (format!("log {log}\nquorum none\nquorum none"), "line 3: there is a quorum already"),
            (format!("log {log}\nlog {log}\nquorum none"), "is there twice"),
            (format!("log {log}\nwitness w {log}\nquorum w"), "it signs no time"),
            (format!("log {log}\nwitness a {witness}\nwitness b {witness}\nquorum a"), "is there twice"),
            (format!("log {log}\nwitness none {witness}\nquorum none"), "is taken"),
            (format!("log {log}\nwitness a {witness}\ngroup a any a\nquorum a"), "is taken"),
            (
                format!("log {log}\nquorum w\nwitness w {witness}"),
                "line 2: there is no witness and no group \"w\"",
            ),
            (format!("log {log}\nwitness a {witness}\ngroup g any a a\nquorum g"), "in a group already"),
            (format!("log {log}\nwitness a {witness}\ngroup g 2 a\nquorum g"), "cannot be held by 2"),
            (format!("log {log}\nwitness a {witness}\ngroup g 0 a\nquorum g"), "cannot be held by 0"),
            (format!("log {log}\nwitness a {witness}\ngroup g most a\nquorum g"), "not all, any or a number"),
            (format!("log {log}\ngroup g any\nquorum g"), "cannot be held by 1"),
            (format!("log {log}\nwitness a {witness}\ngroup a"), "another number of words"),
            (format!("log {log} b c\nquorum none"), "another number of words"),
            (format!("trust {log}\nquorum none"), "begins with none of"),
            (format!("LOG {log}\nquorum none"), "begins with none of"),
            (format!("log {secret}\nquorum none"), "it is a private key"),
        ] {
            let error = lines.parse::<Trust>().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains(&secret), "{lines}: {error}");
        }
    }

    #[test]
    fn sizes_that_bound_no_key_are_never_passed_over() {
        let log = key(1).verifier();
        for (lines, why) in [
            (
                format!("# tracing-audit: sizes 0..9\nquorum none\nlog {log}"),
                "line 2: the line after the comment",
            ),
            (
                format!("# tracing-audit: sizes 0..9\n\nlog {log}\nquorum none"),
                "line 2: the line after the comment",
            ),
            (format!("log {log}\nquorum none\n# tracing-audit: sizes 0..9"), "of no log"),
            (
                format!("# tracing-audit: size 0..9\nlog {log}\nquorum none"),
                "line 1: \"size 0..9\" is not of the form",
            ),
            (format!("#Tracing-Audit:  sizes 9..9\nlog {log}\nquorum none"), "is not of the form"),
            (format!("# tracing-audit: sizes ..9\nlog {log}\nquorum none"), "is not of the form"),
            (format!("# tracing-audit: sizes 0-9\nlog {log}\nquorum none"), "is not of the form"),
        ] {
            let error = lines.parse::<Trust>().unwrap_err().to_string();
            assert!(error.contains(why), "{lines}: {error}");
        }
        // Comments of others, and spaces anywhere.
        trust(&format!("#\n # sizes 0..9\n\t# tracing-audit sizes\n\tlog \t{log} \n \nquorum none \n"));
    }

    proptest! {
        #[test]
        fn a_key_signs_exactly_the_sizes_that_its_lines_say(from in 0..50_u64, until in prop::option::of(0..50_u64), size in 0..60_u64) {
            let key = key(1);
            let lines = Trust::lines_of(&key.verifier(), from, until) + "quorum none";
            let within = size >= from && until.is_none_or(|until| size < until);
            match lines.parse::<Trust>() {
                Ok(trust) => prop_assert_eq!(trust.open(&note(size, &[&key], &[])).is_ok(), within),
                Err(error) => prop_assert!(until.is_some_and(|until| until <= from), "{}", error),
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(any: String, near in "((log|witness|group|quorum|# tracing-audit: sizes) [ a-z0-9+.]{0,20}\n){0,4}") {
            for text in [any, near] {
                prop_assert!(text.parse::<Trust>().is_err());
            }
        }
    }
}
