"""The disk of the store is full at any point: the message says so and what to do, and with room the Job goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def run_out_of_disk(folder, commands, shares):
    told = [str(share) for share in shares]
    done = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--mount",
            sys.executable,
            "-m",
            "support.full_disk",
            str(folder),
            *commands,
            "--",
            *told,
        ],
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'hack'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line.removeprefix("DISK ")) for line in done.stdout.splitlines() if line.startswith("DISK ")]
    assert len(lines) == len(shares)
    return lines


def check(line, commands):
    if line["failed"] is not None:
        assert (line["code"], line["reason"]) == (10, "StoreFull"), line
        assert "raise spec.storage.size" in line["message"]
        assert line["whole"] == [], "half an artifact is none"
    assert line["again"] == [0] * len(commands), line
    assert line["same"], line


def test_a_store_that_is_full_while_fetching(tmp_path):
    lines = run_out_of_disk(tmp_path, ["fetch"], [0.0, 0.5, 0.9])
    for line in lines:
        check(line, ["fetch"])
    assert any(line["failed"] for line in lines)


@pytest.mark.soak
def test_a_store_that_is_full_at_any_point(tmp_path):
    commands = ["fetch", "optimize"]
    lines = run_out_of_disk(tmp_path, commands, [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
    for line in lines:
        check(line, commands)
    assert {line["failed"] for line in lines} >= {"fetch", "optimize"}
    sys.stderr.write(f"\ndisk full at {len(lines)} points: {[line['failed'] for line in lines]}, all recovered\n")
