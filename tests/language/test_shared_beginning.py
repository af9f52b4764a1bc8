"""What texts begin with alike is read once, and changes nothing."""

import pytest
import torch
from language_cases import LOCAL, TINY, needs_transformers, tiny_language
from packed_cases import borders

from recbole_ssm.language.shared_beginning import next_logits, shared_length

needs_transformers()
pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

COMMON = [5, 9, 3, 3, 12, 7, 30]


@pytest.mark.parametrize("kind", [*TINY, *LOCAL])
def test_scores_are_those_of_whole_texts(kind):
    language = tiny_language(kind, **LOCAL.get(kind, {}))
    texts = [[*COMMON, *rest] for rest in ([8, 2], [4], [8, 6, 1, 15, 11])]
    lengths = [len(text) for text in texts]
    read: list[int] = []
    language.model.get_input_embeddings().register_forward_hook(lambda module, given, _: read.append(given[0].numel()))
    for some in (texts, texts[:1], [*texts, [2, 3]]):
        read.clear()
        found = next_logits(language, some)
        if some is texts:
            assert sum(read) <= 7 + 3 * 5 < sum(lengths)
        for text, each in zip(some, found, strict=True):
            whole = language(torch.tensor(text), borders([len(text)]))[-1:]
            torch.testing.assert_close(each, language.logits(whole)[0], atol=1e-5, rtol=1e-5)


def test_the_length_of_what_is_shared():
    assert shared_length([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3, 9]]) == 2
    assert shared_length([[1, 2], [1, 2, 4]]) == 1  # so that each has a token of its own
    assert shared_length([[1, 2], [2, 1]]) == 0
