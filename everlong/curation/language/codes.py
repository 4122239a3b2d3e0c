"""One code for one language, whatever a source calls it.

Corpora name languages by ISO 639-1 (``en``), by ISO 639-3 (``eng``), with a script (``eng_Latn``,
as FLORES and SIB-200 do) or with a region (``pt-BR``). Here a language has the two letters of
ISO 639-1 where there are some, and else the three of ISO 639-3. Where a corpus has the standard
form of a macrolanguage, such as Standard Arabic (``arb``), it is called by the macrolanguage.

Source: the code tables of ISO 639-1 and 639-3 (SIL International), macrolanguages included; which
member stands for a macrolanguage: FLORES-200 (NLLB Team 2022, "No Language Left Behind", table 1).
"""

from __future__ import annotations

_TWO_LETTERS = """
aar:aa abk:ab afr:af aka:ak amh:am ara:ar arg:an asm:as ava:av ave:ae aym:ay aze:az bak:ba bam:bm
bel:be ben:bn bis:bi bod:bo bos:bs bre:br bul:bg cat:ca ces:cs cha:ch che:ce chu:cu chv:cv cor:kw
cos:co cre:cr cym:cy dan:da deu:de div:dv dzo:dz ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo
fas:fa fij:fj fin:fi fra:fr fry:fy ful:ff gla:gd gle:ga glg:gl glv:gv grn:gn guj:gu hat:ht hau:ha
hbs:sh heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy ibo:ig ido:io iii:ii iku:iu ile:ie ina:ia
ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki
kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln lit:lt ltz:lb
lub:lu lug:lg mah:mh mal:ml mar:mr mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv
nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nor:no nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa
pli:pi pol:pl por:pt pus:ps que:qu roh:rm ron:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slv:sl
sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv
tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw
uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi vol:vo wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh
zul:zu
"""

_SAME_LANGUAGE = """
arb:ar ayr:ay azj:az cmn:zh ekk:et fil:tl gaz:om gug:gn khk:mn kmr:ku lvs:lv nb:no nob:no npi:ne
ory:or pbt:ps pes:fa plt:mg quy:qu als:sq swh:sw uzn:uz ydd:yi zsm:ms
in:id iw:he ji:yi jw:jv mo:ro
"""
"""Members that stand for their macrolanguage, and codes that were withdrawn (last line)."""


def _pairs(table: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in table.split())


ISO_639_1 = _pairs(_TWO_LETTERS)
"""Two letters by the three of ISO 639-3."""
ALIASES = _pairs(_SAME_LANGUAGE)
"""The code that is used here, by another one of the same language."""


def canonical(code: str) -> str:
    """The one code of a language.

    Args:
        code: of ISO 639-1 or 639-3, perhaps with a script or region: ``eng_Latn``, ``zh-Hant``.

    Returns:
        Two letters where there are some, else three; a code that no table has is returned in
        lower case, without script and region.
    """
    language = code.replace("_", "-").partition("-")[0].lower()
    language = ALIASES.get(language, language)
    return ISO_639_1.get(language, language)


def is_canonical(code: str) -> bool:
    """Whether it can be the one code of a language: of two letters one of ISO 639-1, of three any
    that :func:`canonical` leaves."""
    if len(code) == 2:
        return canonical(code) == code and code in ISO_639_1.values()
    return len(code) == 3 and code.isascii() and code.isalpha() and canonical(code) == code
