"""Amounts in two digits and a unit."""

from __future__ import annotations

from workbench import amounts


def test_amounts_are_written_for_people():
    assert amounts.in_bytes(774_030_080 * 4) == "3.1 GB"
    assert amounts.in_bytes(512) == "512 bytes"
    assert [amounts.in_bytes(n) for n in (1.2e12, 82e9, 300e6)] == ["1.2 TB", "82 GB", "300 MB"]
    assert amounts.in_time(42) == "42 s"
    assert amounts.in_time(3 * 3600) == "3.0 h"
    assert amounts.in_time(400 * 86400) == "400 days"
    assert amounts.in_flops(1.35e15) == "1.4 PFLOP"
    assert amounts.in_flops(12e9) == "12 GFLOP"
