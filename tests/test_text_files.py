"""Whatever kind of file people have becomes clean text, and what was done is said."""

import bz2
import csv
import gzip
import io
import json
import mailbox
import tarfile
import zipfile
from email.message import EmailMessage

import pytest

from handrail.data import exports, text_files
from handrail.steps.data import text_column

WORDS = "The quiet river forgot Grüße, naïve cafés and – “äußerst” crooked garden paths. " * 5
TALK = [("Ada", "Hello there"), ("Bruno", "Hi, how are you?"), ("Ada", "Fine"), ("Bruno", "Good")]


def read(path, folder):
    """Return (texts of the column that is found, notes) of a source, as the data step reads it."""
    seen = text_files.survey_files(path, text_files.KINDS, folder / "unpacked")
    assert not seen.problems, seen.problems
    column, _ = text_column(seen, None)
    text_files.convert(seen, column, folder / "clean")
    texts = []
    for file in sorted(file for file in (folder / "clean").rglob("*") if file.is_file()):
        content = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            texts += [json.loads(line)[column] for line in content.splitlines()]
        else:
            texts.append(content)
    return texts, " ".join(seen.notes)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "codec, text",
    {
        "utf-8-sig": WORDS,
        "utf-16": WORDS,
        "utf-16-le": WORDS,
        "utf-32": WORDS,
        "cp1252": WORDS,
        "cp1250": "Šli jsme podél řeky a nikoho jsme nepotkali, žádný člověk tam nebyl. " * 20,
        "iso8859-2": "Gdzie padał śnieg, żółte liście leżały na ścieżce i było cicho. " * 20,
        "cp1254": "Şehir ışıkları gece çok güzel görünüyordu, değil mi? Işık söndü. " * 20,
        "mac_roman": "Wir gingen früh zurück; Äpfel und schöne Grüße über die Straße. " * 20,
        "cp850": "L'élève était déjà là, où ça se passe très bien, à côté. " * 20,
        "euc_jp": "私たちは川に沿って歩きましたが、誰にも会いませんでした。" * 20,
        "cp1251": "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 10,
        "koi8-r": "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 10,
        "shift_jis": "今日は良い天気ですね。公園へ行きましょう。" * 10,
        "gb18030": "今天天气很好，我们去公园散步吧。" * 10,
        "cp1253": "Καλημέρα κόσμε, τι κάνεις σήμερα; " * 10,
    }.items(),
)
def test_any_encoding(tmp_path, codec, text):
    """A text in an older encoding comes out letter for letter, and the encoding is named."""
    texts, notes = read(put(tmp_path / "old.txt", text.encode(codec)), tmp_path)
    assert texts[0].strip("\ufeff\n") == text.strip("\n")
    assert codec == "utf-8-sig" or "decoded from" in notes


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_two_bytes_a_letter_without_a_mark(tmp_path, codec):
    """Windows programs write so; in Russian or Japanese hardly a byte in it is zero."""
    text = "今日は良い天気ですね。公園へ行きましょう。\n" * 10
    assert read(put(tmp_path / "old.txt", text.encode(codec)), tmp_path)[0] == [text]


@pytest.mark.parametrize(
    "quote", ["It’s fine, she said.", "Das war über den Berg.", "Olá, não há."]
)
def test_a_few_letters_in_a_long_text(tmp_path, quote):
    """Most old English files: one curly quote in 80 lines, which must not become Chinese."""
    text = "The weather was fine and we walked along the river.\n" * 80 + f"{quote}\n"
    assert read(put(tmp_path / "old.txt", text.encode("cp1252")), tmp_path)[0] == [text]


def test_a_file_of_two_encodings(tmp_path):
    """Logs that grew over the years: each line is decoded by itself."""
    content = "Größe\n".encode() * 5 + "Größe\n".encode("cp1252")
    texts, notes = read(put(tmp_path / "log.txt", content), tmp_path)
    assert texts == ["Größe\n" * 6] and "some lines only" in notes


def test_a_clean_file_needs_nothing(tmp_path):
    """What data.py can read is used where it is: no note, no copy; also a text with an example of
    a chat in it.
    """
    chat = (
        '{"messages": [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B"}]}'
    )
    put(tmp_path / "in" / "a.txt", f"{WORDS}\n\n{chat}\n\n{WORDS}")
    put(tmp_path / "in" / "b.jsonl", '{"text": "One", "n": 1}\n{"text": "Two", "n": 2}\n')
    put(tmp_path / "in" / "c.csv", "text,n\nThree,3\n")
    seen = text_files.survey_files(tmp_path / "in", text_files.KINDS, tmp_path)
    assert not seen.notes and not seen.derived and seen.files == 3


def packed(kind, inner):
    """Return the file `notes.txt` with the content `inner`, packed."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("notes.txt", inner)
            archive.writestr("__MACOSX/._notes.txt", b"\0\0")
    elif kind == "tar.gz":
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            about = tarfile.TarInfo("notes.txt")
            about.size = len(inner)
            archive.addfile(about, io.BytesIO(inner))
    else:
        return {"txt.gz": gzip, "txt.bz2": bz2}[kind].compress(inner)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "txt.gz", "txt.bz2"])
def test_archives_and_compressed_files_are_opened(tmp_path, kind):
    """What is packed is read like what is not, also an archive inside an archive."""
    content = packed(kind, WORDS.encode("utf-16"))
    texts, notes = read(put(tmp_path / "in" / f"notes.{kind}", content), tmp_path / "1")
    assert texts == [WORDS.strip("\n") + "\n"] and "unpacked" in notes and "utf-16" in notes
    with zipfile.ZipFile(tmp_path / "in" / "all.zip", "w") as archive:
        archive.writestr(f"deep/notes.{kind}", content)
    texts, _ = read(tmp_path / "in", tmp_path / "2")
    assert len(texts) == 2 and texts[0] == texts[1]


def test_a_zstd_file(tmp_path):
    """Large data sets come as .jsonl.zst."""
    import pyarrow

    with pyarrow.CompressedOutputStream(str(tmp_path / "a.jsonl.zst"), "zstd") as stream:
        stream.write(b'{"text": "One"}\n{"text": "Two"}\n')
    assert read(tmp_path / "a.jsonl.zst", tmp_path / "out")[0] == ["One", "Two"]


TABLE = [["Titel, kurz", "Inhalt"], ["1", WORDS], ["2", 'Er sagte: "ja"; dann\nnichts, oder?']]


def table(sign, end="\r\n", rows=TABLE):
    out = io.StringIO()
    csv.writer(out, delimiter=sign, lineterminator=end).writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        table(",").encode("utf-8-sig"),
        table(";").encode("cp1252"),
        table("\t").encode("utf-16"),
        table("|").encode(),
        ("sep=;\r\n" + table(";")).encode(),
        (";\r\nExport vom 3.5.2024;\r\n;\r\n" + table(";")).encode(),
        table(",", "\r", [[cell.replace("\n", " ") for cell in row] for row in TABLE]).encode(),
        table(",", rows=[[*row, "", ""] for row in TABLE]).encode(),
        ("\r\n\r\n" + table(",")).encode(),
    ],
)
def test_a_table_is_read_as_a_spreadsheet_would(tmp_path, content):
    """Separator, heading, encoding, line ends: all rows arrive, whatever program wrote them."""
    problems, notes = [], set()
    file = put(tmp_path / "table.csv", content)
    rows = [row for _, row in text_files.rows(file, problems, notes)]
    assert not problems and [row["Inhalt"].replace("\n", " ") for row in rows] == [
        WORDS,
        TABLE[2][1].replace("\n", " "),
    ]
    assert set(rows[0]) == {"Titel, kurz", "Inhalt"}


def test_a_table_without_names(tmp_path):
    """A first line that is data stays data."""
    file = put(tmp_path / "t.csv", "Where is the old kettle now?,Behind the garden.\nWho?,Mia\n")
    rows = [row for _, row in text_files.rows(file, [], set())]
    assert rows[0] == {"column1": "Where is the old kettle now?", "column2": "Behind the garden."}
    file = put(tmp_path / "index.csv", ",text\n0,One\n1,Two\n")
    assert [row["text"] for _, row in text_files.rows(file, [], set())] == ["One", "Two"]


SUBTITLES = {
    ".srt": "1\n00:00:01,000 --> 00:00:02,000\n<i>Hello there.</i>\n\n2\n00:00:03,000 --> "
    "00:00:04,000\n{\\an8}- Hi!\n",
    ".vtt": "WEBVTT\nKind: captions\n\nNOTE by me\nand more\n\n1\n00:01.000 --> 00:02.000 line:0\n"
    "<c>Hello there.</c>\n\n00:02.000 --> 00:03.000\nHello there.\n- Hi!\n",
    ".ass": "[Script Info]\nTitle: x\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,Hello "
    "there.\nDialogue: 0,0:00:03.00,0:00:04.00,D,,0,0,0,,{\\i1}- Hi!\n",
}


def test_commas_without_quotes_cut_no_text(tmp_path):
    """A list of texts that was saved as CSV by hand: one name on top, and commas as they come."""
    said = "The old man left, and never came back, he said."
    found, notes = read(put(tmp_path / "a.csv", f"text\n{said}\n{said}\n"), tmp_path)
    assert found == [said, said] and "one column" in notes


def test_a_caption_is_not_the_text(tmp_path):
    """A column that is called `text` but holds next to nothing beside another is asked about."""
    row = {"text": "Chapter one", "article": WORDS}
    file = put(tmp_path / "a.jsonl", (json.dumps(row) + "\n") * 5)
    seen = text_files.survey_files(file, text_files.KINDS, tmp_path)
    assert text_column(seen, None)[0] == "article"


def test_prose_that_begins_with_json_is_prose(tmp_path):
    """A page about chat formats is no table, and no advice deletes its lines."""
    text = '{"a": 1}\n{"a": 2}\n' + "And then some words about it.\n" * 5
    assert read(put(tmp_path / "a.txt", text), tmp_path)[0] == [text]


def test_a_line_that_says_a_number_is_said(tmp_path):
    """Of subtitles, only the numbers and names of cues are left out."""
    film = "1\n00:00:01,000 --> 00:00:02,000\n1984\n\n2\n00:00:03,000 --> 00:00:04,000\nNOTE it.\n"
    assert read(put(tmp_path / "a.srt", film), tmp_path)[0][0].split() == ["1984", "NOTE", "it."]


@pytest.mark.parametrize("kind", SUBTITLES)
def test_subtitles_are_what_is_said(tmp_path, kind):
    """No numbers, no times, no markup."""
    texts, _ = read(put(tmp_path / f"film{kind}", SUBTITLES[kind]), tmp_path)
    assert texts[0].split("\n") == ["Hello there.", "", "- Hi!", "", ""]


def test_json_of_any_form(tmp_path):
    """The rows are found inside an object, in a script, under another ending; types may change."""
    rows = [{"id": i, "text": f"Text number {i} is this one."} for i in range(9)]
    texts = [row["text"] for row in rows]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    odd = [*rows, {"id": None, "text": 1984, "edited": True}]
    for name, content, wanted in [
        ("object.json", json.dumps({"about": "x", "data": {"rows": rows}}, indent=1), texts),
        ("map.json", json.dumps({f"k{i}": row for i, row in enumerate(rows)}), texts),
        ("lines.json", lines, texts),
        ("lines.ndjson", lines, texts),
        ("lines.txt", lines, texts),
        ("list.jsonl", json.dumps(rows, indent=1), texts),
        ("strings.json", json.dumps(texts), texts),
        ("pretty.jsonl", "\n".join(json.dumps(row, indent=1) for row in rows), texts),
        ("comments.json", f"// mine\n[{', /* a, */'.join(map(json.dumps, rows))},\n]", texts),
        ("joined.json", "".join(map(json.dumps, rows)), texts),
        ("tweets.js", f"window.YTD.tweets.part0 = {json.dumps(rows)}", texts),
        ("odd.jsonl", "".join(json.dumps(row) + "\n" for row in odd), [*texts, "1984"]),
        (
            "parts.json",
            json.dumps([{"text": ["Text ", {"type": "b", "text": "one"}]}]),
            ["Text one"],
        ),
        ("deep.jsonl", "".join(json.dumps({"a": {"b": t}, "c": "d"}) + "\n" for t in texts), texts),
    ]:
        found, notes = read(put(tmp_path / name, content), tmp_path / f"{name}.out")
        assert found == wanted and bool(notes) == (name != "lines.json"), name


def test_an_id_a_link_and_an_index_are_no_text(tmp_path):
    """The text is found by what is in the columns, even where links are longer."""
    row = {
        "uuid": "12345678-1234-1234-1234-123456789012",
        "link": "https://example.org/" + "a/long/path/" * 20,
        "path": "/r/long/" + "path/" * 20,
        "when": "2024-05-01T00:00:00Z",
        "n": "17",
        "said": "The quiet river",
    }
    file = put(tmp_path / "a.jsonl", json.dumps(row) + "\n" + json.dumps(row) + "\n")
    seen = text_files.survey_files(file, text_files.KINDS, tmp_path)
    assert text_column(seen, None)[0] == "said"


PHONE = {
    "iPhone": "\u200e[12.03.24, 08:00:0{i}] {who}: {said}\r\n",
    "Android": "12/3/24, 8:0{i} PM - {who}: {said}\n",
    "Android in 24 hours": "2024-03-12 08:0{i} - {who}: {said}\n",
    "transcript": "{who}: {said}\n",
    "IRC": "[08:0{i}] <{who}> {said}\n",
}


@pytest.mark.parametrize("form", PHONE)
def test_turns_in_lines_of_text(form):
    """Who says what, in the text that a phone or a chat program exports."""
    lines = [PHONE[form].format(i=i, who=who, said=said) for i, (who, said) in enumerate(TALK * 2)]
    turns = exports.read_lines([*lines, "and a second line\n"])
    assert [(turn["role"], turn["content"]) for turn in turns][:7] == (TALK * 2)[:7]
    if form in ("iPhone", "Android", "Android in 24 hours"):
        assert turns[-1]["content"] == "Good\nand a second line"


DIARY = "03.05.2019 08:15 - Met Anna: we talked.\n03.05.2019 09:15 - Walked along the river.\n" * 9
LOG = "2024-01-01 10:00:00 INFO server: started\n" * 9


def test_an_ordinary_text_is_no_chat():
    """Prose, code and lists of names with a colon stay what they are."""
    for text in (
        "Chapter one: the river\n" + WORDS,
        "def f(x):\n    return x\n" * 9,
        "a: b\n" * 9,
        LOG,
        DIARY,
    ):
        assert exports.read_lines(text.splitlines()) is None


def test_turns_anywhere_in_an_export():
    """One rule finds them: nested, newest first, with names or objects for who speaks."""
    wanted = [("Ada", "Hello there"), ("Bruno", "Grüße")]
    for turns in (
        [
            {"from": "Ada", "text": "Hello there"},
            {"from": "Bruno", "text": ["Gr", {"text": "üße"}]},
        ],
        [
            {"author": {"name": "Ada"}, "content": "Hello there", "timestamp": "2024-01-01"},
            {"author": {"name": "Bruno"}, "content": "Grüße", "timestamp": "2024-01-02"},
        ],
        [
            {"sender_name": "Bruno", "timestamp_ms": 2, "content": "GrÃ¼Ã\x9fe"},
            {"sender_name": "Ada", "timestamp_ms": 1, "content": "Hello there"},
        ],
        [{"user": "Ada", "text": "Hello there", "ts": "1"}, {"user": "Bruno", "text": "Grüße"}],
    ):
        found = exports.find_turns({"about": "x", "deep": {"messages": turns}})
        assert [(turn["role"], exports.joined(turn["content"])) for turn in found] == wanted


def test_documents_are_asked_for_with_the_command(tmp_path, monkeypatch):
    """Where the package is missing, a PDF among texts is passed over, with the command that reads
    it, and stops nothing.
    """
    monkeypatch.setattr(text_files, "find_spec", lambda name: None)
    put(tmp_path / "in" / "a.txt", WORDS)
    put(tmp_path / "in" / "b.pdf", b"%PDF-1.4")
    seen = text_files.survey_files(tmp_path / "in", text_files.KINDS, tmp_path)
    assert seen.files == 1 and "b.pdf" in seen.harmless[0] and not seen.problems


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
DOCX = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" '
    f'Type="{OFFICE}" Target="word/document.xml"/></Relationships>',
    "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body><w:p><w:r><w:t>The quiet river.'
    "</w:t></w:r></w:p></w:body></w:document>",
}
BOOK = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="c.opf"/></rootfiles></container>',
    "c.opf": '<package xmlns="http://www.idpf.org/2007/opf"><metadata/><manifest><item id="c1" '
    'href="c1.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="c1"/>'
    "</spine></package>",
    "c1.xhtml": "<html><body><p>The quiet river.</p></body></html>",
}
SHOWN = b"BT /F1 12 Tf 72 720 Td (The quiet river.) Tj ET"
PDF = [
    b"<</Type/Catalog/Pages 2 0 R>>",
    b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
    b"/Resources<</Font<</F1 5 0 R>>>>>>",
    b"<</Length %d>>stream\n%s\nendstream" % (len(SHOWN), SHOWN),
    b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
]


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_documents_become_text(tmp_path):
    """A web page, a Word document, an e-book and a PDF: what is written in them, nothing else."""
    pdf = b"".join(b"%d 0 obj\n%s\nendobj\n" % pair for pair in enumerate(PDF, start=1))
    page = "<html><style>p{}</style><body><p>The quiet river.</p><script>x()</script></body></html>"
    put(tmp_path / "in" / "a.html", page)
    put(tmp_path / "in" / "b.docx", zipped(DOCX))
    put(tmp_path / "in" / "c.epub", zipped(BOOK))
    put(tmp_path / "in" / "d.pdf", b"%PDF-1.4\n" + pdf + b"trailer\n<</Size 6/Root 1 0 R>>\n%%EOF")
    texts, _ = read(tmp_path / "in", tmp_path)
    assert [text.strip() for text in texts] == ["The quiet river."] * 4


def test_a_mailbox_is_what_was_written_in_its_mails(tmp_path):
    """Mails are mostly headers, quotes and attachments: a model would learn those. An HTML mail
    without a plain part is its words; a mail that nobody can decode takes the others not with it.
    """
    box = mailbox.mbox(tmp_path / "All mail.mbox")
    for number in range(3):
        mail = EmailMessage()
        mail["From"], mail["Subject"] = "ada@example.org", f"Hi {number}"
        mail.set_content(
            f"Dear Ada,\n\nÉt voilà {number}.\n\nOn 3 May, Bo wrote:\n> old\n\n-- \nBo\n"
        )
        mail.add_alternative("<style>x</style><b>html</b>", subtype="html")
        mail.add_attachment(b"\0\1" * 500, maintype="image", subtype="png", filename="a.png")
        box.add(mail)
    mail = EmailMessage()
    mail.set_content("<head><style>y</style></head><p>Only &amp; html</p>", subtype="html")
    box.add(mail)
    box.add(b"Content-Type: text/plain; charset=klingon\n\nnuqneH")
    box.flush()
    texts, notes = read(tmp_path / "All mail.mbox", tmp_path / "out")
    assert texts[:4] == [*[f"Dear Ada,\n\nÉt voilà {n}." for n in range(3)], "Only & html"]
    assert "without headers" in notes and len(texts) <= 5
    put(tmp_path / "one.eml", mail.as_bytes())
    assert read(tmp_path / "one.eml", tmp_path / "eml")[0] == ["Only & html"]
