#!/usr/bin/env python3
"""Makes probes.jsonl beside this file: proofs that hold, and each of them spoilt in every way that is worth a try.

The ways are those of the probes of transparency-dev's Merkle library, and the names of the members are too. The data are made
here, with nothing but hashlib, by the recursive definitions of RFC 6962, section 2.1: no code is shared with what is tested.
"""
import hashlib
import json
import os


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def split(n):
    return 1 << ((n - 1).bit_length() - 1)


def root(leaves):
    if not leaves:
        return h(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return h(b"\1", root(leaves[:k]), root(leaves[k:]))


def inclusion(m, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return inclusion(m, leaves[:k]) + [root(leaves[k:])]
    return inclusion(m - k, leaves[k:]) + [root(leaves[:k])]


def consistency(m, leaves, whole=True):
    if m == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return consistency(m, leaves[:k], whole) + [root(leaves[k:])]
    return consistency(m - k, leaves[k:], False) + [root(leaves[:k])]


def flipped(hashes, at, bit):
    spoilt = bytearray(hashes[at])
    spoilt[0] ^= 1 << bit
    return hashes[:at] + [bytes(spoilt)] + hashes[at + 1:]


def some(proof):
    """The first places of a proof, and the last."""
    return sorted({at for at in (0, 1, 2, len(proof) - 1) if 0 <= at < len(proof)})


LEAVES = [h(b"\0", bytes([n % 256, n // 256])) for n in range(300)]
OTHER = h(b"of no tree")
EMPTY = h(b"")
MOST = (1 << 64) - 1
PROBES = []


def include(desc, index, size, leaf, proof, tree_root, wrong=True):
    PROBES.append({"kind": "inclusion", "desc": desc, "leafIdx": index & MOST, "treeSize": size & MOST, "leafHash": leaf.hex(),
                   "root": tree_root.hex(), "proof": [p.hex() for p in proof], "wantErr": wrong})


def extend(desc, size1, size2, root1, root2, proof, wrong=True):
    PROBES.append({"kind": "consistency", "desc": desc, "size1": size1 & MOST, "size2": size2 & MOST, "root1": root1.hex(),
                   "root2": root2.hex(), "proof": [p.hex() for p in proof], "wantErr": wrong})


for index, size in [(0, 1), (0, 8), (5, 8), (2, 3), (1, 5), (256, 257), (170, 300)]:
    leaf, r, p = LEAVES[index], root(LEAVES[:size]), inclusion(index, LEAVES[:size])
    include("happy path", index, size, leaf, p, r, wrong=False)
    include("leafIdx - 1", index - 1, size, leaf, p, r)
    include("leafIdx + 1", index + 1, size, leaf, p, r)
    include("leafIdx ^ 2", index ^ 2, size, leaf, p, r)
    include("leafIdx with its highest bit", index | 1 << 63, size, leaf, p, r)
    include("treeSize * 2", index, size * 2, leaf, p, r)
    include("treeSize / 2", index, size // 2, leaf, p, r)
    include("treeSize 0", index, 0, leaf, p, r)
    include("treeSize with its highest bit", index, size | 1 << 63, leaf, p, r)
    include("wrong leaf", index, size, OTHER, p, r)
    include("the leaf of another index", index, size, LEAVES[index + 1 if index == 0 else index - 1], p, r)
    include("random root", index, size, leaf, p, OTHER)
    include("empty root", index, size, leaf, p, EMPTY)
    include("empty root and random leaf", index, size, OTHER, p, EMPTY)
    include("trailing garbage", index, size, leaf, p + [OTHER], r)
    include("trailing root", index, size, leaf, p + [r], r)
    include("preceding garbage", index, size, leaf, [OTHER] + p, r)
    include("preceding root", index, size, leaf, [r] + p, r)
    include("preceding leaf", index, size, leaf, [leaf] + p, r)
    for at in some(p):
        include(f"modified proof[{at}] bit 3", index, size, leaf, flipped(p, at, 3), r)
        include(f"removed component {at}", index, size, leaf, p[:at] + p[at + 1:], r)
        include(f"inserted component {at}", index, size, leaf, p[:at] + [OTHER] + p[at:], r)
        if at:
            include(f"exchanged components {at - 1} and {at}", index, size, leaf, p[:at - 1] + [p[at], p[at - 1]] + p[at + 1:], r)
for index, size in [(0, 0), (0, 1), (1, 0), (2, 1)]:
    include("random leaf, empty proof", index, size, OTHER, [], EMPTY)
    include("empty root and leaf", index, size, EMPTY, [], EMPTY, wrong=(index, size) != (0, 1))

for size1, size2 in [(1, 1), (1, 8), (6, 8), (2, 5), (6, 7), (4, 8), (256, 257), (170, 300)]:
    r1, r2, p = root(LEAVES[:size1]), root(LEAVES[:size2]), consistency(size1, LEAVES[:size2])
    extend("happy path", size1, size2, r1, r2, p, wrong=False)
    extend("trailing garbage", size1, size2, r1, r2, p + [OTHER])
    extend("preceding garbage", size1, size2, r1, r2, [OTHER] + p)
    extend("preceding root1", size1, size2, r1, r2, [r1] + p)
    extend("preceding root2", size1, size2, r1, r2, [r2] + p)
    extend("trailing root1", size1, size2, r1, r2, p + [r1])
    extend("trailing root2", size1, size2, r1, r2, p + [r2])
    extend("wrong root1", size1, size2, OTHER, r2, p)
    extend("wrong root2", size1, size2, r1, OTHER, p)
    extend("size2 with its highest bit", size1, size2 | 1 << 63, r1, r2, p)
    extend("size1 with its highest bit", size1 | 1 << 63, size2, r1, r2, p)
    extend("sizes exchanged", size2 + 1, size1, r1, r2, p)
    extend("size2 / 2", size1, size2 // 2, r1, r2, p)
    if size1 == size2:
        continue
    extend("size2 * 2", size1, size2 * 2, r1, r2, p)
    extend("size1 - 1", size1 - 1, size2, r1, r2, p)
    extend("size1 + 1", size1 + 1, size2, r1, r2, p)
    extend("size1 ^ 2", size1 ^ 2, size2, r1, r2, p)
    extend("size1 0", 0, size2, r1, r2, p)
    extend("swapped roots", size1, size2, r2, r1, p)
    extend("empty proof", size1, size2, r1, r2, [])
    extend("truncated proof", size1, size2, r1, r2, p[:-1])
    extend("proof without its first hash", size1, size2, r1, r2, p[1:])
    for at in some(p):
        extend(f"modified proof[{at}] bit 4", size1, size2, r1, r2, flipped(p, at, 4))
        extend(f"preceding proof[{at}]", size1, size2, r1, r2, [p[at]] + p)
        extend(f"removed component {at}", size1, size2, r1, r2, p[:at] + p[at + 1:])
        extend(f"inserted component {at}", size1, size2, r1, r2, p[:at] + [OTHER] + p[at:])
for size1, size2, r1, r2, p, wrong, desc in [
    (0, 0, EMPTY, EMPTY, [], False, "the empty tree is consistent with itself"),
    (0, 1, EMPTY, LEAVES[0], [], False, "every tree begins with the empty one"),
    (0, 0, EMPTY, OTHER, [], True, "sizes are equal (zero) but roots are not"),
    (0, 0, OTHER, OTHER, [], True, "sizes are zero, and the root is another than that of the empty tree"),
    (0, 1, OTHER, LEAVES[0], [], True, "size1 is zero, and its root is another than that of the empty tree"),
    (0, 0, EMPTY, EMPTY, [EMPTY], True, "sizes match (zero) but proof is not empty"),
    (0, 1, EMPTY, EMPTY, [EMPTY], True, "size1 is zero but proof is not empty"),
    (1, 1, OTHER, OTHER, [], False, "sizes are equal (one) and proof is empty"),
    (1, 1, OTHER, EMPTY, [], True, "sizes are equal (one) but roots are not"),
    (1, 1, OTHER, OTHER, [OTHER], True, "sizes match (one) but proof is not empty"),
    (1, 0, OTHER, EMPTY, [], True, "size1 is greater than size2"),
    (2, 1, OTHER, OTHER, [], True, "size1 is greater than size2 again"),
    (1, 2, OTHER, LEAVES[0], [], True, "sizes do not match and proof is empty"),
]:
    extend(desc, size1, size2, r1, r2, p, wrong)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "probes.jsonl"), "w", encoding="utf-8") as out:
    for probe in PROBES:
        out.write(json.dumps(probe, separators=(",", ":")) + "\n")
print(len(PROBES), "probes,", sum(not p["wantErr"] for p in PROBES), "of them hold")
