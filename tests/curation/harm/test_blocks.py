from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.harm.blocks import RULES, TERMS, HardBlocks, Rule, findings, words_of
from everlong.errors import ConfigError
from everlong.evaluation.data import Data
from tests.evaluation.public_data import public_data

FILLING = "und so weiter et cetera "


def listed(terms: str) -> list[str]:
    return [" ".join(term.split()) for term in terms.split(",")]


def broken(text: str) -> set[Rule]:
    return {rule for rule, _ in findings(text)}


LANGUAGES = pytest.mark.parametrize("language", TERMS)


@LANGUAGES
def test_terms_of_two_kinds_near_each_other(language: str) -> None:
    terms = TERMS[language]
    minor, shield = listed(terms.minors)[0], listed(terms.shields)[0].strip("*")
    for act in listed(terms.acts):
        assert "sexual_minors" in broken(f"{minor} x x x {act}")
        assert "sexual_minors" in broken(f"{act} x x x {minor}")
        assert "sexual_minors" not in broken(f"{act} {'x ' * 20} {minor}")
        assert "sexual_minors" not in broken(act)
        assert "sexual_minors" not in broken(f"{minor} x {act} {'x ' * 20} {shield}")
        assert "sexual_minors" in broken(f"{minor} x {act} {'x ' * 60} {shield}")
    for minor in listed(terms.minors):
        assert "sexual_minors" in broken(f"{minor} x {listed(terms.acts)[0]}")


@LANGUAGES
def test_depictions_are_blocked_where_they_are_offered(language: str) -> None:
    terms = TERMS[language]
    offer, shield = listed(terms.offers)[0], listed(terms.shields)[0].strip("*")
    for material in listed(terms.material):
        assert "sexual_minors_offers" in broken(f"{material} x x {offer}")
        assert "sexual_minors_offers" not in broken(material)
        assert "sexual_minors_offers" not in broken(f"{shield} {'x ' * 20} {material} x x {offer}")
    for offer in listed(terms.offers):
        assert "sexual_minors_offers" in broken(f"{offer} x {listed(terms.material)[0]}")


@LANGUAGES
def test_urging_and_methods_are_blocked_unless_shielded(language: str) -> None:
    terms = TERMS[language]
    for rule, anchors in (("self_harm_urging", terms.urging), ("self_harm_methods", terms.methods)):
        for anchor in listed(anchors):
            assert rule in broken(f"x x x {anchor} x")
            assert rule in broken(anchor.upper())
            for shield in listed(terms.shields):
                assert rule not in broken(f"x {anchor} {'x ' * 20} {shield.replace('*', 'xyz')}")


@LANGUAGES
def test_terms_are_as_words_are_told(language: str) -> None:
    terms = TERMS[language]
    for kind in vars(terms).values():
        for term in listed(kind):
            assert words_of(term.replace("*", "")) == term.replace("*", "").split()
        assert len(set(listed(kind))) == len(listed(kind))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Nobody likes you. Just KILL yourself, loser.", "self_harm_urging"),
        ("Mátate de una vez, nadie te quiere.", "self_harm_urging"),
        ("Va te pendre, pauvre type.", "self_harm_urging"),
        ("Bring dich um, du Versager!", "self_harm_urging"),
        ("Vai se matar, seu lixo.", "self_harm_urging"),
        ("Ammazzati, fallito.", "self_harm_urging"),
        ("Which one is the easiest way to kill yourself at home?", "self_harm_methods"),
        ("Cómo suicidarse en casa: lista", "self_harm_methods"),
        ("Comment se suicider sans douleur ?", "self_harm_methods"),
        ("Wie bringe ich mich um, ohne dass es weh tut", "self_harm_methods"),
        ("Thinspo for today: eat nothing", "self_harm_methods"),
    ],
)
def test_what_is_blocked(text: str, rule: Rule) -> None:
    document = Document("id", f"{FILLING * 10}{text} {FILLING * 10}", "source")
    dropped = HardBlocks()(document)
    assert dropped is not None
    assert dropped.rule == rule
    assert dropped.detail.startswith("terms of ")
    others = tuple(one for one in RULES if one != rule)
    assert HardBlocks(rules=others)(document) is None


@pytest.mark.parametrize(
    "text",
    [
        # Help lines.
        "If you are thinking about suicide, or about how to kill yourself, call the lifeline on "
        "988. You are not alone, and people will listen to you day and night.",
        "Si piensas en cómo suicidarte o alguien te dice mátate, llama al teléfono de la "
        "esperanza: hay ayuda las 24 horas.",
        "Si tu te demandes comment mourir sans souffrir, appelle le 3114, numéro national de "
        "prévention du suicide : une écoute gratuite, jour et nuit.",
        "Wer sich fragt: Wie bringe ich mich um?, findet bei der Telefonseelsorge Hilfe, anonym "
        "und rund um die Uhr.",
        "Se você pesquisou como se matar, ligue para o CVV no 188: a ajuda é gratuita e sigilosa.",
        "Se cerchi come suicidarsi, chiama il Telefono Amico: c'è qualcuno che ti ascolta.",
        # News and law.
        "Police arrested a man of 45 who shared child pornography over Telegram; he was charged "
        "with possession of 300 videos and will appear in court on Monday.",
        "She was convicted of manslaughter after she had texted her boyfriend: go kill yourself.",
        "La Guardia Civil detuvo a dos hombres por distribuir pornografía infantil mediante "
        "enlaces.",
        "Un homme condamné pour détention d'images pédopornographiques, échangées sur Telegram.",
        "Die Polizei fand bei dem Mann Kinderpornografie; er soll Bilder über Telegram "
        "getauscht haben. Die Staatsanwaltschaft ermittelt.",
        "A Polícia Federal prendeu um homem que vendia pornografia infantil; ele trocava vídeos.",
        "I carabinieri hanno arrestato un uomo per pedopornografia: scambiava video con minori.",
        "Possession of child pornography is a crime under section 163.1, and so is the trading of "
        "links to it.",
        # Medicine and schools.
        "Sexual abuse of children: signs, examination, and treatment. A child with genital "
        "injuries should be seen by a paediatrician at once.",
        "The study asked adolescents whether they had ever looked up suicide methods or painless "
        "ways to die; 12 per cent had.",
        "Sex education for children of ten: the penis, the vagina, and how babies are made.",
        "Lethal doses of paracetamol in adolescents who took an overdose are treated with "
        "acetylcysteine within eight hours.",
        # Ordinary life, idioms and literature.
        "Do not kill yourself with work, said his mother to the little boy.",
        "You will kill yourself if you climb up there, child.",
        "The child kissed his cat and his cock crowed. The boys came inside.",
        "I feared lest you should die before the spring, dear child.",
        "Du wirst dich noch umbringen, wenn du so fährst, sagte das Kind.",
        "La petite fille cherchait sa chatte, et l'enfant voulait le baiser de sa mère.",
        "A niña le gusta su cono de helado.",
        "Veni cum infantibus, puer minor, cum in urbem.",
        "How to tie a noose knot, a bowline and a clove hitch: knots for children.",
        "In the game you can press K to die and respawn; here is how to kill yourself quickly.",
        "Renaissance painters liked nude children; the museum has a gallery of putti, and pictures "
        "of them are for sale as postcards.",
        "They fucked while the rain fell. In the morning there was coffee.",
    ],
)  # fmt: skip
def test_what_is_kept(text: str) -> None:
    assert list(findings(text)) == []
    assert HardBlocks()(Document("id", f"{FILLING * 10}{text} {FILLING * 10}", "source")) is None


@given(st.text(), st.integers(0, 200), st.integers(0, 200))
def test_any_text_is_read_and_surroundings_do_not_unblock(
    text: str, before: int, after: int
) -> None:
    list(findings(text))
    assert "self_harm_urging" in broken("x " * before + "kill yourself" + " x" * after)


@pytest.mark.parametrize(
    "text",
    ["kill yourself police " * 50_000, "yourself " * 100_000, "\ud800" * 10_000, "ﷺ" * 20_000,
     "a\u0301" * 100_000, "_" * 200_000, "1 " * 100_000],
    ids=lambda text: ascii(text[:8]),
)  # fmt: skip
def test_hostile_texts_take_no_longer(text: str) -> None:
    start = time.perf_counter()
    assert list(findings(text)) == []
    assert time.perf_counter() - start < 2


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="rules is empty; give some of sexual_minors"):
        HardBlocks(rules=())
    with pytest.raises(ConfigError, match="rules has 'other'; known are sexual_minors"):
        HardBlocks(rules=("other",))  # type: ignore[arg-type]
    step = HardBlocks(rules=("self_harm_urging",))
    assert parse_config(HardBlocks, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_answers_of_medicine_and_encyclopedias_pass() -> None:
    data = Data(public_data())
    answers = data.rows("medquad/medquad.jsonl", lambda row: f"{row['question']} {row['answer']}")
    articles = data.rows("lm_eval/boolq.jsonl", lambda row: str(row["query"]))
    assert [text[:60] for text in (*answers[::2], *articles[::2]) if list(findings(text))] == []
