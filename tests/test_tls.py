from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import ipaddress
import os
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from fusion.errors import ConfigurationError
from fusion.serving import tls
from fusion.serving.access import AccessPolicy
from fusion.serving.banner import page_address, ready_banner
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.serving.web import WebServer
from fusion.settings import Settings
from fusion.status import ServiceStatus
from tests.running import free_ports


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return dataclasses.replace(Settings(), host="0.0.0.0", tls=True, cache=str(tmp_path / "cache"))


def names(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_without_tls_there_is_no_certificate(tmp_path: Path) -> None:
    settings = dataclasses.replace(Settings(), cache=str(tmp_path))
    assert tls.ssl_context(settings) is None
    assert tls.with_certificate(settings) == settings
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_names_this_machine_and_is_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "machine_addresses", lambda: ["192.0.2.7", "2001:db8::7"])
    files = tls.certificate_files(settings)
    assert files is not None
    certificate, key = files
    assert {
        "localhost",
        socket.gethostname(),
        "127.0.0.1",
        "::1",
        "192.0.2.7",
        "2001:db8::7",
    } == set(names(certificate))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    made = certificate.read_bytes()
    tls.certificate_files(settings)
    assert certificate.read_bytes() == made


def test_it_is_made_anew_for_a_new_address_before_it_expires_and_when_it_is_broken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tls.certificate_files(settings)
    assert files is not None
    certificate = files[0]
    first = certificate.read_bytes()
    monkeypatch.setattr(tls, "machine_addresses", lambda: ["198.51.100.9"])
    tls.certificate_files(settings)
    second = certificate.read_bytes()
    assert second != first
    assert "198.51.100.9" in names(certificate)

    monkeypatch.setattr(tls, "VALID", datetime.timedelta(days=20))
    monkeypatch.setattr(tls, "machine_addresses", lambda: ["198.51.100.10"])
    tls.certificate_files(settings)
    expiring = certificate.read_bytes()
    tls.certificate_files(settings)
    assert certificate.read_bytes() != expiring

    certificate.write_text("no certificate")
    tls.certificate_files(settings)
    assert certificate.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")


def test_all_servers_of_a_run_share_one_certificate(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secured = tls.with_certificate(settings)
    monkeypatch.setattr(tls, "machine_addresses", lambda: ["198.51.100.9"])
    before = Path(secured.tls_certificate).read_bytes()
    assert tls.ssl_context(secured) is not None
    assert Path(secured.tls_certificate).read_bytes() == before
    assert tls.is_made_here(secured)


def test_the_program_trusts_its_own_certificate_and_no_other(
    settings: Settings, tmp_path: Path
) -> None:
    other = dataclasses.replace(settings, cache=str(tmp_path / "other"))
    assert handshake(settings, trusting=settings) is None
    assert isinstance(handshake(settings, trusting=other), ssl.SSLCertVerificationError)


def handshake(settings: Settings, trusting: Settings) -> Exception | None:
    context = tls.ssl_context(settings)
    trust = tls.loopback_context(trusting)
    assert context is not None
    assert trust is not None
    return handshake_with(context, trust)


def handshake_with(context: ssl.SSLContext, trust: ssl.SSLContext) -> Exception | None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    return  # the client hung up, as it should in one of the cases

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=5) as client:
                trust.wrap_socket(client, server_hostname="anything").close()
        except ssl.SSLError as error:
            return error
        finally:
            thread.join(5)
    return None


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [("there", "", "both"), ("", "there", "both"), ("missing", "there", "no file")],
)
def test_wrong_files_are_explained(
    settings: Settings, tmp_path: Path, certificate: str, key: str, sentence: str
) -> None:
    (tmp_path / "there").write_text("nothing of use")
    given = dataclasses.replace(
        settings,
        tls_certificate=str(tmp_path / certificate) if certificate else "",
        tls_key=str(tmp_path / key) if key else "",
    )
    with pytest.raises(ConfigurationError, match=sentence):
        tls.ssl_context(given)


def test_a_file_that_is_no_certificate_is_explained(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_text("nothing of use")
    given = dataclasses.replace(settings, tls_certificate=str(path), tls_key=str(path))
    with pytest.raises(ConfigurationError, match="cannot be used for TLS"):
        tls.ssl_context(given)
    with pytest.raises(ConfigurationError, match="no PEM certificate"):
        tls.loopback_context(given)


def test_a_folder_that_cannot_be_written_is_explained(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ConfigurationError, match="--cache"):
        tls.ssl_context(settings)


def test_the_machine_s_addresses_are_those_that_others_can_reach() -> None:
    for text in tls.machine_addresses():
        address = ipaddress.ip_address(text)
        assert not address.is_loopback
        assert not address.is_link_local


def test_the_invitation_shows_the_address_and_a_code(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.serving.banner.machine_addresses", lambda: ["192.0.2.7"])
    secured = tls.with_certificate(dataclasses.replace(settings, token="a b/c"))
    text = ready_banner(secured, 8000)
    assert "https://localhost:8000/#token=a%20b%2Fc" in text
    assert "https://192.0.2.7:8000/#token=a%20b%2Fc" in text
    assert "█" in text
    assert "accept it" in text
    one = ready_banner(dataclasses.replace(secured, host="198.51.100.9"), 8000)
    assert "phone in your network: https://198.51.100.9:8000/" in one
    assert "█" in one
    assert "phone" not in ready_banner(dataclasses.replace(secured, host="127.0.0.1"), 8000)
    plain = ready_banner(dataclasses.replace(Settings(), host="127.0.0.1"), 81)
    assert plain == "Ready: open http://127.0.0.1:81/"
    assert page_address(Settings(), "2001:db8::1", 80) == "http://[2001:db8::1]:80/"


def shown_certificate(context: ssl.SSLContext) -> bytes:
    """What a client is shown by a server that listens with a context."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server)
    for _ in range(4):
        for side in (asking, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    shown = asking.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def test_a_renewed_certificate_is_used_without_a_restart(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secured = tls.with_certificate(settings)
    context, loopback = tls.ssl_context(secured), tls.Loopback(secured)
    assert context is not None
    first = shown_certificate(context)
    certificate, key = Path(secured.tls_certificate), Path(secured.tls_key)
    elsewhere = dataclasses.replace(settings, cache=str(tmp_path / "elsewhere"))
    renewed = tls.with_certificate(elsewhere)
    Path(renewed.tls_key).replace(key)
    assert shown_certificate(context) == first  # its certificate is on its way
    Path(renewed.tls_certificate).replace(certificate)
    second = shown_certificate(context)
    assert second == ssl.PEM_cert_to_DER_cert(certificate.read_text())
    assert second != first
    trust = loopback.context
    assert trust is not None
    assert handshake_with(context, trust) is None
    certificate.write_text("no certificate")
    assert shown_certificate(context) == second
    certificate.unlink()
    assert shown_certificate(context) == second
    assert loopback.context is trust


def test_a_given_certificate_needs_no_warning(settings: Settings, tmp_path: Path) -> None:
    files = tls.certificate_files(settings)
    assert files is not None
    for path in files:
        os.link(path, tmp_path / path.name)
    given = dataclasses.replace(
        settings,
        tls_certificate=str(tmp_path / "certificate.pem"),
        tls_key=str(tmp_path / "key.pem"),
    )
    assert tls.ssl_context(given) is not None
    assert "accept it" not in ready_banner(given, 8000)


def test_all_ports_and_the_relay_between_them_use_what_was_renewed(
    settings: Settings, tmp_path: Path
) -> None:
    speech, page = free_ports(2)
    serving = dataclasses.replace(settings, host="127.0.0.1", speech_port=speech, web_port=page)
    secured = tls.with_certificate(serving)
    certificate, key = Path(secured.tls_certificate), Path(secured.tls_key)
    renewed = tls.with_certificate(dataclasses.replace(settings, cache=str(tmp_path / "new")))

    contents = [Path(each.tls_certificate).read_text() for each in (secured, renewed)]

    def renew() -> None:
        Path(renewed.tls_key).replace(key)
        Path(renewed.tls_certificate).replace(certificate)

    async def serve(connection: ServerConnection, _: AccessPolicy) -> None:
        await connection.send("here")

    async def run() -> None:
        web = WebServer(secured, ServiceStatus())
        access = AccessPolicy(secured, Health(ServiceStatus()))
        async with open_port(secured, "speech", access=access, max_size=1000) as handler:
            handler.set_result(serve)
            await asyncio.to_thread(web.start)
            for again in (False, True):
                if again:
                    renew()
                for port in (speech, page):
                    shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
                    assert shown.split() == contents[again].split()
                trust = tls.loopback_context(secured)
                address = f"wss://127.0.0.1:{page}/audio"
                async with connect(address, ssl=trust, proxy=None) as client:
                    assert await client.recv() == "here"
            await asyncio.to_thread(web.stop)

    asyncio.run(run())
