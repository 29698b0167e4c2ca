//! SHA-256 of leaves, nodes, commitments and seeds.

use sha2::block_api::compress256;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The root of a tree without leaves: the hash of no bytes.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

// The first byte of what is hashed. No two kinds have the same, so that no message of one kind is one of another.
pub(super) const LEAF: u8 = 0;
pub(super) const NODE: u8 = 1;
pub(super) const COMMITMENT: u8 = 2;
pub(super) const SALTS: u8 = 3;
pub(super) const SEEDS: u8 = 4;
pub(super) const BLIND: u8 = 5;

/// The state before the first block: FIPS 180-4, section 5.3.3.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The bytes of a block that the padding needs: one that ends the message, and eight with its length.
const PADDING: usize = 9;

/// Hashes a message that is complete.
///
/// The messages of a tree are one block or a few. For those the buffering of `sha2::Sha256` costs a fifth to a third of the
/// time, which this function saves by padding on the stack. The compression function is the one of `sha2`.
#[inline]
pub(super) fn sha256(message: &[u8]) -> Hash {
    let (blocks, rest) = message.as_chunks::<64>();
    let mut state = START;
    if !blocks.is_empty() {
        compress256(&mut state, blocks);
    }
    let bits = (message.len() as u64).wrapping_mul(8).to_be_bytes();
    if rest.len() + PADDING <= 64 {
        let mut tail = [[0; 64]; 1];
        pad(tail.as_flattened_mut(), rest, bits);
        compress256(&mut state, &tail);
    } else {
        let mut tail = [[0; 64]; 2];
        pad(tail.as_flattened_mut(), rest, bits);
        compress256(&mut state, &tail);
    }
    bytes_of(state)
}

/// Hashes a message whose length is known when it is compiled.
#[inline]
pub(super) fn sha256_fixed<const N: usize>(message: &[u8; N]) -> Hash {
    sha256_short(message, &[]).unwrap_or_else(|| sha256(message))
}

/// Hashes a message that fits into one block together with its padding. It is given in two parts, the first of a length that is
/// known when it is compiled. Returns `None` if the message is too long.
#[inline]
pub(super) fn sha256_short<const N: usize>(begin: &[u8; N], rest: &[u8]) -> Option<Hash> {
    let length = N + rest.len();
    let mut block = [[0; 64]; 1];
    let [bytes] = &mut block;
    *bytes.first_chunk_mut::<N>()? = *begin;
    bytes.get_mut(N..length)?.copy_from_slice(rest);
    // The byte that ends the message must come before the eight bytes of its length.
    *bytes.get_mut(..56)?.get_mut(length)? = 0x80;
    *bytes.last_chunk_mut::<8>()? = (length as u64 * 8).to_be_bytes();
    let mut state = START;
    compress256(&mut state, &block);
    Some(bytes_of(state))
}

#[inline]
fn bytes_of(state: [u32; 8]) -> Hash {
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

#[inline]
fn pad(tail: &mut [u8], rest: &[u8], bits: [u8; 8]) {
    if let Some((message, padding)) = tail.split_at_mut_checked(rest.len()) {
        message.copy_from_slice(rest);
        if let Some(end) = padding.first_mut() {
            *end = 0x80;
        }
    }
    if let Some(length) = tail.last_chunk_mut::<8>() {
        *length = bits;
    }
}

/// The hash of a node above two others: RFC 6962, section 2.1.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut message = [NODE; 65];
    let (_, hashes) = message.split_at_mut(1);
    let (first, second) = hashes.split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    sha256(&message)
}

/// The hash of a leaf with this data: RFC 6962, section 2.1.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    let mut message = Vec::with_capacity(1 + data.len());
    message.push(LEAF);
    message.extend_from_slice(data);
    sha256(&message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn a_message_of_any_length_has_the_hash_that_sha2_gives() {
        let message: Vec<u8> = (0..=u8::MAX).cycle().take(1100).collect();
        for length in 0..message.len() {
            assert_eq!(
                sha256(&message[..length])[..],
                Sha256::digest(&message[..length])[..],
                "{length} bytes"
            );
        }
        assert_eq!(EMPTY_ROOT, sha256(b""));
    }

    #[test]
    fn a_short_message_in_two_parts_has_the_same_hash_and_a_longer_one_none() {
        for length in 0..80 {
            let rest = vec![7; length];
            let whole = [&[9; 18][..], &rest].concat();
            let expected = (whole.len() + PADDING <= 64).then(|| sha256(&whole));
            assert_eq!(sha256_short(&[9; 18], &rest), expected, "{length} bytes more");
        }
        assert_eq!(sha256_fixed(&[9; 19]), sha256(&[9; 19]));
        assert_eq!(sha256_fixed(&[9; 70]), sha256(&[9; 70]));
    }

    proptest! {
        #[test]
        fn leaves_and_nodes_have_the_first_byte_of_their_kind(data: Vec<u8>, left: Hash, right: Hash) {
            let leaf = [&[0][..], &data].concat();
            prop_assert_eq!(&leaf_hash(&data)[..], &Sha256::digest(leaf)[..]);
            let node = [&[1][..], &left, &right].concat();
            prop_assert_eq!(&node_hash(&left, &right)[..], &Sha256::digest(node)[..]);
        }
    }
}
