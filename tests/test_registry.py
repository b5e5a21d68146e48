"""The chain of resolvers, and the custom ones that programs add to it."""

import pytest

import tfhub_cache as hub
from tfhub_cache import registry, resolver


class Prefix(resolver.Resolver):
    """Serves handles that begin with a word."""

    def __init__(self, prefix: str, path: str) -> None:
        self._prefix = prefix
        self._path = path

    def is_supported(self, handle: str) -> bool:
        return handle.startswith(self._prefix)

    def __call__(self, handle: str) -> str:
        return self._path


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch):
    """The registry, which forgets what a test adds."""
    # What was added can't be removed in a public way.
    monkeypatch.setattr(
        registry.resolver, "_implementations", [*registry.resolver._implementations]
    )
    return registry.resolver


def test_the_newest_resolver_is_asked_first(chain) -> None:
    chain.add_implementation(Prefix("team://", "/old"))
    chain.add_implementation(Prefix("team://", "/new"))
    assert hub.resolve("team://model") == "/new"


def test_a_resolver_that_does_not_support_the_handle_is_passed_over(chain, tmp_path) -> None:
    chain.add_implementation(Prefix("team://", "/custom"))
    assert hub.resolve(str(tmp_path)) == str(tmp_path)


def test_a_custom_http_resolver_comes_before_the_built_in_one(chain) -> None:
    class KaggleLike(resolver.HttpResolverBase):
        def is_supported(self, handle: str) -> bool:
            return self.is_http_protocol(handle) and "kaggle.com" in handle

        def __call__(self, handle: str) -> str:
            return "/mounted/model"

    chain.add_implementation(KaggleLike())
    assert hub.resolve("https://www.kaggle.com/models/a/b/c/d/1") == "/mounted/model"


def test_http_handles_are_known_by_their_scheme() -> None:
    class Http(resolver.HttpResolverBase):
        def __call__(self, handle: str) -> str:
            return handle

    assert Http().is_supported("http://host/m")
    assert Http().is_supported("https://host/m")
    assert not Http().is_supported("gs://bucket/m")


def test_without_any_resolver_the_error_names_those_that_were_tried() -> None:
    chain = registry.Registry("resolver", [Prefix("a://", "/a"), Prefix("b://", "/b")])
    with pytest.raises(RuntimeError, match="Missing implementation that supports: resolver") as e:
        chain("c://model")
    assert "c://model" in str(e.value)
    assert "['Prefix', 'Prefix']" in str(e.value)
    chain.clear_implementations()
    with pytest.raises(RuntimeError, match=r"Tried \[\]"):
        chain("a://model")


@pytest.mark.parametrize("handle", [None, 3, b"bytes", ["https://h/m"]])
def test_a_handle_that_is_no_string_is_a_value_error(handle) -> None:
    with pytest.raises(ValueError, match="Expected a string, got"):
        hub.resolve(handle)
    with pytest.raises(ValueError, match="Expected a string, got"):
        hub.load(handle)
