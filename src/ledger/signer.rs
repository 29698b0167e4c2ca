//! Signers: the holders of a key, who sign checkpoints.

use std::error::Error;

/// Signs checkpoints: a key in a file, a key management service, a device.
pub trait Signer: Send + 'static {
    /// Signs a text. Returns the lines with the signatures, each as `— <name> <base64 of the key's id and the signature>` and a line
    /// feed. It may take seconds: nothing else waits for it.
    ///
    /// # Errors
    ///
    /// If it cannot sign now. Then nothing is published, and it is asked again at the next time.
    fn sign(&mut self, text: &str) -> Result<String, Box<dyn Error + Send + Sync>>;

    /// The verifier keys of these signatures, in the order of their lines.
    fn verifier_keys(&self) -> Vec<String>;
}
