#!/usr/bin/env python3
"""Verifies the ledger of a SQLite file against checkpoints, with the standard library alone.

    verify_db.py FILE ["SIZE ROOT" ...]

It shares no code with the crate, and reads the whole ledger into memory. Its output is one JSON object:

    size       the number of leaf hashes
    root       the root over them, in base64
    modified   numbers of entries that do not fit their leaf hash
    missing    numbers of entries that are gone
    added      numbers of rows at no place of the ledger, or where there was none when the tree was made
    batches    first numbers of batches that do not fit their entries
    nodes      [level, index] of nodes that are not what they are over
    head       whether the head is what the entries lead to
    anchors    for each checkpoint: true, false, or null if it is of more entries than there are
    intact     whether all of that is as it should be

The exit code is 0 if the ledger is intact, else 1. The construction is described in the crate's module `ledger`.
"""
import base64
import hashlib
import json
import sqlite3
import struct
import sys

LABEL = b"tracing-audit/entry@v1\n"
CORE, SESSION, AGENT, RESOURCE_ID, REASON, PROBLEMS, METADATA, MEMBER = range(1, 9)


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def leaf_of(fields, seed):
    """The hash of a leaf with these fields, each a tag and a value, hidden by the salts of this seed."""
    data = [LABEL]
    for number, (tag, value) in enumerate(fields):
        pair = h(b"\3", seed, struct.pack(">H", number // 2))
        salt = pair[16:] if number % 2 else pair[:16]
        data += [bytes([tag]), h(b"\2", bytes([tag]), salt, value)]
    return h(b"\0", *data)


ABSENT = h(b"\0", LABEL)


def seed_of(root, place):
    """The seed of a batch's entry: 24 steps below that of the batch."""
    for bit in reversed(range(24)):
        grown = h(b"\4", root)
        root = grown[16:] if place >> bit & 1 else grown[:16]
    return root


def members(text):
    """The members of a JSON object's text, cut at the commas that are in no string and in nothing inner; or None."""
    if len(text) < 2 or text[:1] != b"{" or text[-1:] != b"}":
        return None
    inside, found, depth, start, at = text[1:-1], [], 0, 0, 0
    if not inside:
        return []
    while at < len(inside):
        byte = inside[at:at + 1]
        if byte == b'"':
            at += 1
            while at < len(inside) and inside[at:at + 1] != b'"':
                at += 2 if inside[at:at + 1] == b"\\" else 1
        elif byte in (b"{", b"["):
            depth += 1
        elif byte in (b"}", b"]"):
            depth = max(0, depth - 1)
        elif byte == b"," and depth == 0:
            found.append(inside[start:at])
            start = at + 1
        at += 1
    found.append(inside[start:])
    return found if len(found) <= 512 else None


def fields_of(row, batch, place):
    """The fields of an entry. A column of another type than a writer stores is an error."""
    (_, id, ts, workspace, session, agent, action, resource, resource_id, decision, reason, risk, metadata, problems) = row
    writer, position, entries, committed_at = batch
    for value, kind in ((id, bytes), (ts, int), (workspace, bytes), (action, bytes), (resource, bytes), (decision, bytes), (metadata, bytes)):
        if not isinstance(value, kind):
            raise ValueError
    core = id + struct.pack(">qq", ts, committed_at) + writer + struct.pack(">Q", position - entries + place + 1) + workspace
    core += b"\0" if risk is None else b"\1" + struct.pack(">d", risk)
    for text in (action, resource, decision):
        core += struct.pack(">I", len(text)) + text
    fields = [(CORE, core)]
    for tag, value in ((SESSION, session), (AGENT, agent), (RESOURCE_ID, resource_id), (REASON, reason), (PROBLEMS, problems)):
        if value is not None:
            fields.append((tag, value))
    parts = members(metadata)
    return fields + ([(METADATA, metadata)] if parts is None else [(MEMBER, part) for part in parts])


def fold(hashes):
    """The root of RFC 6962 over hashes."""
    if not hashes:
        return h(b"")
    while len(hashes) > 1:
        pairs = [h(b"\1", hashes[n], hashes[n + 1]) for n in range(0, len(hashes) - 1, 2)]
        hashes = pairs + hashes[len(hashes) - len(hashes) % 2:]
    return hashes[0]


def frontier(hashes):
    """The roots of the full subtrees, the largest first."""
    found, at = b"", 0
    for bit in reversed(range(64)):
        if len(hashes) >> bit & 1:
            found += fold(hashes[at:at + (1 << bit)])
            at += 1 << bit
    return found


def main(path, checkpoints):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    # Texts as the bytes that they are.
    db.text_factory = bytes
    said = {"modified": [], "missing": [], "added": [], "batches": [], "nodes": []}
    rows = {}
    for row in db.execute("SELECT seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, "
                          "reason, risk_score, metadata, problems FROM tracing_audit_entries ORDER BY seq"):
        rows[row[0]] = row
    batches = {row[0]: row[1:] for row in db.execute(
        "SELECT first_seq, entries, writer, position, committed_at, least_ts, greatest_ts FROM tracing_audit_batches")}
    leaves, spans = [], []
    for first, seeds, hashes in db.execute("SELECT first_seq, seeds, leaves FROM tracing_audit_leaves ORDER BY first_seq"):
        cut = [hashes[at:at + 32] for at in range(0, len(hashes), 32)]
        if first != len(leaves) or len(hashes) % 32:
            said["batches"].append(first)
        spans.append((len(leaves), seeds, cut))
        leaves += cut
    next_seq, size, edge = db.execute("SELECT next_seq, tree_size, frontier FROM tracing_audit_head").fetchone()
    for first, seeds, hashes in spans:
        batch = batches.pop(first, None)
        there = [rows.get(first + place) for place in range(len(hashes))]
        if batch is None or len(seeds) != 16 or batch[0] != len(hashes):
            if len(seeds) or any(hash != ABSENT for hash in hashes):
                said["batches"].append(first)
            said["missing" if len(seeds) else "added"] += [
                first + n for n, row in enumerate(there) if (row is None) == bool(len(seeds)) and (row or hashes[n] != ABSENT)]
            continue
        entries, writer, position, committed_at, least, greatest = batch
        wrong, extra = [], []
        for place, (row, hash) in enumerate(zip(there, hashes)):
            if row is None:
                if hash != ABSENT:
                    said["missing"].append(first + place)
            elif hash == ABSENT:
                extra.append(first + place)
            else:
                try:
                    fits = leaf_of(fields_of(row, (writer, position, entries, committed_at), place), seed_of(seeds, place)) == hash
                except (ValueError, TypeError, struct.error):
                    fits = False
                if not fits:
                    wrong.append(first + place)
        said["added"] += extra
        if len(wrong) > 1 and len(wrong) == sum(row is not None for row in there) - len(extra):
            said["batches"].append(first)
        else:
            said["modified"] += wrong
        times = [row[2] for row in there if row is not None]
        if not wrong and not extra and None not in there and (min(times), max(times)) != (least, greatest):
            said["batches"].append(first)
    # What is not in the tree yet has batches alone.
    said["batches"] += [first for first in batches if first < len(leaves)]
    said["added"] += [seq for seq in rows if not 0 <= seq < max(next_seq, len(leaves))]
    said["missing"] += [seq for seq in range(len(leaves), min(next_seq, len(leaves) + 1000000)) if seq not in rows]
    nodes = {row[:2]: row[2] for row in db.execute("SELECT level, idx, hash FROM tracing_audit_nodes")}
    level, below = 8, leaves
    while len(below) >= 256:
        below = [fold(below[at:at + 256]) for at in range(0, len(below) - len(below) % 256, 256)]
        said["nodes"] += [[level, index] for index, hash in enumerate(below) if nodes.pop((level, index), None) != hash]
        level += 8
    said["nodes"] += [list(place) for place in nodes]
    head = size == len(leaves) and next_seq >= size and edge == frontier(leaves)
    anchors = []
    for checkpoint in checkpoints:
        count, root = checkpoint.split()
        anchors.append(None if int(count) > len(leaves) else fold(leaves[:int(count)]) == base64.b64decode(root))
    intact = head and not any(said.values()) and all(anchors)
    said = {name: sorted(found) for name, found in said.items()}
    print(json.dumps({"size": len(leaves), "root": base64.b64encode(fold(leaves)).decode(), **said, "head": head,
                      "anchors": anchors, "intact": intact}))
    return 0 if intact else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
