"""Read models and compare their digests.

Reads every file of the models, or of all, and compares its SHA-256 with the
one that was taken when it was downloaded. Shows what differs, with -v all
models, and then how many are intact. Models that tensorflow_hub has downloaded
have no digests: of those it only looks whether the files that a SavedModel
needs are there. The exit status is 1 if anything differs and is not downloaded
again.

Examples:
    tfhub-cache verify
    tfhub-cache verify nnlm
    tfhub-cache verify --fix https://tfhub.dev/google/nnlm-en-dim128/2
"""

from __future__ import annotations

import shlex
from collections import Counter

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output

_WORDS = {
    "ok": "intact",
    "differs": "differ",
    "fixed": "downloaded again",
    "unverifiable": "without digests",
    "failed": "failed",
}


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_models(command, "models", nargs="*")
    arguments.add_flag(command, "--fix", "download again what differs; it needs the network")
    arguments.add_jobs(command, "how many files are read at a time")
    arguments.add_report(command, "only the handles of what differs, a line each, and no progress")


def run(options: arguments.Options) -> arguments.Problems:
    """Verifies models."""
    report = output.Report(options)
    found: Counter[str] = Counter()
    for verified in cache.verify(options.models or None, fix=options.fix, jobs=options.jobs):
        result, entry = _result(verified), verified.entry
        found[result] += 1
        report.add(
            word=output.word_of(entry) if entry and result in ("differs", "failed") else "",
            **(output.entry_json(entry) if entry else {"handle": verified.handle}),
            result=result,
            problems=verified.problems,
            error=verified.error and str(verified.error),
        )
        if entry and (options.verbose or result not in ("ok", "unverifiable")):
            report.note(result, f"  {entry.name}")
        for problem in verified.problems:
            report.note(f"    {problem}")
        if entry and result == "differs":
            word = shlex.quote(output.word_of(entry))
            yield f"A model differs. To download it again: tfhub-cache verify --fix {word}"
        elif verified.error is not None:
            yield verified.error
    counts = ", ".join(f"{found[result]} {_WORDS[result]}" for result in _WORDS if found[result])
    report.end(f"{counts}." if counts else output.no_models(), results=found)


def _result(verified: cache.Verified) -> str:
    if verified.error is not None:
        return "failed"
    if verified.problems:
        return "fixed" if verified.fixed else "differs"
    return "ok" if verified.compared else "unverifiable"
