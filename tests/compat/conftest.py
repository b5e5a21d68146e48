"""Fixtures for running the same program with both libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from servers import Host
from two_programs import LIBRARIES, PROGRAM, Both, Program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("tensorflow_hub") is None:
        for item in items:
            if PROGRAM.parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="tensorflow_hub is not installed"))


@pytest.fixture(scope="session")
def programs(
    tmp_path_factory: pytest.TempPathFactory, ca_pem: Path
) -> Iterator[Mapping[str, Program]]:
    """The program with each of the libraries; both are started at once, as it takes seconds."""
    folder = tmp_path_factory.mktemp("programs")
    # tensorflow_hub reads the first, when it is imported; requests reads the second.
    env = {"SSL_CERT_FILE": str(ca_pem), "REQUESTS_CA_BUNDLE": str(ca_pem)}
    started: dict[str, Program] = {}
    try:
        for library in LIBRARIES:
            started[library] = Program(library, folder, env)
        yield started
    finally:
        for program in started.values():
            program.end()


@pytest.fixture
def both(programs: Mapping[str, Program], tmp_path: Path, host: Host) -> Both:
    """The two programs, in empty folders."""
    return Both(programs, tmp_path, host)
