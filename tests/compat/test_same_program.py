"""The same program with tensorflow_hub and with tfhub_cache sees the same.

Two processes serve all tests here, so with pytest-xdist use `--dist loadgroup`.
"""

from __future__ import annotations

import dataclasses
import shutil
import socket
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import models
import pytest
import trustme
from entries import key_of
from models import member
from servers import (
    Host,
    Proxy,
    archive,
    cut,
    gcs_folder,
    in_turn,
    redirect,
    stall,
    status,
    web_page,
)
from two_programs import LIBRARIES, OURS, THEIRS, Both, Seen, tree

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("compat")]

FILES = models.fake_model(size=20_000)
SENTENCES = ["the cat sat", "", "größe 犬 unheard"]


@dataclasses.dataclass(frozen=True)
class Case:
    """Something that the program does.

    Attributes:
        do: a function of the program; or, where only the handle matters, how the handle is made.
        env: settings; {home} is the folder that the program runs in.
        arguments: for the function.
        words: what an error's message holds, with both libraries.
        verbatim: whether an error's message is the same to the letter.
        files: what lies in the folder that the program runs in.
    """

    do: str = "resolve"
    handle: Callable[[Host], Any] | Any = None
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    words: tuple[str, ...] = ()
    verbatim: bool = False
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def run(both: Both, library: str, host: Host, case: Case) -> Seen:
    models.write_files(case.files, both.home(library))
    handle = case.handle(host) if callable(case.handle) else case.handle
    arguments = dict(case.arguments) | ({} if case.do == "settings" else {"handle": handle})
    return both.run(library, case.do, env=case.env, **arguments)


def compare(both: Both, host: Host, case: Case) -> Seen:
    """Runs a case with both libraries, and holds what they see against each other."""
    theirs, ours = (run(both, library, host, case) for library in LIBRARIES)
    assert ours.value == theirs.value
    assert ours.family == theirs.family, (ours.error, theirs.error)
    # What may be a secret is not shown here.
    assert ours.milestones == [line.replace("?token=abc&b=1", "") for line in theirs.milestones]
    # What arrives damaged is asked for twice here.
    assert list(dict.fromkeys(ours.asked)) == list(dict.fromkeys(theirs.asked))
    assert tree(both.home(OURS)) == tree(both.home(THEIRS))
    assert (theirs.error is not None) == bool(case.words or case.verbatim), theirs.error
    for words in case.words:
        assert words in theirs.text
        assert words in ours.text
    if case.verbatim:
        assert ours.text.startswith(theirs.text)  # what to do may follow
    return ours


def page(**packing: Any) -> Callable[[Host], str]:
    return lambda host: host.publish("/google/spice/2", models.pack_files(FILES, **packing))


def with_member(name: str, *args: Any, **kwargs: Any) -> Callable[[Host], str]:
    return page(extra_members=[member(name, *args, **kwargs)])


def answer(handler: Any) -> Callable[[Host], str]:
    return lambda host: host.route("/google/spice/2", handler)


def redirected(code: int) -> Callable[[Host], str]:
    def make(host: Host) -> str:
        target = host.route("/stored/spice.tar.gz", archive(models.pack_files(FILES)))
        return host.route("/google/spice/2", redirect(target, code))

    return make


def at(path: str, query: str = "", **packing: Any) -> Callable[[Host], str]:
    return lambda host: host.route(path, archive(models.pack_files(FILES, **packing))) + query


GOOD = {
    "a page of the protocol": Case(handle=page()),
    "members without ./": Case(handle=page(dot_slash=False)),
    "a plain tar": Case(handle=at("/m.tar", compression=None)),
    "a tar.gz": Case(handle=at("/m.tar.gz")),
    "a tgz": Case(handle=at("/m.tgz")),
    "bzip2 under another name": Case(handle=at("/m.tgz", compression="bz2")),
    "xz under another name": Case(handle=at("/m.tar", compression="xz")),
    "a handle with a query": Case(handle=at("/m.tar.gz", "?token=abc&b=1")),
    "a handle without a version": Case(handle=at("/google/spice")),
    "a handle with a slash at its end": Case(handle=at("/google/spice/2/")),
    "302": Case(handle=redirected(302)),
    "301": Case(handle=redirected(301)),
    "303": Case(handle=redirected(303)),
    "307": Case(handle=redirected(307)),
    "308": Case(handle=redirected(308)),
    "no length": Case(
        handle=answer(archive(models.pack_files(FILES), framing="close", ranges=False))
    ),
    "chunked": Case(handle=answer(archive(models.pack_files(FILES), framing="chunked"))),
    "content encoding that labels the archive": Case(
        handle=answer(archive(models.pack_files(FILES), content_encoding="gzip"))
    ),
    "a file that comes twice": Case(handle=with_member("./saved_model.pb", data=b"later")),
    "an absolute member": Case(handle=with_member("/assets/extra.txt", data=b"inside")),
    "an absolute member with many slashes": Case(handle=with_member("///extra.txt", data=b"in")),
    "a member with .. that stays inside": Case(handle=with_member("assets/../x.txt", data=b"in")),
    "an absolute folder": Case(handle=with_member("/more", tarfile.DIRTYPE, mode=0o755)),
    "an empty folder": Case(handle=with_member("./empty/", tarfile.DIRTYPE, mode=0o755)),
    "members with strange rights": Case(handle=with_member("./script", data=b"#!", mode=0o4777)),
    "a name of several scripts": Case(handle=with_member("./größe 犬.txt", data=b"!")),
    "a long name": Case(handle=with_member(f"./{'long-' * 40}name", data=b"!")),
    "a relative cache folder": Case(handle=page(), env={"TFHUB_CACHE_DIR": "models/of/mine"}),
    "a relative cache folder with dots": Case(
        handle=page(), env={"TFHUB_CACHE_DIR": "./a/../b"}, files={"a/x": b""}
    ),
    "a cache folder with a slash at its end": Case(
        handle=page(), env={"TFHUB_CACHE_DIR": "{home}/cache/"}
    ),
    "a file:// cache folder": Case(handle=page(), env={"TFHUB_CACHE_DIR": "file://{home}/c"}),
    "a cache folder with spaces": Case(handle=page(), env={"TFHUB_CACHE_DIR": "{home}/größe 犬"}),
    "the default cache folder": Case(
        handle=page(), env={"TFHUB_CACHE_DIR": "", "TMPDIR": "{home}"}
    ),
    "load format COMPRESSED": Case(handle=page(), env={"TFHUB_MODEL_LOAD_FORMAT": "COMPRESSED"}),
    "load format AUTO": Case(handle=page(), env={"TFHUB_MODEL_LOAD_FORMAT": "AUTO"}),
    "a local folder": Case(handle="model", files={"model/saved_model.pb": b""}),
    "a local folder with a slash": Case(handle="model/", files={"model/saved_model.pb": b""}),
    "a local folder with dots": Case(handle="./a/../model", files={"model/x": b"", "a/x": b""}),
    "a local file": Case(handle="model.tar.gz", files={"model.tar.gz": b""}),
    "the current folder": Case(handle="."),
    "the root": Case(handle="/"),
    "the root with file://": Case(handle="file:///"),
    "a local folder in uncompressed mode": Case(
        handle="model",
        files={"model/x": b""},
        env={"TFHUB_MODEL_LOAD_FORMAT": "UNCOMPRESSED"},
    ),
    "a resolver that the program brings": Case(
        do="custom_resolver",
        handle="team://m",
        arguments={"prefix": "team://", "path": "/mnt/m"},
    ),
    "a resolver that takes http": Case(
        do="custom_resolver",
        handle="https://kaggle.invalid/m",
        arguments={"prefix": "kaggle", "path": "/mnt/m"},
    ),
    "a resolver that does not support the handle": Case(
        do="custom_resolver", handle=page(), arguments={"prefix": "team://", "path": "/mnt/m"}
    ),
    "settings as a resolver asks for them": Case(do="settings"),
    "default settings as a resolver asks for them": Case(
        do="settings", env={"TFHUB_CACHE_DIR": "", "TMPDIR": "{home}"}
    ),
}

BAD = {
    "404": Case(handle=answer(status(404)), words=("404",)),
    "403": Case(handle=answer(status(403)), words=("403",)),
    "401": Case(handle=answer(status(401)), words=("401",)),
    "410": Case(handle=answer(status(410)), words=("410",)),
    "a web page": Case(handle=answer(web_page()), words=("does not appear to be a valid module",)),
    "an empty answer": Case(
        handle=answer(status(200, {"Content-Type": "application/gzip"})),
        words=("does not appear to be a valid module",),
    ),
    "half an archive": Case(
        handle=answer(archive(models.pack_files(FILES)[:10_000])),
        words=("does not appear to be a valid module",),
    ),
    "half a plain archive": Case(
        handle=answer(archive(models.pack_files(FILES, compression=None)[:10_000])),
        words=("does not appear to be a valid module",),
    ),
    "a member that escapes": Case(
        handle=with_member("../escaped", data=b"!"), words=("'../escaped'", "is invalid")
    ),
    "a member that escapes on a detour": Case(
        handle=with_member("a/../../escaped", data=b"!"),
        words=("'a/../../escaped'", "is invalid"),
    ),
    "an absolute member that escapes": Case(
        handle=with_member("/../escaped", data=b"!"), words=("'/../escaped'", "is invalid")
    ),
    "a folder that escapes": Case(
        handle=with_member("../folder", tarfile.DIRTYPE, mode=0o755),
        words=("'../folder'", "is invalid"),
    ),
    "a symbolic link": Case(
        handle=with_member("./link", tarfile.SYMTYPE, linkname="saved_model.pb"),
        words=("Unexpected object type in tar archive",),
    ),
    "a hard link": Case(
        handle=with_member("./link", tarfile.LNKTYPE, linkname="./saved_model.pb"),
        words=("Unexpected object type in tar archive",),
    ),
    "a device": Case(
        handle=with_member("./null", tarfile.CHRTYPE),
        words=("Unexpected object type in tar archive",),
    ),
    "a pipe": Case(
        handle=with_member("./pipe", tarfile.FIFOTYPE),
        words=("Unexpected object type in tar archive",),
    ),
    "a local folder that is not there": Case(handle="nothing/here", verbatim=True),
    "an absolute folder that is not there": Case(handle="/nothing/here", verbatim=True),
    "a file:// folder that is not there": Case(handle="file:///nothing/here", verbatim=True),
    "a ram:// folder that is not there": Case(handle="ram://nothing/here", verbatim=True),
    "an empty handle": Case(handle="", words=("does not exist.",)),
    "a tilde, which is no home": Case(handle="~/nothing", words=("~/nothing does not exist.",)),
    "uncompressed: 200": Case(
        handle=answer(status(200, body="gs://b/m")),
        env={"TFHUB_MODEL_LOAD_FORMAT": "UNCOMPRESSED"},
        words=("Expected 303 See other HTTP response but received code 200",),
    ),
    "uncompressed: 404": Case(
        handle=page(),
        env={"TFHUB_MODEL_LOAD_FORMAT": "UNCOMPRESSED"},
        words=("Expected 303 See other HTTP response but received code 404",),
    ),
    "uncompressed: another place": Case(
        handle=answer(gcs_folder("s3://bucket/m")),
        env={"TFHUB_MODEL_LOAD_FORMAT": "UNCOMPRESSED"},
        words=("Expected server to return a GCS location but received", "s3://bucket/m"),
    ),
    "no resolver at all": Case(
        do="no_resolver",
        handle="a://b",
        words=("Missing implementation that supports: resolver(", "'a://b'", "Tried []"),
    ),
    "load a number": Case(do="load", handle=3, verbatim=True),
    "load nothing": Case(do="load", handle=None, verbatim=True),
    "load a folder that is not there": Case(do="load", handle="nothing", verbatim=True),
    "load a folder without a model": Case(
        do="load", handle="folder", files={"folder/x.txt": b""}, verbatim=True
    ),
    "load a downloaded module without its model": Case(
        do="load",
        handle=lambda host: host.publish(
            "/m/1", models.pack_files({"tfhub_module.pb": b"\x08\x03"})
        ),
        words=("contains neither 'saved_model.pb' nor 'saved_model.pbtxt'",),
        verbatim=True,
    ),
    "load a model that is none": Case(
        do="load", handle="folder", files={"folder/saved_model.pb": b"\xff"}, verbatim=True
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_works_with_tensorflow_hub_works_the_same_here(
    both: Both, host: Host, name: str
) -> None:
    compare(both, host, GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_fails_with_tensorflow_hub_fails_the_same_here(
    both: Both, host: Host, name: str
) -> None:
    compare(both, host, BAD[name])


def test_nobody_there_is_an_os_error_with_both(both: Both, host: Host) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        handle = f"http://127.0.0.1:{unused.getsockname()[1]}/m/1"
        compare(both, host, Case(handle=handle, words=("Connection refused",)))


@pytest.mark.parametrize(
    ("handle", "asked"),
    [
        ("https://tfhub.dev/google/spice/2", "https://tfhub.dev/google/spice/2"),
        (
            "https://www.kaggle.com/models/google/spice/TensorFlow2/spice/2",
            "https://www.kaggle.com/models/google/spice/TensorFlow2/spice/2",
        ),
        (
            "https://hub.tensorflow.google.cn/google/spice/2",
            "https://gcs.tensorflow.google.cn/tfhub-modules/google/spice/2.tar.gz",
        ),
    ],
)
def test_the_well_known_hosts_are_asked_for_the_same(
    both: Both, ca: trustme.CA, handle: str, asked: str
) -> None:
    name, _, path = asked.removeprefix("https://").partition("/")
    with Host(tls=ca, names=[name]) as host:
        host.route(f"/{path}", archive(models.pack_files(FILES)))
        with Proxy({f"{name}:443": host.url.removeprefix("https://")}) as proxy:
            seen = {}
            for library in LIBRARIES:
                before = len(host.requests)
                seen[library] = both.run(
                    library, "resolve", env={"HTTPS_PROXY": proxy.url}, handle=handle
                )
                assert len(host.requests) == before + 1
    assert seen[OURS].error is None
    assert seen[OURS].value == seen[THEIRS].value == f"<here>/cache/{key_of(handle)}"
    assert len({request.target for request in host.requests}) == 1
    assert tree(both.home(OURS)) == tree(both.home(THEIRS))


# Models, loaded and used.


@dataclasses.dataclass(frozen=True)
class Loading:
    """A model, and how the program loads it."""

    model: str
    do: str = "load"
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    words: tuple[str, ...] = ()
    verbatim: bool = False


LOADING = {
    "a TF2 model": Loading("text_embedding", arguments={"call": SENTENCES}),
    "a TF2 model by its tags": Loading("text_embedding", arguments={"tags": ["serve"]}),
    "a TF2 model by a set of tags": Loading(
        "text_embedding", do="load_in_a_set", arguments={"tags": ["serve"]}
    ),
    "a TF2 model by tags that it does not have": Loading(
        "text_embedding", arguments={"tags": ["train"]}, verbatim=True
    ),
    "a TF2 model with an io device": Loading(
        "text_embedding",
        arguments={"call": SENTENCES, "options": {"experimental_io_device": "/job:localhost"}},
    ),
    "a TF2 model with an io device that is not there": Loading(
        "text_embedding",
        arguments={"options": {"experimental_io_device": "/job:elsewhere"}},
        words=("elsewhere",),
    ),
    "a TF2 model without its numbers": Loading(
        "text_embedding",
        arguments={"options": {"experimental_skip_checkpoint": True}},
        words=("indices[0] = 0 is not in [0, 0)",),
    ),
    "a TF2 model in graph mode": Loading(
        "text_embedding", do="load_in_graph_mode", arguments={"call": SENTENCES}
    ),
    "a Keras export": Loading("keras_export"),
    "a TF1 Hub module": Loading("tf1_hub_module"),
    "a TF1 Hub module by no tags": Loading("tf1_hub_module", arguments={"tags": []}),
    "a TF1 Hub module for training": Loading("tf1_hub_module", arguments={"tags": ["train"]}),
    "a TF1 Hub module by tags that it does not have": Loading(
        "tf1_hub_module", arguments={"tags": ["serve"]}, verbatim=True
    ),
}


@pytest.fixture
def folder_of(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    return request.getfixturevalue


@pytest.mark.parametrize("name", LOADING)
def test_a_downloaded_model_is_loaded_the_same(
    both: Both, host: Host, archive_of, folder_of, name: str
) -> None:
    case = LOADING[name]
    handle = host.publish("/google/model/1", archive_of(folder_of(case.model)))
    compare(both, host, _as_case(case, handle))


@pytest.mark.parametrize("name", LOADING)
def test_a_model_in_a_folder_is_loaded_the_same(
    both: Both, host: Host, folder_of, name: str
) -> None:
    case = LOADING[name]
    files = {f"it/{k}": v for k, v in models.read_files(folder_of(case.model)).items()}
    compare(both, host, dataclasses.replace(_as_case(case, "it"), files=files))


def _as_case(loading: Loading, handle: str) -> Case:
    return Case(
        do=loading.do,
        handle=handle,
        arguments=loading.arguments,
        words=loading.words,
        verbatim=loading.verbatim,
    )


def test_the_results_are_the_right_ones_and_not_only_the_same(
    both: Both, host: Host, archive_of, text_embedding: Path, tf1_hub_module: Path
) -> None:
    expected = [pytest.approx(models.embedding(sentence), abs=1e-6) for sentence in SENTENCES]
    handle = host.publish("/m/1", archive_of(text_embedding))
    seen = both.run(OURS, "load", handle=handle, call=SENTENCES)
    assert seen.value["answer"] == expected
    assert seen.value["v1"] is False
    handle = host.publish("/m/2", archive_of(tf1_hub_module))
    seen = both.run(OURS, "load", handle=handle)
    assert seen.value["signatures"]["default"]["default"] == [
        pytest.approx(models.embedding("the cat"), abs=1e-6)
    ]
    assert seen.value["v1"] is True


def test_a_saved_model_as_text_is_loaded_the_same(
    both: Both, host: Host, text_embedding: Path
) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    files = {f"it/{k}": v for k, v in models.read_files(text_embedding).items()}
    parsed = SavedModel.FromString(files.pop("it/saved_model.pb"))
    files["it/saved_model.pbtxt"] = text_format.MessageToString(parsed).encode()
    case = Case(do="load", handle="it", arguments={"call": SENTENCES}, files=files)
    assert compare(both, host, case).value["answer"]


# Each reads the cache that the other filled.

CACHES = {
    "absolute": ("{home}/cache", "{home}/cache"),
    "relative": ("cache", "cache"),
    "file://": ("file://{home}/cache", "file://{home}/cache"),
    "file:// read as a path": ("file://{home}/cache", "{home}/cache"),
    "a path read as file://": ("cache", "file://{home}/cache"),
}


@pytest.mark.parametrize("model", ["text_embedding", "keras_export", "tf1_hub_module"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize(("filler", "reader"), [(THEIRS, OURS), (OURS, THEIRS)])
def test_a_cache_that_one_filled_is_read_by_the_other(
    both: Both, host: Host, archive_of, folder_of, filler, reader, cache, model
) -> None:
    handle = host.publish("/google/model/1", archive_of(folder_of(model)))
    filled, read = ({"TFHUB_CACHE_DIR": setting} for setting in CACHES[cache])
    first = both.run(filler, "load", env=filled, handle=handle)
    assert first.error is None
    assert len(first.asked) == 1

    # The reader works where the filler has worked.
    shutil.copytree(both.home(filler), both.home(reader), dirs_exist_ok=True)
    before = tree(both.home(reader))
    second = both.run(reader, "load", env=read, handle=handle)
    assert second.asked == []
    assert (second.value, second.error) == (first.value, None)
    assert tree(both.home(reader)) == before


@pytest.mark.parametrize("reader", LIBRARIES)
def test_a_cached_model_is_read_without_a_host(both: Both, host: Host, reader: str) -> None:
    handle = host.publish("/m/1", models.pack_files(FILES))
    seen = [both.run(library, "resolve", handle=handle) for library in (reader, reader)]
    assert seen[0].value == seen[1].value == f"<here>/cache/{key_of(handle)}"
    assert [len(one.asked) for one in seen] == [1, 0]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\t"])
def test_a_handle_with_the_end_of_its_line_is_found_where_tensorflow_hub_put_it(
    both: Both, host: Host, tmp_path: Path, end: str
) -> None:
    """tensorflow_hub takes it, and names the entry after both."""
    handle = page()(host) + end
    env = {"TFHUB_CACHE_DIR": str(tmp_path / "shared")}
    theirs = both.run(THEIRS, "resolve", env=env, handle=handle)
    assert theirs.value == f"{tmp_path}/shared/{key_of(handle)}"
    ours = both.run(OURS, "resolve", env={**env, "TFHUB_OFFLINE": "1"}, handle=handle)
    assert ours.value == theirs.value
    assert ours.asked == []


@pytest.mark.parametrize(("first", "second"), [(THEIRS, OURS), (OURS, THEIRS)])
def test_whoever_comes_second_waits_for_the_one_that_downloads(
    both: Both, host: Host, tmp_path: Path, first: str, second: str
) -> None:
    release = threading.Event()
    handle = host.publish("/m/1", stall(models.pack_files(FILES), 10_000, release))
    env = {"TFHUB_CACHE_DIR": str(tmp_path / "shared")}
    both.start(first, "resolve", env=env, handle=handle)
    host.wait_for_requests(1)
    both.start(second, "resolve", env=env, handle=handle)
    both.programs[second].wait_until_told(f"Module '{handle}' already being downloaded by")
    release.set()
    seen = [both.finish(library) for library in (first, second)]
    assert [one.error for one in seen] == [None, None]
    assert seen[0].value == seen[1].value
    assert len(host.requests) == 1
    assert models.read_files(seen[0].value) == FILES
    left = {path.name.partition(".")[2] for path in (tmp_path / "shared").iterdir()}
    assert left <= {"", "descriptor.txt", "manifest.json"}


# What tensorflow_hub gets wrong, and what happens here instead.


def test_a_damaged_model_is_mended_here_so_that_both_can_load_it_again(
    both: Both, host: Host, archive_of, text_embedding: Path, tmp_path: Path
) -> None:
    handle = host.publish("/m/1", archive_of(text_embedding))
    env = {"TFHUB_CACHE_DIR": str(tmp_path / "shared")}
    whole = both.run(THEIRS, "load", env=env, handle=handle, call=SENTENCES)
    (tmp_path / "shared" / key_of(handle) / "saved_model.pb").unlink()
    theirs = both.run(THEIRS, "load", env=env, handle=handle, call=SENTENCES)
    assert "contains neither 'saved_model.pb'" in theirs.text
    ours = both.run(OURS, "load", env=env, handle=handle, call=SENTENCES)
    assert ours.value == whole.value
    again = both.run(THEIRS, "load", env=env, handle=handle, call=SENTENCES)
    assert (again.value, again.asked) == (whole.value, [])


def test_a_model_whose_variables_are_gone_is_mended_here(
    both: Both, host: Host, archive_of, text_embedding: Path
) -> None:
    handle = host.publish("/m/1", archive_of(text_embedding))
    for library in LIBRARIES:
        whole = both.run(library, "load", handle=handle, call=SENTENCES)
        shutil.rmtree(both.home(library) / "cache" / key_of(handle) / "variables")
    assert both.run(THEIRS, "load", handle=handle, call=SENTENCES).error is not None
    assert both.run(OURS, "load", handle=handle, call=SENTENCES).value == whole.value


def test_a_connection_that_is_cut_is_tried_again_here(both: Both, host: Host) -> None:
    data = models.pack_files(FILES)
    for library in LIBRARIES:
        handle = host.route("/m.tgz", in_turn(cut(data, 10_000), archive(data)))
        seen = both.run(library, "resolve", handle=handle)
        if library == THEIRS:
            assert "does not appear to be a valid module" in seen.text
    assert seen.value == f"<here>/cache/{key_of(handle)}"


@pytest.mark.parametrize("dot_slash", [True, False])
def test_an_archive_whose_folders_have_no_members_of_their_own_is_unpacked_here(
    both: Both, host: Host, dot_slash: bool
) -> None:
    handle = page(folders=False, dot_slash=dot_slash)(host)
    theirs, ours = (both.run(library, "resolve", handle=handle) for library in LIBRARIES)
    assert theirs.family == "NotFoundError"
    assert ours.value == f"<here>/cache/{key_of(handle)}"
    assert models.read_files(both.home(OURS) / "cache" / key_of(handle)) == FILES


def test_an_empty_file_is_kept_here(both: Both, host: Host) -> None:
    handle = with_member("./assets/empty.txt", data=b"")(host)
    for library in LIBRARIES:
        assert both.run(library, "resolve", handle=handle).error is None
    found = {
        library: models.read_files(both.home(library) / "cache" / key_of(handle))
        for library in LIBRARIES
    }
    assert found[THEIRS] == FILES
    assert found[OURS] == FILES | {"assets/empty.txt": b""}


def test_a_403_says_what_to_do_here(both: Both, host: Host) -> None:
    handle = host.route("/m/1", status(403))
    theirs, ours = (both.run(library, "resolve", handle=handle) for library in LIBRARIES)
    assert handle not in theirs.text
    for words in handle, "403", "login", "consent", "netrc":
        assert words in ours.text


def test_a_tilde_in_the_cache_folder_is_the_home_folder_here(both: Both, host: Host) -> None:
    handle = host.publish("/m/1", models.pack_files(FILES))
    env = {"TFHUB_CACHE_DIR": "~/models", "HOME": "{home}/of-user", "USERPROFILE": "{home}/of-user"}
    theirs, ours = (both.run(library, "resolve", env=env, handle=handle) for library in LIBRARIES)
    assert theirs.value == f"~/models/{key_of(handle)}"
    assert Path(ours.value) == Path("<here>", "of-user", "models", key_of(handle))


def test_a_cache_folder_that_can_not_be_written_is_an_os_error_here(
    both: Both, host: Host, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    handle = host.publish("/m/1", models.pack_files(FILES))
    env = {"TFHUB_CACHE_DIR": str(tmp_path / "file" / "cache")}
    theirs, ours = (both.run(library, "resolve", env=env, handle=handle) for library in LIBRARIES)
    assert theirs.error is not None
    assert ours.family == "OSError"
    assert "TFHUB_CACHE_DIR" in ours.text
    assert str(tmp_path / "file" / "cache") in ours.text


def test_an_archive_without_files_is_no_module_here(both: Both, host: Host) -> None:
    handle = host.publish("/m/1", models.pack_files({}))
    theirs, ours = (both.run(library, "resolve", handle=handle) for library in LIBRARIES)
    assert theirs.error is None
    assert ours.family == "OSError"
    assert "does not appear to be a valid module" in ours.text


def test_an_unknown_load_format_is_told_here(both: Both, host: Host) -> None:
    env = {"TFHUB_MODEL_LOAD_FORMAT": "ZIP"}
    handle = host.publish("/m/1", models.pack_files(FILES))
    theirs, ours = (both.run(library, "resolve", env=env, handle=handle) for library in LIBRARIES)
    assert (theirs.family, "ZIP" in theirs.text) == ("UnimplementedError", False)
    assert ours.family == "ValueError"
    assert "COMPRESSED, UNCOMPRESSED, AUTO" in ours.text


def test_a_scheme_that_nobody_here_can_read_is_an_os_error_here(both: Both) -> None:
    theirs, ours = (both.run(library, "resolve", handle="s3://b/m") for library in LIBRARIES)
    assert theirs.family == "UnimplementedError"
    assert ours.family == "OSError"
    assert "s3://" in ours.text


def test_a_https_handle_that_leads_to_http_is_refused_here(
    both: Both, host: Host, tls_host: Host
) -> None:
    target = host.route("/m.tgz", archive(models.pack_files(FILES)))
    handle = tls_host.route("/m/1", redirect(target))
    theirs, ours = (both.run(library, "resolve", handle=handle) for library in LIBRARIES)
    assert (theirs.error, len(theirs.asked)) == (None, 1)
    assert (ours.family, ours.asked) == ("OSError", [])
