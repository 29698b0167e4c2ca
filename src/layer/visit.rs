//! Encodes the values of `tracing` as fields of a record, each in its type.

use std::{
    error::Error,
    fmt::{Debug, Write as _},
};

use tracing::field::{Field, Visit};

use crate::entry::{FieldEncoder, Tag, is_debug, is_typed};

/// The most sources of an error that are followed: a chain of sources may run in a circle.
const SOURCES_MAX: usize = 32;

/// Encodes fields: all fields of an event, or only the named ones of a span.
pub(super) struct FieldVisitor<'a> {
    pub(super) encoder: FieldEncoder<'a>,
    pub(super) only: Option<&'a [String]>,
    /// A field that should hold one value and holds the output of `Debug`.
    pub(super) debug: Option<&'static str>,
}

impl<'a> FieldVisitor<'a> {
    pub(super) fn new(encoder: FieldEncoder<'a>, only: Option<&'a [String]>) -> Self {
        Self { encoder, only, debug: None }
    }

    fn wants(&self, field: &Field) -> bool {
        self.only.is_none_or(|names| names.iter().any(|name| name == without_prefix(field.name())))
    }
}

/// The name of a field, without the prefix of a raw identifier (`r#type`).
pub(super) fn without_prefix(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

impl Visit for FieldVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !self.wants(field) {
            return;
        }
        let name = field.name();
        if let Some(text) = self.encoder.formatted(name, |out| write!(out, "{value:?}"))
            && is_typed(name)
            && is_debug(name, text)
        {
            self.debug.get_or_insert(name);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if !self.wants(field) {
            return;
        }
        self.encoder.str(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !self.wants(field) {
            return;
        }
        self.encoder.u64(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if !self.wants(field) {
            return;
        }
        self.encoder.i64(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if !self.wants(field) {
            return;
        }
        self.encoder.f64(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if !self.wants(field) {
            return;
        }
        self.encoder.bool(field.name(), value);
    }

    /// Records the number as text, even if the value would fit: not every JSON reader holds 128-bit numbers.
    fn record_u128(&mut self, field: &Field, value: u128) {
        if !self.wants(field) {
            return;
        }
        self.encoder.text(Tag::Text, field.name(), |out| write!(out, "{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        if !self.wants(field) {
            return;
        }
        self.encoder.text(Tag::Text, field.name(), |out| write!(out, "{value}"));
    }

    /// Records the bytes as text if they are UTF-8, otherwise in hexadecimal.
    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        if !self.wants(field) {
            return;
        }
        match std::str::from_utf8(value) {
            Ok(text) => self.encoder.str(field.name(), text),
            Err(_) => {
                self.encoder.text(Tag::Text, field.name(), |out| {
                    value.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
                });
            }
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        if !self.wants(field) {
            return;
        }
        self.encoder.text(Tag::Text, field.name(), |out| {
            write!(out, "{value}")?;
            let mut source = value.source();
            for _ in 0..SOURCES_MAX {
                let Some(error) = source else { break };
                write!(out, ": {error}")?;
                source = error.source();
            }
            Ok(())
        });
    }

    #[cfg(all(tracing_unstable, feature = "valuable"))]
    fn record_value(&mut self, field: &Field, value: valuable::Value<'_>) {
        if !self.wants(field) {
            return;
        }
        self.encoder.text(Tag::Json, field.name(), |out| {
            let json = serde_json::to_string(&valuable_serde::Serializable::new(value));
            out.write_str(&json.map_err(|_| std::fmt::Error)?)
        });
    }
}
