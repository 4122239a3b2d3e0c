"""Sentences with made-up personal data, and with what only looks like it, all of it marked.

With these it is measured how much of the data is found, and how much of what is found is data.
Texts are as people and programs write them, in seven languages, from letters to logs. They were
written from what such texts look like, not from what is found in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from everlong.curation import personal_data_sample_values as values
from everlong.curation.personal_data import Found, PersonalDataKind
from everlong.curation.personal_data_sample_lookalikes import LOOKALIKES

_COUNTRIES = {
    "en": ("US", "GB", "IN"),
    "de": ("DE",),
    "fr": ("FR",),
    "es": ("ES",),
    "it": ("IT",),
    "nl": ("NL",),
    "pt": ("BR",),
    "pl": ("PL",),
}
_ABROAD = ("SE", "JP", "AU", "CH", "AT", "CA", "ZA", "TR", "KR", "MX", "BE", "NG", "UA", "PT", "AE")

TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    # By register and language. «email» is filled in; what is no personal data stands in the same
    # brackets, and is not marked.
    "letter": {
        "en": (
            "Yours,\n«first» «last»\n14 Mill Lane, Oxford\n«phone»",
            "P.S. «first»'s new address is <«email»>; the old one bounces.",
            "The refund goes to the card ending in «card_tail», not to «card».",
            "As of «date» her SSN, «id:us_plain», is no longer to be used.",
            "(tel. «phone»; fax «phone»; «email»)",
            "Enclosed: forms 1099-«short_stamp», receipt «order», policy «long_order».",
            "Dear Ms «last»,\n\nThank you for your application. Please call me on «phone» or "
            "write to «email» so that we can find a date.\n\nYours sincerely,\n«first» «last»",
            "Dear Sir or Madam, my National Insurance number is «id:gb» and I have not had a "
            "payment since «date».",
            "Please transfer the deposit to «iban» (reference «order») by the end of the month.",
            "I lost my wallet on «date». The card «card» has to be blocked at once.",
            "With kind regards\n«first» «last»\n«email»\n«international»",
            "Under case number «long_order» you asked for my Social Security number; it is "
            "«id:us».",
            "The book (ISBN «isbn_13») costs $«price» and covers the years «years».",
            "To the Registrar: my NHS number is «id:nhs», and my GP can be reached at «phone».",
            "Our lawyer in Toronto needs your SIN («id:ca») and a copy of your passport.",
        ),
        "de": (
            "Ihr Aktenzeichen: «long_order»; Ihre Nachricht vom «date».",
            "Grüße\n«first»\n«phone»",
            "Bankverbindung: «iban», BIC COBADEFFXXX, USt-IdNr. «vat»",
            "Sehr geehrte Frau «last»,\n\nmeine Steuer-Identifikationsnummer lautet «id:de». Für "
            "Rückfragen erreichen Sie mich unter «phone» oder «email».",
            "Bitte überweisen Sie den Betrag von «price» EUR auf das Konto «iban» unter Angabe der "
            "Rechnungsnummer «invoice».",
            "Mit freundlichen Grüßen\n«first» «last»\nTelefon: «phone»\nE-Mail: «email»",
            "Ihre Bestellung Nr. «order» vom «date» wurde versandt (Sendungsnummer «parcel»).",
            "Meine AHV-Nummer ist «id:ch», die IBAN «iban».",
        ),
        "fr": (
            "Madame, Monsieur,\n\nMon numéro de sécurité sociale est le «id:fr». Vous pouvez me "
            "joindre au «phone» ou par courriel : «email».",
            "Cordialement,\n«first» «last»\nTél. : «phone»",
            "Veuillez effectuer le virement sur le compte «iban», référence «invoice».",
            "L'ouvrage, paru en «years», porte le numéro ISBN «isbn_13».",
            "Mon numéro de registre national est «id:be».",
        ),
        "es": (
            "Saludos,\n«first» «last»\n«phone»",
            "Factura «invoice» por «price» euros, expediente «long_order».",
            "Estimados señores: con DNI «id:dni» y domicilio en Sevilla, solicito que me llamen al "
            "«phone».",
            "Yo, «first» «last», con NIE «id:nie», autorizo el cargo en la cuenta «iban».",
            "Atentamente,\n«first» «last»\n«email»\nMóvil: «phone»",
        ),
        "it": (
            "Cordiali saluti\n«first» «last»\n«phone»",
            "Il sottoscritto «first» «last», codice fiscale «id:it», chiede il rimborso sul conto "
            "«iban».",
            "Può chiamarmi al numero «phone» oppure scrivere a «email».",
        ),
        "nl": (
            "Geachte heer «last», mijn BSN is «id:nl». U kunt mij bellen op «phone» of "
            "mailen: «email».",
            "Wilt u het bedrag overmaken naar «iban» o.v.v. factuur «invoice»?",
        ),
        "pt": (
            "Prezados, meu CPF é «id:br» e meu telefone é «phone». Aguardo retorno em «email».",
            "O pedido «order» foi enviado em «date».",
        ),
        "pl": (
            "Pozdrawiam,\n«first» «last»\ntel. kom. «phone»",
            "Mój numer PESEL to «id:pl», proszę o kontakt pod numerem telefonu «phone».",
            "Proszę o przelew na konto «iban».",
        ),
    },
    "chat": {
        "en": (
            "lmk if u get this, its «first» (new phone) «phone»",
            "«phone» is my number now, delete the old one",
            "ask for «first» on «phone» after six",
            "selling my bike, $«price», txt «phone»",
            "mailto:«email»?subject=bike",
            "my gamer tag is «first»«short_stamp» and the wifi code «part»",
            "it says error «unix_time» when i scan «ean»",
            "agent: for security, last four of your card? customer: «card_tail»",
            "customer: here's the number on the front: «card» exp 04/28 cvv 123",
            "follow me @«first»«part» or @«last».art",
            "anyone know whose number this is?? «phone»",
            "the landlord wants the rent on «iban_lower» lol",
            "customer: hi, my order «order» never arrived\nagent: sorry! what's the email on the "
            "account?\ncustomer: «email»",
            "agent: can I have a number to call you back?\ncustomer: sure, «phone»",
            "customer: you charged my card «card» twice!!",
            "just text me at «phone» when ur outside",
            "dm me or email «spelt_out_email» if you want the sheet music",
            "anyone else get calls from «phone»? they said they're the IRS and wanted my ssn lol",
            "thx «handle» for the tip, v«version» fixed it for me",
            "my whatsapp is «international», text me there",
            "agent: the reference is «order», and your tracking number is «parcel».",
            "customer: my aadhaar is «id:in» and the pan card is with my dad",
            "won «score», what a match «handle»",
            "lol my locker code is «part», don't tell «first»",
            "RT «handle»: we sold «number» copies in «years»!!!",
            "contact: «spelt_out_email»",
        ),
        "de": (
            "hier meine nummer «phone» lg «first»",
            "Kunde: Meine Handynummer ist «phone», bitte zurückrufen",
            "schreib mir einfach an «email» oder ruf an: «phone»",
            "Bestellnummer «order», Artikel «ean» fehlt",
        ),
        "fr": (
            "appelle-moi au «phone» ou au «phone» ce soir",
            "mon 06 a changé, c'est le «phone» maintenant",
            "écris-moi à «email» stp",
        ),
        "es": (
            "te paso el móvil de «first»: «phone»",
            "mi número es «phone», llámame cuando puedas",
            "mandadme el pdf a «email» porfa",
        ),
        "it": ("il mio cell è «phone», scrivimi su whatsapp", "mandami tutto a «email» grazie"),
        "nl": ("mijn nummer is «phone», app me ff", "stuur maar naar «email»"),
        "pt": ("me liga no «phone» ou manda email pra «email»",),
        "pl": ("mój nr tel. «phone», dzwoń po 18",),
    },
    "form": {
        "en": (
            "Tel: «extended_phone»\nAlt: «phone»",
            "Tax file: SSN «id:us_spaced»\nSpouse: «id:us_spaced»",
            "Aadhaar No. «id:in»  Mob. «phone»",
            "IP address (required): «ip4»\nHostname: www.northwind.io",
            "Card No  «card»   Valid thru 11/26   CVC 812",
            "Sort code 20-45-11  Account «short_order»  IBAN «iban»",
            "Device IMEI «imei»  Serial «order»",
            "Licence key: «licence_key»",
            "Name: «first» «last»\nPhone: «phone»\nEmail: «email»\nSSN: «id:us»",
            "Full name  «first» «last»\nMobile number  «phone»\nOrder number  «order»",
            "Cardholder: «first» «last»\nCard number: «card»\nExpires: 09/27",
            "Beneficiary IBAN: «iban»\nAmount: «price» EUR\nReference: «invoice»",
            "NI Number: «id:gb»\nDate of birth: «date»\nHome tel: «phone»",
            "Serial no. «order»\nEAN «ean»\nPart «part»\nMAC «mac»",
            "Fax: «international»\nVAT ID: «vat»\nZIP: «zip»",
            "SIN: «id:ca»   Province: ON   Postal code: M5V 2T6",
            "Card number: «wrong_card» (declined: invalid number)",
            "SSN: «wrong_ssn» - rejected, no such area",
            "IBAN «wrong_iban» failed the check",
        ),
        "de": (
            "Name: «last»\nSteuer-ID: «id:de»\nIBAN: «iban»\nTel.: «phone»",
            "Kundennummer: «order»\nRechnungsdatum: «date»\nUSt-IdNr.: «vat»",
        ),
        "fr": (
            "NIR «id:fr» Tél portable «phone»",
            "Nom : «last»\nN° de sécurité sociale : «id:fr»\nPortable : «phone»\n"
            "Courriel : «email»",
        ),
        "es": (
            "D.N.I. «id:dni»  Tfno. «phone»",
            "Nombre: «first»\nDNI/NIE: «id:dni»\nTeléfono: «phone»\nCorreo: «email»",
        ),
        "it": ("Cognome: «last»\nCodice fiscale: «id:it»\nCellulare: «phone»",),
        "nl": ("Naam: «last»\nBSN: «id:nl»\nTelefoon: «phone»\nRekening: «iban»",),
        "pt": (
            "CPF: «id:br_plain»  RG: 12.345.678-9  Tel.: «phone»",
            "Nome: «first»\nCPF: «id:br»\nCelular: «phone»",
        ),
        "pl": ("Nazwisko: «last»\nPESEL: «id:pl»\nTelefon: «phone»",),
        "sv": (
            "pnr «id:se_plain», mejl «email»",
            "Namn: «last»\nPersonnummer: «id:se»\nMobil: «international»",
        ),
        "fi": ("Nimi: «last»\nHenkilötunnus: «id:fi»\nSähköposti: «email»",),
    },
    "log": {
        "en": (
            "X-Forwarded-For: «ip4», «private_ip», «private_ip»",
            "postfix/smtp[1123]: to=<«email»>, relay=mx.northwind.io[«ip4»]:25, status=sent",
            "GET /reset?email=«email»&token=«random_secret» HTTP/1.1",
            "2021-03-05T10:11:12Z fail2ban: Ban «ip»",
            "UPDATE users SET mobile='«international»', mail='«email»' WHERE id=«order»;",
            "INSERT INTO t VALUES («order», '«uuid»', «milliseconds», «fraction»);",
            "kernel: [    0.«part»] ACPI: RSDP 0x00000000000F05B0 «row»",
            "inet6 «ip» prefixlen 64 scopeid 0x20<link>",
            "agent «version» connected from «ip4»:«port»",
            "cache_key=«commit» hit=1 public_key=«checksum»",
            "loaded module-«version».so (build «short_stamp»)",
            "traceroute to «ip4» («ip4»), 30 hops max",
            "«date_time» INFO login ok user=«email» ip=«ip»",
            "«date_time» WARN [worker-7] request «uuid» took «milliseconds» ns",
            "sshd[4021]: Failed password for root from «ip» port 52144 ssh2",
            '«ip» - - [12/Mar/2021:06:25:24 +0000] "GET /index.html HTTP/1.1" 200 5316',
            "commit «commit»\nAuthor: «first» «last» <«email»>\n\n    bump to «version»",
            "sha256: «checksum»  installer-«version».exe",
            "«unix_time» eth0: «mac» assigned «private_ip»",
            "backup-«stamp».tar.gz written, «number» bytes",
            "job «short_stamp» done in «fraction» s, exit code 0",
            "[«milliseconds»] SMS to «international» delivered",
            "route add «network» via «private_ip»",
            "connect «ip4»:443 ok, peer «private_ip»",
            "payment declined card=«card» amount=«fraction»",
            "device «row»",
            "dhcpd: client «ip» renewed its lease",
            "upgraded libfoo from «version» to «version»",
        ),
    },
    "json": {
        "en": (
            '{"emails": ["«email»", "«email»"], "ids": [«order», «order»]}',
            '{"password": "«random_secret»", "username": "«first»"}',
            '{"cache_key": "«commit»", "sort_key": "«date_time»", "foreign_key": «order»}',
            '{"tel": "tel:«compact_phone»", "fax": null}',
            '{"aadhaar_number": "«id:in»", "dob": "«date»"}',
            '{"cc_number": "«card»", "amount": «fraction»}',
            '{"client_secret": "«random_secret»", "redirect": "https://a.northwind.io/«uuid»"}',
            '{"public_key": "«base64»", "fingerprint": "«mac»:«mac»"}',
            '{"id": «order», "name": "«first» «last»", "email": "«email»", '
            '"phone": "«international»"}',
            '{"user": {"ssn": "«id:us»", "card": "«card»"}, "created": "«date_time»"}',
            '{"lat_lon": [«coordinates»], "zoom": 12, "etag": "«commit»"}',
            '{"api_key": "«random_secret»", "host": "«private_ip»"}',
            '{"client_ip": "«ip»", "ts": «milliseconds», "request_id": "«uuid»"}',
            '{"iban": "«iban»", "bic": "COBADEFFXXX"}',
            '{"isbn": "«isbn_13»", "doi": "«doi»", "year": 2011}',
            '{"pesel": "«id:pl»", "cpf": "«id:br»"}',
            '{"access_token": "«secret»", "expires_in": 3600}',
            '{"version": "«version»", "sha": "«commit»", "dependencies": ["«package»"]}',
            '{"contact_phone": "«phone»"}',
            '{"integrity": "sha512-«base64»"}',
        ),
    },
    "code": {
        "en": (
            "https://maps.northwind.io/api/js?key=«secret»&v=3",
            "<apiKey>«random_secret»</apiKey>",
            "AccountKey=«storage_key»;EndpointSuffix=core.northwind.net",
            "ssh-rsa AAAAB3NzaC1yc2E«base64» «first»@laptop",
            "CACHE_TOKEN_COUNT = «order»; key = sorted(x, key=lambda r: r[«section»])",
            "primary_key = '«uuid»'  # row id",
            "headers = {'Authorization': 'Bearer «random_secret»'}",
            'passphrase="«random_secret»"',
            'const SLACK_TOKEN = "«secret»";',
            "# Copyright (c) «years» «first» «last» <«email»>",
            "@Retention(RUNTIME) @«first»(value = «order») class A@B.c {}",
            "password: ${DB_PASSWORD:-change-me-please-123}",
            "--token «random_secret»",
            "secret_key_base: «long_hex»",
            "tokens = tokenizer('«checksum»'); key_size = 2048",
            "aws_access_key_id = «aws»\naws_secret_access_key = «random_secret»",
            "export GITHUB_TOKEN=«secret»",
            'client = Client(token="«secret»")  # TODO: move to env',
            "API_KEY = '«random_secret»'",
            "«private_key»",
            'curl -H "Authorization: Bearer «secret»" https://api.acme-tools.com/v1/users',
            "DATABASE_URL=postgres://app:«password»@db.internal:5432/prod",
            'api_key = "«made_key»"',
            "ssh «made_login»",
            "background: url(img/«image») no-repeat; /* «section» */",
            "npm install «package»",
            "x = A@B.T + «formula»",
            "# see https://doi.org/«doi» and arXiv:«arxiv»",
            "assert f(«row») == [«coordinates»]",
            "const std::array<int, 3> n = {«formula»};",
            "git checkout «commit»  # v«version»",
            "__author__ = '«first» «last» <«email»>'",
            "secret: «random_secret»\nport: 8443",
            "password_hash = sha256(b'«fraction»').hexdigest()",
            "maintainer: «email»",
            "token = get_token(session_id, user_id_from_request)",
            "nameserver «private_ip»\nsearch corp.internal",
        ),
    },
    "table": {
        "en": (
            "id|customer|mobile|joined\n1|«last»|«phone»|«date»\n2|«last»|«phone»|«date»\n"
            "3|«last»|«phone»|«date»",
            "naam;bsn;geboren\n«last»;«id:nl»;«date»\n«last»;«id:nl»;«date»\n«last»;«id:nl»;«date»",
            "date,open,high,low,volume\n«date»,«fraction»,«fraction»,«fraction»,«order»",
            "tail  part  qty\n«part»  «part»  3\n«long_order»  «part»  9",
            "«last»\t«card»\t04/27\n«last»\t«card»\t11/25",
            "host      address\nalpha     «ip»\nbeta      «private_ip»",
            "chr1 «row» + exon\nchr2 «row» - intron",
            "name,email,phone\n«first» «last»,«email»,«phone»\n«first» «last»,«email»,«phone»",
            "first;last;ssn\n«first»;«last»;«id:us»\n«first»;«last»;«id:us»",
            "| Name | Mobile | E-mail |\n|---|---|---|\n| «first» | «international» | «email» |",
            "year population area\n«row»\n«row»\n«row»",
            "item\tean\tprice\nlamp\t«ean»\t«price»\ndesk\t«ean»\t«price»",
            "«isbn_10» «isbn_13» «issn»",
        ),
    },
    "prose": {
        "en": (
            "Reservations: «phone». Open 10-18, closed 24.12.-26.12.",
            "The hotline (1-800-FLOWERS) was busy, and 555-0123 is only in films.",
            "According to Psalm 119:105-112 and docket 2:19-cv-«short_order», the sum was "
            "«number».",
            "Le taux était de 1 234 567 890 francs, soit 0,«short_order» par tête.",
            "The prime 2147483647 and the constant 6.02214076e23 appear on pages 100-2000.",
            "IPv4 addresses such as «private_ip» are not routed; «network» is the default.",
            "The server in Ghent, «ip», has been down since «date».",
            "Mobile: «international» (WhatsApp only)",
            "Order 066-77-8899-12 was shipped with «parcel» and «order».",
            "The firm can be reached at its New York office, «phone».",
            "Between «years» and «years» the population grew from «number» to «number».",
            "Section «section» of the standard, ISSN «issn», was withdrawn on «date».",
            "The station lies at «coordinates», «number» metres from the border.",
            "He scored «score» and «score» in the semi-finals of 1987.",
            "Her plate, «plate», was seen near mile «order» of the highway.",
            "Windows 10.0.19041.«part» and Chrome «version» are affected.",
            "Write to «email».",
            "For help, dial «phone» (toll-free) or visit the web site.",
            "The experiment (PMID «order») was repeated with p = «fraction».",
            "His e-mail, «email», was leaked together with the address «ip».",
            "A call to «international» went unanswered.",
        ),
        "de": (
            "Von 1914-1918 stieg der Preis auf «price» Mark; vgl. S. 100-234.",
            "Zimmer frei in Ulm, Tel «phone» ab 18 Uhr",
            "Die Praxis ist unter «phone» zu erreichen.",
            "Tagsüber: «phone»",
        ),
        "fr": (
            "Mairie de Lyon, 1 place de la Comédie, 69001 Lyon. «phone».",
            "Le budget passe de 12 345 678 à 23 456 789 euros entre «years».",
            "Le cabinet est joignable au «phone» du lundi au vendredi.",
        ),
        "es": (
            "Se alquila piso. Razón: «phone» (tardes).",
            "Para pedir cita, llame al «phone».",
        ),
        "it": (
            "Affittasi bilocale, 450 euro. «phone» ore pasti.",
            "Per informazioni: «phone», «email».",
        ),
    },
}
_SLOT = re.compile("«([a-z0-9_:]+)»")


@dataclass(frozen=True)
class Marked:
    """A text, and the personal data that is in it."""

    text: str
    spans: tuple[Found, ...]
    """All that is to be found, in the order of the text."""
    register: str
    """What kind of text it is: a key of :data:`TEMPLATES`."""
    values: tuple[str, ...]
    """What was filled in, such as ``id:de`` or ``isbn_13``: it explains what was found in vain."""


def samples(count: int, seed: int) -> Iterator[Marked]:
    """Marked texts; the same for the same seed.

    Args:
        count: how many.
        seed: of what is drawn.

    Raises:
        MissingExtraError: phonenumbers is not installed.
    """
    random = Random(seed)
    templates = [
        (register, language, template)
        for register, languages in TEMPLATES.items()
        for language, each in languages.items()
        for template in each
    ]
    for _ in range(count):
        register, language, template = random.choice(templates)
        yield _filled(random, register, language, template)


def _filled(random: Random, register: str, language: str, template: str) -> Marked:
    parts: list[str] = []
    spans: list[Found] = []
    slots: list[str] = []
    length = end = 0
    region = random.choice(_COUNTRIES.get(language, _ABROAD))
    for slot in _SLOT.finditer(template):
        parts.append(template[end : slot.start()])
        length += len(parts[-1])
        kind, value = _value(random, slot[1], region)
        if kind is not None:
            spans.append(Found(kind, length, length + len(value)))
        parts.append(value)
        slots.append(slot[1])
        length += len(value)
        end = slot.end()
    return Marked("".join((*parts, template[end:])), tuple(spans), register, tuple(slots))


def _value(random: Random, slot: str, region: str) -> tuple[PersonalDataKind | None, str]:
    """What fills a slot, and what kind of personal data it is."""
    if slot in LOOKALIKES:
        return None, LOOKALIKES[slot](random)
    if slot.startswith("id:"):
        return "national_id", values.NATIONAL_IDS[slot[3:]](random)
    if slot == "extended_phone":
        extension = f"{random.choice((' ext. ', ' x', ' ext '))}{random.randrange(10, 9999)}"
        return "phone", values.phone_number(random, region, international=False) + extension
    if slot in ("phone", "international"):
        abroad = slot == "international"
        region = random.choice((region, *_ABROAD)) if abroad else region
        return "phone", values.phone_number(random, region, international=abroad)
    if slot == "compact_phone":
        compact = values.phone_number(random, random.choice(_ABROAD), international=True)
        return "phone", "+" + re.sub("[^0-9]", "", compact).removeprefix("00")
    if slot in _PERSONAL:
        kind, make = _PERSONAL[slot]
        return kind, make(random)
    return None, _OTHERS[slot](random)


_PERSONAL: dict[str, tuple[PersonalDataKind, values.Make]] = {
    "email": ("email", values.email),
    "spelt_out_email": ("email", values.spelt_out_email),
    "card": ("card", values.card),
    "iban": ("iban", values.iban),
    "ip": ("ip", values.ip_address),
    "ip4": ("ip", values.ip_v4_address),
    "aws": ("secret", values.ISSUED_SECRETS[0]),
    "secret": ("secret", lambda random: random.choice(values.ISSUED_SECRETS)(random)),
    "random_secret": ("secret", lambda random: random.choice(values.RANDOM_SECRETS)(random)),
    "private_key": ("secret", values.private_key),
    "iban_lower": ("iban", lambda random: values.iban(random).lower()),
    "storage_key": ("secret", values.storage_key),
    "long_hex": ("secret", values.long_hex),
    "password": ("secret", values.RANDOM_SECRETS[2]),
}
_OTHERS: dict[str, values.Make] = {
    "first": lambda random: random.choice(values.FIRST_NAMES).title(),
    "last": lambda random: random.choice(values.LAST_NAMES).title(),
    "wrong_card": values.wrong_card,
    "wrong_ssn": values.wrong_us_ssn,
    "wrong_iban": lambda random: values.iban(random, right=False),
    "private_ip": values.private_ip_address,
    "short_order": lambda random: values.digits(random, 8),
    "card_tail": lambda random: values.digits(random, 4),
    "port": lambda random: str(random.randrange(1024, 65536)),
}
