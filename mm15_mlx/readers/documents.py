"""Questions about one picture: TextVQA, DocVQA, InfoVQA, ChartQA, OCRBench.

The instructions after the questions are those of common evaluation programs: models
are compared with them, and MM1.5's own are not published.
"""

from collections.abc import Iterator
from pathlib import Path

from mm15_mlx.config import UserError
from mm15_mlx.readers.pictures import path_of
from mm15_mlx.readers.records import Record, records
from mm15_mlx.readers.sources import has_split
from mm15_mlx.tasks import LEAST_PEOPLE, Row

SHORT = "\nAnswer the question using a single word or phrase."
FORMULAS = "Handwritten Mathematical Expression Recognition"  # of OCRBench, HME100k
WORD = "\nAnswer the question with a single word."


def textvqa(path: Path, split: str | None) -> Iterator[Row]:
    """TextVQA (arXiv 1904.08920): `TextVQA_0.5.1_{split}.json` with ten answers a
    question and `train_images/ID.jpg`, the hub's parquet, or VLMEvalKit's TSV. Metric:
    VQA accuracy, published for `val`. Layout as of 2026, not tried with the real files.
    """
    patterns = ("TextVQA_0*.json", "*.parquet", "*.tsv", "*.jsonl")
    below = ("train_images", "train_val_images", "test_images", "images")
    for record in records(path, patterns, split):
        value = record.get("image") or f"{record.text('image_id')}.jpg"
        image = path_of(value, record.where, record.folder, record.file, below)
        # published prompts write the question with a capital
        question = record.text("question").capitalize() + SHORT
        answers = _answers(record, "answers", "answer")
        # VQA's metric compares people; a file with one answer has lost them
        few = len(answers) < LEAST_PEOPLE
        metric = "exact_match" if few else "vqa_accuracy"
        yield _row(record, image, question, answers, metric)


def docvqa(path: Path, split: str | None) -> Iterator[Row]:
    """DocVQA (arXiv 2007.00398): `{split}_v1.0[_withQT].json` with `documents/`, the
    hub's parquet, or VLMEvalKit's TSV. Metric: ANLS, published for `test`, whose
    answers are kept back: here `val`. Slice: `question_types`. Layout as of 2026, not
    tried with the real files."""
    patterns = ("*_v1.0*.json", "*.parquet", "*.tsv", "*.jsonl")
    below = ("documents", "spdocvqa_images", "images")
    for record in records(path, patterns, split):
        image = record.picture("image", below=below)
        question = record.text("question") + SHORT
        answers = _answers(record, "answers", "answer")
        row = _row(record, image, question, answers, "anls")
        if record.get("question_types") is not None:
            row["question_types"] = ", ".join(record.texts("question_types"))
        yield row


def infovqa(path: Path, split: str | None) -> Iterator[Row]:
    """InfographicVQA (arXiv 2104.12756): `infographicsVQA_{split}_v1.0*.json` with
    `image_local_name`, the hub's parquet, or VLMEvalKit's TSV. Metric: ANLS; the
    answers of `test` are kept back. Layout as of 2026, not tried with the real files.
    """
    patterns = ("infographic*VQA_*.json", "*.parquet", "*.tsv", "*.jsonl")
    below = ("infographicsvqa_images", "infographicvqa_images", "images")
    for record in records(path, patterns, split):
        image = record.picture("image", "image_local_name", below=below)
        question = record.text("question") + SHORT
        answers = _answers(record, "answers", "answer")
        yield _row(record, image, question, answers, "anls")


def chartqa(path: Path, split: str | None) -> Iterator[Row]:
    """ChartQA (arXiv 2203.10244): `{split}/{split}_{human,augmented}.json` with
    `{split}/png/`, the hub's parquet, or VLMEvalKit's TSV. Metric: relaxed accuracy;
    the published figure is the mean over both halves, the slice `type`, which are of
    one size. Rows that do not say their half have no `type`. Layout as of 2026, not
    tried with the real files."""
    originals = ("*_human.json", "*_augmented.json")
    there = [p for p in originals if path.is_dir() and any(path.rglob(p))]
    # a split may have one half alone
    kept = [p for p in there if has_split(path, p, split)] or there
    for pattern in kept or ["*.parquet"]:
        for record in records(path, (pattern, "*.tsv", "*.jsonl"), split):
            image = record.picture("image", "imgname", below=("png", "images"))
            half = _half(record)
            question = record.text("query", "question") + WORD
            answers = _answers(record, "label", "answer")
            row = _row(record, image, question, answers, "relaxed_accuracy")
            yield row | ({"type": half} if half else {})


def _half(record: Record) -> str | None:
    number = str(record.get("human_or_machine", "type"))
    if number in ("0", "1"):  # as the hub has them
        return ("human", "augmented")[int(number)]
    for said in (*map(record.get, ("type", "split")), record.file.stem):
        words = str(said).casefold()
        if "human" in words:
            return "human"
        if "augmented" in words or "machine" in words:
            return "augmented"
    return None


def ocrbench(path: Path, split: str | None) -> Iterator[Row]:
    """OCRBench (arXiv 2305.07895): `OCRBench.json` with `OCRBench_Images/`, the hub's
    parquet, or VLMEvalKit's TSV. Metric: containment, of handwritten formulas with case
    and without spaces; the published score is the number of right answers among 1000,
    900 × `contains` + 100 × `contains_formula`. Slice: `category`. Layout as of 2026,
    not tried with the real files.
    """
    patterns = ("OCRBench.json", "*.parquet", "OCRBench*.tsv", "*.jsonl")
    for record in records(path, patterns, split):
        image = record.picture("image", "image_path", below=("OCRBench_Images",))
        answers = _answers(record, "answers", "answer")
        category = record.text("type", "question_type", "category")
        metric = "contains_formula" if category == FORMULAS else "contains"
        row = _row(record, image, record.text("question"), answers, metric)
        yield row | {"category": category}


def _answers(record: Record, *keys: str) -> list[str]:
    if record.get(*keys) is None:
        raise UserError(
            f"{record.where} has no answers; those of a test split are often kept "
            "back: use --split val"
        )
    texts, value = record.texts(*keys), record.get(*keys)
    # a list of a table has quotes around its texts: `[12]` is an answer
    plain = isinstance(value, str) and not set(value) & set("'\"")
    return [value.strip()] if texts and plain else texts


def _row(
    record: Record, image: str, question: str, answers: list[str], metric: str
) -> Row:
    name = record.get("question_id", "questionId", "index", "id")
    return {
        "id": f"{record.file.stem}-{record.number}" if name is None else str(name),
        "image": image,
        "task": "vqa",
        "question": question,
        "answers": answers,
        "metric": metric,
    }
