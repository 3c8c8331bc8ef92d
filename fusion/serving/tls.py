"""https and wss: a phone lets a page use its microphone only over TLS.

`--tls` alone makes a self-signed certificate. It is kept in the cache folder, so that a browser
asks once whether to trust it, and is made anew when it is about to expire or when the machine has
an address that it does not name.

Files that were renewed are used from the next connection on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import logging
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fusion.errors import ConfigurationError
from fusion.serving.file_changes import FileChanges
from fusion.settings import Settings

logger = logging.getLogger(__name__)

# Apple's devices refuse a server certificate that lives longer than 825 days
# (https://support.apple.com/en-us/103769).
VALID = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)

# Documentation addresses (RFC 5737, RFC 3849): a UDP socket that is connected to one sends
# nothing, but tells which of the machine's addresses would be used to reach the outside.
OUTSIDE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def with_certificate(settings: Settings) -> Settings:
    """Settings that name the certificate: one for all servers of a run, made before they start.

    Raises ConfigurationError.
    """
    files = certificate_files(settings)
    if files is None:
        return settings
    certificate, key = files
    return dataclasses.replace(settings, tls_certificate=str(certificate), tls_key=str(key))


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """What a server listens with; None without `--tls`. Raises ConfigurationError."""
    files = certificate_files(settings)
    if files is None:
        return None
    first = current = _context(*files)
    changes = FileChanges(files)

    def on_hello(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """A client has said hello, with or without a host's name: give it what is in the files."""
        nonlocal current
        if changes.look():
            try:
                current = _context(*files)
                logger.info("the certificate was read again: %s", files[0])
            except ConfigurationError as error:  # its key may be on its way
                logger.warning("%s The one read before is used.", error)
        connection.context = current

    first.sni_callback = on_hello
    return first


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the certificate {certificate} and the key {key} cannot be used for TLS ({error}): "
            "give a PEM certificate and its unencrypted PEM key."
        ) from error
    return context


class Loopback:
    """What this program connects to its own ports with. Raises ConfigurationError."""

    def __init__(self, settings: Settings) -> None:
        self._files = certificate_files(settings)
        self._changes = FileChanges(self._files[:1] if self._files else ())
        self._context = loopback_context(settings)

    @property
    def context(self) -> ssl.SSLContext | None:
        """For the next connection; None without `--tls`."""
        if self._files and self._context and self._changes.look():
            with contextlib.suppress(OSError, ssl.SSLError):  # the ports do not use it either
                self._context.load_verify_locations(self._files[0])  # besides the one before
        return self._context


def loopback_context(settings: Settings) -> ssl.SSLContext | None:
    """A context that trusts this program's own certificate alone; None without `--tls`."""
    files = certificate_files(settings)
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate names the host as others know it, not 127.0.0.1; it is known by its content.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(files[0])
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{files[0]} holds no PEM certificate ({error}).") from error
    return context


def certificate_files(settings: Settings) -> tuple[Path, Path] | None:
    """Certificate and key, given or made here; None without `--tls`. Raises ConfigurationError."""
    if not settings.tls:
        return None
    if settings.tls_certificate or settings.tls_key:
        return _given(settings)
    folder = _folder(settings)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = _names()
    if not (key.is_file() and _serves(certificate, names)):
        try:
            _make(certificate, key, names)
        except OSError as error:
            raise ConfigurationError(
                f"the certificate cannot be written to {folder} ({error.strerror}): choose another "
                "folder with --cache, or give --tls_certificate and --tls_key."
            ) from error
    return certificate, key


def is_made_here(settings: Settings) -> bool:
    """Whether TLS works with a certificate that no browser knows yet."""
    given = settings.tls_certificate
    return settings.tls and (not given or Path(given).parent == _folder(settings))


def machine_addresses() -> list[str]:
    """This machine's own addresses as others on its network see them, the likeliest first."""
    found: dict[str, None] = {}
    for family, outside in OUTSIDE.items():
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))
            found[probe.getsockname()[0]] = None
    with contextlib.suppress(OSError):
        for *_, address in socket.getaddrinfo(socket.gethostname(), None):
            found[str(address[0])] = None
    return [text for text in found if _is_reachable(text)]


def _is_reachable(text: str) -> bool:
    # A link-local IPv6 address carries a scope (fe80::1%eth0), which a browser cannot open.
    if "%" in text:
        return False
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)


def _folder(settings: Settings) -> Path:
    return settings.cache_folder / "tls"


def _given(settings: Settings) -> tuple[Path, Path]:
    if not (settings.tls_certificate and settings.tls_key):
        raise ConfigurationError("give both --tls_certificate and --tls_key, or neither.")
    paths = Path(settings.tls_certificate).expanduser(), Path(settings.tls_key).expanduser()
    for path in paths:
        if not path.is_file():
            raise ConfigurationError(f"there is no file {path}: check the path of the TLS file.")
    return paths


def _names() -> list[x509.GeneralName]:
    hosts = dict.fromkeys(["localhost", socket.gethostname()])
    addresses = dict.fromkeys(["127.0.0.1", "::1", *machine_addresses()])
    return [
        *(x509.DNSName(host) for host in hosts),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]


def _serves(path: Path, names: list[x509.GeneralName]) -> bool:
    """Whether a certificate is there, names all these hosts and does not expire soon."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    now = datetime.datetime.now(datetime.timezone.utc)
    return set(names) <= set(named) and now < certificate.not_valid_after_utc - RENEW_BEFORE


def _make(certificate: Path, key: Path, names: list[x509.GeneralName]) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "WhisperFusion")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # a phone's clock may be slow
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(
        key,
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    _write(certificate, made.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    """Readable by its owner alone, from its first byte on."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)
