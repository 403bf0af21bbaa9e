"""The data step and the plan: bad input is named with a way to fix it, good input is counted
rightly.
"""

import gzip
import json
import random
import subprocess
import tomllib

import pytest
from conftest import handrail

from handrail.data import text_files
from handrail.project import plan
from handrail.project.project import Project, Stop
from handrail.project.screen import Screen
from handrail.steps import data

WORDS = (
    "river stone garden winter letter music bread window paper morning silver road quiet bridge "
    "apple cloud"
).split()


@pytest.fixture
def project(tmp_path):
    """A project whose machine is measured and whose data.py is there."""
    project = Project(tmp_path / "project", cpu=True)
    project.out.mkdir(parents=True)
    (project.folder / "settings.toml").write_text("")
    (project.out / "machine.json").write_text(
        json.dumps({"name": "test", "tflops": 0.3, "memory_gb": 16, "cpu": True})
    )
    project.add(["settings.py", "data.py"])
    return project


def texts(number, seed=0):
    rng = random.Random(seed)
    return [f"Note {i}. " + " ".join(rng.choices(WORDS, k=60)) for i in range(number)]


def look(project, source, **settings):
    """Take the step as the walk does, without a person; return its checks by name."""
    for name, value in ({"data": str(source)} | settings).items():
        project.decide(name, value, "test")
    return {check.name: check for check in data.run(project, Screen(yes=True)).checks}


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(texts, column="text"):
    return "".join(json.dumps({column: text}) + "\n" for text in texts)


BAD = {
    "empty.txt": (b"", ["empty.txt", "empty"]),
    "blank.txt": (b"\n \n\n", ["blank.txt", "not one line with text"]),
    "picture.txt": (b"\x89PNG\0\0\1" * 99, ["picture.txt", "null bytes"]),
    "endless.txt": (b"word " * 11_000_000, ["endless.txt, line 1", "longer than 50 MB", "fold -s"]),
    "broken.jsonl": (
        ('{"text": "a"}\n' + '{"text": "b\n' * 7).encode(),
        ["broken.jsonl, line 2", "and 2 more", "sed -i.bak '2d;3d;4d"],
    ),
    "arrays.jsonl": (b'{"text": "a"}\n["b"]\n', ["arrays.jsonl, line 2", "object"]),
    "half.jsonl": (b'{"text": "a\\ud800"}\n', ["half.jsonl, line 1", "half a character"]),
    "comma.json": (b'[{"text": "a"},\n{"text": }]', ["comma.json, line 2", "not valid JSON"]),
    "uneven.csv": (b"text,n\na,1\nb,2,3\n", ["uneven.csv, line 3", "3 columns"]),
    "quote.csv": (b'text,n\n"a,1\nb,2\n', ["quote.csv, line 3", "doubled"]),
    "cut.parquet": (b"PAR1 and then nothing", ["cut.parquet", "parquet"]),
    "numbers.jsonl": (b'{"a": 1, "b": 2}\n', ["a, b", "--column NAME"]),
    "names.csv": (b"first,last\nMia,Bell\nTom,Hill\n", ["first, last", "--column NAME"]),
    "tiny.txt": (b"A few words.\n", ["tokens", "add texts"]),
    "single.txt": (b"One document only, but not short. " * 99, ["fell into val", "One in twenty"]),
    "settings.json": (b'{\n"rows": ["a", 1]}', ["settings.json", "no list of objects"]),
    "sheet.ods": (b"PK\0\0", ["no text", ".csv"]),
    "broken.zip": (b"PK and then nothing", ["broken.zip", "cannot be unpacked", "password"]),
    "page.html": (b"<p>Hello</p>", ["page.html", 'pip install "markitdown']),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_a_way_to_fix_them(project, tmp_path, name, monkeypatch):
    """Whatever a newcomer's file holds: what, where and how to fix it, and never a traceback."""
    monkeypatch.setattr(text_files, "find_spec", lambda _: None)  # without the documents extra
    content, said = BAD[name]
    with pytest.raises(Stop) as stop:
        look(project, write(tmp_path / name, content))
    for part in said:
        assert part.lower() in str(stop.value).lower()


def test_an_empty_note_is_skipped(project, tmp_path, capsys):
    """Folders of notes have empty notes: they are named, and stop nothing."""
    for number, text in enumerate(texts(300)):
        write(tmp_path / "notes" / f"{number}.md", text)
    write(tmp_path / "notes" / "leer.md", b"")
    write(tmp_path / "notes" / "table.csv", b"")
    look(project, tmp_path / "notes")
    said = capsys.readouterr().out
    assert "300 files" in said and "Empty, so skipped: 2 (leer.md, table.csv)" in said, said


def test_a_source_that_is_not_there(project, tmp_path, monkeypatch):
    """A wrong path, a folder without texts and a hub data set out of reach each say what to do."""
    monkeypatch.setattr(text_files, "find_spec", lambda _: None)  # without the documents extra
    write(tmp_path / "scans" / "a.pdf", b"%PDF\0\1")
    (tmp_path / "none").mkdir()
    for name, content in {"words": b"Some words.", "words.dat": b"\0\0\0\2"}.items():
        write(tmp_path / "mixed" / name, content)
    for source, said in {
        "nowhere/notes.txt": "`ls`",
        "nowhere": "`ls`",
        tmp_path / "none": "Put your texts there",
        tmp_path / "scans": r"a\.pdf(.|\n)*pip install .markitdown",
        tmp_path / "mixed": r'kinds = \[""\]',
    }.items():
        with pytest.raises(Stop, match=said):
            look(project, source)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(Stop, match="unset HF_HUB_OFFLINE"):
        look(project, "nobody/nothing")


@pytest.mark.parametrize(
    "error, said",
    [
        (
            "Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated to access it.",
            "hf auth login",
        ),
        ("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.", "exact name"),
        (
            "Config name is missing. Please pick one among the available configs: ['en', 'de']",
            "a/b:CONFIG:SPLIT",
        ),
    ],
)
def test_what_the_hub_answers_becomes_what_to_do(error, said):
    """A login, a wrong name and a missing configuration each lead to their own next command."""
    from handrail.data.text_files import hub_fault

    assert said in hub_fault("a/b", ValueError(error))


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "txt"])
def test_every_kind_of_file_gives_the_same_documents(project, tmp_path, kind):
    """Counts are right for each kind of file, the text column is found, and nothing is lost or in
    both train and val.
    """
    wanted, file = texts(400), tmp_path / f"notes.{kind}"
    table = [{"id": f"n{i}", "body": text} for i, text in enumerate(wanted)]
    if kind == "txt":
        for i, text in enumerate(wanted):
            write(tmp_path / "notes" / f"{i:03}.txt", text)
        file = tmp_path / "notes"
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in table))
    elif kind == "json":
        file.write_text(json.dumps(table, indent=1))
    else:
        import pandas

        frame = pandas.DataFrame(table)
        frame.to_csv(file, index=False) if kind == "csv" else frame.to_parquet(file)
    checks = look(project, file)
    assert checks["documents"].measured.startswith("400, ")
    assert checks["train/val overlap"].measured == "0"
    assert project.settings.get("column", "text") == ("text" if kind == "txt" else "body")
    assert project.settings["prompt"] == " ".join(
        next(t for t in wanted if project.load("data").data.is_val(t)).split()[:4]
    )


def test_twins_of_long_documents_are_found(project, tmp_path):
    """The same long text in two files, once with a line break more and once with another end, is a
    copy and a near copy.
    """
    for number, text in enumerate(texts(40)):
        long = " ".join(random.Random(number).choices(WORDS, k=900))
        write(tmp_path / "many" / f"{number}.txt", text + long)
        write(tmp_path / "many" / f"{number}.json", json.dumps([{"text": text + long + "\n"}]))
        write(
            tmp_path / "many" / f"{number}-later.json",
            json.dumps([{"text": text + long + " The end."}]),
        )
    checks = look(project, tmp_path / "many")
    assert checks["exact copies"].measured == "33.3%" and checks["near copies"].measured == "50.0%"
    assert checks["train/val overlap"].verdict == "pass"


def test_copies_near_copies_and_empty_rows_are_found(project, tmp_path):
    """Exact copies, copies with a word changed, and rows without text are counted, not trained on
    in silence.
    """
    some = texts(500)
    near = [text.replace("Note", "Memo", 1) for text in some[:100]]
    checks = look(project, write(tmp_path / "a.jsonl", rows(some + some[:100] + near + [""] * 7)))
    assert checks["exact copies"].verdict == "warn" and checks["exact copies"].measured == "14.3%"
    assert (
        checks["near copies"].verdict == "warn"
        and 10 < float(checks["near copies"].measured[:4]) < 20
    )
    assert checks["rows without text"].measured == "7 of 707"


def test_one_text_that_is_most_of_the_data_fails(project, tmp_path):
    """A document repeated until it is most of the data stops the walk."""
    some = texts(300)
    checks = look(project, write(tmp_path / "a.jsonl", rows(some + [some[0]] * 400)))
    assert checks["most repeated document"].verdict == "fail"


def test_any_letter_may_be_in_the_settings(project, tmp_path):
    """A val document that begins with emoji or foreign letters becomes a prompt that settings.toml
    can hold.
    """
    look(project, write(tmp_path / "a.jsonl", rows(["👍🏽 日本語 " + text for text in texts(200)])))
    assert project.settings["prompt"].startswith("👍🏽 日本語 Note")


@pytest.mark.parametrize(
    "body",
    [
        "import random; return random.random() < 0.05",
        "is_val.n = getattr(is_val, 'n', 0) + 1; return is_val.n % 20 == 0",
    ],
)
def test_an_edited_split_that_leaks_is_caught(project, tmp_path, body):
    """A learner's is_val that chooses at random or by position fails the overlap check."""
    file = project.folder / "data.py"
    file.write_text(
        file.read_text().replace("return zlib.crc32(text.strip().encode()) % 20 == 0", body)
    )
    checks = look(project, write(tmp_path / "a.jsonl", rows(texts(500))))
    assert checks["train/val overlap"].verdict == "fail"


def test_too_little_text_is_named_with_the_command_that_helps(project, tmp_path):
    """300 KB of notes: gibberish is predicted, and continuing a small open model is named as a
    command.
    """
    check = look(project, write(tmp_path / "a.jsonl", rows(texts(800))))["enough text"]
    assert check.verdict == "warn" and "gibberish" in check.meaning
    command = f"handrail new {project.typed} --from HuggingFaceTB/SmolLM2-135M --cpu"
    assert check.advice == f"`{command}`" and "private" in check.meaning


def test_the_village_is_an_ordinary_data_set(project, monkeypatch):
    """The built-in world is written as rows with text and exact nats, the same ones every time, and
    passes every check.
    """
    monkeypatch.setattr(data, "N_STORIES", 3000)
    monkeypatch.setattr(plan, "VILLAGE", plan.VILLAGE | {"updates": 100})
    checks = look(project, "village")
    assert {check.verdict for check in checks.values()} == {"pass"}
    assert project.settings["data"] == "village.jsonl" and project.settings["world"] == "village"
    first = json.loads((project.folder / "village.jsonl").read_text().splitlines()[0])
    assert (
        set(first) == {"text", "nats", "question", "answer", "short", "whole"} and first["nats"] > 0
    )
    assert {name: project.settings[name] for name in plan.VILLAGE} == plan.VILLAGE


def test_the_plan_keeps_what_a_person_set_and_follows_the_data(project):
    """Sizes grow with data and machine; a value set by hand survives a new plan, one that was only
    planned does not.
    """
    project.decide("data", "x", "test")
    plan.plan(project, 4_000_000, 1000, "Once")
    small = project.settings
    project.decide("context", 64, "by hand")
    (project.out / "machine.json").write_text(
        json.dumps({"name": "gpu", "tflops": 400, "memory_gb": 140, "cpu": False})
    )
    project.cpu = False
    plan.plan(project, 20_000_000_000, 5_000_000, "Once")
    large = project.settings
    assert (small["size"], small["vocabulary"]) == ("1m", 1024)
    assert large["prompt"] == "Once"
    assert (
        large["size"] in ("25m", "85m") and large["vocabulary"] == 32768 and large["context"] == 64
    )
    seen = large["updates"] * large["batch"] * large["context"]
    count = plan.parameters(plan.sizes(project)[large["size"]], 32768)
    assert seen >= 20 * count and 6 * count * seen / (400e12 * plan.USED) <= 3700


def test_continuing_a_model_has_its_own_plan(project, tmp_path):
    """With --from, size and vocabulary are the model's own; a model that is not there is said with
    what to do.
    """
    from transformers import LlamaConfig

    LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=500,
    ).save_pretrained(tmp_path / "base")
    source = write(tmp_path / "a.jsonl", rows(texts(800)))
    assert look(project, source)["enough text"] and {"size", "vocabulary"} <= set(
        project.settings
    )  # as it would be without --from
    checks = look(project, source, base=str(tmp_path / "base"))
    assert "enough text" not in checks and not {"size", "vocabulary"} & set(project.settings)
    seen = project.settings["updates"] * project.settings["batch"] * project.settings["context"]
    assert seen < 4 * 800 * 390 / 4
    project.decide("base", str(tmp_path / "nothing"), "test")
    with pytest.raises(Stop, match="There is no folder .*--from"):
        plan.plan(project, 1_000_000, 100, "Once")


def test_an_unknown_size_names_the_sizes(project, tmp_path):
    """A size that does not exist stops at once, naming those that do."""
    with pytest.raises(Stop, match="1m 5m 25m 85m 300m 1b"):
        look(project, write(tmp_path / "a.jsonl", rows(texts(99))), size="2m")


def test_the_command_counts_and_writes_down_its_choices(tmp_path):
    """`handrail DIR --data FILE --until data --cpu` ends with 0, data.py in git, and each decision
    with its reason.
    """
    write(tmp_path / "notes.jsonl", rows(texts(400)))
    done = handrail(
        "new", "mine", "--data", "notes.jsonl", "--until", "data", "--cpu", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train/val overlap" in done.stdout and (tmp_path / "mine" / "data.py").exists()
    settings = (tmp_path / "mine" / "settings.toml").read_text()
    assert tomllib.loads(settings)["size"] == "1m"
    assert all("  # " in line for line in settings.splitlines() if "=" in line)


def test_the_command_ends_with_2_and_loses_nothing(tmp_path):
    """Broken data: exit code 2, the line named, no traceback; the same command continues once it is
    mended.
    """
    file = write(tmp_path / "notes.jsonl", rows(texts(400)) + '{"text": \n')
    arguments = ["new", "mine", "--data", "notes.jsonl", "--until", "data", "--cpu"]
    done = handrail(*arguments, cwd=tmp_path)
    assert (
        done.returncode == 2
        and "line 401" in done.stderr
        and "Traceback" not in done.stdout + done.stderr
    )
    file.write_text(file.read_text().rsplit("\n", 2)[0] + "\n")
    assert handrail(*arguments, cwd=tmp_path).returncode == 0


def test_texts_of_another_ending_are_missed_and_read_when_the_settings_say_so(project, tmp_path):
    """Most of a folder passed over is a warning with the line that mends it; with that line, or a
    person's yes, the step and data.py read it all.
    """
    told = texts(300)
    for number, text in enumerate(told):
        write(tmp_path / "help" / f"{number}.{'txt' if number < 100 else 'rst'}", text)
    read = look(project, tmp_path / "help")["files read"]
    assert (read.verdict, read.measured) == (
        "warn",
        "100 of 300",
    ) and "200 files, most of them .rst" in read.meaning
    line = read.advice.rpartition("`: ")[2]
    (project.folder / "settings.toml").write_text(
        (project.folder / "settings.toml").read_text() + line + "\n"
    )
    again = look(Project(project.folder, cpu=True), tmp_path / "help")
    assert again["documents"].measured.startswith("300") and "files read" not in again

    project.decide("kinds", [".txt"], "asked at a terminal")
    person, asked = Screen(yes=True), []
    person.talks, person.ask = (
        True,
        lambda question: asked.append(question) or ("y" if ".rst" in question else ""),
    )
    checks = {check.name: check for check in data.run(project, person).checks}
    assert "200 files end in .rst and seem to be plain text" in asked[0] and checks[
        "documents"
    ].measured.startswith("300")
    assert project.settings["kinds"] == [".txt", ".rst"]


def test_words_that_a_table_reader_takes_for_nothing_are_text(project, tmp_path):
    """In a CSV "NA", "None" or "1984" may be what was written: each becomes a document, and the two
    counts agree.
    """
    short = ["NA", "None", "null", "N/A", "1984"]
    checks = look(
        project,
        write(
            tmp_path / "a.csv", "text,n\n" + "".join(f"{text},1\n" for text in texts(300) + short)
        ),
    )
    assert (
        checks["rows with text that became documents"].measured
        == checks["rows with text that became documents"].expected
        == "305"
    )
    assert checks["rows without text"].verdict == "pass"


def test_files_whose_text_has_another_name_are_named(project, tmp_path):
    """A folder of tables that call their text differently loses most of it: which file, and in
    which column its text is.
    """
    write(tmp_path / "mix" / "a.jsonl", rows(texts(100)))
    write(tmp_path / "mix" / "b.jsonl", rows(texts(200, seed=1), "body"))
    check = look(project, tmp_path / "mix")["files with nothing in that column"]
    assert (
        (check.verdict, check.measured[:6]) == ("warn", "1 of 2")
        and "b.jsonl" in check.meaning
        and "'body'" in check.meaning
    )


def test_a_list_of_names_can_become_a_document_per_line(project, tmp_path, capsys):
    """A list has no blank lines to cut at. One number in data.py makes each line a text, and that
    is said; a prompt is never of two lines, which the model would see as one with a space.
    """
    words = [f"{a}{b}" for a in WORDS for b in WORDS]
    names = [f"{word}{word[::-1]}{number}" for number in range(20) for word in words]
    file = write(tmp_path / "names.txt", "\n".join(names))
    look(project, file)
    assert "change `PIECE = 4000` in data.py to `PIECE = 1`" in " ".join(
        capsys.readouterr().out.split()
    )
    prompt = project.settings["prompt"]
    assert any(name.startswith(prompt) for name in names), prompt
    code = (project.folder / "data.py").read_text()
    (project.folder / "data.py").write_text(code.replace("PIECE = 4000", "PIECE = 1"))
    checks = look(project, file)
    assert checks["documents"].measured.startswith(f"{len(names):,}, ")
    assert checks["most repeated document"].measured == "none is repeated"
    assert "PIECE" not in capsys.readouterr().out
    assert any(name.startswith(project.settings["prompt"]) for name in names)


def test_a_text_without_line_breaks_is_cut_too(project, tmp_path):
    """A whole book on one line is many documents, and nothing of it is lost; a short one that gives
    no val is told how to be cut finer, and then it does.
    """
    book = " ".join(texts(1000))
    assert look(project, write(tmp_path / "line.txt", book))["documents"].measured.startswith(
        f"{-(-len(book) // 9000)}, "
    )
    assert (
        "".join(
            row["text"]
            for row in project.load("data").data.rows(str(tmp_path / "line.txt"), [".txt"])
        )
        == book
    )
    with pytest.raises(Stop, match="PIECE = 1000") as stop:
        look(project, write(tmp_path / "short.txt", "\n\n".join(texts(90, seed=4))))
    subprocess.run(str(stop.value).rpartition("documents:")[2], shell=True, check=True)
    assert look(project, tmp_path / "short.txt")["documents"].verdict == "pass"


def test_rows_that_data_py_leaves_out_are_counted(project, tmp_path):
    """A filter in the learner's own data.py: how many rows with text never became documents is
    said; without it the two numbers are the same.
    """
    source, name = (
        write(tmp_path / "notes.jsonl", rows(texts(300))),
        "rows with text that became documents",
    )
    assert look(project, source)[name].verdict == "pass"
    file = project.folder / "data.py"
    short = sorted(map(len, texts(300)))[200]
    file.write_text(file.read_text().replace("and text.strip():", f"and 0 < len(text) <= {short}:"))
    left = look(project, source)[name]
    assert left.verdict == "warn" and left.expected == "300" and 150 < int(left.measured) < 280


def test_json_that_holds_no_rows_does_not_stop_a_folder_of_texts(project, tmp_path, capsys):
    """Documentation is often next to the settings of the program that made it: skipped, named,
    and data.py agrees.
    """
    folder = tmp_path / "docs"
    for number, text in enumerate(texts(200)):
        write(folder / f"{number}.md", text)
    write(folder / "index.json", '{\n"type": "module",\n"pages": []}')
    assert look(project, folder)["documents"].measured.startswith("200")
    assert (
        "Passed over, not read: 1 .json" in capsys.readouterr().out
        and ".json" not in project.settings["kinds"]
    )
    write(folder / "rows.json", '[{"text": "a"},')
    with pytest.raises(
        Stop, match="rows.json"
    ):  # broken is not the same as meant for something else
        look(project, folder, kinds=[".md", ".json"])


def test_a_source_that_is_not_clean_is_copied_clean(project, tmp_path, capsys):
    """Old encodings and a packed table: clean copies in data/, the source is untouched, a change of
    it is seen, and without it the copy still does.
    """
    from handrail.walk import rests_on

    some, folder = texts(300), tmp_path / "notes"
    for number, text in enumerate(some[:200]):
        write(folder / f"{number}.txt", f"{text} Grüße".encode("cp1252" if number % 2 else "utf-8"))
    write(folder / "more.jsonl.gz", gzip.compress(rows(some[200:]).encode()))
    checks = look(project, folder)
    assert checks["documents"].measured.startswith("300, ")
    settings, said = project.settings, capsys.readouterr().out
    assert (settings["data"], settings["source"]) == ("data", str(folder))
    assert "decoded from windows-1252: 100 files" in said and "unpacked: 1 file" in said
    assert (folder / "1.txt").read_bytes().endswith("Grüße".encode("cp1252"))
    assert (project.folder / "data" / "1.txt").read_text().endswith("Grüße\n")

    before = rests_on(project, "data")["source"]
    write(folder / "1.txt", "Something new")
    assert rests_on(project, "data")["source"] != before
    folder.rename(tmp_path / "gone")
    again = {check.name: check for check in data.run(project, Screen(yes=True)).checks}
    assert again["documents"].measured.startswith("300, ")
    assert project.settings["source"] == str(folder)
    write(tmp_path / "clean.jsonl", rows(some))
    look(project, tmp_path / "clean.jsonl")
    assert "source" not in project.settings and "clean" in project.settings["data"]


def test_rows_whose_types_change_are_read(project, tmp_path):
    """One number where texts are, a column that comes late: no document becomes JSON in quotes."""
    lines = rows(texts(300)) + '{"text": 1984, "edited": true}\n'
    checks = look(project, write(tmp_path / "a.jsonl", lines))
    assert checks["rows with text that became documents"].measured == "301"
    assert checks["rows with text that became documents"].verdict == "pass"
    program = project.load("data")
    found = [document["text"] for document in program.data.documents(program.values)]
    assert found == [*texts(300), "1984"]


def test_a_project_does_not_read_itself(project, tmp_path):
    """`handrail --data .` grows a project among the texts: its own papers, those of others and
    hidden files are no data.
    """
    for number, text in enumerate(texts(200)):
        write(tmp_path / "notes" / f"{number}.md", text)
    for place in (
        ".git/x.md",
        "project/README.md",
        "other/README.md",
        "other/out/x.md",
        "other/settings.toml",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("Not meant.")
    assert look(project, tmp_path)["documents"].measured.startswith("200, ")
    assert {file.parent.name for file in text_files.local_files(tmp_path)} == {"notes"}


def test_decisions_are_where_toml_wants_them(project):
    """A [table] that its owner appended keeps its lines: general decisions go before it, its own
    into it, and both are read.
    """
    file = project.folder / "settings.toml"
    file.write_text("batch = 8\n\n[finetune]\nbatch = 4  # mine\n")
    for name, value in {"batch": 16, "seed": 3, "finetune.lr": 0.1, "dpo.lr": 0.2}.items():
        project.decide(name, value, "test")
    assert project.settings == {
        "batch": 16,
        "seed": 3,
        "dpo": {"lr": 0.2},
        "finetune": {"batch": 4, "lr": 0.1},
    }
    assert "batch = 4  # mine" in file.read_text()
