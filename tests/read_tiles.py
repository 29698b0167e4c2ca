#!/usr/bin/env python3
"""Reads a published directory of tiles, with hashlib alone, as https://c2sp.org/tlog-tiles says.

    read_tiles.py DIR

It shares no code with the crate. Its output is one JSON object:

    holds      whether everything that a tree of the checkpoint's size has is there, and leads to its root
    why        the first thing that does not hold, or null
    origin, size, root    of the checkpoint
    tiles      the number of tiles that were read, also those of earlier checkpoints
    entries    the number of entries whose data were read, or null if none are published
    partial    the number of directories of partial tiles
    ahead      the number of tiles that lead beyond the checkpoint: of one that is not published yet
    others     files that tlog-tiles does not know

A signature is not verified. The exit code is 0 if it holds, else 1.
"""
import base64
import hashlib
import json
import os
import re
import sys

FULL = 256


class Refused(Exception):
    pass


def need(truth, why):
    if not truth:
        raise Refused(why)


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(hashes):
    """The Merkle Tree Hash of RFC 6962, section 2.1, over hashes of leaves."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    left = 1
    while left * 2 < len(hashes):
        left *= 2
    return node(root_of(hashes[:left]), root_of(hashes[left:]))


def path_of(index):
    parts = []
    while True:
        parts.insert(0, "%03d" % (index % 1000))
        index //= 1000
        if index == 0:
            break
    return "/".join(["x" + part for part in parts[:-1]] + parts[-1:])


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def tile(directory, kind, index, width):
    """The contents of a tile or a bundle of entries. A full one stands in for a partial one."""
    name = os.path.join(directory, "tile", kind, path_of(index))
    for candidate in [name] if width == FULL else ["%s.p/%d" % (name, width), name]:
        if os.path.isfile(candidate):
            return read(candidate), candidate == name
    raise Refused("tile/%s/%s of width %d is not there" % (kind, path_of(index), width))


def hashes_of(directory, level, index, width):
    data, is_full = tile(directory, str(level), index, width)
    need(len(data) == 32 * (FULL if is_full else width), "tile %d %d has another length" % (level, index))
    return [data[at:at + 32] for at in range(0, 32 * width, 32)]


def leaves_of(directory, index, width):
    data, is_full = tile(directory, "entries", index, width)
    leaves, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at:at + 2], "big")
        leaf, at = data[at + 2:at + 2 + length], at + 2 + length
        need(len(leaf) == length, "a bundle of entries is cut off")
        leaves.append(hashlib.sha256(b"\0" + leaf).digest())
    need(len(leaves) == (FULL if is_full else width), "bundle %d has another number of entries" % index)
    return leaves[:width]


def level_of(directory, level, count):
    """All hashes of a level, of which there are as many in a tree."""
    hashes = []
    for index in range(0, (count + FULL - 1) // FULL):
        hashes += hashes_of(directory, level, index, min(FULL, count - index * FULL))
    return hashes


def check(directory, found):
    lines = read(directory, "checkpoint").decode().split("\n")
    need(len(lines) > 4 and lines[3] == "", "the checkpoint has no signatures")
    need(lines[4].startswith("\u2014 " + lines[0] + " "), "the checkpoint is not signed by its log")
    need(re.fullmatch("0|[1-9][0-9]*", lines[1]), "the size is no number")
    found.update(origin=lines[0], size=int(lines[1]), root=lines[2])
    size, levels, level = found["size"], [], 0
    while size >> (8 * level):
        levels.append(level_of(directory, level, size >> (8 * level)))
        level += 1
    leaves = levels[0] if levels else []
    need(base64.b64encode(root_of(leaves)).decode() == lines[2], "the leaves do not lead to the root")
    for level in range(1, len(levels)):
        for index, hash in enumerate(levels[level]):
            below = levels[level - 1][index * FULL:(index + 1) * FULL]
            need(hash == root_of(below), "hash %d of level %d is not that of the tile below" % (index, level))
    if os.path.isdir(os.path.join(directory, "tile", "entries")):
        entries = []
        for index in range(0, (size + FULL - 1) // FULL):
            entries += leaves_of(directory, index, min(FULL, size - index * FULL))
        need(entries == leaves, "the data of the leaves are others")
        found["entries"] = len(entries)
    # Everything else that is there: of earlier checkpoints, of one that is not published yet, and nothing unknown.
    for above, directories, files in os.walk(directory):
        found["partial"] += sum(name.endswith(".p") for name in directories)
        for name in files:
            path = os.path.relpath(os.path.join(above, name), directory)
            known = re.fullmatch(r"tile/(\d|entries)/((?:x\d{3}/)*)(\d{3})(?:\.p/(\d+))?", path)
            if known is None:
                found["others"] += [path] if path != "checkpoint" else []
                continue
            found["tiles"] += 1
            index, width = int((known[2] + known[3]).replace("x", "").replace("/", "")), int(known[4] or FULL)
            if known[1] == "entries":
                own, there = leaves, leaves_of(directory, index, width)
            else:
                own = levels[int(known[1])] if int(known[1]) < len(levels) else []
                there = hashes_of(directory, int(known[1]), index, width)
            own = own[index * FULL:index * FULL + width]
            found["ahead"] += len(own) < width
            need(there[:len(own)] == own and len(there) == width, path)


def main():
    found = {"holds": True, "why": None, "entries": None, "tiles": 0, "partial": 0, "ahead": 0, "others": []}
    try:
        check(sys.argv[1], found)
    except (Refused, OSError, ValueError, IndexError) as why:
        found.update(holds=False, why=str(why))
    print(json.dumps(found))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
