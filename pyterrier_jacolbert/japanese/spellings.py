"""Folds spellings that Unicode's normalisation keeps apart, for search by words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import regex

#: The names by which ``normalize=`` selects folds: those of :func:`fold_text` and :func:`shorten_long_vowel`.
FOLDS = ("dashes", "waves", "kanji", "numbers", "long_vowels")
DEFAULT_FOLDS: tuple[str, ...] = ()

#: Hyphens, minus signs, dashes and horizontal lines, which people and OCR use for each other and for ー.
_DASHES = r"\-\u2010-\u2015\u2043\u2212\u2500\u2501\u2796\u30fc"
_DASH = regex.compile(rf"(?P<after_kana>(?<=[\p{{Hiragana}}\p{{Katakana}}])[{_DASHES}]+)|[{_DASHES}]")
_WAVES = str.maketrans(dict.fromkeys("\u301c\u3030\u223c\u223f\u2053", "~"))
_DIGIT_SEPARATOR = regex.compile(r"(?<=(?<!\d)(?<!\d,)[1-9]\d{0,2}(?:,\d{3})*),(?=\d{3}(?:,\d{3})*(?!,?\d))")
#: Shortest katakana word that loses a final ー: サーバー, but not エラー (the default of Lucene's
#: JapaneseKatakanaStemFilter).
_SHORTEST_STEMMED = 4
_KATAKANA_WORD = regex.compile(rf"[\u30a1-\u30fa\u30fc]{{{_SHORTEST_STEMMED - 1},}}\u30fc")

#: Old forms of kanji (those of the list of jōyō kanji of 2010, some of the list of kanji for names, and common variants
#: in names) and the forms of today. Unicode has most as characters of their own.
_OLD_KANJI = (
    "亞惡壓圍醫爲壹隱榮營衞驛圓鹽緣艷應歐毆櫻奧橫溫穩假價畫畵會壞懷繪槪擴殼覺學嶽樂渴勸卷寬歡罐觀關陷顏歸氣龜僞戲犧"
    "舊據擧虛峽挾敎狹鄕堯曉區驅勳薰徑惠揭攜溪經繼莖螢輕鷄藝擊缺儉劍劒圈檢權獻縣險顯驗嚴效廣恆鑛號國黑碎濟齋劑册雜參"
    "慘棧蠶贊殘絲齒兒辭濕實舍寫釋壽收從澁獸縱肅處緖敍奬將燒稱證乘剩壤孃條淨疊穰讓釀囑觸寢愼晉眞盡圖粹醉隨髓數樞瀨淸"
    "靑聲靜齊稅說攝竊專戰淺潛纖踐錢禪曾雙壯搜插巢爭總聰莊裝騷增臟藏卽屬續墮體對帶滯臺瀧擇澤單擔膽團彈斷癡遲晝蟲鑄廳"
    "徵聽敕鎭遞鐵轉點傳黨盜燈當鬪鬭德獨讀屆繩貳惱腦霸廢拜賣麥發髮拔晚蠻祕濱甁拂佛倂竝變邊步寶豐襃沒飜每萬滿麵默譯藥"
    "與豫餘譽搖樣謠遙來賴亂覽龍兩獵綠淚壘勵禮隸靈齡曆歷戀鍊爐勞樓錄灣亙凜槇瑤巖彌辨辯瓣戾囘橢驒髙﨑邉濵𠮷"
)
_NEW_KANJI = (
    "亜悪圧囲医為壱隠栄営衛駅円塩縁艶応欧殴桜奥横温穏仮価画画会壊懐絵概拡殻覚学岳楽渇勧巻寛歓缶観関陥顔帰気亀偽戯犠"
    "旧拠挙虚峡挟教狭郷尭暁区駆勲薫径恵掲携渓経継茎蛍軽鶏芸撃欠倹剣剣圏検権献県険顕験厳効広恒鉱号国黒砕済斎剤冊雑参"
    "惨桟蚕賛残糸歯児辞湿実舎写釈寿収従渋獣縦粛処緒叙奨将焼称証乗剰壌嬢条浄畳穣譲醸嘱触寝慎晋真尽図粋酔随髄数枢瀬清"
    "青声静斉税説摂窃専戦浅潜繊践銭禅曽双壮捜挿巣争総聡荘装騒増臓蔵即属続堕体対帯滞台滝択沢単担胆団弾断痴遅昼虫鋳庁"
    "徴聴勅鎮逓鉄転点伝党盗灯当闘闘徳独読届縄弐悩脳覇廃拝売麦発髪抜晩蛮秘浜瓶払仏併並変辺歩宝豊褒没翻毎万満麺黙訳薬"
    "与予余誉揺様謡遥来頼乱覧竜両猟緑涙塁励礼隷霊齢暦歴恋錬炉労楼録湾亘凛槙瑶巌弥弁弁弁戻回楕騨高崎辺浜吉"
)
_KANJI = str.maketrans(_OLD_KANJI, _NEW_KANJI)


def check_folds(folds: object) -> tuple[str, ...]:
    """Returns the names of folds in the order of :data:`FOLDS`.

    Args:
        folds: a name, several, or ``"all"``.

    Raises:
        ValueError: a name is unknown.
    """
    names = [folds] if isinstance(folds, str) else list(folds) if isinstance(folds, Collection) else [folds]
    if names == ["all"]:
        return FOLDS
    if any(name not in FOLDS for name in names):
        raise ValueError(f"normalize must be 'all' or some of {', '.join(map(repr, FOLDS))}, not {folds!r}.")
    return tuple(name for name in FOLDS if name in names)


def fold_text(text: str, folds: Sequence[str]) -> str:
    """Folds spellings of a text before it is split into words.

    - ``"dashes"``: hyphens, minus signs, dashes and lines after kana are ー, and others are "-".
    - ``"waves"``: 〜, ～, ∼ and others are "~".
    - ``"kanji"``: old and variant forms are today's: 國 is 国, 髙 is 高.
    - ``"numbers"``: numbers lose the commas between groups of three digits: 1,000 is 1000.

    Args:
        text: text in NFKC.
        folds: names of folds.

    Returns:
        The text, whose words are found under any of these spellings.
    """
    if "dashes" in folds:
        text = _DASH.sub(lambda match: "\u30fc" * len(match[0]) if match["after_kana"] else "-", text)
    if "waves" in folds:
        text = text.translate(_WAVES)
    if "kanji" in folds:
        text = text.translate(_KANJI)
    return _DIGIT_SEPARATOR.sub("", text) if "numbers" in folds and "," in text else text


def shorten_long_vowel(word: str) -> str:
    """Returns a katakana word of four and more letters without its final ー: コンピューター is コンピュータ."""
    return word[:-1] if _KATAKANA_WORD.fullmatch(word) else word
