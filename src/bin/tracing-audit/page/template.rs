//! The beginning of the page, which is the same in every file, and the hashes of its parts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use crate::output::hex;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const LIMITS: &str = include_str!("limits.txt");
/// With the sentences of the limits, so that they cannot be left out without another script.
const SCRIPT: &str = concat!(
    include_str!("verify.js"),
    include_str!("show.js"),
    "\nconst LIMITS = `",
    include_str!("limits.txt"),
    "`;\n"
);

/// The program that makes the page, as the page says it.
pub(super) const MADE_WITH: &str = concat!("tracing-audit ", env!("CARGO_PKG_VERSION"));

/// The hash of a text in hexadecimal digits.
pub(super) fn sha256(text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(text);
    hex(&hash)
}

/// The source of a policy that lets this text alone be used.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

/// The policy of the page: it runs its script, and nothing else. It has no network, and no markup can become a script.
fn policy() -> String {
    format!(
        "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        source(SCRIPT),
        source(STYLE)
    )
}

/// Everything before what is of one file alone.
pub(super) fn head() -> String {
    let head = TEMPLATE.replacen("{policy}", &policy(), 1);
    head.replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1)
}

pub(super) fn style_hash() -> String {
    sha256(STYLE)
}

pub(super) fn script_hash() -> String {
    sha256(SCRIPT)
}

/// The limits of what the page can show, in sentences.
pub(super) fn limits() -> impl Iterator<Item = &'static str> {
    LIMITS.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_page_ends_another_and_the_page_asks_nothing_of_a_network() {
        for part in [STYLE, SCRIPT] {
            let part = part.to_ascii_lowercase();
            for end in ["</", "<!--", "\r", "\0", "{policy}", "{style}", "{script}"] {
                assert!(!part.contains(end), "{end:?}");
            }
        }
        let head = head();
        // The script makes the page again from what a browser has read of it.
        assert!(!TEMPLATE.contains('&') && !policy().contains(['&', '"']));
        assert!(["{policy}", "{style}", "{script}"].iter().all(|place| !head.contains(place)));
        // The names of name spaces and of documents are no addresses that are asked.
        let asked = head.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http://",
            "https://",
            "url(",
            "@import",
            "src=",
            "href=",
            "fetch(",
            "XMLHttpRequest",
            "WebSocket",
            "eval(",
        ] {
            assert!(!asked.contains(word), "{word}");
        }
        // The contents that are shown become text, never markup.
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "srcdoc",
            "setHTML",
            "javascript:",
        ] {
            assert!(!asked.contains(word), "{word}");
        }
        assert!(limits().all(|limit| limit.ends_with('.') && !limit.contains(['`', '\\', '$'])));
    }
}
