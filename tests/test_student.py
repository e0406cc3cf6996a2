"""A new student ranks almost like the encoder that it was built from."""

import numpy as np
import pytest
from checkpoints import write_stanford_checkpoint
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from pyterrier_jacolbert.train import keep_layers, new_student

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
    with pytest.raises(ValueError, match="dim must lie between 1 and 48, the dimensions of the backbone, not 64"):
        new_student(encoder, dim=64, texts=TEXTS)
