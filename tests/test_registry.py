"""The chain of resolvers, and the custom ones that programs add to it."""

import pytest

import tfhub_cache as hub
from tfhub_cache import registry, resolver
from tfhub_cache.errors import ResolveError


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
    monkeypatch.setattr(registry.resolver, "_impls", [*registry.resolver._impls])
    return registry.resolver


def test_the_newest_resolver_is_asked_first(chain) -> None:
    chain.add_implementation(Prefix("team://", "/old"))
    chain.add_implementation(Prefix("team://", "/new"))
    assert hub.resolve("team://model") == "/new"


def test_a_resolver_that_does_not_support_the_handle_is_passed_over(chain, tmp_path) -> None:
    chain.add_implementation(Prefix("team://", "/custom"))
    assert hub.resolve(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("handle", "shown"),
    [
        ("/no/such/folder", "/no/such/folder"),
        ("https:/example.com/m/1?token=secret", "The handle"),
        ("https://example.com/m/1?token=secret ", "https://example.com/m/1"),
    ],
    ids=["a path", "mistyped", "a cache that can't be used"],
)
def test_an_error_has_the_handle_that_could_not_be_resolved(
    monkeypatch: pytest.MonkeyPatch, handle: str, shown: str
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "nothing://knows/this")
    with pytest.raises(ResolveError) as error:
        hub.resolve(handle)
    assert error.value.handle == shown


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

    assert Http().is_http_protocol("http://host/m") is True
    assert Http().is_http_protocol("https://host/m") is True
    assert Http().is_http_protocol("gs://bucket/m") is False


@pytest.mark.parametrize("base", [resolver.Resolver, resolver.HttpResolverBase])
def test_a_resolver_that_does_not_say_what_it_supports_is_not_asked(chain, base, tmp_path) -> None:
    class Silent(base):
        def __call__(self, handle: str) -> str:
            return "/silent"

    chain.add_implementation(Silent())
    assert hub.resolve(str(tmp_path)) == str(tmp_path)
    assert Silent().is_supported("https://host/m") is False
    assert Silent()("https://host/m") == "/silent"


class Arguments:
    """Supports a number of arguments, and returns them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def is_supported(self, *args: object, **kwargs: object) -> bool:
        return len(args) + len(kwargs) == self._count

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._count, args, kwargs


def test_a_register_hands_on_all_arguments_by_position_and_by_name() -> None:
    register = registry.MultiImplRegister("test")
    register.add_implementation(Arguments(1))
    register.add_implementation(Arguments(2))
    assert register(5) == (1, (5,), {})
    assert register(5, b=6) == (2, (5,), {"b": 6})
    assert register(a=5, b=6) == (2, (), {"a": 5, "b": 6})


def test_a_register_says_what_is_not_supported_and_which_were_asked() -> None:
    register = registry.MultiImplRegister("test")
    with pytest.raises(RuntimeError) as nothing:
        register(1, 2, a=3)
    assert str(nothing.value) == (
        "Missing implementation that supports: test(*(1, 2), **{'a': 3}). Tried []"
    )
    register.add_implementation(Arguments(2))
    register.add_implementation(Prefix("a://", "/a"))
    with pytest.raises(RuntimeError, match=r"Tried \['Prefix', 'Arguments'\]"):
        register("b://")
    register.clear_implementations()
    with pytest.raises(RuntimeError, match=r"Tried \[\]"):
        register("a://")


def test_a_handle_can_be_given_by_its_name(tmp_path) -> None:
    assert registry.resolver(handle=str(tmp_path)) == str(tmp_path)


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
