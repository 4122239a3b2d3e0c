"""Keeps out, without a threshold, what no corpus should have: sexual content about minors, and
words that urge or teach people to harm themselves.

No single word blocks a document. A rule needs terms of two kinds within some words of each other
(or a phrase that has both), and nothing nearby that speaks of police, courts, medicine, protection
or help: so that news, laws, studies, and the pages of help lines stay. The terms are in
:data:`TERMS`, for six languages; all of them are looked for in every document, since a corpus's
idea of its languages should not decide this.

What it does not do: it knows no images and no links, no code words but the best known, no other
languages and no misspellings; "teen" is no minor here, for it is most often said of adults. A novel
that tells of such things in plain words passes. It takes the worst out of text that nobody has
looked at, and proves nothing of what it leaves. Lists of hashes that clearing houses keep, and
people, find what it cannot.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from everlong.curation.document import Document, Dropped
from everlong.errors import ConfigError

Rule = Literal["sexual_minors", "sexual_minors_offers", "self_harm_urging", "self_harm_methods"]
RULES: tuple[Rule, ...] = (
    "sexual_minors",
    "sexual_minors_offers",
    "self_harm_urging",
    "self_harm_methods",
)


@dataclass(frozen=True)
class Terms:
    """The terms of a language between commas: words in lower case, without accents and signs.

    Words with two meanings are left out: those that are also cats, cocks, kisses, sweeping, Latin.
    """

    minors: str
    """Children and adolescents."""
    acts: str
    """Sexual acts in words that neither medicine nor law nor most novels use."""
    material: str
    """Depictions of minors."""
    offers: str
    """What is said by those who pass something on."""
    urging: str
    """Told to somebody: that they should harm themselves."""
    methods: str
    """How to."""
    shields: str
    """Around these a text reports, warns, judges, treats or helps; ``*`` stands for any ending."""


TERMS: Mapping[str, Terms] = {
    "en": Terms(
        minors="""child, children, kid, kids, toddler, toddlers, infant, preteen, preteens,
            pre teen, tween, underage, minor, schoolgirl, schoolgirls, schoolboy, schoolboys,
            little girl, little girls, little boy, little boys, young daughter, young son,
            middle schooler, grade schooler""",
        acts="""blowjob, handjob, cumshot, creampie, gangbang, cum inside, fucks her, fucked her,
            fucking her, fucks him, fucked him, fucking him, her pussy, wet pussy, tight pussy,
            hard cock, sucked his cock, suck my cock, her tits, make her cum, made her cum""",
        material="""child porn, child pornography, kiddie porn, kid porn, kids porn, preteen porn,
            preteen nudes, nude preteen, nude preteens, underage porn, underage nudes,
            toddler porn, infant porn, child erotica, child sex video, jailbait, pthc, lolicon,
            shotacon, loli porn""",
        offers="""download, downloads, link, links, telegram, trade, trading, swap, pics, vids,
            videos, password, mega, selling, for sale, dm me, free access, full set""",
        urging="""kill yourself, kill urself, go kys, just kys, please kys, kys you,
            want you to kill yourself, need to kill yourself, ought to kill yourself,
            go hang yourself, just hang yourself, should hang yourself, slit your wrists,
            cut your wrists, just end your life, should end your life, shoot yourself in the head,
            go jump off a bridge, go jump off a cliff, go drink bleach, go die, you should just die,
            cut yourself tonight, hurt yourself tonight, world would be better without you,
            everyone would be better off without you""",
        methods="""how to kill yourself, ways to kill yourself, best way to kill yourself,
            easiest way to kill yourself, painless way to kill yourself, how to commit suicide,
            best way to commit suicide, easiest way to commit suicide, ways to commit suicide,
            painless suicide, how to die painlessly, painless ways to die, how to hang yourself,
            how to slit your wrists, how to overdose on, best pills to overdose,
            best suicide methods, cut yourself deeper, hide your cuts, thinspo, pro ana tips""",
        shields="""police, arrest*, charged, charges, accus*, suspect*, seiz*, court, trial, jury,
            convict*, sentenced, prosecut*, investigat*, prison, jail, law, laws, legal, illegal,
            criminal*, crime*, offence*, offense*, offender*, predator*, victim*, survivor*, abuse,
            abused, abuser*, abusive, assault*, molest*, traffick*, exploitation, report, reported,
            reports, reporting, protect*, safeguard*, prevent*, helpline*, hotline*, lifeline*,
            crisis, samaritans, therap*, counsel*, psychiatr*, psycholog*, doctor*, treatment,
            diagnos*, clinic*, patients, study, studies, research*, statistic*, epidemiolog*,
            risk factors, warning signs, seek help, get help, reach out, you are not alone, bully*,
            bullied, harass*, troll*, moderat*, policy, guidelines, charity, campaign*, awareness,
            banned, condemn*, told her, told him, told me, telling, texted, urged, i m sorry,
            can t help, cannot help, game, respawn""",
    ),
    "es": Terms(
        minors="""nino, nina, ninos, ninas, menor, menores, preadolescente, colegiala, colegialas,
            hija pequena, hijo pequeno, nenita, chiquilla""",
        acts="""follando, follarme, follarla, follarlo, follada, me la folle, mamada, mi polla,
            su polla, mi verga, su verga, cogiendome a, culear""",
        material="""porno infantil, pornografia infantil, ninas desnudas, menores desnudas,
            porno de menores, porno de ninas, sexo con menores, sexo con ninas, sexo con ninos""",
        offers="""descargar, descarga, enlace, enlaces, link, links, telegram, intercambio,
            fotos, videos, vendo, gratis, pack, packs, contrasena""",
        urging="""matate, suicidate, ahorcate, cortate las venas, pegate un tiro, quitate la vida,
            tirate de un puente, deberias matarte, deberias suicidarte, deberias morirte,
            vete a morir, nadie te echaria de menos, estarias mejor muerto,
            estarias mejor muerta""",
        methods="""como suicidarse, como suicidarme, como matarse sin dolor, como matarme sin dolor,
            mejores formas de suicidarse, mejor forma de suicidarse, formas de suicidarse,
            suicidio sin dolor, como morir sin dolor, como ahorcarse, como cortarse las venas,
            pastillas para morir, pastillas para suicidarse""",
        shields="""policia*, guardia civil, deten*, arrest*, acusad*, incaut*, juez, juicio,
            tribunal*, condena*, fiscal*, investiga*, prision, carcel, ley, leyes, legal*, ilegal*,
            delito*, crimen*, penal*, victima*, abuso*, agresion*, agresor*, violador*, pederast*,
            trata de, explotacion, denunci*, proteg*, proteccion, prevencion, prevenir, ayuda,
            telefono de, linea de, crisis, terap*, psiquiat*, psicolog*, medic*, tratamiento*,
            diagnost*, paciente*, estudio, estudios, estadistica*, factores de riesgo, senales de,
            acoso, campana*, unicef, prohib*, le dijo, le dijeron""",
    ),
    "fr": Terms(
        minors="""enfant, enfants, gamin, gamine, gamins, gamines, fillette, fillettes, mineur,
            mineure, mineurs, mineures, petite fille, petites filles, petit garcon, petits garcons,
            ecoliere, ecolieres, collegienne, preado""",
        acts="""je la baise, ma bite, sa bite, suce ma bite, se faire sodomiser, ejacule dans,
            partouze, gangbang""",
        material="""porno enfant, porno enfants, pornographie enfantine, pornographie infantile,
            porno infantile, pedoporno, pedopornographie, pedopornographique, pedopornographiques,
            petites filles nues, fillettes nues, mineures nues, nudes de mineures,
            sexe avec mineure, sexe avec enfant""",
        offers="""telecharger, telechargement, lien, liens, link, telegram, echange, echanger,
            photos, videos, vends, gratuit, gratuitement, mot de passe""",
        urging="""tue toi, suicide toi, pends toi, va te pendre, va te tuer, va te suicider,
            va crever, ouvre toi les veines, taille toi les veines, tire toi une balle,
            jette toi d un pont, jette toi sous un train, tu devrais te tuer,
            tu devrais te suicider, tu devrais te pendre, tu devrais mourir, fous toi en l air,
            tu ne manquerais a personne""",
        methods="""comment se suicider, comment me suicider, se suicider sans douleur,
            se suicider sans souffrir, comment mourir sans souffrir, comment mourir sans douleur,
            meilleure methode de suicide, meilleurs moyens de se suicider, comment se pendre,
            comment s ouvrir les veines, medicaments pour mourir, medicaments pour se suicider,
            comment se scarifier""",
        shields="""police, policier*, gendarm*, arrete, arretes, arrestation*, accus*, saisi*, juge,
            juges, jugement*, tribuna*, proces, condamn*, procureur*, enquet*, prison, loi, lois,
            legal*, illegal*, illicite*, delit*, crime*, criminel*, penal*, victime*, abus,
            agression*, agresseur*, pedophil*, viol, viols, violeur*, traite des, exploitation,
            signal*, proteg*, protection, prevention, prevenir, aide, numero, ecoute, crise,
            therap*, psychiatr*, psycholog*, medecin*, soins, traitement*, diagnost*, patient*,
            etude, etudes, statistique*, facteurs de risque, harcel*, campagne*, association*,
            interdi*, lui a dit, lui ont dit""",
    ),
    "de": Terms(
        minors="""kind, kinder, kindern, kleinkind, kleinkinder, kleine madchen, kleines madchen,
            kleinen madchen, kleiner junge, kleine jungs, kleinen jungen, minderjahrige,
            minderjahrigen, minderjahriger, schulmadchen, schulerin, grundschulerin""",
        acts="""fickt sie, fickte sie, fickte ihn, fickt ihn, fickte mich, gefickt, blowjob,
            seinen harten schwanz, ihre fotze, ihre titten, gangbang, wichste, einen geblasen""",
        material="""kinderporno, kinderpornos, kinderpornografie, kinderpornographie,
            nacktbilder von kindern, nacktfotos von kindern, nacktvideos von kindern,
            sex mit kindern, sex mit minderjahrigen""",
        offers="""download, downloaden, herunterladen, link, links, telegram, tausch, tausche,
            tauschen, bilder, fotos, videos, verkaufe, gratis, kostenlos, passwort""",
        urging="""bring dich um, bring dich endlich um, bringt euch um, tote dich, erhang dich,
            hang dich auf, erschiess dich, schlitz dir die pulsadern auf,
            schneid dir die pulsadern auf, spring von der brucke, spring vor den zug, geh sterben,
            du solltest dich umbringen, du solltest sterben, du solltest dich toten,
            niemand wurde dich vermissen, begeh selbstmord""",
        methods="""wie bringe ich mich um, wie bringt man sich um, wie kann ich mich umbringen,
            schmerzlos umbringen, wie kann man schmerzlos sterben, schmerzloser suizid,
            schmerzloser selbstmord, schmerzlose suizidmethoden, beste suizidmethode,
            beste selbstmordmethode, wie erhangt man sich, tabletten zum sterben,
            selbstmord anleitung, suizid anleitung, wie begehe ich selbstmord,
            wie begeht man selbstmord""",
        shields="""polizei*, polizist*, festgenommen, verhaft*, angeklagt*, verdacht*,
            sichergestellt, richter*, gericht*, prozess*, verurteil*, staatsanwalt*, ermitt*,
            gefangnis*, gesetz*, strafrecht*, strafbar*, straftat*, illegal*, verbrechen, verboten,
            tater*, opfer*, missbrauch*, misshand*, padophil*, menschenhandel, ausbeut*, anzeige*,
            melden, meldung*, schutz*, pravention*, vorbeug*, hilfe*, telefonseelsorge, beratung*,
            krise*, therap*, psychiatr*, psycholog*, arzt*, behandl*, diagnos*, patient*, studie,
            studien, statistik*, risikofaktor*, warnzeichen, mobbing, gemobbt, kampagne*, verein,
            sagte zu ihr, sagte zu ihm, schrieb ihr, schrieb ihm""",
    ),
    "pt": Terms(
        minors="""crianca, criancas, menina, meninas, menino, meninos, garotinha, garotinhas,
            garotinho, menor de idade, menores de idade, filha pequena, filho pequeno,
            pre adolescente""",
        acts="""fodendo, foder a, foder o, fodi a, fodi o, me fodeu, boquete, punheta, buceta,
            gozei dentro, gozar dentro, siririca""",
        material="""pornografia infantil, porno infantil, criancas nuas, nudes de menores,
            nudes de menor, sexo com criancas, sexo com menores, sexo com menor de idade""",
        offers="""baixar, download, link, links, telegram, troco, trocar, trocando, fotos, videos,
            vendo, gratis, pack, packs, senha""",
        urging="""vai se matar, va se matar, suicide se, vai se enforcar,
            corte os pulsos, corta os pulsos, voce devia se matar, voce deveria se matar,
            voce devia morrer, voce deveria morrer, se joga da ponte, se jogue da ponte,
            ninguem sentiria sua falta""",
        methods="""como se matar, como me matar, como cometer suicidio, como se suicidar,
            como me suicidar, suicidio sem dor, como morrer sem dor, formas de se matar,
            maneiras de se matar, como se enforcar, como cortar os pulsos, remedios para morrer,
            remedio para morrer""",
        shields="""policia*, preso*, presa, prisao, detid*, acusad*, apreen*, juiz*, justica,
            julgamento*, tribuna*, condenad*, promotor*, ministerio publico, investiga*, lei, leis,
            legal, ilegal*, crime*, criminos*, penal, vitima*, abuso*, abusador*, agress*, pedofil*,
            estupr*, trafico, exploracao, denuncia*, proteg*, protecao, prevencao, prevenir, ajuda,
            cvv, disque, crise, terap*, psiquiat*, psicolog*, medic*, tratamento*, diagnost*,
            paciente*, estudo, estudos, estatistica*, fatores de risco, sinais de, bullying,
            campanha*, proibi*, disse para""",
    ),
    "it": Terms(
        minors="""bambino, bambina, bambini, bambine, minorenne, minorenni, bimba, bimbe, bimbo,
            bimbi, ragazzina, ragazzine, ragazzino, ragazzini, figlia piccola, figlio piccolo""",
        acts="""pompino, scoparmi, il mio cazzo, il suo cazzo, la sua figa, figa bagnata, sborrata,
            sborrare, inculare, inculata""",
        material="""pedopornografia, pedopornografico, pedopornografici, pornografia infantile,
            porno infantile, porno minorenni, bambine nude, minorenni nude, nudes di minorenni,
            sesso con minorenni, sesso con bambine, sesso con bambini""",
        offers="""scaricare, scarica, download, link, telegram, scambio, scambiare, foto, video,
            vendo, gratis, pack, password""",
        urging="""ammazzati, ucciditi, suicidati subito, vai a impiccarti, vatti ad ammazzare,
            vai ad ammazzarti, tagliati le vene, buttati da un ponte, buttati sotto un treno,
            sparati in testa, dovresti ammazzarti, dovresti ucciderti, dovresti suicidarti,
            dovresti morire, nessuno sentirebbe la tua mancanza""",
        methods="""come suicidarsi, come suicidarmi, come uccidersi senza soffrire,
            come ammazzarsi senza soffrire, suicidio indolore, come morire senza soffrire,
            come morire senza dolore, modi per suicidarsi, come impiccarsi,
            come tagliarsi le vene, farmaci per morire, pillole per morire""",
        shields="""polizia*, carabinieri, arrest*, accus*, imputat*, sequestr*, giudic*, tribunal*,
            processo, condann*, procura, indagin*, indaga*, carcere, legge, leggi, legale, illegal*,
            reato, reati, crimin*, penale, vittim*, abuso, abusi, aggress*, pedofil*, stupr*,
            tratta di, sfruttamento, denunci*, segnala*, proteg*, protezione, prevenzione,
            prevenire, aiuto, telefono amico, numero verde, crisi, terap*, psichiatr*, psicolog*,
            medic*, trattamento, diagnosi, pazient*, studio, studi, statistic*, fattori di rischio,
            bullismo, campagna*, associazione, vieta*, gli disse, le disse""",
    ),
}

_NEAR, _OFFER_NEAR, _SHIELD_NEAR = 8, 15, 40
"""Words between terms of two kinds, and around them where a shield counts."""
_UNMEANT = frozenset(
    (
        "if", "don", "t", "not", "never", "before", "nor", "without", "thoughts", "want", "wants",
        "wanted", "tried", "trying", "to", "ll", "will", "would", "could", "might", "almost",
        "nearly", "or", "no", "nunca", "jamais", "ne", "pas", "sans", "wenn", "nicht", "nie",
        "kein", "nao", "non", "mai", "senza",
    )
)  # fmt: skip
"""In the three words before an urging they make another thing of it."""
_AGE = re.compile(r"\b(?:[1-9]|1[0-7]) ?(?:yo|(?:yrs?|years?) olds?|ans|anos|anni|jahrig\w*)\b")
_WORD = re.compile(r"\w+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_MOST_ANCHORS = 1000
"""Terms that are looked at in a document, so that one that is full of them takes no minutes."""


@dataclass(frozen=True)
class HardBlocks:
    """Drops what no corpus should have; why it was dropped tells a rule and a language, no words of
    the document."""

    kind: Literal["hard_blocks"] = "hard_blocks"
    rules: tuple[Rule, ...] = RULES
    """Which rules are looked at; all of them, unless a corpus is made to study one."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ConfigError(f"rules is empty; give some of {', '.join(RULES)}")
        for rule in self.rules:
            if rule not in RULES:
                raise ConfigError(f"rules has {rule!r}; known are {', '.join(RULES)}")

    def __call__(self, document: Document) -> Dropped | None:
        """See :class:`everlong.curation.step.DocumentStep`."""
        for rule, language in findings(document.text):
            if rule in self.rules:
                return Dropped(rule, f"terms of {language}")
        return None


def findings(text: str) -> Iterator[tuple[Rule, str]]:
    """Rules that a text breaks, with the language of the terms; the same may come again."""
    words = words_of(text)
    if not (seen := _keys().keys() & set(words)):
        return
    anchors = (
        (anchor, start)
        for place in (number for number, word in enumerate(words) if word in seen)
        for anchor in _keys()[words[place]]
        if (start := place - anchor.offset) >= 0
        and words[start : start + len(anchor.words)] == anchor.words
    )
    for anchor, start in islice(anchors, _MOST_ANCHORS):
        if _breaks(anchor, words, start):
            yield anchor.rule, anchor.language


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without accents."""
    if not text.isascii():
        text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return _WORD.findall(text.lower())


def _breaks(anchor: _Anchor, words: Sequence[str], start: int) -> bool:
    """Whether the words around a term make it what its rule is about."""
    kinds = _patterns(anchor.language)

    def around(count: int) -> str:
        end = start + len(anchor.words)
        return f" {' '.join(words[max(0, start - count) : end + count])} "

    if anchor.rule == "sexual_minors":
        near = around(_NEAR)
        meant = bool(kinds.minors.search(near) or _AGE.search(near))
    elif anchor.rule == "sexual_minors_offers":
        meant = kinds.offers.search(around(_OFFER_NEAR)) is not None
    elif anchor.rule == "self_harm_urging":
        meant = _UNMEANT.isdisjoint(words[max(0, start - 3) : start])
    else:
        meant = True
    return meant and not kinds.shields.search(around(_SHIELD_NEAR))


@dataclass(frozen=True)
class _Anchor:
    """A term that a rule begins with."""

    rule: Rule
    language: str
    words: list[str]
    offset: int
    """Of the word by which it is found."""


@dataclass(frozen=True)
class _Patterns:
    minors: re.Pattern[str]
    offers: re.Pattern[str]
    shields: re.Pattern[str]


@functools.cache
def _keys() -> dict[str, list[_Anchor]]:
    """Terms by their longest word, which is most often the rarest."""
    found: dict[str, list[_Anchor]] = {}
    for language, terms in TERMS.items():
        anchors: tuple[tuple[Rule, str], ...] = (
            ("sexual_minors", terms.acts),
            ("sexual_minors_offers", terms.material),
            ("self_harm_urging", terms.urging),
            ("self_harm_methods", terms.methods),
        )
        for rule, listed in anchors:
            for term in _listed(listed):
                words = term.split()
                key = max(words, key=len)
                found.setdefault(key, []).append(_Anchor(rule, language, words, words.index(key)))
    return found


@functools.cache
def _patterns(language: str) -> _Patterns:
    terms = TERMS[language]

    def any_of(listed: str) -> re.Pattern[str]:
        return re.compile(f" (?:{'|'.join(_listed(listed))}) ".replace("*", r"\w*"))

    return _Patterns(any_of(terms.minors), any_of(terms.offers), any_of(terms.shields))


def _listed(terms: str) -> list[str]:
    return [" ".join(term.split()) for term in terms.split(",")]
