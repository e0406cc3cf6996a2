"""A new student ranks almost like the encoder that it was built from."""

import copy

import numpy as np
import pytest
import torch
from checkpoints import write_stanford_checkpoint
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from test_distill import assert_same_weights

from pyterrier_jacolbert import JaColBERT
from pyterrier_jacolbert.train import Example, Stage, average, distill, keep_layers, new_student

TEXTS = ["日本で一番高い山は富士山である。", "カレーライスは人気の料理だ。", "東京は日本の首都である。"] * 3


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = write_stanford_checkpoint(tmp_path_factory.mktemp("encoder") / "c", hidden=48, layers=3, heads=4)
    whole = MultiVectorEncoder(str(folder), device="cpu")
    modules = [whole[0], MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
    return MultiVectorEncoder(modules=modules, prompts={"query": "問: ", "document": "文: "}, device="cpu")


def test_all_dimensions_keep_every_product(encoder):
    student = new_student(encoder, dim=48, texts=TEXTS, skiplist=())
    before, after = encoder.encode_document(TEXTS[:3]), student.encode_document(TEXTS[:3])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-5)


def test_the_projection_is_the_best_of_its_rank(encoder):
    student = new_student(encoder, dim=8, texts=TEXTS, skiplist=())
    weight = student[1].linear.weight.detach().numpy()
    np.testing.assert_allclose(weight @ weight.T, np.eye(8), atol=1e-5)
    vectors = np.concatenate(encoder.encode_document(TEXTS[:3]))
    kept = np.square(vectors @ weight.T).sum()
    # No subspace of 8 dimensions keeps more energy than the singular vectors do (Eckart and Young 1936).
    assert kept == pytest.approx(np.square(np.linalg.svd(vectors)[1][:8]).sum(), rel=1e-4)


@pytest.mark.parametrize(("layers", "kept"), [(None, 3), (2, 2), ([0, 2], 2)])
def test_layers_lengths_and_prompts_survive_saving(encoder, layers, kept, tmp_path):
    student = new_student(encoder, dim=8, texts=TEXTS, layers=layers, query_length=16, document_length=12)
    student.save_pretrained(str(tmp_path / "student"))
    loaded = MultiVectorEncoder(str(tmp_path / "student"), device="cpu")
    assert len(loaded[0].model.encoder.layer) == kept == loaded[0].config.num_hidden_layers
    assert len(encoder[0].model.encoder.layer) == 3
    assert loaded.encode_query("山").shape == (16, 8)
    assert len(loaded.encode_document("山" * 50)) <= 12
    assert loaded.prompts == {"query": "問: ", "document": "文: "}
    np.testing.assert_allclose(loaded.encode_query("山"), student.encode_query("山"), atol=1e-6)


def test_a_residual_head_starts_as_the_linear_one(encoder, tmp_path):
    linear, residual = (new_student(encoder, dim=8, texts=TEXTS, head=head) for head in ("linear", "residual"))
    residual.save_pretrained(str(tmp_path / "student"))
    loaded = MultiVectorEncoder(str(tmp_path / "student"), device="cpu")
    model = JaColBERT(str(tmp_path / "student"), device="cpu", dtype="float32")
    for text in TEXTS[:3]:
        expected = linear.encode_document(text)
        np.testing.assert_allclose(residual.encode_document(text), expected, atol=1e-6)
        np.testing.assert_allclose(loaded.encode_document(text), expected, atol=1e-6)
        np.testing.assert_allclose(model.encode_documents([text])[0], expected, atol=1e-6)


def train(student, output, **settings):
    texts = dict(enumerate(TEXTS[:3]))
    examples = [Example(f"q{number}", (f"d{number}",)) for number in texts] * 4
    stage = Stage(
        "s", "unused", "unused", loss="contrastive", n_ways=1, batch_size=3, schedule="constant", warmup_steps=0,
        learning_rate=1e-2, precision="float32", document_length=24, save_every=2,
    )  # fmt: skip
    queries, documents = {f"q{n}": text[:6] for n, text in texts.items()}, {f"d{n}": text for n, text in texts.items()}
    settings = {"model": copy.deepcopy(student), "device": "cpu", "verbose": False, "deterministic": True, **settings}
    return distill(examples, queries, documents, stage, output, **settings)


def test_every_part_of_a_residual_head_learns(encoder, tmp_path):
    """The halves of its weights have roles of their own."""
    student = new_student(encoder, dim=8, texts=TEXTS, head="residual")
    trained = MultiVectorEncoder(str(train(student, tmp_path / "run")), device="cpu")
    before, after = (
        dict(torch.nn.ModuleList([part for part in model if isinstance(part, Dense)]).named_parameters())
        for model in (student, trained)
    )
    assert before.keys() == after.keys() == {"0.linear.weight", "0.residual.weight", "1.linear.weight"}
    for name, weight in before.items():
        halves = zip(weight.chunk(2, weight.shape.index(96)), after[name].chunk(2, weight.shape.index(96)), strict=True)
        assert all((one != other).float().mean() > 0.9 for one, other in halves), name


def test_a_killed_run_with_a_residual_head_resumes(encoder, tmp_path):
    def die(model):
        raise RuntimeError("power cut")

    student = new_student(encoder, dim=8, texts=TEXTS, head="residual")
    with pytest.raises(RuntimeError, match="power cut"):
        train(student, tmp_path / "killed", evaluate=die)
    assert_same_weights(train(student, tmp_path / "killed"), train(student, tmp_path / "whole"))


def test_averages_have_the_mean_of_a_residual_head(encoder, tmp_path):
    students = [new_student(encoder, dim=8, texts=texts, head="residual") for texts in (TEXTS, TEXTS[:1])]
    folders = [tmp_path / name for name in ("one", "two")]
    for student, folder in zip(students, folders, strict=True):
        student.save_pretrained(str(folder))
    mean = MultiVectorEncoder(str(average(folders, out=tmp_path / "mean")), device="cpu")
    expected = (students[0][2].linear.weight + students[1][2].linear.weight) / 2
    torch.testing.assert_close(mean[2].linear.weight, expected)


def test_keeping_layers_also_keeps_the_projection(encoder):
    whole = new_student(encoder, dim=8, texts=TEXTS, augment_queries=False, query_length=9)
    smaller = keep_layers(whole, 2)
    assert len(smaller[0].model.encoder.layer) == 2
    assert len(whole[0].model.encoder.layer) == 3
    np.testing.assert_array_equal(smaller[1].linear.weight.detach(), whole[1].linear.weight.detach())
    assert len(smaller.encode_query("山" * 20)) == 9
    assert len(smaller.encode_query("山")) < 9


def test_invalid_layers_and_dimensions_are_rejected(encoder):
    with pytest.raises(ValueError, match=r"layers, 0 to 2, not \[0, 1, 2, 3\]"):
        new_student(encoder, dim=8, texts=TEXTS, layers=4)
    with pytest.raises(ValueError, match=r"layers, 0 to 2, not \[\]"):
        new_student(encoder, dim=8, texts=TEXTS, layers=[])
    with pytest.raises(ValueError, match="head must be one of 'linear', 'residual', not 'two'"):
        new_student(encoder, dim=8, texts=TEXTS, head="two")
    with pytest.raises(ValueError, match="dim must lie between 1 and 48, the dimensions of the backbone, not 64"):
        new_student(encoder, dim=64, texts=TEXTS)
