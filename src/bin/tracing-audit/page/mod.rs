//! The evidence file: one page that shows entries and verifies them itself in a browser, without a network.
//!
//! | file | what it does |
//! |---|---|
//! | `template.rs` | the beginning of the page, which is the same in every file, and the hashes of its parts |
//! | `statement.rs` | what the file says of itself: what was asked, by whom, when |
//! | `plain.rs` | what is shown without scripts: a plain table |
//! | `writer.rs` | makes the page out of the lines of a bundle |
//! | `contents.rs` | reads the lines of the bundle in a page, and checks its bytes |
//! | `page.html`, `page.css` | the beginning of the page, and its style |
//! | `verify.js`, `show.js` | its script: verifies, shows; `tests/verify_page.js` runs the first part without a browser |
//! | `limits.txt` | what the page cannot tell, a sentence on a line |
//!
//! ```text
//! <!DOCTYPE html> .. policy, style .. <main> "Nothing was verified", until the script has run </main> script
//! <noscript> what was asked, the checkpoint </noscript>
//! <script type="application/jsonl" class="bundle"> lines of the bundle </script>   } as often as
//! <noscript> the same entries in a plain table </noscript>                         } is needed
//! <noscript> what the page cannot tell </noscript>
//! <script type="application/json" id="about" data-sha256=".."> the statement, with the hashes of the parts </script>
//! <!--sha256 .. of all bytes before this line-->
//! ```
//!
//! Where scripts run, a browser takes what is in `noscript` for text, so that it costs next to nothing.

mod contents;
mod plain;
mod statement;
mod template;
mod writer;

pub(crate) use contents::{Contents, is_page};
pub(crate) use statement::Statement;
pub(crate) use writer::Page;
