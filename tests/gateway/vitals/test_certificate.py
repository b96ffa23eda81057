"""When certificates end, read from what openssl makes."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swapline_gateway.vitals.certificate import end_s, first_end_s, own_end_s
from tests.gateway.vitals.certificates import make_certificate, openssl


def end_by_openssl(file: Path) -> float:
    said = openssl("x509", "-enddate", "-noout", "-in", file.name, folder=file.parent)
    return datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificates"), "authority", days=300)


@pytest.mark.parametrize("days", [1, 30, 20_000])  # the last is after 2049, where the form of a time changes
def test_end_is_what_openssl_says(authority: Path, days: int) -> None:
    file = make_certificate(authority.parent, f"of{days}", ca="authority", days=days)
    assert own_end_s(file) == end_by_openssl(file)
    assert end_s(ssl.PEM_cert_to_DER_cert(file.read_text())) == end_by_openssl(file)


def test_of_a_chain_ones_own_counts_and_of_authorities_the_first_to_end(authority: Path, tmp_path: Path) -> None:
    file = make_certificate(authority.parent, "own", ca="authority", days=400)
    chain = tmp_path / "chain.pem"
    chain.write_text("what people write\n" + file.read_text() + "before it\n" + authority.read_text())
    assert own_end_s(chain) == end_by_openssl(file)
    assert first_end_s(chain) == end_by_openssl(authority) < end_by_openssl(file)


@pytest.mark.parametrize("count", [0, 1, 3, 10, 40, 100])
def test_certificate_that_is_cut_off_is_a_value_error(authority: Path, count: int) -> None:
    der = ssl.PEM_cert_to_DER_cert(authority.read_text())
    with pytest.raises(ValueError, match="certificate"):
        end_s(der[:count])


def test_file_without_a_certificate_is_a_value_error(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ValueError, match="no certificate"):
        own_end_s(file)
