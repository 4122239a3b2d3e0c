"""Words that running text of a language hardly ever lacks, in 107 languages.

English ones are Gopher's (Rae et al. 2021, appendix A.1). The others were counted, in the manner of
FineWeb2 (Penedo et al. 2025, "FineWeb2: One Pipeline to Scale Them All"): words in small letters
that are in most sentences of a language in SIB-200 (Adelani et al. 2024), training and development
part, 12 of them, or 16 or 24 where 99.5 % of its passages of 50 words would not have two otherwise.

A language is here if all such passages of SIB-200's test part have two of its words, and 99 % of
those of the Universal Declaration of Human Rights. Of passages that are no running text, names of
emoji in a row, 47 % fall below two (median of 66 languages; a quarter of them below 30 %, another
above 69 %). Left out are languages that do not part their words, are in several scripts in these
texts, or say with endings what others say with words: Finnish, Turkish, Korean, Tamil, Zulu and
others.
"""

from __future__ import annotations

from collections.abc import Mapping

_LISTS = """
en: the be to of and that have with
af: die en is van n het in wat te om word op
ak: a no na mu wɔ ne so ho sɛ bi wɔn yɛ
ast: de y la que los a del en un ye les pa
az: və bir üçün bu ilə də da daha çox olan kimi ya ən ki edir sonra etmək istifadə qədər böyük
bilər edən görə hər
ban: ring sane antuk wantah punika lan tur miwah saking puniki utawi sané
be: і ў з на што у не да па за як для
bem: mu ya pa ku elyo na kwa ne no wa ca nangu
bg: на и да от в е се за с по са че
bho: के में से बा पर आ खातिर एगो कि अउर ई रहे
bm: ka ye be la ani min ni a na kɛ nin kan
bs: je i u se na su da za od a koji ili
bug: ri na sibawa é polé tau iyanaritu engka iya nennia nasaba iyaro iyya lao onrong mancaji
ca: de i a la que el per en un del les una
ceb: sa nga ang mga ug ka og kay usa o kini adunay
cjk: nhi ya ku wa mu ca iya ha hanga lia a te
cy: yn y o i a ar ei yr ac gan sy'n cael
da: og i at er af en til på for som der med
de: die und der in von zu ist den eine das auf mit
ee: le ƒe si me be la ɖe kple dzi ŋu siwo nye
el: και να από το του που την της με σε για είναι
eo: la de kaj en estas al por ke estis aŭ kiel el
es: de la que en y el a los del se un con
et: ja on et mis kui või ei ning oli see ka oma kuid seda ta mida
eu: eta da bat ez dira ere zuen edo zen du egin izan
fa: در و از که به است را این با برای یک آن
fj: na ni e ena o mai ka me kei dua kina tiko
fo: í og at sum við av er til á um ein fyri
fon: ɔ e tɔn mɛ lɛ nɔ ɖo wɛ bɔ ɔ́ é ɖɔ
fr: de la et à le des les en a du est que
fur: di e a che al la dal il de une in par
ga: a an agus ar na go le i ag is de é
gd: a an air na agus ann e tha gu is aig seo
gl: de que a e o do en da un os para unha
gn: ha pe peteĩ umi rehe kuri kuéra upe ambue hína térã ikatu
gu: છે અને કે માટે આ એક તે જે પણ સાથે હોય કરી
ha: da a na ya ta kuma ke ne ba su mai cikin
he: של את על או עם יותר הוא היא כדי לא הם כמו גם זה ביותר אם יש אך כל ידי כי לאחר אחד אחרים
hi: के में है और की से को हैं का एक पर लिए
hr: je i u se na su da za od s a ili
ht: yo nan yon ki ak te pou an la a epi pa
hu: a és az hogy egy is vagy nem meg van volt de
hy: է և են որ համար կամ կարող էր ավելի այն մի շատ որը իր հետ վրա այլ որոնք նաև ի այս ու էին
ժամանակ
id: yang dan di dari dengan untuk ini dalam atau ke pada adalah
ig: na nke ndị bụ a ahụ ihe ma ya dị ka nwere
ilo: a ti iti ket nga ken dagiti kadagiti maysa idiay no ni
is: og að í á sem er til með eru af við fyrir
it: di e il è che la in a per un del della
jv: sing lan ing kanggo saka ana kanthi iki bisa iku ora utawa
kab: n d i ad s deg di ɣer akked ɣef ara agi
kbp: nɛ yɔ taa se yɔɔ lɛ ndʋ mbʋ mba nɖɩ yaa ɛyaa
kg: ya na ke mpi kele yo yina me mingi bo ti sambu
kmb: mu ni ya wa kya ku dya phala ka a mba we
ku: ji û ku bi li de di ya bo jî xwe ye
lb: an vun a der déi de huet fir ass eng ze op
lij: de o a e da che pe à in i un di
ln: na ya oyo eza mingi mpe pe te moko yango mpona bato
lt: ir yra kad į buvo iš su gali nuo kaip o arba ar tai m. taip per kai pat jis dėl bet savo apie
lua: mu wa ni bua ne ku ya dia pa a mua ba
lus: a ni chuan an chu leh hi te hian lo tak awm
lv: un ir no ar kas par ka kā uz vai arī var
mag: के में हय से एगो अउ हई पर आऊर कि करे ई
mg: ny dia amin’ny sy izay tsy ho ary no ireo fa misy
mi: te i ki ngā o e me a ana he ka ā
mk: на и се во од да за е со што го како
mos: n la a sẽn tɩ ne yaa ka ye wa b na
mr: आणि आहे हे या किंवा ते आहेत की एक हा केले ही काही होते अनेक असते करण्यासाठी यांनी नाही मध्ये
होता असे परंतु इतर
mt: li l u tal ta il minn fil fuq mill ma biex
nl: de van en het een in is te zijn op dat met
nn: og i er av som å til på for ein det med
no: og i som er av på til å en for med det
nso: go ka le ya e a tša ga ba di o sa
oc: de e la a que lo per un las una es dins
pa: ਹੈ ਵਿੱਚ ਦੇ ਅਤੇ ਦੀ ਨੂੰ ਹਨ ਤੋਂ ਦਾ ਇੱਕ ਲਈ ਤੇ
pap: di e ta ku i un pa a na den mas por
pl: w i na z się do jest nie to że a są
prs: در و از به که را می است های این با یک
ps: د په چې او کې ته دي سره یو دا څخه لپاره
pt: de e a que o do em um da para uma é
qu: huk nisqa a i allin mana hina kay hinallataq utaq hatun ichaqa aswan chay nisqapi manam kasqa
chaynallataq nisqata de watapi achka llapan suyupi
ro: de și a în la o cu care din să un pentru
ru: в и на что с как не из по или это для
sa: च अस्ति अपि एवं इति यत् भवति सह तथा इदं न सन्ति कृतः एकः तस्य यः आसीत् सः प्रति तत् कृते करोति
एक त्वं
sc: de su a in sa e chi sos est pro unu sas
sk: a sa na v je že ako s do z alebo sú
sm: le o i e ma ai se ona a na mai ua
so: ka ku ee iyo oo ah ayaa u ay la waxay ugu
sq: të e në dhe një për i me që nga më është
sr: је и у да се на су од за са који или
st: ho le ya e ka tse ba tsa a ke o sa
su: anu di sareng ka dina jeung nu ti ieu ku tiasa pikeun
sv: och att i som en av är på för med till den
sw: na ya wa kwa katika za ni kwenye la kuwa kama cha
tg: ба ки дар ва аз бо барои он ин ё аст як
tk: we bilen hem da üçin bir ýa bolan bolup de öz ýaly bolsa iň has ol köp şol bar nji bu ýöne
bolýar uly
tl: sa ng na ang ay mga at isang ito para may o
tn: go le ka e ya mo a di o ga tsa tse
tpi: i long bilong ol em na we wanpela olsem dispela save go
ts: ku hi ya nga eka ni wa a va na u ka
tw: no a wɔ na sɛ ne mu so ho yɛ wɔn bi
uk: на і що у з та в до не як або за
umb: kwenda yo okuti oco eci ko vo ale calwa ciwa imwe vyalwa o vikwavo vimwe nda vyosi wa ya
mekonda lyo yalwa citava omanu
ur: کے کی ہے میں سے اور کو کا ہیں پر اس نے
vec: de e xe che el ga ła a i un in na
war: nga ha an han mga ngan hin usa ka para o kon
wo: ci bi ak yi bu yu ay di na ngir am te
yo: ní àwọn tó ti tí ni àti o láti fún sí ó náà wọ́n se n ń wà fi ma a bí kan jẹ́
"""


def _read(lists: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for word in lists.split():
        if word.endswith(":"):
            words = found[word[:-1]] = []
        else:
            words.append(word)
    return {language: tuple(words) for language, words in found.items()}


STOP_WORDS: Mapping[str, tuple[str, ...]] = _read(_LISTS)
"""By language, most frequent ones first."""
