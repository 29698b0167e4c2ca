//! Asks witnesses over HTTP.

use std::{error::Error, io::Read, time::Duration};

use tracing_audit::{
    evidence::{Witness, WitnessAnswer, WitnessTransport},
    ledger::{Trust, VerifierKey},
};
use ureq::{Agent, http::Uri};

use crate::failure::Failure;

/// The most bytes of an answer that are read. One more than a witness's may have.
const MOST_BYTES: u64 = 64 * 1024 + 1;

/// An HTTP client, and the URL to which it posts.
struct Post {
    agent: Agent,
    url: String,
    timeout: Duration,
}

impl WitnessTransport for Post {
    fn add_checkpoint(&mut self, body: &str) -> Result<WitnessAnswer, Box<dyn Error + Send + Sync>> {
        self.post(body).map_err(|error| match error {
            ureq::Error::Timeout(_) => {
                format!("it has not answered within {} s", self.timeout.as_secs()).into()
            }
            other => other.into(),
        })
    }
}

impl Post {
    fn post(&self, body: &str) -> Result<WitnessAnswer, ureq::Error> {
        let mut answer = self.agent.post(&self.url).content_type("text/plain; charset=utf-8").send(body)?;
        let mut bytes = Vec::new();
        answer.body_mut().as_reader().take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(WitnessAnswer::new(answer.status().as_u16(), bytes))
    }
}

/// The witnesses at these URLs with these keys, in the same order, and those that the trust file names with a URL.
pub(super) fn witnesses(
    urls: &[String],
    keys: &[VerifierKey],
    trust: Option<&Trust>,
    timeout: Duration,
) -> Result<Vec<Witness>, Failure> {
    if urls.len() != keys.len() {
        return Err(Failure::Usage(format!(
            "each --witness needs its --witness-key, in the same order: there are {} and {}",
            urls.len(),
            keys.len()
        )));
    }
    let given = urls.iter().map(String::as_str).zip(keys);
    let mut all = given.map(|(url, key)| witness(url, key, timeout)).collect::<Result<Vec<_>, _>>()?;
    for (_, key, url) in trust.into_iter().flat_map(Trust::witnesses) {
        if let Some(url) = url.filter(|_| !keys.contains(key)) {
            all.push(witness(url, key, timeout)?);
        }
    }
    Ok(all)
}

fn witness(url: &str, key: &VerifierKey, timeout: Duration) -> Result<Witness, Failure> {
    if let Some(problem) = problem_of(url) {
        return Err(Failure::Usage(format!("the URL of the witness {} {problem}", key.name())));
    }
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(timeout))
        .user_agent(concat!("tracing-audit/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let prefix = url.trim_end_matches('/');
    let post = Post { agent, url: format!("{prefix}/add-checkpoint"), timeout };
    Ok(Witness::new(prefix, key.clone(), post)?)
}

/// The problem of a URL at which no witness can be asked. It does not repeat the URL, which may hold a password.
fn problem_of(url: &str) -> Option<String> {
    let parsed = match url.parse::<Uri>() {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("is none: {error}")),
    };
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Some("does not begin with https:// or http://".to_owned());
    }
    let authority = parsed.authority().map(ureq::http::uri::Authority::as_str);
    if authority.is_none_or(|authority| authority.contains('@')) {
        return Some("has a name or a password, which no witness asks for".to_owned());
    }
    let has_more = url.contains(['?', '#']);
    has_more.then(|| {
        "has a ? or a #: give the submission prefix, to which /add-checkpoint is appended".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use tracing_audit::ledger::{Origin, PrivateKey};

    use super::*;

    #[test]
    fn a_witness_has_a_url_and_a_key_and_the_trust_file_names_more_of_them() {
        let keys = [1, 2, 3]
            .map(|seed| PrivateKey::from_seed(Origin::new(format!("w.example/{seed}")).unwrap(), [seed; 32]));
        let [first, second, third] = keys.each_ref().map(PrivateKey::cosigner);
        let trust: Trust = format!(
            "log {}\nwitness a {first} http://w.example/a\nwitness b {second} http://w.example/b/\nwitness c {third}\nquorum b",
            keys[0].verifier()
        )
        .parse()
        .unwrap();
        let named = |urls: &[&str], keys: &[VerifierKey]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            let all = witnesses(&urls, keys, Some(&trust), Duration::from_secs(1));
            let names = |all: Vec<Witness>| all.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>();
            all.map(names).map_err(|failure| failure.message())
        };
        assert_eq!(named(&[], &[]).unwrap(), ["http://w.example/a", "http://w.example/b"]);
        // One that was given needs not be asked twice.
        let given = named(&["https://elsewhere.example/"], std::slice::from_ref(&first)).unwrap();
        assert_eq!(given, ["https://elsewhere.example", "http://w.example/b"]);
        for (url, why) in [
            ("", "is none"),
            ("w.example", "does not begin with https://"),
            ("ftp://w.example", "does not begin with https://"),
            ("https://ada:secret@w.example", "has a name or a password"),
            ("https://w.example?a", "has a ? or a #"),
            ("https://w.example/ a", "is none"),
        ] {
            let error = named(&[url], std::slice::from_ref(&first)).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
        let error = named(&["https://w.example"], &[]).unwrap_err();
        assert!(error.contains("there are 1 and 0"), "{error}");
        let error = named(&["https://w.example"], &[keys[0].verifier()]).unwrap_err();
        assert!(error.contains("it signs no time"), "{error}");
    }
}
