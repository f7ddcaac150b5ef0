"""What is one term and what finds it: tables of spellings, four languages without blanks, and Ledger-QA as it was."""

import re

import pytest

from uma_lib.ledger import Stream
from uma_lib.retrieval import BM25, split_units
from uma_lib.terms import analyse, terms


def finds(query: str, text: str) -> bool:
    index = BM25()
    index.add(text)
    return bool(index.search(query, 1))


SAME = [  # each finds the other
    ("Café", "Cafe\u0301"), ("CAFÉ", "cafe\u0301"), ("STRASSE", "Straße"), ("ΟΔΟΣ", "οδος"),
    ("coffee", "cof\u200bfee"), ("coffee", "cof\u00adfee"), ("coffee", "\ufeffcoffee"), ("coffee", "ｃｏｆｆｅｅ"),
    ("fine", "ﬁne"), ("don't", "don’t"), ("don't", "donʼt"), ("ガス", "ｶﾞｽ"),
    ("한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
    ("1204.50", "$1,204.50"), ("1204.5", "1,204.50"), ("1204.50", "1.204,50 €"), ("1204.50", "1’204.50"),
    ("1204.50", "1\u202f204,50"), ("1204.50", "1\u00a0204.50"), ("1,000,000", "1000000.00"),
    ("123456.5", "1,23,456.50"),
    ("12.5", "12.50"), ("12.50", "12,50"), ("12.50", "USD12.50"), ("12.50", "12.50USD"), ("12.50", "１２．５０"),
    ("12.50", "١٢٫٥٠"), ("12", "12.00"), ("0.5", "$.50"), ("12.5", "花了12.50元"), ("1/2", "½"),
    ("2024-05-01", "2024/5/1"), ("2024-05-01", "2024.05.01"), ("2024-05-01", "2024\u201105\u201101"),
    ("2024-05-01", "May 1, 2024"), ("2024-05-01", "the 1st of May 2024"), ("2024-05-01", "1-May-2024"),
    ("2024-05-01", "2024年5月1日"), ("2024-05-01", "2024년 5월 1일"), ("2024-05", "in Sept. 2023 and May 2024"),
    ("2024-05-01", "2024-05-01T10:30:00Z"), ("1.2.3", "v1.2.3"), ("emphasis", "_emphasis_"), ("कॉफ़ी",
    "मैंने कॉफ़ी पी"),
]  # fmt: skip


@pytest.mark.parametrize("one, other", SAME)
def test_spellings_find_each_other(one, other):
    assert finds(one, other) and finds(other, one)


PARTS = [  # the first finds the second
    ("2024-05", "2024-05-01"), ("2024", "2024-05-01"), ("2024", "2024-05"), ("May 2024", "on 2024-05-31"),
    ("2024-05-03", "2024-05-01/2024-05-03"), ("12.50", "12.50-15.00"), ("15", "12.50–15.00"), ("2023", "2023-2024"),
    ("10", "10:30"), ("10:30", "10:30:15"), ("10:30", "at T10:30:15"), ("1234", "555-1234"),
    ("555-1234", "+1-555-1234"),
    ("1.2", "1.2.3"), ("2024", "5/1/2024"), ("12", "12USD"), ("500", "Rs500"), ("name", "file_name"),
    ("5000", "커피5000원"), ("茶", "喝茶了"), ("차", "녹차를"), ("20", "10,20,30"), ("204.50", "2024-05-01,204.50"),
]  # fmt: skip


@pytest.mark.parametrize("part, text", PARTS)
def test_a_text_is_found_by_its_parts(part, text):
    assert finds(part, text)


APART = [  # neither finds the other
    ("12.50", "1250"), ("12", "12.50"), ("50", "12.50"), ("1204", "1204.50"), ("1", "1,000,000"), ("204.50",
    "1,204.50"),
    ("1.204", "1,204"), ("2024-05-02", "2024-05-01"), ("2024-06", "2024-05-06"), ("05", "2024-05-01"), ("1",
    "2024-05-01"),
    ("10:30", "10:03"), ("cafe", "café"), ("may", "2024-05-01"), ("大学", "学大"), ("maybe", "may be"), ("7", "007"),
]  # fmt: skip
APART += [(text, part) for part, text in PARTS[:3]]  # a question about a day is not about its month


@pytest.mark.parametrize("query, text", APART)
def test_what_differs_is_not_found(query, text):
    assert not finds(query, text)


def test_whole_terms_rank_before_parts_and_parts_do_not_lengthen_a_text():
    assert analyse("Paid on 2024-05-01") == (["paid", "on", "2024-05-01"], ["2024", "2024-05"])
    index = BM25()
    for text in ("2024-05-01 tea", "2024-05-02 tea", "word tea"):
        index.add(text)
    assert [i for i, _ in index.search("2024-05-02", 3)] == [1]  # not the other days of that month
    scores = [score for _, score in index.search("tea", 3)]
    assert len(set(scores)) == 1


@pytest.mark.parametrize("revisions", [0.0, 0.4])
def test_texts_and_questions_of_the_small_size_rank_as_by_their_words_alone(revisions):
    """Its dates and amounts are whole, so that committed answers of RAG stay what they are."""
    plain = re.compile(r"\d+(?:[-.:/]\d+)+|\w+")
    for number in range(3):
        stream = Stream("small", "test", 10, number, revisions)
        parts: set[str] = set()
        for session in stream:
            for unit in split_units(session.text):
                found, pieces = analyse(unit)
                assert found == plain.findall(unit.lower())
                parts.update(pieces)
        for question in stream.questions():
            assert terms(question.text) == plain.findall(question.text.lower())
            assert not parts.intersection(terms(question.text))


DIARY = {  # ten sentences a language; words, by the number of the sentence that they are from
    "Chinese": (
        "今天在咖啡店喝了一杯咖啡，花了三十元。", "我昨天给妈妈买了一束鲜花。", "下个月要去北京大学参加考试。",
        "牙医说我的牙齿很健康。", "晚上和朋友一起看电影，票价六十元。", "出租车从机场到酒店花了一百元。",
        "我家的猫打碎了花瓶。", "这个月的房租已经付清了。", "早上喝茶，下午去游泳。", "手机屏幕坏了，修理费两百元。",
    ),
    "Japanese": (
        "今日は喫茶店でコーヒーを飲んで、五百円払いました。", "昨日、母に花束を買いました。",
        "来月は東京大学で試験を受けます。",
        "歯医者さんは歯が健康だと言いました。", "夜は友達と映画を見て、チケットは千八百円でした。",
        "空港からホテルまでのタクシー代は三千円でした。", "うちの猫が花瓶を割りました。",
        "今月の家賃はもう支払いました。",
        "朝はお茶を飲み、午後は泳ぎに行きました。", "スマホの画面が壊れて、修理に二万円かかりました。",
    ),
    "Korean": (
        "오늘 카페에서 커피를 마시고 오천원을 냈어요.", "어제 어머니께 꽃다발을 사드렸어요.",
        "다음달에 서울대학교에서 시험을 봅니다.",
        "치과의사가 치아가 건강하다고 했어요.", "저녁에 친구와 영화를 보고 표값을 냈어요.",
        "공항에서 호텔까지 택시비가 삼만원이었어요.",
        "우리집 고양이가 꽃병을 깼어요.", "이번달 월세는 이미 냈어요.", "아침에 차를 마시고 오후에 수영하러 갔어요.",
        "휴대폰 화면이 깨져서 수리비가 들었어요.",
    ),
    "Thai": (
        "วันนี้ดื่มกาแฟที่ร้านกาแฟจ่ายไปห้าสิบบาท", "เมื่อวานซื้อดอกไม้ให้แม่หนึ่งช่อ",
        "เดือนหน้าจะไปสอบที่มหาวิทยาลัย",
        "หมอฟันบอกว่าฟันแข็งแรงดี", "ตอนเย็นดูหนังกับเพื่อนตั๋วราคาสองร้อยบาท",
        "ค่าแท็กซี่จากสนามบินถึงโรงแรมสามร้อยบาท",
        "แมวที่บ้านทำแจกันแตก", "จ่ายค่าเช่าเดือนนี้แล้ว", "ตอนเช้าดื่มชาตอนบ่ายไปว่ายน้ำ",
        "หน้าจอโทรศัพท์แตกค่าซ่อมพันบาท",
    ),
}  # fmt: skip
WORDS = {
    "Chinese": "咖啡 0 鲜花 1 妈妈 1 北京大学 2 大学 2 考试 2 牙医 3 牙齿 3 电影 4 看电影 4 票价 4 出租车 5"
        " 机场 5 酒店 5 猫 6 花瓶 6"
    " 房租 7 茶 8 游泳 8 手机 9 屏幕 9 修理 9",
    "Japanese": "コーヒー 0 喫茶店 0 花束 1 母 1 東京 2 大学 2 試験 2 歯医者 3 健康 3 映画 4 友達 4 空港 5"
        " ホテル 5 タクシー 5 猫 6"
    " 花瓶 6 家賃 7 お茶 8 茶 8 午後 8 スマホ 9 画面 9 修理 9",
    "Korean": "커피 0 카페 0 어머니 1 꽃다발 1 서울 2 대학교 2 시험 2 치과 3 건강 3 영화 4 친구 4 공항 5 호텔 5"
        " 택시 5 고양이 6 꽃병 6"
    " 월세 7 차 8 수영 8 휴대폰 9 화면 9 수리 9",
    "Thai": "กาแฟ 0 ร้านกาแฟ 0 ดอกไม้ 1 แม่ 1 มหาวิทยาลัย 2 สอบ 2 หมอฟัน 3 ฟัน 3 หนัง 4 เพื่อน 4 ตั๋ว 4 แท็กซี่ 5"
        " สนามบิน 5 โรงแรม 5"
    " แมว 6 แจกัน 6 ค่าเช่า 7 ชา 8 ว่ายน้ำ 8 โทรศัพท์ 9 หน้าจอ 9 ค่าซ่อม 9",
}
PRECISION = {"Chinese": 1.0, "Japanese": 1.0, "Korean": 1.0, "Thai": 0.7}  # pairs of an alphabet are less choosy


@pytest.mark.parametrize("language", DIARY)
def test_a_word_finds_its_sentence_where_words_have_no_blanks(language):
    index = BM25()
    for sentence in DIARY[language]:
        index.add(sentence)
    words = WORDS[language].split()
    precision = []
    for word, number in zip(words[::2], map(int, words[1::2]), strict=True):
        found = [i for i, _ in index.search(word, 10)]
        holding = {i for i, sentence in enumerate(DIARY[language]) if word in sentence}
        assert number in holding and holding <= set(found), word
        assert found[0] in holding, word
        precision.append(len(holding) / len(found))
    assert sum(precision) / len(precision) >= PRECISION[language]


@pytest.mark.parametrize(
    "text, word",
    [
        ("ຂ້ອຍດື່ມກາເຟຢູ່ຮ້ານ", "ກາເຟ"),  # Lao
        ("ខ្ញុំផឹកកាហ្វេនៅហាង", "កាហ្វេ"),  # Khmer
        ("ကျွန်တော်ကော်ဖီသောက်တယ်", "ကော်ဖီ"),  # Burmese
        ("我的iPhone手机坏了", "iphone"),
        ("我的iPhone手机坏了", "手机"),
        ("コーヒーを500円で", "500"),
    ],
)
def test_other_scripts_and_mixed_ones(text, word):
    assert finds(word, text)
    assert not finds("ไม่มี", text) and not finds("nothing", text)


@pytest.mark.parametrize("query", ["", " ", "?!", "\u200b", "—", "__", "🙂", "\ud83d"])
def test_a_query_without_terms_finds_nothing(query):
    assert terms(query) == []
    assert not finds(query, f"tea {query}")


@pytest.mark.parametrize(
    "piece", ["1,23", "1,11,", "1.", ".1", "1'111", "9.111", "1-", "a1", "may ", "东", "กา", "e\u0301"]
)
def test_long_texts_give_terms_in_proportion(piece):
    """Ten times the text, ten times the terms and parts: nothing is paired with everything."""
    short, long = (analyse(piece * count) for count in (1_000, 10_000))
    for few, many in zip(short, long, strict=True):
        assert sum(map(len, many)) <= 11 * sum(map(len, few)) + 100
