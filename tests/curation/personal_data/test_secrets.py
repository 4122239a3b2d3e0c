from __future__ import annotations

import base64
import hashlib
import time

import pytest

from everlong.curation.personal_data.secrets import secrets

HEX = hashlib.sha256(b"everlong").hexdigest()
WORD = base64.b64encode(hashlib.sha512(b"everlong").digest()).decode().replace("/", "7")
WORD = WORD.replace("+", "Q").replace("=", "")


def keys(text: str) -> list[str]:
    return [text[start:end] for start, end in sorted(set(secrets(text)))]


@pytest.mark.parametrize(
    "key",
    [
        *("AKIA" + "Q3EGRIZ2N7PLT4WX", f"ghp_{WORD[:36]}", f"github_pat_{WORD[:22]}_{WORD[:59]}"),
        *(
            f"glpat-{WORD[:20]}",
            f"xoxb-123456789012-1234567890123-{WORD[:24]}",
            f"sk_live_{WORD[:24]}",
        ),
        *(f"AIza{WORD[:35]}", f"GOCSPX-{WORD[:28]}", f"hf_{WORD[:34]}", f"npm_{WORD[:36]}"),
        *(f"SG.{WORD[:22]}.{WORD[:43]}", f"dop_v1_{HEX}", f"sk-proj-{WORD[:48]}"),
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.{WORD[:43]}",
    ],
)
def test_keys_of_known_issuers(key: str) -> None:
    for around in ("{}", "token={}", '"{}"', "Bearer {}", "leaked: {}.", "`{}`"):
        assert keys(around.format(key)) == [key]
    assert keys(f"x{key}") == []
    assert keys(key[:14]) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "api_key = '{}'",
            '{{"client_secret": "{}"}}',
            "API_TOKEN={}",
            "password: {}",
            "apiKey={}&v=3",
        ),
        *("<apiKey>{}</apiKey>", "--access-token {}", "-H 'X-Api-Key: {}'", "secret_key_base: {}"),
        *(
            "Authorization: Bearer {}",
            'key="ApiKey" value="{}"',
            "login x password {} ",
            "secret => '{}'",
        ),
    ],
)
def test_random_values_that_are_called_a_key(text: str) -> None:
    for value in (HEX[:32], HEX, WORD[:24], "3fa85f64-5717-4562-b3fc-2c963f66afa6"):
        assert keys(text.format(value)) == [value]
        assert keys(f"etag = '{value}'") == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "api_key = 'YOUR_API_KEY_GOES_HERE_1'",
            "token = get_token(session_id_2)",
            "AKIAIOSFODNN7EXAMPLE",
        ),
        *(
            "password = ${DB_PASSWORD}",
            "token: xxxxxxxxxxxxxxxxxxxx1",
            "secret = 'my-very-secret-name-1'",
        ),
        *(f"public_key = '{HEX}'", f"cache_key={HEX}", f"primary_key: {HEX}", f"sha256: {HEX}"),
        *(
            "token_path = /etc/app/tokens/main2.json",
            "sort_key = 2021-01-01T10:11:12",
            "key = 1234567890123456",
        ),
        *("mysql://user:password@host/db", "https://acme.org:8080/a@b", "mysql://{{u}}:{{p1}}@h"),
        *("token: the_first_token_of_version_2", "secret: aaaaaaaaaaaaaaaa1", f"commit {HEX}"),
    ],
)
def test_names_and_placeholders_are_no_keys(text: str) -> None:
    assert keys(text) == []


def test_passwords_in_addresses() -> None:
    assert keys("postgres://app:x7Kq9@db.acme.org:5432/x") == ["x7Kq9"]


@pytest.mark.parametrize("name", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_private_keys_are_found_whole(name: str) -> None:
    key = f"-----BEGIN {name}PRIVATE KEY-----\n{WORD}\n{WORD}\n-----END {name}PRIVATE KEY-----"
    assert keys(f"a\n{key}\nb {key}") == [key, key]
    assert keys(key.replace("PRIVATE", "PUBLIC")) == []
    assert keys(key[:60]) == []


KEY_LINES = [f"{WORD}{WORD}"[n : n + 64] for n in range(10)]


@pytest.mark.parametrize(
    ("between", "last"),
    [
        ("\n", "Qk3="),
        ("\r\n", "x7"),
        ("\\n", f"{WORD[:30]}=="),
        ("\n    > ", "Qk3="),
        (" ", "Qk3="),
        ('\\n" +\n    "', "Qk3="),
        ("\n\n", "Qk3="),
    ],
)
def test_private_keys_without_their_end_are_found(between: str, last: str) -> None:
    """As where a document was cut off, or an extract ends."""
    key = between.join(["-----BEGIN RSA PRIVATE KEY-----", *KEY_LINES])
    assert keys(f"a\n{key}") == [key]
    whole = f"{key}{between}{last}"
    for behind in ("", "\n", "\n\nThe rest of the text, with 3 words."):
        assert keys(f"a\n{whole}{behind}") == [whole]
    assert keys(f"{key}\nWords that follow it") == [key]


def test_attributes_of_private_keys_without_their_end() -> None:
    for attributes in (
        "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n",
        "Version: GnuPG v2\nComment: of jane\n\n",
    ):
        key = f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{attributes}{WORD}\nQk3="
        assert keys(f"{key}\nand so on") == [key]


def test_what_a_private_key_begins_with_is_none() -> None:
    header = "-----BEGIN PRIVATE KEY-----"
    for behind in ("", "\n", "\n...\n", "\nis the first line of it.", f" or {header}: words"):
        assert keys(f"{header}{behind}") == []


def test_long_private_keys_take_no_longer() -> None:
    begin = time.perf_counter()
    header = "-----BEGIN PRIVATE KEY-----"
    for behind in ("\n" * 50, f"{WORD}\n", "Version: ", f"\n{'a' * 39}", " > "):
        keys(f"{header}{behind * 3000}" * 20)
    assert time.perf_counter() - begin < 10
