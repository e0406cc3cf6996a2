"""Any backbone that Sentence Transformers loads gives its vectors, in float32 and in bfloat16, with flat memory."""

import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from backbones import (
    FAMILIES,
    POSITIONS,
    cosines,
    sentence_transformers_vectors,
    texts_of_all_lengths,
    word_tokenizer,
    write_backbone_checkpoint,
    write_model,
)
from checkpoints import rewrite_weights
from sentence_transformers import MultiVectorEncoder
from transformers import ConvBertConfig, ConvBertModel, FNetConfig, FNetModel, LukeModel

import pyterrier_jacolbert as pj
from pyterrier_jacolbert.encoding.batches import LENGTH_STEP, batches, pad, padded_length
from pyterrier_jacolbert.encoding.checkpoint import load_checkpoint
from pyterrier_jacolbert.encoding.packed_linear import PackedLinear, pack_linears, packing_works
from pyterrier_jacolbert.encoding.positions import UNBOUNDED_POSITIONS

TEXTS = texts_of_all_lengths()
SHORT = texts_of_all_lengths(8, 20)
WITHOUT_MASK = ("T5 encoder", "Llama-like")
needs_packing = pytest.mark.skipif(not packing_works(), reason="this build of torch lacks packed products")


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return write_backbone_checkpoint(tmp_path_factory.mktemp("backbone") / "checkpoint", family)


@pytest.fixture(scope="module")
def expected(folder):
    return sentence_transformers_vectors(folder, TEXTS, "document")


def largest_difference(ours, theirs):
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(ours, theirs, strict=True))


# Ten families against Sentence Transformers


def test_float32_documents_equal_sentence_transformers(folder, expected):
    assert largest_difference(pj.JaColBERT(str(folder), dtype="float32").encode_documents(TEXTS), expected) < 1e-5


def test_queries_equal_sentence_transformers(folder, family):
    model = pj.JaColBERT(str(folder), dtype="bfloat16", query_length=None if family in WITHOUT_MASK else 32)
    expected = sentence_transformers_vectors(folder, SHORT, "query")
    assert largest_difference(model.encode_queries(SHORT), expected) < 1e-5


def test_bfloat16_documents_are_as_close_as_sentence_transformers_own(folder, expected):
    ours = cosines(pj.JaColBERT(str(folder), dtype="bfloat16").encode_documents(TEXTS), expected)
    theirs = cosines(sentence_transformers_vectors(folder, TEXTS, "document", torch.bfloat16), expected)
    # One rounding to bfloat16 costs some 1e-5 of a cosine; the layers of each backbone amplify it alike in both.
    assert 1 - ours.mean() < 2 * (1 - theirs.mean()) + 1e-5
    assert 1 - ours.min() < 4 * (1 - theirs.min()) + 1e-4
    assert ours.max() < 1 or not np.allclose(ours, 1, atol=1e-7)  # not float32 in disguise


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_given_encoder_in_half_precision_encodes_in_float32(folder, dtype):
    given, exact = (MultiVectorEncoder(str(folder), device="cpu") for _ in range(2))
    given.to(dtype)
    for weight in exact.parameters():
        weight.data = weight.data.to(dtype).float()  # rounded weights, and tables of positions that are not
    ours = pj.JaColBERT(given, dtype="float32").encode_documents(TEXTS)
    theirs = exact.encode_document(TEXTS, batch_size=4)
    assert largest_difference(ours, [np.asarray(rows) for rows in theirs]) < 1e-5


def test_texts_beyond_all_limits_are_cut_at_the_positions_there_are(family, tmp_path):
    folder = write_backbone_checkpoint(tmp_path / "c", family, tokenizer_limit=None)
    encoder = pj.JaColBERT(str(folder), dtype="bfloat16").encoder
    n_positions = UNBOUNDED_POSITIONS if family == "T5 encoder" else POSITIONS
    assert encoder.max_document_length == n_positions
    assert len(encoder.document_ids("a " * 10_000)) == n_positions
    assert np.isfinite(encoder.encode_documents(["a " * 500])[0]).all()


def test_a_missing_layer_is_refused(folder, family, tmp_path):
    cut = shutil.copytree(folder, tmp_path / "cut")
    layer = ".albert_layer_groups.0." if family == "ALBERT" else ".1."
    rewrite_weights(cut, lambda weights: {name: value for name, value in weights.items() if layer not in name})
    with pytest.raises(ValueError, match=f"do not cover .*{re.escape(layer)}.* are missing"):
        load_checkpoint(str(cut))


# Parts of backbones


def test_entities_that_no_text_has_may_be_missing(tmp_path):
    folder = write_backbone_checkpoint(tmp_path / "c", "LUKE")
    expected = sentence_transformers_vectors(folder, SHORT, "document")
    model = LukeModel.from_pretrained(folder)
    weights = {name: value for name, value in model.state_dict().items() if "entity" not in name}
    model.save_pretrained(folder, state_dict=weights)
    assert largest_difference(pj.JaColBERT(str(folder), dtype="float32").encode_documents(SHORT), expected) < 1e-5


@needs_packing
def test_a_packed_layer_gives_its_weight():
    linear = torch.nn.Linear(24, 40).to(torch.bfloat16)
    packed = PackedLinear(linear)
    assert torch.equal(packed.weight, linear.weight)
    assert (packed.weight.dtype, packed.in_features, packed.out_features) == (torch.bfloat16, 24, 40)
    assert torch.equal(packed.bias, linear.bias)


@needs_packing
def test_layers_that_hooks_change_are_not_packed():
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(8, 8))
    hooked, small = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    module = torch.nn.Sequential(normed, hooked, small).to(torch.bfloat16)
    module.append(torch.nn.Linear(8, 8))  # float32
    kinds = [type(child) for child in module]
    pack_linears(module)
    assert [type(child) for child in module] == [*kinds[:2], PackedLinear, torch.nn.Linear]


def test_rotary_frequencies_stay_in_float32(tmp_path):
    for family in ("Llama-like", "ModernBERT"):
        folder = write_backbone_checkpoint(tmp_path / family, family)
        encoder = pj.JaColBERT(str(folder), dtype="bfloat16").encoder
        exact = dict(encoder.model[0].named_buffers())
        tables = {name: table for name, table in encoder._bfloat16_backbone.named_buffers() if "inv_freq" in name}
        assert tables
        for name, table in tables.items():
            assert torch.equal(table, exact[name])


@pytest.mark.filterwarnings("ignore:The backbone of this checkpoint cannot compute in bfloat16")
@pytest.mark.parametrize("kind", ["ConvBERT", "FNet"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_backbones_that_mix_neighbours_encode_without_padding(tmp_path, kind, dtype):
    tokenizer = word_tokenizer()
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": len(tokenizer)}
    backbone = (
        FNetModel(FNetConfig(**settings, max_position_embeddings=POSITIONS))
        if kind == "FNet"
        else ConvBertModel(ConvBertConfig(**settings, num_attention_heads=2, embedding_size=16))
    )
    folder = write_model(tmp_path / "c", backbone, tokenizer)
    alone = sentence_transformers_vectors(folder, SHORT, "document", batch_size=1)
    ours = pj.JaColBERT(str(folder), dtype=dtype).encode_documents(SHORT)
    if dtype == "float32":
        assert largest_difference(ours, alone) < 1e-5
    assert cosines(ours, alone).min() > 0.99


def test_a_backbone_without_bfloat16_says_so(tmp_path):
    tokenizer = word_tokenizer()
    config = FNetConfig(hidden_size=32, num_hidden_layers=1, intermediate_size=64, vocab_size=len(tokenizer))
    folder = write_model(tmp_path / "c", FNetModel(config), tokenizer)
    with pytest.warns(UserWarning, match="cannot compute in bfloat16"):
        assert pj.JaColBERT(str(folder), dtype="bfloat16").encoder.dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pj.JaColBERT(str(folder)).encoder.dtype == torch.float32


# Flat memory


def test_documents_come_in_few_shapes_at_any_mix_of_lengths():
    # oneDNN keeps compiled kernels per shape: without rounding, these texts would come in 193 shapes.
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(4):
        lengths = np.sort(rng.integers(3, 301, 500))[::-1]
        padded = [padded_length(int(length), 300) for length in lengths]
        for batch in batches(range(len(padded)), padded, 1024):
            shapes.add((len(batch), padded[batch[0]]))
            assert max(lengths[batch]) <= padded[batch[0]] <= 300
    assert len({length for _, length in shapes}) <= -(-300 // LENGTH_STEP)
    assert len(shapes) < 40


def test_padding_is_on_the_right_and_never_beyond_the_limit():
    assert [padded_length(n, 300) for n in (1, 16, 17, 300)] == [16, 16, 32, 300]
    features = pad([[5, 6, 7], [8]], 4, 1)
    assert features["input_ids"].tolist() == [[5, 6, 7, 1], [8, 1, 1, 1]]
    assert features["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


MEMORY = """
import random, sys
import pyterrier_jacolbert as pj

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024

model, rng = pj.JaColBERT("mini", dtype=sys.argv[1]), random.Random(0)
text = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗い所で泣いていた。" * 9
texts = [f"{number} {text[:rng.randrange(2, 400)]}" for number in range(480)]
sizes = []
for start in range(0, len(texts), 120):
    model.encode_documents(texts[start : start + 120])
    sizes.append(resident())
print(sizes[1], sizes[-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_encoding_is_flat():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "auto"], capture_output=True, text=True, timeout=600, check=True
    )
    halfway, end = map(float, done.stdout.split())
    # 240 more texts; in a shape for each combination of lengths they would add some 90 MB.
    assert end - halfway < 60
