from __future__ import annotations

import pytest

from everlong.curation.personal_data.addresses import emails, ip_addresses


def mails(text: str, spelt_out: bool = True) -> list[str]:
    return [text[start:end] for start, end in emails(text, spelt_out)]


def addresses(text: str) -> list[str]:
    return [text[start:end] for start, end in ip_addresses(text)]


@pytest.mark.parametrize(
    "address",
    [
        *("a@b.co", "jane.doe+news@mail.acme.co.uk", "o'neill@acme.org", "2020@nei.nih.gov"),
        *("j_d-e%x@x-y.museum", "MARIA@WEB.DE", "Chloe93@Yahoo.Co.Uk", "jürgen@müller.de"),
        *("почта@пример.рф", "x@xn--mller-kva.de", f"{'a' * 64}@acme.org"),
    ],
)
def test_addresses_are_found_to_the_letter(address: str) -> None:
    for around in ("{}", "<{}>", '"{}",', "mail:{}.", "({})", "请联系{}获取", "{}\n", "...{}..."):
        assert mails(around.format(address)) == [address]


@pytest.mark.parametrize(
    "text",
    [
        *("user@host", "npm i lodash@4.17.21", "@babel/core@7.1.2", "logo@2x.png", "x@2x.min.js"),
        *(
            "@jane_doe",
            "@jane@mastodon.social",
            "git@github.com:acme/x.git",
            "W@x.T",
            "A@B.transpose()",
        ),
        *("ssh://deploy@acme.com/x", "https://u:p@acme.com", "a@example.com", "b@mail.example.org"),
        *("c@acme.test", "x@localhost.localdomain", "$name@acme.com", "{{user}}@acme.com", "@.@.@"),
        *(
            "foo@-acme.com",
            "foo@acme-.com",
            f"{'a' * 65}@acme.org",
            "getty@tty1.service",
            "x@1.2.3.4",
        ),
    ],
)
def test_what_only_has_an_at_is_no_address(text: str) -> None:
    assert mails(text) == []


def test_a_sentence_behind_an_address_is_not_part_of_it() -> None:
    assert mails("Mail jane@acme.com.The rest follows") == ["jane@acme.com"]
    assert mails("jane@acme.com..") == ["jane@acme.com"]


def test_a_file_may_be_called_by_an_address() -> None:
    assert mails("see jane@acme.org.txt, jane@acme.co.uk.tar.gz") == [
        "jane@acme.org",
        "jane@acme.co.uk",
    ]
    assert mails("icons@v2.home.svg, a@example.com.txt, a@example.org.tar.gz") == []


def test_addresses_that_are_spelt_out() -> None:
    for text in (
        "jane dot doe at gmail dot com",
        "jane.doe [at] acme [dot] org",
        "jane(at)acme.org",
        "jane (at) acme (punkt) de",
        "JANE AT ACME DOT COM",
        "j4ne at acme dot org",
    ):
        assert mails(f"Contact: {text}, thanks") == [text]
        assert mails(f"Contact: {text}, thanks", spelt_out=False) == []
    for text in (
        "Look at acme dot com",
        "see you at noon. dot the i",
        "meet (at) the bar",
        "a [at] b",
    ):
        assert mails(text) == []


def test_public_addresses_are_found() -> None:
    for address in (
        *("81.2.69.142", "212.0.17.9", "2a00:1450:4001:81b::200e", "2003:e5:1:2:3:4:5:6"),
        "2A02:908::1",
    ):
        for around in ("{}", "from {}:", "[{}]", "ip={} ok", '"{}"', "{}, 10.0.0.1", "http://{}/"):
            assert addresses(around.format(address)) == [address]
    assert addresses("connect 81.2.69.142:443") == ["81.2.69.142"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.9",
            "127.0.0.1",
            "169.254.1.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.0", "192.0.2.7", "198.51.100.7", "203.0.113.7", "8.8.8.8", "1.1.1.1"),
        *(
            "81.2.69.0/24",
            "81.2.69.256",
            "81.02.69.1",
            "1.3.6.1.2.1",
            "81.2.69.142.5",
            "v81.2.69.142",
        ),
        *(
            "version 81.2.69.142",
            "libfoo-81.2.69.142",
            "Chrome/91.0.4.124",
            "pkg==41.2.3.4",
            "§ 3.1.4.2",
        ),
        *(
            "3.11.4.2",
            "::1",
            "fe80::1",
            "2001:db8::1",
            "fd00::1",
            "12:34:56",
            "std::dec",
            "a::b",
            "::",
        ),
        *("2001:4860:4860::8888", "2024:12:25", "33:33:00:00:00:02", "20:25:01:ab::"),
    ],
)
def test_what_is_nobodys_address_is_not_found(text: str) -> None:
    assert addresses(text) == []
    assert addresses(f"see {text} there") == []
