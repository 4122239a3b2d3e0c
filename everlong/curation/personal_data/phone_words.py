"""Which words beside a number say that it is a phone number, and which that it is not."""

from __future__ import annotations

import re

from everlong.curation.personal_data.numbers import before, word_set

_PHONE_WORDS = word_set(
    "phone phones tel cell cellphone cellphones fax call calls called calling dial ring sms tty "
    "toll freephone whatsapp hotline helpline voicemail reach reached landline viber ph mob gsm "
    "msisdn ruf fon rufnummer festnetz erreichen erreichbar anruf anrufen tél portable joindre "
    "joignable móvil movil tfno celular cellulare recapito telemóvel ligue ligar liga fone bel "
    "bellen komórka komórkowy zadzwoń dzwoń dzwonić kom puhelin tlf tlfn тел моб звоните هاتف جوال "
    "फ़ोन फोन मोबाइल"
)
_PHONE_BEGINNINGS = (
    *("phone", "telephon", "telefo", "téléphon", "teléfo", "mobil", "mobiel", "handy", "whatsapp"),
    *("телефон", "contact", "llam", "llám", "appel", "chiam", "zadzwo"),
)
_PHONE_SIGNS = ("电话", "手机", "電話", "携帯", "전화", "휴대폰")
"""Parts of words where words are not set apart."""
_OTHER_WORDS = word_set(
    "order orders invoice ticket case reference ref account acct tracking serial isbn issn id ids "
    "zip postcode version model part article item sku policy booking confirmation transaction pin "
    "iban card ssn vat box imei doi pmid arxiv page pages batch build commit timestamp date "
    "purchase passport licence license tax total amount price eur usd bestellnummer bestellung "
    "kundennummer rechnung rechnungsnummer vorgangsnummer aktenzeichen commande facture dossier "
    "pedido factura ordine fattura zamówienia zamówienie code gtin ean upc barcode bic blz konto "
    "kontonummer siret siren cnpj patent nhs coordinates latitude longitude lat lon pid port size "
    "bytes social nino bsn cpf dni nie nif pesel aadhaar steuer cpr pnr personnummer cuil curp "
    "fiscale job backup"
)
_NUMBER = word_set("number numbers numéro número numero nummer numer nr num")
_CALLED_OTHERWISE = word_set("number numbers sign stack centre center option price house log")
"""Behind ``call``: what it is called has nothing to do with phones."""
_WHOSE = word_set(
    "my her his its our their your new contact mi mon ma mijn meine seine mio mój moj meu mein"
)
_SENT = word_set("text txt")
_TO_WHOM = word_set("me us him her them")
_WORD = re.compile(r"[^\W\d_]+")
NEAR = 48
"""Characters before a number, within which a word counts."""


def is_called_a_phone(text: str, start: int) -> bool | None:
    """Whether the nearest word before a number that says what it is says that it is a phone's.

    Returns:
        None: there is no word that says what the number is.
    """
    found = _WORD.findall(before(text, start, NEAR))
    for place in range(len(found) - 1, -1, -1):
        word = found[place]
        later = found[place + 1] if place + 1 < len(found) else ""
        if word == "call" and later in _CALLED_OTHERWISE:
            return False
        if word in _PHONE_WORDS or word.startswith(_PHONE_BEGINNINGS):
            return True
        if word in _OTHER_WORDS:
            return False
        earlier = found[place - 1] if place else ""
        if word in _NUMBER and earlier in _WHOSE:
            return True
        if (word in _TO_WHOM and earlier in _SENT) or (word in _SENT and word is found[-1]):
            return True
        if not word.isascii() and any(sign in word for sign in _PHONE_SIGNS):
            return True
    return None
