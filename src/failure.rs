//! What happens when something fails, and what a service can do about it.
//!
//! # What a service does
//!
//! Health is for readiness probes and for routes that must not run unaudited; the books are for metrics.
