"""Errors, parameters, box geometry, image decoding and tar shards; used by every stage and tool."""
