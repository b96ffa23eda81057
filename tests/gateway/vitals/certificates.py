"""Certificates of the tests' own, made by openssl."""

import subprocess
from pathlib import Path


def openssl(*arguments: str, folder: Path) -> str:
    """Run openssl in a folder and return what it says."""
    done = subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def make_certificate(folder: Path, name: str, *, ca: str = "", days: int = 30) -> Path:
    """Make a key and a certificate for `name` (signed by `ca`, else by itself); return its PEM file."""
    subject = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    subject += [
        "-subj",
        f"/O=somebody with a name of more than a few letters/OU=so that a length takes two bytes, not one/CN={name}",
    ]
    if ca:
        openssl("req", *subject, "-out", f"{name}.csr", folder=folder)
        (folder / "extensions").write_text(f"subjectAltName=DNS:{name}\n")
        signing = ["-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", "extensions"]
        command = ["x509", "-req", "-in", f"{name}.csr", *signing, "-days", str(days), "-out", f"{name}.pem"]
        openssl(*command, folder=folder)
    else:
        openssl("req", "-x509", *subject, "-days", str(days), "-out", f"{name}.pem", folder=folder)
    return folder / f"{name}.pem"
