"""Which CA certificates count: what the environment names, the system's store, certifi's.

The store of the system is another one in a mount namespace, where a file lies over its file.
"""

from __future__ import annotations

import itertools
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import certifi
import pytest
import trustme
from models import fake_model, pack_files, read_files
from processes import Finished
from servers import Host, Proxy

import tfhub_cache as hub
from tfhub_cache.errors import DownloadError

MODEL = fake_model()
NAMES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
RESOLVE = """
import sys
import tfhub_cache as hub
from tfhub_cache.clients import session
sys.platform = sys.argv[2]
print(hub.resolve(sys.argv[1]))
"""
OF_DEBIAN = "/etc/ssl/certs/ca-certificates.crt"
SYSTEM = ssl.get_default_verify_paths().cafile
pytestmark = pytest.mark.libraries


@pytest.fixture
def handle(tls_host: Host, cache_dir: Path) -> str:
    return tls_host.publish("/m/1", pack_files(MODEL))


@pytest.fixture
def bundle_for(ca: trustme.CA, ca_pem: Path, tmp_path: Path) -> Callable[[str], str]:
    """Makes what one of `NAMES` is set to."""

    def make(name: str) -> str:
        if name != "SSL_CERT_DIR":
            return str(ca_pem)
        cryptography = pytest.importorskip("cryptography.x509")
        folder = tmp_path / "certificates"
        folder.mkdir()
        certificate = cryptography.load_pem_x509_certificate(ca.cert_pem.bytes())
        (folder / f"{_subject_hash(certificate)}.0").write_bytes(ca.cert_pem.bytes())
        return str(folder)

    return make


def _subject_hash(certificate: object) -> str:
    """The name by which OpenSSL looks for a certificate in a folder."""
    from cryptography.hazmat.primitives.serialization import Encoding

    done = subprocess.run(
        ["openssl", "x509", "-noout", "-subject_hash"],
        input=certificate.public_bytes(Encoding.PEM),  # type: ignore[attr-defined]
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


@pytest.fixture
def other_pem(tmp_path: Path) -> Path:
    """The certificate of a CA that has nothing to do with the host."""
    file = tmp_path / "other.pem"
    file.write_bytes(trustme.CA().cert_pem.bytes())
    return file


@pytest.mark.parametrize("name", NAMES)
def test_a_ca_that_the_environment_names_counts(
    handle: str, bundle_for: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "SSL_CERT_DIR" and shutil.which("openssl") is None:
        pytest.skip("there is no openssl, which names the files of such a folder")
    with pytest.raises(DownloadError, match=r"TLS failed.*SSL_CERT_FILE"):
        hub.resolve(handle)
    monkeypatch.setenv(name, bundle_for(name))
    assert read_files(hub.resolve(handle)) == MODEL


@pytest.mark.parametrize(("first", "second"), [*itertools.pairwise(NAMES)])
def test_the_first_of_them_counts_alone(
    handle: str,
    ca_pem: Path,
    other_pem: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
) -> None:
    monkeypatch.setenv(second, str(ca_pem))
    monkeypatch.setenv(first, str(other_pem))
    with pytest.raises(DownloadError, match=f"TLS failed.*only those in {other_pem} count"):
        hub.resolve(handle)


def test_a_file_of_openssl_that_is_not_there_does_not_count(
    handle: str, ca_pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    monkeypatch.setenv("SSL_CERT_DIR", str(ca_pem))
    assert read_files(hub.resolve(handle)) == MODEL


def test_checks_can_be_turned_off_whatever_is_named(
    handle: str, other_pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(other_pem))
    monkeypatch.setenv("TFHUB_DISABLE_CERT_VALIDATION", "true")
    assert read_files(hub.resolve(handle)) == MODEL


@pytest.fixture
def resolve_where() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Resolves in a process for which a file has another content."""
    probe = ["unshare", "--mount", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False).returncode:
        pytest.skip("this system, or its rights, allow no mount namespace")

    def run(
        file: str,
        content: Path,
        handle: str,
        platform: str = sys.platform,
        also: tuple[str, Path] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        covers = [(os.path.realpath(file), content), *([also] if also else [])]
        mounts = [f'mount --bind "{other}" "{covered}"' for covered, other in covers]
        covered = " && ".join([*mounts, 'exec "$@"'])
        return subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c", covered, "sh"),
                *(sys.executable, "-c", RESOLVE, handle, platform),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.mark.skipif(SYSTEM is None, reason="the system's certificates are not in one file")
@pytest.mark.parametrize("platform", [sys.platform, "darwin"], ids=["OpenSSL", "truststore"])
@pytest.mark.parametrize("way", ["direct", "http proxy", "https proxy"])
def test_a_ca_that_the_system_trusts_counts(
    handle: str,
    ca: trustme.CA,
    ca_pem: Path,
    other_pem: Path,
    resolve_where: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    way: str,
) -> None:
    """truststore reads the store of macOS and Windows. On Linux it reads OpenSSL's, too."""
    assert SYSTEM is not None
    with Proxy(tls=ca if way == "https proxy" else None) as proxy:
        if way != "direct":
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        done = resolve_where(SYSTEM, other_pem, handle, platform)
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
        done = resolve_where(SYSTEM, ca_pem, handle, platform)
        assert done.returncode == 0, done.stderr
        assert read_files(done.stdout.strip()) == MODEL
        assert bool(proxy.requests) == (way != "direct")
        monkeypatch.setenv("SSL_CERT_FILE", str(other_pem))
        done = resolve_where(SYSTEM, ca_pem, f"{handle}?again", platform)
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


@pytest.mark.skipif(SYSTEM is None, reason="the system's certificates are not in one file")
@pytest.mark.parametrize("named", ["", "/no/such/file.pem"])
def test_an_ssl_cert_file_that_is_not_there_does_not_hide_what_the_system_trusts(
    handle: str,
    ca_pem: Path,
    resolve_where: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    named: str,
) -> None:
    assert SYSTEM is not None
    monkeypatch.setenv("SSL_CERT_FILE", named)
    done = resolve_where(SYSTEM, ca_pem, handle)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    SYSTEM is None or os.path.realpath(SYSTEM) != OF_DEBIAN, reason="this system is not a Debian"
)
def test_a_python_with_an_openssl_of_its_own_trusts_what_the_system_trusts(
    handle: str, ca_pem: Path, tmp_path: Path, resolve_where
) -> None:
    """Python of conda or uv looks for certificates elsewhere: here in a folder without any."""
    (tmp_path / "empty").mkdir()
    also = (os.path.dirname(ssl.get_default_verify_paths().openssl_cafile), tmp_path / "empty")
    done = resolve_where(OF_DEBIAN, ca_pem, handle, also=also)
    assert done.returncode == 0, done.stderr


def test_certifis_certificates_that_the_environment_names_count_alone(
    handle: str, ca_pem: Path, resolve_where, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    done = resolve_where(SYSTEM, ca_pem, handle)
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


@pytest.mark.parametrize("platform", [sys.platform, "darwin"], ids=["OpenSSL", "truststore"])
@pytest.mark.parametrize("way", ["direct", "https proxy"])
def test_a_ca_of_certifi_counts_where_the_system_does_not_know_it(
    handle: str,
    ca: trustme.CA,
    ca_pem: Path,
    resolve_where: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    way: str,
) -> None:
    with Proxy(tls=ca) as proxy:
        if way != "direct":
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        done = resolve_where(certifi.where(), ca_pem, handle, platform)
    assert done.returncode == 0, done.stderr
    assert read_files(done.stdout.strip()) == MODEL


def test_a_bucket_takes_the_certificates_that_openssl_takes(
    tls_host: Host, ca_pem: Path, run_python: Callable[..., Finished]
) -> None:
    """The host has no bucket, which only a program that trusts it learns."""
    env = {"STORAGE_EMULATOR_HOST": tls_host.url, "SSL_CERT_FILE": ca_pem}
    code = "import tfhub_cache as hub\nhub.resolve('gs://bucket/model.tar.gz')"
    assert "there is no bucket 'bucket'" in run_python(code, env=env).stderr
